"The recipe itself at a reduced size: by the runner, cut off from any network; and each notebook alone, by plain papermill."
import json, os, shutil, subprocess, sys
from pathlib import Path

import pytest

from motif_repro.core.rows import read_rows
from motif_repro.pipeline.stages import STAGES, read_record
from motif_repro.tasks.schema import read_tasks

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
REDUCED = {'tasks.max_terms': 4, 'tasks.max_ops': 2, 'tasks.max_constraints': 2, 'tasks.train_per_level': 40, 'tasks.train_programs': 6, 'tasks.test_per_level': 4,
           'traces.base_max_ops': 1, 'traces.base_max_constraints': 1, 'base.hidden_size': 16, 'base.num_layers': 1, 'base.steps': 6,
           'sft.steps': 4, 'rl.steps': 2, 'rl.prompts_per_step': 3, 'rl.group_size': 4, 'rl.max_new_tokens': 12, 'rl.test_problems': 4, 'rl.num_samples': 2,
           'evaluate.num_samples': 2, 'evaluate.max_new_tokens': 12, 'lesson_1.steps': 1, 'lesson_1.base_steps': 1, 'lesson_1.hidden_size': 16, 'lesson_1.num_layers': 1, 'lesson_1.train_per_level': 12,
           'lesson_1.test_per_level': 1, 'lesson_1.num_styles': 1, 'lesson_1.max_new_tokens': 8,
           'lesson_3.rounds': 1, 'lesson_3.steps_per_round': 1, 'lesson_3.prompts_per_step': 3, 'lesson_3.group_size': 2, 'lesson_3.max_new_tokens': 8,
           'lesson_3.hidden_size': 16, 'lesson_3.num_layers': 1, 'lesson_3.base_steps': 2, 'lesson_3.train_per_level': 10, 'lesson_3.test_per_level': 1,
           'lesson_3.num_samples': 2,
           'long_context.steps': 2, 'long_context.examples_per_size': 2, 'long_context.num_short': 20, 'long_context.max_pairs': 4,
           'long_context.test_per_size': 1, 'lesson_2.layout_steps': 2, 'lesson_2.zero_stages': '[2]', 'lesson_2.planner_again': 1, 'lesson_2.tokens': 6000, 'lesson_2.train_per_size': 10, 'lesson_2.test_per_size': 1,
           'lesson_2.hidden_size': 16, 'lesson_4.vocab_size': 20_000, 'lesson_4.cap_mib': 70, 'lesson_4.max_tokens': 256, 'lesson_4.max_rollouts': 16}
# A namespace of its own has no network, not even the loopback that a Jupyter kernel talks over: bring that up.
NO_NETWORK = ['unshare', '--net', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh']

def without_network()->list[str]:
    try: permitted = subprocess.run([*NO_NETWORK, 'true'], capture_output=True).returncode == 0
    except FileNotFoundError: permitted = False
    return NO_NETWORK if permitted else []

@pytest.fixture(scope='session')
def run(tmp_path_factory):
    "A finished reduced run, made where no network can be reached (if this machine lets us cut it off)."
    runs = tmp_path_factory.mktemp('runs')
    sets = [word for key, value in REDUCED.items() for word in ('--set', f'{key}={value}')]
    done = subprocess.run([*without_network(), BIN/'motif-repro', 'run', '--runs-dir', runs, *sets], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (runs/'smoke/terminal.txt').write_text(done.stdout)
    return runs/'smoke'

def test_the_run_needs_no_network(run):
    if not without_network(): pytest.skip("this machine doesn't let us make a network namespace; the run itself passed")

def test_all_stages_finished_and_said_so(run):
    terminal = (run/'terminal.txt').read_text()
    for stage in STAGES: assert read_record(run/stage) and stage in terminal
    assert str(run/'report.html') in terminal.replace('\n', '')

def test_thirteen_claims_each_with_rows(run):
    claims = json.loads((run/'claims.json').read_text())
    assert [c['id'] for c in claims] == 'A1 A2 A3 A4 L1 L2 L3 R1 R2 R3 R4 M1 M2'.split()
    assert all(set(c) >= {'id', 'verdict', 'effect', 'ci95', 'seeds', 'rule'} for c in claims)
    assert not [c['id'] for c in claims if c['verdict'] == 'not run']   # every lesson brings rows, at any size

def test_training_and_evaluation_never_overlap(run):
    train, test = ({' '.join(t.question.lower().split()) for t in read_tasks(run/f'tasks/{split}.jsonl')} for split in ('train', 'test'))
    learned = {' '.join(row['question'].lower().split()) for name in ('base', 'sft') for row in read_rows(run/f'traces/{name}.jsonl')}
    assert train and test and not train & test and not learned & test

def test_rejected_traces_lie_in_a_file_with_reasons(run):
    kept, rejected = (read_rows(run/f'traces/{name}.jsonl') for name in ('sft', 'rejected'))
    metrics = read_record(run/'traces')['metrics']
    assert len(kept) + len(rejected) == metrics['num_traces'] and all(row['verdict'] in ('wrong', 'no_answer') and row['detail'] for row in rejected)

LONG = ('base', 'long_context', 'rl', 'lesson_1', 'lesson_2', 'lesson_3')   # what they do beyond opening a stage, the run above has shown

@pytest.mark.parametrize('stage', [pytest.param(stage, marks=[pytest.mark.slow]*(stage in LONG)) for stage in STAGES])
def test_each_notebook_runs_by_plain_papermill_from_its_own_folder(run, stage, tmp_path):
    "Without our command line: inputs are those of the last run, outputs go to runs/manual."
    notebook = ROOT/'nbs'/STAGES[stage].notebook
    runs = tmp_path/'runs'
    shutil.copytree(run, runs/'smoke', ignore=shutil.ignore_patterns('.work'))
    changed = [word for key, value in REDUCED.items() if key.startswith(f'{stage}.') for word in ('-y', f"{key.partition('.')[2]}: {value}")]
    environ = os.environ | dict(MOTIF_REPRO_RUNS_DIR=str(runs), PATH=f"{BIN}:{os.environ['PATH']}")
    cwd = notebook.parent if list(STAGES).index(stage) % 2 else ROOT   # half of them from their own folder, half from the top
    done = subprocess.run([BIN/'papermill', os.path.relpath(notebook, cwd), tmp_path/'out.ipynb', '--no-progress-bar', *changed], cwd=cwd, env=environ,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    record = read_record(runs/'manual'/stage)
    assert set(record['folders']) == set(STAGES[stage].needs)


@pytest.mark.slow
def test_a_model_of_someone_else_takes_the_place_of_ours(tmp_path):
    "A Qwen-type model with a tokenizer that knows no chat template, in the hub's layout, through every stage."
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
    from motif_repro.model.loading import save_model
    from motif_repro.model.tokenizer import train_tokenizer
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=train_tokenizer(['Calculate 1 + 2.']).backend_tokenizer, eos_token='<|end|>')
    config = Qwen3Config(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
                         head_dim=16, eos_token_id=tokenizer.eos_token_id)
    save_model(Qwen3ForCausalLM(config), tokenizer, tmp_path/'qwen')
    sets = [word for key, value in (REDUCED | {'base.model': tmp_path/'qwen', 'sft.seq_len': 256}).items() for word in ('--set', f'{key}={value}')]
    done = subprocess.run([BIN/'motif-repro', 'run', '--runs-dir', tmp_path/'runs', *sets], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert json.loads((tmp_path/'runs/smoke/sft/model/config.json').read_text())['model_type'] == 'qwen3'
    assert 'no chat template' in (tmp_path/'runs/smoke/notebooks/30_base.ipynb').read_text()
