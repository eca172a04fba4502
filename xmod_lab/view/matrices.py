"""Pictures of what a network keeps for each modality: normalisation statistics of one against another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from xmod_lab.view.style import SCALE

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def statistics_scatter(
    layers: Mapping[str, tuple[np.ndarray, np.ndarray]],
    names: Sequence[str],
    *,
    axes_named: tuple[str, str] = ("", ""),
    title: str = "",
) -> Figure:
    """One panel a statistic, one point a channel: its value in one modality against that in another.

    layers: name -> (k, channels) of the first and of the second modality, in the order of the network, which the colour
    shows. names: of the k statistics. axes_named: the modalities. Both axes of a panel have one scale, and its title
    the correlation over all points; on the line nothing differs.
    """
    import matplotlib.pyplot as plt
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    first, second = (np.concatenate([pair[i] for pair in layers.values()], axis=1) for i in range(2))
    depth = np.concatenate([np.full(pair[0].shape[1], n) for n, pair in enumerate(layers.values(), start=1)])
    size = (1.1 + 2.5 * len(names), 3.1)
    mixed = np.random.default_rng(0).permutation(len(depth))  # so that no layer is drawn over all others
    figure, axes = plt.subplots(1, len(names), figsize=size, layout="constrained", squeeze=False)
    colours = ScalarMappable(Normalize(1, max(len(layers), 2)), SCALE)
    for axis, name, x, y in zip(axes[0], names, first, second, strict=True):
        low, high = min(x.min(), y.min()), max(x.max(), y.max())
        edge = 0.05 * (high - low) or 0.5
        ends = (float(low - edge), float(high + edge))
        axis.plot(ends, ends, color="0.6", linewidth=1.0, zorder=1)
        look = {"cmap": colours.cmap, "norm": colours.norm, "alpha": 0.7, "linewidth": 0}
        axis.scatter(x[mixed], y[mixed], s=7, c=depth[mixed], **look)
        axis.set(xlim=ends, ylim=ends, aspect="equal", xlabel=axes_named[0])
        axis.locator_params(nbins=4)
        flat = min(x.std(), y.std()) == 0
        axis.set_title(name if flat else f"{name}, r = {np.corrcoef(x, y)[0, 1]:.2f}")
    axes[0, 0].set_ylabel(axes_named[1])
    figure.colorbar(colours, ax=list(axes.flat), shrink=0.8, aspect=25, pad=0.02, label="layer, first to last")
    if title:
        figure.suptitle(title)
    return figure
