"""Registered images, found once and kept.

``<cache>/registered/<data set>/<patient>-<moving>-to-<fixed>-<key>/`` holds image.nii.gz and cover.nii.gz on the fixed
image's grid, and transform.json. The key is of both files and of the rules.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xmod_lab import files, paths
from xmod_lab.data.manifest import Dataset, Task
from xmod_lab.data.register import (
    AT_REST,
    RULES,
    Rigid,
    body_points,
    needed,
    register,
    registration_error,
    rigid_of,
)
from xmod_lab.data.volume import Volume, file_of, load_image, load_volume, patients, save_nifti
from xmod_lab.errors import LabError

Watch = Callable[[list[tuple[str, str]]], Iterable[tuple[str, str]]]
CONVENTION = "a point at x (mm, RAS) in the fixed image lies at R x + t in the moving one, R = Rz Ry Rx"


class Kept(NamedTuple):
    """A patient's image on the grid of another one of his."""

    image: Volume
    """float32; air where the moving image shows nothing"""
    cover: np.ndarray
    """boolean (x, y, z): what the moving image shows"""
    about: dict[str, Any]
    """transform.json: rotation_degrees, translation_mm, mutual_information before and after, seconds ..."""

    @property
    def motion(self) -> Rigid:
        return rigid_of(self.about["rotation_degrees"], self.about["translation_mm"])


def stamp(path: Path) -> list[Any]:
    """A file by place, size and time: what caches are keyed by. Raises LabError for one that is missing."""
    if not path.is_file():
        raise LabError("file is missing", where=path, mend="see `xmod-lab data info` for what belongs there")
    state = path.stat()
    return [str(path.resolve()), state.st_size, state.st_mtime_ns]


def registered(data: Dataset, patient: str, moving: str, fixed: str) -> Kept:
    """The patient's image of `moving` on the grid of his image of `fixed`: found in the cache, or registered now.

    Raises LabError as `register.register` does, and for a missing or broken file.
    """
    folder = _folder(data, patient, moving, fixed)
    if not folder.is_dir():
        with files.locked(folder):
            if not folder.is_dir():
                with files.atomic_folder(folder) as temporary:
                    _write(data, patient, moving, fixed, temporary)
    image, cover = (load_volume(folder / f"{name}.nii.gz") for name in ("image", "cover"))
    return Kept(image, cover.array > 0, files.read_json(folder / "transform.json"))


def _folder(data: Dataset, patient: str, moving: str, fixed: str) -> Path:
    pair = [file_of(data, patient, data.modalities[m].pattern) for m in (fixed, moving)]
    made_from = {"rules": RULES, "kinds": [data.modalities[m].kind for m in (fixed, moving)],
                 "files": [stamp(path) for path in pair]}
    key = hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:20]
    return paths.cache_home() / "registered" / data.key / f"{patient}-{moving}-to-{fixed}-{key}"


def register_missing(data: Dataset, fixed: str, pairs: Sequence[tuple[str, str]], jobs: int | None = None) -> None:
    """Register what the cache does not have of `pairs`, (patient, moving modality) each, in `jobs` processes.

    jobs: default one a core. The results are those of `registered`, which then finds them. Raises LabError as it does.
    """
    import multiprocessing
    import os
    from concurrent.futures import ProcessPoolExecutor

    todo = [(p, m) for p, m in pairs if not _folder(data, p, m, fixed).is_dir()]
    if not todo:
        return
    needed()
    # spawned, not forked: a notebook's kernel has threads
    spawn, count = multiprocessing.get_context("spawn"), min(jobs or os.cpu_count() or 1, len(todo))
    with ProcessPoolExecutor(count, spawn) as pool:
        begun = [pool.submit(_keep, data, patient, moving, fixed) for patient, moving in todo]
        problems = [found for one in begun if (found := one.result())]
    if problems:
        raise LabError(problems[0])


def _keep(data: Dataset, patient: str, moving: str, fixed: str) -> str:
    """Register a pair in this process; returns what went wrong, or nothing."""
    try:
        registered(data, patient, moving, fixed)
    except LabError as error:
        return str(error)
    return ""


def _write(data: Dataset, patient: str, moving: str, fixed: str, folder: Path) -> None:
    target, image = (load_image(data, patient, m) for m in (fixed, moving))
    kinds = (data.modalities[fixed].kind, data.modalities[moving].kind)
    found = register(target, image, kinds, f"{data.key}, {patient}, {moving} to {fixed}")
    for name, array in (("image", found.image.array), ("cover", found.cover.astype(np.uint8))):
        save_nifti(folder / f"{name}.nii.gz", target.to_native(array), target.grid.affine)
    about = {"patient": patient, "fixed": fixed, "moving": moving, "convention": CONVENTION,
             "rotation_degrees": list(found.motion.degrees), "translation_mm": found.motion.translation.tolist(),
             "mutual_information": list(found.information), "seconds": round(found.seconds, 2)}
    files.write_json(folder / "transform.json", about)


def known_motion(data: Dataset, patient: str, moving: str, fixed: str) -> Rigid | None:
    """The motion that a phantom gave to one of the two images; None where nobody knows it."""
    truth = data.folder / "truth" / patient
    if data.access != "phantom" or not (truth / "motion.json").is_file():
        return None
    told = files.read_json(truth / "motion.json")
    displaced = [(truth / f"{m}.nii.gz").is_file() for m in (fixed, moving)]
    if "rotation_degrees" not in told or displaced[0] == displaced[1]:
        return None
    motion = rigid_of(told["rotation_degrees"], told["translation_mm"])
    return motion.inverse() if displaced[0] else motion


def registrations(
    data: Dataset, task: Task, watch: Watch = iter, names: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """One row a patient and moving modality of a task that registers, as `xmod-lab data register` shows it.

    Angles about x, y, z (degrees) and translation (mm), mutual information before and after, seconds it took; of
    phantoms the error: mean over the voxels of the fixed image's body (mm), and the angle of what remains (degrees),
    and the same of the images as they lie, ``before_``. `watch` wraps the list of (patient, moving modality), to show
    progress. names: of patients, default all. Raises LabError for a task that does not register, and as `registered`
    does.
    """
    fixed = task.register
    if fixed is None:
        raise LabError(f"a task that does not register: {task.title}", where=f"data set {data.key}",
                       mend=f"choose one of {', '.join(n for n, t in data.tasks.items() if t.register) or 'none'}")
    have = set(patients(data, fixed))
    if names is not None:
        have &= set(names)
    modalities = [m for m in dict.fromkeys([*task.modalities, *task.tested]) if m != fixed]
    pairs = [(p, m) for m in modalities for p in patients(data, m) if p in have]
    for patient, moving in watch(pairs):
        kept = registered(data, patient, moving, fixed)
        row = {"patient": patient, "moving": moving, "fixed": fixed}
        row |= dict(zip(("turn_x", "turn_y", "turn_z"), kept.motion.degrees, strict=True))
        row |= dict(zip(("shift_x", "shift_y", "shift_z"), kept.motion.translation.tolist(), strict=True))
        row |= dict(zip(("mi_before", "mi_after"), kept.about["mutual_information"], strict=True))
        row["seconds"] = kept.about["seconds"]
        if (true := known_motion(data, patient, moving, fixed)) is not None:
            points = body_points(load_image(data, patient, fixed), data.modalities[fixed].kind)
            row["error_mm"], row["error_degrees"] = registration_error(kept.motion, true, points)
            row["before_mm"], row["before_degrees"] = registration_error(AT_REST, true, points)
        yield row
