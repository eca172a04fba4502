"""Pictures of translations: systems by target with truth, difference, errors, target area; the critic's slots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from xmod_lab.view.maps import DIVERGING, map_grid
from xmod_lab.view.slices import _grid, _legend, _row_name, draw_contours, draw_slice, montage
from xmod_lab.view.style import HEAT, SCALE, colours_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARGIN = 4
"""pixels around the target area in a zoom"""


@dataclass(frozen=True)
class Shown:
    """A slice of one modality, what each system makes of it as `target`, and the true slice where it is known.

    image, truth and translations (h, w) in [-1, 1]; labels (h, w) class indices of the source. back: translations
    brought back to the source's modality.
    """

    source: str
    target: str
    image: np.ndarray
    labels: np.ndarray
    translations: Mapping[str, np.ndarray] = field(default_factory=dict)
    truth: np.ndarray | None = None
    back: Mapping[str, np.ndarray] = field(default_factory=dict)


def around(labels: np.ndarray, margin: int = MARGIN) -> tuple[slice, slice]:
    """The smallest square about all labels with `margin` pixels more on each side, inside the picture.

    The whole picture if there is no label.
    """
    rows, columns = (np.flatnonzero((labels > 0).any(axis)) for axis in (1, 0))
    if not len(rows):
        return slice(0, labels.shape[0]), slice(0, labels.shape[1])
    edge = min(max(np.ptp(rows), np.ptp(columns)) + 1 + 2 * margin, *labels.shape)
    starts = [int(np.clip((v[0] + v[-1] + 1 - edge) // 2, 0, n - edge))
              for v, n in zip((rows, columns), labels.shape, strict=True)]  # fmt: skip
    return slice(starts[0], starts[0] + edge), slice(starts[1], starts[1] + edge)


def translation_grid(
    shown: Sequence[Shown], classes: Sequence[str], *, what: str = "image", zoom: bool = False, title: str = ""
) -> Figure:
    """A row a slice and target: the source, the truth, then each system.

    what: "image", or "difference": each system minus the truth, white where they agree, on a scale of half the range
    (-1 to 1), the same in every figure; slices whose truth nobody knows are left out. zoom: the square about the target
    area alone. The contour is the source's label, also on translations: they should keep it.
    """
    differences = what == "difference"
    kept = [s for s in shown if not differences or s.truth is not None]
    names = list(dict.fromkeys(name for s in kept for name in s.translations))
    columns = ["source", *(["truth"] if any(s.truth is not None for s in kept) else []), *names]
    figure, axes = _grid(max(1, len(kept)), len(columns), title, cell=1.55, extra=0.3)
    colours, painted = colours_of(classes), None
    for r, one in enumerate(kept):
        part = around(one.labels) if zoom else (slice(None), slice(None))
        pictures = {"source": one.image, **({"truth": one.truth} if one.truth is not None else {}), **one.translations}
        for c, column in enumerate(columns):
            axis = axes[r, c]
            if r == 0:
                axis.set_title(column.replace(" (", "\n("), fontsize=9)
            if column not in pictures:
                text = "unknown" if column == "truth" else "none"
                axis.text(0.5, 0.5, text, ha="center", va="center", color="0.5", transform=axis.transAxes)
                continue
            if differences and column in names:
                gap = (pictures[column] - one.truth)[part]
                painted = axis.imshow(gap, cmap=DIVERGING, vmin=-1, vmax=1)
            else:
                draw_slice(axis, pictures[column][part])
            draw_contours(axis, one.labels[part], colours)
        _row_name(axes[r, 0], f"{one.source} to {one.target}")
    if painted is not None:
        figure.colorbar(painted, ax=list(axes.flat), shrink=0.8, aspect=30, pad=0.01, extend="both",
                        label="translated minus true")  # fmt: skip
    _legend(figure, colours)
    return figure


def cycle_grid(shown: Sequence[Shown], classes: Sequence[str], *, what: str = "image", title: str = "") -> Figure:
    """There and back: a row a slice and target, a pair of columns a system, after source and truth. Every system must
    have its way back in `Shown.back`.

    what: "image", contours of the source's label on the source alone; or "difference": there minus truth, back minus
    source, and before them source minus truth, the error of doing nothing. One scale for all, symmetric about zero;
    where nobody knows the truth the ways back stand alone.
    """
    rows: dict[str, dict[str, np.ndarray]] = {}
    for one in shown:
        row = rows.setdefault(f"{one.source} to {one.target}", {})
        if what == "image":
            row |= {"source": one.image} | ({} if one.truth is None else {"truth": one.truth})
        elif one.truth is not None:
            row["source\n- truth"] = one.image - one.truth
        for name, made in one.translations.items():
            if what == "image":
                row |= {f"{name}:\nthere": made, f"{name}:\nback": one.back[name]}
            else:
                row |= {} if one.truth is None else {f"{name}:\nthere - truth": made - one.truth}
                row[f"{name}:\nback - source"] = one.back[name] - one.image
    if what == "difference":
        return map_grid(rows, span=None, unit="difference", title=title)
    labels = {f"{one.source} to {one.target}": {"source": one.labels} for one in shown}
    return montage(rows, labels=labels, classes=classes, title=title)


def error_grid(shown: Sequence[Shown], *, most: float = 0.5, title: str = "") -> Figure:
    """Two rows a slice with truth: the source, each system and the truth; below them the absolute errors, black none.

    Errors are of images mapped to [0, 1], on a scale from 0 to `most` that is the same in every figure and whose bar
    stands below the truth; below each error its mean over the slice. The source's error is that of the untranslated
    image. Slices whose truth nobody knows are left out.
    """
    kept = [s for s in shown if s.truth is not None]
    names = list(dict.fromkeys(name for s in kept for name in s.translations))
    figure, axes = _grid(max(1, 2 * len(kept)), 2 + len(names), title, cell=1.55)
    for r, one in enumerate(kept):
        truth = np.asarray(one.truth)
        above, below = axes[2 * r], axes[2 * r + 1]
        for c, column in enumerate(["source", *names]):
            if column not in ("source", *one.translations):
                continue
            picture = one.image if column == "source" else one.translations[column]
            error = np.abs(picture - truth) / 2
            draw_slice(above[c], picture)
            below[c].imshow(error, cmap=HEAT, vmin=0, vmax=most)
            below[c].text(0.5, -0.02, f"mean {error.mean():.3f}", ha="center", va="top", fontsize=8,
                          transform=below[c].transAxes)  # fmt: skip
            above[c].set_title((one.source if column == "source" else column).replace(" (", "\n("), fontsize=9)
        draw_slice(above[-1], truth)
        above[-1].set_title(f"true {one.target}", fontsize=9)
        bar = figure.colorbar(below[0].images[0], cax=below[-1].inset_axes((0.12, 0.05, 0.12, 0.9)), extend="max")
        bar.set_label("|error|, range 0 to 1", fontsize=8)
        bar.ax.tick_params(labelsize=8)
        _row_name(above[0], f"{one.source} to {one.target}")
        _row_name(below[0], "error")
    _legend(figure, {})
    return figure


def slot_grid(tables: Mapping[str, tuple[Sequence[str], np.ndarray]], slots: Sequence[str], title: str = "") -> Figure:
    """A critic's probabilities: one panel each of `tables`, name -> (names of rows, values (rows, slots) in [0, 1])."""
    import matplotlib.pyplot as plt

    most = max(len(rows) for rows, _ in tables.values())
    size = (1.1 + len(tables) * (0.9 + 0.45 * len(slots)), 1.5 + 0.4 * most)
    figure, axes = plt.subplots(1, len(tables), figsize=size, layout="constrained", squeeze=False)
    for axis, (name, (rows, values)) in zip(axes[0], tables.items(), strict=True):
        painted = axis.imshow(values, cmap=SCALE, vmin=0, vmax=1, aspect="auto")
        axis.set_xticks(range(len(slots)), slots, rotation=90, fontsize=8)
        axis.set_yticks(range(len(rows)), rows, fontsize=8)
        axis.set_title(name, fontsize=9)
        axis.axvline(len(slots) / 2 - 0.5, color="white", lw=1.5)
        for i, j in np.ndindex(values.shape):
            ink = "black" if values[i, j] > 0.6 else "white"
            axis.text(j, i, f"{values[i, j]:.2f}"[1:] if values[i, j] < 0.995 else "1", ha="center", va="center",
                      fontsize=7, color=ink)  # fmt: skip
        axis.tick_params(length=0)
    figure.colorbar(painted, ax=list(axes[0]), shrink=0.9, pad=0.02, label="probability")
    if title:
        figure.suptitle(title)
    return figure
