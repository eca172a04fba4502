"""Drawings of how a method is built, for the beginning of its notebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from xmod_lab.view.style import COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ORANGE, BLUE = COLOURS[0], COLOURS[4]
"""segmentation and translation stream"""


def two_streams(level: int = 1) -> Figure:
    """UAGAN in one drawing: above, the generator with the attentional blocks of one `level` (0 to 3) in both
    directions; below, the two passes of a training step and the loss that each image meets.
    """
    import matplotlib.pyplot as plt

    figure, (above, below) = plt.subplots(
        2, 1, figsize=(8.6, 5.6), layout="constrained", gridspec_kw={"height_ratios": (1.15, 1)}
    )
    _generator(above, level)
    _passes(below)
    return figure


def _box(axis: Axes, x: float, y: float, text: str, colour: str, *, width: float = 0.8, height: float = 0.62) -> None:
    from matplotlib.colors import to_rgb
    from matplotlib.patches import FancyBboxPatch

    corner = (x - width / 2, y - height / 2)
    pale = tuple(0.3 * part + 0.7 for part in to_rgb(colour))  # opaque: lines pass behind a box
    axis.add_patch(
        FancyBboxPatch(corner, width, height, "round,pad=0,rounding_size=0.08", fc=pale, ec=colour, zorder=3)
    )
    axis.text(x, y, text, ha="center", va="center", fontsize=9, zorder=4)


def _arrow(
    axis: Axes, ends: Sequence[tuple[float, float]], colour: str = "0.35", bend: float = 0.0, **look: object
) -> None:
    style = {"arrowstyle": "-|>", "color": colour, "lw": 1.3, "shrinkA": 0, "shrinkB": 0}
    style |= {"connectionstyle": f"arc3,rad={bend}"} | look
    axis.annotate("", xy=ends[1], xytext=ends[0], arrowprops=style, zorder=2)


def _generator(axis: Axes, level: int) -> None:
    axis.set_xlim(-1.7, 9.9)
    axis.set_ylim(-1.15, 3.95)
    axis.set_axis_off()
    axis.set_title("Generator: two U-Nets that share the centre", fontsize=10)
    heights = {"segmentation": 2.4, "translation": 0.4}
    for (stream, y), colour, ends in zip(
        heights.items(), (ORANGE, BLUE), (("x", "$G_s(x)$"), ("x, $c'$", "$x' = G_t(x, c')$")), strict=True
    ):
        for i in range(4):
            _box(axis, i, y, f"$F_{i}$", colour)
            _box(axis, 8 - i, y, f"up {i}", colour)
            if i:
                _arrow(axis, [(i - 0.6, y), (i - 0.4, y)])
                _arrow(axis, [(8 - i + 0.4, y), (8 - i + 0.6, y)])
        _arrow(axis, [(3.4, y), (3.62, 1.4 + (0.38 if y > 1.4 else -0.38))])
        _arrow(axis, [(4.38, 1.4 + (0.38 if y > 1.4 else -0.38)), (4.6, y)])
        axis.text(-0.9, y, ends[0], ha="right", va="center", fontsize=10)
        _arrow(axis, [(-0.8, y), (-0.4, y)])
        _arrow(axis, [(8.4, y), (8.75, y)])
        axis.text(8.8, y, ends[1], ha="left", va="center", fontsize=10)
        edge = 0.31 if y > 1.4 else -0.31
        _arrow(axis, [(level, y + edge), (8 - level, y + edge)], colour, bend=-0.16 if y > 1.4 else 0.16)
        axis.text(
            4,
            y + (1.3 if y > 1.4 else -1.3),
            f"{stream} stream: its own $F_{level}$",
            ha="center",
            va="center",
            fontsize=8.5,
            color=colour,
        )
    _box(axis, 4, 1.4, "shared\ncentre", "0.45", width=0.95, height=0.78)
    up, down = heights.values()
    for start, end, colour in ((down + 0.31, up - 0.31, BLUE), (up - 0.31, down + 0.31, ORANGE)):
        _arrow(axis, [(level, start), (8 - level, end)], colour, linestyle="--")
    axis.text(8 - level - 0.35, 1.4, rf"$+\; M \odot \phi(\tilde{{F}}_{level})$", ha="left", va="center", fontsize=10)


def _passes(axis: Axes) -> None:
    axis.set_xlim(-0.7, 10.4)
    axis.set_ylim(-0.75, 2.75)
    axis.set_axis_off()
    axis.set_title("A training step: two passes of the same generator", fontsize=10)
    _box(axis, 0, 1, "x", "0.45")
    for x, text in ((2, "G, asked for $c'$"), (6.4, "G, asked for $c$")):
        _box(axis, x, 1, text, "0.45", width=1.75, height=0.8)
    pictures = [(4.2, 2, "$G_s(x)$", ORANGE), (4.2, 0, "$x'$", BLUE), (8.6, 2, "$G_s(x')$", ORANGE),
                (8.6, 0, "$G_t(x', c)$", BLUE)]  # fmt: skip
    for x, y, text, colour in pictures:
        _box(axis, x, y, text, colour, width=1.2)
    _arrow(axis, [(0.4, 1), (1.12, 1)])
    for x in (2, 6.4):
        for y in (2, 0):
            _arrow(axis, [(x + 0.88, 1 + 0.2 * (y - 1)), (x + 1.6, y)])
    _arrow(axis, [(4.8, 0), (5.52, 0.8)])
    notes = [(4.2, 2.55, "cross-entropy with y"), (4.2, -0.55, "critic: real? which modality?"),
             (8.6, 2.55, "shape: cross-entropy with the same y"), (8.6, -0.55, "distance to x")]  # fmt: skip
    for place_x, place_y, text in notes:
        axis.text(place_x, place_y, text, ha="center", va="center", fontsize=8.5, color="0.25")
