"linear_logprob: as exact as plain torch over odd shapes, options and extreme logits; and where it stands in a graph."
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from motif_repro.core.errors import UserError
from motif_repro.kernels import linear_logprob as module
from motif_repro.kernels.linear_logprob import errors_against_truth, linear_logprob, linear_logprob_reference

SHAPES = [(1, 1, 1), (1, 8, 5), (31, 47, 123), (513, 16, 2049), (7, 32, 4097)]
OPTIONS = [{}, dict(temperature=0.6), dict(softcap=3., temperature=2.), dict(ignore_index=0)]



@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('shape', SHAPES, ids=str)
@pytest.mark.parametrize('options', OPTIONS, ids=str)
def test_errors_are_those_of_plain_torch(shape, dtype, options):
    ours, plain = (errors_against_truth(shape, dtype, fn=fn, **options) for fn in (linear_logprob, linear_logprob_reference))
    for name in ours: assert ours[name] <= 2*plain[name] + 8*torch.finfo(dtype).eps, (name, ours, plain)

@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_one_pass_errs_as_plain_torch(shape, dtype, monkeypatch):
    monkeypatch.setattr(module, 'FEWEST_ROWS', 20)
    monkeypatch.setattr(module, 'BUFFER', 1000)
    N, D, V = shape
    torch.manual_seed(0)
    h, w, y, share = torch.randn(N, D).to(dtype), torch.randn(V, D).to(dtype), torch.randint(V, (N,)), torch.rand(N)
    def gradients(fn, dtype, **known):
        inputs = [x.to(dtype).requires_grad_() for x in (h, w)]
        logp = fn(*inputs, y, temperature=0.7, **known)[0]
        return [logp.detach().double(), *(g.double() for g in torch.autograd.grad((logp*share.to(logp.dtype)).sum(), inputs))]
    truth, plain = (gradients(linear_logprob_reference, t) for t in (torch.float64, dtype))
    for t, p, o in zip(truth, plain, gradients(linear_logprob, dtype, mode='one_pass', token_weights=share)):
        assert (o - t).abs().max() <= 2*(p - t).abs().max() + 8*torch.finfo(dtype).eps*t.abs().max()

@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(module, 'ROWS', 3)
    monkeypatch.setattr(module, 'COLUMNS', 5)

def test_many_small_tiles(small_tiles):
    for seed in range(200):
        each = torch.rand(11, generator=torch.Generator().manual_seed(seed)) + 0.5
        for dtype in (torch.float32, torch.bfloat16):
            ours, plain = (errors_against_truth((11, 6, 17), dtype, seed, fn, temperature=each.to(torch.promote_types(dtype, torch.float32)))
                           for fn in (linear_logprob, linear_logprob_reference))
            for name in ours: assert ours[name] <= 2*plain[name] + 8*torch.finfo(dtype).eps, (name, seed, dtype)

def test_one_pass_is_the_same_training(small_tiles, monkeypatch):
    monkeypatch.setattr(module, 'BUFFER', 3*17)
    monkeypatch.setattr(module, 'FEWEST_ROWS', 2)
    for seed in range(40):
        (h, w, b), y = random_case(N=11, D=6, V=17, seed=seed)
        y[seed % 11] = -100
        share = torch.rand(11, dtype=torch.float64).where(y != -100, 0)
        loss = lambda mode, **known: (linear_logprob(h, w, y, bias=b, temperature=0.7, mode=mode, **known)[0]*share).sum()*3
        for ours, known in zip(*(torch.autograd.grad(x, (h, w, b)) for x in (loss('one_pass', token_weights=share), loss('recompute')))):
            torch.testing.assert_close(ours, known)

def test_one_pass_refuses_a_loss_that_was_not_promised():
    (h, w, _), y = random_case()
    logp = lambda: linear_logprob(h, w, y, mode='one_pass', token_weights=torch.ones(5, dtype=torch.float64))[0]
    with pytest.raises(UserError, match='got another gradient'): (logp()*torch.arange(5)).sum().backward()
    total = logp().sum()
    total.backward(retain_graph=True)
    with pytest.raises(UserError, match='hands its gradients over once'): total.backward()

def test_rank_counts_likelier_words(small_tiles):
    (h, w, b), y = random_case(N=40, V=60)
    w.data[7] = w.data[3]       # two words that are always level
    b.data[7] = b.data[3]
    y[:2] = torch.tensor([3, 7])
    y[5] = -100
    z = h @ w.T + b
    expected = 1 + (z > z.gather(1, y.clamp(min=0)[:, None])).sum(1)
    expected[5] = 0
    *_, rank, best = linear_logprob(h, w, y, bias=b, return_rank=True)
    assert rank.tolist() == expected.tolist() and best.tolist() == (expected == 1).tolist() and not rank.requires_grad

def test_no_values_are_looked_at_in_a_simulation():
    from torch._subclasses.fake_tensor import FakeTensorMode
    with FakeTensorMode():
        h, w = (torch.empty(n, 8, requires_grad=True) for n in (6, 50))
        linear_logprob(h, w, torch.zeros(6, dtype=torch.int64))[0].sum().backward()
        assert w.grad.shape == w.shape

def test_beside_a_compiled_model():
    layer = nn.Linear(4, 4, bias=False).double()
    (h, w, _), y = random_case()
    def loss(layer): return -linear_logprob(layer(h), w, y)[0].sum()
    (plain,), (compiled,) = (torch.autograd.grad(f(layer), layer.weight) for f in (loss, torch.compile(loss, backend='aot_eager')))
    torch.testing.assert_close(plain, compiled)

def random_case(N=5, D=4, V=13, dtype=torch.float64, seed=0):
    torch.manual_seed(seed)
    return [torch.randn(*s, dtype=dtype).requires_grad_() for s in ((N, D), (V, D), (V,))], torch.randint(V, (N,))

def test_gradients_against_finite_differences(small_tiles):
    (h, w, b), y = random_case()
    y[2] = -100
    assert torch.autograd.gradcheck(lambda h, w, b: linear_logprob(h, w, y, bias=b, temperature=0.8, softcap=2.), (h, w, b))
    assert torch.autograd.gradcheck(lambda h, w: linear_logprob(h, w, y)[1], (h, w))

def test_extreme_logits_stay_finite():
    h = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    w = torch.linspace(-1, 1, 5000)[:, None].requires_grad_()
    logp, entropy = linear_logprob(h, w, torch.tensor([4999, 4999]))
    (logp.sum() + entropy.sum()).backward()
    for x in (logp, entropy, h.grad, w.grad): assert x.isfinite().all()
    assert (entropy >= -1e-6).all()

def test_all_ignored_keeps_the_graph_alive():
    (h, w, b), y = random_case()
    logp, entropy = linear_logprob(h, w, torch.full_like(y, -100), bias=b)
    assert logp.tolist() == [0]*5 == entropy.tolist()
    (logp.sum() + entropy.sum()).backward()
    for x in (h, w, b): assert x.grad.shape == x.shape and not x.grad.any()

def test_a_frozen_input_costs_no_product(monkeypatch):
    (h, w, _), y = random_case(dtype=torch.float32)
    calls, add = [], module._add_product
    monkeypatch.setattr(module, '_add_product', lambda *args: (calls.append(1), add(*args)))
    def products(h, w):
        calls.clear()
        linear_logprob(h, w, y)[0].sum().backward()
        return len(calls)
    assert [products(h, w), products(h, w.detach()), products(h.detach(), w)] == [2, 1, 1]

def test_bf16_gradients_of_the_weight_are_summed_in_fp32(small_tiles):
    "4,096 equal contributions of 1/256: added up in bf16 they stop growing."
    h = torch.full((4096, 1), 2**-8, dtype=torch.bfloat16)
    w = torch.zeros(2, 1, dtype=torch.bfloat16, requires_grad=True)
    linear_logprob(h, w, torch.zeros(4096, dtype=torch.int64))[0].sum().backward()
    assert w.grad.dtype == torch.bfloat16 and abs(w.grad[0].item() - 8) < 0.1

def test_bf16_gradients_of_hidden_states_are_summed_in_fp32(small_tiles):
    "The same over the vocabulary: 32,768 words, all equally likely, each with its part of 8."
    h = torch.zeros(1, 1, dtype=torch.bfloat16, requires_grad=True)
    w = torch.full((2**15, 1), 8., dtype=torch.bfloat16)
    w[0] = 0
    linear_logprob(h, w, torch.zeros(1, dtype=torch.int64))[0].sum().backward()
    assert abs(h.grad.item() + 8) < 0.1

def test_under_autocast_and_under_activation_checkpointing():
    (h, w, _), y = random_case(N=40, D=8, V=100, dtype=torch.float32)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        logp = linear_logprob(h, w, y)[0]
    assert logp.dtype == torch.float32
    torch.testing.assert_close(logp, linear_logprob_reference(h.bfloat16(), w.bfloat16(), y)[0])
    logp.sum().backward()
    assert h.grad.dtype == torch.float32
    plain = torch.autograd.grad(linear_logprob(h*2, w, y)[0].sum(), (h, w))
    again = torch.autograd.grad(checkpoint(lambda h: linear_logprob(h*2, w, y)[0], h, use_reentrant=False).sum(), (h, w))
    for a, b in zip(plain, again): torch.testing.assert_close(a, b)

def test_strided_inputs_and_tied_weights():
    embedding = nn.Embedding(50, 8)
    ids, y = torch.randint(50, (20,)), torch.randint(50, (20,))
    x = lambda fn: torch.autograd.grad(fn(embedding(ids), embedding.weight, y)[0].sum(), embedding.weight)[0]
    torch.testing.assert_close(x(linear_logprob), x(linear_logprob_reference))
    h, w = torch.randn(8, 40).T[::2].requires_grad_(), torch.randn(8, 50).T.requires_grad_()
    for a, b in zip(*(torch.autograd.grad(fn(h, w, y)[1].sum(), (h, w)) for fn in (linear_logprob, linear_logprob_reference))):
        torch.testing.assert_close(a, b)

@pytest.mark.parametrize('change, words', [
    (dict(hidden=torch.ones(1, 2, 4)), 'hidden has shape [1, 2, 4]'), (dict(weight=torch.ones(5)), 'weight has shape [5]'),
    (dict(targets=torch.zeros(3, dtype=torch.int64)), 'targets has shape [3]'), (dict(targets=torch.zeros(2)), 'targets is torch.float32'),
    (dict(targets=torch.tensor([0, -1])), 'targets [1] is -1'), (dict(bias=torch.ones(4)), 'bias has shape [4]'),
    (dict(temperature=torch.ones(3)), 'temperature has shape [3]'), (dict(temperature=torch.tensor([1., 0.])), 'temperature is 0.0'),
    (dict(mode='onepass'), "did you mean 'one_pass'"), (dict(mode='one_pass'), "token_weights are what mode='one_pass' needs"),
    (dict(token_weights=torch.ones(2)), "used by mode='one_pass' only"), (dict(weight=torch.ones(5, 4).bfloat16()), 'weight is torch.bfloat16, hidden torch.float32'), (dict(softcap=-1.), 'softcap is -1.0'),
])
def test_refusals_name_the_argument(change, words):
    good = dict(hidden=torch.ones(2, 4), weight=torch.ones(5, 4), targets=torch.zeros(2, dtype=torch.int64))
    with pytest.raises(UserError) as e: linear_logprob(**good | change)
    assert words in str(e.value)
