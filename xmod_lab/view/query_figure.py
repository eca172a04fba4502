"""The static twin of the query view, and what it shares with the page: scales and what a share of the mass keeps."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from xmod_lab.maps import TRAINED
from xmod_lab.view.layers import sides_of
from xmod_lab.view.pairwise import _cross
from xmod_lab.view.query_state import window_of
from xmod_lab.view.slices import _grid, _legend, _row_name, draw_contours, draw_slice
from xmod_lab.view.style import COLOURS, colours_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from xmod_lab.view.query_view import QueryView


def kept(values: np.ndarray, mass: float) -> np.ndarray:
    """Where the strongest values lie that hold the share `mass` of the sum of magnitudes; boolean, of their shape.

    At least the strongest one; all where mass is 1 or everything is 0.
    """
    size = np.abs(values.ravel())
    total = size.sum()
    if mass >= 1 or not total:
        return np.ones(values.shape, bool)
    order = np.argsort(-size, kind="stable")
    before = np.concatenate([[0.0], np.cumsum(size[order])[:-1]])
    found = np.zeros(size.size, bool)
    found[order[before < mass * total]] = True
    found[order[0]] = True
    return found.reshape(values.shape)


def ends_of(shown: dict[str, dict[str, np.ndarray]], scale: str) -> dict[tuple[str, str], tuple[float, float]]:
    """Ends of the colour scale of each model and image. shared: from 0, or the least value where some are negative, to
    the largest; own: the same of each; symmetric: minus to plus the largest magnitude of all."""
    found = {}
    every = np.concatenate([values.ravel() for by in shown.values() for values in by.values()])
    for model, by in shown.items():
        for image, values in by.items():
            own = values if scale == "own" else every
            most = float(np.abs(own).max())
            low = -most if scale == "symmetric" else min(0.0, float(own.min()))
            high = most if scale == "symmetric" else max(float(own.max()), low)
            found[model, image] = (low, high) if high > low else (-1.0 if scale == "symmetric" else low, low + 1.0)
    return found


def opacities(values: np.ndarray, ends: tuple[float, float], opacity: float) -> np.ndarray:
    """How opaque each value is drawn: `opacity` at the largest magnitude of the scale, less by the root of what it is
    below that, never less than a seventh of it: the anatomy stays in sight where a map says little."""
    most = max(abs(ends[0]), abs(ends[1]))
    strength = np.sqrt(np.clip(np.abs(values) / most, 0, 1))
    return np.asarray(opacity * (1 + 6 * strength) / 7)


def drawn(view: QueryView) -> Figure:
    """`QueryView.figure`."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    state, names = view.state, list(view.images)
    kind, layer = view.kind(state.map), next(iter(view.maps[state.map].values()))
    points = [state.query, *([state.other] if state.other is not None and kind == "positions" else [])]
    rows = [(model, by, state.query, COLOURS[0]) for model, by in view.shown().items()]
    if len(points) > 1:
        rows.insert(1, (f"{TRAINED}, 2nd", view.shown(points[1])[TRAINED], points[1], COLOURS[1]))
    ends = ends_of({str(i): by for i, (_, by, _, _) in enumerate(rows)}, state.scale)
    _, height, width = view.shape
    edges = (-0.5, width - 0.5, height - 0.5, -0.5)
    extra = 0.3 * bool(view.classes) + 0.2 + 0.25 * len(names) * (state.scale == "own")
    figure, axes = _grid(len(names), 1 + len(rows), view.title, tall=height / width, extra=extra)
    figure.set_size_inches(figure.get_figwidth() + 0.9, figure.get_figheight())  # the colour bar
    axes[0, 0].set_title("image", fontsize=9)
    for line, name in zip(axes, names, strict=True):
        _row_name(line[0], name)
        _image(line[0], view, name)
        for point, colour in zip(points, COLOURS, strict=False):
            if kind != "matrix":
                _cross(line[0], point, colour)
    for r, (model, by, point, colour) in enumerate(rows):
        broken = textwrap.fill(model.replace(".", ". "), 24).replace(". ", ".")  # a layer's name between its parts
        axes[0, 1 + r].set_title(broken, fontsize=9)
        for axis, name in zip(axes[:, 1 + r], names, strict=True):
            if name not in by:
                continue
            low, high = ends[str(r), name]
            norm = Normalize(low, high)
            if kind == "matrix":
                axis.imshow(by[name], cmap=state.colours, norm=norm, aspect="auto", interpolation="nearest")
            else:
                draw_slice(axis, view.images[name][state.slice], window=window_of(view, name))
                alpha = opacities(by[name], (low, high), state.opacity) * kept(by[name], state.mass)
                axis.imshow(by[name], cmap=state.colours, norm=norm, extent=edges, alpha=alpha, origin="upper")
            if kind == "positions":
                _cross(axis, point, colour)
            if state.scale == "own":
                above = f"{axis.get_title()}\n" if axis.get_title() else ""
                axis.set_title(f"{above}{low:.3g} to {high:.3g}", fontsize=8)
    if state.scale != "own":
        figure.colorbar(
            ScalarMappable(Normalize(*next(iter(ends.values()))), state.colours), ax=list(axes.flat), shrink=0.8,
            aspect=30, pad=0.01, label=layer.unit or state.map,
        )  # fmt: skip
    _legend(figure, colours_of(view.classes) if view.labels and state.contours else {})
    text = textwrap.fill(said(view), int(8 * figure.get_figwidth()))  # beside it stands a stamp
    figure.text(0.0, -0.01, text, ha="left", va="top", fontsize=7.5, color="0.35")
    return figure


def _image(axis: Axes, view: QueryView, name: str) -> None:
    """An image of the slice that is set, with contours and the letters of its sides."""
    _, height, width = view.shape
    draw_slice(axis, view.images[name][view.state.slice], window=window_of(view, name))
    if name in view.labels and view.state.contours:
        draw_contours(axis, view.labels[name][view.state.slice], colours_of(view.classes))
    if sides := sides_of(view.place):
        for text, x, y, across, up in zip(
            sides, (0, width - 1, width / 2, width / 2), (height / 2, height / 2, 0, height - 1),
            ("left", "right", "center", "center"), ("center", "center", "top", "bottom"), strict=True,
        ):  # fmt: skip
            axis.text(x, y, text, color="white", fontsize=8, ha=across, va=up)


def said(view: QueryView) -> str:
    """In a line: which map, where, on which scale."""
    state, parts = view.state, [f"map: {view.state.map}"]
    kind = view.kind(state.map)
    if kind == "stack":
        names = next(iter(view.maps[state.map].values())).names
        parts.append(names[state.index] if names else f"map {state.index + 1}")
    if kind != "matrix":
        parts += [f"{name} {_numbers(at)}" for name, at in view.coordinates().items()]
    parts.append(f"{state.scale} scale")
    if state.mass < 1 and kind != "matrix":
        parts.append(f"strongest {100 * state.mass:.0f} % of the mass")
    return "  ·  ".join([*parts, *filter(None, [view.note])])


def _numbers(values: tuple[float, ...]) -> str:
    return f"({', '.join(f'{value:g}' for value in values)})"
