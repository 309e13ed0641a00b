"Models, problems and traces of others: the steps of the recipe in one process, and whole runs by the command line, offline."
import json, os, subprocess, sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest
from families import in_hub_cache, own_files, problem, save_family, trace, write_lines
from typer.testing import CliRunner

from motif_repro.alignment.own_pool import check_pool, choose_by_style, conversation_lengths, own_answers, style_reference
from motif_repro.alignment.readers import read_pool
from motif_repro.core.errors import UserError
from motif_repro.core.pools import Counts, Quarantine
from motif_repro.core.rows import read_rows, write_rows
from motif_repro.evaluation.passk import evaluate
from motif_repro.model.loading import load_model, save_model
from motif_repro.model.tokenizer import complete_tokenizer, encode_conversation
from motif_repro.pipeline.cli import app
from motif_repro.pipeline.stages import STAGES, read_record
from motif_repro.rl.trainer import RLJob, run_rl
from motif_repro.tasks.readers import load_tasks, split_tasks
from motif_repro.tasks.schema import write_tasks
from motif_repro.training.trainer import TrainJob, run_job

ROOT = Path(__file__).parents[1]
LESSONS = [name for name in STAGES if name.startswith('lesson')]

@pytest.mark.parametrize('family', ['llama', 'qwen'])
def test_templates_end_prompts_where_completions_begin(tmp_path, family):
    _, tokenizer = load_model(save_family(tmp_path/'model', family))
    thought, answer = trace(3, 'short')
    messages = [dict(role='user', content=problem(3)[0]), dict(role='assistant', reasoning_content=thought, content=answer)]
    ids, num_prompt = encode_conversation(messages, tokenizer)
    prompt, completion = tokenizer.decode(ids[:num_prompt]), tokenizer.decode(ids[num_prompt:])
    assert problem(3)[0] in prompt and answer not in prompt.split('assistant')[-1]
    assert '<think>' in completion and thought in completion and completion.rstrip().endswith(answer + tokenizer.eos_token)

@pytest.mark.parametrize('family', ['llama', 'qwen'])
def test_the_steps_of_the_recipe(tmp_path, family):
    "From files to an evaluated model, with adapters in both trainings."
    save_family(tmp_path/'model', family)
    tasks_file, traces_file = own_files(tmp_path)
    train, test = split_tasks(load_tasks(tasks_file)[0], 0.25)
    counts = Counts()
    traces = list(read_pool(traces_file, quarantine=Quarantine(None), counts=counts))
    sifted = check_pool(traces, train, test)
    assert (counts.rows, counts.set_aside) == (122, 1)
    assert sifted.reasons == dict(kept=2*len(train), wrong=len(train), test_problem=3*len(test), unverified=1)
    model, tokenizer = load_model(tmp_path/'model')
    complete_tokenizer(tokenizer)
    save_model(model, tokenizer, tmp_path/'base')
    answers = own_answers(model, tokenizer, train, num_samples=2, max_new_tokens=8)
    reference, note = style_reference(answers)
    assert len(reference) >= 50 and note
    write_rows(tmp_path/'reference.jsonl', map(asdict, reference))
    lengths = conversation_lengths(sifted.kept, tokenizer)
    chosen, audit = choose_by_style(sifted.kept, lengths, tmp_path/'reference.jsonl', tmp_path/'audit')
    assert len(chosen.kept) + len(chosen.dropped) == len(sifted.kept) and {f.teacher for f in audit.findings} == {'short', 'long'}
    write_rows(tmp_path/'chosen.jsonl', map(asdict, chosen.kept))
    job = TrainJob(model=str(tmp_path/'base'), traces=str(tmp_path/'chosen.jsonl'), out=str(tmp_path/'sft'), steps=3, seq_len=512, rows_per_step=2,
                   learning_rate=1e-3, lora_rank=2)
    losses = [row['loss'] for row in run_job(job)]
    assert losses[-1] < losses[0]
    write_tasks(tmp_path/'train.jsonl', train)
    rewards = run_rl(RLJob(model=str(tmp_path/'sft/model'), tasks=str(tmp_path/'train.jsonl'), out=str(tmp_path/'rl'), steps=1, prompts_per_step=2,
                           group_size=2, max_new_tokens=6, lora_rank=2))
    assert rewards[0]['num_tokens'] > 0
    rows = evaluate(*load_model(tmp_path/'rl/model'), test, num_samples=1, max_new_tokens=6)
    assert [row['task_id'] for row in rows] == [task.id for task in test]

# Whole runs

REDUCED = {'sft.steps': 2, 'sft.seq_len': 256, 'sft.rows_per_step': 2, 'sft.max_new_tokens': 8, 'sft.target_answers': 3, 'sft.lora_rank': 2, 'sft.keep_share': 0.8,
           'long_context.steps': 2, 'long_context.seq_len': 512, 'long_context.lora_rank': 2, 'rl.steps': 1, 'rl.prompts_per_step': 2, 'rl.group_size': 2,
           'rl.max_new_tokens': 6, 'rl.test_problems': 4, 'rl.num_samples': 1, 'rl.lora_rank': 2, 'evaluate.num_samples': 1, 'evaluate.max_new_tokens': 6,
           'disk_mb': 100}

def motif_repro(*arguments, **environ)->subprocess.CompletedProcess:
    command = [sys.executable, '-c', 'from motif_repro.pipeline.cli import main; main()', *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | dict(HF_HUB_OFFLINE='1') | environ)

def run_own(runs, *arguments, sets=(), **environ):
    reduced = [word for key, value in (REDUCED | dict(sets)).items() for word in ('--set', f'{key}={value}')]
    return motif_repro('run', '--runs-dir', runs, *arguments, *reduced, **environ)

def dry_run(runs, *arguments):
    "In this process: what a dry run says, or raises."
    reduced = [word for key, value in REDUCED.items() for word in ('--set', f'{key}={value}')]
    done = CliRunner().invoke(app, list(map(str, ['run', '--dry-run', '--runs-dir', runs, *arguments, *reduced])))
    if done.exception: raise done.exception
    return done.stdout

@pytest.mark.parametrize('arguments, words', [
    (['--traces', 'traces.jsonl'], 'give yours as --tasks FILE'),
    (['--tasks', 'nowhere.jsonl'], 'no such file or folder'),
    (['--tasks', 'tasks.jsonl', '--model', './nowhere'], 'no such file or folder'),
    (['--tasks', 'tasks.jsonl', '--set', 'tasks.train_split=train'], 'leave test_share at 1'),
    (['--tasks', 'tasks.jsonl', '--set', 'without=[sft]'], "'long_context' computes with 'sft'"),
])
def test_mistakes_are_found_before_anything_starts(tmp_path, arguments, words):
    own_files(tmp_path, 4)
    given = [tmp_path/word if word.endswith('.jsonl') else word for word in arguments]
    with pytest.raises(UserError) as error: dry_run(tmp_path/'runs', *given)
    assert words in str(error.value)

def test_lessons_are_left_out_unless_named(tmp_path):
    tasks, _ = own_files(tmp_path, 4)
    stages = lambda *more: [line.split()[0] for line in dry_run(tmp_path, '--tasks', tasks, *more).splitlines() if line.split()[0] in STAGES]
    assert stages() == [name for name in STAGES if name not in LESSONS]
    assert stages('--only', 'lesson_4') == ['lesson_4']

def check_run(run, model_type):
    records = {name: read_record(run/name) for name in STAGES if name not in LESSONS}
    assert all(records.values())
    for name in ('sft', 'long_context', 'rl'):
        assert json.loads((run/name/'model/config.json').read_text())['model_type'] == model_type
        assert (run/name/'adapter/adapter_model.safetensors').is_file()
        assert not list((run/name/'model').glob('*.bin'))
    assert records['traces']['metrics']['num_verified'] > 40
    reasons = Counter(row['reason'] for row in read_rows(run/'traces/rejected.jsonl'))
    assert set(reasons) == {'wrong', 'test_problem', 'unverified'} and reasons['unverified'] == 1
    assert len(read_rows(run/'traces/unreadable.jsonl')) == 1
    chosen, dropped = (read_rows(run/f'sft/{name}.jsonl') for name in ('chosen', 'dropped'))
    assert len(chosen) + len(dropped) == records['traces']['metrics']['num_verified'] and {row['reason'] for row in dropped} <= {'over_budget', 'longer_than_row'}
    assert (run/'sft/audit/report.html').is_file() and (run/'report.html').is_file()
    assert len(read_rows(run/'long_context/results.jsonl')) >= 4
    assert {row['checkpoint'] for row in read_rows(run/'evaluate/results.jsonl')} == {'base', 'sft', 'long_context', 'rl'}

@pytest.mark.slow
def test_a_llama_from_its_folder_through_every_stage(tmp_path):
    tasks, traces = own_files(tmp_path)
    done = run_own(tmp_path/'runs', '--model', save_family(tmp_path/'llama', 'llama'), '--tasks', tasks, '--traces', traces)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    check_run(tmp_path/'runs/own', 'llama')

@pytest.mark.slow
def test_a_qwen_from_the_hubs_cache_through_every_stage(tmp_path):
    "With a file in the target's style, and rows so short that some traces wait for the next stage."
    tasks, traces = own_files(tmp_path)
    name = in_hub_cache(tmp_path/'hub', 'someone/tiny-qwen', 'qwen')
    target = write_lines(tmp_path/'target.jsonl', [dict(question=problem(i)[0], reasoning=trace(i, 'long')[0], answer=trace(i, 'long')[1]) for i in range(40, 100)])
    done = run_own(tmp_path/'runs', '--model', name, '--tasks', tasks, '--traces', traces, '--target', target, sets={'sft.seq_len': 110, 'sft.keep_share': 1.0},
                   HF_HUB_CACHE=str(tmp_path/'hub'))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    check_run(tmp_path/'runs/own', 'qwen3')
    longer = read_rows(tmp_path/'runs/own/sft/longer.jsonl')
    assert longer and {row['task_id'] for row in longer} == {row['task_id'] for row in read_rows(tmp_path/'runs/own/sft/dropped.jsonl') if row['reason'] == 'longer_than_row'}
    again = run_own(tmp_path/'runs', '--model', name, '--tasks', tasks, '--traces', traces, '--target', target, '--dry-run',
                    sets={'sft.seq_len': 110, 'sft.keep_share': 1.0}, HF_HUB_CACHE=str(tmp_path/'hub'))
    assert 'would run' not in again.stdout, again.stdout

@pytest.mark.slow
@pytest.mark.parametrize('given, stage, words', [
    ('aliens', 'traces', '2 unverified); no training problem has their id or question'),
    ('nothing', 'sft', 'give worked solutions as --traces FILE'),
    ('shape', 'tasks', 'holds no task'),
    ('one', 'tasks', 'none of 1 problems is left to'),
])
def test_nothing_to_learn_from_is_an_error_that_says_what_to_do(tmp_path, given, stage, words):
    tasks, _ = own_files(tmp_path)
    alien = dict(question='Who wrote Faust?', answer='Goethe'), dict(question='Who wrote Hamlet?', answer='Shakespeare')
    files = dict(aliens=['--traces', write_lines(tmp_path/'aliens.jsonl', list(alien))]).get(given, [])
    if given == 'shape': tasks = write_lines(tmp_path/'odd.jsonl', [dict(input='1 + 1', label=2)])
    if given == 'one': tasks = write_lines(tmp_path/'one.jsonl', [dict(id='1', question='What is 1 + 1?', answer='2')])
    stages = [word for name in list(STAGES)[:list(STAGES).index(stage) + 1] for word in ('--only', name)]
    done = run_own(tmp_path/'runs', '--model', save_family(tmp_path/'llama', 'llama'), '--tasks', tasks, *files, *stages)
    assert done.returncode == 1 and words in done.stdout, done.stdout[-3000:] + done.stderr[-2000:]

@pytest.mark.slow
def test_the_notebook_for_readers_runs_on_problems_of_its_own(tmp_path):
    "By plain papermill, with other files than those it shows, and weights trained in full."
    tasks, traces = own_files(tmp_path, 80)
    changed = dict(tasks_file=tasks, traces_files=[str(traces)], model=save_family(tmp_path/'llama', 'llama'), out=tmp_path/'out', lora_rank=0, steps=2, max_new_tokens=8)
    words = [word for key, value in changed.items() for word in ('-y', f'{key}: {value}')]
    done = subprocess.run([Path(sys.executable).parent/'papermill', 'nbs/recipe/your_own_model.ipynb', tmp_path/'out.ipynb', '--no-progress-bar', *words],
                          cwd=ROOT, capture_output=True, text=True, env=os.environ | dict(PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'adapter_model' not in (tmp_path/'out.ipynb').read_text()
