"""One patient's volumes cut into slices: read, find the body, crop, normalise, resample.

Nothing here looks at labels, except `truth_of`, which reads nothing else.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from xmod_lab.data.geometry import SliceGeometry, geometry_of
from xmod_lab.data.manifest import Dataset, Task
from xmod_lab.data.recipes import Recipe, foreground, normalise, outside_of
from xmod_lab.data.registered import registered
from xmod_lab.data.volume import Volume, file_of, load_image, load_structures, load_volume
from xmod_lab.errors import LabError

COVERED = 0.9
"""part of a slice's body that the registered images must show, or it has no foreground and nothing trains on it"""


def image_of(data: Dataset, recipe: Recipe, patient: str, modality: str) -> Volume:
    """The patient's image as the recipe wants it: his own, or brought onto the grid of the modality it registers to."""
    if recipe.register is None or modality == recipe.register:
        return load_image(data, patient, modality)
    return registered(data, patient, modality, recipe.register).image


def aligned(data: Dataset, recipe: Recipe) -> bool:
    """Whether a patient's images lie on one grid and show the same place."""
    return data.relation == "registered" or recipe.register is not None


def box_owner(data: Dataset, task: Task, recipe: Recipe) -> list[str]:
    """Modalities whose first one present gives a patient's crop, for aligned images: all their slices must match."""
    if not aligned(data, recipe):
        return []
    if recipe.register is not None:
        return [recipe.register]
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

    `cuts` remembers how each patient of aligned images was cut, for its other modalities. Where the recipe registers,
    the foreground of every modality is the same (`_shown`).
    """
    parts = modality.split("+")
    volumes = [image_of(data, recipe, patient, part) for part in parts]
    bodies = [body_of(data, recipe, patient, part, volume) for part, volume in zip(parts, volumes, strict=True)]
    for volume in volumes[1:]:
        same_grid(volume, volumes[0])
    body, first = np.logical_or.reduce(bodies), volumes[0]
    if patient in cuts and aligned(data, recipe):
        geometry, other = cuts[patient]
        same_grid(first, other)
    else:
        boxed = _box_body(data, task, recipe, patient, parts, bodies, first)
        geometry = geometry_of(first.array.shape, first.spacing, boxed, recipe, size)
        cuts[patient] = geometry, dataclasses.replace(first, array=first.array[:0])  # the grid, without its voxels
    planes = []
    for part, volume, own in zip(parts, volumes, bodies, strict=True):
        values = normalise(volume.array, own, recipe, data.modalities[part].kind)
        planes.append(geometry.forward(values, "linear", fill=outside_of(values, recipe)))
    images = planes[0] if len(planes) == 1 else np.stack(planes, axis=-1)
    if recipe.register is None:
        return images, geometry.forward(body, "nearest"), geometry, first
    return images, _shown(data, task, recipe, recipe.register, patient, geometry), geometry, first


def _shown(data: Dataset, task: Task, recipe: Recipe, fixed: str, patient: str, geometry: SliceGeometry) -> np.ndarray:
    """The fixed image's body where all registered images of the task show something, (D, S, S) bool; nothing in slices
    where they show too little of it (COVERED)."""
    own = body_of(data, recipe, patient, fixed, load_image(data, patient, fixed))
    body = geometry.forward(own, "nearest")
    shown = body.copy()
    for modality in dict.fromkeys(part for m in task.modalities for part in m.split("+") if part != fixed):
        if file_of(data, patient, data.modalities[modality].pattern).is_file():
            shown &= geometry.forward(registered(data, patient, modality, fixed).cover, "nearest")
    enough = shown.sum((1, 2)) >= COVERED * body.sum((1, 2))
    return shown & enough[:, None, None]


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
    for owner in box_owner(data, task, recipe):
        if owner in parts:
            return bodies[parts.index(owner)]
        if file_of(data, patient, data.modalities[owner].pattern).is_file():
            volume = image_of(data, recipe, patient, owner)
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
