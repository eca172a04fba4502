"""Plots of numbers: what intensities a structure has, how methods score, how a loss falls."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xmod_lab.view.style import SCALE, colours_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

BESIDE: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.02, 1.0), "borderaxespad": 0.0}
"""a legend to the right of its axis"""
BELOW: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2), "ncols": 3}
"""a legend below the axis and its label"""


def intensity_histograms(
    values: Mapping[str, Mapping[str, np.ndarray]], *, unit: str = "prepared intensity", bins: int = 60, title: str = ""
) -> Figure:
    """Where a structure lies on the grey scale, one axis a modality: ``values[modality][structure]`` (n,) intensities.

    Each curve has area one. A structure that stands apart in one modality and not in another is the domain gap.
    """
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(name for row in values.values() for name in row))
    colours = {"other tissue": "0.6"} | colours_of([n for n in names if n != "other tissue"])
    size = (6.4, 0.7 + 1.25 * len(values))
    figure, axes = plt.subplots(len(values), 1, figsize=size, sharex=True, layout="constrained", squeeze=False)
    everything = np.concatenate([v for row in values.values() for v in row.values() if len(v)])
    edges = np.linspace(float(everything.min()), float(everything.max()), bins + 1)
    for axis, (modality, row) in zip(axes[:, 0], values.items(), strict=True):
        for name, found in row.items():
            if len(found):
                axis.hist(found, edges, density=True, histtype="stepfilled", alpha=0.25, color=colours[name])
                axis.hist(found, edges, density=True, histtype="step", linewidth=1.6, color=colours[name],
                          label=name.replace("_", " "))
        axis.set_ylabel("density")
        axis.set_title(modality, loc="left")
        axis.set_yticks([])
    axes[-1, 0].set_xlabel(unit)
    handles = {label: h for axis in axes[:, 0] for h, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    axes[0, 0].legend(list(handles.values()), list(handles), **BESIDE)
    if title:
        figure.suptitle(title)
    return figure


def dice_matrix(matrix: pd.DataFrame, *, title: str = "Dice of whole volumes, mean over test patients") -> Figure:
    """Cross-modality matrix as a heat-map: index = trained on, columns = tested on, values in [0, 1], scale fixed."""
    import matplotlib.pyplot as plt
    import seaborn as sns

    rows, columns = matrix.shape
    figure, axis = plt.subplots(figsize=(2.6 + 0.95 * columns, 1.6 + 0.7 * rows), layout="constrained")
    sns.heatmap(matrix.astype(float), ax=axis, vmin=0, vmax=1, cmap=SCALE, annot=True, fmt=".2f", linewidths=1.5,
                square=True, cbar_kws={"label": "Dice", "shrink": 0.8}, annot_kws={"fontsize": 11})
    axis.set(xlabel="tested on", ylabel="trained on")
    axis.tick_params(axis="both", length=0)
    axis.set_yticklabels(axis.get_yticklabels(), rotation=0)
    figure.suptitle(title)
    return figure


def patient_boxes(
    table: pd.DataFrame,
    *,
    x: str,
    hue: str | None = None,
    y: str = "dice",
    order: Sequence[str] | None = None,
    unit: str = "",
    title: str = "",
) -> Figure:
    """Box plots over patients, every patient a point: `table` has a row a patient and the columns named.

    Boxes span the quartiles with the median as line, whiskers reach to 1.5 times that span. The axis label says how
    many patients a box has: one row of `table` is one patient.
    """
    import matplotlib
    import matplotlib.pyplot as plt
    import seaborn as sns

    order = list(order if order is not None else dict.fromkeys(table[x]))
    hues = list(dict.fromkeys(table[hue])) if hue else []
    palette = list(colours_of(hues).values()) if hues else None
    width = max(5.0, 1.6 + len(order) * max(len(hues), 1) * 0.55)
    figure, axis = plt.subplots(figsize=(width, 3.6), layout="constrained")
    look: dict[str, Any] = {"data": table, "x": x, "y": y, "order": order, "hue": hue, "ax": axis}
    look["hue_order"] = hues or None
    boxes = {"palette": palette} if hue else {"color": "0.85"}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "vert: bool", matplotlib.MatplotlibDeprecationWarning)  # seaborn's own call
        sns.boxplot(**look, **boxes, fliersize=0, width=0.7, linewidth=1.0, boxprops={"alpha": 0.55})
    before = axis.get_legend_handles_labels()
    points: dict[str, Any] = {"palette": ["0.15"] * len(hues)} if hue else {"color": "0.15"}
    sns.stripplot(**look, **points, dodge=bool(hue), size=3.5, alpha=0.8, jitter=0.12, legend=False)
    if axis.legend_ is not None:
        axis.legend_.remove()
    if hue:
        axis.legend(*before, title=hue, **BESIDE)
    if y == "dice":
        axis.set_ylim(-0.03, 1.03)
    label = {"dice": "Dice", "hd95_max": "HD95 (max of directions)", "assd_pooled": "ASSD (pooled)"}.get(y, y)
    counts = sorted(set(table.groupby([x, hue] if hue else x, observed=True).size()))
    many = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    many += " patient" if many == "1" else " patients"
    axis.set(xlabel=f"{x} (a point a patient, {many} a box)", ylabel=f"{label} [{unit}]" if unit else label)
    axis.grid(axis="y")
    if title:
        figure.suptitle(title)
    return figure


def grey_shifts(rows: Mapping[str, pd.DataFrame], *, unit: str = "prepared intensity", title: str = "") -> Figure:
    """Where each structure's grey lies before translation, after it, and in the truth: an axis a direction.

    rows: ``rows[system]``, a table of `evaluate.greys.structure_greys`; means over patients are drawn. A short black
    line is the truth, a hollow square what was given, a point what a system made of it.
    """
    import matplotlib.pyplot as plt
    import pandas as pd

    table = pd.concat([part.assign(system=name) for name, part in rows.items()])
    ways = list(dict.fromkeys(zip(table["source"], table["target"], strict=True)))
    names = list(dict.fromkeys(table["structure"]))
    size = (1.2 + len(ways) * (0.6 + 0.62 * len(names)), 3.6)
    figure, axes = plt.subplots(1, len(ways), figsize=size, sharey=True, layout="constrained", squeeze=False)
    means = table.groupby(["source", "target", "system", "structure"])[["given", "made", "truth"]].mean()
    colours = colours_of(list(rows))
    for axis, (source, target) in zip(axes[0], ways, strict=True):
        for number, (system, colour) in enumerate(colours.items()):
            here = means.xs((source, target, system)).reindex(names)
            places = np.arange(len(names)) + 0.18 * (number - (len(colours) - 1) / 2)
            if number == 0:
                middle = np.arange(len(names))
                axis.hlines(here["truth"], middle - 0.38, middle + 0.38, color="0.1", linewidth=2.2, label="truth")
                axis.plot(middle, here["given"], "s", markerfacecolor="none", markeredgecolor="0.35", markersize=9,
                          label="given")
            axis.plot(places, here["made"], "o", color=colour, markersize=6, label=system)
        axis.set_xticks(range(len(names)), [n.replace("_", " ") for n in names], rotation=30, ha="right")
        axis.set_title(f"{source} to {target}")
        axis.grid(axis="y")
    axes[0, 0].set_ylabel(f"mean {unit}")
    axes[0, -1].legend(**BESIDE)
    if title:
        figure.suptitle(title)
    return figure


def loss_curves(losses: Sequence[tuple[int, Mapping[str, float]]], title: str = "", *, what: str = "loss") -> Figure:
    """Losses by step and, where there are any, the validation Dice beside them.

    losses: (step, {name: value}) in order, as the training loop reports them; names that begin with ``validation/`` are
    Dice values. What ends alike (``segmentation/T1``, ``validation/T1``) has one colour, `total` is black. A bold line
    is the running mean over a twentieth of the steps, the thin one the values themselves. what: name of the axis.
    """
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(name for _, row in losses for name in row))
    trained = [name for name in names if not name.startswith("validation/")]
    measured = [name for name in names if name.startswith("validation/")]
    columns = 2 if measured else 1
    figure, axes = plt.subplots(1, columns, figsize=(1.0 + 3.8 * columns, 3.4), layout="constrained", squeeze=False)
    window = max(len(losses) // 20, 1)
    last = [name.rpartition("/")[2] for name in names]
    colours = {"total": "0.15"} | colours_of([name for name in dict.fromkeys(last) if name != "total"])
    for name in trained:
        colour = colours[name.rpartition("/")[2]]
        steps, values = _series(losses, name)
        axes[0, 0].plot(steps, values, color=colour, linewidth=0.7, alpha=0.4 if window > 1 else 1.0)
        axes[0, 0].plot(steps, _running_mean(values, window), color=colour, label=name)
    axes[0, 0].set(xlabel="step", ylabel=what)
    if trained:
        axes[0, 0].legend(**BELOW)
    for name in measured:
        colour = colours[name.rpartition("/")[2]]
        label = name.removeprefix("validation/")
        axes[0, 1].plot(*_series(losses, name), color=colour, marker="o", markersize=4, label=label)
    if measured:
        axes[0, 1].set(xlabel="step", ylabel="validation Dice", ylim=(-0.03, 1.03))
        axes[0, 1].legend(**BELOW)
    if title:
        figure.suptitle(title)
    return figure


def _series(losses: Sequence[tuple[int, Mapping[str, float]]], name: str) -> tuple[np.ndarray, np.ndarray]:
    found = [(step, row[name]) for step, row in losses if name in row]
    return np.array([step for step, _ in found]), np.array([value for _, value in found], dtype=float)


def _running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean of the last `window` values, of fewer at the beginning."""
    total = np.cumsum(np.insert(values, 0, 0.0))
    last = np.arange(1, len(values) + 1)
    first = np.maximum(last - window, 0)
    return (total[last] - total[first]) / (last - first)
