"""Three planes through a point: the right voxels, letters, millimetres and window, whatever way an array was stored."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from test_view import texts

from xmod_lab.data.geometry import AXES
from xmod_lab.errors import LabError
from xmod_lab.view import figures, style
from xmod_lab.view.orthogonal import class_names, grey_window, presence
from xmod_lab.view.planes import PLANES

pytestmark = pytest.mark.usefixtures("figure_style")

SHAPE, SPACING = (20, 24, 8), (1.5, 1.5, 5.5)
TURNS = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]


@pytest.fixture
def image() -> np.ndarray:
    """Noise with one bright voxel at the patient's left, front and head."""
    found = np.random.default_rng(0).uniform(0, 100, SHAPE)
    found[3, 20, 6] = 1000
    return found


@pytest.fixture
def label() -> np.ndarray:
    found = np.zeros(SHAPE, np.uint8)
    found[2:8, 14:22, 2:7] = 1
    found[4:6, 16:20, 3:6] = 2
    return found


def brightest(axis: Any) -> tuple[int, int]:
    picture = np.asarray(axis.images[0].get_array())
    row, column = np.unravel_index(picture.argmax(), picture.shape)
    return int(row), int(column)


def letters(axis: Any) -> dict[tuple[float, float], str]:
    return {t.get_position(): t.get_text() for t in axis.texts if len(t.get_text()) == 1}


@pytest.mark.parametrize(("order", "signs"), TURNS[::5])
def test_the_same_picture_however_the_array_was_stored(
    image: np.ndarray, label: np.ndarray, order: tuple[int, int, int], signs: tuple[int, int, int]
) -> None:
    """The bright voxel lies left, front and up in the patient; stored axes run in any order and direction."""
    stored, stored_label = (v.transpose(order)[tuple(slice(None, None, s) for s in signs)] for v in (image, label))
    at = tuple(np.argwhere(stored == 1000)[0].tolist())
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, list(order)] * signs * np.array(SPACING)[list(order)]
    affine[:3, 3] = np.array((3, 20, 6)) * SPACING - affine[:3, :3] @ at
    plain = figures.orthogonal(image, SPACING, label, at=(3, 20, 6))
    figure = figures.orthogonal(stored, affine, stored_label, at=at)
    for one, other in zip(plain.axes, figure.axes, strict=True):
        for a, b in zip(one.images, other.images, strict=True):
            np.testing.assert_array_equal(a.get_array(), b.get_array())
    assert figure._suptitle.get_text().replace("\n", " ") == f"voxel {at}, 4.5 mm R, 30.0 mm A, 33.0 mm S"  # type: ignore[attr-defined]


def test_letters_tell_on_which_side_the_bright_voxel_lies(image: np.ndarray) -> None:
    figure = figures.orthogonal(image, SPACING, at=(3, 20, 6))
    wanted = {"axial": ("L", "A"), "coronal": ("L", "S"), "sagittal": ("A", "S")}
    for axis, plane in zip(figure.axes, PLANES, strict=True):
        row, column = brightest(axis)
        rows, columns = np.asarray(axis.images[0].get_array()).shape
        found = letters(axis)
        side = min(found, key=lambda place: abs(place[0] - (0.015 if column < columns / 2 else 0.985)))
        end = min(found, key=lambda place: abs(place[1] - (0.985 if row < rows / 2 else 0.015)))
        assert (found[side], found[end]) == wanted[plane]
        _, r, c = AXES[plane]
        assert axis.get_aspect() == pytest.approx(SPACING[r] / SPACING[c])
        cross = [line.get_xydata() for line in axis.lines[:4]]
        assert {row, column} <= {float(v) for line in cross for v in np.ravel(line)}
        assert all(np.abs(line - (column, row)).max(1).min() > 0.5 for line in cross), "cross-hairs hide their point"


def test_it_starts_in_the_labels_at_the_voxel_nearest_in_mm() -> None:
    label = np.zeros(SHAPE, np.uint8)
    label[10, 10, [0, 7]] = 1  # the centre lies between them, far along z
    label[6, 10, 3] = label[14, 10, 4] = 1
    figure = figures.orthogonal(np.random.default_rng(0).uniform(size=SHAPE), SPACING, label)
    assert "voxel (6, 10, 3)" in texts(figure) or "voxel (14, 10, 4)" in texts(figure)
    assert figures.centre_of(label, SPACING) in ((6, 10, 3), (14, 10, 4))
    assert figures.centre_of(label * 0) == (10, 12, 4)


def test_truth_is_filled_and_prediction_a_contour_or_the_other_way(image: np.ndarray, label: np.ndarray) -> None:
    found = np.where(label == 1, 1, 0).astype(np.uint8)
    figure = figures.orthogonal(image, SPACING, label, found, ["rim", "core_x"], title="p1")
    paint = np.asarray(figure.axes[0].images[1].get_array())
    assert {tuple(np.round(c[:3], 3)) for c in paint[paint[..., 3] > 0]} == {
        tuple(np.round(to_rgb(c), 3)) for c in style.COLOURS[:2]}  # fmt: skip
    assert len(figure.axes[0].collections) == 1 and "core x (missed)" in texts(figure) and "p1: voxel" in texts(figure)
    swapped = figures.orthogonal(image, SPACING, label, found, ["rim", "core_x"], truth="contour")
    assert len(swapped.axes[0].collections) == 2
    assert [t.get_text() for t in swapped.legends[0].get_texts()][-2:] == ["truth", "prediction"]
    alone = figures.orthogonal(image, SPACING, None, found, ["rim", "core_x"])
    assert "core x (absent)" in texts(alone) and "truth" not in texts(alone)


def test_an_empty_label_and_no_label_are_pictures_too(image: np.ndarray, label: np.ndarray) -> None:
    figure = figures.orthogonal(image, SPACING, label * 0, classes=["a"])
    assert "a (absent)" in texts(figure) and "voxel (10, 12, 4)" in texts(figure)
    assert not figures.orthogonal(image, SPACING).legends


def test_many_long_names_stay_below_the_pictures(image: np.ndarray, label: np.ndarray) -> None:
    names = [f"a rather long structure {k}" for k in range(9)]
    figure = figures.orthogonal(image, SPACING, label, label, names)
    figure.draw_without_rendering()
    legend = figure.legends[0].get_window_extent()
    assert legend.y1 < min(axis.get_window_extent().y0 for axis in figure.axes) and legend.x0 >= 0
    assert figure.bbox.x1 >= legend.x1 and legend.y0 >= 0


def test_windows_are_finite_for_ct_and_mr(image: np.ndarray, label: np.ndarray) -> None:
    image[0, 0, :3] = np.nan, np.inf, -np.inf
    for kind, mask in (("MR", None), ("MR", label), ("CT", None), ("CT", label), ("CT", label * 0)):
        low, high = grey_window(image, kind, mask)
        assert np.isfinite([low, high]).all() and low < high
        plt.close(figures.orthogonal(image, SPACING, mask, kind=kind))
    assert grey_window(image, "CT", None) == (-160, 240) and grey_window(image, "CT", None, "brain") == (0, 80)
    assert "grey 0 to 80 HU" in texts(figures.orthogonal(image, SPACING, kind="CT", window="brain"))
    for kind, window in (("MR", "brain"), ("CT", "heart"), ("MR", (5.0, 5.0))):
        with pytest.raises(LabError, match="window"):
            grey_window(image, kind, None, window)
    with pytest.raises(LabError, match="no finite voxel"):
        grey_window(np.full((2, 2, 2), np.nan), "MR", None)


def test_what_does_not_fit_is_refused(image: np.ndarray, label: np.ndarray) -> None:
    with pytest.raises(LabError, match="nothing says where"):
        figures.orthogonal(image)
    with pytest.raises(LabError, match="different grids"):
        figures.orthogonal(image, SPACING, label[1:])
    with pytest.raises(LabError, match="class 2 has no name"):
        figures.orthogonal(image, SPACING, label, classes=["one"])
    with pytest.raises(LabError, match="class indices"):
        class_names([], label + 0.5)
    assert class_names([], label) == ["class 1", "class 2"]


def test_legends_tell_what_is_not_there() -> None:
    assert [presence("a", t, f) for t, f in ((True, True), (True, False), (False, True), (False, False))] == [
        "a", "a (missed)", "a (not in truth)", "a (absent)"]  # fmt: skip
    assert [presence("a_b", *state) for state in ((True, None), (None, True), (False, None))] == [
        "a b", "a b", "a b (absent)"]  # fmt: skip
