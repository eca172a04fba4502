"""Maps between positions and between channels: where chosen pixels attend to, and channel matrices side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from xmod_lab.view.maps import channel_order, matrix_grid
from xmod_lab.view.slices import _grid, _lower, _row_name, draw_slice
from xmod_lab.view.style import COLOURS, HEAT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


TICKS = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""marks on the bar of multiples of uniform attention"""


def grid_of(positions: int, shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of a map of so many positions over an image of `shape` (h, w), whose proportions it has.

    Raises ValueError if there is no such grid.
    """
    rows = round((positions * shape[0] / shape[1]) ** 0.5)
    columns = positions // max(rows, 1)
    if rows * columns != positions or rows * shape[1] != columns * shape[0]:
        raise ValueError(f"{positions} positions make no grid over an image of {shape[0]} x {shape[1]} pixels")
    return rows, columns


def attention_row(attention: np.ndarray, query: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """The row (u, v) of `attention` (N, N), query by key, of the position over pixel `query` (row, column) of an image
    of `shape` (h, w), times N: where all positions are attended to alike, it is 1."""
    rows, columns = grid_of(len(attention), shape)
    r, c = (place * n // edge for place, n, edge in zip(query, (rows, columns), shape, strict=True))
    return len(attention) * np.asarray(attention)[r * columns + c].reshape(rows, columns)


def attention_rows(
    images: Mapping[str, np.ndarray],
    attention: Mapping[str, np.ndarray],
    queries: Sequence[tuple[int, int]],
    *,
    most: float | None = None,
    title: str = "",
) -> Figure:
    """A row an image: the image with a cross on each query pixel, then where the position under each cross looks to.

    images: (h, w) in [-1, 1] by name. attention: (N, N) by the same names, query by key, rows that sum to 1. queries:
    (row, column) in pixels, each with a colour of its own. One scale for all maps, from 0 to their largest value or to
    `most`, in multiples of uniform attention, 1/N, which a line on the bar marks; the bar has a pointed end where
    values lie above it. Colours follow the root of the value: on an even scale one sharp map would leave all others
    black.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import PowerNorm

    rows = {m: [attention_row(attention[m], query, image.shape) for query in queries] for m, image in images.items()}
    top = max(float(values.max()) for found in rows.values() for values in found)
    high = most or top
    tall = max(image.shape[0] / image.shape[1] for image in images.values())
    figure, axes = _grid(len(images), 1 + len(queries), title, tall=tall)
    figure.set_size_inches(figure.get_figwidth() + 0.9, figure.get_figheight())  # the colour bar
    norm = PowerNorm(0.5, 0, high)
    for r, (name, image) in enumerate(images.items()):
        draw_slice(axes[r, 0], image)
        _row_name(axes[r, 0], name)
        edges = (-0.5, image.shape[1] - 0.5, image.shape[0] - 0.5, -0.5)
        for c, (query, values) in enumerate(zip(queries, rows[name], strict=True)):
            axes[r, 1 + c].imshow(values, cmap=HEAT, norm=norm, extent=edges, origin="upper")
            for axis in (axes[r, 0], axes[r, 1 + c]):
                _cross(axis, query, COLOURS[c % len(COLOURS)])
    axes[0, 0].set_title("image", fontsize=9)
    for c, query in enumerate(queries):
        axes[0, 1 + c].set_title(f"query {c + 1}: ({query[0]}, {query[1]})", fontsize=9)
    bar = figure.colorbar(
        ScalarMappable(norm, HEAT), ax=list(axes.flat), shrink=0.8, aspect=30, pad=0.01,
        label="times uniform attention", extend="max" if top > high else "neither",
    )  # fmt: skip
    marks = [0, *(tick for tick in TICKS if tick <= high)]
    bar.set_ticks(marks, labels=[f"{mark:g}" for mark in marks])
    bar.ax.axhline(1.0, color="white", linewidth=1.0)
    _lower(figure)
    return figure


def _cross(axis: Axes, query: tuple[int, int], colour: str) -> None:
    """A cross with a dark edge on a pixel."""
    from matplotlib.patheffects import Normal, Stroke

    (cross,) = axis.plot(query[1], query[0], "+", color=colour, markersize=9, markeredgewidth=1.6)
    cross.set_path_effects([Stroke(linewidth=3.2, foreground="0.1"), Normal()])


def channel_matrices(
    matrices: Mapping[str, np.ndarray],
    *,
    span: tuple[float, float] | None = None,
    cell: float = 2.1,
    unit: str = "",
    title: str = "",
) -> Figure:
    """C x C matrices of several images side by side, on one scale and in one order of channels.

    The order puts channels next to each other whose rows are alike in the first matrix; in all others it stays, so that
    what changes between the pictures has changed between the images. span: ends of the scale; left out, it goes from 0
    to the largest value, or is symmetric about 0 where there are negative ones.
    """
    first = next(iter(matrices))
    order = channel_order(matrices[first])[0]
    ordered = {name: matrix[np.ix_(order, order)] for name, matrix in matrices.items()}
    if span is None:
        high = max(float(np.abs(matrix).max()) for matrix in matrices.values()) or 1.0
        span = (-high if min(float(matrix.min()) for matrix in matrices.values()) < 0 else 0.0, high)
    axes_named = ("channel", f"channel, ordered by {first}" if len(matrices) > 1 else "channel")
    return matrix_grid({"": ordered}, span=span, axes_named=axes_named, cell=cell, unit=unit, title=title)
