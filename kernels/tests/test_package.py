"""Tests of the package itself, as a builder of Hub kernels runs them: on the device at hand, against plain torch in float64."""
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parents[1]/'torch-ext'))
import motif_kernels

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'

def errors(fn, inputs, double_fn):
    "Largest errors of the value and of the gradients against float64, over the largest entry."
    def run(fn, inputs):
        out = fn(*inputs)
        return [out.detach(), *torch.autograd.grad(out.float().sum() if out.dtype != torch.float64 else out.sum(), inputs)]
    truth = run(double_fn, [t.detach().double().requires_grad_() for t in inputs])
    return [((a.double() - t).abs().max()/t.abs().max()).item() for a, t in zip(run(fn, inputs), truth)]

@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('mode', ['recompute', 'one_pass'])
@pytest.mark.parametrize('shape', [(1, 16, 32), (47, 64, 1000), (300, 64, 5000)])
def test_cross_entropy_is_as_close_to_the_truth_as_plain_torch(shape, mode, dtype):
    N, D, V = shape
    torch.manual_seed(0)
    h, w = (torch.randn(n, D, device=DEVICE, dtype=dtype).mul_(D**-0.25).requires_grad_() for n in (N, V))
    y = torch.randint(V, (N,), device=DEVICE)
    plain = lambda h, w: F.cross_entropy((h @ w.T).to(torch.promote_types(h.dtype, torch.float32)), y)
    ours = errors(lambda h, w: motif_kernels.linear_cross_entropy(h, w, y, mode=mode), (h, w), plain)
    for own, theirs in zip(ours, errors(plain, (h, w), plain)): assert own <= 2*theirs + 4*torch.finfo(dtype).eps

@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_polynorm_times_up_is_right(dtype):
    torch.manual_seed(0)
    inputs = [torch.randn(*s, device=DEVICE, dtype=dtype).requires_grad_() for s in ((33, 100), (33, 100), (3,), (1,))]
    def reference(gate, up, weight, bias):
        n = lambda z: z*(z.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
        g = gate.to(torch.promote_types(gate.dtype, torch.float32))
        return (weight[0]*n(g**3) + weight[1]*n(g**2) + weight[2]*n(g) + bias).to(gate.dtype)*up
    for own, theirs in zip(errors(motif_kernels.polynorm_mul, inputs, reference), errors(reference, inputs, reference)):
        assert own <= 2*theirs + 4*torch.finfo(dtype).eps

def test_it_says_which_back_end_runs():
    assert 'linear_logprob: ' in motif_kernels.backend_report()
