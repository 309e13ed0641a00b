"Checks of the Triton kernels for a process with TRITON_INTERPRET=1; test_triton.py starts it."
import pytest
import torch

from motif_repro.core.errors import UserError
from motif_repro.kernels import linear_logprob_triton
from motif_repro.kernels.linear_logprob_triton import LinearLogprobTriton

SHAPES = [(1, 1, 1), (1, 31, 47), (31, 8, 123), (47, 31, 33), (123, 16, 47)]   # N, D, V
OPTIONS = {'plain': {}, 'bias': dict(bias=True), 'temperature': dict(temperature=0.7), 'per token': dict(temperature='per token'), 'softcap': dict(softcap=3.),
           'all': dict(bias=True, temperature='per token', softcap=3.)}


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(linear_logprob_triton, 'ROWS', 16)
    monkeypatch.setattr(linear_logprob_triton, 'COLUMNS', 32)

def logprob_inputs(N, D, V, dtype, scale=1., bias=False, temperature=1., softcap=None, seed=0):
    "Tensors that need gradients, targets, options, upstream gradients of logp and entropy."
    random = torch.Generator().manual_seed(seed)
    randn = lambda *size: torch.randn(*size, generator=random)
    tensors = [(scale*randn(N, D)).to(dtype), randn(V, D).to(dtype), randn(V).to(dtype) if bias else None]
    if temperature == 'per token': temperature = 0.5 + torch.rand(N, generator=random)
    return tensors, torch.randint(V, (N,), generator=random), dict(temperature=temperature, softcap=softcap), torch.rand(2, N, generator=random) - 0.5

def plain_torch(hidden, weight, targets, bias, temperature, softcap, token_weights=None):
    "The equations in the precision of plain torch: products in the inputs' type, the rest in fp32 (fp64 from fp64)."
    up = lambda x: x.to(torch.promote_types(x.dtype, torch.float32))
    z = up(hidden @ weight.T)
    if bias is not None: z = z + up(bias)
    if softcap: z = softcap*torch.tanh(z/softcap)
    if isinstance(temperature, torch.Tensor): temperature = temperature[:, None].to(z.dtype)
    logp = (z/temperature).log_softmax(-1)
    return logp.gather(1, targets[:, None])[:, 0], -(logp.exp()*logp).sum(-1)

def logprob_outcome(fn, tensors, targets, options, upstream, token_weights=None):
    "Results and gradients in float64, by name."
    h, w, b = [None if x is None else x.clone().requires_grad_() for x in tensors]
    logp, entropy = fn(h, w, targets, b, options['temperature'], options['softcap'], token_weights)
    loss = (logp*upstream[0].to(logp.dtype)).sum()
    if token_weights is None: loss = loss + (entropy*upstream[1].to(logp.dtype)).sum()
    loss.backward()
    found = dict(logp=logp, entropy=entropy, hidden=h.grad, weight=w.grad) | ({} if b is None else dict(bias=b.grad))
    return {name: x.detach().double() for name, x in found.items()}

def assert_near_truth(ours, plain, truth, dtype, roundings=4):
    for name, t in truth.items():
        size = t.abs().max()
        error, allowed = ((x[name] - t).abs().max() for x in (ours, plain))
        assert error <= 2*allowed + roundings*torch.finfo(dtype).eps*max(size, 1e-3), f"{name}: error {error:.1e}, plain torch {allowed:.1e}, size {size:.1e}"

@pytest.mark.parametrize('shape', SHAPES, ids=str)
@pytest.mark.parametrize('option', OPTIONS)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_logprob_is_as_near_the_truth_as_plain_torch(shape, option, dtype):
    tensors, targets, options, upstream = logprob_inputs(*shape, dtype, **OPTIONS[option])
    double = [None if x is None else x.double() for x in tensors]
    truth = logprob_outcome(plain_torch, double, targets, options, upstream)
    plain, ours = (logprob_outcome(fn, tensors, targets, options, upstream) for fn in (plain_torch, LinearLogprobTriton.apply))
    assert_near_truth(ours, plain, truth, dtype)

@pytest.mark.parametrize('scale', [1e-4, 1e4])
def test_logprob_of_extreme_logits(scale):
    tensors, targets, options, upstream = logprob_inputs(31, 8, 123, torch.float32, scale)
    truth = logprob_outcome(plain_torch, [None if x is None else x.double() for x in tensors], targets, options, upstream)
    plain, ours = (logprob_outcome(fn, tensors, targets, options, upstream) for fn in (plain_torch, LinearLogprobTriton.apply))
    assert_near_truth(ours, plain, truth, torch.float32)

def test_logprob_with_forbidden_words():
    "A bias of -inf takes words out, here a whole tile of them."
    tensors, targets, options, upstream = logprob_inputs(5, 4, 100, torch.float32, bias=True)
    tensors[2][:40] = -torch.inf
    left = [tensors[0], tensors[1][40:], tensors[2][40:]]
    targets = 40 + targets % 60
    ours = logprob_outcome(LinearLogprobTriton.apply, tensors, targets, options, upstream)
    fewer = logprob_outcome(LinearLogprobTriton.apply, left, targets - 40, options, upstream)
    for name in ('logp', 'entropy', 'hidden'): torch.testing.assert_close(ours[name], fewer[name], rtol=1e-5, atol=1e-6)
    assert not ours['weight'][:40].any() and not ours['bias'][:40].any()

@pytest.mark.parametrize('option', OPTIONS)
@pytest.mark.parametrize('chunks', [1, 2])
def test_one_pass_equals_recompute(option, chunks, monkeypatch):
    "The weights are known beforehand, all but a factor."
    monkeypatch.setattr(linear_logprob_triton, 'ONE_PASS_BYTES', 128*47*4 if chunks == 2 else 2**20)
    tensors, targets, options, upstream = logprob_inputs(150, 8, 47, torch.float32, **OPTIONS[option])
    once = logprob_outcome(LinearLogprobTriton.apply, tensors, targets, options, upstream, -4*upstream[0])
    upstream[1] = 0
    again = logprob_outcome(LinearLogprobTriton.apply, tensors, targets, options, upstream)
    for name in again: torch.testing.assert_close(once[name], again[name], rtol=1e-5, atol=1e-5)

def test_one_pass_refuses_a_loss_of_other_weights():
    tensors, targets, options, upstream = logprob_inputs(7, 4, 13, torch.float32)
    with pytest.raises(UserError, match='token_weights do not match the loss'):
        logprob_outcome(LinearLogprobTriton.apply, tensors, targets, options, upstream, upstream[0].square())

def test_bf16_gradients_are_summed_in_fp32():
    "4,096 equal contributions of 1/256: added up in bf16 they stop growing."
    h = torch.full((4096, 1), 2**-8, dtype=torch.bfloat16)
    w = torch.zeros(2, 1, dtype=torch.bfloat16, requires_grad=True)
    for token_weights in (None, torch.ones(4096)):
        w.grad = None
        LinearLogprobTriton.apply(h, w, torch.zeros(4096, dtype=torch.int64), None, 1., None, token_weights)[0].sum().backward()
        assert w.grad.dtype == torch.bfloat16 and abs(w.grad[0].item() - 8) < 0.1

def test_a_frozen_input_costs_no_product(monkeypatch):
    (h, w, _), targets, _, weights = logprob_inputs(40, 8, 100, torch.float32)
    products, mm, add = [], torch.mm, linear_logprob_triton.add_product
    monkeypatch.setattr(torch, 'mm', lambda *args, **kw: (products.append(1), mm(*args, **kw))[1])
    monkeypatch.setattr(linear_logprob_triton, 'add_product', lambda *args: (products.append(1), add(*args)))
    def count(need_h, need_w, token_weights):
        products.clear()
        inputs = h.clone().requires_grad_(need_h), w.clone().requires_grad_(need_w)
        LinearLogprobTriton.apply(*inputs, targets, None, 1., None, token_weights)[0].mul(weights[0]).sum().backward()
        return len(products)
    NEEDS = (True, True), (True, False), (False, True)
    tiles = 3*4   # of 16 rows and 32 columns
    assert [count(*needs, None) for needs in NEEDS] == [4*tiles, 3*tiles, 3*tiles]
    assert [count(*needs, weights[0]) for needs in NEEDS] == [3, 2, 2]

def test_float64_is_refused():
    (h, w, _), targets, *_ = logprob_inputs(2, 3, 4, torch.float64)
    with pytest.raises(UserError, match="choose backend='torch'"): LinearLogprobTriton.apply(h, w, targets, None, 1., None, None)
