"Differential attention by every plan: against the equations in float64, packed, cached, masked, and without copies of keys and values."
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from motif_repro.core.errors import UserError
from motif_repro.core.measure import peak_memory
from motif_repro.kernels import differential_attention as kernel
from motif_repro.kernels.differential_attention import PLANS, additive, differential_attention, differential_attention_reference
from motif_repro.model.motif import MotifForCausalLM, tiny_motif_config

SHAPES = [(1, 1, 1, 2, 2, 1), (2, 7, 2, 3, 4, 7), (3, 1, 2, 3, 8, 20), (1, 5, 3, 5, 16, 31), (2, 130, 1, 3, 16, 130), (5, 70, 2, 2, 6, 131)]   # B, T, G, n, d, S

plans = pytest.mark.parametrize('plan', PLANS)

def example(B, T, G, n, d, S, dtype=torch.float32, seed=0):
    "q, k, v, λ, and the gradient from above."
    random = torch.Generator().manual_seed(seed)
    shapes = (B, T, G, n, d), (B, G, S, 2*d), (B, G, S, 2*d), (), (B, T, G, n - 1, 2*d)
    return [torch.randn(shape, generator=random, dtype=torch.float64).to(dtype) for shape in shapes]

def outcome(fn, q, k, v, lam, upstream, **kwargs):
    "Output and gradients, in float64."
    inputs = [x.detach().clone().requires_grad_() for x in (q, k, v, lam)]
    out = fn(*inputs, **kwargs)
    return [x.detach().double() for x in (out, *torch.autograd.grad(out, inputs, upstream.to(out.dtype)))]

def check(fn, case, slack=2., **kwargs):
    "As near to the truth in float64 as plain torch is in the same type."
    truth = outcome(differential_attention_reference, *(x.double() for x in case))
    plain, ours = outcome(differential_attention_reference, *case), outcome(fn, *case, **kwargs)
    if case[0].dtype == torch.float64: return torch.testing.assert_close(ours, truth, atol=1e-11, rtol=1e-9)
    for name, t, p, o in zip(('out', 'q', 'k', 'v', 'λ'), truth, plain, ours):
        error, allowed = ((x - t).abs().max() for x in (o, p))
        assert error <= slack*allowed + 16*torch.finfo(case[0].dtype).eps*t.abs().max(), f'{name}: error {error:.1e}, plain torch {allowed:.1e}'

@plans
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_values_and_gradients_are_those_of_the_equations(shape, plan, dtype):
    check(differential_attention, example(*shape, dtype=dtype), plan=plan)

@pytest.mark.parametrize('shape', SHAPES[1:], ids=str)
def test_many_small_tiles_are_one_large_one(shape, monkeypatch):
    monkeypatch.setattr(kernel, 'TILE_ROWS', 3)
    monkeypatch.setattr(kernel, 'TILE_NUMBERS', 100)
    for seed in range(5): check(differential_attention, example(*shape, dtype=torch.float64, seed=seed), plan='tiles')

@plans
@pytest.mark.parametrize('kind', ['bool', 'additive'])
def test_masked_keys_do_not_count(plan, kind):
    "Left padding of 0, 2 and 5 tokens: the rest is as if it were alone."
    q, k, v, lam, upstream = example(3, 9, 2, 3, 4, 9)
    pads = torch.tensor([0, 2, 5])
    mask = torch.ones(9, 9, dtype=torch.bool).tril()[None, None] & (torch.arange(9) >= pads[:, None])[:, None, None]
    if kind == 'additive': mask = additive(mask, torch.float32)
    out = differential_attention(q, k, v, lam, mask=mask, plan=plan)
    for i, p in enumerate(pads.tolist()):
        alone = differential_attention_reference(q[i:i + 1, p:], k[i:i + 1, :, p:], v[i:i + 1, :, p:], lam)
        torch.testing.assert_close(out[i:i + 1, p:], alone, atol=2e-6, rtol=1e-5)
    assert out.isfinite().all()

@plans
@pytest.mark.parametrize('lengths', [[12], [5, 1, 6], [1]*12, [11, 1]])
def test_packed_documents_are_separate_ones(plan, lengths):
    case = example(1, 12, 2, 3, 4, 12, dtype=torch.float64)
    ends = F.pad(torch.tensor(lengths).cumsum(0), (1, 0))
    def documents(q, k, v, lam):
        return torch.cat([differential_attention_reference(*(x.split(lengths, dim=dim)[i] for x, dim in ((q, 1), (k, 2), (v, 2))), lam)
                          for i in range(len(lengths))], dim=1)
    for ours, truth in zip(outcome(differential_attention, *case, plan=plan, cu_seqlens=ends), outcome(documents, *case)):
        torch.testing.assert_close(ours, truth, atol=1e-11, rtol=1e-9)

@plans
@pytest.mark.parametrize('chunks', [[1]*12, [5, 1, 4, 2], [11, 1]])
def test_with_a_cache_as_without(plan, chunks):
    "Keys lie in a longer buffer, as a cache holds them."
    q, k, v, lam, _ = example(3, 12, 2, 3, 4, 12)
    buffers = [F.pad(x, (0, 0, 0, 5), value=float('nan')) for x in (k, v)]
    seen, parts = 0, []
    for n in chunks:
        parts.append(differential_attention(q[:, seen:seen + n], *(x[:, :, :seen + n] for x in buffers), lam, plan=plan))
        seen += n
    torch.testing.assert_close(torch.cat(parts, dim=1), differential_attention_reference(q, k, v, lam), atol=2e-6, rtol=1e-5)

@pytest.mark.parametrize('plan', ['wide', 'four', 'tiles'])   # torch's CPU kernel takes no values wider than keys, so 'two' is another, which copies
def test_keys_and_values_are_not_repeated(plan):
    "16 heads share a pair of keys and values of 16 MiB, and there is one query: a copy for each head would be 256 MiB."
    q, k, v, lam, _ = example(1, 1, 1, 16, 256, 8192)
    with torch.no_grad(): extra = peak_memory(lambda: differential_attention(q, k, v, lam, plan=plan), [q, k, v, lam])
    assert extra < k.numel()*4/8

@pytest.mark.parametrize('masked', [False, True])
def test_training_memory_grows_with_tokens_not_with_their_square(masked):
    def extra(T):
        *inputs, _ = (x.requires_grad_() for x in example(1, T, 1, 3, 16, T))
        mask = torch.zeros(1, 1, T, T).masked_fill_(torch.ones(T, T).triu(1).bool(), float('-inf')) if masked else None
        fn = lambda: differential_attention(*inputs, plan='tiles', mask=mask).sum().backward()
        return peak_memory(fn, [*inputs, *([mask] if masked else [])])
    small, large = extra(1024), extra(4096)
    assert large < 5*small and large < 3*4096**2   # less than one map of a byte a number for each of three heads

@pytest.mark.parametrize('plan', ['two', 'four', 'tiles'])
@pytest.mark.parametrize('implementation', ['sdpa', 'eager'])
def test_the_model_by_every_plan(plan, implementation, monkeypatch):
    "Logits and gradients with padding and in packed rows."
    torch.manual_seed(0)
    model = MotifForCausalLM(tiny_motif_config(64, hidden_size=32, num_layers=2, attn_implementation=implementation)).train()
    ids = torch.randint(64, (2, 12), generator=torch.Generator().manual_seed(1))
    inputs = [dict(attention_mask=torch.tensor([[0]*3 + [1]*9, [1]*12])), dict(position_ids=torch.tensor([[*range(5), *range(7)], [*range(12)]]), use_cache=False)]
    def run():
        model.zero_grad()
        logits = torch.stack([model(ids, **kwargs).logits[:, 3:] for kwargs in inputs])
        logits.square().sum().backward()
        return [logits.detach(), *(p.grad for p in model.parameters())]
    results = []
    for name in ('wide', plan):
        monkeypatch.setenv('MOTIF_ATTENTION', name)
        results.append(run())
    for wide, other in zip(*results): torch.testing.assert_close(other, wide, atol=2e-5, rtol=1e-4)

def test_maps_come_out_of_eager():
    model = MotifForCausalLM(tiny_motif_config(64, hidden_size=32, num_layers=2, attn_implementation='eager'))
    [first, _] = model(torch.arange(6)[None], output_attentions=True).attentions
    assert first.shape == (1, 6, 6, 6)   # 2 groups of 2 signal heads and a noise head
    torch.testing.assert_close(first.sum(-1), torch.ones(1, 6, 6))

def test_the_variable_selects_and_a_wrong_one_is_named():
    code = "import torch; from motif_repro.kernels.differential_attention import *; print(attention_plan('sdpa', torch.device('cpu')))"
    run = lambda wish: subprocess.run([sys.executable, '-c', code], env=os.environ | {'MOTIF_ATTENTION': wish}, capture_output=True, text=True)
    assert run('four').stdout == 'four\n'
    assert "attention plan 'tile' is unknown; did you mean 'tiles'?" in run('tile').stderr

@pytest.mark.parametrize('change, said', [
    (dict(k=torch.zeros(2, 2, 7, 4)), r"k has shape \[2, 2, 7, 4\]; with q \[2, 7, 2, 3, 4\] it must be \[2, 2, tokens, 8\]"),
    (dict(v=torch.zeros(2, 3, 7, 8)), r"v has shape \[2, 3, 7, 8\]"),
    (dict(k=torch.zeros(2, 2, 6, 8), v=torch.zeros(2, 2, 6, 8)), 'k has 6 tokens, q 7'),
    (dict(q=torch.zeros(2, 7, 2, 1, 4)), 'q has 1 head a group'),
    (dict(cu_seqlens=[0, 7]), 'cu_seqlens needs a single row'),
    (dict(plan='tile'), "did you mean 'tiles'")])
def test_what_does_not_fit_is_refused(change, said):
    q, k, v, lam, _ = example(2, 7, 2, 3, 4, 7)
    with pytest.raises(UserError, match=said): differential_attention(**dict(q=q, k=k, v=v, lam=lam) | change)

@pytest.mark.parametrize('ends', [[0, 5, 11], [1, 12], [0, 5, 5, 12], [0, 7, 5, 12]])
def test_wrong_boundaries_are_refused(ends):
    q, k, v, lam, _ = example(1, 12, 2, 3, 4, 12)
    with pytest.raises(UserError, match='must rise from 0 to 12'): differential_attention(q, k, v, lam, cu_seqlens=ends)
