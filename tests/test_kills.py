"Killed at any moment, one rank or all, a run that is started again writes the same metrics, byte for byte."
import itertools, json, os, random, signal, subprocess, sys, time
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path

import psutil
import pytest
import torch

from motif_repro.model.loading import load_model, save_model
from motif_repro.training import trainer
from motif_repro.training.trainer import TrainJob, run_job, torchrun
from tiny import tiny_job

MAIN = 'from motif_repro.training.trainer import main; main()'


# --- ranks as forks of a process that has imported everything ---

@pytest.fixture(scope='module')
def fork():
    os.environ['DS_ACCELERATOR'] = 'cpu'
    context = get_context('forkserver')
    context.set_forkserver_preload(['deepspeed', 'motif_repro.training.trainer', 'torch.utils.tensorboard'])
    return context.Process

def rank_of(job:TrainJob, rank:int, world:int, wound:str, log:Path):
    "What a rank runs; `wound` names a function that first harms it."
    for fd, path in ((1, os.devnull), (2, log)): os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), fd)
    if world > 1:
        port = (log.with_suffix('.port')).read_text()
        os.environ |= dict(TORCHELASTIC_RUN_ID='test', RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR='localhost', MASTER_PORT=port)
    if wound: globals()[wound]()
    run_job(job)

def start(fork, job:TrainJob, world:int=1, wound:str='')->list:
    "The processes of a run."
    log = Path(job.out).with_suffix('.log')
    log.with_suffix('.port').write_text(str(random.randint(20_000, 60_000)))
    ranks = [fork(target=rank_of, args=(job, rank, world, wound, log)) for rank in range(world)]
    for rank in ranks: rank.start()
    return ranks

def end(ranks:list)->list[int]:
    "Their exit codes; a rank whose peer died is given a moment to notice."
    for rank in ranks: rank.join(100)
    assert not any(rank.is_alive() for rank in ranks), 'it hangs'
    return [rank.exitcode for rank in ranks]

def finish(fork, job:TrainJob, world:int=1)->bytes:
    "Run to the end; the metrics."
    assert end(start(fork, job, world)) == [0]*world, Path(job.out).with_suffix('.log').read_text()[-3000:]
    checkpoints = Path(job.out)/'checkpoints'
    assert [p.name for p in checkpoints.glob('step*')] == [(checkpoints/'latest').read_text()], "a torn checkpoint outlived the good one"
    return metrics(job)

def metrics(job)->bytes: return (Path(job.out)/'metrics.jsonl').read_bytes()

@pytest.fixture(scope='module')
def job(tmp_path_factory): return tiny_job(tmp_path_factory.mktemp('kills'), hidden_size=32, steps=10, checkpoint_every=2)

@pytest.fixture(scope='module')
def whole(fork, job):
    "The metrics of a run that nobody disturbs, by number of ranks."
    known = {}
    def of(world:int)->bytes:
        if world not in known: known[world] = finish(fork, elsewhere(job, f'whole{world}', world), world)
        return known[world]
    return of

def elsewhere(job, name, world=1, **changes): return replace(job, out=str(Path(job.out).with_name(name)), zero_stage=0 if world == 1 else 1, **changes)


# --- moments that matter ---

def die(): os.kill(os.getpid(), signal.SIGKILL)

def on_call(count:int, then):
    "A wrapper that lets a function be, except for its `count`-th call."
    calls = itertools.count(1)
    return lambda f: lambda *args, **kwargs: then(f, *args, **kwargs) if next(calls) == count else f(*args, **kwargs)

def in_half_a_file():
    "The second checkpoint's largest file is cut off."
    from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
    def cut(f, self, state_dict, path):
        f(self, state_dict, path)
        os.truncate(path, Path(path).stat().st_size//2)
        die()
    TorchCheckpointEngine.save = on_call(2, cut)(TorchCheckpointEngine.save)

def before_it_counts(): trainer.atomic_path = on_call(3, lambda *args, **kwargs: die())(trainer.atomic_path)   # one call is for the metrics, one for step 2
def before_the_old_one_goes(): trainer.shutil.rmtree = on_call(1, lambda *args, **kwargs: die())(trainer.shutil.rmtree)
def before_the_model_is_written(): trainer.save_model = lambda *args: die()
def in_a_line_of_metrics():
    def half(f, log, row):
        print(json.dumps(row)[:20], end='', file=log.file, flush=True)
        die()
    trainer.MetricsLog.__call__ = on_call(8, half)(trainer.MetricsLog.__call__)

WOUNDS = dict(in_half_a_file=2, before_it_counts=2, in_a_line_of_metrics=6, before_the_old_one_goes=4, before_the_model_is_written=10)   # the step from which it goes on
RARE = ('before_the_old_one_goes', 'before_the_model_is_written')

@pytest.mark.parametrize('wound', [pytest.param(wound, marks=[pytest.mark.slow]*(wound in RARE)) for wound in WOUNDS])
def test_moments_that_matter(fork, job, whole, wound):
    killed = elsewhere(job, wound)
    assert end(start(fork, killed, wound=wound)) == [-signal.SIGKILL]
    assert (Path(killed.out)/'checkpoints/latest').read_text() == f'step{WOUNDS[wound]:06d}'
    assert finish(fork, killed) == whole(1)
    model = lambda out: (Path(out)/'model/model.safetensors').read_bytes()
    assert model(killed.out) == model(Path(job.out).with_name('whole1'))

def test_random_numbers_of_a_killed_run_are_those_of_a_whole_one(fork, job):
    "A Llama with dropout."
    from transformers import LlamaConfig, LlamaForCausalLM
    tokenizer = load_model(job.model)[1]
    def start_with(dropout):
        torch.manual_seed(0)
        folder = Path(job.out).with_name(f'dropout{dropout}')
        save_model(LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                                                attention_dropout=dropout)), tokenizer, folder)
        return dict(model=str(folder), steps=6)
    plain, expected = (finish(fork, elsewhere(job, f'whole_{rate}', **start_with(rate))) for rate in (0., 0.2))
    killed = elsewhere(job, 'dropped', **start_with(0.2))
    assert end(start(fork, killed, wound='in_half_a_file')) == [-signal.SIGKILL]
    assert finish(fork, killed) == expected != plain


# --- ranks ---

def kill_the_second_rank():
    if os.environ['RANK'] == '1': trainer.learning_rate = on_call(6, lambda *args: die())(trainer.learning_rate)

def test_a_rank_that_is_killed_takes_the_others_down(fork, job, whole):
    "By torchrun, as on a cluster: the message begins with the rank that died."
    killed = elsewhere(job, 'rank', world=2)
    Path(killed.out).mkdir()
    (Path(killed.out)/'job.json').write_text(json.dumps(asdict(killed)))
    code = f'import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_kills; test_kills.kill_the_second_rank(); {MAIN}'
    with pytest.raises(RuntimeError) as error: torchrun(code, Path(killed.out)/'job.json', 2)
    first = str(error.value).splitlines()
    assert first[0] == '2 processes failed (exit 1); first rank 1, killed by signal 9 (SIGKILL):', error.value
    assert not [p for p in psutil.process_iter(['cmdline']) if str(killed.out) in ' '.join(p.info['cmdline'] or [])], "the other rank lives on"
    assert (Path(killed.out)/'checkpoints/latest').read_text() == 'step000004'
    assert finish(fork, killed, 2) == whole(2)

def test_all_ranks_end_when_one_is_told_to(fork, job, whole):
    told = elsewhere(job, 'told', world=2)
    ranks = start(fork, told, 2)
    deadline = time.monotonic() + 90
    while not (Path(told.out)/'metrics.jsonl').is_file() or not metrics(told).count(b'\n') >= 3:
        assert time.monotonic() < deadline and ranks[1].is_alive(), Path(told.out).with_suffix('.log').read_text()[-3000:]
        time.sleep(0.002)
    os.kill(ranks[1].pid, signal.SIGTERM)
    assert end(ranks) == [128 + signal.SIGTERM]*2
    done = metrics(told).count(b'\n')
    assert (Path(told.out)/'checkpoints/latest').read_text() == f'step{done:06d}' and 3 <= done < told.steps
    assert finish(fork, told, 2) == whole(2)


# --- any moment ---

@pytest.mark.slow
@pytest.mark.parametrize('world', [1, 2])
def test_ten_random_moments(fork, job, whole, world):
    "Two runs, each killed five times in a row: all ranks, or one and then, as a launcher does, the others."
    whole(world)
    begun = time.monotonic()
    finish(fork, elsewhere(job, f'timed{world}', world), world)
    duration, moments = time.monotonic() - begun, random.Random(world)
    for attempt in range(2):
        killed = elsewhere(job, f'random{world}_{attempt}', world)
        for kill in range(5):
            ranks = start(fork, killed, world)
            time.sleep(moments.uniform(0, duration))
            for rank in ranks[(attempt + kill) % 2*(world - 1):]: rank.kill()
            time.sleep(0.1*(world - 1))
            for rank in ranks: rank.kill()
            end(ranks)
        assert finish(fork, killed, world) == whole(world)

@pytest.mark.slow
def test_sigterm_to_torchrun_saves(fork, job, whole):
    told = elsewhere(job, 'torchrun', world=2, steps=400, checkpoint_every=400)
    Path(told.out).mkdir()
    (Path(told.out)/'job.json').write_text(json.dumps(asdict(told)))
    process = subprocess.Popen(trainer.torchrun_command(2, [sys.executable, '-c', MAIN, str(Path(told.out)/'job.json')]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (Path(told.out)/'metrics.jsonl').is_file() or not metrics(told): assert time.monotonic() < deadline and process.poll() is None; time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) != 0
    done = metrics(told).count(b'\n')
    assert (Path(told.out)/'checkpoints/latest').read_text() == f'step{done:06d}' and done < 400
