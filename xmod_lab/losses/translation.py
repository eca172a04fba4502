"""Losses of translation between modalities: pure functions of images, masks and the critic's logits.

Images lie in [-1, 1]; masks are 1 inside and 0 outside.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F


def slot_loss(logits: Float[Tensor, "b s"], slot: Int64[Tensor, " b"], exclusive: bool = False) -> Float[Tensor, ""]:
    r"""Which modality an image is of and whether it was generated: one slot out of s (TarGAN, equations 2 and 3).

    Of 2n slots, m stands for "real, of modality m" and n + m for "generated from modality m".

    .. math:: \frac1b \sum_i \sum_j BCE(l_{ij}, [j = s_i])

    s independent logits, summed, as in the authors' code; ``s ln 2`` where all logits are 0. exclusive: softmax
    cross-entropy instead, as the equations print it; ``ln s`` there. Both >= 0. Zero for an empty batch.
    """
    if not len(logits):
        return logits.float().sum()
    if exclusive:
        return F.cross_entropy(logits.float(), slot)
    wanted = F.one_hot(slot, logits.shape[1]).float()
    return F.binary_cross_entropy_with_logits(logits.float(), wanted, reduction="sum") / len(logits)


def unit(image: Tensor) -> Tensor:
    """From [-1, 1] to [0, 1]."""
    return (image + 1) / 2


def crossing_loss(
    whole: Float[Tensor, "b k h w"], area: Float[Tensor, "b k h w"], mask: Float[Tensor, "b 1 h w"], raw: bool = False
) -> Float[Tensor, ""]:
    r"""The target area cut from the translated image against the translated target area (TarGAN, equation 6).

    .. math:: \frac1N \sum | u(x_t) \odot y - u(r_t) |, \qquad u(v) = (v + 1)/2

    In [0, 1]; zero if both streams agree inside the mask and the area is background (-1) outside. raw: without u, as
    printed; multiplying by the mask then leaves 0, the middle grey, as the value wanted outside.
    """
    whole, area = whole.float(), area.float()
    if not raw:
        whole, area = unit(whole), unit(area)
    return (whole * mask - area).abs().mean()


def shape_loss(found: Float[Tensor, "b 1 h w"], mask: Float[Tensor, "b 1 h w"]) -> Float[Tensor, ""]:
    r""":math:`\frac1N \lVert b - S(x_t) \rVert_2^2`, in [0, 1]: mean squared error of a mask (TarGAN, equation 4)."""
    return F.mse_loss(found.float(), mask)


def cut_out(
    image: Float[Tensor, "b k h w"], mask: Float[Tensor, "b 1 h w"], background: float = -1.0
) -> Float[Tensor, "b k h w"]:
    """The target area alone, :math:`r = y \\cdot x`, on the background's value (the product is taken in [0, 1])."""
    return torch.where(mask > 0, image, background)
