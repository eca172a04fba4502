"""Losses of segmentation: pure functions of logits and labels.

All of them take logits (b, c, h, w), class 0 being background, and labels (b, h, w) in 0..c-1.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F


def cross_entropy(
    logits: Float[Tensor, "b c h w"], labels: Int64[Tensor, "b h w"], weight: Float[Tensor, " c"] | None = None
) -> Float[Tensor, ""]:
    r"""Mean of :math:`-\log p_{y_n}` over pixels, in nats, >= 0.

    With class weights it is PyTorch's weighted mean, :math:`-\sum_n w_{y_n} \log p_{y_n} / \sum_n w_{y_n}`: at 1 % of
    foreground and UAGAN's weights (0.02, 0.98), foreground carries a third of the loss. The log-softmax keeps the
    gradient alive where :math:`p` is tiny, unlike the clamp at 0.005 of several released codes.
    """
    return F.cross_entropy(logits, labels, weight)


def soft_dice(
    logits: Float[Tensor, "b c h w"], labels: Int64[Tensor, "b h w"], smooth: float = 1e-5
) -> Float[Tensor, ""]:
    r"""One minus the soft Dice of the batch, averaged over the foreground classes that occur in it; in [0, 1].

    .. math:: 1 - \frac1{|K|} \sum_{k \in K} \frac{2\sum_n p_{kn} y_{kn} + s}{\sum_n p_{kn} + \sum_n y_{kn} + s}

    Sums run over all pixels of the batch, :math:`K` holds the foreground classes with at least one pixel. A Dice per
    slice, or one that counts absent classes, stays near 1 - present/all as soon as a softmax leaves a little doubt.
    Zero without gradient if no foreground class occurs.
    """
    probabilities = logits.float().softmax(1)[:, 1:]
    truth = F.one_hot(labels, logits.shape[1]).movedim(-1, 1)[:, 1:].to(probabilities.dtype)
    overlap = (probabilities * truth).sum((0, 2, 3))
    truth_size = truth.sum((0, 2, 3))
    dice = (2 * overlap + smooth) / (probabilities.sum((0, 2, 3)) + truth_size + smooth)
    present = (truth_size > 0).to(dice.dtype)
    return ((1 - dice) * present).sum() / present.sum().clamp(min=1)


def dice_cross_entropy(
    logits: Float[Tensor, "b c h w"], labels: Int64[Tensor, "b h w"], weight: Float[Tensor, " c"] | None = None
) -> Float[Tensor, ""]:
    """`soft_dice` + `cross_entropy`, the package's default for segmentation; >= 0."""
    return soft_dice(logits, labels) + cross_entropy(logits.float(), labels, weight)


def balanced_cross_entropy(
    logits: Float[Tensor, "b c h w"], labels: Int64[Tensor, "b h w"]
) -> Float[Tensor, ""]:
    r"""`cross_entropy` with :math:`w_k = 1 - n_k / n`, one minus the share of class k in the batch: after SASAN's code,
    which takes shares image by image and divides by another count.

    A batch that is all of one class has weight 0 for it and no others; its loss is then 0, with zero gradients.
    """
    share = F.one_hot(labels, logits.shape[1]).float().mean((0, 1, 2))
    weight = 1 - share
    each = F.cross_entropy(logits.float(), labels, weight, reduction="sum")
    return each / weight[labels].sum().clamp_min(1e-6)


def generalised_dice(
    logits: Float[Tensor, "b c h w"], labels: Int64[Tensor, "b h w"], literal: bool = False
) -> Float[Tensor, ""]:
    r"""One minus the generalised Dice of the batch, all classes weighing alike however large they are; in [0, 1].

    .. math:: 1 - \frac{2\sum_i w_i \sum_n p_{in} y_{in}}{\sum_i w_i \sum_n (p_{in} + y_{in})},
        \qquad w_i = 1 / \sum_n y_{in}

    Sums run over all pixels of the batch, i over all classes, background too; a class that the batch lacks has weight
    0, so that a perfect prediction has 0. BiGL, equation 4.

    literal: :math:`1 - \sum_i 2 w_i \sum_n p_{in} y_{in} / \sum_n (p_{in} + y_{in})` as printed, the weight outside the
    ratio: a Dice of 0.2 and one of 0.9 in every class differ by less than a hundredth then.
    """
    p = logits.float().softmax(1)
    y = F.one_hot(labels, logits.shape[1]).movedim(-1, 1).to(p.dtype)
    size = y.sum((0, 2, 3))
    weight = (size > 0) / size.clamp_min(1)
    overlap, whole = (p * y).sum((0, 2, 3)), (p + y).sum((0, 2, 3))
    if literal:
        return 1 - (2 * weight * overlap / whole.clamp_min(1e-6)).sum()
    return 1 - 2 * (weight * overlap).sum() / (weight * whole).sum()


def share_weighted_cross_entropy(
    logits: Float[Tensor, "b c h w"], labels: Int64[Tensor, "b h w"], floor: float = 0.0
) -> Float[Tensor, ""]:
    r"""Mean over pixels of :math:`-w_{y_n} \log \max(p_{y_n}, f)`, :math:`w_k = 1 - n_k / n` in the batch; >= 0 (SIFA).

    Not divided by the weights as `balanced_cross_entropy` is: of slices with 95 % background it is about a tenth of it.
    With a floor f, as the authors' 0.005, a pixel that is wrong by more than that teaches nothing.
    """
    share = F.one_hot(labels, logits.shape[1]).float().mean((0, 1, 2))
    log_p = logits.float().log_softmax(1).gather(1, labels[:, None])[:, 0]
    if floor:
        log_p = log_p.clamp_min(math.log(floor))
    return -((1 - share)[labels] * log_p).mean()


def squared_dice(
    logits: Float[Tensor, "b c h w"], labels: Int64[Tensor, "b h w"], smooth: float = 1e-7
) -> Float[Tensor, ""]:
    r"""One minus the mean over all classes, background too, of a soft Dice of the batch; in [0, 1] (SIFA).

    .. math:: 1 - \frac1c \sum_k \frac{2\sum_n p_{kn} y_{kn}}{\sum_n p_{kn}^2 + \sum_n y_{kn} + s}

    A class that does not occur counts 1/c, without gradient: it neither rewards nor punishes a prediction of it.
    """
    p = logits.float().softmax(1)
    truth = F.one_hot(labels, logits.shape[1]).movedim(-1, 1).to(p.dtype)
    overlap, squares, size = (v.sum((0, 2, 3)) for v in (p * truth, p.square(), truth))
    return 1 - (2 * overlap / (squares + size + smooth)).mean()


def hard_dice(prediction: Int64[Tensor, "b h w"], labels: Int64[Tensor, "b h w"], classes: int) -> Float[Tensor, " k"]:
    """Dice of the foreground classes 1..classes-1 over all pixels given, in [0, 1]; NaN where a class is in neither."""
    scores = []
    for k in range(1, classes):
        p, y = prediction == k, labels == k
        scores.append(2 * (p & y).sum() / (p.sum() + y.sum()))  # 0/0 is NaN in torch: absent from both
    return torch.stack(scores).float()
