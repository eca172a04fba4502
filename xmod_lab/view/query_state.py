"""What can be set in the query view, by hand or by script, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from xmod_lab.errors import LabError
from xmod_lab.view.style import CT_WINDOWS

if TYPE_CHECKING:
    from xmod_lab.view.query_view import QueryView

SCALES = ("shared", "own", "symmetric")
"""one for all maps that are shown; one each; one for all, with 0 in its middle"""
COLOURS = ("inferno", "cividis", "viridis", "gray", "PuOr")
"""colour maps that keep their order for colour-blind readers; PuOr has a middle, for signed values"""


@dataclass(frozen=True)
class State:
    """What is set: the map by name, slice, query (row, column) in pixels, a second query to compare with or None, which
    of a stack's maps, scale (SCALES), colours (COLOURS), opacity 0 to 1, and the share of a map's mass that is shown
    (1 all; less leaves out the weakest keys). `windows` by image: the values drawn black and white; images not in it
    have their percentiles 0.5 and 99.5. `contours` of the labels."""

    map: str
    slice: int
    query: tuple[int, int]
    other: tuple[int, int] | None = None
    index: int = 0
    scale: str = "shared"
    colours: str = "inferno"
    opacity: float = 0.9
    mass: float = 1.0
    windows: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    contours: bool = True


def changed(view: QueryView, values: Mapping[str, Any]) -> State:
    """The view's state with some fields set: see `QueryView.set`."""
    known = asdict(view.state)
    if unknown := sorted(set(values) - set(known)):
        raise LabError(f"nothing called {unknown[0]!r} can be set", mend=f"known: {', '.join(known)}")
    state = replace(view.state, **values)
    for name, choices in (("map", view.maps), ("scale", SCALES), ("colours", COLOURS)):
        if getattr(state, name) not in choices:
            raise LabError(f"no {name} {getattr(state, name)!r}", mend=f"known: {', '.join(choices)}")
    depth, height, width = view.shape
    for name in ("slice", "index"):
        if not isinstance(getattr(state, name), int | np.integer):
            raise LabError(f"{name} {getattr(state, name)!r} is no whole number")
    if not 0 <= state.slice < depth:
        raise LabError(f"no slice {state.slice}", mend=f"slices are 0 to {depth - 1}")
    for point in (state.query, *(() if state.other is None else (state.other,))):
        if np.shape(point) != (2,) or any(not isinstance(edge, int | np.integer) for edge in point):
            raise LabError(f"{point} is no pixel", mend="give (row, column) as whole numbers")
        if not (0 <= point[0] < height and 0 <= point[1] < width):
            raise LabError(f"no pixel {tuple(point)}", mend=f"rows are 0 to {height - 1}, columns 0 to {width - 1}")
    for name in ("opacity", "mass"):
        if not 0 <= getattr(state, name) <= 1:
            raise LabError(f"{name} {getattr(state, name)} is not between 0 and 1")
    if not isinstance(state.contours, bool):
        raise LabError(f"contours {state.contours!r} is neither True nor False")
    if not isinstance(state.windows, Mapping):
        raise LabError(f"windows {state.windows!r} name no image", mend="give {image: (low, high)}")
    if "map" in values and "index" not in values:
        state = replace(state, index=0)
    most = max(layer.values.shape[1] for layer in view.maps[state.map].values())
    if view.kind(state.map) == "stack" and not 0 <= state.index < most:
        raise LabError(f"no map {state.index} in {state.map!r}", mend=f"it has 0 to {most - 1}")
    return replace(state, windows={name: _window(view, name, one) for name, one in state.windows.items()})


def _window(view: QueryView, image: str, given: Any) -> tuple[float, float]:
    """The least and largest value of a window, given as such or, of a CT in HU, by the name of a preset."""
    if image not in view.images:
        raise LabError(f"no image {image!r} to set the window of", mend=f"images: {', '.join(view.images)}")
    if isinstance(given, str):
        if given not in (known := presets_of(view, image)):
            raise LabError(f"{image!r} has no window {given!r}", mend=f"known: {', '.join(known) or 'none'}")
        return known[given]
    numbers = isinstance(given, list | tuple) and all(isinstance(end, int | float | np.number) for end in given)
    if not numbers or len(given) != 2 or not np.isfinite(given).all() or not given[0] < given[1]:
        raise LabError(f"{given} is no window of {image!r}", mend="give its least and its largest value")
    return float(given[0]), float(given[1])


def presets_of(view: QueryView, image: str) -> dict[str, tuple[float, float]]:
    """Windows of a CT in HU by name; of other images none."""
    return CT_WINDOWS if view.units.get(image) == "HU" and view.kinds.get(image) == "CT" else {}


def window_of(view: QueryView, image: str) -> tuple[float, float]:
    """Values of an image that are drawn black and white: as set, or its percentiles 0.5 and 99.5 over all slices."""
    return view.state.windows.get(image) or percentiles_of(view, image)


def percentiles_of(view: QueryView, image: str) -> tuple[float, float]:
    """The window of an image that nobody has set."""
    low, high = np.percentile(view.images[image], (0.5, 99.5))
    return float(low), float(high if high > low else low + 1.0)
