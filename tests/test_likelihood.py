"Token scores: those of plain log-softmax over odd lengths, whatever the batch; of any causal language model; and refusals."
import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from motif_repro.alignment.likelihood import TokenScores, grace, line_numbers, projected_gradients, token_logps
from motif_repro.alignment.traces import Trace
from motif_repro.core.errors import UserError
from motif_repro.model.motif import MotifForCausalLM, tiny_motif_config
from motif_repro.model.tokenizer import encode_conversation, train_tokenizer

TEXTS = ['', '3 + 4 = 7', '3 + 4 = 7\n7 - 2 = 5', 'a long thought\n\nwith an empty line\n1 + 1 = 2\nand an end ', '9'*40]   # odd lengths, no thought, blank lines
TRACES = [Trace(task_id=f't{i}', teacher='me', question='What is it?'*(1 + i % 3), reasoning=text, answer=str(i)) for i, text in enumerate(TEXTS)]

@pytest.fixture(scope='module')
def tokenizer(): return train_tokenizer([text for t in TRACES for text in (t.question, t.response)])

MODELS = dict(motif=lambda v: MotifForCausalLM(tiny_motif_config(v, hidden_size=16, num_layers=1)),
              llama=lambda v: LlamaForCausalLM(LlamaConfig(vocab_size=v, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)),
              gpt2=lambda v: GPT2LMHeadModel(GPT2Config(vocab_size=v, n_embd=16, n_layer=1, n_head=2)))

@pytest.fixture(scope='module', params=MODELS)
def model(request, tokenizer):
    torch.manual_seed(0)
    model = MODELS[request.param](len(tokenizer))
    for p in model.parameters(): p.data += 0.3*torch.randn_like(p)   # so that tokens differ in probability
    return model

@torch.no_grad()
def plain(model, tokenizer, trace):
    "One trace alone, all logits in memory."
    ids, num_prompt = encode_conversation(trace.messages, tokenizer)
    logp = model.eval()(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)[num_prompt - 1:-1]
    own  = logp.gather(1, torch.tensor(ids[num_prompt:])[:, None])
    return own[:, 0].numpy(), 1 + (logp > own).sum(1).numpy()

@pytest.mark.parametrize('batch_size', [1, 3, 16])
def test_as_plain_log_softmax_of_each_trace_alone(model, tokenizer, batch_size):
    for trace, found in zip(TRACES, token_logps(model, tokenizer, TRACES, batch_size=batch_size), strict=True):
        logps, ranks = plain(model, tokenizer, trace)
        assert np.allclose(found.logps, logps, atol=1e-4)
        assert (found.ranks == ranks).mean() > 0.9 and abs(found.ranks - ranks).max() <= 1   # two words may be equally likely but for rounding
        assert len(found.steps) == len(logps)

def test_steps_are_the_lines_of_the_completion(tokenizer):
    ids, num_prompt = encode_conversation(TRACES[3].messages, tokenizer)
    lines, steps = f'{TRACES[3].response}<|end|>'.splitlines(keepends=True), line_numbers(ids[num_prompt:], tokenizer)
    told = [tokenizer.decode([i for i, s in zip(ids[num_prompt:], steps) if s == number]) for number in sorted(set(steps))]
    assert told == [line for line in lines if line != '\n'] or told == lines   # a blank line may be part of the token that ends the one before

def test_training_mode_and_gradients_are_as_before(model, tokenizer):
    model.train()
    token_logps(model, tokenizer, TRACES)
    projected_gradients(model, tokenizer, TRACES, dim=4)
    assert model.training and all(p.grad is None for p in model.parameters())

def test_a_capped_head_is_scored_as_capped_and_any_other_refused(tokenizer):
    model = MODELS['llama'](len(tokenizer))
    model.get_output_embeddings().weight.data *= 100
    forward = model.forward
    def changed(f):
        def call(*args, **kwargs):
            out = forward(*args, **kwargs)
            out.logits = f(out.logits)
            return out
        return call
    model.forward = changed(lambda z: 5*torch.tanh(z/5))
    with pytest.raises(UserError, match="aren't a linear function"): token_logps(model, tokenizer, TRACES)
    model.config.final_logit_softcapping = 5.
    assert np.allclose(token_logps(model, tokenizer, TRACES[:2])[1].logps, plain(model, tokenizer, TRACES[1])[0], atol=1e-4)

def test_a_projection_keeps_inner_products(model, tokenizer):
    "Over many random projections, the mean of the projected inner products is the true one."
    true = projected_gradients(model, tokenizer, TRACES[:2], dim=1 << 22, seed=1)   # hardly any two coordinates meet
    seeds = [projected_gradients(model, tokenizer, TRACES[:2], dim=512, seed=seed) for seed in range(12)]
    products = np.array([g@g.T for g in seeds])
    error = abs(products.mean(0) - true@true.T)
    assert (error < 5*products.std(0)/12**0.5 + 0.02*np.abs(true@true.T)).all()
    one_bucket = np.array([projected_gradients(model, tokenizer, TRACES[:1], dim=1, seed=seed)[0, 0] for seed in range(6)])
    assert one_bucket.std() > 0.1*abs(one_bucket).mean()   # every seed has signs of its own

def test_gradients_of_one_task_stay_together():
    "Twins in different tasks know each other's direction; a split that tears a task apart would let them vouch for themselves."
    twins = np.eye(6).repeat(2, 0)
    assert grace(twins, np.arange(6).repeat(2)) > 50*grace(twins, None, held_out=1/12)

@pytest.mark.parametrize('arrays', [([], [], []), ([0., 1.], [1], [0, 0]), ([0.], [1], [0, 0])], ids=str)
def test_scores_that_do_not_belong_together_are_refused(arrays):
    with pytest.raises(UserError, match='give one of each'): TokenScores(*map(np.array, arrays))
