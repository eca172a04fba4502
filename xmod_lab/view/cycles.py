"""Plots of translators: losses of those with a cycle and of those with pairs, what noise does to the way back, mixtures
of norms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from xmod_lab.view.plots import BESIDE
from xmod_lab.view.style import colours_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

HALF = 0.25
"""least squares of a critic that says one half of everything, and of the generator against it"""
RIVALS = "critic (line), generator (dashes)"


def cycle_curves(
    logs: Mapping[str, pd.DataFrame], weights: Mapping[str, float], *, needed: float | None = None, title: str = ""
) -> Figure:
    """Cycle error, change by translation, and least squares of critic and generator, by step: running means over a
    twentieth of the steps.

    logs: step logs of the systems by name, with the columns step, reconstruction, change, critic and adversarial;
    weights: of `reconstruction`, which is divided by it. needed: how far the images lie from their truth, where that
    is known; drawn beside the change.
    """
    named = ("there and back: mean |difference|", "mean |change| by translation", RIVALS)
    figure = _curves(logs, "reconstruction", weights, named, HALF, title)
    if needed is not None:
        middle = figure.axes[1]
        middle.axhline(needed, color="0.2", linestyle=":", label="from image to truth")
        middle.autoscale(axis="y")
        middle.set_ylim(0, None)
        figure.axes[-1].legend(*middle.get_legend_handles_labels(), **BESIDE)
    return figure


def paired_curves(logs: Mapping[str, pd.DataFrame], weights: Mapping[str, float], *, title: str = "") -> Figure:
    """L1 of the pairs, and cross-entropies of critic and generator, by step: running means over a twentieth of all.

    logs: step logs of the systems by name, with the columns step, pair, critic and adversarial; weights: of `pair`,
    which is divided by it.
    """
    return _curves(logs, "pair", weights, ("pairs: mean |difference|", RIVALS), float(np.log(2)), title)


def _curves(
    logs: Mapping[str, pd.DataFrame],
    term: str,
    weights: Mapping[str, float],
    named: Sequence[str],
    half: float,
    title: str,
) -> Figure:
    """An axis of `term`, one of the change where three are `named`, and one of critic and generator with a line at what
    they have when the critic says one half of everything."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(named), figsize=(4.1 * len(named), 3.4), layout="constrained")
    for name, colour in colours_of(list(logs)).items():
        log = logs[name].dropna(subset=[term])
        drawn = [(0, log[term] / weights[name], "-"), (-1, log["critic"], "-"), (-1, log["adversarial"], "--")]
        for place, values, style in [*drawn, *([(1, log["change"], "-")] if len(named) > 2 else [])]:
            smooth = values.rolling(max(1, len(log) // 20), min_periods=1).mean()
            axes[place].plot(log["step"], smooth, style, color=colour, label=name)
    axes[-1].axhline(half, color="0.6", linewidth=1.0)
    for axis, what in zip(axes, named, strict=True):
        axis.set(xlabel="step", ylabel=what, ylim=(0, None))
    axes[-1].legend(*axes[0].get_legend_handles_labels(), **BESIDE)
    if title:
        figure.suptitle(title)
    return figure


def noise_curves(table: pd.DataFrame, *, title: str = "") -> Figure:
    """Error of the way back by the noise added to where it begins, an axis a direction.

    table: `evaluate.hidden.noise_table`. Lines begin with a system's own translation, dashes with the true image; the
    grey line is the mean magnitude of the noise itself.
    """
    import matplotlib.pyplot as plt

    ways = list(dict.fromkeys(zip(table["source"], table["target"], strict=True)))
    size = (2.2 + 3.4 * len(ways), 3.4)
    figure, axes = plt.subplots(1, len(ways), figsize=size, sharey=True, layout="constrained", squeeze=False)
    colours = colours_of(list(dict.fromkeys(table["system"])))
    positive = table.loc[table["sigma"] > 0, "sigma"]
    for axis, (source, target) in zip(axes[0], ways, strict=True):
        part = table[(table["source"] == source) & (table["target"] == target)]
        for (system, start), rows in part.groupby(["system", "start"], sort=False):
            style, tail = ("--", ", from the truth") if start == "truth" else ("-", "")
            axis.plot(rows["sigma"], rows["error"], style, color=colours[system], marker=".", label=f"{system}{tail}")
        levels = np.sort(part["sigma"].unique())
        axis.plot(levels, levels * np.sqrt(2 / np.pi), color="0.6", label="the noise itself")
        axis.set_xscale("symlog", linthresh=float(positive.min()) if len(positive) else 1.0)
        ticks = [0.0, *levels[levels > 0][::2]]
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.minorticks_off()
        axis.set(title=f"{source} to {target} and back", xlabel="sigma of the noise", xlim=(0, None), ylim=(0, None))
    axes[0, 0].set_ylabel("mean |back - image|")
    axes[0, -1].legend(**BESIDE)
    if title:
        figure.suptitle(title)
    return figure


def mixture_histograms(
    rho: Mapping[str, Mapping[str, np.ndarray]], starts: Mapping[str, float], *, title: str = ""
) -> Figure:
    """Histograms of rho, which mixes instance (1) and layer normalisation (0): an axis a kind of layer, a colour a
    generator.

    rho: ``rho[kind][generator]`` (n,) in [0, 1], the channels of all layers of that kind; starts: where a kind began.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(rho), figsize=(1.0 + 3.7 * len(rho), 3.2), layout="constrained", squeeze=False)
    edges = np.linspace(0, 1, 41)
    for axis, (kind, found) in zip(axes[0], rho.items(), strict=True):
        for (name, values), colour in zip(found.items(), colours_of(list(found)).values(), strict=True):
            axis.hist(values, edges, histtype="stepfilled", alpha=0.25, color=colour)
            axis.hist(values, edges, histtype="step", linewidth=1.6, color=colour, label=name)
        axis.axvline(starts[kind], color="0.2", linestyle=":", label="start")
        axis.set(title=kind, xlabel="rho: 0 layer, 1 instance", ylabel="channels", xlim=(-0.02, 1.02))
    axes[0, -1].legend(**BESIDE)
    if title:
        figure.suptitle(title)
    return figure
