"RL: it learns, a killed run ends where an unbroken one does, failing judges are counted and not learned from."
import json, os, signal, subprocess, sys, time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from motif_repro.core.errors import UserError
from motif_repro.core.rows import content_hash
from motif_repro.model.loading import load_model, save_model
from motif_repro.model.motif import MotifForCausalLM, tiny_motif_config
from motif_repro.model.tokenizer import train_tokenizer

from motif_repro.rl.trainer import RLJob, run_rl
from motif_repro.tasks.schema import Task, Verdict, write_tasks


def judge(task, response):
    "Right is what begins with a number; half a character breaks the judge, and a sign keeps it busy."
    first = response.strip()[:1]
    if first == '\ufffd': return Verdict('verifier_error', 'half a character')
    return Verdict('correct' if first.isdigit() else 'timeout' if first in '+-*/' else 'wrong')

def judge_all(tasks, responses): return [judge(*pair) for pair in zip(tasks, responses, strict=True)]

@pytest.fixture(scope='module')
def job(tmp_path_factory):
    folder = tmp_path_factory.mktemp('rl')
    tokenizer = train_tokenizer(['Calculate 2 + 3.', 'Write a number.']*10)
    torch.manual_seed(0)
    save_model(MotifForCausalLM(tiny_motif_config(len(tokenizer), hidden_size=32, num_layers=2)), tokenizer, folder/'start')
    write_tasks(folder/'tasks.jsonl', [Task(id=f'm{i}', question=f'Calculate {i} + 3.', answer='0') for i in range(40)] +
                [Task(id=f'i{i}', question=f'Write {i} numbers.', domain='instructions', metadata=dict(constraints=[dict(type='x')]))
                 for i in range(20)])
    return RLJob(model=str(folder/'start'), tasks=str(folder/'tasks.jsonl'), out=str(folder/'whole'), steps=10, prompts_per_step=5, group_size=16,
                 max_new_tokens=2, learning_rate=2e-2, warmup=0., checkpoint_every=3)

@pytest.fixture(scope='module')
def whole(job): return run_rl(job, verify_all=judge_all)

def elsewhere(job, name, **changes): return replace(job, out=str(Path(job.out).with_name(name)), **changes)
def rewards(metrics): return [row['reward'] for row in metrics]


def test_it_learns_in_both_domains(whole):
    for domain in ('math', 'instructions'): assert whole[-1][f'reward_{domain}'] > whole[0][f'reward_{domain}'] + 0.25
    assert whole[-1]['entropy'] < whole[0]['entropy']

def test_sampler_and_trainer_agree_on_probabilities(whole): assert max(row['mismatch'] for row in whole) < 1e-5

def test_each_trajectory_is_used_at_its_step_and_at_the_next(whole):
    teaching = [(1 - row['zero_advantage'])*row['num_tokens'] for row in whole]   # nearly all answers have two tokens, a few have one
    for row, new, old in zip(whole, teaching, [0, *teaching]):
        assert row['learned_tokens'] == pytest.approx(new + old, abs=3)
        assert row['reused'] == pytest.approx(old/(new + old), abs=0.02)

def test_a_failing_judge_is_counted_and_not_learned_from(job):
    "Where every answer breaks the judge, the weights stay what they were."
    broken = elsewhere(job, 'no-judge', steps=2)
    metrics = run_rl(broken, verify_all=lambda tasks, responses: [Verdict('verifier_error')]*len(tasks))
    assert [row['verifier_error'] for row in metrics] == [80, 80]
    assert all(row['learned_tokens'] == row['loss'] == 0 and 'reward' not in row for row in metrics)
    before, after = (load_model(folder)[0].state_dict() for folder in (job.model, Path(broken.out)/'model'))
    assert all(torch.equal(before[name], after[name]) for name in before)
    state = json.loads((Path(broken.out)/'checkpoints/step000002/rl.json').read_text())
    assert not state['waiting'] and not any(right or wrong for right, wrong, _ in state['counts'].values())

def test_both_kinds_of_failure_appear_in_the_metrics(whole):
    assert whole[0]['verifier_error'] > 0 and whole[0]['timeout'] > 0
    assert whole[0]['zero_advantage'] >= whole[0]['verifier_error']/80

def test_kill_9_in_the_middle_ends_in_the_same_numbers(job, whole):
    killed = elsewhere(job, 'killed')
    out = Path(killed.out)
    out.mkdir()
    code = ('import json, sys; from motif_repro.rl.trainer import RLJob, run_rl; from test_rl import judge_all; '
            'run_rl(RLJob(**json.loads(sys.argv[1])), verify_all=judge_all)')
    process = subprocess.Popen([sys.executable, '-c', code, json.dumps(asdict(killed))], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               cwd=out, env=os.environ | dict(PYTHONPATH=os.pathsep.join([str(Path(__file__).parent), *sys.path])))
    deadline = time.time() + 90
    while time.time() < deadline and process.poll() is None:
        if (out/'metrics.jsonl').is_file() and (out/'metrics.jsonl').read_bytes().count(b'\n') >= 5: break
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out/'model').exists(), "it ended before it was killed"
    done = []
    assert run_rl(killed, on_step=done.append, verify_all=judge_all) == whole
    assert done[0]['step'] in (3, 6), "it began anew instead of resuming"
    assert (out/'metrics.jsonl').read_bytes() == (Path(job.out)/'metrics.jsonl').read_bytes()
    assert content_hash(out/'model/model.safetensors') == content_hash(Path(job.out)/'model/model.safetensors')

@pytest.mark.parametrize('changes', [
    dict(correction='truncate'), dict(correction='none', reuse=2), dict(updates_per_step=2, micro_tokens=200),
    dict(loss_type='grpo', importance_sampling_level='sequence', epsilon_low=0.1, epsilon_high=0.15),
    dict(loss_type='cispo', epsilon_high=3., scale_rewards='none', leave_one_out=True)], ids=lambda c: '-'.join(map(str, c.values())))
def test_every_way_of_learning_learns_and_is_its_own(job, whole, changes):
    metrics = run_rl(elsewhere(job, 'way-' + '-'.join(changes), steps=8, **changes), verify_all=judge_all)
    assert metrics[-1]['reward'] > metrics[0]['reward'] + 0.15
    assert rewards(metrics)[0] == rewards(whole)[0] and rewards(metrics) != rewards(whole)[:8]

@pytest.mark.parametrize('changes', [dict(zero_stage=1), dict(loss_type='dr_grpo')], ids=lambda c: '-'.join(map(str, c.values())))
def test_what_ought_to_be_the_same_is(job, whole, changes):
    "Sharded states; and a denominator that is the same because nearly all answers have the longest length."
    same = run_rl(elsewhere(job, 'same-' + '-'.join(changes), steps=4, **changes), verify_all=judge_all)
    for name in ('reward', 'loss', 'grad_norm'): assert [row[name] for row in same] == pytest.approx([row[name] for row in whole[:4]], abs=5e-3)

def test_another_kind_of_model_learns_too(job, tmp_path):
    tokenizer = load_model(job.model)[1]
    torch.manual_seed(0)
    sizes = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=16)
    save_model(Qwen3ForCausalLM(Qwen3Config(vocab_size=len(tokenizer), **sizes)), tokenizer, tmp_path/'qwen')
    metrics = run_rl(replace(job, model=str(tmp_path/'qwen'), out=str(tmp_path/'out'), steps=6), verify_all=judge_all)
    assert max(row['mismatch'] for row in metrics) < 1e-5 and metrics[-1]['reward'] > metrics[0]['reward'] + 0.15

def test_what_cannot_work_is_refused(job, tmp_path):
    write_tasks(tmp_path/'none.jsonl', [])
    with pytest.raises(UserError, match='none.jsonl: holds no task'): run_rl(replace(job, tasks=str(tmp_path/'none.jsonl'), out=str(tmp_path)))
    for said, changes in {"domain 'instructions' has 20 tasks, and a step takes 30": dict(prompts_per_step=60),
                          "loss_type='ppo'": dict(loss_type='ppo')}.items():
        with pytest.raises(UserError, match=said): run_rl(replace(job, out=str(tmp_path), **changes), verify_all=judge_all)
