"""Pictures straight from a data set's files, before any preparation: what a reader would see in a viewer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from xmod_lab.data.geometry import AXES, to_planes
from xmod_lab.data.manifest import Dataset, Task
from xmod_lab.data.recipes import RECIPES, recipe_of
from xmod_lab.data.volume import Volume, load_image, load_structures, patients
from xmod_lab.view.slices import _short, slice_panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Picture(NamedTuple):
    """One slice of one volume, as stored."""

    patient: str
    modality: str
    image: np.ndarray
    """(h, w) in stored units: HU for CT, the scanner's own for MR"""
    label: np.ndarray | None
    """(h, w) class index, or None where the data set has no labels"""
    window: tuple[float, float]
    """what is shown black and white; see `window_of`"""
    unit: str
    aspect: float
    """height of a pixel over its width"""
    slice_number: int


def picture_of(
    data: Dataset, patient: str, modality: str, task_name: str | None = None, labels: np.ndarray | None = None
) -> Picture:
    """The slice with most classes in it, and of these the one with most labelled pixels; the middle one without labels.

    It is cut in the plane of the task's recipe. Labels choose the slice for the picture only; `labels` (x, y, z) class
    indices saves reading them. Raises LabError for missing or bad files.
    """
    task = data.task(task_name)
    plane = recipe_of(task).plane
    volume = load_image(data, patient, modality)
    if labels is None:
        labels = _labels(data, task, patient, modality, volume)
    planes = None if labels is None else to_planes(labels, plane)
    slices = to_planes(volume.array, plane)
    number = len(slices) // 2 if planes is None else best_slice(planes)
    image, label = slices[number], None if planes is None else planes[number]
    _, row, column = AXES[plane]
    kind = data.modalities[modality].kind
    unit, aspect = "HU" if kind == "CT" else "", volume.spacing[row] / volume.spacing[column]
    return Picture(patient, modality, image, label, window_of(image, kind, label), unit, aspect, number)


def _labels(data: Dataset, task: Task, patient: str, modality: str, volume: Volume) -> np.ndarray | None:
    """(x, y, z) class indices of a task, None where there are no labels."""
    if not task.classes or not (data.label or data.modalities[modality].label):
        return None
    structures = load_structures(data, patient, modality, volume)
    found = np.zeros(volume.array.shape, np.uint8)
    for index, members in enumerate(task.classes.values(), start=1):
        for member in members:
            found[structures[member]] = index
    return found


def best_slice(labels: np.ndarray) -> int:
    """Of (D, h, w) class indices the slice with most classes, and of these the one with most labelled pixels."""
    classes = np.unique(labels[labels > 0])
    shown = sum(((labels == k).any((1, 2)).astype(int) for k in classes), np.zeros(len(labels), int))
    return int((shown * labels[0].size + (labels > 0).sum((1, 2))).argmax())


def window_of(image: np.ndarray, kind: str, label: np.ndarray | None = None) -> tuple[float, float]:
    """Grey values for black and white. MR: the percentiles 1 and 99.5 of the slice. CT: 100 HU around what is labelled
    (percentiles 2 and 98), so that contrast-filled hearts and brains both show; a soft-tissue window without labels."""
    if kind == "CT" and label is not None and label.any():
        low, high = np.percentile(image[label > 0], (2, 98)) + (-100, 100)
        return float(np.round(low, -1)), float(np.round(high, -1))
    if kind == "CT":
        low, high = RECIPES["chaos"].ct_window or (-160.0, 240.0)
        return float(low), float(high)
    low, high = np.percentile(image, (1, 99.5))
    return float(low), float(max(high, low + 1e-6))


def gallery(data: Dataset, *, most: int = 2, task_name: str | None = None) -> list[Picture]:
    """Pictures of up to `most` patients a modality, sorted by patient. Raises LabError as `picture_of` does."""
    by_modality = {m: patients(data, m)[:most] for m in data.modalities}
    pictures = []
    for patient in dict.fromkeys(p for listed in by_modality.values() for p in listed):
        own = [m for m in data.modalities if patient in by_modality[m]]
        shared = None
        if data.relation == "registered":  # one label for all modalities: read it once
            volume = load_image(data, patient, own[0])
            shared = _labels(data, data.task(task_name), patient, own[0], volume)
        pictures += [picture_of(data, patient, m, task_name, shared) for m in own]
    return pictures


def picture_panels(pictures: Sequence[Picture], classes: Sequence[str], *, columns: int = 4, title: str = "") -> Figure:
    """The pictures side by side with patient, modality and window, and contours where there are labels."""
    return slice_panels(
        [p.image for p in pictures],
        [f"{p.modality}, {_short(p.patient)} #{p.slice_number}" for p in pictures],
        labels=[p.label for p in pictures],
        classes=classes,
        windows=[p.window for p in pictures],
        units=[p.unit for p in pictures],
        aspects=[p.aspect for p in pictures],
        columns=columns,
        title=title,
    )
