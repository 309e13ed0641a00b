# Made by make_package.py from motif_repro/kernels/differential_attention.py; change it there.
"""Grouped differential attention, computed in the way that suits the device: the same numbers by one, two or four calls of an attention kernel, or by tiles."""


__all__ = ['TILE_ROWS', 'TILE_NUMBERS', 'PLANS', 'differential_attention_reference', 'attend', 'widen_queries', 'to_heads',
           'wide_call', 'two_calls', 'four_calls', 'tiles', 'attention_maps', 'tile_operands',
           'TiledDifferentialAttention', 'additive', 'one_query', 'by_tiles', 'choose_plan', 'attention_plan',
           'differential_attention', 'check_shapes', 'check_boundaries']

import math
import os
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from .errors import UserError, nearest
from .polynorm import upcast

def differential_attention_reference(
    q:Tensor,    # stripes of signal heads and one noise head a group, [B, T, G, n, d]
    k:Tensor,    # K1 and K2 of a group side by side, [B, G, S, 2d]
    v:Tensor,    # V1 and V2 likewise, [B, G, S, 2d]
    lam:Tensor,  # λ, []
)->Tensor:       # signal - λ·noise, [B, T, G, n-1, 2d]
    "Grouped differential attention as its equations read; the last query sees the last key."
    B, T, G, n, d = q.shape
    S = k.shape[2]
    hidden = torch.ones(T, S, dtype=torch.bool).triu(1 + S - T)
    def attention_map(queries, keys): return (queries @ keys.T/math.sqrt(d)).masked_fill(hidden, -math.inf).softmax(-1)
    def head(b, g, h):
        A1, A2 = attention_map(q[b, :, g, h], k[b, g, :, :d]), attention_map(q[b, :, g, -1], k[b, g, :, d:])
        return A1 @ v[b, g] - lam*(A2 @ v[b, g])
    heads = [torch.stack([head(b, g, h) for h in range(n - 1)], dim=1) for b in range(B) for g in range(G)]   # [T, n-1, 2d] each
    return torch.stack(heads).unflatten(0, (B, G)).transpose(1, 2)

def attend(
    q:Tensor,          # [B, heads, T, d]
    k:Tensor,          # [B, G, S, d], G divides heads
    v:Tensor,          # [B, G, S, any width]
    mask:Tensor|None,  # True or 0 where a query sees a key, else False or -inf, [B, 1, T, S]; None: causal, the last query sees the last key
    scale:float,
)->Tensor:             # [B, T, heads, width of v]
    "Torch's attention."
    T, S = q.shape[2], k.shape[2]
    if mask is None and 1 < T < S: mask = torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T)
    out = F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None and T > 1, scale=scale, enable_gqa=q.shape[1] != k.shape[1])
    return out.transpose(1, 2)

def widen_queries(
    q:Tensor,  # [..., n, d]
)->Tensor:     # [..., n, 2d]
    "Signal queries beside K1 and the noise query beside K2, with zeros beside the other."
    d = q.shape[-1]
    signal, noise = q[..., :-1, :], q[..., -1:, :]
    return torch.cat([F.pad(signal, (0, d)), F.pad(noise, (d, 0))], dim=-2)

def to_heads(q:Tensor)->Tensor:  # [B, T, G, n, d] → [B, G·n, T, d]
    return q.flatten(2, 3).transpose(1, 2)

def wide_call(q, k, v, lam, mask, attend):
    "One call with padded queries."
    out = attend(to_heads(widen_queries(q)), k, v, mask, q.shape[-1]**-0.5).unflatten(2, q.shape[2:4])
    return out[..., :-1, :] - lam*out[..., -1:, :]

def two_calls(q, k, v, lam, mask, attend):
    "A call for the signal heads and one for the noise heads."
    d = q.shape[-1]
    signal = attend(to_heads(q[..., :-1, :]), k[..., :d], v, mask, d**-0.5)
    noise = attend(to_heads(q[..., -1:, :]), k[..., d:], v, mask, d**-0.5)
    return signal.unflatten(2, (q.shape[2], -1)) - lam*noise[..., None, :]

def four_calls(q, k, v, lam, mask, attend):
    "The two calls for each half of the values."
    return torch.cat([two_calls(q, k, half, lam, mask, attend) for half in v.chunk(2, dim=-1)], dim=-1)

TILE_ROWS, TILE_NUMBERS = 64, 2**19   # queries of a tile, and numbers in its maps: 2 MiB, about what a core's cache holds

def tiles(B:int, T:int, S:int, heads:int)->Iterator[tuple[slice,slice,slice]]:
    "Texts, queries and the keys that these can see."
    texts = max(1, TILE_NUMBERS//(heads*min(T, TILE_ROWS)*S))
    for b in range(0, B, texts):
        for t in range(0, T, TILE_ROWS):
            stop = min(t + TILE_ROWS, T)
            yield slice(b, b + texts), slice(t, stop), slice(0, S - T + stop)

def attention_maps(
    q1:Tensor,         # signal queries of a tile, [B, G, n-1, t, d]
    q2:Tensor,         # noise queries, [B, G, t, d]
    k:Tensor,          # the keys they can see, [B, G, s, 2d]
    bias:Tensor|None,  # added to scores, [B, 1, t, s]; None: causal
)->tuple[Tensor,Tensor]:  # signal [B, G, n-1, t, s] and noise [B, G, t, s]
    "Both softmaxes of a tile."
    d, t, s = q2.shape[-1], q2.shape[2], k.shape[2]
    scores = (q1.flatten(2, 3)*d**-0.5 @ k[..., :d].mT).unflatten(2, q1.shape[2:4]), q2*d**-0.5 @ k[..., d:].mT
    if bias is None and t > 1:
        future = torch.full((t, t), -math.inf, device=k.device, dtype=k.dtype).triu(1)
        for x in scores: x[..., s - t:] += future
    elif bias is not None: scores = scores[0].add_(bias[:, :, None]), scores[1].add_(bias)
    return tuple(x.softmax(-1) for x in scores)

def tile_operands(q, k, v, bias, b, t, s):
    "What a tile works on, in fp32 at least: q1 [B, G, n-1, t, d], q2 [B, G, t, d], k and v [B, G, s, 2d], bias [B, 1, t, s]."
    queries = upcast(q[b, t]).permute(0, 2, 3, 1, 4)
    return queries[:, :, :-1], queries[:, :, -1], upcast(k[b, :, s]), upcast(v[b, :, s]), None if bias is None else bias[b, :, t, s]

class TiledDifferentialAttention(torch.autograd.Function):
    "Differential attention by tiles of the subtracted maps."
    @staticmethod
    def forward(ctx, q, k, v, lam, bias):
        ctx.save_for_backward(q, k, v, lam, bias)
        B, T, G, n, d = q.shape
        out = v.new_empty(B, T, G, n - 1, 2*d)
        with torch.autocast(q.device.type, enabled=False):
            for b, t, s in tiles(B, T, k.shape[2], G*n):
                q1, q2, keys, values, added = tile_operands(q, k, v, bias, b, t, s)
                A1, A2 = attention_maps(q1, q2, keys, added)
                difference = A1.sub_(A2.mul_(lam)[:, :, None])
                out[b, t] = (difference.flatten(2, 3) @ values).unflatten(2, (n - 1, -1)).permute(0, 3, 1, 2, 4)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        q, k, v, lam, bias = ctx.saved_tensors
        B, T, G, n, d = q.shape
        dq, (dk, dv), dlam = torch.empty_like(q), (torch.zeros_like(x, dtype=upcast(x[:0]).dtype) for x in (k, v)), torch.zeros_like(lam)
        with torch.autocast(q.device.type, enabled=False):
            for b, t, s in tiles(B, T, k.shape[2], G*n):
                q1, q2, keys, values, added = tile_operands(q, k, v, bias, b, t, s)
                A1, A2 = attention_maps(q1, q2, keys, added)
                dO = upcast(grad[b, t]).permute(0, 2, 3, 1, 4).flatten(2, 3)
                dA1 = (dO @ values.mT).view_as(A1)
                dA2 = dA1.sum(2)
                dlam -= torch.dot(dA2.flatten(), A2.flatten())
                dS1, dS2 = (torch._softmax_backward_data(dA, A, -1, A.dtype).mul_(d**-0.5) for dA, A in ((dA1, A1), (dA2, A2)))
                dS1, dS2 = dS1.flatten(2, 3), dS2.mul_(-lam)
                dv[b, :, s] += A1.sub_(A2.mul_(lam)[:, :, None]).flatten(2, 3).mT @ dO
                dk[b, :, s, :d] += dS1.mT @ q1.flatten(2, 3)
                dk[b, :, s, d:] += dS2.mT @ q2
                dq[b, t, :, :-1] = (dS1 @ keys[..., :d]).view_as(q1).permute(0, 3, 1, 2, 4)
                dq[b, t, :, -1] = (dS2 @ keys[..., d:]).transpose(1, 2)
        return dq, dk.to(k.dtype), dv.to(v.dtype), dlam, None

def additive(
    mask:Tensor,        # True where a query sees a key, or numbers to add
    dtype:torch.dtype,
)->Tensor:              # 0 where it sees it; else the type's lowest number, so that a row that sees nothing isn't NaN
    "A mask to be added to scores."
    if mask.dtype != torch.bool: return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)

def one_query(q, k, v, lam, bias):
    "The only query of each text against all keys: its scores are so few that padding costs less than a third matrix product."
    scores = upcast(widen_queries(q[:, 0])*q.shape[-1]**-0.5) @ upcast(k).mT      # [B, G, n, S]
    A = (scores if bias is None else scores.add_(bias)).softmax(-1)
    return ((A[:, :, :-1] - lam*A[:, :, -1:]) @ upcast(v)).to(v.dtype)[:, None]

def by_tiles(q, k, v, lam, mask, attend):
    "Tiles of the subtracted maps; no kernel is called."
    bias = None if mask is None else additive(mask, upcast(q[:0]).dtype)
    return one_query(q, k, v, lam, bias) if q.shape[1] == 1 else TiledDifferentialAttention.apply(q, k, v, lam, bias)

PLANS = dict(wide=wide_call, two=two_calls, four=four_calls, tiles=by_tiles)

@cache
def choose_plan(
    implementation:str,  # Transformers' name of the attention function
    device:str,          # its type
    wish:str='',         # a plan; '': the best one
)->tuple[str,str]:       # plan, reason
    "How differential attention is computed."
    if wish and wish not in PLANS: raise UserError(f"attention plan {wish!r} is unknown; {nearest(wish, PLANS)}")
    if wish: return wish, 'asked for'
    if implementation == 'sdpa' and device == 'cpu': return 'tiles', 'measured: fastest on a CPU'
    if implementation == 'sdpa' or implementation.startswith('flash_attention'): return 'four', 'flash kernels take keys and values of one width, best up to 128'
    if implementation == 'flex_attention': return 'two', 'it takes values wider than keys'
    return 'wide', f'one call serves any attention function, {implementation!r} too'

def attention_plan(implementation:str, device:torch.device, wish:str|None=None)->str:
    "The plan for a device: by argument, by the variable MOTIF_ATTENTION, or the best one."
    return choose_plan(implementation, device.type, wish or os.environ.get('MOTIF_ATTENTION', ''))[0]

def differential_attention(
    q:Tensor,    # stripes of signal heads and one noise head a group, [B, T, G, n, d]
    k:Tensor,    # K1 and K2 of a group side by side, as a cache holds them, [B, G, S, 2d]; S ≥ T with a cache
    v:Tensor,    # V1 and V2 likewise, [B, G, S, 2d]
    lam:Tensor,  # λ, []
    *,
    mask:Tensor|None=None,        # True or 0 where a query sees a key, [B, 1, T, S]; must hide the future; None: nothing else is hidden
    cu_seqlens:Tensor|list[int]|None=None,  # 0, the ends of the documents in a single row, the last of them T
    plan:str|None=None,           # one of PLANS; None: `attention_plan`
    attend:Callable=attend,       # the kernel that a plan calls
)->Tensor:                        # signal - λ·noise, [B, T, G, n-1, 2d]
    "Grouped differential attention (arXiv 2510.06949), causal."
    check_shapes(q, k, v)
    compute = PLANS[plan if plan in PLANS else attention_plan('sdpa', q.device, plan)]
    if cu_seqlens is None: return compute(q, k, v, lam, mask, attend)
    ends = check_boundaries(q, k, mask, cu_seqlens)
    return torch.cat([compute(q[:, a:b], k[:, :, a:b], v[:, :, a:b], lam, None, attend) for a, b in pairwise(ends)], dim=1)

def check_shapes(q:Tensor, k:Tensor, v:Tensor):
    "Refuse what doesn't fit together."
    B, T, G, n, d = q.shape
    if n < 2: raise UserError(f"q has {n} head a group; a group is one or more signal heads and a noise head")
    for name, x in dict(k=k, v=v).items():
        if x.shape != (B, G, k.shape[2], 2*d): raise UserError(f"{name} has shape {list(x.shape)}; with q {list(q.shape)} it must be [{B}, {G}, tokens, {2*d}]")
    if k.shape[2] < T: raise UserError(f"k has {k.shape[2]} tokens, q {T}; keys hold the queries' own tokens and perhaps earlier ones")

def check_boundaries(q:Tensor, k:Tensor, mask:Tensor|None, cu_seqlens:Tensor|list[int])->list[int]:
    ends = list(map(int, cu_seqlens))
    if mask is not None or q.shape[0] != 1 or k.shape[2] != q.shape[1]: raise UserError("cu_seqlens needs a single row, no mask and no cache")
    if ends[0] != 0 or ends[-1] != q.shape[1] or any(a >= b for a, b in pairwise(ends)):
        raise UserError(f"cu_seqlens={ends} must rise from 0 to {q.shape[1]}, the tokens of the row")
    return ends
