"""Mask metrics against hand-computed cases, the rules for missing structures, and invariants."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xmod_lab.errors import LabError
from xmod_lab.evaluate import METRICS, SURFACE, score_labels, score_mask
from xmod_lab.evaluate.masks import capped_assd
from xmod_lab.evaluate.surface import border, bounding_box


def box(shape: tuple[int, ...], *ranges: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(*r) for r in ranges)] = True
    return mask


def ball(shape: tuple[int, ...], centre: tuple[int, ...], radius: float) -> np.ndarray:
    """Voxels nearer to `centre` than `radius`."""
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    return sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True)) < radius**2


def test_box_counts_by_hand():
    truth = box((10, 10, 10), (2, 6), (2, 6), (2, 6))  # 64 voxels
    pred = box((10, 10, 10), (2, 6), (2, 6), (4, 9))  # 80 voxels, 32 in both
    scores = score_mask(pred, truth, (1, 1, 1))
    assert scores["dice"] == pytest.approx(64 / 144)
    assert scores["precision"] == pytest.approx(32 / 80)
    assert scores["sensitivity"] == pytest.approx(0.5)
    assert scores["specificity"] == pytest.approx((936 - 48) / 936)
    assert scores["ravd"] == pytest.approx(25)
    assert scores["missing"] == 0


def test_specificity_saturates():
    """With a 1 % lesion, false positives as large as the lesion still leave 98.99 %."""
    truth, pred = np.zeros((2, 100, 50), dtype=bool)
    truth[0, :50] = True
    pred[1, :50] = True
    scores = score_mask(pred, truth, (1, 1))
    assert scores["specificity"] == pytest.approx(0.9899, abs=1e-4)
    assert scores["dice"] == 0


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.0, 1.0, 5.0), (0.7, 0.7, 3.0)])
@pytest.mark.parametrize("shift", [1, 2])
def test_shifted_plate_is_exact(shift, spacing):
    """Plates one voxel thick, `shift` apart along the last axis: every distance is shift x spacing."""
    truth, pred = box((12, 12, 12), (1, 9), (1, 9), (3, 4)), box((12, 12, 12), (1, 9), (1, 9), (3 + shift, 4 + shift))
    scores = score_mask(pred, truth, spacing)
    for name in SURFACE:
        assert scores[name] == pytest.approx(shift * spacing[2]), name


def test_shifted_box_is_exact():
    """A 4x4 square moved by one column: 12 border pixels each way, four at distance 1 and eight at 0 (by hand)."""
    truth, pred = box((8, 8), (2, 6), (2, 6)), box((8, 8), (2, 6), (3, 7))
    scores = score_mask(pred, truth, (1, 1))
    # new column: 4 at distance 1; of the inner border, the two pixels of the old inner column face at distance 1
    expected = np.array([1] * 6 + [0] * 6)
    assert scores["hd"] == 1
    assert scores["assd_pooled"] == pytest.approx(expected.mean())
    assert scores["asd"] == scores["assd_averaged"] == pytest.approx(0.5)


def test_concentric_balls():
    """Radius 10 inside radius 14: all distances lie within a voxel of 4, and none below 3."""
    truth, pred = ball((33, 33, 33), (16, 16, 16), 14), ball((33, 33, 33), (16, 16, 16), 10)
    scores = score_mask(pred, truth, (1, 1, 1))
    for name in SURFACE:
        assert 3 <= scores[name] <= 5, name
    assert scores["dice"] == pytest.approx(2 * 10**3 / (10**3 + 14**3), abs=0.02)


def test_sphere_and_island_of_the_card():
    """One prediction, two numbers called HD95 that differ 30-fold."""
    shape, centre = (80, 80, 40), (16, 16, 16)
    truth = ball(shape, centre, 14)
    pred = ball(shape, centre, 13) | ball(shape, (56, 56, 16), 4)
    scores = score_mask(pred, truth, (1, 1, 1))
    assert scores["dice"] == pytest.approx(0.874, abs=5e-4)
    assert scores["hd95_pooled"] == pytest.approx(1.41, abs=5e-3)
    assert scores["hd95_max"] == pytest.approx(41.7, abs=0.05)
    assert scores["hd"] == pytest.approx(46.7, abs=0.05)
    assert scores["assd_pooled"] == pytest.approx(2.61, abs=5e-3)
    assert scores["assd_averaged"] == pytest.approx(2.66, abs=5e-3)
    assert scores["asd"] == pytest.approx(4.21, abs=5e-3)
    assert score_mask(truth, pred, (1, 1, 1))["asd"] == pytest.approx(1.11, abs=5e-3)


EMPTY, FULL = np.zeros((6, 8, 10), dtype=bool), box((6, 8, 10), (1, 3), (1, 3), (1, 3))
DIAGONAL = math.sqrt((6 * 1) ** 2 + (8 * 1) ** 2 + (10 * 2) ** 2)
ONE_EMPTY = {"diagonal": DIAGONAL, "cap": 50.0, "nan": math.nan}


@pytest.mark.parametrize("rule", ONE_EMPTY)
def test_four_empty_cases(rule):
    nan, penalty = math.nan, ONE_EMPTY[rule]
    names = ("dice", "precision", "sensitivity", "specificity", "ravd", "missing")
    expected = [
        ("missed", EMPTY, FULL, (0, 0, 0, 1, 100, 1), penalty),
        ("invented", FULL, EMPTY, (0, 0, nan, 472 / 480, nan, 1), penalty),
        ("absent, not found", EMPTY, EMPTY, (1, nan, nan, 1, nan, 0), 0.0),
        ("perfect", FULL, FULL, (1, 1, 1, 1, 0, 0), 0.0),
    ]
    for case, pred, truth, values, distance in expected:
        row = dict(zip(names, values, strict=True)) | dict.fromkeys(SURFACE, distance)
        assert score_mask(pred, truth, (1, 1, 2), missing=rule) == pytest.approx(row, nan_ok=True), case


def test_brats_penalty_and_other_caps():
    one = np.zeros((240, 240, 155), dtype=bool)
    one[100, 100, 100] = True
    assert score_mask(np.zeros_like(one), one, (1, 1, 1))["hd95_max"] == pytest.approx(373.13, abs=5e-3)
    assert score_mask(EMPTY, FULL, (1, 1, 1), missing="cap", cap=20)["assd_pooled"] == 20


def test_cap_bounds_distances_that_were_found():
    far, near = box((4, 4, 90), (1, 2), (1, 2), (80, 81)), box((4, 4, 90), (1, 2), (1, 2), (1, 2))
    assert score_mask(far, near, (1, 1, 1))["hd"] == 79
    assert score_mask(far, near, (1, 1, 1), missing="cap")["hd"] == 50


@pytest.mark.parametrize("rule", ONE_EMPTY)
def test_the_capped_assd_is_that_of_the_cap_under_every_rule(rule):
    far, near = box((4, 4, 90), (1, 2), (1, 2), (80, 81)), box((4, 4, 90), (1, 2), (1, 2), (1, 2))
    cases = [(far, near, 50), (EMPTY, FULL, 50), (FULL, EMPTY, 50), (EMPTY, EMPTY, 0), (FULL, FULL, 0)]
    cases.append((box((4, 4, 9), (1, 2), (1, 2), (3, 4)), box((4, 4, 9), (1, 2), (1, 2), (1, 2)), 2))
    for pred, truth, expected in cases:
        capped = score_mask(pred, truth, (1, 1, 1), missing="cap")["assd_pooled"]
        assert capped_assd(score_mask(pred, truth, (1, 1, 1), missing=rule)) == capped == expected


shapes = st.sampled_from([(5, 7), (4, 5, 6), (1, 6, 3)])
masks = shapes.flatmap(lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape)))
steps = st.floats(0.2, 6)


@settings(max_examples=150, deadline=None)
@given(masks, st.tuples(steps, steps, steps), st.sampled_from(["diagonal", "cap"]))
def test_missing_everything_never_beats_finding_something(pair, spacing, rule):
    pred, truth = pair
    if not (pred.any() and truth.any()):
        return
    spacing = spacing[: truth.ndim]
    found = score_mask(pred, truth, spacing, missing=rule, cap=5)
    missed = score_mask(np.zeros_like(truth), truth, spacing, missing=rule, cap=5)
    for name in ("dice", "precision", "sensitivity"):
        assert missed[name] <= found[name], name
    for name in SURFACE:
        assert missed[name] >= found[name], name


@settings(max_examples=100, deadline=None)
@given(masks, st.floats(0.1, 10))
def test_symmetry_scale_and_order(pair, factor):
    pred, truth = pair
    spacing = (1.0, 0.5, 3.0)[: truth.ndim]
    scores, mirrored = score_mask(pred, truth, spacing), score_mask(truth, pred, spacing)
    scaled = score_mask(pred, truth, [factor * step for step in spacing])
    for name in set(SURFACE) - {"asd"}:
        assert scores[name] == pytest.approx(mirrored[name])
    for name in SURFACE:
        assert scaled[name] == pytest.approx(factor * scores[name])
    assert scores["dice"] == mirrored["dice"]
    assert max(scores[name] for name in SURFACE) <= scores["hd"] + 1e-9


def test_empty_volume_around_changes_no_distance():
    rng = np.random.default_rng(1)
    pred, truth = rng.random((2, 6, 7, 8)) < 0.3
    inner = score_mask(pred, truth, (1, 2, 3))
    outer = score_mask(*(np.pad(mask, 9) for mask in (pred, truth)), (1, 2, 3))
    assert inner.pop("specificity") < outer.pop("specificity")
    assert inner == outer


@settings(max_examples=100, deadline=None)
@given(shapes.flatmap(lambda shape: arrays(bool, shape)))
def test_border_and_box_against_scipy(mask):
    from scipy import ndimage

    assert np.array_equal(border(mask), mask ^ ndimage.binary_erosion(mask))
    found = ndimage.find_objects(mask.astype(int))
    assert bounding_box(mask) == (found[0] if found else None)


def test_score_labels_rows_and_unions():
    rng = np.random.default_rng(2)
    pred, truth = rng.integers(0, 4, (2, 7, 8, 9)) * (rng.random((7, 8, 9)) < 0.4)
    classes = {"NCR": [1], "ED": [2], "whole tumour": [1, 2, 3], "absent": [9]}
    rows = score_labels(pred, truth, classes, (1, 1, 2.5))
    assert [row["structure"] for row in rows] == list(classes)
    for row in rows:
        values = classes[row["structure"]]
        expected = score_mask(np.isin(pred, values), np.isin(truth, values), (1, 1, 2.5))
        assert {k: row[k] for k in (*METRICS, "missing")} == pytest.approx(expected, nan_ok=True)
    assert rows[3]["dice"] == 1 and rows[3]["hd"] == 0


@pytest.mark.parametrize(("change", "message"), [
    ({"pred": FULL.astype(float)}, "masks must be boolean, these are float64 and bool"),
    ({"pred": FULL[:4]}, "prediction (4, 8, 10) and truth (6, 8, 10) differ in shape"),
    ({"pred": FULL[None], "truth": FULL[None]}, "masks must be 2D or 3D"),
    ({"pred": FULL[:0], "truth": FULL[:0]}, "not empty arrays"),
    ({"spacing": (1, 1)}, "spacing (1, 1) does not fit 3D masks"),
    ({"spacing": (1, 0, 1)}, "give one positive size an axis"),
    ({"missing": "ignore"}, "no rule 'ignore' for missing structures (choose one of diagonal, cap, nan)"),
])
def test_refusals(change, message):
    arguments = {"pred": FULL, "truth": FULL, "spacing": (1, 1, 1)} | change
    with pytest.raises(LabError) as error:
        score_mask(arguments.pop("pred"), arguments.pop("truth"), arguments.pop("spacing"), **arguments)
    assert message in str(error.value)


def test_score_labels_refuses_probabilities_and_background():
    with pytest.raises(LabError, match="holds float64, not integer labels"):
        score_labels(FULL * 0.5, FULL, {"a": [1]}, (1, 1, 1))
    with pytest.raises(LabError, match="value 0, which is background"):
        score_labels(FULL, FULL, {"a": [0, 1]}, (1, 1, 1))
