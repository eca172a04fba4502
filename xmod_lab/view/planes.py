"""A volume in three planes with what several systems found in it, in true proportions (after BiGL, Fig. 3)."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from xmod_lab.data.geometry import AXES, to_planes
from xmod_lab.view.slices import _lower, _row_name, draw_contours, draw_slice
from xmod_lab.view.style import colours_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PLANES = ("axial", "sagittal", "coronal")
WIDTH = 7.0
"""inches of the three planes together"""


def centre_of(labels: np.ndarray) -> tuple[int, int, int]:
    """The labelled voxel nearest to the centre of all labelled ones (x, y, z); the middle of a volume without any."""
    found = np.argwhere(labels > 0)
    if not len(found):
        x, y, z = (n // 2 for n in labels.shape)
        return x, y, z
    x, y, z = found[((found - found.mean(0)) ** 2).sum(1).argmin()]
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
    title: str = "",
) -> Figure:
    """A row a system: axial, sagittal and coronal plane through one voxel, its contours over those of the truth.

    image, truth and what each system found (x, y, z), canonical axes, class indices. spacing: voxel sizes in mm along
    x, y and z; all planes have one scale, of which a bar shows a length. Contours of the truth are dashed. at: the
    voxel, by default `centre_of` the truth. window: grey values of black and white, by default the percentiles 0.5 and
    99.5 of the volume.
    """
    import matplotlib.pyplot as plt

    for name, found in {"truth": truth, **systems}.items():
        if found.shape != image.shape:
            raise ValueError(f"{name} {found.shape} and image {image.shape} have different sizes")
    at = centre_of(truth) if at is None else at
    low, high = np.percentile(image, (0.5, 99.5)) if window is None else window
    extents = [n * step for n, step in zip(image.shape, spacing, strict=True)]
    widths, heights = ([extents[AXES[plane][k]] for plane in PLANES] for k in (2, 1))
    rows = len(systems)
    title = textwrap.fill(title, int(12.5 * WIDTH))
    size = (WIDTH, rows * (WIDTH * max(heights) / sum(widths) + 0.35) + (0.45 if title else 0.0) + 0.6)
    figure, axes = plt.subplots(rows, 3, figsize=size, layout="compressed", squeeze=False, width_ratios=widths)
    if title:
        figure.suptitle(title)
    colours = colours_of(classes)
    for r, (name, found) in enumerate(systems.items()):
        for axis, plane in zip(axes[r], PLANES, strict=True):
            across, row, column = AXES[plane]
            aspect = spacing[row] / spacing[column]
            shown, true, predicted = (to_planes(v, plane)[at[across]] for v in (image, truth, found))  # type: ignore[arg-type]
            draw_slice(axis, shown, window=(float(low), float(high)), aspect=aspect)
            draw_contours(axis, predicted, colours)
            draw_contours(axis, true, colours, dashed=True)
            if r == 0:
                axis.set_title(plane, fontsize=9)
        _row_name(axes[r, 0], name)
    _bar_of(axes[-1, 0], extents[AXES[PLANES[0]][2]], spacing[AXES[PLANES[0]][2]])
    _names(figure, colours)
    return figure


def _bar_of(axis, width: float, step: float) -> None:  # type: ignore[no-untyped-def]
    """A bar of a round length in mm in the lower left corner of a picture that is `width` mm wide."""
    length = max((n for n in (1, 2, 5, 10, 20, 50, 100) if n <= width / 3), default=1)
    start = 0.04 * width / step
    place = {"transform": axis.get_xaxis_transform(), "color": "white"}
    axis.plot([start, start + length / step], [0.05, 0.05], linewidth=2.0, solid_capstyle="butt", **place)
    axis.text(start, 0.08, f"{length} mm", fontsize=7.5, **place)


def _names(figure: Figure, colours: Mapping[str, str]) -> None:
    """Legend of classes, and of the truth's line beside the prediction's."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=colour, label=name.replace("_", " ")) for name, colour in colours.items()]
    handles += [Line2D([], [], color="0.3", label="found"), Line2D([], [], color="0.3", ls="--", label="truth")]
    columns = min(len(handles), 7)
    legend = figure.legend(handles=handles, loc="outside lower center", bbox_to_anchor=(0, 0, 1, 1), ncols=columns)
    _lower(figure, legend)
