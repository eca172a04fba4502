"""Folders of NIfTI files as readers have them: which name recurs over the patients, and what is whose.

Layouts that are recognised (``.nii`` alike):

    <patient>/<modality>.nii.gz    or <patient>/<patient>_<modality>.nii.gz, as BraTS; a series number in front, a date
                                   or time anywhere may differ, as converters from DICOM write them
    <patient>_<modality>.nii.gz    all in one folder
    <modality>_<patient>.nii.gz    all in one folder, as image_1, label_1
    imagesTr/<patient>_0000.nii.gz with labelsTr/<patient>.nii.gz, as nnU-Net (names from dataset.json if there is one)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from xmod_lab.errors import LabError
from xmod_lab.files import read_json

LABEL_WORDS = {
    "seg",
    "segmentation",
    "mask",
    "label",
    "labels",
    "gt",
    "groundtruth",
    "lesion",
    "lesions",
    "manual",
    "annotation",
    "annotations",
    "roi",
}
LONG = 6
"""a number of so many digits is a date, a time or an identifier"""
LAYOUTS = "see the layouts in the help of `xmod-lab data add`"


@dataclass(frozen=True)
class Found:
    """One name that recurs over the patients (a modality or a label): its pattern and the files by patient."""

    pattern: str
    files: dict[str, Path]


def look(place: Path) -> tuple[dict[str, Found], dict[int, str]]:
    """The recurring names with their files, and the names of label values where a dataset.json gives them."""
    if (place / "imagesTr").is_dir():
        return _nnunet(place)
    flat = _images(place)
    if flat:
        return _flat(flat), {}
    return _by_patient(place), {}


def _by_patient(place: Path) -> dict[str, Found]:
    """A folder a patient. Series numbers and times that differ between patients become ``*``."""
    files = []
    for patient in sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith(".")):
        for path in _images(patient):
            stem, suffix = _stem(path)
            prefix = f"{patient.name}_" if stem.startswith(f"{patient.name}_") else ""
            files.append((path, patient, prefix, stem.removeprefix(prefix), suffix))
    if not files:
        raise LabError("no NIfTI files in a layout that is known", where=place, mend=LAYOUTS)
    names = _recurring({path: name for path, _, _, name, _ in files})
    found: dict[str, Found] = {}
    for path, patient, prefix, _, suffix in files:
        pattern = "{patient}/" + ("{patient}_" if prefix else "") + names[path] + suffix
        item = found.setdefault(re.sub(r"_\*|\*_", "", names[path]), Found(pattern, {}))
        if item.pattern != pattern:
            raise LabError(f"{path.name} is named unlike {item.pattern}", where=patient, mend=LAYOUTS)
        item.files[patient.name] = path
    return found


def _recurring(names: Mapping[Path, str]) -> dict[Path, str]:
    """Names by file, starred if that makes names of several patients one.

    A patient may have two such files. If he has all numbers there are, they tell modalities apart and stay, else
    nobody can say which of the two is meant. Raises LabError then.
    """
    alike: dict[str, list[Path]] = {}
    for path, name in names.items():
        alike.setdefault(_starred(name), []).append(path)
    if len(alike) == len({*names.values()}):
        return dict(names)
    found: dict[Path, str] = {}
    for star, paths in alike.items():
        by_patient: dict[Path, list[Path]] = {}
        for path in paths:
            by_patient.setdefault(path.parent, []).append(path)
        patient, most = max(by_patient.items(), key=lambda item: len(item[1]))
        all_there = {names[path] for path in most} == {names[path] for path in paths}
        if len(most) > 1 and not all_there:
            several = ", ".join(path.name for path in most)
            raise LabError(
                f"{len(most)} files of patient {patient.name!r} may be {star}: {several}",
                where=patient,
                mend="move all but one out of the folder, or rename them",
            )
        found |= {path: names[path] if len(most) > 1 else star for path in paths}
    return found


def _starred(name: str) -> str:
    """``4_AX_T1_20310405`` as ``*_AX_T1_*``: a series number in front, dates and times. Short numbers elsewhere, as the
    b-value of ``dwi_1000``, say what an image is; they stay, as does what is a number and nothing else."""
    split = enumerate(name.split("_"))
    parts = ["*" if part.isdecimal() and (i == 0 or len(part) >= LONG) else part for i, part in split]
    kept = [part for i, part in enumerate(parts) if part != "*" or parts[i - 1 : i] != ["*"]]
    return name if kept == ["*"] else "_".join(kept)


def _nnunet(place: Path) -> tuple[dict[str, Found], dict[int, str]]:
    info = read_json(place / "dataset.json") if (place / "dataset.json").is_file() else {}
    channels = info.get("channel_names") or info.get("modality") or {}
    names = {
        int(value): re.sub(r"\W+", "_", name)
        for name, value in (info.get("labels") or {}).items()
        if isinstance(value, int) and value != 0
    }
    found: dict[str, Found] = {}
    for path in _images(place / "imagesTr"):
        stem, suffix = _stem(path)
        if not (match := re.fullmatch(r"(.+)_(\d{4})", stem)):
            raise LabError("name does not end in a channel number such as _0000", where=path, mend=LAYOUTS)
        name = re.sub(r"\W+", "_", str(channels.get(str(int(match[2])), f"channel{int(match[2])}")))
        pattern = f"imagesTr/{{patient}}_{match[2]}{suffix}"
        item = found.setdefault(name, Found(pattern, {}))
        if item.pattern != pattern:
            both = " and ".join(one.replace("{patient}", "*") for one in (item.pattern, pattern))
            mend = "give each channel one name and all files one suffix"
            raise LabError(f"{both} are both called {name!r}", where=place, mend=mend)
        item.files[match[1]] = path
    labels = {_stem(path)[0]: path for path in _images(place / "labelsTr")} if (place / "labelsTr").is_dir() else {}
    if labels:
        found["label"] = Found("labelsTr/{patient}" + _stem(next(iter(labels.values())))[1], labels)
    if not found:
        raise LabError("imagesTr holds no NIfTI files", where=place, mend=LAYOUTS)
    return found, names


def _flat(paths: list[Path]) -> dict[str, Found]:
    parts = []
    for path in paths:
        stem, suffix = _stem(path)
        if "_" not in stem:
            raise LabError("name has no '_' between patient and modality", where=path, mend=LAYOUTS)
        parts.append((path, stem, suffix))
    first = {stem.split("_", 1)[0] for _, stem, _ in parts}
    last = {stem.rsplit("_", 1)[1] for _, stem, _ in parts}
    found: dict[str, Found] = {}
    # the modality is named on the side where a label word stands, else on the side that varies less
    leading = bool(LABEL_WORDS & first) if LABEL_WORDS & (first | last) else len(first) < len(last)
    for path, stem, suffix in parts:
        if leading:
            name, patient = stem.split("_", 1)
            pattern = f"{name}_{{patient}}{suffix}"
        else:
            patient, name = stem.rsplit("_", 1)
            pattern = f"{{patient}}_{name}{suffix}"
        found.setdefault(name, Found(pattern, {})).files[patient] = path
    return found


def _images(folder: Path) -> list[Path]:
    return sorted(
        path for path in folder.iterdir() if path.name.endswith((".nii", ".nii.gz")) and not path.name.startswith(".")
    )


def _stem(path: Path) -> tuple[str, str]:
    suffix = ".nii.gz" if path.name.endswith(".nii.gz") else ".nii"
    return path.name.removesuffix(suffix), suffix
