"""What holds an image and its translation together (BiGL, He et al.): pure functions of logits and of critics' scores.

Equations 5, 6 and 8 are printed with the wrong sign, equation 2 with one wrong sign of two; `literal` is the print.
Scores are logits of a critic, of any shape; "labelled" are those of the image that has labels, "unlabelled" those of
the one that shall become like it: of source looks :math:`x_s` and :math:`x_{t \\to s}`, of target looks
:math:`x_{s \\to t}` and :math:`x_t`.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from xmod_lab.losses.adversarial import cross_entropy_critic, cross_entropy_generator


def output_consistency(
    first: Float[Tensor, "b c h w"], second: Float[Tensor, "b c h w"], literal: bool = False
) -> Float[Tensor, ""]:
    r"""How far the class probabilities of two images of the same anatomy are from each other; in [0, 2]. Equation 5.

    .. math:: \frac{1}{b h w} \sum_n \lVert p_n - p'_n \rVert_2^2

    of two sets of logits, 0 for equal ones; both are pulled. literal: :math:`-E \lVert p - p' \rVert_2` as printed, the
    norm over an image's pixels and classes; minimised, it drives them apart. In [-sqrt(2 h w), 0].
    """
    apart = (first.float().softmax(1) - second.float().softmax(1)).square()
    if literal:
        return -apart.sum((1, 2, 3)).clamp_min(1e-12).sqrt().mean()
    return apart.sum(1).mean()


def critic_loss(labelled: Tensor, unlabelled: Tensor) -> Float[Tensor, ""]:
    r""":math:`-E[\ln \sigma(D(u))] - E[\ln(1 - \sigma(D(u')))]`, minimised by the critic; >= 0, 2 ln 2 at scores of 0.

    The negative of equations 7 and 9, which are values that it maximises.
    """
    return 2 * cross_entropy_critic(labelled, unlabelled)


def printed_critic_loss(real: Tensor, fake: Tensor) -> Float[Tensor, ""]:
    r""":math:`-E[\ln \sigma(D(x))] + E[\ln(1 - \sigma(D(x')))]`: the negative of equation 2 as printed; unbounded.

    Whether a critic maximises that equation or minimises it, both its terms push all scores one way: it says "real" of
    everything, or "fake", and its gradient tells a generator nothing of the difference.
    """
    return F.softplus(-real.float()).mean() - F.softplus(fake.float()).mean()


def consistency_loss(unlabelled: Tensor, literal: bool = False) -> Float[Tensor, ""]:
    r""":math:`-E[\ln \sigma(D(u'))]`, minimised by the segmenter; >= 0, ln 2 at scores of 0. Equations 6 and 8.

    literal: :math:`E[\ln \sigma(D(u'))]` as printed, of a total that is minimised: the segmenter then helps the critic
    to tell the images apart; <= 0.
    """
    loss = cross_entropy_generator(unlabelled)
    return -loss if literal else loss


def accuracy(labelled: Tensor, unlabelled: Tensor) -> Float[Tensor, ""]:
    """Share of scores with which a critic is right, each side half of it: 0.5 where it cannot tell them apart."""
    return 0.5 * ((labelled > 0).float().mean() + (unlabelled <= 0).float().mean())
