"""Losses that compare two images: structural similarity, gradient and feature differences.

Images (b, k, h, w) in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

WINDOW, SIGMA = 7, 1.5
K1, K2 = 0.01, 0.03
LEAST = 1e-4
"""similarity whose logarithm is still taken"""


def structural_similarity(
    x: Float[Tensor, "b k h w"], y: Float[Tensor, "b k h w"], clamped: bool = True, window: int = WINDOW
) -> Float[Tensor, ""]:
    r"""Mean structural similarity of images mapped to [0, 1] (Wang et al. 2004), 1 for equal ones; differentiable.

    .. math:: \frac{(2\mu_x\mu_y + c_1)(2\sigma_{xy} + c_2)}{(\mu_x^2 + \mu_y^2 + c_1)(\sigma_x^2 + \sigma_y^2 + c_2)}

    with :math:`c_1 = 0.01^2`, :math:`c_2 = 0.03^2`, moments under a Gaussian of sigma 1.5 and `window` pixels without
    padding (7 in SASAN's code; the score of evaluation has 11), mean over pixels, channels and images. clamped: where
    structure runs the other way the value counts as 0, not below; without, it lies in [-1, 1]. In float32 whatever the
    autocast: variances are small differences of large means.
    """
    with torch.autocast(x.device.type, enabled=False):
        a, b = ((image.float() + 1) / 2 for image in (x, y))
        channels = a.shape[1]
        place = torch.arange(window, device=a.device, dtype=a.dtype) - window // 2
        line = torch.exp(-(place**2) / (2 * SIGMA**2))
        line = (line / line.sum()).expand(5 * channels, 1, 1, -1)
        moments = torch.cat([a, b, a * a, b * b, a * b], 1)
        blurred = F.conv2d(F.conv2d(moments, line, groups=5 * channels), line.mT, groups=5 * channels)
        mean_a, mean_b, aa, bb, ab = blurred.chunk(5, 1)
        product, squares = mean_a * mean_b, mean_a.square() + mean_b.square()
        found = (2 * product + K1**2) * (2 * (ab - product) + K2**2)
        found = found / ((squares + K1**2) * (aa + bb - squares + K2**2))
        return (found.clamp_min(0) if clamped else found).mean()


def dissimilarity(
    x: Float[Tensor, "b k h w"], y: Float[Tensor, "b k h w"], logarithm: bool = False
) -> Float[Tensor, ""]:
    r""":math:`1 - s`, in [0, 2], of the structural similarity s, opposite structure counted; 0 for equal images.

    logarithm: :math:`-\ln \max(s, 10^{-4})`, in [0, 9.22], as in DC2Anet, which takes ln 0 where s is not positive.
    Below the limit it has no gradient, while 1 - s always has one.
    """
    s = structural_similarity(x, y, clamped=False)
    return -s.clamp_min(LEAST).log() if logarithm else 1 - s


def feature_difference(x: Sequence[Tensor], y: Sequence[Tensor]) -> Float[Tensor, ""]:
    r""":math:`\frac1L \sum_l E|\phi_l(x) - \phi_l(y)|`, >= 0, of features (b, c_l, h_l, w_l) of both images, level by
    level: the perceptual loss of DC2Anet, of whatever network :math:`\phi` gave them."""
    return torch.stack([(a.float() - b.float()).abs().mean() for a, b in zip(x, y, strict=True)]).mean()


def gradient_difference(x: Float[Tensor, "b k h w"], y: Float[Tensor, "b k h w"]) -> Float[Tensor, ""]:
    r"""Difference of the slopes' sizes, >= 0 (Mathieu et al. 2016, as in DC2Anet).

    .. math:: E\,\big| |\partial_i x| - |\partial_i y| \big| + E\,\big| |\partial_j x| - |\partial_j y| \big|

    of neighbouring pixels down and across; 0 for images that differ by a constant, or by their sign.
    """
    x, y = x.float(), y.float()
    return torch.stack([(x.diff(dim=d).abs() - y.diff(dim=d).abs()).abs().mean() for d in (-2, -1)]).sum()
