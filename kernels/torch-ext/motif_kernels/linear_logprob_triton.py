# Made by make_package.py from motif_repro/kernels/linear_logprob_triton.py; change it there.
"""`linear_logprob` on CUDA: the matrix products by cuBLAS, tile by tile, and everything between them in two Triton kernels."""


__all__ = ['ROWS', 'COLUMNS', 'ONE_PASS_BYTES', 'HANDED_OVER', 'tanh', 'load_logits', 'fold_kernel', 'differentiate_kernel',
           'Tokens', 'start_tokens', 'slices', 'tiles', 'add_product', 'recomputed_gradients', 'chunk_rows', 'one_pass',
           'LinearLogprobTriton', 'recompute_backward', 'scale_gradients']

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from .errors import UserError
from .backends import WARPS, block_shape
from .linear_logprob import multiple_of

@triton.jit
def tanh(y):
    "tanh and its derivative; the error of either is within two roundings."
    e = tl.exp(-2*tl.abs(y))
    y2 = y*y
    series = y*(1 + y2*(-1/3 + y2*(2/15 + y2*(-17/315 + y2*(62/2835)))))   # the next term is below 6e-8 of it
    far = (1 - e)/(1 + e)
    return tl.where(tl.abs(y) < 0.3, series, tl.where(y < 0, -far, far)), 4*e/((1 + e)*(1 + e))

@triton.jit
def load_logits(place, column, inside, bias, temperature, softcap):
    "Logits z in fp32, -1e30 where there is none, and dz/d(raw logit)."
    z = tl.load(place, mask=inside, other=0.).to(tl.float32)
    slope = 1/temperature
    if bias is not None: z += tl.load(bias + column, mask=inside, other=0.).to(tl.float32)
    if softcap is not None:
        bent, derivative = tanh(z/softcap)
        z = softcap*bent
        slope = slope*derivative
    return tl.where(inside, z/temperature, -1e30), slope

@triton.jit(do_not_specialize=['num_rows', 'first_row', 'first_column'])
def fold_kernel(tile, stride, num_rows, num_columns, first_row, first_column, bias, targets, temperature, m, s0, s1, chosen, softcap,
                ROWS:tl.constexpr, BLOCK:tl.constexpr):
    "Fold a tile of raw logits into the running sums of its rows."
    row = tl.program_id(0)*ROWS + tl.arange(0, ROWS)
    live = row < num_rows
    tile += row.to(tl.int64)*stride
    token = first_row + row
    t, top = tl.load(temperature + token, mask=live, other=1.), tl.load(m + token, mask=live, other=0.)
    sum0, sum1 = tl.load(s0 + token, mask=live, other=1.), tl.load(s1 + token, mask=live, other=0.)
    for start in range(0, num_columns, BLOCK):
        column = start + tl.arange(0, BLOCK)[None, :]
        inside = live[:, None] & (column < num_columns)
        z, _ = load_logits(tile[:, None] + column, first_column + column, inside, bias, t[:, None], softcap)
        # new maximum m', and the old sums relative to it
        new = tl.maximum(top, tl.max(z, 1))
        shift = top - new
        decay = tl.exp(shift)
        # this block's part of S1 and S0; where e^(z-m) is 0, its product with z - m is too, also if that is infinite
        u = z - new[:, None]
        e = tl.exp(u)
        sum1 = decay*(sum1 + shift*sum0) + tl.sum(tl.where(e == 0, 0., e*u), 1)
        sum0 = decay*sum0 + tl.sum(e, 1)
        top = new
    tl.store(m + token, top, mask=live)
    tl.store(s0 + token, sum0, mask=live)
    tl.store(s1 + token, sum1, mask=live)
    # the target's logit, if the tile holds it
    target = tl.load(targets + token, mask=live, other=0)
    here = live & (target >= first_column) & (target < first_column + num_columns)
    z, _ = load_logits(tile + (target - first_column), target, here, bias, t, softcap)
    tl.store(chosen + token, z, mask=here)

@triton.jit(do_not_specialize=['num_rows', 'first_row', 'first_column'])
def differentiate_kernel(tile, stride, num_rows, num_columns, first_row, first_column, bias, targets, temperature, m, s0, s1, grad_logp, grad_entropy,
                         softcap, ROWS:tl.constexpr, BLOCK:tl.constexpr):
    "Turn a tile of raw logits, in place, into the loss's gradient in respect of them."
    row = tl.program_id(0)*ROWS + tl.arange(0, ROWS)
    live = row < num_rows
    tile += row.to(tl.int64)*stride
    token = first_row + row
    t, top = tl.load(temperature + token, mask=live, other=1.), tl.load(m + token, mask=live, other=0.)
    share, g = 1/tl.load(s0 + token, mask=live, other=1.), tl.load(grad_logp + token, mask=live, other=0.)
    target = tl.load(targets + token, mask=live, other=0)
    if grad_entropy is not None:
        g_entropy, mean = tl.load(grad_entropy + token, mask=live, other=0.), tl.load(s1 + token, mask=live, other=0.)*share
    for start in range(0, num_columns, BLOCK):
        column = start + tl.arange(0, BLOCK)[None, :]
        inside = live[:, None] & (column < num_columns)
        z, slope = load_logits(tile[:, None] + column, first_column + column, inside, bias, t[:, None], softcap)
        u = z - top[:, None]
        p = tl.exp(u)*share[:, None]
        # terms of softmax, entropy and target, then temperature and soft cap
        pull = g[:, None]
        if grad_entropy is not None: pull = pull + g_entropy[:, None]*tl.where(p == 0, 0., u - mean[:, None])
        d = (tl.where(first_column + column == target[:, None], g[:, None], 0.) - p*pull)*slope
        tl.store(tile[:, None] + column, d.to(tile.dtype.element_ty), mask=inside)

@dataclass
class Tokens:
    "What is known of each token: its options, and the running sums over the vocabulary."
    targets: Tensor
    temperature: Tensor
    bias: Tensor|None
    softcap: float|None
    m: Tensor        # largest logit so far
    s0: Tensor       # sum of exp(z - m)
    s1: Tensor       # sum of exp(z - m)·(z - m)
    chosen: Tensor   # the target's logit

    def launch(self, kernel, tile, first_row, first_column, *results):
        "Run a kernel over a tile of raw logits whose first row and column are those."
        rows, columns = block_shape(tile.shape[1])
        kernel[(triton.cdiv(len(tile), rows),)](tile, tile.stride(0), *tile.shape, first_row, first_column, self.bias, self.targets, self.temperature,
                                                self.m, self.s0, self.s1, *results, self.softcap, ROWS=rows, BLOCK=columns, num_warps=WARPS, enable_fp_fusion=True)

    def fold(self, tile, first_row, first_column):
        "Take in the raw logits of some rows and columns."
        self.launch(fold_kernel, tile, first_row, first_column, self.chosen)

    def differentiate(self, tile, first_row, first_column, grad_logp, grad_entropy=None):
        "Replace raw logits by gradients."
        self.launch(differentiate_kernel, tile, first_row, first_column, grad_logp, grad_entropy)

    def results(self):
        "Log-probability of the target and entropy, once the whole vocabulary is folded in."
        log_s0 = self.s0.log()
        return (self.chosen - self.m) - log_s0, log_s0 - self.s1/self.s0

def start_tokens(hidden:Tensor, targets:Tensor, bias:Tensor|None, temperature:float|Tensor, softcap:float|None)->Tokens:
    "Tokens before any logit is known."
    zeros = hidden.new_zeros(len(hidden), dtype=torch.float32)
    t = temperature.float().contiguous() if isinstance(temperature, Tensor) else torch.full_like(zeros, temperature)
    return Tokens(targets.contiguous(), t, None if bias is None else bias.contiguous(), softcap,
                  torch.full_like(zeros, -1e30), zeros, zeros.clone(), zeros.clone())

ROWS, COLUMNS = 4096, 4096   # of a tile: 32 MiB in bf16

def slices(total:int, size:int)->list[slice]:
    "[0, total) in pieces of `size`, the last one shorter."
    return [slice(i, min(i + size, total)) for i in range(0, total, size)]

def tiles(hidden:Tensor, weight:Tensor, rows:int, columns:int):
    "Raw logits tile by tile in one buffer: rows, columns, their logits; the vocabulary is the outer loop."
    buffer = hidden.new_empty(min(rows, len(hidden)), min(columns, len(weight)))
    for c in slices(len(weight), columns):
        for r in slices(len(hidden), rows):
            tile = buffer[:r.stop - r.start, :c.stop - c.start]   # its rows stay aligned, whatever is left of the vocabulary
            yield r, c, torch.mm(hidden[r], weight[c].T, out=tile)

def add_product(total:Tensor, a:Tensor, b:Tensor):
    "total += a @ b, rounded in the type of `total` only."
    if total.dtype == a.dtype: total.addmm_(a, b)
    elif a.is_cuda: torch.addmm(total, a, b, out_dtype=total.dtype, out=total)
    else: total.addmm_(a.to(total.dtype), b.to(total.dtype))

def recomputed_gradients(hidden, weight, tokens, needs, grad_logp, grad_entropy):
    "Gradients of hidden states, weight and bias, None where `needs` says that nobody asks."
    need_h, need_w, need_b = needs
    grad_h = torch.zeros_like(hidden, dtype=torch.float32) if need_h else None
    grad_w = (torch.empty_like if len(hidden) else torch.zeros_like)(weight) if need_w else None
    grad_b = torch.zeros_like(tokens.bias, dtype=torch.float32) if need_b else None
    dw = weight.new_empty(min(COLUMNS, len(weight)), weight.shape[1], dtype=torch.float32) if need_w else None
    for r, c, tile in tiles(hidden, weight, ROWS, COLUMNS):
        tokens.differentiate(tile, r.start, c.start, grad_logp, grad_entropy)
        if need_h: add_product(grad_h[r], tile, weight[c])
        if need_b: grad_b[c] += tile.sum(0, dtype=torch.float32)
        if not need_w: continue
        if r.start == 0: dw.zero_()
        add_product(dw[:c.stop - c.start], tile.T, hidden[r])
        if r.stop == len(hidden): grad_w[c] = dw[:c.stop - c.start]
    return grad_h.to(hidden.dtype) if need_h else None, grad_w, grad_b.to(tokens.bias.dtype) if need_b else None

ONE_PASS_BYTES = 2**30   # for the logits of a chunk of rows

def chunk_rows(weight:Tensor, budget:int|None=None)->int:
    "Rows whose logits fit into the budget; in steps of 128, a tile of a matrix product."
    rows = (budget or ONE_PASS_BYTES)//(len(weight)*weight.element_size())
    return max(128, rows//128*128)

def one_pass(hidden, weight, tokens, needs, token_weights):
    "Fold in all logits, and the gradients of Σ token_weights·logp: of hidden states, weight and bias."
    (need_h, need_w, need_b), rows = needs, chunk_rows(weight)
    grad_h = torch.empty_like(hidden) if need_h else None
    grad_w = torch.zeros_like(weight, dtype=weight.dtype if len(hidden) <= rows else torch.float32) if need_w else None
    grad_b = torch.zeros_like(tokens.bias, dtype=torch.float32) if need_b else None
    for r, _, logits in tiles(hidden, weight, rows, len(weight)):
        tokens.fold(logits, r.start, 0)
        tokens.differentiate(logits, r.start, 0, token_weights)
        if need_h: torch.mm(logits, weight, out=grad_h[r])
        if need_w: add_product(grad_w, logits.T, hidden[r])
        if need_b: grad_b += logits.sum(0, dtype=torch.float32)
    return grad_h, grad_w.to(weight.dtype) if need_w else None, grad_b.to(tokens.bias.dtype) if need_b else None

class LinearLogprobTriton(torch.autograd.Function):
    "Log-probability and entropy of each row on CUDA; the backward computes the logits again, or only scales what the forward left."
    @staticmethod
    def forward(ctx, hidden, weight, targets, bias, temperature, softcap, token_weights):
        if hidden.dtype == torch.float64:
            raise UserError("linear_logprob: the Triton kernels compute in fp32, hidden is float64; choose backend='torch'")
        tokens, (need_h, need_w, _, need_b, *_) = start_tokens(hidden, targets, bias, temperature, softcap), ctx.needs_input_grad
        ctx.tokens, ctx.needs, ctx.gradients = tokens, (need_h, need_w, need_b), None
        ctx.set_materialize_grads(False)   # a None says that nobody asked: the entropy's part is then left out
        with torch.cuda.device_of(hidden):
            if token_weights is None or not any(ctx.needs) or not len(hidden):   # without tokens the gradients are 0 in either mode
                for r, c, tile in tiles(hidden, weight, ROWS, COLUMNS): tokens.fold(tile, r.start, c.start)
                ctx.save_for_backward(hidden, weight)
            else:
                token_weights = token_weights.float().contiguous()
                ctx.gradients = one_pass(hidden, weight, tokens, ctx.needs, token_weights)
                ctx.save_for_backward(token_weights)
        logp, entropy = tokens.results()
        if token_weights is not None: ctx.mark_non_differentiable(entropy)
        return logp, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_logp, grad_entropy):
        if grad_logp is None: grad_logp = torch.zeros_like(ctx.tokens.m)
        if ctx.gradients is None: grads = recompute_backward(ctx, grad_logp, grad_entropy)
        else: grads = scale_gradients(ctx, grad_logp)
        return grads[0], grads[1], None, grads[2], None, None, None

def recompute_backward(ctx, grad_logp, grad_entropy):
    "Gradients from the saved inputs."
    hidden, weight = ctx.saved_tensors
    with torch.cuda.device_of(hidden):
        return recomputed_gradients(hidden, weight, ctx.tokens, ctx.needs, grad_logp.contiguous(),
                                    None if grad_entropy is None else grad_entropy.contiguous())

HANDED_OVER = ()

def scale_gradients(ctx, grad_logp):
    "Gradients from the forward, times the common factor, in place: at this size a copy would be felt."
    if ctx.gradients == HANDED_OVER:
        raise UserError("linear_logprob: mode='one_pass' hands its gradients over once; use mode='recompute' for a second backward")
    factor, gradients, ctx.gradients = multiple_of(grad_logp, *ctx.saved_tensors), ctx.gradients, HANDED_OVER
    return [g if g is None or factor == 1 else g.mul_(factor) for g in gradients]
