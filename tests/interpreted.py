"Checks of the Triton kernels for a process with TRITON_INTERPRET=1; test_triton.py starts it."
import pytest
import torch

from motif_repro.core.errors import UserError
from motif_repro.kernels import linear_logprob_triton
from motif_repro.kernels.linear_logprob import linear_logprob
from motif_repro.kernels.linear_logprob_triton import LinearLogprobTriton
from motif_repro.kernels.polynorm import polynorm, polynorm_mul, polynorm_reference

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

CASES = [(shape, 'all') for shape in SHAPES] + [((31, 8, 123), option) for option in OPTIONS if option != 'all']

@pytest.mark.parametrize('shape, option', CASES, ids=str)
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

@pytest.mark.parametrize('option, chunks', [('plain', 1), ('all', 2)])
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
    with pytest.raises(UserError, match="mend token_weights or use mode='recompute'"):
        logprob_outcome(LinearLogprobTriton.apply, tensors, targets, options, upstream, upstream[0].square())

@pytest.mark.parametrize('mode', ['recompute', 'one_pass'])
def test_linear_logprob_with_ignored_targets(mode):
    "Through the public function: both back ends alike, and zeros where nothing is left to learn."
    (h, w, b), targets, options, upstream = logprob_inputs(31, 8, 123, torch.float32, **OPTIONS['all'])
    if mode == 'one_pass': options |= dict(mode=mode, token_weights=2*upstream[0])
    def outcome(targets, backend):
        inputs = [x.clone().requires_grad_() for x in (h, w, b)]
        out = linear_logprob(inputs[0], inputs[1], targets, bias=inputs[2], backend=backend, **options)
        return [*out, *torch.autograd.grad((out[0]*upstream[0]).sum(), inputs)]
    targets[::3] = -100
    for a, b_ in zip(outcome(targets, 'triton'), outcome(targets, 'torch')): torch.testing.assert_close(a, b_, rtol=1e-5, atol=2e-6)
    for a in outcome(torch.full_like(targets, -100), 'triton'): assert not a.any()

def test_one_pass_hands_over_once():
    (h, w, _), targets, _, upstream = logprob_inputs(5, 4, 13, torch.float32)
    loss = LinearLogprobTriton.apply(h.requires_grad_(), w, targets, None, 1., None, upstream[0])[0].mul(upstream[0]).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(UserError, match='hands its gradients over once'): loss.backward()

@pytest.mark.parametrize('mode', ['recompute', 'one_pass'])
def test_bf16_gradients_are_summed_in_fp32(mode, monkeypatch):
    monkeypatch.setattr(linear_logprob_triton, 'ONE_PASS_BYTES', 1)   # 128 rows, the fewest
    types, add = [], linear_logprob_triton.add_product
    monkeypatch.setattr(linear_logprob_triton, 'add_product', lambda total, a, b: (types.append(total.dtype), add(total, a, b)))
    h, w = torch.ones(200, 1, dtype=torch.bfloat16), torch.zeros(2, 1, dtype=torch.bfloat16)
    token_weights = torch.ones(200) if mode == 'one_pass' else None
    LinearLogprobTriton.apply(h.requires_grad_(), w.requires_grad_(), torch.zeros(200, dtype=torch.int64), None, 1., None, token_weights)[0].sum().backward()
    assert set(types) == {torch.float32} and len(types) > 1 and w.grad.tolist() == [[100], [-100]]

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

POLYNORM_SHAPES = [(1, 2), (1, 31), (2, 3, 47), (5, 123), (2, 5000)]   # the last in two blocks a row

def polynorm_outcome(fn, inputs, upstream):
    "Output and gradients in float64, by name."
    inputs = [x.clone().requires_grad_() for x in inputs]
    out = fn(*inputs)
    return {name: x.detach().double() for name, x in zip(('out', 'weight', 'bias', 'gate', 'up'), (out, *torch.autograd.grad(out, inputs, upstream.to(out.dtype))))}

POLYNORM_CASES = [(shape, scale, True) for shape in POLYNORM_SHAPES for scale in (1., 30.)] + [((2, 3, 47), 1e-3, True), ((2, 3, 47), 1., False)]

@pytest.mark.parametrize('shape, scale, fused', POLYNORM_CASES, ids=str)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_polynorm_is_as_near_the_truth_as_autograd(shape, scale, dtype, fused):
    random = torch.Generator().manual_seed(0)
    sizes = [(3,), (1,), *[shape]*(1 + fused)]
    inputs = [(torch.randn(size, generator=random)*(scale if i == 2 else 1)).to(dtype) for i, size in enumerate(sizes)]
    upstream = torch.randn(shape, generator=random)
    def plain(weight, bias, gate, up=1): return polynorm_reference(gate, weight, bias)*up
    def ours(weight, bias, gate, up=None):
        return polynorm(gate, weight, bias, backend='triton') if up is None else polynorm_mul(gate, up, weight, bias, backend='triton')
    truth = polynorm_outcome(plain, [x.double() for x in inputs], upstream.to(dtype))
    assert_near_truth(polynorm_outcome(ours, inputs, upstream), polynorm_outcome(plain, inputs, upstream), truth, dtype, roundings=8)

def test_polynorm_of_halves_of_one_projection_and_of_an_expanded_gradient():
    both, weight, bias = torch.randn(6, 2*47), torch.randn(3), torch.randn(1)
    grads = []
    for backend in ('torch', 'triton'):
        x = both.clone().requires_grad_()
        polynorm_mul(*x.chunk(2, -1), weight, bias, backend=backend).sum().backward()
        grads.append(x.grad)
    torch.testing.assert_close(*grads)

def test_polynorm_of_no_rows():
    x, weight = torch.zeros(0, 8, requires_grad=True), torch.ones(3, requires_grad=True)
    polynorm(x, weight, torch.zeros(1), backend='triton').sum().backward()
    assert x.grad.shape == (0, 8) and not weight.grad.any()
