# Made by make_package.py from motif_repro/kernels/polynorm.py; change it there.
"""The activation of Motif, a cubic polynomial whose three powers are normalised before they are mixed, alone and fused with the product that follows."""


__all__ = ['BLOCK', 'polynorm_reference', 'upcast', 'quadratic', 'inverse_rms', 'row_blocks', 'forward_block', 'backward_block',
           'PolyNormFunction', 'flat', 'polynorm', 'polynorm_mul', 'PolyNorm']

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from .errors import UserError
from .backends import kernel_backend

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

def quadratic(z:Tensor, a:Tensor, b:Tensor, c:Tensor, out:Tensor|None=None)->Tensor:
    "a·z² + b·z + c for coefficients of each row, in one tensor."
    q = torch.mul(z, a, out=out).add_(b)
    return torch.addcmul(c, q, z, out=q)

def inverse_rms(z:Tensor, z2:Tensor, eps:float)->tuple[Tensor,Tensor,Tensor]:
    "r₁, r₂, r₃: the inverse root mean squares of z, z² and z³, each [rows, 1]."
    z4 = z2*z2
    r1, r2 = ((m.mean(-1, keepdim=True) + eps).rsqrt() for m in (z2, z4))
    return r1, r2, (z4.mul_(z2).mean(-1, keepdim=True) + eps).rsqrt()

BLOCK = 2**18   # numbers in a block of rows

def row_blocks(x:Tensor)->list[slice]:
    "Slices of the rows, 64 at most; one under `torch.compile`, which does this better."
    rows = len(x) if torch.compiler.is_compiling() else max(BLOCK//x.shape[-1], -(-len(x)//64))
    return [slice(i, i + max(rows, 1)) for i in range(0, len(x), max(rows, 1))]

def forward_block(x:Tensor, weight:Tensor, bias:Tensor, eps:float)->tuple[Tensor,...]:
    "A block of rows: y, x and x² in fp32, the three scaled weights w₀r₃, w₁r₂, w₂r₁, and the three inverse norms."
    z = upcast(x)
    z2 = z*z
    r1, r2, r3 = inverse_rms(z, z2, eps)
    a3, a2, a1 = weight[0]*r3, weight[1]*r2, weight[2]*r1
    q = quadratic(z, a3, a2, a1)
    return torch.addcmul(bias, q, z, out=q), z, z2, (a3, a2, a1), (r3, r2, r1)

def backward_block(x, up, grad, weight, bias, eps, dx, dup)->Tensor:
    "Write the gradients of a block of rows into `dx` and `dup`; returns those of weight and bias, [rows, 4]."
    (y, z, z2, (a3, a2, a1), (r3, r2, r1)), g = forward_block(x, weight, bias, eps), upcast(grad)
    if up is not None:
        torch.mul(y, g, out=dup)
        g = torch.mul(g, up, out=y)
    gz = g*z
    s1, s2 = gz.sum(-1, keepdim=True), (gz*z).sum(-1, keepdim=True)
    s3, sum_g, H = gz.mul_(z2).sum(-1, keepdim=True), g.sum(-1, keepdim=True), x.shape[-1]
    through_power = quadratic(z, 3*a3, 2*a2, a1, out=gz).mul_(g)
    through_norm = quadratic(z2, 3/H*a3*r3*r3*s3, 2/H*a2*r2*r2*s2, 1/H*a1*r1*r1*s1)
    dx.copy_(through_power.addcmul_(through_norm, z, value=-1))
    return torch.cat([r3*s3, r2*s2, r1*s1, sum_g], -1)

class PolyNormFunction(torch.autograd.Function):
    "PolyNorm, times `up` where there is one, with its derivative written out."
    @staticmethod
    def forward(ctx, x, up, weight, bias, eps):
        ctx.save_for_backward(x, up, weight, bias)
        ctx.eps, w, b = eps, upcast(weight), upcast(bias)
        rows, ups = flat(x), None if up is None else flat(up)
        out = torch.empty_like(rows, dtype=x.dtype if up is None else torch.promote_types(x.dtype, up.dtype))
        for r in row_blocks(rows):
            y = forward_block(rows[r], w, b, eps)[0]
            if up is None: out[r] = y
            else: torch.mul(y, ups[r], out=out[r])
        return out.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, up, weight, bias = ctx.saved_tensors
        w, b, rows, grads, ups = upcast(weight), upcast(bias), flat(x), flat(grad), None if up is None else flat(up)
        dx, dup = torch.empty_like(rows), None if up is None else torch.empty_like(ups)
        small = w.new_empty(len(rows), 4)
        for r in row_blocks(rows):
            small[r] = backward_block(rows[r], None if up is None else ups[r], grads[r], w, b, ctx.eps, dx[r], None if up is None else dup[r])
        small = small.sum(0)
        return dx.view(x.shape), None if up is None else dup.view(up.shape), small[:3].to(weight.dtype), small[3:].to(bias.dtype), None

def flat(x:Tensor)->Tensor:
    "All but the last dimension in one: [rows, H]."
    return x.reshape(-1, x.shape[-1])

def _function(device:torch.device, backend:str|None)->type:
    "The autograd function of the chosen back end."
    if kernel_backend(device, backend) == 'torch': return PolyNormFunction
    from .polynorm_triton import PolyNormTriton
    return PolyNormTriton

def polynorm(
    x:Tensor,       # [..., H]
    weight:Tensor,  # of the cubic, the quadratic and the linear term, [3]
    bias:Tensor,    # [1]
    eps:float=1e-6,
    *,
    backend:str|None=None,  # 'torch' or 'triton'; None: what is at hand
)->Tensor:          # [..., H]
    "PolyNorm (arXiv 2411.03884), computed in fp32 at least, returned in the type of `x`."
    return _function(x.device, backend).apply(x, None, weight, bias, eps)

def polynorm_mul(
    gate:Tensor,    # [..., H]
    up:Tensor,      # [..., H]
    weight:Tensor,  # of the cubic, the quadratic and the linear term, [3]
    bias:Tensor,    # [1]
    eps:float=1e-6,
    *,
    backend:str|None=None,  # 'torch' or 'triton'; None: what is at hand
)->Tensor:          # [..., H]
    "polynorm(gate)·up, rounded once; for the backward only the inputs are kept."
    if gate.shape != up.shape: raise UserError(f"polynorm_mul: up has shape {list(up.shape)}, gate {list(gate.shape)}; they must be equal")
    return _function(gate.device, backend).apply(gate, up, weight, bias, eps)

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
    def forward(self,
        x:Tensor,            # [..., H]
        up:Tensor|None=None, # [..., H]; multiplied in the same pass
    )->Tensor:               # [..., H]
        "PolyNorm of `x`, times `up` where it is given."
        if up is None: return polynorm(x, self.weight, self.bias, self.eps)
        return polynorm_mul(x, up, self.weight, self.bias, self.eps)
    def extra_repr(self): return f"eps={self.eps}"
