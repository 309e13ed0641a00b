"Rollout engines: a server behind a whole run, and wrong ones that the mismatch has to show."
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from motif_repro.core.errors import UserError
from motif_repro.model.generation import chat_prompt, encode_prompts, end_ids
from motif_repro.model.loading import load_model, save_model
from motif_repro.model.motif import MotifForCausalLM, tiny_motif_config
from motif_repro.model.tokenizer import train_tokenizer
from motif_repro.rl.engines import ModelServer, ServerEngine, mismatch_metrics, serving
from motif_repro.rl.rollouts import begin_groups
from motif_repro.rl.trainer import PolicyLogprobs, RLJob, batch_loss, lay_out, read_again, run_rl
from motif_repro.tasks.schema import Task, Verdict, write_tasks
from motif_repro.training.trainer import make_engine, start_process_group

TOKENIZER = train_tokenizer(['Calculate 2 + 3.', 'Write a number.']*10)
TASKS = [Task(id=f't{i}', question=f'Calculate {i} + 3.', answer='0') for i in range(20)]

def judge_all(tasks, responses): return [Verdict('correct' if r.strip()[:1].isdigit() else 'wrong') for r in responses]

@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    return MotifForCausalLM(tiny_motif_config(len(TOKENIZER), hidden_size=32, num_layers=2)).eval()

@pytest.fixture
def job(model, tmp_path):
    save_model(model, TOKENIZER, tmp_path/'start')
    write_tasks(tmp_path/'tasks.jsonl', TASKS)
    return RLJob(model=str(tmp_path/'start'), tasks=str(tmp_path/'tasks.jsonl'), out=str(tmp_path/'out'), steps=6, prompts_per_step=4, group_size=16,
                 max_new_tokens=2, learning_rate=2e-2, warmup=0., checkpoint_every=2, served='policy', served_folder=str(tmp_path/'served'))

def engine_of(server, model, **changes):
    return ServerEngine(**dict(endpoint=server.endpoint, served='policy', tokenizer=TOKENIZER, ends=end_ids(model, TOKENIZER), folder=Path('/nowhere')) | changes)

class Hot(ModelServer):
    "Samples at another temperature than it was asked for, and says that temperature's log-probabilities."
    def complete(self, body): return super().complete(body | dict(temperature=0.6))

class Stale(ModelServer):
    "Says that it has taken the new weights."
    def reload(self, body): return dict(results=[None])

class Shifted(ModelServer):
    "Says each token's log-probability one token late."
    def choice(self, i, answer): return super().choice(i, replace(answer, logps=[0., *answer.logps[:-1]]))


def test_a_run_behind_a_server_learns_and_hears_what_it_reads(job, model):
    with serving(ModelServer(deepcopy(model), TOKENIZER, Path(job.served_folder))) as server:
        metrics = run_rl(replace(job, engine=server.endpoint.address), verify_all=judge_all)
    assert metrics[-1]['reward'] > metrics[0]['reward'] + 0.15
    assert max(row['mismatch'] for row in metrics) < 1e-4
    assert {body['model'] for body in server.bodies} == {'policy'} and len(server.bodies) == 6*4
    with torch.no_grad(): left, right = (network(torch.arange(9)[None]).logits for network in (server.model, load_model(Path(job.out)/'model')[0].eval()))
    torch.testing.assert_close(left, right, rtol=0, atol=1e-5)   # the last weights came to the server, too

@pytest.mark.parametrize('wrong', [Hot, Stale, Shifted])
def test_a_wrong_engine_is_seen(job, model, wrong):
    with serving(wrong(deepcopy(model), TOKENIZER, Path(job.served_folder))) as server:
        metrics = run_rl(replace(job, engine=server.endpoint.address, steps=3), verify_all=judge_all)
    assert metrics[-1]['mismatch_share'] > 0.2 and metrics[-1]['mismatch_mean'] > 0.05
    if wrong is Stale: assert metrics[0]['mismatch'] < 1e-4   # before any update its weights are the right ones

def test_weights_take_the_engines_share_out_of_the_gradient(job, model):
    "Every token once, as often as an engine samples it: with weights the gradient is the policy's own mean, without them it isn't."
    [[start]] = begin_groups(TASKS[:1], TOKENIZER, 1, step=0)
    with torch.no_grad(): policy = model(torch.tensor([start.prompt])).logits[0, -1].log_softmax(-1)
    wrong = (policy + torch.randn(len(policy), generator=torch.Generator().manual_seed(0))).log_softmax(-1)
    def gradient(engine, correction):
        answers = [replace(start, ids=[x], logps=[logp.item()], advantage=logp.exp().item()*(1 if x % 2 else -1)) for x, logp in enumerate(engine)]
        network, asked = deepcopy(model).train(), replace(job, correction=correction, weight_cap=1e6)
        read, found = read_again(make_engine(network, asked, PolicyLogprobs), answers, asked, TOKENIZER.pad_token_id)
        batch = lay_out(read, read, TOKENIZER.pad_token_id, 'cpu')
        batch_loss(PolicyLogprobs(network)(batch.input_ids, batch.labels), batch, asked)[0].backward()
        return network.lm_head.weight.grad, found['mismatch_mean']
    start_process_group()
    true, none = gradient(policy, 'none')
    assert none < 1e-5
    for correction in ('clip', 'truncate'):
        found, apart = gradient(wrong, correction)
        assert apart > 0.5
        torch.testing.assert_close(found, true, rtol=1e-3, atol=1e-6*true.abs().max().item())
    assert (gradient(wrong, 'none')[0] - true).norm() > 0.3*true.norm()

def test_written_ahead_by_a_server_a_run_repeats_itself_and_resumes(job, model):
    "The thread that writes and the step that learns don't disturb each other."
    def run(name, on_step=None):
        with serving(ModelServer(deepcopy(model), TOKENIZER, Path(job.served_folder))) as server:
            return run_rl(replace(job, engine=server.endpoint.address, ahead=True, reuse=0, steps=5, out=job.out + name), on_step, verify_all=judge_all)
    whole = run('1')
    assert [row['mean_age'] for row in whole] == [0, 1, 1, 1, 1] and whole[0]['mismatch'] < 1e-4 < whole[1]['mismatch']
    def interrupt(row):
        if row['step'] == 3: raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt): run('2', interrupt)
    assert run('2') == whole

def test_a_server_that_is_gone_or_overloaded(model):
    prompts = encode_prompts([chat_prompt(task.question, TOKENIZER) for task in TASKS[:3]], TOKENIZER)
    asked = dict(num_samples=2, max_new_tokens=2, seed=0)
    class Busy(ModelServer):
        times = [None]   # of which it answers none
        def complete(self, body): return self.times.pop() if self.times else super().complete(body)
    with serving(Busy(model, TOKENIZER)) as server:
        assert len(engine_of(server, model).write(prompts, [0, 2], **asked)) == 2 and not server.times
        address = server.endpoint
    with pytest.raises(UserError, match='Connection error'): engine_of(server, model, endpoint=address, max_retries=0).write(prompts, [0], **asked)

def test_no_numbers_no_metrics(): assert mismatch_metrics(torch.zeros(0), torch.zeros(0)) == {}
