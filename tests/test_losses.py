"""Losses of segmentation: numbers by hand, MONAI as reference, gradients, absent classes."""

from __future__ import annotations

import math

import pytest
import torch

from xmod_lab.losses.segmentation import cross_entropy, dice_cross_entropy, hard_dice, soft_dice


def certain(labels: torch.Tensor, classes: int, logit: float = 30.0) -> torch.Tensor:
    """Logits of a prediction that is sure of `labels`."""
    return logit * torch.nn.functional.one_hot(labels, classes).movedim(-1, 1).float()


@pytest.mark.parametrize(
    ("logits", "label", "expected"),
    [
        ([0.0, 0.0], 0, math.log(2)),
        ([math.log(3.0), 0.0], 0, math.log(4 / 3)),
        ([math.log(3.0), 0.0], 1, math.log(4)),
    ],
)
def test_cross_entropy_by_hand(logits: list[float], label: int, expected: float) -> None:
    x = torch.tensor(logits).view(1, 2, 1, 1)
    assert cross_entropy(x, torch.tensor([[[label]]])).item() == pytest.approx(expected, rel=1e-6)


def test_weighted_cross_entropy_shares() -> None:
    """UAGAN's weights: with 1 % of foreground it carries a third of the loss, with 4 % two thirds."""
    weight = torch.tensor([0.02, 0.98])
    for foreground, share in ((0.01, 0.33), (0.04, 0.67)):
        labels = (torch.arange(10_000) < foreground * 10_000).long().view(1, 100, 100)
        logits = torch.zeros(1, 2, 100, 100, requires_grad=True)
        cross_entropy(logits, labels, weight).backward()
        assert logits.grad is not None
        pull = logits.grad.abs().sum(1)[0]
        assert (pull[labels[0] == 1].sum() / pull.sum()).item() == pytest.approx(share, abs=0.005)


def test_cross_entropy_pulls_where_the_probability_is_tiny() -> None:
    """No clamp at 0.005: at p = 1e-6 the gradient is alive."""
    logits = torch.tensor([[0.0], [math.log(1e6)]]).view(1, 2, 1, 1).requires_grad_()
    cross_entropy(logits, torch.zeros(1, 1, 1, dtype=torch.long)).backward()
    assert logits.grad is not None and logits.grad[0, 0, 0, 0].item() == pytest.approx(-1.0, abs=1e-4)


def test_soft_dice_by_hand() -> None:
    """Two of four pixels are foreground, everything is predicted at 0.5: Dice = 2*1/(2+2) = 0.5."""
    labels = torch.tensor([[[1, 1], [0, 0]]])
    assert soft_dice(torch.zeros(1, 2, 2, 2), labels).item() == pytest.approx(0.5, abs=1e-4)


def test_soft_dice_of_a_perfect_prediction_with_absent_classes_is_zero() -> None:
    """One class absent from the batch, one from a slice: MONAI's default per-slice Dice stays near 0.5 here."""
    from monai.losses import DiceLoss

    labels = torch.zeros(2, 8, 8, dtype=torch.long)
    labels[0, :4] = 1
    labels[1, :2] = 1
    labels[1, 6:] = 2
    logits = certain(labels, 4, 8.0)
    assert soft_dice(logits, labels).item() < 0.01
    theirs = DiceLoss(softmax=True, to_onehot_y=True, include_background=False)(logits, labels[:, None])
    assert theirs.item() > 0.3


def test_soft_dice_agrees_with_monai_where_all_classes_occur() -> None:
    from monai.losses import DiceLoss

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 16, 16, generator=generator)
    labels = torch.randint(0, 4, (3, 16, 16), generator=generator)
    reference = DiceLoss(
        softmax=True, to_onehot_y=True, include_background=False, batch=True, smooth_nr=1e-5, smooth_dr=1e-5
    )
    assert soft_dice(logits, labels).item() == pytest.approx(reference(logits, labels[:, None]).item(), abs=1e-6)


def test_soft_dice_without_foreground_is_zero_with_zero_gradient() -> None:
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    loss = soft_dice(logits, torch.zeros(1, 4, 4, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0 and logits.grad is not None and not logits.grad.any()


def test_losses_fall_as_the_prediction_gets_better() -> None:
    labels = torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(1))
    values = [dice_cross_entropy(certain(labels, 3, strength), labels).item() for strength in (-2, 0, 2, 8)]
    assert values == sorted(values, reverse=True) and values[-1] < 0.01


@pytest.mark.parametrize("loss", [cross_entropy, soft_dice, dice_cross_entropy])
def test_gradcheck(loss) -> None:  # type: ignore[no-untyped-def]
    labels = torch.randint(0, 3, (1, 3, 3), generator=torch.Generator().manual_seed(2))
    logits = torch.randn(1, 3, 3, 3, generator=torch.Generator().manual_seed(3))
    logits = logits.requires_grad_()
    step = 1e-2  # float32 inside soft_dice: central differences with a wide step and a matching tolerance
    loss(logits, labels).backward()
    for index in torch.randint(0, logits.numel(), (6,), generator=torch.Generator().manual_seed(4)):
        with torch.no_grad():
            up, down = logits.clone().view(-1), logits.clone().view(-1)
            up[index] += step
            down[index] -= step
            slope = (loss(up.view_as(logits), labels) - loss(down.view_as(logits), labels)) / (2 * step)
        assert logits.grad is not None
        assert slope.item() == pytest.approx(logits.grad.view(-1)[index].item(), abs=2e-4)


def test_hard_dice_by_hand() -> None:
    prediction, truth = torch.tensor([[[1, 1, 0, 0]]]), torch.tensor([[[1, 0, 0, 0]]])
    scores = hard_dice(prediction, truth, 3)
    assert scores[0].item() == pytest.approx(2 / 3) and scores[1].isnan()
