"""Score a folder of NIfTI masks that anybody made, against a folder of true masks or the labels of a data set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xmod_lab.data.manifest import Dataset
from xmod_lab.data.volume import Grid, Volume, label_paths, load_structures, load_volume
from xmod_lab.errors import LabError
from xmod_lab.evaluate.masks import METRICS, Missing, score_mask

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".nii.gz", ".nii")


def evaluate_folder(
    predictions: str | Path,
    truth: str | Path | None = None,
    *,
    data: Dataset | None = None,
    modality: str | None = None,
    task: str | None = None,
    classes: Mapping[str, Sequence[int]] | None = None,
    stored_values: bool = False,
    missing: Missing = "diagonal",
    cap: float = 50.0,
    out: str | Path | None = None,
) -> pd.DataFrame:
    """Score every patient's mask in `predictions`: one row a patient and structure, distances in the unit of its row.

    Layout of either folder, by patient name: ``<patient>.nii.gz`` (or .nii), or a folder ``<patient>/`` with one label
    map of any name, or with one binary mask a structure, named ``<structure>.nii.gz``.

    The truth is one of two:

    * a folder `truth` with the same patient names, each of which needs a prediction (an empty one where nothing was
      found: leaving a patient out would hide a miss). Structures are `classes` (name -> label values, unions allowed),
      by default every value that occurs in the truth, under its own number;
    * a data set `data`: its labels of `modality` (default: the first that `task` tests). Structures are the task's
      classes and regions. Predictions hold the task's class numbers 1, 2, ... in its order or, with `stored_values`,
      the label values of the data set's own files. Patients of the data set without a prediction are left out: it is
      up to the reader to predict the whole test split.

    `missing`, `cap`: the rule where only one of the masks has a structure, see `score_mask`. `out`: also write the rows
    (.csv) or their summary (.md, .tex) there.

    Columns: patient, modality, structure, region (True for a union), the metrics, missing, unit (mm or voxel). Raises
    LabError if there are no files, a counterpart is absent, grids differ, a label value is unknown, or a file is
    broken.
    """
    import pandas as pd

    from xmod_lab.evaluate.tables import export, summarise

    if (truth is None) == (data is None):
        raise LabError("give either a folder of true masks or a data set", mend="--truth FOLDER or --dataset KEY")
    files = find_masks(predictions)
    if data is not None:
        cases = _against_dataset(files, data, modality, task, stored_values)
    else:
        cases = _against_folder(files, find_masks(str(truth)), classes, modality or "")
    rows = []
    for case in cases:
        for name, (ours, theirs) in case.masks.items():
            rows.append(
                {"patient": case.patient, "modality": case.modality, "structure": name, "region": name in case.regions}
                | score_mask(ours, theirs, case.like.spacing, missing=missing, cap=cap)
                | {"unit": case.like.unit}
            )
    table = pd.DataFrame(rows, columns=["patient", "modality", "structure", "region", *METRICS, "missing", "unit"])
    if out is not None:
        export(table if Path(out).suffix == ".csv" else summarise(table), out)
    return table


def find_masks(folder: str | Path) -> dict[str, list[Path]]:
    """Patient -> files, in either layout of `evaluate_folder`, sorted. Raises LabError if there are none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise LabError("no such folder", where=folder, mend="name a folder of NIfTI masks")
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        masks = [p for p in inside if p.name.endswith(SUFFIXES) and not p.name.startswith(".")]
        patient = path.name if path.is_dir() else _stem(path)
        if masks and patient in found:
            raise LabError(f"patient {patient!r} has two entries", where=path, mend="keep one of them")
        if masks:
            found[patient] = masks
    if not found:
        raise LabError("no NIfTI masks", where=folder, mend="expected <patient>.nii.gz or <patient>/*.nii.gz")
    return found


@dataclass(frozen=True)
class _Case:
    """One patient: structure -> (prediction, truth), on the grid of `like`."""

    patient: str
    modality: str
    like: Volume
    masks: dict[str, tuple[np.ndarray, np.ndarray]]
    regions: frozenset[str] = frozenset()


def _against_folder(files: dict[str, list[Path]], truths: dict[str, list[Path]],
                    classes: Mapping[str, Sequence[int]] | None, modality: str) -> Iterator[_Case]:
    _same_names(files, truths)
    layouts = {len(paths) > 1 for paths in truths.values()}
    if len(layouts) > 1:
        raise LabError("label maps and one mask a structure are mixed", where=next(iter(truths.values()))[0].parent,
                       mend="keep one layout for all patients")
    wanted = {name: list(values) for name, values in classes.items()} if classes else None
    if wanted is None:
        wanted = _found_structures(truths, binary=layouts == {True})
    for patient, paths in truths.items():
        like, theirs = _structures(paths, wanted, binary=layouts == {True})
        _, ours = _structures(files[patient], wanted, like=like)
        yield _Case(patient, modality, like, {name: (ours[name], theirs[name]) for name in wanted})


def _found_structures(truths: dict[str, list[Path]], binary: bool) -> dict[str, list[int]]:
    if binary:
        names = sorted({_stem(path) for paths in truths.values() for path in paths})
        return {name: [i] for i, name in enumerate(names, start=1)}
    values = sorted({int(v) for paths in truths.values() for v in np.unique(_label_map(load_volume(paths[0])))} - {0})
    if not values:
        raise LabError("every true mask is empty", where=next(iter(truths.values()))[0].parent,
                       mend="name the structures with classes=...")
    return {str(value): [value] for value in values}


def _against_dataset(files: dict[str, list[Path]], data: Dataset, modality: str | None, task: str | None,
                     stored_values: bool) -> Iterator[_Case]:
    from xmod_lab.data.volume import patients

    chosen = data.task(task)
    modality = modality or chosen.tested[0]
    if any(part not in data.modalities for part in modality.split("+")):
        raise LabError(f"data set {data.key!r} has no modality {modality!r}",
                       mend=f"it has {', '.join(data.modalities)}")
    known = patients(data, modality)
    for patient, paths in files.items():
        if patient not in known:
            raise LabError(f"data set {data.key!r} has no patient {patient!r} with {modality}", where=paths[0],
                           mend=f"its patients are named like {known[0]!r}")
    values = {name: [index] for index, name in enumerate(chosen.classes, start=1)}
    if stored_values:
        stored = data.label_of(modality).values
        if not stored:
            raise LabError(f"data set {data.key!r} keeps one mask a structure and has no label values",
                           mend="number the classes 1, 2, ... in the task's order")
        values = {name: [v for v, s in stored.items() if s in members] for name, members in chosen.classes.items()}
        spare = sorted(set(stored) - {0} - {v for group in values.values() for v in group})
    else:
        spare = []
    for patient, paths in files.items():
        own = load_structures(data, patient, modality)
        label = label_paths(data, patient, modality)[0]
        like, ours = _structures(paths, values, unit=data.unit, orientation=data.orientation, grid_of=label,
                                 spare=spare)
        empty = np.zeros(like.array.shape, dtype=bool)
        theirs = {name: _union([own[s] for s in group if s in own], empty) for name, group in chosen.classes.items()}
        masks = {name: (ours[name], theirs[name]) for name in chosen.classes}
        for region, members in chosen.regions.items():
            masks[region] = (_union([ours[m] for m in members], empty), _union([theirs[m] for m in members], empty))
        yield _Case(patient, modality, like, masks, frozenset(chosen.regions))


def _union(masks: list[np.ndarray], empty: np.ndarray) -> np.ndarray:
    return np.logical_or.reduce([empty, *masks])


def _structures(paths: list[Path], wanted: Mapping[str, Sequence[int]], *, like: Volume | None = None,
                grid_of: Path | None = None, unit: str = "mm", orientation: str | None = None,
                spare: Sequence[int] = (), binary: bool = False) -> tuple[Volume, dict[str, np.ndarray]]:
    """The first file's volume and the mask of every wanted structure; all files on the grid of `like` or `grid_of`.

    One file is a label map, unless it is named as a structure or the layout is `binary`: then it is that structure's
    mask, and what has no file is empty.
    """
    volumes = [load_volume(path, unit=unit, orientation=orientation) for path in paths]
    expected, source = volumes[0].grid, paths[0]
    if like is not None:
        expected, source = like.grid, like.path
    elif grid_of is not None:
        expected, source = _grid(grid_of), grid_of
    for volume in volumes:
        if not volume.grid.same_as(expected):
            raise LabError(f"grid {volume.grid.shape} differs from its truth's {expected.shape}"
                           + ("" if volume.grid.shape != expected.shape else " in the affine"),
                           where=volume.path, mend=f"bring it to the grid of {source.name}")
    if len(volumes) == 1 and not binary and _stem(paths[0]) not in wanted:
        labels = _label_map(volumes[0])
        known = {0, *spare, *(value for group in wanted.values() for value in group)}
        if unknown := sorted(set(np.unique(labels).tolist()) - known):
            meaning = ", ".join(f"{'/'.join(map(str, group))} {name}" for name, group in wanted.items())
            raise LabError(f"label value {unknown[0]} is unknown", where=paths[0], mend=f"known are {meaning}")
        return volumes[0], {name: np.isin(labels, list(group)) for name, group in wanted.items()}
    found = {name: np.zeros(volumes[0].array.shape, dtype=bool) for name in wanted}
    for path, volume in zip(paths, volumes, strict=True):
        if _stem(path) not in found:
            raise LabError(f"no structure {_stem(path)!r}", where=path, mend=f"known are {', '.join(wanted)}")
        found[_stem(path)] = _label_map(volume) > 0
    return volumes[0], found


def _label_map(volume: Volume) -> np.ndarray:
    """Integer labels of a mask file; masks stored as floats (0.99999997) are common."""
    rounded = np.rint(volume.array)
    if not np.allclose(volume.array, rounded, atol=1e-3):
        raise LabError("mask holds values that are not whole numbers", where=volume.path,
                       mend="store labels, not probabilities; resample with nearest")
    return rounded.astype(np.int64)


def _grid(path: Path) -> Grid:
    """The grid of a file that has been read before, from its header alone."""
    import nibabel as nib

    image: Any = nib.load(path)
    x, y, z = image.shape[:3]
    return Grid((int(x), int(y), int(z)), np.asarray(image.affine, dtype=float), np.empty((3, 2)))


def _same_names(files: dict[str, list[Path]], truths: dict[str, list[Path]]) -> None:
    for patient, paths in files.items():
        if patient not in truths:
            raise LabError(f"no true mask for patient {patient!r}", where=paths[0],
                           mend=f"the truth has {', '.join(list(truths)[:3])} ...")
    for patient, paths in truths.items():
        if patient not in files:
            raise LabError(f"no prediction for patient {patient!r}", where=paths[0],
                           mend="write an empty mask where nothing was found, or take the truth away")


def _stem(path: Path) -> str:
    return next(path.name.removesuffix(suffix) for suffix in SUFFIXES if path.name.endswith(suffix))
