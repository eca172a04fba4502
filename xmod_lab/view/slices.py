"""Pictures of slices. Images are 2D arrays as displayed: first row anterior (axial) or head (coronal, sagittal),
first column the patient's right, which is how `xmod_lab.data.prepare` stores them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xmod_lab.view.style import IMAGE, colours_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

    from xmod_lab.data.batches import Slices

CELL = 1.9
"""inches of one picture"""
GAP = 0.1
"""inches between pictures and what stands above and below them"""
INSIDE = 0.9
"""level of contours: just inside a structure, so that neighbours do not hide each other's line"""


def _grid(
    rows: int, columns: int, title: str, *, cell: float = CELL, tall: float = 1.0, extra: float = 0.0
) -> tuple[Figure, np.ndarray]:
    """`tall`: height of the tallest picture over its width; `extra`: inches for what stands below the pictures."""
    import matplotlib.pyplot as plt

    width = max(columns * cell, 3.4)
    title = textwrap.fill(title, int(12.5 * width))
    size = (width, rows * (cell * tall + 0.28) + 0.25 * title.count("\n") + (0.45 if title else 0.0) + extra)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="compressed", squeeze=False)
    if title:
        figure.suptitle(title)
    for axis in axes.flat:
        axis.set_axis_off()
    return figure, axes


def draw_slice(
    axis: Axes, image: np.ndarray, *, window: tuple[float, float] = (-1.0, 1.0), aspect: float = 1.0
) -> None:
    """One image (h, w) in grey between the two values of `window`."""
    axis.imshow(image, cmap=IMAGE, vmin=window[0], vmax=window[1], aspect=aspect, origin="upper")
    axis.set_axis_off()


def draw_contours(axis: Axes, labels: np.ndarray, colours: Mapping[str, str], *, dashed: bool = False) -> None:
    """Contours of class 1, 2 ... of `labels` (h, w) in the colours given, in that order."""
    for value, colour in enumerate(colours.values(), start=1):
        mask = labels == value
        if mask.any():
            padded = np.pad(mask.astype(float), 1)  # closes contours of what touches the border
            places = [np.arange(-1, n + 1) for n in mask.shape]
            axis.contour(places[1], places[0], padded, [INSIDE], colors=[colour], linewidths=1.3,
                         linestyles="dashed" if dashed else "solid")
    axis.set_xlim(-0.5, labels.shape[1] - 0.5)
    axis.set_ylim(labels.shape[0] - 0.5, -0.5)


def _legend(figure: Figure, colours: Mapping[str, str], *, fit: bool = True) -> None:
    """One line a class below the pictures. fit: lower the figure by what is empty above and below them."""
    from matplotlib.lines import Line2D

    if not colours:
        _lower(figure)
        return
    handles = [Line2D([], [], color=colour, label=name.replace("_", " ")) for name, colour in colours.items()]
    columns = min(len(handles), 6)
    legend = figure.legend(handles=handles, loc="outside lower center", bbox_to_anchor=(0, 0, 1, 1), ncols=columns)
    if fit:
        _lower(figure, legend)


def _lower(figure: Figure, legend: Legend | None = None) -> None:
    """Lower the figure by what is empty around title and pictures, whose sizes follow from the figure's width."""
    figure.draw_without_rendering()  # lays it out
    boxes = [box for axis in figure.axes if (box := axis.get_tightbbox()) is not None]
    title = figure._suptitle  # type: ignore[attr-defined]  # it moves with the pictures
    top = max(box.y1 for box in boxes) if title is None else title.get_window_extent().y1
    above = figure.bbox.y1 - top
    below = min(box.y0 for box in boxes) - (0.0 if legend is None else legend.get_window_extent().y1)
    empty = min(above, below) / figure.dpi - GAP  # as much above as below: the layout centres the pictures
    if empty > 0:
        figure.set_size_inches(figure.get_figwidth(), figure.get_figheight() - 2 * empty)


def slice_panels(
    images: Sequence[np.ndarray],
    names: Sequence[str],
    *,
    labels: Sequence[np.ndarray | None] | None = None,
    classes: Sequence[str] = (),
    windows: Sequence[tuple[float, float]] | None = None,
    units: Sequence[str] | None = None,
    columns: int = 4,
    aspects: Sequence[float] | None = None,
    title: str = "",
) -> Figure:
    """Slices side by side, each with its name and, where `windows` is given, the grey values of black and white.

    images: (h, w) each. labels: (h, w) class indices or None. classes: names of class 1, 2 ... units: of the windows.
    aspects: height of a pixel over its width; left out, pixels are square.
    """
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    tall = max(p.shape[0] * (aspects[i] if aspects else 1.0) / p.shape[1] for i, p in enumerate(images))
    lines = max((name.count("\n") for name in names), default=0) + bool(windows)
    extra = (0.3 if classes else 0.0) + 0.2 * rows * lines
    figure, axes = _grid(rows, columns, title, tall=tall, extra=extra)
    colours = colours_of(classes)
    for i, (axis, image, name) in enumerate(zip(axes.flat, images, names, strict=False)):
        window = windows[i] if windows else (-1.0, 1.0)
        draw_slice(axis, image, window=window, aspect=aspects[i] if aspects else 1.0)
        label = labels[i] if labels else None
        if label is not None:
            draw_contours(axis, label, colours)
        shown = f"\n{window[0]:.4g} to {window[1]:.4g} {units[i] if units else ''}".rstrip() if windows else ""
        axis.set_title(f"{name}{shown}", fontsize=9)
    _legend(figure, colours)
    return figure


def montage(
    images: Mapping[str, Mapping[str, np.ndarray]],
    *,
    labels: Mapping[str, Mapping[str, np.ndarray]] | None = None,
    classes: Sequence[str] = (),
    title: str = "",
) -> Figure:
    """Rows by columns, usually patients by modalities: ``images[patient][modality]`` (h, w) in [-1, 1].

    A picture that is not there stays empty and says so.
    """
    columns = list(dict.fromkeys(name for row in images.values() for name in row))
    figure, axes = _grid(len(images), len(columns), title, extra=0.3 if classes else 0.0)
    colours = colours_of(classes)
    for r, (row, pictures) in enumerate(images.items()):
        for c, column in enumerate(columns):
            axis = axes[r, c]
            if column in pictures:
                draw_slice(axis, pictures[column])
                if labels and column in labels.get(row, {}):
                    draw_contours(axis, labels[row][column], colours)
            else:
                axis.text(0.5, 0.5, "none", ha="center", va="center", color="0.5", transform=axis.transAxes)
            if r == 0:
                axis.set_title(column)
            if c == 0:
                _row_name(axis, row)
    _legend(figure, colours)
    return figure


def _row_name(axis: Axes, name: str) -> None:
    short = name if len(name) <= 18 else name[:17] + "…"
    axis.text(-0.04, 0.5, short, rotation=90, ha="right", va="center", fontsize=9, transform=axis.transAxes)


def slice_dice(prediction: np.ndarray, truth: np.ndarray, classes: Sequence[str]) -> dict[str, float]:
    """Dice of each class in one slice, NaN where the class is in neither. For captions; scores are of whole volumes."""
    found = {}
    for value, name in enumerate(classes, start=1):
        p, t = prediction == value, truth == value
        size = p.sum() + t.sum()
        found[name] = float(2 * (p & t).sum() / size) if size else float("nan")
    return found


def example_rows(
    examples: Mapping[str, np.ndarray], modalities: Sequence[str], most: int = 3
) -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Rows for `predictions` from a run's examples: up to `most` patients, each in every modality that has them."""
    shown = [m for m in modalities if f"{m}/image" in examples]
    rows = []
    for number in range(min([most, *(len(examples[f"{m}/image"]) for m in shown)])):
        for m in shown:
            image, truth, prediction = (examples[f"{m}/{part}"][number] for part in ("image", "truth", "prediction"))
            name = f"{m}, {_short(str(examples[f'{m}/patient'][number]))}"
            rows.append((name, image.astype(np.float32), truth, prediction))
    return rows


def predictions(
    rows: Sequence[tuple[str, np.ndarray, np.ndarray, np.ndarray]],
    classes: Sequence[str],
    *,
    columns: int = 2,
    title: str = "",
) -> Figure:
    """Truth beside prediction, the Dice of the slice below: (name, image, truth, prediction) each, arrays (h, w)."""
    columns = min(columns, len(rows))
    lines = -(-len(rows) // columns)
    figure, axes = _grid(lines, 2 * columns, title, extra=0.3 + 0.2 * lines)
    colours = colours_of(classes)
    for i, (name, image, truth, prediction) in enumerate(rows):
        left, right = axes[i // columns, 2 * (i % columns)], axes[i // columns, 2 * (i % columns) + 1]
        for axis, mask in ((left, truth), (right, prediction)):
            draw_slice(axis, image)
            draw_contours(axis, mask, colours)
        left.set_title(f"{name}\ntruth", fontsize=9)
        dice = slice_dice(prediction, truth, classes)
        shown = "\n".join(_dice_text(n.replace("_", " ") if len(classes) > 1 else "", v) for n, v in dice.items())
        right.set_title("\nprediction", fontsize=9)
        right.text(0.5, -0.03, shown if len(classes) <= 2 else _mean_text(dice), ha="center", va="top", fontsize=9,
                   transform=right.transAxes)
    _legend(figure, colours)
    return figure


def _dice_text(name: str, value: float) -> str:
    text = "absent from both" if np.isnan(value) else f"Dice {value:.2f}"
    return f"{name}: {text}" if name else f"{text} (slice)"


def _mean_text(dice: Mapping[str, float]) -> str:
    known = [value for value in dice.values() if not np.isnan(value)]
    return f"mean Dice {np.mean(known):.2f} ({len(known)} classes, slice)" if known else "nothing to find"


def recipe_steps(
    steps: Sequence[tuple[str, np.ndarray, tuple[float, float], str]], *, labels: np.ndarray | None = None,
    classes: Sequence[str] = (), title: str = ""
) -> Figure:
    """From raw to ready: (step, slice (h, w), window, unit) each, its histogram below. `labels` belong to the last."""
    import matplotlib.pyplot as plt

    shape = {"height_ratios": (2.2, 1)}
    size = (len(steps) * 2.05, 4.0)
    figure, axes = plt.subplots(2, len(steps), figsize=size, layout="constrained", squeeze=False, gridspec_kw=shape)
    if title:
        figure.suptitle(title)
    colours = colours_of(classes)
    for column, (name, image, window, unit) in enumerate(steps):
        top, below = axes[0, column], axes[1, column]
        draw_slice(top, image, window=window)
        top.set_title(f"{column + 1}. {name}\n{image.shape[0]} × {image.shape[1]} px", fontsize=9)
        below.hist(image[image > image.min()].ravel(), bins=40, color="0.45")
        below.set_yticks([])
        below.tick_params(axis="x", labelsize=8)
        below.set_xlabel(unit, fontsize=8)
    axes[1, 0].set_ylabel("pixels above\nthe lowest value", fontsize=8)
    if labels is not None:
        draw_contours(axes[0, -1], labels, colours)
        figure.set_layout_engine("constrained", rect=(0, 0.07, 1, 0.93))  # room for a legend below the axis labels
        _legend(figure, colours, fit=False)
    return figure


def batch_panel(batch: Mapping[str, Slices], classes: Sequence[str], *, most: int = 6, title: str = "") -> Figure:
    """A training batch as the network sees it: a row a modality, up to `most` slices, contours where it has labels."""
    columns = min(most, max(len(slices.patient) for slices in batch.values()))
    figure, axes = _grid(len(batch), columns, title, cell=1.6, extra=0.3)
    colours = colours_of(classes)
    for row, (modality, slices) in enumerate(batch.items()):
        for column in range(min(columns, len(slices.patient))):
            axis: Any = axes[row, column]
            draw_slice(axis, slices.image[column, slices.image.shape[1] // 2].cpu().numpy())
            if slices.label is not None:
                draw_contours(axis, slices.label[column].cpu().numpy(), colours)
            axis.set_title(f"{_short(slices.patient[column])} #{int(slices.index[column])}", fontsize=7.5)
        _row_name(axes[row, 0], modality if slices.label is not None else f"{modality}, no labels")
    _legend(figure, colours)
    return figure


def _short(name: str, most: int = 14) -> str:
    return name if len(name) <= most else "…" + name[-most + 1:]
