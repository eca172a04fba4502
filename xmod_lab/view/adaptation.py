"""Plots of adaptation: who wins, networks or their critics, and whether features of two modalities lie together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xmod_lab.view.plots import BELOW, BESIDE
from xmod_lab.view.style import colours_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

MARKS = "osD^vP"
"""of classes, in their order"""
POINTS = 1500
"""of a modality that are drawn in a panel; scales and means are of all"""


def rival_curves(
    panels: Mapping[str, pd.DataFrame],
    lines: Mapping[str, Mapping[str, float]] | None = None,
    *,
    columns: int = 2,
    title: str = "",
) -> Figure:
    """A panel a system, ``"system: what is drawn"`` -> a column a curve, by step: running means over a twentieth of
    the steps, the values themselves behind them.

    lines: levels of a panel by name, dashed, such as what a critic has that only guesses. Legends stand below panels.
    """
    import matplotlib.pyplot as plt

    rows, lines = -(-len(panels) // columns), lines or {}
    figure, axes = plt.subplots(rows, columns, figsize=(4.3 * columns, 3.1 * rows), layout="constrained", squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, (name, table) in zip(axes.flat, panels.items(), strict=False):
        window = max(1, len(table) // 20)
        for curve, colour in colours_of([str(name) for name in table.columns]).items():
            axis.plot(table.index, table[curve], color=colour, linewidth=0.7, alpha=0.35 if window > 1 else 1.0)
            axis.plot(table.index, table[curve].rolling(window, min_periods=1).mean(), color=colour, label=curve)
        for number, (line, level) in enumerate(lines.get(name, {}).items()):
            axis.axhline(level, color="0.3", linewidth=1.1, linestyle=("--", ":", "-.")[number % 3], label=line)
        system, _, what = name.partition(": ")
        axis.set(xlabel="step", ylabel=what)
        axis.set_title(system, loc="left")
        axis.legend(**BELOW | {"ncols": 2})
    if title:
        figure.suptitle(title)
    return figure


def feature_planes(
    panels: Mapping[str, Mapping[str, tuple[np.ndarray, np.ndarray]]],
    shares: tuple[float, float],
    classes: Sequence[str],
    *,
    title: str = "",
) -> Figure:
    """Features in a plane (`evaluate.feature_plane`), all panels on one scale, the axes cut at the outermost hundredth.

    panels: ``panels[panel][modality]``, points (n, 2) and their classes (n,), 0 for none. shares: of the variance along
    each axis. Of each class the mean is marked in its modality's colour, and a line joins those of one class.
    """
    import matplotlib.pyplot as plt

    every = np.concatenate([points for panel in panels.values() for points, _ in panel.values()])
    low, high = (np.percentile(every, q, axis=0) for q in (0.5, 99.5))
    edge = 0.08 * (high - low) + 1e-6
    generator = np.random.default_rng(0)
    colours = colours_of(list(dict.fromkeys(m for panel in panels.values() for m in panel)))
    size = (2.2 + 3.3 * len(panels), 3.9)
    figure, axes = plt.subplots(1, len(panels), figsize=size, sharex=True, sharey=True, layout="constrained",
                                squeeze=False)  # fmt: skip
    for axis, (name, panel) in zip(axes[0], panels.items(), strict=True):
        drawn = {m: points[generator.permutation(len(points))[:POINTS]] for m, (points, _) in panel.items()}
        mixed = generator.permutation(sum(len(points) for points in drawn.values()))  # none is drawn over the others
        paint = np.array([colours[m] for m, points in drawn.items() for _ in points])
        axis.scatter(*np.concatenate(list(drawn.values()))[mixed].T, s=4, alpha=0.35, linewidth=0, c=paint[mixed])
        for value in range(1, len(classes) + 1):
            ends = {m: points[of == value].mean(0) for m, (points, of) in panel.items() if (of == value).any()}
            if len(ends) > 1:
                axis.plot(*np.array(list(ends.values())).T, color="0.2", linewidth=0.9, zorder=3)
            for modality, place in ends.items():
                look: dict[str, Any] = {"markeredgecolor": "0.1", "markersize": 7.5, "zorder": 4}
                axis.plot(*place, _mark(value), color=colours[modality], **look)
        axis.set(xlim=(low[0] - edge[0], high[0] + edge[0]), ylim=(low[1] - edge[1], high[1] + edge[1]))
        axis.set_title(name, fontsize=9)
        axis.set_xlabel(f"first axis ({100 * shares[0]:.0f} % of variance)")
    axes[0, 0].set_ylabel(f"second axis ({100 * shares[1]:.0f} %)")
    axes[0, -1].legend(handles=_handles(colours, classes), **BESIDE)
    if title:
        figure.suptitle(title)
    return figure


def _mark(value: int) -> str:
    """Of class 1, 2 ..."""
    return MARKS[(value - 1) % len(MARKS)]


def _handles(colours: Mapping[str, str], classes: Sequence[str]) -> list[Line2D]:
    """Of a legend: colours of modalities, marks of classes."""
    from matplotlib.lines import Line2D

    look: dict[str, Any] = {"linestyle": "", "markersize": 7}
    handles = [Line2D([], [], marker=".", color=colour, label=name, **look) for name, colour in colours.items()]
    look |= {"markerfacecolor": "white", "markeredgecolor": "0.1"}
    return handles + [
        Line2D([], [], marker=_mark(value), label=f"mean of {name.replace('_', ' ')}", **look)
        for value, name in enumerate(classes, start=1)
    ]
