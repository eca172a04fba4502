"""What the viewer shows, as plain arrays: images, labels and maps of any kind, checked and brought to one form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from torch import Tensor

from xmod_lab.errors import LabError
from xmod_lab.maps import Map

UNIFORM = "times uniform attention"
"""unit of maps of positions whose rows sum to 1: times N, so that looking everywhere alike is 1"""


class Place(NamedTuple):
    """Where slices lie in the patient: 4 x 4 matrices from (slice, row, column, 1) to millimetres, right, anterior and
    superior positive (NIfTI's RAS), and to the voxel of the file. Either may be missing."""

    mm: np.ndarray | None = None
    voxel: np.ndarray | None = None


@dataclass(frozen=True)
class Layer:
    """One map over one image.

    kind    `positions`: values (D, M, N) of query and key positions on `grid`; `matrix`: (D, M, N) of anything else;
            `stack`: (D, K, u, v); `mask`: (D, h, w). D slices.
    grid    rows and columns of positions
    names   of the K maps, or of a matrix's rows and columns
    unit    of the values
    """

    kind: Literal["positions", "matrix", "stack", "mask"]
    values: np.ndarray
    grid: tuple[int, int] | None = None
    names: tuple[str, ...] = ()
    unit: str = ""
    comparable: bool = True
    """whether values of different images share one scale"""

    @property
    def signed(self) -> bool:
        return bool((self.values < 0).any())


def images_of(images: Mapping[str, Any] | np.ndarray) -> dict[str, np.ndarray]:
    """Images (h, w) or (D, h, w) by name as float32 (D, h, w). Raises LabError if they differ in shape, hold NaN, or
    there are none."""
    named = {"image": images} if isinstance(images, np.ndarray | Tensor) else dict(images)
    if not named:
        raise LabError("no image to show", mend="give at least one: {name: array of (h, w) or (slices, h, w)}")
    found = {}
    for name, one in named.items():
        array = _array(one)
        if array.ndim not in (2, 3):
            raise LabError(f"image {name!r} has {array.ndim} axes", mend="give (h, w) or (slices, h, w)")
        if not np.isfinite(array).all():
            raise LabError(f"image {name!r} holds NaN or infinity")
        found[str(name)] = array if array.ndim == 3 else array[None]
    shapes = {name: array.shape for name, array in found.items()}
    if len(set(shapes.values())) > 1:
        text = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in shapes.items())
        raise LabError(f"images differ in shape: {text}", mend="one query lies on all: bring them to one grid")
    return found


def labels_of(labels: Any, images: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Class indices of each image as uint8 (D, h, w): one array for all of them, or by name; images may have none."""
    if labels is None:
        return {}
    shape = next(iter(images.values())).shape
    named = dict(labels) if isinstance(labels, Mapping) else dict.fromkeys(images, labels)
    if unknown := sorted(set(named) - set(images)):
        raise LabError(f"labels of {unknown[0]!r}, which is no image", mend=f"images: {', '.join(images)}")
    found = {}
    for name, one in named.items():
        array = np.asarray(one)
        array = array if array.ndim == 3 else array[None]
        if array.shape != shape:
            raise LabError(f"labels of {name!r} have shape {array.shape}, its image {shape}")
        if array.size and (array.min() < 0 or array.max() > 255 or (array != np.round(array)).any()):
            raise LabError(f"labels of {name!r} are no class indices from 0 to 255")
        found[name] = array.astype(np.uint8)
    return found


def layers_of(maps: Any, images: Mapping[str, np.ndarray]) -> dict[str, dict[str, Layer]]:
    """Maps by name and image. `maps` is {name: {image: map}} or {name: map}, or one map alone, which is called "map"; a
    map that names no image is shown over all of them.

    A map is a `maps.Map`, whose batch are the slices, or an array. Of an array over images (D, h, w), where D may be
    left out if it is 1: (D, h, w) is a mask, (D, K, u, v) a stack, any other (D, M, N) is pairwise; it is of positions
    where M = N fills a grid of the image's proportions and rows are shares, and a matrix otherwise. Attention between
    channels can look like it: a `Map` or `Layer` says what it is. Raises LabError for what is none of it.
    """
    named = dict(maps) if isinstance(maps, Mapping) else {"map": maps}
    if not named:
        raise LabError("no map to show", mend="give at least one: {name: map} or {name: {image: map}}")
    found: dict[str, dict[str, Layer]] = {}
    for name, one in named.items():
        by_image = dict(one) if isinstance(one, Mapping) else dict.fromkeys(images, one)
        if unknown := sorted(set(by_image) - set(images)):
            text = f"map {name!r} is over {unknown[0]!r}, which is no image"
            raise LabError(text, mend=f"images: {', '.join(images)}")
        shape = next(iter(images.values())).shape
        found[str(name)] = {image: layer_of(given, shape, str(name)) for image, given in by_image.items()}
        kinds = {layer.kind for layer in found[str(name)].values()}
        if len(kinds) > 1:
            raise LabError(f"map {name!r} is of several kinds: {', '.join(sorted(kinds))}", mend="give them two names")
    return found


def layer_of(given: Map | Layer | np.ndarray, shape: tuple[int, ...], name: str = "map") -> Layer:
    """One map over images (D, h, w), `shape`; see `layers_of`."""
    if isinstance(given, Layer):
        layer = given
    elif isinstance(given, Map):
        kind = {"stack": "stack", "mask": "mask", "pairwise": "positions" if given.grid else "matrix"}[given.kind]
        values = given.values.detach().float().cpu().numpy()
        layer = Layer(kind, values, given.grid, tuple(given.names), comparable=given.comparable)  # type: ignore[arg-type]
    else:
        layer = _guessed(_array(given), shape, name)
    _checked(layer, name)
    if not np.isfinite(layer.values).all():
        raise LabError(f"map {name!r} holds NaN or infinity")
    if len(layer.values) != shape[0]:
        raise LabError(f"map {name!r} has {len(layer.values)} slices, its image {shape[0]}")
    if layer.kind == "mask" and layer.values.shape != shape:
        raise LabError(f"mask {name!r} has shape {layer.values.shape}, its image {shape}")
    return _in_units(layer)


def _guessed(array: np.ndarray, shape: tuple[int, ...], name: str) -> Layer:
    full = array if shape[0] > 1 or array.ndim == 4 or (array.ndim == 3 and len(array) == 1) else array[None]
    shares = full.shape[-1] == full.shape[-2] and (full >= 0).all() and np.allclose(full.sum(-1), 1.0, atol=1e-2)
    if full.shape == shape and shares:
        raise LabError(
            f"map {name!r} may be a mask, or attention: it has the image's shape and its rows sum to 1",
            mend="say which: view.layers.Layer(kind, values, grid)",
        )
    if full.shape == shape:
        return Layer("mask", full)
    if full.ndim == 4:
        return Layer("stack", full)
    if full.ndim != 3:
        text = "x".join(map(str, array.shape))
        raise LabError(f"map {name!r} of {text} is no mask, stack or pairwise map", mend="see view.query")
    grid = _grid(full.shape[1], shape) if shares else None
    return Layer("positions", full, grid) if grid else Layer("matrix", full)


def _array(given: Any) -> np.ndarray:
    """Anybody's array or tensor as float32."""
    given = given.detach().cpu() if isinstance(given, Tensor) else given
    return np.asarray(given, dtype=np.float32)


def _checked(layer: Layer, name: str) -> None:
    """Raises LabError for a layer whose values are not what its kind says."""
    axes = {"positions": 3, "matrix": 3, "stack": 4, "mask": 3}[layer.kind]
    shape = "x".join(map(str, layer.values.shape))
    if layer.values.ndim != axes:
        raise LabError(f"map {name!r} of {shape}: {layer.kind} has {axes} axes, slices first")
    if layer.kind == "positions":
        count = layer.grid[0] * layer.grid[1] if layer.grid else 0
        if layer.values.shape[1:] != (count, count):
            raise LabError(f"map {name!r} of {shape} has not the queries and keys of a grid {layer.grid}")


def _grid(positions: int, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Rows and columns of so many positions with the proportions of an image (D, h, w), if there is such a grid."""
    from xmod_lab.view.pairwise import grid_of

    try:
        return grid_of(positions, (shape[1], shape[2]))
    except ValueError:
        return None


def _in_units(layer: Layer) -> Layer:
    """Rows that sum to 1 as multiples of what they would be if all keys were looked at alike."""
    if layer.kind != "positions" or layer.unit or not np.allclose(layer.values.sum(-1), 1.0, atol=1e-2):
        return layer
    return replace(layer, values=layer.values * layer.values.shape[-1], unit=UNIFORM)


def sides_of(place: Place) -> tuple[str, str, str, str] | None:
    """Letters of the left, right, upper and lower edge of slices by the direction in which millimetres grow most; None
    where nobody knows."""
    if place.mm is None:
        return None
    letters = (("L", "R"), ("P", "A"), ("I", "S"))

    def ends(step: np.ndarray) -> tuple[str, str]:  # at the start of the axis, and at its end
        axis = int(np.abs(step).argmax())
        low, high = letters[axis]
        return (low, high) if step[axis] > 0 else (high, low)

    (top, bottom), (left, right) = (ends(np.asarray(place.mm)[:3, column]) for column in (1, 2))
    return left, right, top, bottom
