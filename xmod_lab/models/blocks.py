"""Small pieces that several networks use."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

LARGE = 192
"""edge of slices in pixels from which on methods compute their finest features twice a step instead of keeping them: at
the authors' sizes they are most of what a step would remember"""


class Tap(nn.Identity):
    """A named place where a feature can be read or replaced (xmod_lab.maps) without editing the network."""

    @property
    def watched(self) -> bool:
        """Whether somebody reads or replaces what passes here. What is costly and passes for them alone can be left
        out otherwise."""
        return bool(self._forward_hooks)


def recomputed(block: nn.Module, *inputs: Tensor) -> Tensor:
    """block(*inputs), of which the backward pass keeps the inputs alone and computes the rest again.

    The block must draw no random numbers and keep no running statistics.
    """
    if not torch.is_grad_enabled():
        found: Tensor = block(*inputs)
        return found
    return checkpoint(block, *inputs, use_reentrant=False, preserve_rng_state=False)


class DoubleConv(nn.Sequential):
    """Twice: 3x3 convolution with bias, instance normalisation without affine, leaky ReLU 0.01.

    (b, c_in, h, w) -> (b, c_out, h, w).
    """

    def __init__(self, c_in: int, c_out: int):
        super().__init__(
            nn.Conv2d(c_in, c_out, 3, padding=1),
            nn.InstanceNorm2d(c_out),
            nn.LeakyReLU(0.01, inplace=True),
            nn.Conv2d(c_out, c_out, 3, padding=1),
            nn.InstanceNorm2d(c_out),
            nn.LeakyReLU(0.01, inplace=True),
        )


def concat(a: Float[Tensor, "b c1 h w"], b: Float[Tensor, "b c2 h w"]) -> Float[Tensor, "b c h w"]:
    """Concatenate along channels."""
    return torch.cat([a, b], dim=1)


def count_parameters(module: nn.Module) -> int:
    """Number of trainable and frozen parameters, shared ones once."""
    return sum(p.numel() for p in module.parameters())
