# Made by make_package.py from motif_repro/kernels/polynorm.py; change it there.
"""The activation of Motif: a cubic polynomial whose three powers are normalised before they are mixed."""


__all__ = ['polynorm_reference', 'upcast', 'quadratic', 'inverse_rms', 'PolyNormFunction', 'polynorm', 'PolyNorm']

import torch
from torch import Tensor, nn

def polynorm_reference(
    x:Tensor,       # [..., H]
    weight:Tensor,  # of the cubic, the quadratic and the linear term, [3]
    bias:Tensor,    # [1]
    eps:float=1e-6,
)->Tensor:          # [..., H]
    "PolyNorm as its equation reads; computed in fp32 at least, returned in the type of `x`."
    def n(z): return z*(z.square().mean(-1, keepdim=True) + eps).rsqrt()
    z, w = upcast(x), upcast(weight)
    return (w[0]*n(z**3) + w[1]*n(z**2) + w[2]*n(z) + upcast(bias)).to(x.dtype)

def upcast(x:Tensor)->Tensor:
    "At least fp32: in bf16, cubes and their means would lose what they are needed for."
    return x.to(torch.promote_types(x.dtype, torch.float32))

def quadratic(z:Tensor, a:Tensor, b:Tensor, c:Tensor)->Tensor:
    "a·z² + b·z + c for coefficients of each row, in one new tensor."
    return (z*a).add_(b).mul_(z).add_(c)

def inverse_rms(z:Tensor, eps:float)->tuple[Tensor,Tensor,Tensor]:
    "r₁, r₂, r₃: the inverse root mean squares of z, z² and z³, each [..., 1]."
    z2 = z*z
    z4 = z2*z2
    return tuple((m.mean(-1, keepdim=True) + eps).rsqrt() for m in (z2, z4, z4.mul(z2)))

class PolyNormFunction(torch.autograd.Function):
    "PolyNorm with its derivative written out."
    @staticmethod
    def forward(ctx, x, weight, bias, eps):
        z, (w3, w2, w1) = upcast(x), upcast(weight)
        r1, r2, r3 = inverse_rms(z, eps)
        ctx.save_for_backward(x, weight, bias, r1, r2, r3)
        return quadratic(z, w3*r3, w2*r2, w1*r1).mul_(z).add_(upcast(bias)).to(x.dtype)

    @staticmethod
    def backward(ctx, grad):
        x, weight, bias, r1, r2, r3 = ctx.saved_tensors
        z, g, (w3, w2, w1) = upcast(x), upcast(grad), upcast(weight)
        z2, gz = z*z, g*z
        s1, s2, s3 = (s.sum(-1, keepdim=True) for s in (gz, gz*z, gz*z2))
        through_power = quadratic(z, 3*w3*r3, 2*w2*r2, w1*r1).mul_(g)
        H = x.shape[-1]
        through_norm = quadratic(z2, 3/H*w3*r3**3*s3, 2/H*w2*r2**3*s2, 1/H*w1*r1**3*s1).mul_(z)
        grad_weight = torch.stack([(r*s).sum() for r, s in ((r3, s3), (r2, s2), (r1, s1))])
        return through_power.sub_(through_norm).to(x.dtype), grad_weight.to(weight.dtype), g.sum().view(1).to(bias.dtype), None

def polynorm(
    x:Tensor,       # [..., H]
    weight:Tensor,  # of the cubic, the quadratic and the linear term, [3]
    bias:Tensor,    # [1]
    eps:float=1e-6,
)->Tensor:          # [..., H]
    "PolyNorm (arXiv 2411.03884), computed in fp32 at least, returned in the type of `x`."
    return PolyNormFunction.apply(x, weight, bias, eps)

class PolyNorm(nn.Module):
    "PolyNorm with its learned weights: 1/3 each, no bias at first."
    def __init__(self, eps:float=1e-6):
        super().__init__()
        self.eps = eps
        self.weight, self.bias = nn.Parameter(torch.empty(3)), nn.Parameter(torch.empty(1))
        self.reset_parameters()
    def reset_parameters(self):
        nn.init.constant_(self.weight, 1/3)
        nn.init.zeros_(self.bias)
    def forward(self, x:Tensor)->Tensor: return polynorm(x, self.weight, self.bias, self.eps)
    def extra_repr(self): return f"eps={self.eps}"
