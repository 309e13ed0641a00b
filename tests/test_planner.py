"The planner: against simulations, published sizes, DeepSpeed's real shards and itself; the command's JSON, exit codes and refusals."
import json, subprocess, sys
from dataclasses import replace
from pathlib import Path

import pytest

from motif_repro.core.errors import UserError
from motif_repro.core.rows import read_rows
from motif_repro.pipeline.cli import main
from motif_repro.training.memory import GIB, StepMemory, moments, shape_of, simulated_peaks, step_peaks
from motif_repro.training.planner import (MODELS, PARTS, STEP_FIELDS, Layout, add_rows, degrees, layouts, make_plan, memory_terms, plan_text, planner_error,
                                          row_step, step_of, time_terms, validation_points)
from motif_repro.training.trainer import OFFLOADS, torchrun

ROOT = Path(__file__).parents[1]
ROWS = read_rows(ROOT/'data/planner/rows.jsonl')
EIGHT = dict(seq_len=65_536, gpus=8, gpu_memory=80)
PUBLISHED = {   # parameters, from the models' pages
    'llama-2-7b': 6_738_415_616, 'llama-2-13b': 13_015_864_320, 'llama-3.2-1b': 1_235_814_400, 'llama-3.2-3b': 3_212_749_824, 'llama-3.1-8b': 8_030_261_248,
    'llama-3.1-70b': 70_553_706_496, 'qwen2.5-0.5b': 494_032_768, 'qwen2.5-1.5b': 1_543_714_304, 'qwen2.5-3b': 3_085_938_688, 'qwen2.5-7b': 7_615_616_512,
    'qwen2.5-14b': 14_770_033_664, 'qwen2.5-32b': 32_763_876_352, 'qwen2.5-72b': 72_706_203_648, 'qwen3-0.6b': 596_049_920, 'qwen3-1.7b': 1_720_574_976,
    'qwen3-4b': 4_022_468_096, 'qwen3-8b': 8_190_735_360, 'qwen3-14b': 14_768_307_200, 'qwen3-32b': 32_762_123_264}


# The memory

def test_committed_rows_hold_the_error():
    errors = sorted(abs(planner_error(row)) for row in ROWS)
    assert len(errors) >= 60 and errors[len(errors)//2] <= 0.03 and errors[-1] <= 0.08

def test_rows_cover_the_field():
    assert {row['model'].split('-')[0] for row in ROWS} >= {'motif', 'llama', 'qwen3'}
    assert min(row['seq_len'] for row in ROWS) == 2048 and max(row['seq_len'] for row in ROWS) == 2**20
    assert {row['loss'] for row in ROWS} == {'naive', 'tiled', 'fused'} and {row['checkpoint'] for row in ROWS} == {'none', 'selective', 'full'}
    assert {row['offload'] for row in ROWS} == {'none', 'activations'}

def test_committed_rows_are_what_the_simulation_gives():
    wanted = dict(model='qwen3-4b', seq_len=65_536, checkpoint='full', offload='activations', loss='fused')
    row = next(row for row in ROWS if wanted.items() <= row.items())
    assert simulated_peaks(MODELS[row['model']](), row_step(row)) == pytest.approx(row['moments'], rel=1e-4)

@pytest.mark.slow
@pytest.mark.parametrize('row', ROWS[::10], ids=lambda row: ' '.join(str(row[name]) for name in ('model', *STEP_FIELDS)))
def test_a_tenth_of_the_rows_again(row):
    assert simulated_peaks(MODELS[row['model']](), row_step(row)) == pytest.approx(row['moments'], rel=1e-4)

@pytest.mark.slow
def test_all_layers_give_what_two_and_four_foretell():
    config, step = MODELS['qwen3-0.6b'](), StepMemory(seq_len=16_384, state_bytes=4, checkpoint='selective')
    assert simulated_peaks(config, step) == pytest.approx(step_peaks(config, step), rel=1e-6)

def test_rows_that_are_there_stay(tmp_path, monkeypatch):
    import motif_repro.training.planner as planner
    monkeypatch.setattr(planner, 'simulated_peaks', lambda config, step: dict(loss=1.))
    total = len(validation_points())
    assert add_rows(tmp_path/'rows.jsonl', most_s=-1) == total and not (tmp_path/'rows.jsonl').exists()
    assert add_rows(tmp_path/'rows.jsonl') == 0
    before = (tmp_path/'rows.jsonl').read_bytes()
    assert add_rows(tmp_path/'rows.jsonl') == 0 and (tmp_path/'rows.jsonl').read_bytes() == before

@pytest.mark.parametrize('name', PUBLISHED)
def test_tables_of_sizes_have_no_slip(name): assert shape_of(MODELS[name]()).params == PUBLISHED[name]

def test_all_names_have_a_count_or_are_motif(): assert set(MODELS) - set(PUBLISHED) == {'motif-2-12.7b', 'motif-2.6b'}


# Shards, against DeepSpeed's tensors

SHARDS = '''
import json, sys, torch, torch.distributed as dist
from pathlib import Path
from transformers import AutoModelForCausalLM, LlamaConfig
from motif_repro.training.trainer import TrainJob, make_engine, start_process_group
torch.set_num_threads(1)
start_process_group()
world, found = dist.get_world_size(), {}
nbytes = lambda tensors: sum(t.numel()*t.element_size() for t in tensors)
for zero in (1, 2, 3):
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
    job = TrainJob(model='', traces='', out='', steps=1, seq_len=16, rows_per_step=world, learning_rate=1e-3, zero_stage=zero, bf16=True)
    engine = make_engine(AutoModelForCausalLM.from_config(config), job)
    ids = torch.zeros(1, 16, dtype=torch.int64)
    engine.backward(engine(ids, torch.arange(16)[None], ids))
    o = engine.optimizer
    gradients = (o.averaged_gradients[0] if zero == 2 else [g for group in o.averaged_gradients.values() for g in group] if zero == 3 else [])
    gradients = nbytes(g for g in gradients if g is not None)
    engine.step()
    masters = o.fp32_partitioned_groups_flat if zero == 3 else o.single_partition_of_fp32_groups
    states = [t for state in o.optimizer.state.values() for t in state.values() if torch.is_tensor(t) and t.numel() > 1]
    weights = [p.ds_tensor for p in engine.parameters()] if zero == 3 else list(engine.parameters())
    found[zero] = dict(weights=nbytes(weights), optimiser=nbytes(masters) + nbytes(states), gradients=gradients)
    engine.destroy()
if dist.get_rank() == 0: Path(sys.argv[1]).write_text(json.dumps(found))
dist.barrier()
'''

@pytest.mark.slow
@pytest.mark.parametrize('gpus', [2, 4])
def test_shards_are_deepspeeds(gpus, tmp_path):
    from transformers import LlamaConfig
    torchrun(SHARDS, tmp_path/'found.json', gpus)
    config = LlamaConfig(vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
    for zero, found in json.loads((tmp_path/'found.json').read_text()).items():
        terms = moments(config, StepMemory(seq_len=16, zero_stage=int(zero), gpus=gpus))['optimiser']
        for name, size in found.items():
            if size: assert terms[name]*GIB == pytest.approx(size, rel=0.02), (zero, name)   # padding
        assert found['weights'] and found['optimiser'] and (found['gradients'] or zero == '1')


# Layouts

@pytest.fixture(scope='module')
def plan(): return make_plan('motif-2-12.7b', **EIGHT)

def test_the_schema(plan):
    assert list(plan) == ['fits', 'layouts', 'needs'] and plan['fits'] is True
    for row in plan['layouts']:
        assert set(row) == {'zero', 'sp', 'checkpoint', 'loss', 'offload', 'peak_gib', 'terms', 'step_s'}
        assert row['zero'] in range(4) and row['loss'] in ('naive', 'tiled', 'fused') and row['offload'] in OFFLOADS and 8 % row['sp'] == 0
        assert sum(row['terms'].values()) == pytest.approx(row['peak_gib'], abs=1e-3) and min(row['terms'].values()) > 0 and row['step_s'] > 0

def test_what_fits_comes_first_and_fastest(plan):
    fit = [row['peak_gib'] <= 80 for row in plan['layouts']]
    assert fit == sorted(fit, reverse=True) and any(fit) and not all(fit)
    times = [row['step_s'] for row, ok in zip(plan['layouts'], fit) if ok]
    peaks = [row['peak_gib'] for row, ok in zip(plan['layouts'], fit) if not ok]
    assert times == sorted(times) and peaks == sorted(peaks)

def test_every_layout_is_listed_once(plan):
    keys = [tuple(row[name] for name in ('zero', 'sp', 'checkpoint', 'loss', 'offload')) for row in plan['layouts']]
    assert len(keys) == len(set(keys)) == len(layouts(MODELS['motif-2-12.7b'](), 8))

def test_a_part_is_needed_where_nothing_fits_without_it(plan):
    config = MODELS['motif-2-12.7b']()
    def anything(tokens, keep): return any(sum(memory_terms(config, x, tokens, 8).values()) <= 80 for x in layouts(config, 8) if keep(x))
    assert [n['part'] for n in plan['needs']] == list(PARTS)
    for n in plan['needs']:
        without = PARTS[n['part']]
        assert not anything(n['needed_from'], without) and anything(n['needed_from'], lambda x: True), n['part']
        assert n['needed_from'] == 1024 or anything(n['needed_from'] - 1024, without), n['part']
        assert n['step_s_without'] is None or n['step_s_without'] >= n['step_s']

def test_one_gpu_has_nothing_to_share():
    found = make_plan('qwen3-0.6b', seq_len=4096, gpus=1, gpu_memory=80)
    assert found['fits'] and {row['sp'] for row in found['layouts']} == {1} and 'sequence_parallel' not in [n['part'] for n in found['needs']]

@pytest.mark.parametrize('change, less', [(dict(zero=1), 'optimiser'), (dict(zero=2), 'gradients'), (dict(zero=3), 'weights'), (dict(sp=8), 'activations'),
                                          (dict(offload='optimizer', zero=1), 'optimiser')], ids=str)
def test_a_part_divides_its_term(change, less):
    config, plain = MODELS['motif-2-12.7b'](), Layout(zero=0, sp=1, checkpoint='full', loss='fused', offload='none')
    moment = 'top layer' if less == 'activations' else 'optimiser'
    before, after = (moments(config, step_of(config, x, 65_536, 8))[moment][less] for x in (plain, replace(plain, **change)))
    assert after == (0 if 'offload' in change else pytest.approx(before/8))

def test_gradients_are_divided_while_they_come():
    config, step = MODELS['motif-2-12.7b'](), StepMemory(seq_len=1024, gpus=8)
    whole, divided, gone = (moments(config, replace(step, **change))['bottom layer']['gradients'] for change in 
                            (dict(zero_stage=1), dict(zero_stage=2), dict(zero_stage=2, offload='optimizer')))
    assert divided == pytest.approx(whole/8) and gone == 0

@pytest.mark.parametrize('model, gpus, expected', [
    ('motif-2-12.7b', 64, [1, 2, 4, 8, 16, 32]), ('motif-2-12.7b', 6, [1, 2]), ('motif-2-12.7b', 7, [1]), ('llama-3.2-3b', 12, [1, 2, 4]),
    ('llama-3.1-8b', 64, [1, 2, 4, 8, 16, 32]), ('qwen2.5-7b', 14, [1, 2]), ('qwen2.5-7b', 28, [1, 2, 4, 28])])   # 28 query heads, 4 KV heads
def test_degrees_keep_heads_whole(model, gpus, expected): assert degrees(MODELS[model](), gpus) == expected

def test_windows_of_attention_are_not_shared(tmp_path):
    windowed = dict(use_sliding_window=True, sliding_window=4096, max_window_layers=0, layer_types=None)
    type(MODELS['qwen2.5-7b']())(**MODELS['qwen2.5-7b']().to_dict() | windowed).save_pretrained(tmp_path)
    assert {row['sp'] for row in make_plan(str(tmp_path), **EIGHT)['layouts']} == {1}

def test_kv_heads_are_copied_where_there_are_too_few():
    config = MODELS['llama-3.1-8b']()
    step = StepMemory(seq_len=65_536, gpus=32, sequence_parallel=8)
    eight, sixteen = (moments(config, replace(step, sequence_parallel=n))['top layer']['activations']*n for n in (8, 16))
    assert sixteen - eight == pytest.approx(32*65_536*2*8*128*2/GIB)   # keys and values of all layers once more

def test_noise_heads_are_copied_with_them():
    config, step = MODELS['motif-2-12.7b'](), StepMemory(seq_len=65_536, gpus=32)
    eight, thirty_two = (moments(config, replace(step, sequence_parallel=n))['top layer']['activations']*n for n in (8, 32))
    kv, noise = 2*2*16*128, 8*(2*2*2*128 + 4)   # bytes a token: 16 KV heads; 8 noise heads, queries and outputs twice as wide as a head
    assert thirty_two - eight == pytest.approx(40*65_536*3*(kv + noise)/GIB)

def test_rl_holds_an_engine_beside():
    config, x = MODELS['motif-2-12.7b'](), Layout(zero=3, sp=8, checkpoint='full', loss='fused', offload='none')
    sft, rl = (memory_terms(config, x, 65_536, 8, stage=stage) for stage in ('sft', 'rl'))
    assert set(rl) - set(sft) == {'rollout_weights', 'kv_cache'} and rl['kv_cache'] == pytest.approx(20)   # 320 KiB a token
    assert rl['rollout_weights'] == pytest.approx(2*shape_of(config).params/8/GIB)
    assert time_terms(config, x, 65_536, 8, stage='rl')['rollouts'] > 0 == time_terms(config, x, 65_536, 8)['rollouts']

def test_time_by_hand():
    config, x = MODELS['llama-3.1-8b'](), Layout(zero=0, sp=1, checkpoint='none', loss='naive', offload='none')
    m, terms = shape_of(config), time_terms(config, x, 8192, 1)
    assert terms['products'] == pytest.approx(6*8192*(m.params - m.embed_params - m.width)/(0.6*989e12))
    assert terms['attention'] == pytest.approx(3.5*32*4*4096*8192**2/2/(0.5*989e12))
    assert terms['waiting'] == terms['all_to_all'] == 0
    full = time_terms(config, replace(x, checkpoint='full'), 8192, 1)
    assert full['attention']/terms['attention'] == pytest.approx(4.5/3.5)

def test_muon_leaves_matrices_whole():
    found = make_plan('qwen3-0.6b', seq_len=4096, gpus=8, gpu_memory=80, optimizer='muon')
    adamw = make_plan('qwen3-0.6b', seq_len=4096, gpus=8, gpu_memory=80)
    assert {row['zero'] for row in found['layouts']} == {0}
    plain = lambda rows: next(row['terms'] for row in rows if row['zero'] == 0 and row['sp'] == 1 and row['checkpoint'] == 'none' and row['loss'] == 'fused')
    assert plain(found['layouts'])['optimiser'] < plain(adamw['layouts'])['optimiser']

@pytest.mark.parametrize('model', MODELS)
def test_every_name_can_be_planned(model):
    found = make_plan(model, seq_len=8192, gpus=8, gpu_memory=80)
    assert {row['sp'] for row in found['layouts']} == set(degrees(MODELS[model](), 8)) and plan_text(found, seq_len=8192, gpus=8, gpu_memory=80)


# The command

ASK = ('--model', 'motif-2-12.7b', '--seq-len', '65536', '--gpus', '8', '--gpu-memory', '80')

@pytest.fixture
def command(capsys, monkeypatch):
    "`motif-repro plan ...` in this process: exit code, standard output, errors."
    def call(*arguments):
        monkeypatch.setattr(sys, 'argv', ['motif-repro', 'plan', *arguments])
        with pytest.raises(SystemExit) as end: main()
        said = capsys.readouterr()
        return end.value.code or 0, said.out, said.err
    return call

def test_the_command_gives_the_plan(plan, command):
    code, out, err = command(*ASK, '--stage', 'sft', '--json')
    assert code == 0 and json.loads(out) == plan and not err

def test_for_people(command):
    code, out, err = command(*ASK)
    assert code == 0 and 'Assumed: ' in out and 'needed from' in out and out.startswith('130 of 336 layouts fit 65,536 tokens on 8 × 80 GiB')

def test_nothing_fits(command):
    code, out, err = command(*ASK[:-1], '8', '--json')
    found = json.loads(out)
    assert code == 3 and found['fits'] is False and found['layouts'][0]['peak_gib'] > 8 and not err
    assert all(n['needed_from'] is None and n['step_s'] is None for n in found['needs'])
    code, out, err = command(*ASK[:-1], '8')
    assert code == 3 and out.startswith('0 of 336 layouts fit') and 'GiB too large' in out

@pytest.mark.parametrize('arguments, words', [(('--gpus', '0'), 'nearest possible is 1'), (('--sp', '3'), 'nearest possible is 2'),
                                              (('--model', 'motif-2-12b'), "did you mean 'motif-2-12.7b'?")])
def test_the_impossible_is_one_line(arguments, words, command):
    code, out, err = command(*ASK, *arguments)
    assert code == 2 and not out and words in err and err.count('\n') == 1

def test_as_a_user_types_it():
    program = 'from motif_repro.pipeline.cli import main; main()'
    done = subprocess.run([sys.executable, '-c', program, 'plan', *ASK, '--json'], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and json.loads(done.stdout)['fits'] and not done.stderr

@pytest.mark.parametrize('change, words', [
    (dict(gpus=-3), 'nearest possible is 1'), (dict(seq_len=0), 'nearest possible is 1'), (dict(gpu_memory=0), 'such as 80'),
    (dict(gpu_memory=float('nan')), 'such as 80'),
    (dict(stage='rll'), "did you mean 'rl'?"), (dict(optimizer='adam'), "did you mean 'adamw'?"), (dict(sp=16), 'nearest possible is 8'),
    (dict(sp=8, seq_len=65_530), 'nearest possible is 65528'), (dict(model='lama-3.1-8b'), "did you mean 'llama-3.1-8b'?")])
def test_refusals(change, words):
    with pytest.raises(UserError, match=words.replace('?', r'\?')) as e: make_plan(**dict(model='motif-2-12.7b') | EIGHT | change)
    assert '\n' not in str(e.value)

@pytest.mark.parametrize('text, words', [
    ('{', 'config.json'), ('{}', 'config.json'), ('[]', 'config.json'), ('{"model_type": "gpt2"}', "no memory formula for model_type 'gpt2'"),
    ('{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 5, "num_key_value_heads": 5}',
     "num_attention_heads=5 doesn't divide hidden_size=64; the nearest possible is 4"),
    ('{"model_type": "qwen2", "num_attention_heads": 33}', "num_attention_heads=33 doesn't divide hidden_size=4096; the nearest possible is 32"),
    ('{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 3}', 'num_key_value_heads=3'),
    ('{"model_type": "llama", "hidden_size": "x"}', 'config.json'), ('{"model_type": "llama", "num_hidden_layers": 0}', 'num_hidden_layers=0'),
    ('{"model_type": "motif", "num_attention_heads": 41}', 'num_attention_heads=41 must be .* the nearest possible is 40'),
    ('{"model_type": "motif", "num_attention_heads": 8}', 'the nearest possible is 16'), ('{"model_type": "motif", "num_noise_heads": 0}', 'num_noise_heads=0 must be at least 1'),
    ('{"model_type": "llama", "head_dim": 0}', 'head_dim=0')])
def test_broken_configs(tmp_path, text, words):
    (tmp_path/'config.json').write_text(text)
    with pytest.raises(UserError, match=words): make_plan(str(tmp_path), **EIGHT)

def test_a_config_is_read_from_folder_or_file(tmp_path):
    MODELS['qwen3-8b']().save_pretrained(tmp_path)
    plans = [make_plan(model, **EIGHT) for model in ('qwen3-8b', str(tmp_path), str(tmp_path/'config.json'))]
    assert plans[0] == plans[1] == plans[2]
