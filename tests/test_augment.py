"""Augmentation: exact cases by hand, MONAI as the reference for gamma, nothing leaves the range."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xmod_lab.data.augment import ROTATION, SCALE, Draw, augmented, draw_augmentation
from xmod_lab.rng import torch_rng

RANGE = (-1.0, 1.0)


def draw_of(matrix: list[list[float]], count: int = 1, *, gamma: float = 1.0, invert: bool = False,
            contrast: float = 1.0, brightness: float = 0.0) -> Draw:
    def full(value: float) -> torch.Tensor:
        return torch.full((count,), value)

    return Draw(torch.tensor(matrix).expand(count, 2, 2), full(gamma), torch.full((count,), invert), full(contrast),
                full(brightness))


SAME = [[1.0, 0.0], [0.0, 1.0]]


def sample(count: int = 2, channels: int = 1, size: int = 16) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(count, channels, size, size, generator=generator) * 1.8 - 0.9
    label = torch.randint(0, 4, (count, size, size), generator=generator)
    body = torch.zeros(count, size, size, dtype=torch.bool)
    body[:, 3:-3, 2:-2] = True
    return image, label, body


def test_identity_changes_nothing() -> None:
    image, label, body = sample()
    out = augmented(image, label, body, draw_of(SAME, 2), RANGE)
    torch.testing.assert_close(out[0], image, atol=1e-5, rtol=0)
    assert torch.equal(out[1], label) and torch.equal(out[2], body)  # type: ignore[arg-type]


@pytest.mark.parametrize(("matrix", "dims"), [([[-1.0, 0.0], [0.0, 1.0]], (-1,)), ([[1.0, 0.0], [0.0, -1.0]], (-2,))])
def test_flips_are_exact(matrix: list[list[float]], dims: tuple[int, ...]) -> None:
    image, label, body = sample(channels=3)
    out = augmented(image, label, body, draw_of(matrix, 2), RANGE)
    torch.testing.assert_close(out[0], image.flip(dims), atol=1e-5, rtol=0)
    assert torch.equal(out[1], label.flip(dims)) and torch.equal(out[2], body.flip(dims))  # type: ignore[arg-type]


def test_a_quarter_turn_is_rot90() -> None:
    image, label, body = sample(size=15)
    out = augmented(image, label, body, draw_of([[0.0, -1.0], [1.0, 0.0]], 2), RANGE)
    torch.testing.assert_close(out[0], torch.rot90(image, 1, (-2, -1)), atol=1e-5, rtol=0)
    assert torch.equal(out[1], torch.rot90(label, 1, (-2, -1)))  # type: ignore[arg-type]


def test_what_comes_from_outside_is_background() -> None:
    """Half the size: a border of a quarter on each side comes from outside."""
    image, label, body = sample()
    out, found, inside = augmented(image, label + 1, torch.ones_like(body), draw_of([[2.0, 0.0], [0.0, 2.0]], 2), RANGE)
    assert found is not None
    lowest = image.amin(dim=(1, 2, 3))
    torch.testing.assert_close(out[:, 0, 0, 0], lowest, atol=1e-5, rtol=0)
    assert (found[:, :3] == 0).all() and not inside[:, :3].any()
    given_value, *_ = augmented(image, None, body, draw_of([[2.0, 0.0], [0.0, 2.0]], 2), RANGE, 0.25)
    torch.testing.assert_close(given_value[:, 0, 0, 0], torch.full((2,), 0.25), atol=1e-5, rtol=0)
    torch.testing.assert_close(given_value[:, :, 5:11, 5:11], out[:, :, 5:11, 5:11], atol=1e-5, rtol=0)
    assert (found[:, 5:11, 5:11] > 0).all() and inside[:, 5:11, 5:11].all()


@given(st.integers(0, 10**6), st.booleans())
def test_labels_keep_their_values_and_images_their_range(seed: int, strong: bool) -> None:
    image, label, body = sample(4)
    draw = draw_augmentation(4, torch_rng(seed), flips=("horizontal", "vertical"), strong=strong)
    out, found, inside = augmented(image, label * 3, body, draw, RANGE)
    assert found is not None and found.dtype == torch.int64 and inside.dtype == torch.bool
    assert set(found.unique().tolist()) <= {0, 3, 6, 9}
    assert torch.isfinite(out).all() and out.min() >= -1 and out.max() <= 1
    scale = draw.matrix.det().abs().sqrt()
    assert (1 / scale >= SCALE[0] - 1e-4).all() and (1 / scale <= SCALE[1] + 1e-4).all()


def test_angles_and_flips_are_drawn_as_said() -> None:
    matrix = draw_augmentation(4000, torch_rng(0), flips=("horizontal",)).matrix
    flipped = matrix.det() < 0
    assert 0.45 < flipped.float().mean() < 0.55
    angle = torch.rad2deg(torch.atan2(matrix[:, 1, 0], matrix[:, 1, 1]))
    assert angle.abs().max() <= ROTATION + 1e-3 and angle.abs().max() > ROTATION - 0.5
    assert abs(float(angle.mean())) < 1
    assert (draw_augmentation(500, torch_rng(0), flips=()).matrix.det() > 0).all()


def test_image_label_and_foreground_move_together() -> None:
    image = torch.full((8, 1, 48, 48), -1.0)
    image[:, :, 12:30, 16:40] = 1.0
    label = (image[:, 0] > 0).long()
    draw = draw_augmentation(8, torch_rng(3), flips=("horizontal", "vertical"))
    out, found, inside = augmented(image, label, label.bool(), draw, RANGE)
    assert found is not None and torch.equal(found.bool(), inside)
    assert ((out[:, 0] > 0) ^ found.bool()).float().mean() < 0.01
    assert (found != label).any()


def test_strong_draws_the_same_geometry_as_standard() -> None:
    """So that a comparison of the two differs in intensity alone."""
    standard = draw_augmentation(6, torch_rng(1, "augment"))
    strong = draw_augmentation(6, torch_rng(1, "augment"), strong=True)
    assert torch.equal(standard.matrix, strong.matrix)
    assert (standard.gamma == 1).all() and (strong.gamma != 1).any()


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("gamma", [0.7, 1.4])
def test_gamma_is_monai_s_inside_the_foreground(gamma: float, invert: bool) -> None:
    from monai.transforms import AdjustContrast

    image = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(1)) - 0.5
    everywhere = torch.ones(1, 16, 16, dtype=torch.bool)
    out = augmented(image, None, everywhere, draw_of(SAME, gamma=gamma, invert=invert), RANGE)[0]
    reference = AdjustContrast(gamma, invert_image=invert, retain_stats=True)(image[0])
    torch.testing.assert_close(out[0], torch.as_tensor(reference), atol=2e-3, rtol=0)  # MONAI's spread has n - 1


def test_intensity_changes_stay_in_the_foreground_and_keep_mean_and_spread() -> None:
    image, _, body = sample()
    image[~body[:, None]] = -1.0
    out = augmented(image, None, body, draw_of(SAME, 2, gamma=1.5, invert=True), (-9, 9))[0]
    assert (out[~body[:, None]] == -1).all()
    for before, after in zip(image, out, strict=True):
        mask = body[0][None]
        assert not torch.allclose(before[mask], after[mask], atol=0.01)
        assert math.isclose(before[mask].mean(), after[mask].mean(), abs_tol=1e-4)
        assert math.isclose(before[mask].std(), after[mask].std(), abs_tol=1e-4)


def test_contrast_and_brightness_by_hand() -> None:
    image = torch.tensor([0.0, 0.2, 0.4, 0.6]).reshape(1, 1, 2, 2)
    body = torch.ones(1, 2, 2, dtype=torch.bool)
    out = augmented(image, None, body, draw_of(SAME, contrast=0.5, brightness=0.1), RANGE)[0]
    torch.testing.assert_close(out.ravel(), torch.tensor([0.25, 0.35, 0.45, 0.55]))


def test_an_empty_foreground_is_left_alone() -> None:
    image = torch.full((2, 1, 8, 8), -1.0)
    nowhere = torch.zeros(2, 8, 8, dtype=torch.bool)
    out = augmented(image, None, nowhere, draw_of(SAME, 2, gamma=1.5, contrast=1.2), RANGE)[0]
    assert torch.equal(out, image)
