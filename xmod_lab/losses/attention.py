"""What keeps attention maps apart (SASAN, Tomar et al. 2021): pure functions of maps (b, n, h, w)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def gram(maps: Float[Tensor, "b n h w"], normalised: bool = True) -> Float[Tensor, "b n n"]:
    r""":math:`\hat A \hat A^\top`: cosine of each map with each other over the pixels, in [-1, 1], 1 on the diagonal.

    normalised: False: plain products :math:`A A^\top`, as equation 4 prints it. In float32 whatever the autocast.
    """
    with torch.autocast(maps.device.type, enabled=False):
        rows = maps.float().flatten(2)
        rows = F.normalize(rows, dim=2) if normalised else rows
        return rows @ rows.mT


def orthogonality(maps: Float[Tensor, "b n h w"], literal: bool = False) -> Float[Tensor, ""]:
    r"""How much the maps of an image say the same; mean over images. Equation 4.

    .. math:: \frac{2}{n(n-1)} \lVert \hat A \hat A^\top - I \rVert_F^2

    with each map scaled to unit length: 0 for maps that do not overlap, 2 for equal ones, whatever n. It sees the raw,
    signed maps: one and its negative are as alike as two equal ones. literal: :math:`\lVert A A^\top - I \rVert_F` as
    printed, neither scaled nor squared: it also asks each map to have length 1, so that with more pixels each pixel's
    value must be smaller, and its size grows with the image.
    """
    products = gram(maps, normalised=not literal)
    n = maps.shape[1]
    apart = products - torch.eye(n, device=maps.device)
    squares = apart.square().sum((1, 2))
    return squares.clamp_min(1e-12).sqrt().mean() if literal else (2 / (n * (n - 1)) * squares).mean()
