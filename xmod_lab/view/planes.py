"""A volume in three planes with what several systems found in it, in true proportions (after BiGL, Fig. 3)."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from xmod_lab.data.geometry import AXES, to_planes
from xmod_lab.view.slices import GAP, _row_name, draw_contours, draw_slice
from xmod_lab.view.style import colours_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PLANES = ("axial", "sagittal", "coronal")
WIDTH = 7.0
"""inches of the figure"""
LEFT = 0.3
"""inches for the systems' names"""


def centre_of(labels: np.ndarray, spacing: Sequence[float] = (1.0, 1.0, 1.0)) -> tuple[int, int, int]:
    """The labelled voxel nearest to the centre of all labelled ones (x, y, z); the middle of a volume without any.

    spacing: voxel sizes; left out, a step is as far along each axis.
    """
    found = np.argwhere(labels > 0)
    if not len(found):
        x, y, z = (n // 2 for n in labels.shape)
        return x, y, z
    x, y, z = found[(((found - found.mean(0)) * spacing) ** 2).sum(1).argmin()]
    return int(x), int(y), int(z)


def three_planes(
    image: np.ndarray,
    spacing: tuple[float, float, float],
    truth: np.ndarray,
    systems: Mapping[str, np.ndarray],
    classes: Sequence[str],
    *,
    at: tuple[int, int, int] | None = None,
    window: tuple[float, float] | None = None,
    margin: float | None = None,
    title: str = "",
) -> Figure:
    """A row a system: axial, sagittal and coronal plane through one voxel, its contours over those of the truth.

    image, truth and what each system found (x, y, z), canonical axes, class indices. spacing: voxel sizes in mm along
    x, y and z; all planes have one scale, of which a bar shows a length. Contours of the truth are dashed. at: the
    voxel, by default `centre_of` the truth. window: grey values of black and white, by default the percentiles 0.5 and
    99.5 of the volume. margin: show only what lies at most so many mm from a box about the truth and the voxel.
    """
    for name, found in {"truth": truth, **systems}.items():
        if found.shape != image.shape:
            raise ValueError(f"{name} {found.shape} and image {image.shape} have different sizes")
    at = centre_of(truth) if at is None else at
    low, high = np.percentile(image, (0.5, 99.5)) if window is None else window
    if margin is not None:
        box, at = _box(truth, spacing, at, margin)
        image, truth, systems = image[box], truth[box], {name: found[box] for name, found in systems.items()}
    extents = [n * step for n, step in zip(image.shape, spacing, strict=True)]
    figure, axes = _laid_out(extents, len(systems), title)
    colours = colours_of(classes)
    for r, (name, found) in enumerate(systems.items()):
        for axis, plane in zip(axes[r], PLANES, strict=True):
            across, row, column = AXES[plane]
            shown, true, predicted = (to_planes(v, plane)[at[across]] for v in (image, truth, found))  # type: ignore[arg-type]
            draw_slice(axis, shown, window=(float(low), float(high)), aspect=spacing[row] / spacing[column])
            draw_contours(axis, predicted, colours)
            before = len(axis.collections)
            draw_contours(axis, true, colours, dashed=True)
            for line in list(axis.collections)[before:]:
                line.set_linewidth(1.0)
            if r == 0:
                place = axis.get_position()
                top = max(other.get_position().y1 for other in axes[0])
                axis.set_title(plane, fontsize=9, y=(top - place.y0) / place.height)  # of all planes at one height
        _row_name(axes[r][0], name)
    _bar_of(axes[-1][0], extents[AXES[PLANES[0]][2]], spacing[AXES[PLANES[0]][2]])
    _names(figure, colours)
    return figure


def _box(
    truth: np.ndarray, spacing: tuple[float, float, float], at: tuple[int, int, int], margin: float
) -> tuple[tuple[slice, slice, slice], tuple[int, int, int]]:
    """The part of the volume that `margin` leaves, and where the voxel lies in it."""
    places = np.concatenate([np.argwhere(truth > 0), np.array([at])])
    more = np.ceil(margin / np.array(spacing)).astype(int)
    low, high = np.maximum(places.min(0) - more, 0), np.minimum(places.max(0) + more + 1, truth.shape)
    x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return (x, y, z), (at[0] - x.start, at[1] - y.start, at[2] - z.start)


def _laid_out(extents: Sequence[float], rows: int, title: str) -> tuple[Figure, list[list[Axes]]]:
    """A figure with the axes of three planes a row, each as large as its plane of a volume of these extents in mm, all
    on one scale: matplotlib's own layouts would stretch the columns unlike."""
    import matplotlib.pyplot as plt

    widths, heights = ([extents[AXES[plane][k]] for plane in PLANES] for k in (2, 1))
    scale = (WIDTH - LEFT - 2 * GAP) / sum(widths)  # inches of a millimetre
    tall = scale * max(heights)
    title = textwrap.fill(title, int(12.5 * WIDTH))
    above, below = 0.3 + (0.1 + 0.2 * (1 + title.count("\n")) if title else 0.0), 0.45
    high = above + rows * tall + (rows - 1) * GAP + below
    figure = plt.figure(figsize=(WIDTH, high))
    if title:
        figure.suptitle(title, y=1 - 0.05 / high, va="top")
    axes: list[list[Axes]] = []
    for r in range(rows):
        axes.append([])
        left, middle = LEFT, high - above - r * (tall + GAP) - tall / 2
        for w, h in zip(widths, heights, strict=True):
            place = (left / WIDTH, (middle - scale * h / 2) / high, scale * w / WIDTH, scale * h / high)
            axes[-1].append(figure.add_axes(place))
            left += scale * w + GAP
    return figure, axes


def _bar_of(axis: Axes, width: float, step: float) -> None:
    """A bar of a round length in mm in the lower left corner of a picture that is `width` mm wide."""
    length = max((n for n in (1, 2, 5, 10, 20, 50, 100) if n <= width / 3), default=1)
    start = 0.04 * width / step
    along = axis.get_xaxis_transform()
    ends = [start, start + length / step]
    axis.plot(ends, [0.05, 0.05], color="white", linewidth=2.0, solid_capstyle="butt", transform=along)
    axis.text(start, 0.08, f"{length} mm", color="white", fontsize=7.5, transform=along)


def _names(figure: Figure, colours: Mapping[str, str]) -> None:
    """Legend of classes, and of the truth's line beside the prediction's."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour, label=name.replace("_", " ")) for name, colour in colours.items()]
    handles += [Line2D([], [], color="0.3", label="found"), Line2D([], [], color="0.3", ls="--", label="truth")]
    columns = min(len(handles), 7)
    low = (0.5, 0.08 / figure.get_figheight())
    figure.legend(handles=handles, loc="lower center", bbox_to_anchor=low, ncols=columns)
