# Made by make_package.py from motif_repro/kernels/linear_logprob.py; change it there.
"""The log-probability of each target and the entropy, straight from hidden states and output weights, without ever holding the logits."""


__all__ = ['ROWS', 'COLUMNS', 'BUFFER', 'FEWEST_ROWS', 'MODES', 'linear_logprob_reference', 'Tiles', 'row_sums', 'gradient',
           'Gradients', 'LinearLogprob', 'OnePassLogprob', 'multiple_of', 'target_rank', 'linear_logprob',
           'errors_against_truth']

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd.function import once_differentiable

from .errors import UserError, nearest
from .backends import kernel_backend
from .polynorm import upcast

def linear_logprob_reference(hidden, weight, targets, *, bias=None, temperature=1., softcap=None, ignore_index=-100):
    "`linear_logprob` as its equations read, with all logits in memory."
    z = upcast(hidden @ weight.T) + (0 if bias is None else upcast(bias))
    if isinstance(temperature, Tensor): temperature = temperature[:, None]
    logp = ((softcap*torch.tanh(z/softcap) if softcap else z)/temperature).log_softmax(-1)
    keep = targets != ignore_index
    return logp.gather(1, targets.where(keep, 0)[:, None])[:, 0].where(keep, 0), -(logp.exp()*logp).sum(-1).where(keep, 0)

ROWS, COLUMNS = 512, 1024   # tokens and words of a tile: 2 MiB in fp32; larger ones are no faster on a CPU

def _slices(total:int, size:int)->list[slice]: return [slice(i, min(i + size, total)) for i in range(0, total, size)]

class Tiles:
    "The logits of some tokens and some words at a time, always in the same memory."
    def __init__(self, hidden, weight, bias=None, temperature=1., softcap=None, rows=None, keep=False):
        self.hidden, self.weight, self.bias, self.temperature, self.softcap, self.keep = hidden, weight, bias, temperature, softcap, keep
        (N, V), area = (len(hidden), len(weight)), ROWS*COLUMNS
        rows = max(1, min(N, rows or area//min(V, COLUMNS)))   # more of them where the vocabulary is too small to fill a tile
        columns = min(V, max(1, area//rows))
        self.rows, self.columns = _slices(N, rows), _slices(V, columns)
        self.dtype = torch.promote_types(hidden.dtype, torch.float32)
        self.raw = hidden.new_empty(rows*(V if keep else columns))   # as the product gives them
        new = lambda: hidden.new_empty(rows*columns, dtype=self.dtype)
        self.wide, self.spare = self.raw if self.dtype == hidden.dtype and not keep else new(), new()

    def view(self, memory:Tensor, r:slice, c:slice, start:int=0)->Tensor:  # [tokens, words]
        n = (r.stop - r.start)*(c.stop - c.start)
        return memory[start:start + n].view(r.stop - r.start, c.stop - c.start)

    def product(self, r:slice, c:slice)->Tensor:
        "Where the product of this tile lies; with `keep`, every tile of these tokens has a place of its own."
        return self.view(self.raw, r, c, (r.stop - r.start)*c.start if self.keep else 0)

    def logits(self, r:slice, c:slice, again:bool=False)->Tensor:
        "In fp32 at least; `again`: from the products that were kept."
        raw = self.product(r, c)
        if not again: torch.mm(self.hidden[r], self.weight[c].T, out=raw)
        z = raw if self.wide is self.raw else self.view(self.wide, r, c).copy_(raw)
        if self.bias is not None: z.add_(self.bias[c])
        if self.softcap: z.div_(self.softcap).tanh_().mul_(self.softcap)
        return z if self.untempered else z.div_(self.heat(r))

    @property
    def untempered(self)->bool: return isinstance(self.temperature, (int, float)) and self.temperature == 1
    def heat(self, r:slice): return self.temperature[r, None] if isinstance(self.temperature, Tensor) else self.temperature

    def place(self, targets:Tensor, r:slice, c:slice)->tuple[Tensor,Tensor]:
        "Which targets lie in this tile [tokens], and in which column [tokens, 1]; a GPU need not wait for the answer."
        t = targets[r]
        return (t >= c.start) & (t < c.stop), (t - c.start).clamp(0, c.stop - c.start - 1)[:, None]

def row_sums(tiles:Tiles, targets:Tensor, rows:list[slice]|None=None)->Tensor:
    "m, S₀, S₁ and the target's logit of every token, [4, N]."
    sums = targets.new_zeros((4, len(targets)), dtype=tiles.dtype)
    sums[0] = -torch.inf
    for c in tiles.columns:
        for r in rows or tiles.rows:
            z, (m, s0, s1, chosen) = tiles.logits(r, c), sums[:, r]
            inside, column = tiles.place(targets, r, c)
            chosen += z.gather(1, column)[:, 0].where(inside, 0)
            top = torch.maximum(m, z.amax(1))
            shift = (m - top).clamp(min=-1e30)   # -inf at first, when the sums are 0
            p = torch.exp(z.sub_(top[:, None]), out=tiles.view(tiles.spare, r, c))
            s1.add_(shift*s0).mul_(shift.exp()).add_(torch.linalg.vecdot(p, z))
            s0.mul_(shift.exp()).add_(p.sum(1))
            m.copy_(top)
    return sums

def gradient(
    tiles:Tiles,
    targets:Tensor,             # [N]
    sums:Tensor,                # of `row_sums`, [4, N]
    grad_logp:Tensor,           # [N]
    grad_entropy:Tensor|None,   # [N]; None where nobody asked
    r:slice, c:slice,
    again:bool=False,           # the product was kept
)->Tensor:                      # of the tile's product, in fp32 at least [tokens, words]
    "The gradient of a tile before it goes on to hidden states and weights."
    z, (m, s0, s1, _) = tiles.logits(r, c, again), sums[:, r, None]
    bend = (z*(tiles.heat(r)/tiles.softcap)).square_().neg_().add_(1) if tiles.softcap else None   # derivative of the soft cap
    (inside, column), g = tiles.place(targets, r, c), grad_logp[r, None]
    u, share = z.sub_(m), -1/s0             # -p = share·eᵘ: no digits are lost where p is large
    if grad_entropy is None: z = u.exp_().mul_(g*share)
    else:
        e = torch.exp(u, out=tiles.view(tiles.spare, r, c))
        z = u.sub_(s1/s0).mul_(grad_entropy[r, None]*share).add_(g*share).mul_(e)   # u - S₁/S₀ = log p + H
    z.scatter_add_(1, column, g.where(inside[:, None], 0))
    if not tiles.untempered: z.div_(tiles.heat(r))
    return z.mul_(bend) if tiles.softcap else z

class Gradients:
    "What the tiles' gradients add up to, in fp32 at least; rounded to the inputs' types at the end."
    def __init__(self, tiles:Tiles, needs:tuple[bool,bool,bool], whole:bool):
        t, (need_h, need_w, need_b) = tiles, needs
        self.tiles, total = tiles, dict(dtype=tiles.dtype, device=tiles.hidden.device)
        self.hidden = torch.zeros(t.hidden.shape, **total) if need_h else None
        self.bias = torch.zeros(len(t.weight), **total) if need_b else None
        self.weight = torch.empty_like(t.weight, dtype=t.dtype if whole else t.weight.dtype) if need_w else None

    def add(self, g:Tensor, r:slice, c:slice, weight:Tensor|None):
        "Add what a tile contributes; to `weight` [words, D] its part of the weight's."
        t = self.tiles
        if self.bias is not None: self.bias[c] += g.sum(0)
        g = g if g.dtype == t.hidden.dtype else t.product(r, c).copy_(g)
        if self.hidden is not None: _add_product(self.hidden[r], g, t.weight[c])
        if weight is not None: _add_product(weight, g.T, t.hidden[r])

    def rounded(self)->tuple[Tensor|None,...]:
        "Of hidden states, weight and bias, in their types."
        t = self.tiles
        return tuple(x if x is None else x.to(like.dtype) for x, like in ((self.hidden, t.hidden), (self.weight, t.weight), (self.bias, t.bias)))

def _add_product(total:Tensor, a:Tensor, b:Tensor):
    "total += a @ b, summed in the type of `total`; where that is the wider one, a product is rounded to its factors' type first."
    if total.dtype == a.dtype: total.addmm_(a, b)
    else: total.add_(a @ b)

class LinearLogprob(torch.autograd.Function):
    "Log-probability and entropy of each row, tile by tile; the backward computes the logits again."
    @staticmethod
    def forward(ctx, hidden, weight, targets, bias, temperature, softcap):
        sums = row_sums(Tiles(hidden, weight, bias, temperature, softcap), targets)
        ctx.save_for_backward(hidden, weight, targets, bias, sums)
        ctx.options = temperature, softcap
        ctx.set_materialize_grads(False)   # a None says that nobody asked: the entropy's part is then left out
        return _logp_and_entropy(sums)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_logp, grad_entropy):
        hidden, weight, targets, bias, sums = ctx.saved_tensors
        tiles = Tiles(hidden, weight, bias, *ctx.options)
        total = Gradients(tiles, _needs(ctx), whole=False)
        if grad_logp is None: grad_logp = torch.zeros_like(sums[0])
        piece = None if total.weight is None or weight.dtype == tiles.dtype else torch.empty(tiles.columns[0].stop, weight.shape[1], dtype=tiles.dtype, device=weight.device)
        for c in tiles.columns:
            dw = None if total.weight is None else (total.weight[c] if piece is None else piece[:c.stop - c.start]).zero_()
            for r in tiles.rows: total.add(gradient(tiles, targets, sums, grad_logp, grad_entropy, r, c), r, c, dw)
            if piece is not None: total.weight[c] = dw
        grad_h, grad_w, grad_b = total.rounded()
        return grad_h, grad_w, None, grad_b, None, None

def _needs(ctx)->tuple[bool,bool,bool]: return ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.needs_input_grad[3]

def _logp_and_entropy(sums:Tensor)->tuple[Tensor,Tensor]:
    m, s0, s1, chosen = sums
    return (chosen - m) - s0.log(), s0.log() - s1/s0

BUFFER, FEWEST_ROWS = 8*2**20, 128   # logits that are held in one pass (32 MiB in fp32), but of no fewer tokens

class OnePassLogprob(torch.autograd.Function):
    "Log-probability of each row, and already the gradients of their sum with weights known beforehand."
    @staticmethod
    def forward(ctx, hidden, weight, targets, bias, temperature, softcap, token_weights):
        tiles = Tiles(hidden, weight, bias, temperature, softcap, rows=max(FEWEST_ROWS, BUFFER//len(weight)), keep=True)
        total = Gradients(tiles, _needs(ctx), whole=len(tiles.rows) > 1)
        if total.weight is not None: total.weight.zero_()
        parts = []
        for r in tiles.rows:
            sums = row_sums(tiles, targets, [r])
            if any(_needs(ctx)):
                for c in tiles.columns:
                    total.add(gradient(tiles, targets, sums, token_weights, None, r, c, again=True), r, c, None if total.weight is None else total.weight[c])
            parts.append(sums[:, r])
        ctx.token_weights, ctx.gradients = token_weights, total.rounded()
        logp, entropy = _logp_and_entropy(torch.cat(parts, 1) if parts else hidden.new_empty(4, 0, dtype=tiles.dtype))
        ctx.mark_non_differentiable(entropy)
        return logp, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_logp, _):
        if ctx.gradients is None: raise UserError("linear_logprob: mode='one_pass' hands its gradients over once; use mode='recompute' for a second backward")
        factor, (grad_h, grad_w, grad_b), ctx.gradients = multiple_of(grad_logp, ctx.token_weights), ctx.gradients, None
        for g in (grad_h, grad_w, grad_b):
            if g is not None and factor != 1: g.mul_(factor)
        return grad_h, grad_w, None, grad_b, None, None, None

def multiple_of(
    grad:Tensor,     # what came from above, [N]
    weights:Tensor,  # what was promised, [N]
)->float:
    "The number that turns `weights` into `grad`; an error where there is none."
    if not len(weights): return 1.
    at = weights.abs().argmax()
    factor = (grad[at]/weights[at]).nan_to_num().item()
    if not torch.allclose(grad, factor*weights, rtol=1e-4, atol=1e-6*float(grad.abs().max())):
        raise UserError("linear_logprob: mode='one_pass' was promised a loss of sum(token_weights·logp), up to a factor, and got another gradient; "
                        "mend token_weights or use mode='recompute'")
    return factor

def target_rank(tiles:Tiles, targets:Tensor, chosen:Tensor)->Tensor:  # int64, [N]
    "1 for the likeliest word; words that are level with the target don't count as likelier."
    rank = torch.ones_like(targets)
    for c in tiles.columns:
        for r in tiles.rows: rank[r] += (tiles.logits(r, c) > chosen[r, None]).sum(1)
    return rank

MODES = ('recompute', 'one_pass')

@torch.compiler.disable   # the loops run as they are, between compiled parts
def linear_logprob(
    hidden:Tensor,               # [N, D]
    weight:Tensor,               # of the output layer, [V, D]
    targets:Tensor,              # int64, [N]
    *,
    bias:Tensor|None=None,       # of the output layer, [V]
    temperature:float|Tensor=1., # divides the logits; of each token, [N], or of all
    softcap:float|None=None,     # c, where logits are c·tanh(z/c)
    ignore_index:int=-100,       # targets of this value cost nothing and give 0
    mode:str='recompute',        # 'one_pass': gradients in the forward, three products rather than four, and none of the entropy
    token_weights:Tensor|None=None,  # for 'one_pass': the loss will be sum(token_weights·logp), up to a factor, [N]
    return_rank:bool=False,      # also return the target's rank and whether it is the argmax
    backend:str|None=None,       # 'torch' or 'triton'; None: see `kernel_backend`
)->tuple[Tensor,...]:            # log-probability of each target, entropy of each distribution; fp32 (fp64 from fp64), [N] each; rank from 1, argmax
    "What cross-entropy, policy gradients and distillation need of the output layer, in memory that grows with N + V instead of N·V."
    _check(hidden, weight, targets, bias, temperature, softcap, ignore_index, mode, token_weights)
    keep = None if _simulated(targets) else (targets != ignore_index).nonzero()[:, 0]
    if keep is not None and len(keep) == len(targets): keep = None
    learned = lambda x: x[keep] if keep is not None and isinstance(x, Tensor) else x
    if torch.is_autocast_enabled(hidden.device.type):
        dtype = torch.get_autocast_dtype(hidden.device.type)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
    with torch.autocast(hidden.device.type, enabled=False):
        inputs = learned(hidden), weight, learned(targets), bias, learned(temperature), softcap
        out = _function(kernel_backend(hidden.device, backend), mode)(*inputs, learned(token_weights))
        if return_rank: out += _rank(*inputs)
    return out if keep is None else tuple(x.new_zeros(len(targets)).index_put((keep,), x) for x in out)

def _function(backend:str, mode:str):
    "What computes, for back end and mode."
    if backend == 'triton':
        from .linear_logprob_triton import LinearLogprobTriton
        return LinearLogprobTriton.apply
    return OnePassLogprob.apply if mode == 'one_pass' else lambda *inputs: LinearLogprob.apply(*inputs[:-1])

@torch.no_grad()
def _rank(hidden, weight, targets, bias, temperature, softcap)->tuple[Tensor,Tensor]:
    tiles = Tiles(hidden, weight, bias, temperature, softcap)
    rank = target_rank(tiles, targets, row_sums(tiles, targets)[3])
    return rank, rank == 1

def _simulated(x:Tensor)->bool:
    "Whether there are no values to look at: under torch's FakeTensorMode every target counts."
    return isinstance(x, FakeTensor)

def _check(hidden, weight, targets, bias, temperature, softcap, ignore_index, mode, token_weights):
    "Refuse what would fail later with a stranger's message, or not at all."
    def refuse(name, why): raise UserError(f"linear_logprob: {name} {why}")
    N = len(hidden)
    if hidden.ndim != 2: refuse('hidden', f"has shape {list(hidden.shape)}; flatten it to [tokens, width]")
    if weight.ndim != 2 or weight.shape[1] != hidden.shape[1]:
        hint = '; ZeRO-3 holds it in pieces: use it inside deepspeed.zero.GatheredParameters' if hasattr(weight, 'ds_id') else ''
        refuse('weight', f"has shape {list(weight.shape)}; hidden is {hidden.shape[1]} wide, so [vocabulary, {hidden.shape[1]}] is needed{hint}")
    if targets.shape != (N,): refuse('targets', f"has shape {list(targets.shape)}; hidden needs [{N}], one target a token")
    if targets.dtype != torch.int64: refuse('targets', f"is {targets.dtype}; pass token ids as torch.int64")
    if bias is not None and bias.shape != weight.shape[:1]: refuse('bias', f"has shape {list(bias.shape)}; weight needs [{len(weight)}]")
    if weight.dtype != hidden.dtype and not torch.is_autocast_enabled(hidden.device.type):
        refuse('weight', f"is {weight.dtype}, hidden {hidden.dtype}; cast one of them")
    if softcap is not None and not softcap > 0: refuse('softcap', f"is {softcap}; it must be above 0, or None for no cap")
    if mode not in MODES: refuse('mode', f"is {mode!r}; {nearest(mode, MODES)}")
    if (mode == 'one_pass') != (token_weights is not None):
        refuse('token_weights', "are what mode='one_pass' needs" if mode == 'one_pass' else "are used by mode='one_pass' only")
    for name, x in dict(temperature=temperature, token_weights=token_weights).items():
        if isinstance(x, Tensor) and x.shape != (N,): refuse(name, f"has shape {list(x.shape)}; hidden needs [{N}], one a token")
    if _simulated(targets): return
    if not (temperature > 0 if isinstance(temperature, (int, float)) else bool((temperature > 0).all())):
        refuse('temperature', f"is {temperature if isinstance(temperature, (int, float)) else temperature.min().item()}; it must be above 0")
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
