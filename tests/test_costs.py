"The big profiles: every value has its mark, what a dry run prints adds up, what can't fit is refused, and each path runs here when scaled down."
import io, os, re, resource, shutil, subprocess, sys
from contextlib import redirect_stdout
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from motif_repro.core.errors import UserError
from motif_repro.model.loading import save_model
from motif_repro.model.motif import MotifConfig, MotifForCausalLM
from motif_repro.model.tokenizer import train_tokenizer
from motif_repro.pipeline.cli import main
from motif_repro.pipeline.costs import CHECKPOINTS, DOMAINS, TRAINED, disk_gb, launch_text
from motif_repro.pipeline.profiles import MARKS, PLANNABLE, load_profile, parse_value, read_profile
from motif_repro.pipeline.spread import model_config
from motif_repro.pipeline.stages import STAGES, read_record
from motif_repro.training.planner import make_plan
from test_recipe import without_network

ROOT = Path(__file__).parents[1]
FOLDER, PROFILES = ROOT/'nbs/profiles', ('h100', 'paper')
UNMARKED = ('description', 'extends', 'without')   # words about the profile, not values of a run

def motif(*arguments:str, cwd=ROOT, before=(), **env)->subprocess.CompletedProcess:
    program = [sys.executable, '-c', 'from motif_repro.pipeline.cli import main; main()']
    return subprocess.run([*before, *program, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, env=os.environ | dict(PYTHONPATH=str(ROOT)) | env)


# --- marks ---

def unmarked(name, folder=FOLDER): return [key for key, given in read_profile(name, folder).items() if key[-1] not in UNMARKED and (given.mark not in MARKS or len(given.why) < 10)]

@pytest.mark.parametrize('name', PROFILES)
def test_every_value_has_a_mark(name): assert unmarked(name) == []

def test_a_missing_mark_is_found(tmp_path):
    text = (FOLDER/'paper.yaml').read_text()
    for old, new, key in (('    steps: 1000            # ours, because', '    steps: 1000            # because', ('stages', 'sft', 'steps')),
                          ('# paper: training at 64K tokens', '# 64K tokens', ('stages', 'long_context', 'seq_len')), ('# secondary source: GPUs', '# GPUs', ('cluster', 'gpu_memory'))):
        assert old in text
        (tmp_path/'paper.yaml').write_text(text.replace(old, new))
        assert unmarked('paper', tmp_path) == [key]

KNOWN = {   # all that may bear the paper's name or another's: what is known, see the paper's abstract and what was reported of it
    ('cluster', 'gpu_memory'): 80.0, ('stages', 'traces', 'unverified'): 'drop', ('stages', 'base', 'model'): 'Motif-Technologies/Motif-2-12.7B-Instruct',
    ('stages', 'sft', 'teacher'): '', ('stages', 'long_context', 'seq_len'): 65_536, ('stages', 'long_context', 'checkpoint_policy'): 'planned',
    ('stages', 'rl', 'reuse'): 1, ('stages', 'rl', 'epsilon_high'): 0.28, ('stages', 'rl', 'min_pass_rate'): 0.1, ('stages', 'rl', 'max_pass_rate'): 0.9}

def test_nothing_else_is_said_to_be_the_papers():
    assert {key: given.value for key, given in read_profile('paper', FOLDER).items() if given.mark in MARKS[:2]} == KNOWN
    assert not [key for key in parse_value((FOLDER/'h100.yaml').read_text())['stages']['long_context'] if key == 'seq_len']

@pytest.mark.parametrize('stage', (*TRAINED, 'evaluate'))
def test_the_stages_that_use_gpus_are_complete(stage):
    assert {key[2] for key in read_profile('paper', FOLDER) if key[:2] == ('stages', stage)} - {'target_file'} >= set(STAGES[stage].params.model_fields) - {
        'seed', 'processes', 'target_file', 'max_terms', 'max_pairs', 'examples_per_size', 'num_short', 'test_per_size'}   # the last five: of made problems only


# --- the dry run ---

def printed(*arguments)->str:
    "What the command prints, called here."
    with patch.object(sys, 'argv', ['motif-repro', *map(str, arguments)]), redirect_stdout(io.StringIO()) as said, pytest.raises(SystemExit) as ended: main()
    assert not ended.value.code
    return said.getvalue()

NOWHERE = '/tmp/no such folder'

@pytest.fixture(scope='module')
def seconds(): return {}

@pytest.fixture(scope='module')
def dry(seconds):
    "What the dry runs say; that of paper from a process of its own, cut off from any network and GPU."
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = motif('run', '--profile', 'paper', '--dry-run', '--runs-dir', NOWHERE, before=without_network(), CUDA_VISIBLE_DEVICES='')
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr[-3000:]
    seconds['paper'] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    said = dict(paper=done.stdout, h100=printed('run', '--profile', 'h100', '--dry-run', '--runs-dir', NOWHERE))
    assert not Path(NOWHERE).exists()
    return said

def test_a_dry_run_takes_seconds(dry, seconds): assert seconds['paper'] < 10   # of a core, however busy the machine is

@pytest.mark.parametrize('name', PROFILES)
def test_it_prints_every_value_with_its_mark(dry, name):
    profile, values = load_profile(name, STAGES, ROOT), dry[name].partition('\nvalues\n')[2]
    shown = [stage for stage in STAGES if not stage.startswith('lesson')]
    assert len(re.findall(r'^  \w+ = .*  (?:paper: |secondary source: |ours, because )\S', values, re.M)) == sum(len(profile.params[s]) for s in shown) + len(profile.cluster)
    assert 'not marked' not in values

def test_a_value_that_is_set_has_no_mark():
    assert 'not marked (--set tasks.test_share=0.3)' in printed('run', '--profile', 'paper', '--dry-run', '--only', 'tasks', '--set', 'tasks.test_share=0.3')

def test_small_profiles_print_as_they_did():
    assert len(printed('run', '--profile', 'smoke', '--dry-run', '--runs-dir', NOWHERE).splitlines()) == len(STAGES)

def section(text, stage): return re.search(rf'\n{stage}\n((?:  .*\n)+)', text)[1]

def operations(tokens):   # of the paper's model, by hand from its sizes
    layer = 4096*(40 + 2*16)*128 + 32*256*4096 + 3*4096*16_384
    return 2*(40*layer + 4096*219_520) + 40*(8*40*128)*tokens/2

def numbers(line): return [float(n.replace(',', '')) for n in re.findall(r'(?<![\w.])[\d,]*\.?\d+', line)]

def test_the_arithmetic_is_that_of_the_sizes(dry):
    text, p = dry['paper'], parse_value((FOLDER/'paper.yaml').read_text())
    c, s = p['cluster'], p['stages']
    params, cache = 12.704e9, 2*16*128*2*40
    def learn(tokens, length): return tokens*3*operations(length)/(c['peak_flops']*c['mfu'])/3600
    def write(tokens, length, at_a_time): return tokens*(2*params/at_a_time + cache*(512 + length/2))/(c['memory_rate']*c['decode_share'])/3600
    rl, sft, long, ev = s['rl'], s['sft'], s['long_context'], s['evaluate']
    answers, at = rl['steps']*rl['prompts_per_step']*rl['group_size'], rl['sample_batch']
    expected = dict(
        sft=[write(200*2*sft['max_new_tokens'], sft['max_new_tokens'], at), learn(sft['steps']*sft['rows_per_step']*sft['seq_len'], sft['seq_len'])],
        long_context=[learn(long['steps']*long['rows_per_step']*65_536, 65_536)],
        rl=[write(answers*rl['max_new_tokens'], rl['max_new_tokens'], at), learn(2*answers*(512 + rl['max_new_tokens']), 512 + rl['max_new_tokens']),
            write(2*3*rl['test_problems']*rl['num_samples']*rl['max_new_tokens'], rl['max_new_tokens'], at)],
        evaluate=[write(4*c['test_tasks']*ev['num_samples']*ev['max_new_tokens'], ev['max_new_tokens'], at)])
    assert (CHECKPOINTS, DOMAINS) == (4, 3)
    said = {stage: [float(n.replace(',', '')) for n in re.findall(r'([\d,.]+) GPU-hours', section(text, stage))] for stage in expected}
    for stage in expected: assert said[stage] == pytest.approx(expected[stage], rel=2e-3, abs=0.06), stage
    total, cost = re.search(r'one after the other, ([\d,]+) GPU-hours × 3 = ([\d,]+) USD', text).groups()
    assert float(total.replace(',', '')) == pytest.approx(sum(map(sum, expected.values())), rel=2e-3)
    assert float(cost.replace(',', '')) == pytest.approx(3*sum(map(sum, expected.values())), rel=2e-3)
    for line in re.findall(r'time    learns .*', text):   # each line is right by itself
        million, _, each, n, peak, mfu, hours, again, gpu_hours, _ = numbers(line)[:1] + [0] + numbers(line)[1:9]
        assert hours == pytest.approx(million*1e6*each*1e9/(n*peak*1e12*mfu)/3600, rel=1e-2, abs=6e-3) and gpu_hours == pytest.approx(hours*again, rel=1e-2)

@pytest.mark.parametrize('stage', ('sft', 'long_context'))
def test_the_layout_is_the_planners_fastest(dry, stage):
    p = load_profile('paper', STAGES, ROOT).params[stage]
    rows = [row for row in make_plan('motif-2-12.7b', seq_len=p['seq_len'], gpus=32, gpu_memory=80)['layouts']
            if row['peak_gib'] <= 80 and row['zero'] and row['loss'] == 'fused' and p['rows_per_step'] % (32//row['sp']) == 0]
    names = dict(zero='zero_stage', sp='sequence_parallel', checkpoint='checkpoint_policy', offload='offload')
    mine = next(row for row in rows if all(row[a] == p[b] for a, b in names.items()))
    assert mine['step_s'] <= min(row['step_s'] for row in rows)*1.01   # a step of some rows shares its update
    assert f"{mine['peak_gib']:.1f} of 80 GiB" in section(dry['paper'], stage)

@pytest.mark.parametrize('name', PROFILES)
def test_the_disk_that_is_asked_for_holds_what_is_counted(name):
    profile = load_profile(name, STAGES, ROOT)
    assert profile.keys.disk_mb*2**20 > sum(disk_gb(model_config(profile.params['base']['model'], ROOT)).values())*1e9


# --- what can't be ---

TOO_LARGE = [f'long_context.{key}' for key in ('zero_stage=1', 'sequence_parallel=1', 'offload=none', 'rows_per_step=64')]

@pytest.mark.parametrize('sets,said', [
    (TOO_LARGE, 'no layout fits 65,536 tokens on 32 × 80 GiB'),
    (['long_context.sequence_parallel=3'], 'the nearest possible is 2'), (['long_context.seq_len=65537', 'long_context.sequence_parallel=2'], "can't be shared by 2 GPUs"),
    (['sft.processes=12'], 'the nearest possible is 8'), (['sft.processes=64'], 'the nearest possible is 32'), (['rl.sample_batch=64'], 'stage rl: sample_batch=64 answers of 16,896 tokens'), (['rl.micro_tokens=262144'], 'stage rl: no layout fits 262,144 tokens'),
    (['base.model=someone/unknown'], 'hf download someone/unknown'), (['cluster.nodes=0'], 'cluster.nodes=0'), (['cluster.node=2'], "did you mean 'nodes'?"),
    (['cluster.launcher=deepspeed'], 'needs a hostfile'), (['cluster.launcher=torchrun'], 'for several take deepspeed or slurm')])
def test_an_impossible_layout_is_refused(sets, said):
    with pytest.raises(UserError, match=re.escape(said)): load_profile('paper', STAGES, ROOT, sets)

def test_a_large_micro_batch_makes_no_answer_longer():
    "It has to fit, but the cache of those who write holds answers."
    assert load_profile('paper', STAGES, ROOT, ['rl.micro_tokens=131072']).params['rl']['offload'] == 'both'

def test_the_nearest_that_is_named_is_possible():
    with pytest.raises(UserError) as refused: load_profile('paper', STAGES, ROOT, TOO_LARGE)
    tokens, gpus = (int(n.replace(',', '')) for n in re.search(r'Possible: ([\d,]+) tokens on these GPUs or (\d+) GPUs', str(refused.value)).groups())
    load_profile('paper', STAGES, ROOT, [*TOO_LARGE, f'long_context.seq_len={tokens}'])
    load_profile('paper', STAGES, ROOT, [*TOO_LARGE, f'cluster.nodes={gpus//8}'])
    with pytest.raises(UserError): load_profile('paper', STAGES, ROOT, [*TOO_LARGE, f'long_context.seq_len={tokens + 1024}'])
    with pytest.raises(UserError): load_profile('paper', STAGES, ROOT, [*TOO_LARGE, f'cluster.nodes={gpus//16}'])

def test_planned_needs_a_cluster():
    with pytest.raises(UserError, match="'planned' needs the profile's `cluster`"): load_profile('smoke', STAGES, ROOT, ['sft.zero_stage=planned'])
    assert set(PLANNABLE) <= set(STAGES['sft'].params.model_fields)


# --- scripts ---

@pytest.mark.parametrize('stage', TRAINED)
@pytest.mark.parametrize('launcher', ('slurm', 'deepspeed', 'torchrun'))
def test_what_launches_is_clean_shell(tmp_path, stage, launcher):
    (hosts := tmp_path/'host file').write_text(''.join(f'node{n} slots=8\n' for n in range(4)))
    sets = dict(slurm=['cluster.partition=gpu', 'cluster.time="24:00:00"'], deepspeed=[f'cluster.hostfile={hosts}'], torchrun=['cluster.nodes=1'])[launcher]
    profile = load_profile('paper', STAGES, ROOT, [f'cluster.launcher={launcher}', *sets])
    command, script = launch_text(stage, profile, tmp_path/"it's a run")   # a folder that a careless script breaks
    assert ('motif_repro.rl.trainer' if stage == 'rl' else 'motif_repro.training.trainer') in (script or command)
    shellcheck = shutil.which('shellcheck', path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    for text in filter(None, (f'#!/bin/bash\n{command}\n', script)):
        (file := tmp_path/'script').write_text(text)
        found = subprocess.run([shellcheck, file], capture_output=True, text=True)
        assert found.returncode == 0, found.stdout


# --- the paths themselves, scaled down ---

MADE = {'disk_mb': 100, 'tasks.made': 'true', 'tasks.test_share': 1.0, 'tasks.max_terms': 4, 'tasks.max_ops': 1, 'tasks.max_constraints': 1, 'tasks.train_per_level': 40,
        'tasks.train_programs': 4, 'tasks.test_per_level': 2, 'sft.teacher': 'stepwise', 'sft.steps': 3, 'sft.seq_len': 256, 'sft.rows_per_step': 4, 'sft.learning_rate': 1e-3,
        'long_context.made': 'true', 'long_context.steps': 3, 'long_context.seq_len': 512, 'long_context.rows_per_step': 4, 'long_context.max_terms': 6,
        'long_context.max_pairs': 2, 'long_context.examples_per_size': 4, 'long_context.num_short': 40, 'long_context.test_per_size': 1,
        'rl.steps': 2, 'rl.prompts_per_step': 4, 'rl.group_size': 4, 'rl.max_new_tokens': 12, 'rl.micro_tokens': 512, 'rl.test_problems': 2, 'rl.num_samples': 1,
        'evaluate.num_samples': 1, 'evaluate.max_new_tokens': 12, 'sft.num_threads': 1, 'long_context.num_threads': 1, 'rl.num_threads': 1}

def words(): return train_tokenizer(['Calculate 1 + 2 - 3. What follows from this? def f(x): return x'])

def run_path(name, folder, model, tokenizer, sets):
    torch.manual_seed(0)
    save_model(model, tokenizer, folder/'model')
    sets = [word for key, value in (MADE | {'base.model': folder/'model'} | sets).items() for word in ('--set', f'{key}={value}')]
    done = motif('run', '--profile', name, '--runs-dir', folder/'runs', *sets, HF_HUB_OFFLINE='1')
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    for stage in STAGES: assert stage.startswith('lesson') or read_record(folder/'runs'/name/stage), stage
    return folder/'runs'/name

@pytest.mark.slow
def test_the_h100_path_on_a_cpu(tmp_path):
    from transformers import Qwen3Config, Qwen3ForCausalLM
    tokenizer = words()
    config = Qwen3Config(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
                         eos_token_id=tokenizer.eos_token_id, max_position_embeddings=4096)
    run = run_path('h100', tmp_path, Qwen3ForCausalLM(config), tokenizer, {})
    assert all(read_record(run/stage)['params']['zero_stage'] == 1 and read_record(run/stage)['params']['bf16'] for stage in TRAINED)   # what bf16 needs

@pytest.mark.slow
def test_the_paper_path_in_four_processes(tmp_path):
    "Motif with the paper's groups of heads, ZeRO-3 over four processes of which two share a row; RL in two, a whole answer each."
    tokenizer = words()
    config = MotifConfig(vocab_size=len(tokenizer), hidden_size=64, intermediate_size=256, num_hidden_layers=4, num_attention_heads=40, num_noise_heads=8,
                         num_key_value_heads=16, head_dim=8, eos_token_id=tokenizer.eos_token_id)
    four = {'cluster.launcher': 'torchrun', 'cluster.nodes': 1, 'cluster.gpus_per_node': 4, 'rl.processes': 2}
    layout = {f'{stage}.{key}': value for stage in TRAINED for key, value in dict(zero_stage=3, sequence_parallel=2, checkpoint_policy='full').items()
              if key in STAGES[stage].params.model_fields}
    run = run_path('paper', tmp_path, MotifForCausalLM(config), tokenizer, four | layout)
    for stage, processes in dict(sft=4, long_context=4, rl=2).items():
        record = read_record(run/stage)
        assert record['params']['processes'] == processes and record['params']['zero_stage'] == 3
        shards = list((run/stage/'checkpoints').glob('step*/*_optim_states.pt'))
        assert len(shards) == processes, (stage, shards)   # it really was divided
