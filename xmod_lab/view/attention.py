"""Maps laid over the image they belong to, on a scale that is the same for every picture of a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from xmod_lab.view.maps import DIVERGING
from xmod_lab.view.slices import _grid, _legend, _row_name, draw_contours, draw_slice
from xmod_lab.view.style import SCALE, colours_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

OPACITY = 0.85
"""of a map's colour where it is farthest from rest; the image stays visible under it"""


def faded(span: tuple[float, float], rest: float | None = None) -> Colormap:
    """A colour map of `span` that lets the image through at `rest`: the colour says on which side of it a value lies,
    the opacity, which grows linearly, how far away.

    rest: the value that says nothing, such as 0.5 of a gate, with a colour on either side; None for the lower end.
    """
    import matplotlib
    from matplotlib.colors import ListedColormap

    low, high = span
    middle = low if rest is None else rest
    away = np.linspace(low, high, 256) - middle
    below, above = (matplotlib.colormaps[DIVERGING](place) for place in (0.12, 0.88))
    colours = np.where(away[:, None] < 0, below, matplotlib.colormaps[SCALE](1.0) if rest is None else above)
    colours[:, 3] = OPACITY * np.abs(away) / max(high - middle, middle - low)
    return ListedColormap(colours)


def draw_overlay(
    axis: Axes, image: np.ndarray, values: np.ndarray, *, span: tuple[float, float], rest: float | None = None
) -> AxesImage:
    """`values` (h, w) in the colours of `faded` over the grey `image` (h, w) in [-1, 1]; returns the coloured picture.

    Values outside `span` have the colours of its ends.
    """
    if image.shape != values.shape:
        raise ValueError(f"image {image.shape} and map {values.shape} have different sizes")
    draw_slice(axis, image)
    return axis.imshow(values, cmap=faded(span, rest), vmin=span[0], vmax=span[1], origin="upper")


def overlays(
    rows: Mapping[str, Mapping[str, np.ndarray]],
    images: Mapping[str, np.ndarray],
    *,
    span: tuple[float, float] = (0.0, 1.0),
    rest: float | None = None,
    labels: Mapping[str, np.ndarray] | None = None,
    classes: Sequence[str] = (),
    unit: str = "",
    title: str = "",
) -> Figure:
    """Rows by columns of maps (h, w) over the image of their row, one scale for all; the image itself comes first.

    images: ``images[row]`` (h, w) in [-1, 1]. span, rest: as in `faded`; they are given and never taken from the maps,
    so that figures of different runs compare. labels: class indices (h, w) by row, drawn as contours of `classes`.
    The colour bar is printed on the grey of an image's middle, and has pointed ends where values lie outside.
    """
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    figure, axes = _grid(len(rows), 1 + len(columns), title, extra=0.3 if classes else 0.0)
    figure.set_size_inches(figure.get_figwidth() + 0.9, figure.get_figheight())  # the colour bar
    contours, shown = colours_of(classes), None
    for r, (name, row) in enumerate(rows.items()):
        draw_slice(axes[r, 0], images[name])
        for c, column in enumerate(columns, start=1):
            if column in row:
                shown = draw_overlay(axes[r, c], images[name], row[column], span=span, rest=rest)
            else:
                axes[r, c].text(0.5, 0.5, "none", ha="center", va="center", color="0.5", transform=axes[r, c].transAxes)
        for axis in axes[r] if labels and name in labels else ():
            _outlined(axis, labels[name], contours)  # type: ignore[index]
        _row_name(axes[r, 0], name)
    for axis, column in zip(axes[0], ["image", *columns], strict=True):
        axis.set_title(column, fontsize=9)
    if shown is not None:
        _bar(figure, axes, shown, rows, span, unit)
    _legend(figure, contours)
    return figure


def _outlined(axis: Axes, labels: np.ndarray, colours: Mapping[str, str]) -> None:
    """Contours with a dark edge: a map may have the contour's own colour."""
    from matplotlib.patheffects import Normal, Stroke

    before = len(axis.collections)
    draw_contours(axis, labels, colours)
    for lines in list(axis.collections)[before:]:
        lines.set_path_effects([Stroke(linewidth=2.6, foreground="0.1"), Normal()])


def _bar(
    figure: Figure,
    axes: np.ndarray,
    shown: AxesImage,
    rows: Mapping[str, Mapping[str, np.ndarray]],
    span: tuple[float, float],
    unit: str,
) -> None:
    below = any(float(values.min()) < span[0] for row in rows.values() for values in row.values())
    above = any(float(values.max()) > span[1] for row in rows.values() for values in row.values())
    ends = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[below, above]
    bar = figure.colorbar(shown, ax=list(axes.flat), shrink=0.8, aspect=30, pad=0.01, label=unit, extend=ends)
    bar.ax.set_facecolor("0.5")
