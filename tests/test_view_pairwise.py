"""Rows of attention, channel matrices, three planes: what is drawn is what was given, on one scale, in true sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from xmod_lab.view import figures
from xmod_lab.view.pairwise import grid_of
from xmod_lab.view.style import COLOURS

pytestmark = pytest.mark.usefixtures("figure_style")

QUERIES = [(1, 2), (6, 7)]


def attention(positions: int = 16, seed: int = 0) -> np.ndarray:
    """(N, N), rows that sum to 1."""
    drawn = np.random.default_rng(seed).uniform(0.1, 1, (positions, positions))
    return drawn / drawn.sum(1, keepdims=True)


def names() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    image = np.linspace(-1, 1, 64).reshape(8, 8)
    return {"T1": image, "T1 as T2": -image}, {"T1": attention(), "T1 as T2": attention(seed=1)}


def painted(figure: Any) -> list[Any]:
    return [axis.images[0] for axis in figure.axes if axis.images and axis.images[0].get_cmap().name == "inferno"]


def test_a_row_is_the_querys_position_over_its_grid_times_n() -> None:
    given = attention(12)
    assert grid_of(12, (9, 12)) == (3, 4)
    found = figures.attention_row(given, (4, 11), (9, 12))  # second row of positions, last column
    assert np.allclose(found, 12 * given[1 * 4 + 3].reshape(3, 4)) and found.sum() == pytest.approx(12)
    uniform = figures.attention_row(np.full((16, 16), 1 / 16), (3, 3), (8, 8))
    assert np.allclose(uniform, 1)
    corners = [figures.attention_row(given, q, (9, 12)) for q in ((0, 0), (8, 11))]
    assert np.allclose(corners[0].ravel(), 12 * given[0]) and np.allclose(corners[1].ravel(), 12 * given[-1])


@pytest.mark.parametrize(("positions", "shape"), [(15, (8, 8)), (16, (8, 9)), (12, (12, 12))])
def test_positions_without_a_grid_are_refused(positions: int, shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"{positions} positions make no grid"):
        grid_of(positions, shape)


def test_attention_rows_share_a_scale_and_say_what_one_is() -> None:
    images, given = names()
    figure = figures.attention_rows(images, given, QUERIES, title="where to")
    maps = painted(figure)
    expected = [figures.attention_row(given[m], q, (8, 8)) for m in images for q in QUERIES]
    assert all(np.allclose(np.asarray(m.get_array()), e) for m, e in zip(maps, expected, strict=True))
    assert {m.get_clim() for m in maps} == {(0.0, max(float(e.max()) for e in expected))}
    bar = next(axis for axis in figure.axes if axis.get_ylabel())
    assert bar.get_ylabel() == "times uniform attention"
    assert [line.get_ydata()[0] for line in bar.lines if len(set(line.get_ydata())) == 1] == [1.0]
    assert [axis.get_title() for axis in figure.axes[:3]] == ["image", "query 1: (1, 2)", "query 2: (6, 7)"]
    assert [figure.axes[3 * r].texts[0].get_text() for r in range(2)] == list(images)


def test_crosses_stand_on_their_pixels_in_image_and_map() -> None:
    images, given = names()
    figure = figures.attention_rows(images, given, QUERIES)
    for r in range(2):
        image, *maps = figure.axes[3 * r : 3 * r + 3]
        assert [(line.get_ydata()[0], line.get_xdata()[0]) for line in image.lines] == QUERIES
        for axis, query, colour in zip(maps, QUERIES, COLOURS, strict=False):
            (cross,) = axis.lines
            assert (cross.get_ydata()[0], cross.get_xdata()[0]) == query and cross.get_color() == colour
            assert axis.get_xlim() == image.get_xlim() and axis.get_ylim() == image.get_ylim()


def test_a_given_end_of_the_scale_is_kept_and_marked() -> None:
    images, given = names()
    for most, ends in ((1.5, "max"), (50.0, "neither")):
        figure = figures.attention_rows(images, given, QUERIES, most=most)
        assert {m.get_clim() for m in painted(figure)} == {(0.0, most)}
        bars = [m.colorbar for axis in figure.axes for m in axis.images if m.colorbar] or [figure.axes[-1]._colorbar]
        assert bars[0].extend == ends


def test_channel_matrices_have_the_order_of_the_first_and_one_scale() -> None:
    blocks = np.kron(np.eye(2), np.ones((3, 3)))
    mixed = np.random.default_rng(0).permutation(6)
    first, second = blocks[np.ix_(mixed, mixed)], np.arange(36.0).reshape(6, 6) / 36
    figure = figures.channel_matrices({"T1": first, "T2": second}, unit="weight", title="channels")
    a, b = (np.asarray(axis.images[0].get_array()) for axis in figure.axes[:2])
    assert (np.diff(a, axis=0) != 0).any(1).sum() == (np.diff(a, axis=1) != 0).any(0).sum() == 1
    assert np.array_equal(a, a.T)
    order = [round(6 * row.min()) for row in b]  # what stands in the first column of `second` tells the row
    assert np.array_equal(b, second[np.ix_(order, order)]), "rows and columns in the same order"
    assert {axis.images[0].get_clim() for axis in figure.axes[:2]} == {(0.0, 1.0)}
    assert figure.axes[0].get_xlabel() == "channel, ordered by T1"
    signed = figures.channel_matrices({"T1": first, "T2": -2 * second})
    assert signed.axes[0].images[0].get_clim() == pytest.approx((-70 / 36, 70 / 36))


def ball(shape: tuple[int, int, int], centre: tuple[int, int, int], radius: float) -> np.ndarray:
    away = np.linalg.norm(np.indices(shape).T - np.array(centre), axis=-1).T
    return (away < radius).astype(np.int64)


SHAPE, SPACING = (20, 24, 10), (1.0, 1.5, 3.0)


def planes_of(**more: Any) -> Any:
    truth = ball(SHAPE, (12, 9, 4), 4.0)
    image = np.random.default_rng(0).normal(size=SHAPE)
    systems = {"source only": ball(SHAPE, (8, 9, 4), 3.0), "BiGL": truth.copy()}
    return image, truth, figures.three_planes(image, SPACING, truth, systems, ["tumour"], title="planes", **more)


def test_the_planes_pass_through_the_voxel_as_displayed() -> None:
    image, truth, figure = planes_of()
    assert figures.centre_of(truth) == (12, 9, 4)
    axial, sagittal, coronal = (np.asarray(axis.images[0].get_array()) for axis in figure.axes[:3])
    assert np.array_equal(axial, image[::-1, ::-1, 4].T)  # anterior above, the patient's right on the left
    assert np.array_equal(sagittal, image[12, ::-1, ::-1].T) and np.array_equal(coronal, image[::-1, 9, ::-1].T)
    assert [axis.get_title() for axis in figure.axes[:3]] == ["axial", "sagittal", "coronal"]
    other = np.asarray(planes_of(at=(0, 1, 2))[2].axes[0].images[0].get_array())
    assert np.array_equal(other, image[::-1, ::-1, 2].T)


def test_a_millimetre_is_as_long_in_every_plane() -> None:
    _, _, figure = planes_of()
    figure.canvas.draw()
    scales = []
    for axis, (row, column) in zip(figure.axes, [(1, 0), (2, 1), (2, 0)] * 2, strict=True):
        box, (h, w) = axis.get_window_extent(), axis.images[0].get_array().shape
        assert axis.get_aspect() == SPACING[row] / SPACING[column]
        scales += [box.height / (h * SPACING[row]), box.width / (w * SPACING[column])]
    assert scales == pytest.approx([scales[0]] * 12, rel=1e-3)


def test_a_margin_about_the_truth() -> None:
    """7 voxels of truth along x, y and z; 3 mm more are 3, 2 and 1 voxels on each side, where there are any."""
    image, truth, figure = planes_of(margin=3.0)
    axial, sagittal, _ = (np.asarray(axis.images[0].get_array()) for axis in figure.axes[:3])
    assert [(v.min(), v.max()) for v in np.nonzero(truth)] == [(9, 15), (6, 12), (1, 7)]
    part = image[6:19, 4:15, 0:9]
    assert np.array_equal(axial, part[::-1, ::-1, 4].T) and np.array_equal(sagittal, part[6, ::-1, ::-1].T)


def test_found_and_true_contours_names_and_a_bar_of_length() -> None:
    _, _, figure = planes_of()
    for r in range(2):
        styles = [lines.get_linestyle()[0][1] is None for lines in figure.axes[3 * r].collections]
        assert styles == [True, False], "solid is found, dashed is true"
    assert [figure.axes[3 * r].texts[0].get_text() for r in range(2)] == ["source only", "BiGL"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["tumour", "found", "truth"]
    bar = figure.axes[3].lines[0]
    assert np.ptp(bar.get_xdata()) * SPACING[0] == 5 and figure.axes[3].texts[1].get_text() == "5 mm"


def test_without_labels_the_planes_are_the_middle_ones_and_other_sizes_are_refused() -> None:
    empty = np.zeros(SHAPE, int)
    assert figures.centre_of(empty) == (10, 12, 5)
    figure = figures.three_planes(np.ones(SHAPE), SPACING, empty, {"none": empty}, ["tumour"], window=(0, 2))
    assert figure.axes[0].images[0].get_clim() == (0, 2) and not figure.axes[0].collections
    with pytest.raises(ValueError, match="different sizes"):
        figures.three_planes(np.ones(SHAPE), SPACING, empty, {"cut": empty[1:]}, ["tumour"])
