"""Losses without logits, and PolyNorm: torch on any device, Triton on CUDA."""
from . import layers
from .backends import backend_report
from .linear_logprob import linear_logprob
from .losses import linear_cross_entropy
from .polynorm import polynorm, polynorm_mul

__all__ = ['backend_report', 'layers', 'linear_cross_entropy', 'linear_logprob', 'polynorm', 'polynorm_mul']
