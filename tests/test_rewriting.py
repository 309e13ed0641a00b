"Rewriting by a real model and by a real server: every candidate is accounted for, and no hint gets into a kept trace."

import pytest
import torch
from test_client import Server, address

from motif_repro.alignment.client import Caller, Endpoint
from motif_repro.alignment.rewriting import choose_rewrites, no_hint, rewrite_by_target, rewrite_by_teacher
from motif_repro.alignment.teachers import TARGET, solve
from motif_repro.core.errors import UserError
from motif_repro.core.rows import write_rows
from motif_repro.model.generation import Completion
from motif_repro.model.motif import MotifForCausalLM, tiny_motif_config
from motif_repro.model.tokenizer import train_tokenizer
from motif_repro.tasks.math import draw_tasks

TASKS = {task.id: task for task in draw_tasks('basic_arithmetic', 3, 12, 'train')}
VERBOSE = [solve(task, 'verbose') for task in TASKS.values()]
by_length = lambda trace: -len(trace.reasoning)


def test_a_model_that_writes_junk(tmp_path):
    "Everything it wrote stands in the file, and nothing of it is kept."
    tokenizer = train_tokenizer([t.response for t in VERBOSE])
    torch.manual_seed(0)
    model = MotifForCausalLM(tiny_motif_config(len(tokenizer), hidden_size=32, num_layers=2))
    sifted = rewrite_by_target(VERBOSE, TASKS, model, tokenizer, by_length, num_samples=3, max_new_tokens=12)
    assert sifted.kept == [] and sum(sifted.reasons.values()) == 3*len(TASKS)
    assert set(sifted.reasons) <= {'kept', 'unfinished', 'no_answer', 'wrong'}
    assert write_rows(tmp_path/'dropped.jsonl', sifted.dropped) == 36

def writing(monkeypatch, write):
    "In place of the model: what it writes to a prompt, sample by sample."
    prompts = []
    def sample(model, tokenizer, texts, *, num_samples, **sampling):
        prompts.extend(texts)
        return [[Completion(write(i, s), [], [], True) for s in range(num_samples)] for i in range(len(texts))]
    monkeypatch.setattr('motif_repro.alignment.rewriting.sample', sample)
    return prompts

@pytest.fixture
def tokenizer(): return train_tokenizer(['Calculate 2 + 3.'])

def test_the_best_right_one_without_a_trace_of_the_hint(monkeypatch, tokenizer):
    tasks = list(TASKS.values())
    own = [solve(task, TARGET) for task in tasks]
    texts = lambda i: [f'<think>The hint says so.</think>{own[i].answer}', own[i].response,
                       f'<think>{own[i].reasoning}\nAnd so on.</think>{own[i].answer}', f'<think>{own[i].reasoning}</think>{int(own[i].answer) + 1}']
    prompts = writing(monkeypatch, lambda i, s: texts(i)[s])
    sifted = rewrite_by_target(VERBOSE, TASKS, None, tokenizer, by_length, num_samples=4)
    assert [(t.question, t.reasoning) for t in sifted.kept] == [(t.question, t.reasoning) for t in own]
    assert sifted.reasons == dict(kept=12, shows_hint=12, not_best=12, wrong=12)
    assert all(t.answer in prompt for t, prompt in zip(own, prompts)) and all('For you alone' in prompt for prompt in prompts)
    assert {t.provenance['rewritten_from'] for t in sifted.kept} == {'verbose'}

def test_without_a_hint_the_prompt_is_the_question(monkeypatch, tokenizer):
    prompts = writing(monkeypatch, lambda i, s: 'nothing')
    rewrite_by_target(VERBOSE, TASKS, None, tokenizer, by_length, hint=no_hint, num_samples=1)
    assert all('For you alone' not in prompt and trace.question in prompt for prompt, trace in zip(prompts, VERBOSE))

def test_a_trace_of_an_unknown_task_is_named():
    with pytest.raises(UserError, match='there is no such task'): choose_rewrites([VERBOSE[0]], {}, by_length)


class Rewriter(Server):
    "Rewrites what it is shown: right in its first sample, wrong in its second."
    def reply(self, body):
        question = body['messages'][-1]['content']
        task = next(task for task in TASKS.values() if question.startswith(task.question))
        own = solve(task, TARGET)
        return own.response if not self.asked[question] % 2 else f'<think>{own.reasoning}</think>0.5'

def test_a_teacher_is_told_the_style(tmp_path):
    import threading
    reference = [solve(task, TARGET) for task in draw_tasks('basic_arithmetic', 3, 40, 'test')]
    server = Rewriter()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        caller = lambda: Caller(endpoint=Endpoint('t', address(server)))
        rewrite = lambda: rewrite_by_teacher(VERBOSE, TASKS, caller(), 'm', reference, by_length, tmp_path, concurrency=2)
        sifted, ledger = rewrite()
        again, nothing = rewrite()
    finally:
        server.shutdown()
        server.server_close()
    assert sifted.reasons == dict(kept=12, wrong=12) and again.kept == sifted.kept and (ledger.asked, nothing.asked) == (24, 0)
    assert {t.question for t in sifted.kept} == {t.question for t in VERBOSE} and {t.teacher for t in sifted.kept} == {'m, restyled'}
    roles = [turn['role'] for turn in server.bodies[0]['messages']]
    assert roles == ['system', *['user', 'assistant']*3, 'user']
    assert server.bodies[0]['messages'][2]['content'] == reference[0].response and VERBOSE[0].reasoning in str([b['messages'][-1] for b in server.bodies])
