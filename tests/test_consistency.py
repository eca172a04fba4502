"""The generalised Dice, and the consistencies with the sign that helps and the one that is printed."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.test_losses import certain
from xmod_lab.losses.consistency import (
    accuracy,
    consistency_loss,
    critic_loss,
    output_consistency,
    printed_critic_loss,
)
from xmod_lab.losses.segmentation import generalised_dice


def labels_of(*counts: int) -> Tensor:
    """One slice with so many pixels of each class, in order."""
    return torch.cat([torch.full((n,), k) for k, n in enumerate(counts)]).view(1, 1, -1)


def test_generalised_dice_by_hand() -> None:
    """Three pixels of background and one of class 1; everywhere probabilities 3/4 of the one and 1/4 of the other."""
    logits = torch.tensor([math.log(3.0), 0.0]).view(1, 2, 1, 1).expand(1, 2, 1, 4)
    overlap = (3 * 0.75) / 3 + (1 * 0.25) / 1
    whole = (4 * 0.75 + 3) / 3 + (4 * 0.25 + 1) / 1
    assert generalised_dice(logits, labels_of(3, 1)).item() == pytest.approx(1 - 2 * overlap / whole, rel=1e-5)
    printed = 1 - (2 / 3) * (3 * 0.75) / (4 * 0.75 + 3) - 2 * 0.25 / (4 * 0.25 + 1)
    assert generalised_dice(logits, labels_of(3, 1), literal=True).item() == pytest.approx(printed, rel=1e-5)


def test_a_perfect_prediction_with_absent_classes_has_none() -> None:
    labels = labels_of(900, 0, 60, 0, 4)
    assert generalised_dice(certain(labels, 6), labels).item() == pytest.approx(0, abs=1e-5)
    assert generalised_dice(certain(labels_of(4, 0), 2), labels_of(4, 0)).item() == pytest.approx(0, abs=1e-5)
    empty = torch.randn(1, 3, 1, 5, requires_grad=True)
    generalised_dice(empty, labels_of(5, 0, 0)).backward()
    assert empty.grad is not None and empty.grad.isfinite().all()


@pytest.mark.parametrize("of", [1, 2])
def test_it_falls_as_one_class_gets_better(of: int) -> None:
    """More and more pixels of one class are found, the other stays half found."""
    labels = labels_of(800, 40, 10)
    size = int((labels == of).sum())
    values = []
    for found in range(0, size + 1, size // 5):
        predicted = labels.clone()
        for k in (1, 2):
            places = (labels[0, 0] == k).nonzero()[:, 0]
            predicted[0, 0, places[(found if k == of else len(places) // 2) :]] = 0
        values.append(generalised_dice(certain(predicted, 3), labels).item())
    assert values == sorted(values, reverse=True) and values[0] - values[-1] > 0.2
    assert len(set(values)) == len(values)


def test_classes_weigh_alike_however_large() -> None:
    """Missing half of ten pixels costs as much as missing half of four hundred, both to the background."""
    costs = []
    for k, n in ((1, 400), (2, 10)):
        predicted = labels_of(4000, 400, 10)
        places = (predicted[0, 0] == k).nonzero()[:, 0]
        predicted[0, 0, places[: n // 2]] = 0
        costs.append(generalised_dice(certain(predicted, 3), labels_of(4000, 400, 10)).item())
    assert costs[0] == pytest.approx(costs[1], rel=0.1) and costs[1] > 0.05


def test_as_printed_it_hardly_moves() -> None:
    labels = labels_of(4000, 400, 80, 60)
    values = {}
    for literal in (False, True):
        for share in (0.2, 0.9):
            predicted = labels.clone()
            for k in (1, 2, 3):
                places = (labels[0, 0] == k).nonzero()[:, 0]
                predicted[0, 0, places[int(share * len(places)) :]] = 0
            values[literal, share] = generalised_dice(certain(predicted, 4), labels, literal).item()
    assert values[False, 0.2] - values[False, 0.9] > 0.3
    assert 0 < values[True, 0.2] - values[True, 0.9] < 0.03


def test_output_consistency() -> None:
    a, b = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    for literal in (False, True):
        assert output_consistency(a, a + 5, literal).item() == pytest.approx(0, abs=1e-5), "a shift changes no softmax"
    p, q = a.softmax(1), b.softmax(1)
    assert output_consistency(a, b).item() == pytest.approx((p - q).square().sum(1).mean().item(), rel=1e-5)
    norms = (p - q).flatten(1).norm(dim=1).mean().item()
    assert output_consistency(a, b, literal=True).item() == pytest.approx(-norms, rel=1e-5)
    opposite = [certain(torch.full((1, 2, 2), k), 2) for k in (0, 1)]
    assert output_consistency(*opposite).item() == pytest.approx(2)


@pytest.mark.parametrize("literal", [False, True])
def test_a_step_brings_predictions_together_and_the_printed_one_drives_them_apart(literal: bool) -> None:
    a, b = (torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    before = output_consistency(a, b).item()
    x = a.clone().requires_grad_()
    (slope,) = torch.autograd.grad(output_consistency(x, b, literal), x)
    after = output_consistency(a - 0.1 * slope, b).item()
    assert (after > before) if literal else (after < before)


def test_critics_losses_by_hand() -> None:
    zero = torch.zeros(2, 1, 3, 3)
    assert critic_loss(zero, zero).item() == pytest.approx(2 * math.log(2))
    assert consistency_loss(zero).item() == pytest.approx(math.log(2))
    assert consistency_loss(zero, literal=True).item() == pytest.approx(-math.log(2))
    assert printed_critic_loss(zero, zero).item() == 0
    real, fake = torch.tensor([2.0]), torch.tensor([-1.0])
    p, q = real.sigmoid().item(), fake.sigmoid().item()
    assert critic_loss(real, fake).item() == pytest.approx(-math.log(p) - math.log(1 - q), rel=1e-5)
    assert printed_critic_loss(real, fake).item() == pytest.approx(-math.log(p) + math.log(1 - q), rel=1e-5)
    assert consistency_loss(fake).item() == pytest.approx(-math.log(q), rel=1e-5)
    assert accuracy(torch.tensor([1.0, -1.0]), torch.tensor([-3.0, -1.0])).item() == 0.75
    assert accuracy(zero, zero).item() == 0.5, "who says the same of all is right half the time"


@pytest.mark.parametrize(("loss", "down"), [(critic_loss, True), (printed_critic_loss, False)])
def test_a_critics_step_tells_real_from_fake_and_the_printed_one_does_not(loss: Callable, down: bool) -> None:
    real, fake = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    slopes = torch.autograd.grad(loss(real, fake), [real, fake])
    assert (slopes[0] < 0).all(), "a step against the gradient raises D(real)"
    assert (slopes[1] > 0).all() == down and (slopes[1] < 0).all() == (not down), "and must lower D(fake)"


def gap_after(critic_of: Callable, literal: bool = False, steps: int = 300) -> float:
    """Two Gaussians at 0 and at 3: what moves the second one towards the first is a critic alone; the gap that is left.

    The critic is a straight line, trained in turn with the mover on fresh draws.
    """
    torch.manual_seed(0)
    critic, place = nn.Linear(1, 1), nn.Parameter(torch.tensor(3.0))
    nn.init.zeros_(critic.weight)
    movers = torch.optim.SGD([place], 0.05), torch.optim.SGD(critic.parameters(), 0.05, weight_decay=0.01)
    for _ in range(steps):
        labelled, unlabelled = torch.randn(64, 1), place + torch.randn(64, 1)
        movers[1].zero_grad()
        critic_of(critic(labelled), critic(unlabelled.detach())).backward()
        movers[1].step()
        movers[0].zero_grad()
        consistency_loss(critic(unlabelled), literal).backward()
        movers[0].step()
    return abs(place.item())


def test_the_game_closes_the_gap_of_two_gaussians() -> None:
    assert gap_after(critic_loss) < 1


def test_with_equation_2_as_printed_it_does_not() -> None:
    """Nor where the critic minimises that equation, nor with equations 6 and 8 as printed."""
    assert gap_after(printed_critic_loss) > 2.9
    assert gap_after(lambda real, fake: -printed_critic_loss(real, fake)) > 2
    assert gap_after(critic_loss, literal=True) > 4
