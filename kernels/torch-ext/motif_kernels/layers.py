"""Layers for `kernelize`: they hold nothing, the model's own module brings `weight`, `bias` and `eps`."""
from torch import Tensor, nn

from .polynorm import polynorm


class PolyNorm(nn.Module):
    "Takes the place of a PolyNorm module whose first weight is the cubic one."
    has_backward = True
    can_torch_compile = False

    def forward(self, x: Tensor) -> Tensor:
        return polynorm(x, self.weight, self.bias, self.eps)
