"""Point at a pixel, see what a model looks at: one view of any maps over any images, as page, picture and table.

`query` works on plain arrays and knows no model. What a hand can set, but light and dark, `set` sets too.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xmod_lab.errors import LabError
from xmod_lab.maps import SHUFFLED, TRAINED, dealt
from xmod_lab.view.layers import Layer, Place, images_of, labels_of, layers_of
from xmod_lab.view.query_state import State, changed

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from xmod_lab.view.query_widget import QueryWidget


class QueryView:
    """What `query` gives. In a notebook its value is the page; `figure()` is its static twin."""

    def __init__(
        self,
        images: dict[str, np.ndarray],
        labels: dict[str, np.ndarray],
        models: dict[str, dict[str, dict[str, Layer]]],
        *,
        classes: tuple[str, ...],
        kinds: Mapping[str, str],
        units: Mapping[str, str],
        place: Place,
        behind: Mapping[str, tuple[str, str]],
        title: str,
        note: str,
    ):
        self.images, self.labels, self.models = images, labels, models
        self.classes, self.kinds, self.units = classes, dict(kinds), dict(units)
        self.place, self.behind, self.title, self.note = place, dict(behind), title, note
        pointed = [name for name in self.maps if self.kind(name) == "positions"]
        first = next(iter([*pointed, *self.maps]))  # what can be asked by a pixel comes first
        at, point = self._sensible()
        signed = any(layer.signed for layer in self.maps[first].values())
        alike = all(layer.comparable for layer in self.maps[first].values())
        scale = "symmetric" if signed else "shared" if alike else "own"
        self.state = State(first, at, point, scale=scale, colours="PuOr" if signed else "inferno")

    @property
    def maps(self) -> dict[str, dict[str, Layer]]:
        """The maps as given, by name and image."""
        return self.models[TRAINED]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, h, w) of every image."""
        depth, height, width = next(iter(self.images.values())).shape
        return depth, height, width

    def _sensible(self) -> tuple[int, tuple[int, int]]:
        """The slice with most labelled pixels, and in it the labelled pixel nearest to their centre; without labels the
        middle of the middle slice. Of several classes the rarest one that is there: a lesion, not the organ around."""
        depth, height, width = self.shape
        for labels in self.labels.values():
            counts = np.bincount(labels.ravel(), minlength=2)[1:]
            if counts.any():
                rarest = int(np.where(counts > 0, counts, counts.max() + 1).argmin()) + 1
                at = int((labels == rarest).sum((1, 2)).argmax())
                places = np.argwhere(labels[at] == rarest)
                row, column = places[np.square(places - places.mean(0)).sum(1).argmin()]
                return at, (int(row), int(column))
        return depth // 2, (height // 2, width // 2)

    def set(self, **values: Any) -> QueryView:
        """Set fields of `State`; returns the view. A window may be a preset by name: windows={"CT": "brain"}.

        Raises LabError for what does not exist, naming what does.
        """
        self.state = changed(self, values)
        return self

    def kind(self, name: str) -> str:
        """The kind of the map `name`: positions, matrix, stack or mask."""
        return next(iter(self.maps[name].values())).kind

    @cached_property
    def permutations(self) -> dict[int, np.ndarray]:
        """Of maps of positions, whose row the null model SHUFFLED shows, by the number of queries."""
        layers = [layer for by in self.maps.values() for layer in by.values() if layer.kind == "positions"]
        return {count: dealt(count) for count in sorted({layer.values.shape[1] for layer in layers})}

    def shown(self, query: tuple[int, int] | None = None) -> dict[str, dict[str, np.ndarray]]:
        """The values on display by model and image: (u, v) of a row of positions, of the chosen map of a stack, of a
        mask; (M, N) of a matrix. Models are TRAINED, those of `nulls`, and of positions SHUFFLED."""
        found: dict[str, dict[str, np.ndarray]] = {}
        state = self.state
        for model, maps in self.models.items():
            found[model] = {
                image: self._values(layer, state, query or state.query)
                for image, layer in maps.get(state.map, {}).items()
            }
        if self.kind(state.map) == "positions":
            found[SHUFFLED] = {
                image: self._values(layer, state, query or state.query, shuffled=True)
                for image, layer in self.maps[state.map].items()
            }
        return {model: values for model, values in found.items() if values}

    def _values(self, layer: Layer, state: State, query: tuple[int, int], shuffled: bool = False) -> np.ndarray:
        values = layer.values[state.slice]
        if layer.kind == "positions":
            at = self.cell(layer, query)
            row: np.ndarray = values[self.permutations[len(values)][at] if shuffled else at]
            assert layer.grid is not None  # `layers` demands it
            return row.reshape(layer.grid)
        if layer.kind == "stack":
            return np.asarray(values[min(state.index, len(values) - 1)])
        return values

    def cell(self, layer: Layer, query: tuple[int, int]) -> int:
        """The position of a layer's grid that a pixel (row, column) lies in."""
        assert layer.grid is not None
        (rows, columns), (_, height, width) = layer.grid, self.shape
        return (query[0] * rows // height) * columns + query[1] * columns // width

    def coordinates(self, query: tuple[int, int] | None = None) -> dict[str, tuple[float, ...]]:
        """The query's "pixel" (slice, row, column) and, where `place` knows them, "mm" (R, A, S) and "voxel"."""
        at = (self.state.slice, *(query or self.state.query))
        found: dict[str, tuple[float, ...]] = {"pixel": at}
        for name, matrix in zip(("mm", "voxel"), self.place, strict=True):
            if matrix is not None:
                point = (np.asarray(matrix) @ np.array([*at, 1.0]))[:3]
                found[name] = tuple(float(v) for v in (point.round(1) if name == "mm" else np.rint(point)))
        return found

    def figure(self) -> Figure:
        """What is set, as a matplotlib figure: a row an image, with the query; a column a model."""
        from xmod_lab.view.query_figure import drawn

        return drawn(self)

    def table(self) -> pd.DataFrame:
        """What is set, as numbers: a row a model and image.

        Of positions: the query's class, the share of the row's mass on each class beside the share of positions that
        are of it (`chance`), entropy (0: one key, 1: all alike) and the strongest key. Of a stack or mask: the value at
        the query, and the mean in each class. Of a matrix: its mean, least and largest value.
        """
        from xmod_lab.view.query_table import tabled

        return tabled(self)

    def to_html(self, path: str | Path | None = None) -> str:
        """The page: one file that needs no network and no kernel. Also written to `path` if given."""
        from xmod_lab.files import write_text
        from xmod_lab.view.query_page import page

        text = page(self)
        if path is not None:
            write_text(Path(path), text)
        return text

    def widget(self) -> QueryWidget:
        """The page as a widget that tells the kernel what is set (`state`), for JupyterLab and Voila."""
        from xmod_lab.view.query_widget import QueryWidget

        return QueryWidget(self)

    def arrays(self, path: str | Path) -> Path:
        """Images, labels and maps in the units shown (`layers.UNIFORM`), not quantised, as .npz; returns its path."""
        from xmod_lab.files import atomic_file

        kept = {f"image/{name}": one for name, one in self.images.items()}
        kept |= {f"labels/{name}": one for name, one in self.labels.items()}
        for model, maps in self.models.items():
            kept |= {f"{model}/{name}/{image}": la.values for name, by in maps.items() for image, la in by.items()}
        with atomic_file(Path(path)) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, **kept)  # type: ignore[arg-type]
        return Path(path)

    def _repr_html_(self) -> str:
        """The page in a frame of its own: its names and colours meet no other's."""
        high = 330 + 35 * len(self.images) + 245 * len(self.images)
        return (
            f'<iframe srcdoc="{html.escape(self.to_html(), quote=True)}" width="100%" height="{high}" '
            'style="border:0" title="query view" sandbox="allow-scripts allow-downloads"></iframe>'
        )


def query(
    maps: Any,
    images: Mapping[str, Any] | np.ndarray,
    labels: Any = None,
    *,
    classes: Sequence[str] = (),
    nulls: Mapping[str, Any] | None = None,
    kinds: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    place: Place | None = None,
    behind: Mapping[str, str | tuple[str, str]] | None = None,
    title: str = "",
    note: str = "",
) -> QueryView:
    """A view of maps over images: click a pixel, see its map; anybody's arrays will do.

    maps: see `layers.layers_of`. images: (h, w) or (D, h, w) by name, all of one shape: real, translated and
    reconstructed slices side by side share the query. labels: class indices of one image or of all, `classes` their
    names from 1 on.
    nulls: the same `maps` by the name of a null model, such as untrained weights, shown below. kinds: "CT" or "MR"
    of images; with units "HU" a CT has its presets of window and level. behind: of a matrix the stack, or the two
    stacks of its rows and columns, whose maps a cell compares, by their names in `maps`.
    note: printed below, such as profile and run.

    Raises LabError for what fits nothing.

    >>> view = query(attention, {"T1": image}, labels, classes=("tumour",))
    >>> view.set(query=(20, 31), scale="own").figure()
    """
    named = images_of(images)
    found = layers_of(maps, named)
    models = {TRAINED: found}
    for model, given in (nulls or {}).items():
        if model in (TRAINED, SHUFFLED):
            raise LabError(f"a null model cannot be called {model!r}")
        models[str(model)] = layers_of(given, named)
        for name, by in models[str(model)].items():
            if name not in found:
                raise LabError(f"null model {model!r} has a map {name!r} that is not among the maps")
            kinds_of = {layer.kind for layer in (*by.values(), *found[name].values())}
            if len(kinds_of) > 1:
                raise LabError(f"{name!r} of null model {model!r} is of another kind: {', '.join(sorted(kinds_of))}")
    pairs = {name: (one, one) if isinstance(one, str) else one for name, one in (behind or {}).items()}
    for name, stacks in pairs.items():
        for one in (name, *stacks):
            if one not in found:
                raise LabError(f"no map {one!r} to show behind {name!r}", mend=f"maps: {', '.join(found)}")
        if any(next(iter(found[one].values())).kind != "stack" for one in stacks):
            raise LabError(f"what lies behind {name!r} must be stacks")
    known = labels_of(labels, named)
    most = max((int(one.max()) for one in known.values()), default=0)
    classes = [*map(str, classes), *(f"class {i}" for i in range(len(classes) + 1, most + 1))]
    return QueryView(
        named, known, models, classes=tuple(classes), kinds=kinds or {}, units=units or {},
        place=place or Place(), behind=pairs, title=title, note=note,
    )  # fmt: skip
