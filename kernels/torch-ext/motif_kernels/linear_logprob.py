# Made by make_package.py from motif_repro/kernels/linear_logprob.py; change it there.
"""The log-probability of each target and the entropy, straight from hidden states and output weights, without ever holding the logits."""


__all__ = ['ROWS', 'COLUMNS', 'linear_logprob_reference', 'LinearLogprob', 'linear_logprob', 'errors_against_truth']

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .errors import UserError
from .polynorm import upcast

def linear_logprob_reference(hidden, weight, targets, *, bias=None, temperature=1., softcap=None, ignore_index=-100):
    "`linear_logprob` as its equations read, with all logits in memory."
    z = upcast(hidden @ weight.T) + (0 if bias is None else upcast(bias))
    logp = ((softcap*torch.tanh(z/softcap) if softcap else z)/temperature).log_softmax(-1)
    keep = targets != ignore_index
    return logp.gather(1, targets.where(keep, 0)[:, None])[:, 0].where(keep, 0), -(logp.exp()*logp).sum(-1).where(keep, 0)

ROWS, COLUMNS = 512, 2048   # of a tile: 4 MiB in fp32; larger ones are no faster on a CPU

def _slices(total:int, size:int)->list[slice]: return [slice(i, min(i + size, total)) for i in range(0, total, size)]

def _rows(N:int, V:int)->list[slice]:
    "Slices of the tokens; longer ones where the vocabulary is too small to fill a tile."
    return _slices(N, ROWS*COLUMNS//min(V, COLUMNS))

def _logits(h:Tensor, w:Tensor, b:Tensor|None, temperature:float, softcap:float|None)->Tensor:
    "A tile of logits, in fp32 at least."
    z = upcast(h @ w.T)
    if b is not None: z = z.add_(b)
    if softcap: z = z.div_(softcap).tanh_().mul_(softcap)
    return z if temperature == 1 else z.div_(temperature)

def _place(targets:Tensor, c:slice)->tuple[Tensor,Tensor]:
    "Which targets lie in the columns `c` [n], and where [n, 1]; a GPU need not wait for the answer."
    return (targets >= c.start) & (targets < c.stop), (targets - c.start).clamp(0, c.stop - c.start - 1)[:, None]

def _add_product(total:Tensor, a:Tensor, b:Tensor):
    "total += a @ b, rounded in the type of `total` only."
    if total.dtype == a.dtype: total.addmm_(a, b)
    else: total.add_(a @ b)

class LinearLogprob(torch.autograd.Function):
    "Log-probability and entropy of each row, tile by tile; the backward computes the logits again."
    @staticmethod
    def forward(ctx, hidden, weight, targets, bias, temperature, softcap):
        N, V = len(hidden), len(weight)
        m = hidden.new_full((N,), -torch.inf, dtype=torch.promote_types(hidden.dtype, torch.float32))
        s0, s1, chosen = (torch.zeros_like(m) for _ in range(3))
        for c in _slices(V, COLUMNS):
            for r in _rows(N, V):
                z = _logits(hidden[r], weight[c], None if bias is None else bias[c], temperature, softcap)
                inside, column = _place(targets[r], c)
                chosen[r] += z.gather(1, column)[:, 0].where(inside, 0)
                top = torch.maximum(m[r], z.amax(1))
                shift = (m[r] - top).clamp(min=-1e30)   # -inf at first, when the sums are 0
                p = z.sub_(top[:, None]).exp()
                s1[r] = shift.exp()*(s1[r] + shift*s0[r]) + torch.linalg.vecdot(p, z)
                s0[r] = shift.exp()*s0[r] + p.sum(1)
                m[r] = top
        ctx.save_for_backward(hidden, weight, targets, bias, m, s0, s1)
        ctx.options = temperature, softcap
        ctx.set_materialize_grads(False)   # a None says that nobody asked: the entropy's part is then left out
        return (chosen - m) - s0.log(), s0.log() - s1/s0

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_logp, grad_entropy):
        hidden, weight, targets, bias, m, s0, s1 = ctx.saved_tensors
        (temperature, softcap), (need_h, need_w, _, need_b, *_) = ctx.options, ctx.needs_input_grad
        N, V = len(hidden), len(weight)
        grad_h = torch.zeros_like(hidden, dtype=m.dtype) if need_h else None
        grad_w, grad_b = torch.empty_like(weight) if need_w else None, torch.empty_like(bias) if need_b else None
        if grad_logp is None: grad_logp = torch.zeros_like(m)
        for c in _slices(V, COLUMNS):
            dw, db = torch.zeros_like(weight[c], dtype=m.dtype), m.new_zeros(c.stop - c.start)
            for r in _rows(N, V):
                z = _logits(hidden[r], weight[c], None if bias is None else bias[c], temperature, softcap)
                bend = (z*(temperature/softcap)).square_().neg_().add_(1) if softcap else None   # derivative of the soft cap
                inside, column = _place(targets[r], c)
                u, share = z.sub_(m[r][:, None]), -1/s0[r][:, None]     # -p = share·eᵘ: no digits are lost where p is large
                e, scale = u.exp(), grad_logp[r][:, None]*share
                if grad_entropy is None: g = e.mul_(scale)
                else: g = u.sub_((s1/s0)[r][:, None]).mul_(grad_entropy[r][:, None]*share).add_(scale).mul_(e)   # u - S₁/S₀ = log p + H
                g.scatter_add_(1, column, grad_logp[r].where(inside, 0)[:, None])
                if temperature != 1: g.div_(temperature)
                if softcap: g.mul_(bend)
                db += g.sum(0)
                g = g.to(hidden.dtype)
                if need_h: _add_product(grad_h[r], g, weight[c])
                if need_w: _add_product(dw, g.T, hidden[r])
            if need_w: grad_w[c] = dw
            if need_b: grad_b[c] = db
        return grad_h.to(hidden.dtype) if need_h else None, grad_w, None, grad_b, None, None

def linear_logprob(
    hidden:Tensor,               # [N, D]
    weight:Tensor,               # of the output layer, [V, D]
    targets:Tensor,              # int64, [N]
    *,
    bias:Tensor|None=None,       # of the output layer, [V]
    temperature:float=1.,        # divides the logits
    softcap:float|None=None,     # c, where logits are c·tanh(z/c)
    ignore_index:int=-100,       # targets of this value cost nothing and give 0
)->tuple[Tensor,Tensor]:         # log-probability of each target, entropy of each distribution; fp32 (fp64 from fp64), [N] each
    "What cross-entropy, policy gradients and distillation need of the output layer, in memory that grows with N + V instead of N·V."
    _check(hidden, weight, targets, bias, temperature, softcap, ignore_index)
    keep = (targets != ignore_index).nonzero()[:, 0]
    whole = len(keep) == len(targets)
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
    with torch.autocast(hidden.device.type, enabled=False):
        both = LinearLogprob.apply(hidden if whole else hidden[keep], weight, targets if whole else targets[keep], bias, temperature, softcap)
        return both if whole else tuple(x.new_zeros(len(targets)).index_put((keep,), x) for x in both)

def _check(hidden, weight, targets, bias, temperature, softcap, ignore_index):
    "Refuse what would fail later with a stranger's message, or not at all."
    def refuse(name, why): raise UserError(f"linear_logprob: {name} {why}")
    if hidden.ndim != 2: refuse('hidden', f"has shape {list(hidden.shape)}; flatten it to [tokens, width]")
    if weight.ndim != 2 or weight.shape[1] != hidden.shape[1]:
        refuse('weight', f"has shape {list(weight.shape)}; hidden is {hidden.shape[1]} wide, so [vocabulary, {hidden.shape[1]}] is needed")
    if targets.shape != hidden.shape[:1]: refuse('targets', f"has shape {list(targets.shape)}; hidden needs [{len(hidden)}], one target a token")
    if targets.dtype != torch.int64: refuse('targets', f"is {targets.dtype}; pass token ids as torch.int64")
    if bias is not None and bias.shape != weight.shape[:1]: refuse('bias', f"has shape {list(bias.shape)}; weight needs [{len(weight)}]")
    if weight.dtype != hidden.dtype and not torch.is_autocast_enabled(hidden.device.type):
        refuse('weight', f"is {weight.dtype}, hidden {hidden.dtype}; cast one of them")
    if not temperature > 0: refuse('temperature', f"is {temperature}; it must be above 0")
    if softcap is not None and not softcap > 0: refuse('softcap', f"is {softcap}; it must be above 0, or None for no cap")
    wrong = ((targets < 0) | (targets >= len(weight))) & (targets != ignore_index)
    if wrong.any():
        at = wrong.nonzero()[0, 0].item()
        refuse('targets', f"[{at}] is {targets[at].item()}; ids lie in [0, {len(weight)}), and ignore_index is {ignore_index}")

def errors_against_truth(
    shape:tuple[int,int,int],   # N, D, V
    dtype:torch.dtype,
    seed:int=0,
    fn=linear_logprob,          # what is judged; the reference, for plain torch's own error
    **options,                  # of linear_logprob
)->dict[str,float]:             # logp, entropy, hidden, weight: largest error over the largest true value
    "How far results and gradients of `fn` in `dtype` lie from those in float64."
    N, D, V = shape
    random = torch.Generator().manual_seed(seed)
    inputs = [torch.randn(*size, generator=random).to(dtype) for size in ((N, D), (V, D))]
    targets = torch.randint(V, (N,), generator=random).where(torch.rand(N, generator=random) > 0.2, options.get('ignore_index', -100))
    weights = torch.rand(2, N, generator=random, dtype=torch.float64)   # of logp and entropy in the sum that is differentiated
    def outcome(f, hw):
        hw = [x.clone().requires_grad_() for x in hw]
        out = f(*hw, targets, **options)
        sum((x*g.to(x.dtype)).sum() for x, g in zip(out, weights)).backward()
        return dict(zip(('logp', 'entropy', 'hidden', 'weight'), (x.detach().double() for x in (*out, *(x.grad for x in hw)))))
    truth, found = outcome(linear_logprob_reference, [x.double() for x in inputs]), outcome(fn, inputs)
    return {name: float((found[name] - t).abs().max()/t.abs().max().clamp(min=1e-30)) for name, t in truth.items()}
