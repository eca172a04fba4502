"""Volumes -> one memory-mapped array of slices a modality, computed once.

Labels of modalities that the task calls unlabelled are neither opened nor asked for their size here: nothing of them
can reach training. They are read at evaluation, by `truth_labels` alone.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xmod_lab import files, paths
from xmod_lab.data.batches import Slices, as_channels, neighbour_rows
from xmod_lab.data.geometry import SliceGeometry
from xmod_lab.data.manifest import Dataset, Task
from xmod_lab.data.recipes import Recipe, recipe_of
from xmod_lab.data.register import RULES
from xmod_lab.data.registered import stamp
from xmod_lab.data.slicing import COVERED, box_owner, sliced, truth_of
from xmod_lab.data.splits import Split, split
from xmod_lab.data.volume import Volume, file_of, label_paths, load_image, patients
from xmod_lab.errors import LabError

VERSION = 1
"""raise it when the same files would give other arrays; older caches are then left aside"""

LONGEST = 80
"""characters of a patient's name"""
INDEX = np.dtype([("patient", f"U{LONGEST}"), ("slice", "i4"), ("foreground", "f4")])
"""a row of `Prepared.index`: patient, slice number in the volume, part of the slice that is foreground"""


@dataclass(eq=False)
class Prepared:
    """Everything training may see. Rows of images, labels, foregrounds and index of a modality belong together;
    a patient's rows are consecutive and in slice order."""

    data: Dataset
    task_name: str
    task: Task
    """as trained: with `swap`, labelled and unlabelled have changed places"""
    fold: int
    size: int
    split: Split
    available: dict[str, list[str]]
    """patients by modality, trained or tested; with `subjects`, only these"""
    recipe: Recipe
    folder: Path
    key: str
    """content id: same key, same arrays"""
    images: dict[str, np.ndarray]
    """float16 (N, S, S), or (N, S, S, stack) for stacked modalities"""
    labels: dict[str, np.ndarray]
    """uint8 (N, S, S) class index; only modalities whose labels training may read"""
    foregrounds: dict[str, np.ndarray]
    """uint8 (N, S, S), 0 or 1"""
    index: dict[str, np.ndarray]

    @property
    def modalities(self) -> list[str]:
        return self.task.modalities

    @property
    def labelled(self) -> list[str]:
        """Modalities whose labels training may read."""
        return self.task.labelled

    @property
    def classes(self) -> list[str]:
        """Class names; class i+1 is the i-th, 0 is background."""
        return self.task.class_names

    @property
    def n_classes(self) -> int:
        return len(self.classes) + 1

    @property
    def channels(self) -> int:
        return self.task.neighbours * max((len(m.split("+")) for m in self.modalities), default=1)

    @property
    def value_range(self) -> tuple[float, float]:
        return self.recipe.value_range

    def rows(self, modality: str, role: str) -> np.ndarray:
        """Row numbers for `role` "train" (slices with little foreground left out) or "val" (all slices)."""
        index = self.index[modality]
        names = {"train": self.split.train, "val": self.split.val}[role][modality]
        chosen = np.isin(index["patient"], names)
        if role == "train":
            kept = chosen & (index["foreground"] >= self.recipe.drop_below)
            chosen = kept if kept.any() else chosen
        return np.flatnonzero(chosen)


def dealt(data: Dataset, task_name: str | None, *, fold: int = 0, subjects: int | None = None) -> Split:
    """Who trains, validates and is tested in `prepare`'s answer, without preparing anything."""
    task = data.task(task_name or data.default_task)
    return split(data, task, fold, _limited(data, task, subjects))


def prepare(data: Dataset, task_name: str | None, size: int, *, fold: int = 0, subjects: int | None = None,
            swap: bool = False) -> Prepared:
    """Split the patients of a task and have their slices at `size` x `size`, from the cache or computed now.

    `subjects` uses only so many patients (the first by name; a like number of each modality where these have different
    patients). `swap` lets labelled and unlabelled modalities change places, for the upper bound "target only". Raises
    LabError for bad input files.
    """
    task_name = task_name or data.default_task
    task = data.task(task_name)
    recipe = recipe_of(task)
    available = _limited(data, task, subjects)
    parts = split(data, task, fold, available)
    if swap:
        if not task.unlabelled:
            raise LabError(f"task {task_name!r} has no unlabelled modality to train on", where=f"data set {data.key}")
        task = task.model_copy(update={"labelled": task.unlabelled, "unlabelled": task.labelled})
    wanted = {m: sorted({*parts.train[m], *parts.val[m]}) for m in task.modalities}
    described = _describe(data, task, recipe, size, wanted)
    key = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:20]
    folder = paths.cache_home() / "prepared" / f"{data.key}-{task_name}-{key}"
    if not folder.is_dir():
        with files.locked(folder):
            if not folder.is_dir():
                with files.atomic_folder(folder) as temporary:
                    _build(data, task, recipe, size, wanted, temporary)
                    files.write_json(temporary / "made_from.json", described)
    return _opened(Prepared(data, task_name, task, fold, size, parts, available, recipe, folder, key, {}, {}, {}, {}))


def _limited(data: Dataset, task: Task, subjects: int | None) -> dict[str, list[str]]:
    modalities = list(dict.fromkeys([*task.modalities, *task.tested]))
    available = {m: patients(data, m) for m in modalities}
    if task.register is not None:  # without the image that the others are brought onto there is no pair
        have = set(patients(data, task.register))
        available = {m: [p for p in names if p in have] for m, names in available.items()}
    if subjects is None:
        return available
    if subjects < 1:
        raise LabError(f"subjects must be at least 1, not {subjects}", where=f"data set {data.key}")
    if data.relation == "independent":
        each = math.ceil(subjects / len(modalities))
        return {m: names[:each] for m, names in available.items()}
    first = set(list(dict.fromkeys(p for names in available.values() for p in names))[:subjects])
    return {m: [p for p in names if p in first] for m, names in available.items()}


def _describe(data: Dataset, task: Task, recipe: Recipe, size: int, wanted: dict[str, list[str]]) -> dict[str, Any]:
    """What the arrays depend on: files by path, size and time; of labels only those that training may read."""
    stamps = {}
    for modality, names in wanted.items():
        found = []
        for patient in names:
            found += [file_of(data, patient, data.modalities[part].pattern) for part in modality.split("+")]
            owners = [file_of(data, patient, data.modalities[m].pattern) for m in box_owner(data, task, recipe)]
            found += [path for path in owners if path.is_file()][:1]  # the crop follows it, tested or not
            if data.foreground:
                found.append(file_of(data, patient, data.foreground))
            if modality in task.labelled:
                found += label_paths(data, patient, modality)
        stamps[modality] = [stamp(path) for path in found]
    values = {m: data.label_of(m).model_dump(mode="json") for m in task.labelled}
    fields = dataclasses.asdict(recipe)
    for name, plain in (("register", None), ("background", recipe.value_range[0])):
        if fields[name] == plain:  # as before there was this field: what was prepared then stays good
            del fields[name]
    if recipe.register is not None:
        fields |= {"rules": RULES, "covered": COVERED}
    return {"version": VERSION, "data": data.key, "orientation": data.orientation, "unit": data.unit, "size": size,
            "recipe": fields, "classes": task.classes, "labelled": task.labelled, "values": values,
            "box": box_owner(data, task, recipe), "patients": wanted, "files": stamps}


def _build(data: Dataset, task: Task, recipe: Recipe, size: int, wanted: dict[str, list[str]], folder: Path) -> None:
    from tqdm.auto import tqdm

    shapes = {}
    slow = recipe.register is not None  # seconds a patient
    cuts: dict[str, tuple[SliceGeometry, Volume]] = {}
    for modality, names in wanted.items():
        index: list[np.ndarray] = []
        labelled = modality in task.labelled
        with (open(folder / f"{modality}.image", "wb") as image, open(folder / f"{modality}.foreground", "wb") as body,
              open(folder / f"{modality}.label", "wb") as label):
            for patient in tqdm(names, desc=f"registering {modality}", unit="patient", disable=None if slow else True):
                if len(patient) > LONGEST:
                    raise LabError(f"the patient's name is longer than {LONGEST} characters", where=patient,
                                   mend="rename the files")
                planes, inside, geometry, volume = sliced(data, task, recipe, patient, modality, size, cuts)
                planes.astype(np.float16).tofile(image)
                inside.astype(np.uint8).tofile(body)
                if labelled:
                    geometry.forward(truth_of(data, task, patient, modality, volume), "nearest").tofile(label)
                rows = np.zeros(len(planes), INDEX)
                rows["patient"], rows["slice"] = patient, np.arange(len(planes))
                rows["foreground"] = inside.mean(axis=(1, 2))
                index.append(rows)
        if not labelled:
            (folder / f"{modality}.label").unlink()
        joined = np.concatenate(index)
        np.save(folder / f"{modality}.index.npy", joined)
        stack = len(modality.split("+"))
        shapes[modality] = [len(joined), size, size] + ([stack] if stack > 1 else [])
    files.write_json(folder / "shapes.json", shapes)


def _opened(prepared: Prepared) -> Prepared:
    folder = prepared.folder
    for modality, shape in files.read_json(folder / "shapes.json").items():
        flat = tuple(shape[:3])
        prepared.images[modality] = np.memmap(folder / f"{modality}.image", np.float16, "r", shape=tuple(shape))
        prepared.foregrounds[modality] = np.memmap(folder / f"{modality}.foreground", np.uint8, "r", shape=flat)
        prepared.index[modality] = np.load(folder / f"{modality}.index.npy")
        if modality in prepared.task.labelled:
            prepared.labels[modality] = np.memmap(folder / f"{modality}.label", np.uint8, "r", shape=flat)
    return prepared


def test_slices(prepared: Prepared, patient: str, modality: str) -> tuple[Slices, SliceGeometry, Volume]:
    """All slices of one volume in order, as training would see them, without labels; any modality, for evaluation.

    The last volumes asked for are kept, since several networks are scored on each: do not write into what comes back.
    """
    return _test_slices(prepared, patient, modality)


@functools.lru_cache(maxsize=2)
def _test_slices(prepared: Prepared, patient: str, modality: str) -> tuple[Slices, SliceGeometry, Volume]:
    planes, inside, geometry, volume = sliced(prepared.data, prepared.task, prepared.recipe, patient, modality,
                                               prepared.size, {})
    depth = len(planes)
    around = neighbour_rows(np.arange(depth), np.zeros(depth, int), np.full(depth, depth - 1), prepared.task.neighbours)
    slices = Slices(as_channels(planes.astype(np.float16)[around]), None, torch.from_numpy(inside), [patient] * depth,
                    torch.arange(depth))
    return slices, geometry, volume


def truth_labels(prepared: Prepared, patient: str, modality: str) -> np.ndarray:
    """Class index (x, y, z) uint8 on the volume's canonical grid: what predictions are scored against.

    The only place where labels of an unlabelled modality are opened. Never call it while training.
    """
    volume = load_image(prepared.data, patient, modality.split("+")[0])
    return truth_of(prepared.data, prepared.task, patient, modality, volume)
