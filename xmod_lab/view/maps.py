"""Pictures of what methods look at: maps over an image, matrices between channels or classes, systems side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from xmod_lab.view.slices import _grid, _legend, _row_name, draw_contours, draw_slice, slice_dice
from xmod_lab.view.style import SCALE, colours_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DIVERGING = "RdBu_r"
"""colour map of differences: white is zero"""


def map_grid(
    rows: Mapping[str, Mapping[str, np.ndarray]],
    *,
    span: tuple[float, float] | None = (0.0, 1.0),
    images: Mapping[str, np.ndarray] | None = None,
    labels: Mapping[str, np.ndarray] | None = None,
    classes: Sequence[str] = (),
    unit: str = "",
    title: str = "",
) -> Figure:
    """Rows by columns of maps (h, w) on one colour scale, whose bar is drawn once.

    span: ends of the scale, in two colours where it goes below zero; None for the largest magnitude of all maps,
    symmetric about zero.
    images: a grey picture (h, w) in [-1, 1] before each row. labels: class indices (h, w), drawn as contours
    of `classes` on each row's pictures.
    """
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    before = 1 if images else 0
    figure, axes = _grid(len(rows), before + len(columns), title, extra=0.3 if classes else 0.0)
    figure.set_size_inches(figure.get_figwidth() + 0.9, figure.get_figheight())  # the colour bar
    if span is None:
        most = max(float(np.abs(values).max()) for row in rows.values() for values in row.values()) or 1.0
        span = -most, most
    low, high = span
    colours = DIVERGING if low < 0 else SCALE
    contours, shown = colours_of(classes), None
    for r, (name, row) in enumerate(rows.items()):
        if images:
            draw_slice(axes[r, 0], images[name])
        for c, column in enumerate(columns, start=before):
            if column in row:
                shown = axes[r, c].imshow(row[column], cmap=colours, vmin=low, vmax=high)
            if r == 0:
                axes[0, c].set_title(column, fontsize=9)
        for c, axis in enumerate(axes[r] if labels and name in labels else ()):
            if c < before or columns[c - before] in row:
                draw_contours(axis, labels[name], contours)  # type: ignore[index]
        _row_name(axes[r, 0], name)
    if images:
        axes[0, 0].set_title("image", fontsize=9)
    if shown is not None:
        figure.colorbar(shown, ax=list(axes.flat), shrink=0.8, aspect=30, pad=0.01, label=unit)
    _legend(figure, contours)
    return figure


def channel_order(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Orders of rows and of columns (m, n) that put alike ones next to each other (average linkage, Euclidean)."""
    from scipy.cluster.hierarchy import leaves_list, linkage

    return leaves_list(linkage(matrix, "average")), leaves_list(linkage(matrix.T, "average"))


def matrix_grid(
    rows: Mapping[str, Mapping[str, np.ndarray]],
    *,
    span: tuple[float, float] = (-1.0, 1.0),
    differences: Sequence[str] = (),
    names: Sequence[str] = (),
    axes_named: tuple[str, str] = ("", ""),
    cell: float = 1.9,
    unit: str = "",
    title: str = "",
) -> Figure:
    """Rows by columns of matrices (m, n), such as affinities by class and modality.

    span: the scale of all matrices, in two colours where it goes below zero. differences: columns that are differences
    of the others, drawn in two colours on a scale of their own, the largest magnitude in the figure. names: of rows and
    columns of small matrices, whose values are then printed. axes_named: what rows and columns of a matrix are. cell:
    inches of one matrix.
    """
    import matplotlib.pyplot as plt

    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    size = (1.6 + cell * len(columns), 0.7 + cell * len(rows))
    figure, axes = plt.subplots(len(rows), len(columns), figsize=size, layout="constrained", squeeze=False)
    apart = [np.abs(row[c]).max() for row in rows.values() for c in differences if c in row]
    most = float(max(apart, default=1.0)) or 1.0
    shown = {}
    for r, (name, row) in enumerate(rows.items()):
        for c, column in enumerate(columns):
            axis, other = axes[r, c], column in differences
            axis.set_xticks([])
            axis.set_yticks([])
            if column not in row:
                axis.text(0.5, 0.5, "class absent", ha="center", va="center", color="0.5", transform=axis.transAxes)
                axis.spines[:].set_visible(False)
                continue
            low, high = (-most, most) if other else span
            colours = DIVERGING if low < 0 else SCALE
            shown[other] = axis.imshow(row[column], cmap=colours, vmin=low, vmax=high, aspect="auto")
            if r == 0:
                axis.set_title(column, fontsize=9)
            if names:
                _print_values(axis, row[column], names, shown[other].to_rgba(row[column]))
        axes[r, 0].set_ylabel(f"{name}\n{axes_named[0]}".strip(), fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel(axes_named[1], fontsize=9)
    for other, picture in sorted(shown.items()):
        kept = [c for c, column in enumerate(columns) if (column in differences) == other]
        label = f"difference of {unit}" if other and unit else unit
        figure.colorbar(picture, ax=list(axes[:, kept].flat), shrink=0.8, aspect=25, pad=0.02, label=label)
    if title:
        figure.suptitle(title)
    return figure


def _print_values(axis, matrix: np.ndarray, names: Sequence[str], paint: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    light = paint[..., :3] @ (0.299, 0.587, 0.114)
    for i in range(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            value, ink = round(float(matrix[i, j]), 2) + 0.0, "black" if light[i, j] > 0.45 else "white"  # no -0.00
            axis.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=7.5, color=ink)
    short = [name[: max(4, 20 // len(names))] for name in names]  # what a cell has room for
    axis.set_xticks(range(len(short)), short, fontsize=7.5)
    axis.set_yticks(range(len(short)), short, fontsize=7.5)
    axis.tick_params(length=0)


def systems(
    rows: Mapping[str, tuple[np.ndarray, np.ndarray, Mapping[str, np.ndarray]]],
    classes: Sequence[str],
    *,
    title: str = "",
) -> Figure:
    """One slice a row: the truth, then each system's prediction with its Dice of the slice below it.

    rows: name -> image (h, w), truth (h, w), {system: prediction (h, w)}. With several classes the Dice is their mean.
    """
    columns = list(dict.fromkeys(name for _, _, found in rows.values() for name in found))
    figure, axes = _grid(len(rows), 1 + len(columns), title, cell=1.55, extra=0.3)
    colours = colours_of(classes)
    for r, (name, (image, truth, found)) in enumerate(rows.items()):
        draw_slice(axes[r, 0], image)
        draw_contours(axes[r, 0], truth, colours)
        _row_name(axes[r, 0], name)
        for c, column in enumerate(columns, start=1):
            axis = axes[r, c]
            draw_slice(axis, image)
            draw_contours(axis, found[column], colours)
            dice = [v for v in slice_dice(found[column], truth, classes).values() if not np.isnan(v)]
            text = f"{np.mean(dice):.2f}" if dice else "absent"
            axis.text(0.5, -0.02, text, ha="center", va="top", fontsize=9, transform=axis.transAxes)
            if r == 0:
                axis.set_title(column.replace(" (", "\n("), fontsize=9)
    axes[0, 0].set_title("truth", fontsize=9)
    _legend(figure, colours)
    return figure
