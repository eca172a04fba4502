"""One patient's volumes cut into slices: read, find the body, crop, normalise, resample.

Nothing here looks at labels, except `truth_of`, which reads nothing else.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from xmod_lab.data.geometry import SliceGeometry, geometry_of
from xmod_lab.data.manifest import Dataset, Task
from xmod_lab.data.recipes import Recipe, foreground, normalise
from xmod_lab.data.volume import Volume, file_of, load_image, load_structures, load_volume
from xmod_lab.errors import LabError


def box_owner(data: Dataset, task: Task) -> list[str]:
    """Modalities whose first one present gives a patient's crop, for registered data: all its slices must match."""
    if data.relation != "registered":
        return []
    return sorted({part for m in [*task.modalities, *task.tested] for part in m.split("+")})


def body_of(data: Dataset, recipe: Recipe, patient: str, modality: str, volume: Volume) -> np.ndarray:
    """Where the body is in `volume`: boolean (x, y, z), by the data set's own mask or by the recipe's rule."""
    mask = None
    if data.foreground:
        stored = load_volume(file_of(data, patient, data.foreground), unit=data.unit, orientation=data.orientation)
        if stored.array.shape != volume.array.shape:
            raise LabError(f"foreground mask {stored.array.shape} and image {volume.array.shape} differ",
                           where=stored.path, mend="resample the mask to the image")
        mask = stored.array
    return foreground(volume.array, recipe, data.modalities[modality].kind, mask)


def sliced(data: Dataset, task: Task, recipe: Recipe, patient: str, modality: str, size: int,
            cuts: dict[str, tuple[SliceGeometry, Volume]]) -> tuple[np.ndarray, np.ndarray, SliceGeometry, Volume]:
    """Images (D, S, S[, stack]) float32 and foreground (D, S, S) bool of one patient, and how they were cut.

    `cuts` remembers how each patient of registered data was cut, for its other modalities.
    """
    parts = modality.split("+")
    volumes = [load_image(data, patient, part) for part in parts]
    bodies = [body_of(data, recipe, patient, part, volume) for part, volume in zip(parts, volumes, strict=True)]
    for volume in volumes[1:]:
        same_grid(volume, volumes[0])
    body, first = np.logical_or.reduce(bodies), volumes[0]
    if patient in cuts and data.relation == "registered":
        geometry, other = cuts[patient]
        same_grid(first, other)
    else:
        boxed = _box_body(data, task, recipe, patient, parts, bodies, first)
        geometry = geometry_of(first.array.shape, first.spacing, boxed, recipe, size)
        cuts[patient] = geometry, dataclasses.replace(first, array=first.array[:0])  # the grid, without its voxels
    planes = []
    for part, volume, own in zip(parts, volumes, bodies, strict=True):
        values = normalise(volume.array, own, recipe, data.modalities[part].kind)
        planes.append(geometry.forward(values, "linear", fill=float(values.min())))
    images = planes[0] if len(planes) == 1 else np.stack(planes, axis=-1)
    return images, geometry.forward(body, "nearest"), geometry, first


def same_grid(volume: Volume, other: Volume) -> None:
    """Raise LabError unless two volumes of a patient lie on one grid."""
    if not volume.grid.same_as(other.grid):
        shapes = f"{volume.grid.shape} and {other.grid.shape}"
        differ = shapes if volume.grid.shape != other.grid.shape else "their affines"
        raise LabError(f"registered volumes differ: {differ}", where=volume.path,
                       mend=f"resample it to {other.path.name}")


def _box_body(data: Dataset, task: Task, recipe: Recipe, patient: str, parts: list[str], bodies: list[np.ndarray],
              like: Volume) -> np.ndarray:
    """The foreground that the crop follows: for registered data always that of the same modality of a patient."""
    if recipe.crop != "foreground" or data.foreground:  # a mask in the data set is the same for all modalities
        return bodies[0]
    for owner in box_owner(data, task):
        if owner in parts:
            return bodies[parts.index(owner)]
        if file_of(data, patient, data.modalities[owner].pattern).is_file():
            volume = load_image(data, patient, owner)
            same_grid(volume, like)
            return body_of(data, recipe, patient, owner, volume)
    return bodies[0]


def truth_of(data: Dataset, task: Task, patient: str, modality: str, image: Volume) -> np.ndarray:
    """Class index (x, y, z) uint8 on the grid of `image`. Raises LabError for another grid or an unlisted value."""
    structures = load_structures(data, patient, modality, image)
    truth = np.zeros(image.array.shape, np.uint8)
    for number, (name, members) in enumerate(task.classes.items(), start=1):
        if missing := set(members) - set(structures):
            raise LabError(f"class {name!r} needs {sorted(missing)[0]!r}, which the labels of {modality!r} do not have",
                           where=f"data set {data.key}", mend="correct `classes` in the manifest")
        for member in members:
            truth[structures[member]] = number
    return truth
