# Made by make_package.py from motif_repro/kernels/losses.py; change it there.
"""Cross-entropy with its usual extras, and distillation from a teacher's top words: a few lines each over one log-probability."""


__all__ = ['REDUCTIONS', 'target_logits', 'linear_cross_entropy', 'distillation_kl']

import torch
import torch.nn.functional as F
from torch import Tensor

from .errors import UserError, nearest
from .linear_logprob import linear_logprob
from .polynorm import upcast

REDUCTIONS = ('mean', 'sum', 'none')

def target_logits(hidden:Tensor, weight:Tensor, targets:Tensor, bias:Tensor|None=None)->Tensor:  # [N]
    "The logit of each target, in fp32 at least; its gradient of the weight is a whole one, held for a moment."
    z = torch.linalg.vecdot(upcast(hidden), upcast(F.embedding(targets, weight)))
    return z if bias is None else z + upcast(bias)[targets]

def linear_cross_entropy(
    hidden:Tensor,               # [N, D]
    weight:Tensor,               # of the output layer, [V, D]
    targets:Tensor,              # int64, [N]
    *,
    bias:Tensor|None=None,       # of the output layer, [V]
    label_smoothing:float=0.,    # share of the target's weight that is spread over all words
    z_loss:float=0.,             # weight of log(sum(exp(logits)))², which keeps logits from drifting
    softcap:float|None=None,     # c, where logits are c·tanh(z/c)
    ignore_index:int=-100,       # targets of this value cost nothing
    reduction:str='mean',        # over targets that are not ignored; 'sum', or 'none' for [N]
    mode:str='recompute',        # 'one_pass': gradients in the forward, three products rather than four
    backend:str|None=None,       # of `linear_logprob`
)->Tensor:                       # [] or [N], fp32 (fp64 from fp64); 0 where all are ignored
    "Cross-entropy of an output layer that never holds its logits."
    _check(label_smoothing, z_loss, softcap, reduction, mode)
    keep = targets != ignore_index
    wide = torch.promote_types(hidden.dtype, torch.float32)
    share = keep.to(wide)/keep.sum().clamp(min=1) if reduction == 'mean' else keep.to(wide)
    one_pass = dict(mode=mode, token_weights=-share) if mode == 'one_pass' else {}
    logp, _ = linear_logprob(hidden, weight, targets, bias=bias, softcap=softcap, ignore_index=ignore_index, backend=backend, **one_pass)
    loss = -logp
    if label_smoothing or z_loss: z = target_logits(hidden, weight, targets.where(keep, 0), bias)
    if label_smoothing:
        mean = upcast(hidden) @ upcast(weight).mean(0) + (0 if bias is None else upcast(bias).mean())
        loss = loss + label_smoothing*(z - mean)
    if z_loss: loss = loss + z_loss*(z - logp).square()
    return loss.where(keep, 0) if reduction == 'none' else (loss*share).sum()

def _check(label_smoothing, z_loss, softcap, reduction, mode):
    def refuse(why): raise UserError(f"linear_cross_entropy: {why}")
    if not 0 <= label_smoothing <= 1: refuse(f"label_smoothing={label_smoothing} must lie in [0, 1]")
    if z_loss < 0: refuse(f"z_loss={z_loss} is below 0; it is the weight of a penalty")
    if reduction not in REDUCTIONS: refuse(f"unknown reduction '{reduction}'; {nearest(reduction, REDUCTIONS)}")
    if softcap and (label_smoothing or z_loss): refuse("label_smoothing and z_loss need logits that are linear; with softcap set both to 0")
    if mode == 'one_pass' and (z_loss or reduction == 'none'):
        refuse(f"mode='one_pass' needs each token's weight beforehand, which {'z_loss' if z_loss else 'reduction=none'} doesn't give; use mode='recompute'")

def distillation_kl(
    hidden:Tensor,               # of the student, [N, D]
    weight:Tensor,               # of its output layer, [V, D]
    teacher_ids:Tensor,          # the teacher's likeliest words, int64 [N, k]
    teacher_logps:Tensor,        # their log-probabilities, [N, k]; -inf: no such word
    *,
    bias:Tensor|None=None,       # of the output layer, [V]
    temperature:float=1.,        # divides the student's logits; the teacher's log-probabilities should be at the same
    renormalise:bool=False,      # scale the teacher's probabilities to a sum of 1
    backend:str|None=None,       # of `linear_logprob`
)->Tensor:                       # nats, [N]
    "KL divergence from a teacher's top-k words to the student, without the student's logits (Hinton et al., arXiv 1503.02531)."
    _check_teacher(hidden, teacher_ids, teacher_logps)
    logq = upcast(teacher_logps)
    if renormalise: logq = logq.log_softmax(-1)
    q = logq.exp()
    first, total = teacher_ids[:, 0].contiguous(), q.sum(-1)
    logp, _ = linear_logprob(hidden, weight, first, bias=bias, temperature=temperature, backend=backend)
    a = torch.cat([q[:, :1] - total[:, None], q[:, 1:]], dim=1)   # L is the first word's logit minus its log-probability
    bag = F.embedding_bag(teacher_ids, weight, per_sample_weights=a.to(weight.dtype), mode='sum')
    z = torch.linalg.vecdot(upcast(hidden), upcast(bag)) + (0 if bias is None else (a*upcast(bias)[teacher_ids]).sum(-1))
    return torch.special.xlogy(q, q).sum(-1) - z/temperature - total*logp

def _check_teacher(hidden, ids, logps):
    def refuse(name, why): raise UserError(f"distillation_kl: {name} {why}")
    if ids.ndim != 2 or len(ids) != len(hidden): refuse('teacher_ids', f"has shape {list(ids.shape)}; hidden needs [{len(hidden)}, k]")
    if logps.shape != ids.shape: refuse('teacher_logps', f"has shape {list(logps.shape)}; teacher_ids needs {list(ids.shape)}")
    if (logps > 1e-3).any(): refuse('teacher_logps', f"has {logps.max().item():.3g} in it; log-probabilities are not above 0")
