"""CSA's affinities against loops and by hand, and what is left of them if the printed equations are followed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from xmod_lab.losses.affinity import affinity, affinity_loss, area_scaled, class_masks, mean_affinity


@pytest.fixture
def features() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(3, 5, 6, 7, generator=generator)
    second = torch.rand(3, 4, 6, 7, generator=generator)
    labels = torch.randint(0, 3, (3, 12, 14), generator=generator)
    return first, second, class_masks(labels, 3, (6, 7))


def by_loops(first: Tensor, second: Tensor, masks: Tensor) -> Tensor:
    """Cosine of every pair of masked channels, one number at a time."""
    b, m, n, c = len(first), first.shape[1], second.shape[1], masks.shape[1]
    found = torch.zeros(b, c, m, n)
    for s in range(b):
        for k in range(c):
            w = masks[s, k].double()
            for i in range(m):
                f = first[s, i].double()
                for j in range(n):
                    g = second[s, j].double()
                    found[s, k, i, j] = (w * f * g).sum() / ((w * f * f).sum() * (w * g * g).sum()).sqrt()
    return found


def test_batched_equals_loops(features: tuple[Tensor, Tensor, Tensor]) -> None:
    assert torch.allclose(affinity(*features), by_loops(*features), atol=1e-5)


def test_the_layout_in_memory_does_not_matter(features: tuple[Tensor, Tensor, Tensor]) -> None:
    first, second, masks = (t.to(memory_format=torch.channels_last) for t in features)
    assert torch.equal(affinity(first, second, masks), affinity(*features))


def test_a_binary_mask_gives_the_cosine_of_masked_features() -> None:
    first, second = torch.randn(1, 3, 4, 4), torch.randn(1, 2, 4, 4)
    mask = (torch.rand(1, 1, 4, 4) > 0.5).float()
    f, g = (first * mask).flatten(2)[0], (second * mask).flatten(2)[0]
    expected = torch.nn.functional.cosine_similarity(f[:, None], g[None], dim=2)
    assert torch.allclose(affinity(first, second, mask)[0, 0], expected, atol=1e-5)


def test_by_hand() -> None:
    """F = (3, 4), G = (4, 3) over two pixels of one class: cosine 24/25; a constant channel with itself: 1."""
    first = torch.tensor([[[[3.0, 4.0]]]])
    second = torch.tensor([[[[4.0, 3.0]], [[2.0, 2.0]]]])
    found = affinity(first, second, torch.ones(1, 1, 1, 2))[0, 0, 0]
    assert found.tolist() == pytest.approx([24 / 25, 14 / (5 * 2 * 2**0.5)])


def test_scale_is_irrelevant_and_values_are_cosines(features: tuple[Tensor, Tensor, Tensor]) -> None:
    first, second, masks = features
    assert torch.allclose(affinity(7 * first, 0.01 * second, masks), affinity(*features), atol=1e-5)
    assert affinity(first - 0.5, second - 0.5, masks).abs().max() <= 1 + 1e-5


def test_an_empty_class_gives_zeros_not_nan(features: tuple[Tensor, Tensor, Tensor]) -> None:
    first, second, masks = features
    assert torch.equal(affinity(first, second, torch.zeros_like(masks)), torch.zeros(3, 3, 5, 4))


def test_masks_are_area_averages() -> None:
    labels = torch.tensor([[[0, 0, 1, 1], [0, 1, 1, 1]]])
    masks = class_masks(labels, 2, (1, 2))
    assert masks[0, 1].tolist() == [[0.25, 1.0]]
    assert torch.equal(masks.sum(1), torch.ones(1, 1, 2))
    assert torch.equal(class_masks(labels, 2, (2, 4))[:, 1], labels.float())


def test_mean_over_the_samples_that_hold_the_class() -> None:
    matrices = torch.arange(4.0).view(2, 2, 1, 1)  # samples x classes
    masks = torch.zeros(2, 2, 4, 4)
    masks[:, 0] = 1  # class 0 in both samples
    masks[1, 1, 0, :3] = 1  # class 1: three pixels in sample 1, below the four that count
    mean, present = mean_affinity(matrices, masks)
    assert mean[0].item() == 1.0 and present.tolist() == [True, False]
    masks[1, 1, 0, 3] = 1
    mean, present = mean_affinity(matrices, masks)
    assert mean[1].item() == 3.0 and present.tolist() == [True, True]


def test_equal_modalities_do_not_disagree() -> None:
    matrix, present = torch.rand(3, 5, 4), torch.tensor([True] * 3)
    for reduction in ("entry", "mean_then_square"):
        assert affinity_loss(matrix, matrix.clone(), present, reduction) == 0


def test_the_printed_loss_does_not_see_a_permutation() -> None:
    """Equation 4 has the sum inside the norm: rows in another order leave the mean, and so the loss, as it was."""
    matrix, present = torch.rand(1, 8, 8, dtype=torch.double), torch.tensor([True])
    moved = matrix[:, torch.randperm(8)].roll(1, dims=2)
    assert affinity_loss(matrix, moved, present) > 0.01
    assert affinity_loss(matrix, moved, present, "mean_then_square") < 1e-20


def test_the_printed_loss_is_orders_of_magnitude_smaller() -> None:
    generator = torch.Generator().manual_seed(1)
    losses = {}
    parts = [torch.rand(2, 16, 16, 16, generator=generator) ** 3 for _ in range(4)]
    labels = torch.zeros(2, 16, 16, dtype=torch.long)
    labels[:, 4:12, 4:12] = 1
    masks = class_masks(labels, 2, (16, 16))
    for literal in (False, True):
        found = []
        for f, g in (parts[:2], parts[2:]):
            matrices = affinity(f, g, masks)
            found.append(mean_affinity(area_scaled(matrices, masks) if literal else matrices, masks))
        losses[literal] = affinity_loss(
            found[0][0], found[1][0], found[0][1] & found[1][1], "mean_then_square" if literal else "entry"
        ).item()
    assert losses[True] < 1e-4 * losses[False]


def test_area_scaling_divides_by_pixels() -> None:
    masks = torch.zeros(1, 2, 4, 4)
    masks[0, 0, :2] = 1
    scaled = area_scaled(torch.ones(1, 2, 3, 3), masks)
    assert scaled[0, 0, 0, 0].item() == 1 / 8 and scaled[0, 1, 0, 0].item() == 1.0  # an absent class: not by zero


def test_a_class_that_one_modality_lacks_is_left_out() -> None:
    first = torch.rand(2, 3, 3, requires_grad=True)
    second = torch.rand(2, 3, 3)
    loss = affinity_loss(first, second, torch.tensor([True, False]))
    assert loss.item() == pytest.approx((first - second)[0].square().mean().item())
    (gradient,) = torch.autograd.grad(loss, first)
    assert gradient[0].abs().sum() > 0 and gradient[1].abs().sum() == 0
    nothing = affinity_loss(first, second, torch.tensor([False, False]))
    assert nothing == 0 and torch.autograd.grad(nothing, first)[0].abs().sum() == 0


def test_gradcheck(features: tuple[Tensor, Tensor, Tensor]) -> None:
    """In double precision the product is computed in float32: compare with a difference quotient instead."""
    first, second, masks = features
    weight = torch.rand(3, 3, 5, 4)
    first = first.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad((affinity(first, second, masks) * weight).sum(), first)
    direction = torch.randn_like(first)
    step = 1e-2
    up, down = ((affinity(first.detach() + s * direction, second, masks) * weight).sum() for s in (step, -step))
    assert ((up - down) / (2 * step)).item() == pytest.approx((gradient * direction).sum().item(), rel=2e-2, abs=1e-2)


def test_autocast_does_not_reach_inside(features: tuple[Tensor, Tensor, Tensor]) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(affinity(*features), affinity(*features).float())
        inside = affinity(*features)
    assert torch.allclose(inside, affinity(*features), atol=1e-6)
