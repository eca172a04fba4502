"""Figures of matrices and of statistics: what is drawn is what was given, ordered and scaled as the text says."""

from __future__ import annotations

import numpy as np
import pytest

from xmod_lab.view import figures

pytestmark = pytest.mark.usefixtures("figure_style")


def _matrices(count: int = 2, seed: int = 0) -> list[np.ndarray]:
    drawn = np.random.default_rng(seed).uniform(-1, 1, (count, 6, 5))
    return list(drawn)


def test_channels_that_are_alike_stand_together_whatever_their_order() -> None:
    blocks = np.kron([[1.0, -1.0], [-1.0, 1.0]], np.ones((4, 3)))
    generator = np.random.default_rng(0)
    mixed = blocks[generator.permutation(8)][:, generator.permutation(6)]
    rows, columns = figures.channel_order(mixed)
    found = mixed[rows][:, columns]
    assert sorted(rows) == list(range(8)) and sorted(columns) == list(range(6))
    assert (np.diff(found, axis=0) != 0).any(1).sum() == 1  # one border between two blocks, along either axis
    assert (np.diff(found, axis=1) != 0).any(0).sum() == 1


def test_matrices_share_a_symmetric_scale_and_differences_have_their_own() -> None:
    a, b = _matrices()
    figure = figures.matrix_grid({"LV": {"CT": a, "MR": b, "difference": a - b}}, differences=["difference"])
    pictures = [axis.images[0] for axis in figure.axes if axis.images and axis.get_title()]
    assert [picture.get_clim() for picture in pictures[:2]] == [(-1.0, 1.0)] * 2
    low, high = pictures[2].get_clim()
    assert -low == high == pytest.approx(np.abs(a - b).max())
    for picture, given in zip(pictures, (a, b, a - b), strict=True):
        assert np.allclose(np.asarray(picture.get_array()), given)


def test_the_difference_scale_is_one_for_all_rows_and_columns() -> None:
    a, b = _matrices()
    rows = {"LV": {"csa": a, "msbn": b / 10}, "RV": {"csa": a / 5, "msbn": b}}
    figure = figures.matrix_grid(rows, differences=["csa", "msbn"])
    limits = {axis.images[0].get_clim() for axis in figure.axes if axis.images}
    assert len(limits) == 1


def test_an_absent_class_says_so() -> None:
    a, b = _matrices()
    figure = figures.matrix_grid({"LV": {"CT": a, "MR": b}, "RV": {"CT": a}})
    assert [text.get_text() for axis in figure.axes for text in axis.texts] == ["class absent"]


def test_printed_values_stand_out_from_their_cells_and_zero_has_no_sign() -> None:
    matrix = np.array([[1.0, -0.001], [0.0, -1.0]])
    for span in ((0.0, 1.0), (-1.0, 1.0)):
        figure = figures.matrix_grid({"": {"CT": matrix}}, span=span, names=("a", "b"))
        axis = figure.axes[0]
        assert [text.get_text() for text in axis.texts] == ["1.00", "0.00", "0.00", "-1.00"]
        paint = axis.images[0].to_rgba(matrix)[..., :3].mean(-1).ravel()
        for text, light in zip(axis.texts, paint, strict=True):
            ink = 1.0 if text.get_color() == "white" else 0.0
            assert abs(ink - light) > 0.3, (span, text.get_text())


def test_a_cell_sets_the_size_of_the_figure() -> None:
    rows = {"LV": dict(zip("abcd", _matrices(4), strict=True))}
    small, large = (figures.matrix_grid(rows, cell=cell) for cell in (1.0, 2.0))
    assert large.get_figwidth() - small.get_figwidth() == pytest.approx(4.0)


def test_statistics_are_points_by_channel_on_equal_axes_with_their_correlation() -> None:
    generator = np.random.default_rng(1)
    layers = {f"layer{n}": (x, x.copy()) for n, x in enumerate(generator.normal(size=(3, 2, 7)))}
    layers["last"] = (np.zeros((2, 4)), np.ones((2, 4)))
    figure = figures.statistics_scatter(layers, ("scale", "mean"), axes_named=("CT", "MR"))
    panels = figure.axes[:2]
    for k, (axis, name) in enumerate(zip(panels, ("scale", "mean"), strict=True)):
        points = np.asarray(axis.collections[0].get_offsets())
        given = np.concatenate([np.stack([a[k], b[k]], axis=1) for a, b in layers.values()])
        assert sorted(map(tuple, points)) == sorted(map(tuple, given))
        depth = {tuple(p): d for p, d in zip(points, axis.collections[0].get_array(), strict=True)}
        assert depth[(0.0, 1.0)] == 4 and depth[tuple(given[0])] == 1
        correlation = np.corrcoef(given.T)[0, 1]
        assert axis.get_title() == f"{name}, r = {correlation:.2f}"
        assert axis.get_xlim() == axis.get_ylim() and axis.get_aspect() == 1
        assert axis.get_xlabel() == "CT"
    assert panels[0].get_ylabel() == "MR" and panels[1].get_ylabel() == ""


def test_statistics_that_do_not_vary_have_no_correlation() -> None:
    ones = np.ones((1, 5))
    figure = figures.statistics_scatter({"only": (ones, ones)}, ("scale",))
    assert figure.axes[0].get_title() == "scale"
    low, high = figure.axes[0].get_xlim()
    assert low < 1 < high
