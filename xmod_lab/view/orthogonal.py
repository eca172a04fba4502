"""Three planes through one point of a volume: where it is, what is labelled there, and what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from xmod_lab.data.geometry import AXES, to_planes
from xmod_lab.data.volume import Volume
from xmod_lab.errors import LabError
from xmod_lab.view.frame import ENDS, Frame, Place, canonical, canonical_point, frame_of, point_text
from xmod_lab.view.planes import PLANES, _bar_of, _laid_out, centre_of
from xmod_lab.view.slices import draw_contours, draw_slice
from xmod_lab.view.style import CT_WINDOWS, colours_of
from xmod_lab.view.volumes import window_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FILL = 0.45
"""opacity of a filled structure"""
GAP = 0.06
"""half of the gap that cross-hairs leave about their point, as a share of the picture's shorter side"""
LETTERS = 92
"""of a legend that a figure's width has room for"""


def placed(image: Volume | np.ndarray, place: Place | None) -> tuple[np.ndarray, Frame]:
    """The image on canonical axes, and its frame. Raises LabError where nothing, or two things, say where it lies."""
    if isinstance(image, Volume):
        if place is not None:
            raise LabError("a volume knows where it lies", where=image.path, mend="leave out `place`")
        image, place = image.array, image
    if place is None:
        raise LabError("nothing says where the array lies", mend="give voxel sizes in mm, an affine or a Volume")
    frame = frame_of(image.shape, place)
    return canonical(frame, image), frame


def grey_window(
    image: np.ndarray, kind: str, labels: np.ndarray | None, window: tuple[float, float] | str | None = None
) -> tuple[float, float]:
    """Grey values for black and white of a volume: those given, a preset's for CT, else by `volumes.window_of`.

    Voxels that are not finite are left out. Raises LabError for an unknown preset, one of HU for an MR, an image
    without finite voxels, and a window that is not from low to high.
    """
    if isinstance(window, str):
        if window not in CT_WINDOWS or kind != "CT":
            raise LabError(f"no window {window!r} for {kind}", mend=f"presets are of CT: {', '.join(CT_WINDOWS)}")
        window = CT_WINDOWS[window]
    if window is not None:
        if not window[0] < window[1]:
            raise LabError(f"a window goes from low to high, this one from {window[0]:g} to {window[1]:g}")
        return float(window[0]), float(window[1])
    sound = np.isfinite(image)
    if not sound.any():
        raise LabError("the image has no finite voxel")
    return window_of(image[sound], kind, None if labels is None else labels[sound])


def class_names(classes: Sequence[str], *labels: np.ndarray | None) -> list[str]:
    """Names of class 1, 2 ...: those given, or numbers where none are. Raises LabError for a value without a name, and
    for labels that are not whole numbers from 0."""
    most = 0
    for values in labels:
        if values is not None and values.size:
            if values.min() < 0 or not np.array_equal(values, np.rint(values)):
                raise LabError("labels must be class indices 0, 1, 2 ...", mend="round them, or take the argmax")
            most = max(most, int(values.max()))
    if classes and most > len(classes):
        raise LabError(f"class {most} has no name", mend=f"name all classes; these are {len(classes)}")
    return list(classes) or [f"class {k}" for k in range(1, most + 1)]


def presence(name: str, truth: bool | None, found: bool | None) -> str:
    """A class' name for a legend, with what is not there; None where there is no truth or no prediction at all."""
    shown = name.replace("_", " ")
    if not truth and not found:
        return f"{shown} (absent)"
    return shown + (" (not in truth)" if truth is False else " (missed)" if found is False else "")


def orthogonal(
    image: Volume | np.ndarray,
    place: Place | None = None,
    labels: np.ndarray | None = None,
    prediction: np.ndarray | None = None,
    classes: Sequence[str] = (),
    *,
    kind: str = "MR",
    at: Sequence[int] | None = None,
    window: tuple[float, float] | str | None = None,
    truth: Literal["filled", "contour"] = "filled",
    title: str = "",
) -> Figure:
    """Axial, sagittal and coronal plane through one voxel, marked by cross-hairs; all planes have one scale in mm.

    image: (x, y, z), a `Volume` or an array with its `place`: voxel sizes in mm of a canonical array, or an affine of
    an array as stored. labels, prediction: class indices on the axes of the image; one is filled, the other a contour
    (`truth` says which the labels are). classes: names of class 1, 2 ... kind: MR or CT. at: the voxel, by default the
    labelled one nearest in mm to the centre of all labelled ones. window: grey values for black and white, or for CT
    one of CT_WINDOWS by name; see `grey_window`. Planes are those of the grid: the title says by how much it is turned.

    Raises LabError for arrays on different grids, a voxel outside of them, and labels without a name.
    """
    array, frame = placed(image, place)
    masks = [None if m is None else canonical(frame, m) for m in (labels, prediction)]
    names = class_names(classes, *masks)
    leading = next((m for m in masks if m is not None and m.any()), np.zeros(array.shape, np.uint8))
    point = centre_of(leading, frame.spacing) if at is None else canonical_point(frame, at)
    low, high = grey_window(array, kind, leading, window)
    extents = [n * step for n, step in zip(array.shape, frame.spacing, strict=True)]
    figure, axes = _laid_out(extents, 1, ": ".join(part for part in (title, point_text(frame, point)) if part))
    colours = colours_of(names)
    styles = ("filled", "contour") if truth == "filled" else ("contour", "filled")
    for axis, plane in zip(axes[0], PLANES, strict=True):
        across, row, column = AXES[plane]
        cut = [None if m is None else to_planes(m, plane)[point[across]] for m in (array, *masks)]  # type: ignore[arg-type]
        picture = np.asarray(cut[0], float)
        draw_slice(axis, picture, window=(low, high), aspect=frame.spacing[row] / frame.spacing[column])
        for mask, style in zip(cut[1:], styles, strict=True):
            if mask is not None and style == "filled":
                _fill(axis, mask, colours)
        for mask, style in zip(cut[1:], styles, strict=True):
            if mask is not None and style == "contour":
                draw_contours(axis, mask, colours)
        _cross(axis, (array.shape[row] - 1 - point[row], array.shape[column] - 1 - point[column]), picture.shape)
        _letters(axis, ENDS[row], ENDS[column])
        axis.set_title(plane, fontsize=9)
    axes[0][0].set_title(f"axial, grey {low:.4g} to {high:.4g}{' HU' if kind == 'CT' else ''}", fontsize=9)
    if frame.unit == "mm":  # else nobody knows how long it would be
        _bar_of(axes[0][0], extents[0], frame.spacing[0])
    _legend(figure, colours, masks, styles)
    return figure


def _fill(axis: Axes, mask: np.ndarray, colours: Mapping[str, str]) -> None:
    from matplotlib.colors import to_rgb

    paint = np.zeros((*mask.shape, 4))
    for value, colour in enumerate(colours.values(), start=1):
        paint[mask == value] = (*to_rgb(colour), FILL)
    axis.imshow(paint, origin="upper", aspect=axis.get_aspect(), interpolation="nearest")


def _cross(axis: Axes, at: tuple[int, int], shape: tuple[int, ...]) -> None:
    """Two lines through a pixel (row, column) that stop short of it, so that they hide nothing there."""
    ratio = float(axis.get_aspect())  # height of a pixel over its width
    (rows, columns), (row, column) = shape, at
    free = GAP * min(rows * ratio, columns)
    down, across = max(free / ratio, 0.6), max(free, 0.6)  # at least the pixel itself
    for low, high in ((-0.5, row - down), (row + down, rows - 0.5)):
        if low < high:
            axis.plot([column, column], [low, high], color="white", linewidth=0.7, alpha=0.8)
    for low, high in ((-0.5, column - across), (column + across, columns - 0.5)):
        if low < high:
            axis.plot([low, high], [row, row], color="white", linewidth=0.7, alpha=0.8)


def _letters(axis: Axes, ends: str, sides: str) -> None:
    """What lies beyond each edge. Rows and columns of a picture run against their axes."""
    from matplotlib.patheffects import withStroke

    edges = ((0.5, 0.985, ends[1], "center", "top"), (0.5, 0.015, ends[0], "center", "bottom"),
             (0.015, 0.5, sides[1], "left", "center"), (0.985, 0.5, sides[0], "right", "center"))  # fmt: skip
    for x, y, letter, across, along in edges:
        axis.text(x, y, letter, ha=across, va=along, color="white", fontsize=8.5, weight="bold",
                  transform=axis.transAxes, path_effects=[withStroke(linewidth=2, foreground="black")])


def _legend(
    figure: Figure, colours: Mapping[str, str], masks: Sequence[np.ndarray | None], styles: Sequence[str]
) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    here = [None if m is None else set(np.unique(m).tolist()) for m in masks]
    handles: list[Patch | Line2D] = []
    for value, (name, colour) in enumerate(colours.items(), start=1):
        state = (None if values is None else value in values for values in here)
        handles.append(Patch(color=colour, label=presence(name, *state)))
    for what, mask, style in zip(("truth", "prediction"), masks, styles, strict=True):
        if mask is not None and colours and masks[1] is not None:  # the truth alone needs no word
            grey = Patch(color="0.3", alpha=FILL, label=what) if style == "filled" else None
            handles.append(grey or Line2D([], [], color="0.3", label=what))
    if handles:
        lengths, rows = [len(str(handle.get_label())) + 7 for handle in handles], 1
        while sum(max(lengths[i : i + rows]) for i in range(0, len(lengths), rows)) > LETTERS and rows < len(lengths):
            rows += 1
        _raise(figure, 0.2 * (rows - 1))
        low = (0.5, 0.08 / figure.get_figheight())
        figure.legend(handles=handles, loc="lower center", bbox_to_anchor=low, ncols=-(-len(handles) // rows))


def _raise(figure: Figure, more: float) -> None:
    """Inches more below the pictures."""
    high = figure.get_figheight()
    share = high / (high + more)
    for axis in figure.axes:
        box = axis.get_position()
        axis.set_position((box.x0, 1 - (1 - box.y0) * share, box.width, box.height * share))
    if (title := figure._suptitle) is not None:  # type: ignore[attr-defined]
        title.set_y(1 - (1 - title.get_position()[1]) * share)
    figure.set_figheight(high + more)
