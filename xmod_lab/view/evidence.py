"""Figures of recorded results: effects with intervals, ranks with critical differences, cost against quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from xmod_lab.evaluate.statistics import ALPHA
from xmod_lab.view.plots import BESIDE
from xmod_lab.view.style import COLOURS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from xmod_lab.evaluate.ranking import Ranking

VERDICTS = {"direction seen": COLOURS[2], "direction seen on patients": COLOURS[4], "reproduced": COLOURS[2],
            "not seen": COLOURS[5], "cannot tell": "0.55"}  # fmt: skip
"""colour of each; the legend and the marker's shape say it as well"""
SHAPES = {"not seen": "s", "cannot tell": "o"}
"""marker; a diamond for the others"""


def forest(table: pd.DataFrame, *, unit: str = "Dice points", title: str = "") -> Figure:
    """Effects with their intervals, a row a comparison, and the papers' as open triangles.

    table: `effect`, `low`, `high`, `published_size` (NaN where the paper has none), `verdict`, and the row's text in
    `comparison`; rows with equal `group`, of one line or more, stand together below it. Right of zero the first system
    is higher.
    """
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    rows: list[dict[str, Any]] = table.assign(place=range(len(table))).to_dict("records")  # type: ignore[assignment]
    heads = list(dict.fromkeys(table["group"]))
    places, names, y = {}, {}, 0.0
    for head in heads:
        deeper = 0.4 * str(head).count("\n")
        names[y + deeper] = str(head)
        y += 2 * deeper
        for row in (r for r in rows if r["group"] == head):
            y += 1
            places[row["place"]] = y
        y += 1.4
    figure, axis = plt.subplots(figsize=(9.0, 1.1 + 0.23 * y), layout="constrained")
    for row in rows:
        at, colour = places[row["place"]], VERDICTS.get(row["verdict"], "0.55")
        axis.plot([row["low"], row["high"]], [at, at], color=colour, linewidth=1.6)
        axis.plot(row["effect"], at, SHAPES.get(row["verdict"], "D"), color=colour, markersize=5)
        axis.plot(row["published_size"], at, "^", markerfacecolor="none", markeredgecolor="0.1", markersize=6)
    axis.axvline(0, color="0.2", linewidth=0.8)
    axis.set_yticks([places[r["place"]] for r in rows], [r["comparison"] for r in rows], fontsize=8)
    for at, name in names.items():
        axis.text(0.006, at, name, transform=axis.get_yaxis_transform(), fontsize=8.5, fontweight="bold", va="center",
                  bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0})  # fmt: skip
    axis.set(xlabel=f"difference, first minus second system [{unit}]", ylim=(y - 0.4, -0.8))
    axis.grid(axis="x")
    shown = [v for v in VERDICTS if v in set(table["verdict"])]
    marks = [Line2D([], [], color=VERDICTS[v], marker=SHAPES.get(v, "D"), markersize=5, label=v) for v in shown]
    marks.append(Line2D([], [], color="0.1", marker="^", markerfacecolor="none", linestyle="", label="the paper's"))
    axis.legend(handles=marks, **BESIDE)
    if title:
        figure.suptitle(title)
    return figure


def critical_differences(rankings: Mapping[str, Ranking], *, title: str = "") -> Figure:
    """Mean ranks on a line a table, 1 (best) at the left; a bar joins systems that this many patients cannot part."""
    import matplotlib.pyplot as plt

    heights = [1.3 + 0.34 * ((len(one.ranks) + 1) // 2) for one in rankings.values()]
    figure, axes = plt.subplots(len(rankings), 1, figsize=(9.0, sum(heights)), layout="constrained", squeeze=False,
                                gridspec_kw={"height_ratios": heights})  # fmt: skip
    for axis, (name, one) in zip(axes[:, 0], rankings.items(), strict=True):
        _ranks(axis, one)
        p = f"{one.p:.3f}" if one.p >= 0.001 else "below 0.001"
        nothing = ": no difference found" if one.p >= ALPHA else ""
        found = f"Friedman's p {p}{nothing}, critical difference {one.critical:.2f}"
        axis.set_title(f"{name}: {one.n} patients, {found}", fontsize=9.5)
    if title:
        figure.suptitle(title)
    return figure


def _ranks(axis: Axes, one: Ranking) -> None:
    k, names, values = len(one.ranks), list(one.ranks.index), one.ranks.to_numpy()
    left = (k + 1) // 2
    axis.set(xlim=(0.2 - 0.35 * k, k + 0.8 + 0.35 * k), ylim=(-left - 0.6, 1.5))
    axis.axis("off")
    axis.plot([1, k], [0.6, 0.6], color="0.2", linewidth=1.0)
    for rank in range(1, k + 1):
        axis.plot([rank, rank], [0.6, 0.75], color="0.2", linewidth=1.0)
        axis.text(rank, 0.85, str(rank), ha="center", fontsize=8)
    for place, (name, value) in enumerate(zip(names, values, strict=True)):
        best = place < left
        row, end = -(place if best else k - 1 - place) - 0.35, 0.7 if best else k + 0.3
        axis.plot([value, value, end], [0.6, row, row], color="0.45", linewidth=0.9)
        text = f"{name}  {value:.2f}" if best else f"{value:.2f}  {name}"
        side, x = ("right", end - 0.1) if best else ("left", end + 0.1)
        axis.text(x, row, text, ha=side, va="center", fontsize=8.5)
    for height, (first, last) in enumerate(one.groups):
        ends = [one.ranks[first] - 0.06, one.ranks[last] + 0.06]
        axis.plot(ends, [0.42 - 0.16 * height] * 2, color=COLOURS[4], linewidth=3.2, solid_capstyle="round")


def cost(table: pd.DataFrame, *, columns: Sequence[str] = ("seconds", "parameters"), title: str = "") -> Figure:
    """Mean Dice over training time and over weights, both on logarithmic axes: `system`, `dice`, `trained` and columns.

    Systems have numbers, told in the legend; those that did not train are hollow.
    """
    import matplotlib.pyplot as plt
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    labels = {"seconds": "seconds of training, mean over runs", "parameters": "weights of all networks"}
    rows = table.sort_values("dice", ascending=False).reset_index(drop=True)
    size = (4.0 * len(columns) + 2.6, 4.2)
    figure, axes = plt.subplots(1, len(columns), figsize=size, sharey=True, layout="constrained", squeeze=False)
    for axis, column in zip(axes[0], columns, strict=True):
        for number, row in enumerate(rows.to_dict("records"), 1):
            inside, ink = (COLOURS[4], "white") if row["trained"] else ("white", COLOURS[4])
            text = f"{number}  {row['system']}" + " (time not recorded)" * (row["seconds"] != row["seconds"])
            axis.plot(row[column], row["dice"], "o", markersize=13, color=COLOURS[4], markerfacecolor=inside, alpha=0.9,
                      label=text)  # fmt: skip
            axis.annotate(str(number), (row[column], row["dice"]), ha="center", va="center", fontsize=7.5, color=ink)
        axis.set(xscale="log", xlabel=labels.get(column, column))
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.grid(axis="both")
        axis.margins(x=0.12)
    axes[0, 0].set(ylabel="Dice, mean over patients and structures", ylim=(-0.06, 1.03))
    legend = axes[0, -1].legend(**BESIDE, handlelength=0, handletextpad=0)
    for handle in legend.legend_handles:
        handle.set_visible(False)
    if title:
        figure.suptitle(title)
    return figure
