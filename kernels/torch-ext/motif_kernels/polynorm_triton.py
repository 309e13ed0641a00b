# Made by make_package.py from motif_repro/kernels/polynorm_triton.py; change it there.
"""PolyNorm and its product in one Triton kernel a direction: every number of the intermediate width is read and written once."""


__all__ = ['load', 'inverse_rms', 'forward_kernel', 'backward_kernel', 'as_rows', 'stride', 'launch', 'PolyNormTriton']

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from .backends import WARPS, block_shape

@triton.jit
def load(place, inside, ACC:tl.constexpr):
    "Numbers in the type in which we compute; 0 outside."
    return tl.load(place, mask=inside, other=0.).to(ACC)

@triton.jit
def inverse_rms(sum2, sum4, sum6, width, eps):
    "r₁, r₂, r₃ from a row's sums of x², x⁴, x⁶."
    return 1/tl.sqrt(sum2/width + eps), 1/tl.sqrt(sum4/width + eps), 1/tl.sqrt(sum6/width + eps)

@triton.jit
def forward_kernel(x, x_stride, up, up_stride, weight, bias, out, num_rows, width, eps, ACC:tl.constexpr, ROWS:tl.constexpr, BLOCK:tl.constexpr):
    "PolyNorm of some rows, times `up` where there is one."
    row = tl.program_id(0)*ROWS + tl.arange(0, ROWS)
    live = (row < num_rows)[:, None]
    row = row.to(tl.int64)[:, None]
    # sums of x², x⁴, x⁶
    sum2, sum4, sum6 = tl.zeros([ROWS], ACC), tl.zeros([ROWS], ACC), tl.zeros([ROWS], ACC)
    for start in range(0, width, BLOCK):
        column = start + tl.arange(0, BLOCK)[None, :]
        z = load(x + row*x_stride + column, live & (column < width), ACC)
        z2 = z*z
        z4 = z2*z2
        sum2 += tl.sum(z2, 1)
        sum4 += tl.sum(z4, 1)
        sum6 += tl.sum(z4*z2, 1)
    r1, r2, r3 = inverse_rms(sum2, sum4, sum6, width, eps)
    a3, a2, a1 = tl.load(weight).to(ACC)*r3, tl.load(weight + 1).to(ACC)*r2, tl.load(weight + 2).to(ACC)*r1
    b = tl.load(bias).to(ACC)
    # the polynomial by Horner's rule
    for start in range(0, width, BLOCK):
        column = start + tl.arange(0, BLOCK)[None, :]
        inside = live & (column < width)
        z = load(x + row*x_stride + column, inside, ACC)
        y = ((a3[:, None]*z + a2[:, None])*z + a1[:, None])*z + b
        if up is not None: y *= load(up + row*up_stride + column, inside, ACC)
        tl.store(out + row*width + column, y.to(out.dtype.element_ty), mask=inside)

@triton.jit
def backward_kernel(x, x_stride, up, up_stride, grad, grad_stride, weight, bias, dx, dup, small, num_rows, width, eps,
                    ACC:tl.constexpr, ROWS:tl.constexpr, BLOCK:tl.constexpr):
    "Gradients of some rows, and their part of the weights' gradients."
    row = tl.program_id(0)*ROWS + tl.arange(0, ROWS)
    live = (row < num_rows)[:, None]
    row = row.to(tl.int64)[:, None]
    # sums of x², x⁴, x⁶; of g·x, g·x², g·x³, g
    sum2, sum4, sum6 = tl.zeros([ROWS], ACC), tl.zeros([ROWS], ACC), tl.zeros([ROWS], ACC)
    s1, s2, s3, s0 = tl.zeros([ROWS], ACC), tl.zeros([ROWS], ACC), tl.zeros([ROWS], ACC), tl.zeros([ROWS], ACC)
    for start in range(0, width, BLOCK):
        column = start + tl.arange(0, BLOCK)[None, :]
        inside = live & (column < width)
        z, g = load(x + row*x_stride + column, inside, ACC), load(grad + row*grad_stride + column, inside, ACC)
        if up is not None: g *= load(up + row*up_stride + column, inside, ACC)
        z2, gz = z*z, g*z
        z4 = z2*z2
        sum2 += tl.sum(z2, 1)
        sum4 += tl.sum(z4, 1)
        sum6 += tl.sum(z4*z2, 1)
        s0 += tl.sum(g, 1)
        s1 += tl.sum(gz, 1)
        s2 += tl.sum(gz*z, 1)
        s3 += tl.sum(gz*z2, 1)
    r1, r2, r3 = inverse_rms(sum2, sum4, sum6, width, eps)
    a3, a2, a1 = tl.load(weight).to(ACC)*r3, tl.load(weight + 1).to(ACC)*r2, tl.load(weight + 2).to(ACC)*r1
    k3, k2, k1 = 3*a3*r3*r3*s3/width, 2*a2*r2*r2*s2/width, a1*r1*r1*s1/width
    b = tl.load(bias).to(ACC)
    for start in range(0, width, BLOCK):
        column = start + tl.arange(0, BLOCK)[None, :]
        inside = live & (column < width)
        z, g = load(x + row*x_stride + column, inside, ACC), load(grad + row*grad_stride + column, inside, ACC)
        if up is not None:
            y = ((a3[:, None]*z + a2[:, None])*z + a1[:, None])*z + b
            tl.store(dup + row*width + column, (g*y).to(dup.dtype.element_ty), mask=inside)
            g *= load(up + row*up_stride + column, inside, ACC)
        z2 = z*z
        d = g*((3*a3[:, None]*z + 2*a2[:, None])*z + a1[:, None]) - z*((k3[:, None]*z2 + k2[:, None])*z2 + k1[:, None])
        tl.store(dx + row*width + column, d.to(dx.dtype.element_ty), mask=inside)
    # row by row: gradients of the cubic, quadratic and linear weight and of the bias
    tl.store(small + row*4, (r3*s3)[:, None], mask=live)
    tl.store(small + row*4 + 1, (r2*s2)[:, None], mask=live)
    tl.store(small + row*4 + 2, (r1*s1)[:, None], mask=live)
    tl.store(small + row*4 + 3, s0[:, None], mask=live)

def as_rows(x:Tensor|None)->Tensor|None:  # [..., H] → [rows, H]
    "All but the last dimension in one, copied only where the numbers of a row lie apart."
    if x is None: return None
    x = x.reshape(-1, x.shape[-1])
    return x if x.stride(-1) == 1 else x.contiguous()

def stride(x:Tensor|None)->int: return 0 if x is None else x.stride(0)

def launch(kernel, x, num_rows, width, *args):
    "Run a kernel over all rows."
    rows, columns = block_shape(width)
    acc = tl.float64 if x.dtype == torch.float64 else tl.float32
    with torch.cuda.device_of(x):
        if num_rows: kernel[(triton.cdiv(num_rows, rows),)](*args, ACC=acc, ROWS=rows, BLOCK=columns, num_warps=WARPS, enable_fp_fusion=True)

class PolyNormTriton(torch.autograd.Function):
    "PolyNorm, times `up` where there is one, on CUDA; keeps its inputs only."
    @staticmethod
    def forward(ctx, x, up, weight, bias, eps):
        ctx.save_for_backward(x, up, weight, bias)
        ctx.eps, rows, ups = eps, as_rows(x), as_rows(up)
        out = torch.empty(rows.shape, device=x.device, dtype=x.dtype if up is None else torch.promote_types(x.dtype, up.dtype))
        launch(forward_kernel, x, *rows.shape, rows, stride(rows), ups, stride(ups), weight, bias, out, *rows.shape, eps)
        return out.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        x, up, weight, bias = ctx.saved_tensors
        rows, ups, grads = as_rows(x), as_rows(up), as_rows(grad)
        dx, dup = (None if t is None else torch.empty(t.shape, device=t.device, dtype=t.dtype) for t in (rows, ups))
        small = torch.empty(len(rows), 4, device=x.device, dtype=torch.promote_types(x.dtype, torch.float32))
        launch(backward_kernel, x, *rows.shape, rows, stride(rows), ups, stride(ups), grads, stride(grads), weight, bias, dx, dup, small,
               *rows.shape, ctx.eps)
        small = small.sum(0)
        return dx.view(x.shape), None if up is None else dup.view(up.shape), small[:3].to(weight.dtype), small[3:].to(bias.dtype), None
