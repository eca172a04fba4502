"""One look for all figures: fonts, colours that colour-blind readers tell apart, and the stamp on each figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from xmod_lab.nb import Lab

COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#0072B2", "#D55E00", "#F0E442")
"""Okabe and Ito's palette without black, in an order whose first four also show on grey (Okabe & Ito 2008)"""
IMAGE = "gray"
"""colour map of images"""
SCALE = "cividis"
"""colour map of maps and matrices with one direction; even in lightness, also for colour-blind readers"""
HEAT = "inferno"
"""colour map of errors and of strengths: black is none"""
CT_WINDOWS = {
    "soft tissue": (-160.0, 240.0),
    "liver": (-45.0, 105.0),
    "brain": (0.0, 80.0),
    "heart, contrast": (-100.0, 400.0),
    "lung": (-1350.0, 150.0),
    "bone": (-450.0, 1050.0),
}
"""windows of CT in HU, least and largest value"""
DPI = 110

SETTINGS: dict[str, Any] = {
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "savefig.bbox": "tight",
    "savefig.facecolor": "white",
    "figure.facecolor": "white",
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same letters on every machine
    "font.size": 10.0,
    "axes.titlesize": 10.0,
    "axes.labelsize": 10.0,
    "figure.titlesize": 12.0,
    "legend.fontsize": 9.0,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "grid.alpha": 0.3,
    "lines.linewidth": 1.6,
    "image.cmap": SCALE,
    "image.interpolation": "nearest",
}


def use() -> None:
    """Make this style the default of the process."""
    import matplotlib
    from cycler import cycler

    settings: Any = SETTINGS | {"axes.prop_cycle": cycler(color=COLOURS)}
    matplotlib.rcParams.update(settings)


def colours_of(names: Sequence[str]) -> dict[str, str]:
    """A colour for each name by its position, so that a class keeps its colour wherever the same list is given."""
    return {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}


def stamp(
    figure: Figure, lab: Lab, *, demonstration: bool | None = None, seeds: str = "", note: str = ""
) -> Figure:
    """Print below the figure what it was made with: profile, data set, its kind, seed, fold; and return
    the figure.

    demonstration: by default what the data set says; a run may know better (its split had too few patients).
    seeds: of pictures of recorded runs, said in place of the lab's own seed.
    """
    kind = {"phantom": " (phantom)", "real": " (real)"}.get(lab.source, "")
    parts = [f"profile {lab.profile}", f"{lab.dataset}{kind}" if lab.dataset else "", seeds or f"seed {lab.seed}"]
    parts += [f"fold {lab.more['fold']}" if "fold" in lab.more else "", note]
    text = "  ·  ".join(part for part in parts if part)
    if lab.demonstration if demonstration is None else demonstration:
        text += "\nDEMONSTRATION: too few patients, no score counts"
    figure.text(1.0, -0.01, text, ha="right", va="top", fontsize=7.5, color="0.35", gid="stamp")
    return figure
