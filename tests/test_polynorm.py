"PolyNorm in plain torch: shapes, types, scales and blocks that the notebook doesn't show."
import pytest
import torch
from torch.testing import assert_close

from motif_repro.core.measure import peak_memory
from motif_repro.kernels import polynorm as module
from motif_repro.kernels.polynorm import PolyNorm, polynorm, polynorm_mul, polynorm_reference


def outcome(fn, inputs, upstream):
    inputs = [x.clone().requires_grad_() for x in inputs]
    out = fn(*inputs)
    return [out, *torch.autograd.grad(out, inputs, upstream.to(out.dtype))]

def reference_mul(gate, up, weight, bias): return polynorm_reference(gate, weight, bias)*up

def random_inputs(shape, scale=1., dtype=torch.float32, seed=0):
    random = torch.Generator().manual_seed(seed)
    randn = lambda *size: torch.randn(*size, generator=random)
    return [x.to(dtype) for x in (scale*randn(*shape), randn(*shape), randn(3), randn(1))], randn(*shape)

def largest(found):
    "Of each result over all seeds."
    return [max(float(x.detach().double().abs().max()) for x in xs) for xs in zip(*found)]

@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize('shape', [(1, 31), (7, 5), (2, 3, 47), (31, 123), (4, 256)], ids=str)
@pytest.mark.parametrize('scale', [1e-3, 1., 30.])
def test_as_near_the_truth_as_autograd(shape, dtype, scale, monkeypatch):
    monkeypatch.setattr(module, 'BLOCK', 3*shape[-1])   # partial blocks
    truths, plain, ours = [], [], []
    for seed in range(20):
        inputs, upstream = random_inputs(shape, scale, dtype, seed)
        truths.append(outcome(reference_mul, [x.double() for x in inputs], upstream.to(dtype)))
        for errors, fn in ((plain, reference_mul), (ours, polynorm_mul)): errors.append([x - t for x, t in zip(outcome(fn, inputs, upstream), truths[-1])])
    for error, allowed, size in zip(largest(ours), largest(plain), largest(truths)): assert error <= 2*allowed + 4*torch.finfo(dtype).eps*size

def test_a_row_of_one_number_has_no_slope():
    "Its norm is itself: what is left is the sign."
    x = torch.tensor([[3.], [-2.]], requires_grad=True)
    out = polynorm(x, torch.tensor([1., 2., 4.]), torch.tensor([8.]))
    assert_close(out, torch.tensor([[15.], [5.]]))
    out.sum().backward()
    assert x.grad.abs().max() < 1e-5

def test_blocks_do_not_change_a_number(monkeypatch):
    inputs, upstream = random_inputs((200, 64))
    whole = outcome(polynorm_mul, inputs, upstream)
    monkeypatch.setattr(module, 'BLOCK', 64)
    assert len(module.row_blocks(inputs[0])) == 50   # of four rows: 64 blocks at most
    for a, b in zip(whole, outcome(polynorm_mul, inputs, upstream)): assert_close(a, b, rtol=0, atol=0)

def test_times_one_is_polynorm():
    (gate, up, weight, bias), upstream = random_inputs((5, 33))
    ones = outcome(lambda *t: polynorm_mul(t[0], torch.ones_like(up), *t[1:]), [gate, weight, bias], upstream)
    for a, b in zip(ones, outcome(polynorm, [gate, weight, bias], upstream)): assert_close(a, b)

def test_halves_of_one_projection_and_an_expanded_gradient():
    both, (_, _, weight, bias) = torch.randn(2, 3, 2*47), random_inputs((1, 1))[0]
    grads = []
    for fn in (polynorm_mul, reference_mul):
        x = both.clone().requires_grad_()
        fn(*x.chunk(2, -1), weight, bias).sum().backward()
        grads.append(x.grad)
    assert_close(*grads, rtol=1e-4, atol=1e-5)

def test_rows_of_other_types_and_no_rows():
    layer = PolyNorm()
    assert layer(torch.ones(2, 8).bfloat16(), torch.ones(2, 8)).dtype == torch.float32
    x = torch.zeros(0, 8, requires_grad=True)
    layer(x, x).sum().backward()
    assert x.grad.shape == (0, 8) and not layer.weight.grad.any()

def test_keeps_nothing_but_its_inputs():
    (gate, up, weight, bias), _ = random_inputs((2048, 64))
    inputs = [x.requires_grad_() for x in (gate, up, weight, bias)]
    held = []
    def forward(): held.append(polynorm_mul(*inputs))
    peak_memory(forward, inputs)
    kept = {t.data_ptr() for t in held[0].grad_fn.saved_tensors}
    assert kept == {x.data_ptr() for x in inputs}

def test_memory_of_a_step_is_its_results_and_one_block():
    (gate, up, weight, bias), upstream = random_inputs((8192, 256))
    inputs = [x.requires_grad_() for x in (gate, up, weight, bias)]
    peak = peak_memory(lambda: torch.autograd.grad(polynorm_mul(*inputs), inputs, upstream), [*inputs, upstream])
    results = 3*gate.nbytes   # the product, two gradients
    assert peak <= results + 8*4*module.BLOCK

def test_under_torch_compile_and_activation_checkpointing():
    from torch.utils.checkpoint import checkpoint
    layer, (inputs, _) = PolyNorm(), random_inputs((9, 16))
    gate, up = (x.requires_grad_() for x in inputs[:2])
    plain = torch.autograd.grad(layer(gate, up).square().sum(), (gate, up))
    again = torch.autograd.grad(checkpoint(layer, gate, up, use_reentrant=False).square().sum(), (gate, up))
    for a, b in zip(plain, again): assert_close(a, b, rtol=0, atol=0)
    compiled = torch.compile(layer, backend='aot_eager', fullgraph=True)
    for a, b in zip(plain, torch.autograd.grad(compiled(gate, up).square().sum(), (gate, up))): assert_close(a, b)
