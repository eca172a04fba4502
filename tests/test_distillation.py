"""UMMKD's soft confusions by hand, and the classes that a batch does not hold."""

from __future__ import annotations

import math

import pytest
import torch

from xmod_lab.losses.distillation import class_logits, distillation_loss, soft_confusion


def test_rows_are_mean_logits_over_the_pixels_of_a_class() -> None:
    logits = torch.tensor([[[[1.0, 3.0], [5.0, 7.0]], [[0.0, 2.0], [4.0, 6.0]], [[0.0, 0.0], [0.0, 9.0]]]])
    labels = torch.tensor([[[0, 0], [1, 1]]])
    rows, present = class_logits(logits, labels)
    assert rows.tolist() == [[2.0, 1.0, 0.0], [6.0, 5.0, 4.5], [0.0, 0.0, 0.0]]
    assert present.tolist() == [True, True, False]


def test_soft_confusion_by_hand() -> None:
    q = soft_confusion(torch.tensor([[2 * math.log(3.0), 0.0], [1.0, 1.0]]), temperature=2.0)
    assert q[0].tolist() == pytest.approx([0.75, 0.25]) and q[1].tolist() == [0.5, 0.5]


def test_divergence_by_hand_and_symmetric() -> None:
    """Symmetric KL of (3/4, 1/4) and (1/2, 1/2), half of both directions: (1/8) ln 3."""
    first, second = torch.tensor([[2 * math.log(3.0), 0.0], [7.0, 0.0]]), torch.zeros(2, 2)
    present = torch.tensor([True, False])
    assert distillation_loss(first, second, present).item() == pytest.approx(math.log(3) / 8)
    assert distillation_loss(second, first, present).item() == pytest.approx(math.log(3) / 8)


def test_equal_logits_give_nothing_even_if_shifted() -> None:
    rows = torch.randn(4, 4)
    present = torch.tensor([True] * 4)
    assert distillation_loss(rows, rows.clone(), present) == 0
    assert distillation_loss(rows, rows + 3.0, present) < 1e-6  # softmax does not see a constant


def test_an_absent_class_counts_only_as_printed() -> None:
    sure = 9 * torch.eye(3)
    absent = sure.clone()
    absent[2] = 0
    sure.requires_grad_(True)
    masked = distillation_loss(sure, absent, torch.tensor([True, True, False]))
    assert masked == 0 and torch.autograd.grad(masked, sure)[0][2].abs().sum() == 0
    printed = distillation_loss(sure, absent, torch.tensor([True] * 3))
    (gradient,) = torch.autograd.grad(printed, sure)
    assert printed > 0.3 and gradient[2, 2] > 0  # a step lowers the right logit of the sure modality


def test_no_class_in_common_is_zero_with_zero_gradient() -> None:
    rows = torch.randn(2, 2, requires_grad=True)
    loss = distillation_loss(rows, torch.randn(2, 2), torch.tensor([False, False]))
    assert loss == 0 and torch.autograd.grad(loss, rows)[0].abs().sum() == 0


def test_both_modalities_learn() -> None:
    first, second = torch.randn(3, 3, requires_grad=True), torch.randn(3, 3, requires_grad=True)
    gradients = torch.autograd.grad(distillation_loss(first, second, torch.tensor([True] * 3)), (first, second))
    assert all(g.abs().sum() > 0 for g in gradients)


def test_gradcheck() -> None:
    present = torch.tensor([True, False, True])
    rows = [torch.randn(3, 3, dtype=torch.double, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(lambda a, b: distillation_loss(a, b, present), tuple(rows))
