"""Adversarial losses: pure functions of a critic's scores, and the gradient penalty."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def wasserstein_critic(real: Tensor, fake: Tensor) -> Float[Tensor, ""]:
    r""":math:`\mathbb E[D(x')] - \mathbb E[D(x)]`, minimised by the critic; unbounded (Arjovsky et al. 2017)."""
    return fake.float().mean() - real.float().mean()


def wasserstein_generator(fake: Tensor) -> Float[Tensor, ""]:
    r""":math:`-\mathbb E[D(x')]`, minimised by the generator; unbounded."""
    return -fake.float().mean()


def least_squares_critic(real: Tensor, fake: Tensor) -> Float[Tensor, ""]:
    r""":math:`\tfrac12 \mathbb E[(D(x) - 1)^2] + \tfrac12 \mathbb E[D(x')^2]`, minimised by the critic; >= 0.

    Mao et al. 2017, with 1 for real and 0 for generated images; a critic that cannot tell them apart and says one half
    of everything has 0.25. Means are over all scores given, those of patches included.
    """
    return 0.5 * ((real.float() - 1).square().mean() + fake.float().square().mean())


def least_squares_generator(fake: Tensor) -> Float[Tensor, ""]:
    r""":math:`\mathbb E[(D(x') - 1)^2]`, minimised by the generator; >= 0 (Mao et al. 2017; without the half, as in
    CycleGAN's and MUNIT's codes)."""
    return (fake.float() - 1).square().mean()


def cross_entropy_critic(real: Tensor, fake: Tensor) -> Float[Tensor, ""]:
    r""":math:`-\tfrac12 \mathbb E[\ln \sigma(D(x))] - \tfrac12 \mathbb E[\ln(1 - \sigma(D(x')))]`, >= 0.

    Goodfellow et al. 2014, of logits, with Pix2Pix's half; ln 2 for a critic whose scores are all 0. Minimised by the
    critic. Means are over all scores given, those of patches included.
    """
    return 0.5 * (F.softplus(-real.float()).mean() + F.softplus(fake.float()).mean())


def cross_entropy_generator(fake: Tensor) -> Float[Tensor, ""]:
    r""":math:`-\mathbb E[\ln \sigma(D(x'))]`, minimised by the generator; >= 0, ln 2 where all scores are 0."""
    return F.softplus(-fake.float()).mean()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor],
    real: Float[Tensor, "b c h w"],
    fake: Float[Tensor, "b c h w"],
    share: Float[Tensor, " b"] | None = None,
) -> Float[Tensor, ""]:
    r""":math:`\mathbb E (\lVert \nabla_{\hat x} D(\hat x) \rVert_2 - 1)^2`, >= 0 (Gulrajani et al. 2017).

    :math:`\hat x` lies between a real and a generated image, at `share` of the way to the real one (drawn uniformly if
    not given). The norm is of each sample's whole gradient. Computed in float32: under autocast the second derivative
    loses the digits that it is about.
    """
    with torch.autocast(real.device.type, enabled=False):
        t = torch.rand(len(real), device=real.device) if share is None else share
        t = t.view(-1, 1, 1, 1)
        between = (t * real.float() + (1 - t) * fake.detach().float()).requires_grad_(True)
        (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        return (gradient.flatten(1).norm(dim=1) - 1).square().mean()
