"""A run's data for other programs: nnU-Net v2's raw layout, with the synthetic siblings of a translator as channels.

https://github.com/MIC-DKFZ/nnUNet/blob/master/documentation/dataset_format.md: ``DatasetNNN_name/`` holds
``imagesTr/<case>_0000.nii.gz`` (a file a channel), ``labelsTr/<case>.nii.gz``, the same for tests in imagesTs and
labelsTs, and dataset.json. nnU-Net plans, resamples and normalises by itself, so a real channel holds the stored
values; one of a CT is called "CT", which makes nnU-Net keep its scale, every other one is z-scored.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from xmod_lab.data.prepare import Prepared, test_slices, truth_labels
from xmod_lab.data.volume import load_image, patients, save_nifti
from xmod_lab.errors import LabError
from xmod_lab.files import atomic_folder, write_json
from xmod_lab.runs import Run, prepared_of

ENDING = ".nii.gz"
FIRST = 501
"""number of the first data set; 1 to 10 are those of the Medical Segmentation Decathlon"""


def export_nnunet(run: Run, out: Path, *, first: int = FIRST, device: str = "auto") -> list[Path]:
    """Write one data set a labelled modality of `run` to `out`; returns their folders.

    Channel 0 is the patient's own image as stored. A run that translates, or reads one that does, adds what it makes of
    it in the order of the task's modalities: in the recipe's value range (its background outside the crop), on the
    same grid. Labels are the task's classes, 1 to the number of classes. Training and validation patients go to Tr,
    where nnU-Net splits them anew, test patients to Ts. Numbers count from `first`.

    Raises LabError for a run that is not finished, a folder that exists, numbers beyond 999 and patients without names
    that nnU-Net takes.
    """
    from xmod_lab import device as dev
    from xmod_lab import inputs
    from xmod_lab.evaluate.translators import translations_of

    run.scores()  # refuses one that is not finished
    inputs.check_now(run)
    prepared, method = prepared_of(run.spec), run.method()
    method.to(dev.pick(device))
    # every labelled modality is a source here, tested or not
    every = dataclasses.replace(prepared, task=prepared.task.model_copy(update={"tested": prepared.labelled}))
    translator = next((m for m in (method, *method.read.values()) if translations_of(m, every)), None)  # type: ignore[arg-type]
    pairs = translations_of(translator, every) if translator is not None else []  # type: ignore[arg-type]
    names = {m: f"{prepared.data.key}_{prepared.task_name}_{m}" for m in prepared.labelled}
    if not 1 <= first <= 1000 - len(names):
        raise LabError(f"data set numbers {first} to {first + len(names) - 1} are not within 1 to 999",
                       mend="choose another --first")
    folders = {}
    for number, (modality, name) in enumerate(names.items(), start=first):
        folders[modality] = out / f"Dataset{number:03d}_{re.sub(r'[^A-Za-z0-9]', '_', name)}"
    for folder in folders.values():
        if folder.exists():
            raise LabError("the data set is there already", where=folder, mend="choose another --out or --first")
    for modality, folder in folders.items():
        siblings = [target for source, target in pairs if source == modality]
        with atomic_folder(folder) as temporary:
            _write(temporary, run, prepared, translator, modality, siblings, folder.name)
    return list(folders.values())


def _write(
    folder: Path, run: Run, prepared: Prepared, method: Any, modality: str, siblings: list[str], name: str
) -> None:
    counts = {}
    own = modality.split("+")  # of a stack each is a channel
    for part, roles in {"Tr": ("train", "val"), "Ts": ("test",)}.items():
        cases = list(_cases(prepared, modality, roles))
        counts[part] = len(cases)
        for images in ("images", "labels"):
            (folder / f"{images}{part}").mkdir()
        for patient in cases:
            if not re.fullmatch(r"[\w.-]+", patient):
                raise LabError(f"nnU-Net takes no case called {patient!r}", mend="rename the patient's files")
            volumes = [load_image(prepared.data, patient, m) for m in own]
            volume, affine = volumes[0], volumes[0].grid.affine
            arrays = [v.array for v in volumes] + _synthetic(prepared, method, patient, modality, siblings)
            for number, array in enumerate(arrays):
                path = folder / f"images{part}" / f"{patient}_{number:04d}{ENDING}"
                save_nifti(path, volume.to_native(array.astype(np.float32)), affine)
            labels = truth_labels(prepared, patient, modality)
            save_nifti(folder / f"labels{part}" / f"{patient}{ENDING}", volume.to_native(labels), affine)
    channels = ["CT" if prepared.data.modalities[m].kind == "CT" else m for m in own]
    channels += [f"synthetic {target}" for target in siblings]
    about: dict[str, Any] = {
        "channel_names": {str(i): channel for i, channel in enumerate(channels)},
        "labels": {"background": 0} | {c: i for i, c in enumerate(prepared.classes, start=1)},
        "numTraining": counts["Tr"],
        "file_ending": ENDING,
        "name": name,
        "numTest": counts["Ts"],
        "description": f"{prepared.data.title}; {prepared.task.title}; channels of the run {run.spec}",
        "reference": prepared.data.citation,
        "licence": prepared.data.licence,
    }
    if prepared.split.demonstration:
        about["description"] += "; DEMONSTRATION: patients are in two roles, no score counts"
    write_json(folder / "dataset.json", about)


def _cases(prepared: Prepared, modality: str, roles: tuple[str, ...]) -> Iterator[str]:
    """The patients of `modality` in these roles, each once."""
    have = patients(prepared.data, modality)
    lists = {"train": prepared.split.train, "val": prepared.split.val, "test": prepared.split.test}
    wanted: set[str] = set()
    for role in roles:
        names = lists[role]
        wanted |= set(names.get(modality, []) if isinstance(names, dict) else names)
    yield from (patient for patient in have if patient in wanted)


def _synthetic(
    prepared: Prepared, method: Any, patient: str, modality: str, siblings: list[str]
) -> list[np.ndarray]:
    """Each sibling (x, y, z) float32 on the volume's canonical grid."""
    from xmod_lab.evaluate.runs import Case
    from xmod_lab.evaluate.translators import translated

    if not siblings:
        return []
    slices, geometry, volume = test_slices(prepared, patient, modality)
    case = Case(patient, modality, slices, geometry, volume.spacing, np.zeros(volume.array.shape, np.uint8))
    found, outside = [], prepared.recipe.background
    for target in siblings:
        images = translated(method, case, target).numpy()
        middle = images[:, images.shape[1] // 2 : images.shape[1] // 2 + 1]
        found.append(geometry.backward(middle, outside)[0])
    return found
