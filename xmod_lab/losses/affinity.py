"""Class-specific affinity (CSA, Chen et al., MICCAI 2020): which channels respond together inside a structure.

Channel by channel comparison across modalities has a meaning only where both use the same kernels.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

Reduction = Literal["entry", "mean_then_square"]
SMALLEST = 1e-8
"""floor of a squared norm"""
MIN_PIXELS = 4.0
"""area, in pixels of the feature map, below which a structure has no affinity"""


def class_masks(labels: Int64[Tensor, "b H W"], classes: int, size: tuple[int, int]) -> Float[Tensor, "b c h w"]:
    """Share of each feature pixel that belongs to each class, in [0, 1]; sums to 1 over classes. Equation 2's M.

    Averaging keeps the area of thin rings, which nearest neighbours overestimate and max-pooling more than doubles. A
    mask at the labels' own size is binary.
    """
    return F.adaptive_avg_pool2d(F.one_hot(labels, classes).movedim(-1, 1).float(), size)


def affinity(
    first: Float[Tensor, "b m h w"], second: Float[Tensor, "b n h w"], masks: Float[Tensor, "b c h w"]
) -> Float[Tensor, "b c m n"]:
    r"""Cosine of each channel of one layer with each of another, over the pixels of each class; in [-1, 1]. Equation 3.

    .. math:: A^c_{ij} = \frac{\sum_p w^c_p F_{ip} G_{jp}}{\sqrt{\sum_p w^c_p F_{ip}^2} \sqrt{\sum_p w^c_p G_{jp}^2}}

    without the printed factor :math:`1/S^c`: a cosine does not depend on the area, with the factor it would
    (`area_scaled`). For a binary mask this is the cosine of :math:`F \odot M^c` and :math:`G \odot M^c`. All samples
    and classes in one batched product, in float32 whatever the autocast.
    """
    with torch.autocast(first.device.type, enabled=False):
        f, g, w = (t.float().flatten(2).contiguous() for t in (first, second, masks))  # layouts decide the speed here
        f_norm, g_norm = ((t.square() @ w.mT).clamp_min(SMALLEST).rsqrt().mT for t in (f, g))
        masked = (w[:, :, None] * f[:, None]).flatten(1, 2)  # every class's rows one below the other
        product = (masked @ g.mT).unflatten(1, (w.shape[1], f.shape[1]))
        return product * f_norm[..., None] * g_norm[:, :, None]


def area_scaled(matrices: Float[Tensor, "b c m n"], masks: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c m n"]:
    """Equation 3 as printed: each matrix over the area of its class in pixels, which shrinks it a hundredfold."""
    return matrices / masks.sum((2, 3)).clamp_min(1.0)[..., None, None]


def mean_affinity(
    matrices: Float[Tensor, "b c m n"], masks: Float[Tensor, "b c h w"]
) -> tuple[Float[Tensor, "c m n"], Bool[Tensor, " c"]]:
    """Mean matrix of each class over the samples that hold at least MIN_PIXELS of it, and which classes have any."""
    holds = (masks.sum((2, 3)) >= MIN_PIXELS).to(matrices.dtype)
    count = holds.sum(0)
    return torch.einsum("bcmn,bc->cmn", matrices, holds) / count.clamp_min(1)[:, None, None], count > 0


def affinity_loss(
    first: Float[Tensor, "c m n"],
    second: Float[Tensor, "c m n"],
    present: Bool[Tensor, " c"],
    reduction: Reduction = "entry",
) -> Float[Tensor, ""]:
    r"""Disagreement of two modalities' affinities over the classes that both hold; >= 0. Equation 4.

    .. math:: \frac1{|C|} \sum_{c \in C} \frac1{MN} \lVert A^{c,1} - A^{c,2} \rVert_F^2

    `mean_then_square` is the printed form, :math:`\lVert \frac1P \sum_i (A^1_i - A^2_i) \rVert^2`: the sum stands
    inside the norm, so two matrices of equal mean never disagree, whatever their entries. Zero, with zero gradients,
    if no class is in both.
    """
    difference = first - second
    if reduction == "entry":
        per_class = difference.square().mean((1, 2))
    else:
        per_class = difference.mean((1, 2)).square()
    kept = present.to(per_class.dtype)
    return (per_class * kept).sum() / kept.sum().clamp_min(1)
