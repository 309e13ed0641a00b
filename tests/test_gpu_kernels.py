"The kernels on a CUDA device: `make test-gpu`."
import pytest
import torch

from motif_repro.kernels.backends import backend_report
from motif_repro.kernels.linear_logprob import errors_against_truth, linear_logprob, linear_logprob_reference
from motif_repro.kernels.polynorm import polynorm_mul, polynorm_reference

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA device')]
OPTIONS = [{}, dict(temperature=0.7, softcap=20.)]


def test_triton_is_what_runs():
    assert backend_report() == 'linear_logprob: triton (CUDA device)\npolynorm: triton (CUDA device)'

def on_gpu(hidden, weight, targets, **options):
    "`linear_logprob` for inputs that a CPU test made, by the Triton kernels."
    return [x.cpu() for x in linear_logprob(hidden.cuda(), weight.cuda(), targets.cuda(), backend='triton', **options)]

def reference_on_gpu(hidden, weight, targets, **options):
    return [x.cpu() for x in linear_logprob_reference(hidden.cuda(), weight.cuda(), targets.cuda(), **options)]

@pytest.mark.parametrize('options', OPTIONS, ids=str)
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize('shape', [(1, 31, 47), (123, 48, 4099), (4500, 256, 9001)], ids=str)
def test_logprob_is_as_near_the_truth_as_plain_torch(shape, dtype, options):
    plain, ours = (errors_against_truth(shape, dtype, fn=fn, **options) for fn in (reference_on_gpu, on_gpu))
    for name in ours: assert ours[name] <= 2*plain[name] + 8*torch.finfo(dtype).eps, (name, ours, plain)

def logprob_inputs(N, D, V):
    random = torch.Generator('cuda').manual_seed(0)
    randn = lambda *size: torch.randn(*size, generator=random, device='cuda')
    hidden, weight, bias = (x.bfloat16().requires_grad_() for x in (randn(N, D), randn(V, D)/D**.5, randn(V)))
    return hidden, weight, bias, torch.randint(V, (N,), generator=random, device='cuda'), 0.5 + torch.rand(N, generator=random, device='cuda')

@pytest.mark.parametrize('mode', ['recompute', 'one_pass'])
def test_back_ends_agree(mode):
    hidden, weight, bias, targets, temperature = logprob_inputs(5000, 256, 9000)
    targets[::7] = -100
    options = dict(mode=mode, token_weights=temperature) if mode == 'one_pass' else {}
    found = []
    for backend in ('torch', 'triton'):
        logp, entropy = linear_logprob(hidden, weight, targets, bias=bias, temperature=temperature, backend=backend, **options)
        found.append([logp, entropy, *torch.autograd.grad((logp*temperature).sum()/3, (hidden, weight, bias))])
    for a, b in zip(*found): assert (a - b).abs().max() <= 0.02*b.abs().max()

def test_the_same_number_in_every_run():
    hidden, weight, bias, targets, _ = logprob_inputs(3000, 128, 5000)
    def run(): return torch.autograd.grad(sum(x.sum() for x in linear_logprob(hidden, weight, targets, bias=bias)), (hidden, weight, bias))
    for a, b in zip(run(), run()): assert torch.equal(a, b)

def test_more_logits_than_32_bits_count():
    "16,384 tokens × 219,520 words: offsets beyond 2³¹, in one chunk of one pass too."
    hidden, weight, _, targets, _ = logprob_inputs(16_384, 64, 219_520)
    token_weights = torch.full((16_384,), 1/16_384, device='cuda')
    from motif_repro.kernels import linear_logprob_triton
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear_logprob_triton, 'ONE_PASS_BYTES', 2**33)
        found = []
        for options in ({}, dict(mode='one_pass', token_weights=token_weights)):
            logp, _ = linear_logprob(hidden, weight, targets, **options)
            found.append([logp, *torch.autograd.grad(logp.mean(), (hidden, weight))])
    for a, b in zip(*found): assert (a - b).abs().max() <= 0.01*a.abs().max()
    last = linear_logprob_reference(hidden[-64:].double(), weight.double(), targets[-64:])[0]
    assert (found[1][0][-64:] - last).abs().max() < 0.05

@pytest.mark.parametrize('fused', [True, False])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize('shape', [(1, 31), (2, 3, 47), (123, 5000), (64, 16_384)], ids=str)
def test_polynorm_is_as_near_the_truth_as_autograd(shape, dtype, fused):
    torch.manual_seed(0)
    inputs, upstream = [torch.randn(size, device='cuda').to(dtype) for size in ((3,), (1,), *[shape]*(1 + fused))], torch.randn(shape, device='cuda')
    def reference(weight, bias, gate, up=1): return polynorm_reference(gate, weight, bias)*up
    def ours(weight, bias, gate, up=None): return polynorm_mul(gate, torch.ones_like(gate) if up is None else up, weight, bias, backend='triton')
    def outcome(fn, inputs):
        inputs = [x.clone().requires_grad_() for x in inputs]
        out = fn(*inputs)
        return [x.double() for x in (out, *torch.autograd.grad(out, inputs, upstream.to(dtype).to(out.dtype)))]
    truth = outcome(reference, [x.double() for x in inputs])
    for t, plain, found in zip(truth, outcome(reference, inputs), outcome(ours, inputs)):
        assert (found - t).abs().max() <= 2*(plain - t).abs().max() + 8*torch.finfo(dtype).eps*t.abs().max()

def test_polynorm_of_more_numbers_than_32_bits_count():
    gate = torch.randn(2**17 + 3, 2**14, device='cuda', dtype=torch.bfloat16)
    weight, bias = torch.full((3,), 1/3, device='cuda'), torch.zeros(1, device='cuda')
    out = polynorm_mul(gate, gate, weight, bias)
    torch.testing.assert_close(out[-3:], (polynorm_reference(gate[-3:].float(), weight, bias)*gate[-3:]).bfloat16())
