"""Structural similarity and gradient difference as losses; the pool of earlier translations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity as reference

from xmod_lab.losses.similarity import gradient_difference, structural_similarity
from xmod_lab.models.pool import ImagePool


def images(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(2, 3, 24, 20, generator=generator) * 2 - 1
    return x, (0.7 * x + 0.3 * torch.randn(x.shape, generator=generator)).clamp(-1, 1)


def test_structural_similarity_against_scikit_image() -> None:
    x, y = images()
    values = []
    for a, b in zip(x.flatten(0, 1).numpy(), y.flatten(0, 1).numpy(), strict=True):
        _, full = reference((a + 1) / 2, (b + 1) / 2, data_range=1.0, gaussian_weights=True, sigma=1.5,
                            use_sample_covariance=False, full=True)  # fmt: skip
        values.append(full[5:-5, 5:-5])
    expected = np.stack(values)
    assert structural_similarity(x, y, clamped=False, window=11).item() == pytest.approx(expected.mean(), abs=1e-5)
    assert structural_similarity(x, y, window=11).item() == pytest.approx(np.maximum(expected, 0).mean(), abs=1e-5)


def test_structural_similarity_of_equal_and_opposite_images() -> None:
    x, _ = images()
    assert structural_similarity(x, x).item() == pytest.approx(1.0, abs=1e-6)
    assert structural_similarity(x, -x, clamped=False).item() < 0 <= structural_similarity(x, -x).item() < 0.05


def test_structural_similarity_has_a_true_gradient() -> None:
    x, y = (image[:1, :1, :9, :9].double().float() for image in images())
    x = x.clone().requires_grad_(True)
    structural_similarity(x, y, clamped=False).backward()
    step = torch.zeros_like(x)
    step[0, 0, 4, 4] = 1e-2
    with torch.no_grad():
        slope = (structural_similarity(x + step, y, False) - structural_similarity(x - step, y, False)) / 2e-2
    assert x.grad is not None and x.grad[0, 0, 4, 4].item() == pytest.approx(slope.item(), rel=2e-2)


def test_structural_similarity_stays_in_float32_under_autocast() -> None:
    x, _ = images()
    y = (x + 1e-3).clamp(-1, 1)
    plain = structural_similarity(x, y)
    with torch.autocast("cpu", torch.bfloat16):
        assert structural_similarity(x, y).item() == plain.item()


def test_gradient_difference_by_hand() -> None:
    x = torch.tensor([[0.0, 1.0], [3.0, 3.0]])[None, None]
    y = torch.tensor([[0.0, 0.0], [1.0, 4.0]])[None, None]
    # down: |3|, |2| against |1|, |4| -> 2 and 2; across: |1|, |0| against |0|, |3| -> 1 and 3
    assert gradient_difference(x, y).item() == 4.0
    assert gradient_difference(x, x + 5).item() == gradient_difference(x, -x).item() == 0.0


def test_the_pool_fills_then_gives_half_of_them_earlier_images() -> None:
    torch.manual_seed(0)
    pool = ImagePool(4)
    first = torch.arange(4.0).view(4, 1, 1, 1)
    assert torch.equal(pool.draw(first), first) and torch.equal(pool.images, first)
    earlier, held = 0, set(range(4))
    for number in range(4, 1004):
        given = int(pool.draw(torch.full((1, 1, 1, 1), float(number))))
        if given != number:
            earlier += 1
            assert given in held, "only what it holds comes out"
            held = held - {given} | {number}
    assert held == set(pool.images.flatten().int().tolist()) and 430 < earlier < 570


def test_an_empty_pool_gives_what_it_gets_and_nothing_has_a_gradient() -> None:
    image = torch.rand(2, 1, 4, 4, requires_grad=True)
    for size in (0, 3):
        given = ImagePool(size).draw(image)
        assert torch.equal(given, image) and not given.requires_grad
