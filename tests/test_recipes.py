"""Recipes: values by hand, guards, and the body found without labels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xmod_lab.data.manifest import Task
from xmod_lab.data.recipes import RECIPES, Recipe, foreground, normalise, outside_of, recipe_of
from xmod_lab.errors import LabError

MINMAX = Recipe("x", mr_clip=None, ct_window=None)
EVERYWHERE = np.ones((2, 2, 2), bool)


def cube(*values: float) -> np.ndarray:
    return np.array(values, np.float32).reshape(2, 2, 2)


def task(**fields: object) -> Task:
    plain = {"title": "t", "labelled": ["A"], "tested": ["A"], "classes": {"c": ["c"]}, "recipe": "P1"}
    return Task.model_validate(plain | fields)


def test_minmax_by_hand() -> None:
    out = normalise(cube(0, 10, 20, 30, 40, 40, 40, 40), EVERYWHERE, MINMAX, "MR")
    np.testing.assert_allclose(out.ravel()[:5], [-1, -0.5, 0, 0.5, 1], atol=1e-6)
    assert out.dtype == np.float32


def test_zscore_then_minmax_is_minmax() -> None:
    """Why P1 does not write the z-score that its paper names."""
    array = np.random.default_rng(0).normal(300, 80, (2, 2, 2)).astype(np.float32)
    z = (array - array.mean()) / array.std()
    both = [normalise(values, EVERYWHERE, MINMAX, "MR") for values in (z, array)]
    np.testing.assert_allclose(*both, atol=1e-5)


def test_ct_window_is_fixed() -> None:
    out = normalise(cube(-1000, -160, 40, 240, 3000, 0, 0, 0), EVERYWHERE, RECIPES["chaos"], "CT")
    np.testing.assert_allclose(out.ravel()[:5], [-1, -1, 0, 1, 1], atol=1e-6)
    other = normalise(cube(-160, 40, 100, 40, 40, 40, 40, 40), EVERYWHERE, RECIPES["chaos"], "CT")
    assert other.ravel()[1] == pytest.approx(0, abs=1e-6)  # the same tissue has the same value in another patient


def test_zscore_over_the_foreground_by_hand() -> None:
    """Foreground 10, 30: mean 20, standard deviation 10, z -1 and +1, divided by 2.5; the rest is 0, the mean."""
    array = cube(10, 30, 0, 0, 0, 0, 0, 0)
    out = normalise(array, array != 0, RECIPES["bigl"], "MR")
    np.testing.assert_allclose(out.ravel(), [-0.4, 0.4] + [0] * 6, atol=1e-6)
    black = normalise(array, array != 0, dataclasses.replace(RECIPES["bigl"], background=-1.0), "MR")
    np.testing.assert_allclose(black.ravel(), [-0.4, 0.4] + [-1] * 6, atol=1e-6)


def test_outside_a_volume_is_background_or_its_lowest_value() -> None:
    values = np.array([-0.7, 0.0, 0.5], np.float32)
    assert outside_of(values, RECIPES["bigl"]) == 0
    assert outside_of(values, RECIPES["P1"]) == -1
    assert outside_of(values, RECIPES["P2"]) == pytest.approx(-0.7)


def test_zscore_is_clipped_at_its_limit() -> None:
    array = np.zeros((10, 10, 10), np.float32)
    array[0, 0, 0] = 1e6
    assert normalise(array, np.ones_like(array, bool), dataclasses.replace(MINMAX, scale="zscore"), "MR").max() == 1


def test_slice_zscore_does_not_explode_on_an_almost_empty_slice() -> None:
    array = np.random.default_rng(0).normal(100, 20, (16, 16, 4)).astype(np.float32)
    array[:, :, 3] = 7 + 1e-3 * np.random.default_rng(1).normal(size=(16, 16))
    out = normalise(array, np.ones_like(array, bool), RECIPES["P3"], "MR")
    assert np.abs(out[:, :, 3]).max() < 0.01
    np.testing.assert_allclose((5 * out[:, :, 0]).std(), 1, atol=0.02)  # an ordinary slice has unit spread before /5
    np.testing.assert_allclose(out[:, :, 0].mean(), 0, atol=1e-5)


def test_rire_leaves_out_the_corners_of_a_ct() -> None:
    array = np.full((32, 32, 2), 40, np.float32)
    array[8:24, 8:24] = np.linspace(0, 80, 16)[:, None, None]
    array[0, 0] = array[-1, -1] = -3000
    out = normalise(array, np.ones_like(array, bool), RECIPES["rire"], "CT")
    assert out[0, 0, 0] == -1
    assert out[8:24, 8:24].max() - out[8:24, 8:24].min() > 1.9  # the corner's constant did not take the range


@given(hnp.arrays(np.float32, (4, 5, 3), elements=st.floats(-2000, 4000, width=32)), st.sampled_from(sorted(RECIPES)),
       st.sampled_from(["MR", "CT"]))
def test_always_in_range_and_never_nan(array: np.ndarray, name: str, kind: str) -> None:
    recipe = RECIPES[name]
    found = foreground(array, recipe, kind)
    out = normalise(array, found, recipe, kind)
    assert found.shape == out.shape == array.shape
    assert np.isfinite(out).all()
    assert out.min() >= -1 and out.max() <= 1


def ball(shape: tuple[int, int, int], radius: float) -> np.ndarray:
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    return sum(a**2 for a in axes[:2]) <= radius**2


def test_body_of_a_noisy_head_with_dark_inside() -> None:
    shape = (64, 64, 5)
    head, inside = ball(shape, 0.8), ball(shape, 0.5)
    rng = np.random.default_rng(0)
    array = np.where(head & ~inside, 500, 0) + np.where(inside, 30, 0) + np.abs(rng.normal(0, 10, shape))
    found = foreground(array.astype(np.float32), RECIPES["P1"], "MR")  # no stripped background: falls back to the body
    assert (found & head).sum() / head.sum() > 0.97
    assert (found & ~head).sum() / head.sum() < 0.03


def test_dark_tissue_beside_bright_fluid_is_body() -> None:
    """T2 with fat suppressed: organs at a tenth of the fluid's brightness, above the noise of the air."""
    rng = np.random.default_rng(0)
    body, fluid = ball((64, 64, 5), 0.8), ball((64, 64, 5), 0.25)
    array = np.where(fluid, 2000, np.where(body, 150, 0)) + np.abs(rng.normal(0, 12, body.shape))
    found = foreground(array.astype(np.float32), RECIPES["chaos"], "MR")
    assert (found ^ body).mean() < 0.02


def test_a_chest_cut_by_lungs_keeps_its_heart() -> None:
    """Field of view within the body: the diaphragm is the largest piece, the heart must stay beside it."""
    array = np.full((64, 64, 4), -850, np.float32)
    array[:, :20] = 50
    heart = np.zeros(array.shape, bool)
    heart[25:45, 30:50] = True
    array[heart] = 40
    assert foreground(array, RECIPES["P2"], "CT")[heart].mean() > 0.95
    assert foreground(array, RECIPES["P3"], "MR").all()


def test_ct_couch_is_not_body() -> None:
    array = np.full((64, 64, 4), -1000, np.float32)
    body = ball(array.shape, 0.6)
    array[body] = 40
    array[10:54, 2:4] = 100  # a couch two voxels thick
    found = foreground(array, RECIPES["chaos"], "CT")
    assert not found[:, 2:4].any()
    assert (found ^ body).mean() < 0.02


def test_stripped_image_keeps_exactly_its_nonzero_voxels() -> None:
    brain = ball((32, 32, 3), 0.7)
    array = np.where(brain, 400 + np.random.default_rng(0).normal(0, 30, brain.shape), 0).astype(np.float32)
    assert (foreground(array, RECIPES["bigl"], "MR") == brain).all()


def test_shipped_mask_goes_before_any_rule() -> None:
    """BraTS 2013 as circulated: z-scored, background a negative constant, ones of the mask stored as 0.99999997."""
    brain = ball((32, 32, 3), 0.7)
    array = np.where(brain, np.random.default_rng(0).normal(0, 1, brain.shape), -4.7).astype(np.float32)
    found = foreground(array, RECIPES["P1"], "MR", brain * 0.99999997)
    assert (found == brain).all()
    out = normalise(array, found, RECIPES["P1"], "MR")
    assert (out[~brain] == -1).all()
    assert abs(np.median(out[brain])) < 0.2  # the constant outside has no say in the limits
    assert foreground(array, RECIPES["P1"], "MR", np.zeros(brain.shape)).all()


@pytest.mark.parametrize("array", [np.zeros((8, 8, 3)), np.eye(8)[:, :, None] * np.ones(3), np.full((8, 8, 3), -5.0)])
def test_nearly_empty_volumes_have_a_body(array: np.ndarray) -> None:
    for recipe in RECIPES.values():
        assert foreground(array.astype(np.float32), recipe, "MR").any()


def test_overrides() -> None:
    recipe = recipe_of(task(overrides={"crop": {"centre": 200}, "mr_clip": [1, 99], "flips": []}))
    assert recipe.crop == {"centre": 200} and recipe.mr_clip == (1, 99) and recipe.flips == ()
    assert recipe.name == "P1" and RECIPES["P1"].crop == "foreground"


@pytest.mark.parametrize(("fields", "message"), [
    ({"recipe": "P9"}, "no recipe 'P9'.*known: P1, P2"),
    ({"overrides": {"crops": "none"}}, "has no field 'crops' to override.*drop_below"),
    ({"overrides": {"name": "x"}}, "has no field 'name'"),
    ({"overrides": {"plane": "oblique"}}, "recipe field 'plane' cannot be 'oblique'"),
    ({"overrides": {"crop": {"middle": 3}}}, "recipe field 'crop' cannot be"),
    ({"overrides": {"mr_clip": [99, 1]}}, r"recipe field 'mr_clip' cannot be \(99, 1\)"),
    ({"overrides": {"drop_below": "much"}}, "recipe field 'drop_below' cannot be 'much'"),
])
def test_bad_recipes_are_named(fields: dict[str, object], message: str) -> None:
    with pytest.raises(LabError, match=message):
        recipe_of(task(**fields))
