"""`xmod-lab data add FOLDER`: a reader's own NIfTI folder becomes an entry of the user's manifest, without a copy.

Layouts that are recognised (``.nii`` alike):

    <patient>/<modality>.nii.gz    or <patient>/<patient>_<modality>.nii.gz, as BraTS
    <patient>_<modality>.nii.gz    all in one folder
    <modality>_<patient>.nii.gz    all in one folder, as image_1, label_1
    imagesTr/<patient>_0000.nii.gz with labelsTr/<patient>.nii.gz, as nnU-Net (names from dataset.json if there is one)
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from xmod_lab.data.check import Report, verify
from xmod_lab.data.manifest import add_entry, dataset, load_manifest, parse
from xmod_lab.data.schema import Dataset
from xmod_lab.data.volume import load_volume
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
FEW = 8
"""with fewer patients than this, a run is a demonstration"""
LAYOUTS = "see the layouts in the help of `xmod-lab data add`"


@dataclass(frozen=True)
class Found:
    """One name that recurs over the patients (a modality or a label): its pattern and the files by patient."""

    pattern: str
    files: dict[str, Path]


def add(
    folder: str | Path,
    *,
    key: str | None = None,
    label: str | None = None,
    kind: Literal["MR", "CT"] | None = None,
    like: str | None = None,
) -> tuple[Dataset, Report]:
    """Look at `folder`, check every file, and write an entry with one task into the user's manifest.

    `key` is the entry's name (default: the folder's), `label` the recurring name of the label file where it cannot be
    told, `kind` what all modalities are (default: CT where the name or the values say so), `like` an entry whose
    layout, label map and tasks are taken over. Returns the entry and what verification found. Raises LabError if the
    layout is not recognised, the label is not clear, or any file is bad; nothing is written then.
    """
    place = Path(folder).expanduser().resolve()
    if not place.is_dir():
        raise LabError("the folder is missing", where=place, mend="name the folder that holds the NIfTI files")
    key = key or re.sub(r"[^a-z0-9_-]+", "_", place.name.lower()).strip("_-")
    if key in load_manifest():
        raise LabError(f"the key {key!r} is taken", mend="choose another with --key")
    entry = _taken_over(like) if like else _described(place, label, kind)
    entry |= {"title": f"{key}: own data", "access": "own", "location": str(place)}
    data = parse_entry(key, entry)
    report = verify(data)
    if problems := report.all_problems:
        more = f"; {len(problems)} problems in all" if len(problems) > 1 else ""
        raise LabError(f"not added, {problems[0]}{more}")
    if not like:
        _refine(entry, report)
    return add_entry(key, entry), report


def parse_entry(key: str, entry: dict[str, Any]) -> Dataset:
    """The entry as the user's manifest would hold it, checked."""
    import yaml

    return parse(yaml.safe_dump({key: entry}), "the new entry", own=True)[key]


def _taken_over(like: str) -> dict[str, Any]:
    entry = dataset(like).model_dump(mode="json", exclude_defaults=True)
    return {
        name: value
        for name, value in entry.items()
        if name not in ("key", "steps", "files", "parts", "phantom", "convert", "location", "demonstration")
    }


def _described(place: Path, label: str | None, kind: Literal["MR", "CT"] | None) -> dict[str, Any]:
    found, names = _look(place)
    labels = _label_names(found, label, place)
    images = {name: item for name, item in found.items() if name not in labels}
    if not images:
        raise LabError("only label files were found, no image", where=place, mend=LAYOUTS)
    modalities: dict[str, dict[str, Any]] = {
        _plain(name): {"kind": kind or _kind(name, item), "pattern": item.pattern} for name, item in images.items()
    }
    entry: dict[str, Any] = {"licence": "not stated", "citation": "not stated", "homepage": ""}
    entry |= {"relation": "same_subject", "modalities": modalities}
    owners = _owners(labels, list(images), place)
    stored = {name: _values(found[name]) for name in owners.values()}
    binary = set.union(*stored.values()) == {1}
    named = {
        name: {value: names.get(value, "label" if binary else f"label_{value}") for value in sorted(values)}
        for name, values in stored.items()
    }
    for owner, name in owners.items():
        labelled = modalities[_plain(owner)] if owner else entry
        labelled["label"] = {"pattern": found[name].pattern, "values": named[name]}
    common = set.intersection(*(set(values.values()) for values in named.values()))
    if not common:
        raise LabError("the modalities' labels have no structure in common", where=place, mend="add them one by one")
    entry["tasks"] = {
        "all": {
            "title": "every structure in every modality",
            "default": True,
            "labelled": list(modalities),
            "tested": list(modalities),
            "classes": {name: [name] for name in sorted(common)},
            "recipe": "chaos",
            "one_modality_per_patient": False,
        }
    }
    return entry


def _refine(entry: dict[str, Any], report: Report) -> None:
    """Fill in what only the files tell: relation, unit, number of folds."""
    count, several = len(report.patients), any(len(p.shapes) > 1 for p in report.patients)
    entry["relation"] = (
        "independent"
        if not several
        else ("registered" if all(p.registered for p in report.patients) else "same_subject")
    )
    if all(p.identity for p in report.patients):
        entry["unit"] = "voxel"
    entry["demonstration"] = count < FEW
    task = entry["tasks"]["all"]
    task["one_modality_per_patient"] = several and count >= FEW
    task["split"] = {"folds": max(2, min(4, count)), "val": 0.1 if count >= FEW else 0.0}


def _look(place: Path) -> tuple[dict[str, Found], dict[int, str]]:
    """The recurring names with their files, and the names of label values where a dataset.json gives them."""
    if (place / "imagesTr").is_dir():
        return _nnunet(place)
    flat = _images(place)
    if flat:
        return _flat(flat), {}
    found: dict[str, Found] = {}
    for patient in sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith(".")):
        for path in _images(patient):
            stem, suffix = _stem(path)
            prefix = f"{patient.name}_" if stem.startswith(f"{patient.name}_") else ""
            pattern = "{patient}/" + ("{patient}_" if prefix else "") + stem.removeprefix(prefix) + suffix
            item = found.setdefault(stem.removeprefix(prefix), Found(pattern, {}))
            if item.pattern != pattern:
                raise LabError(f"{path.name} is named unlike {item.pattern}", where=patient, mend=LAYOUTS)
            item.files[patient.name] = path
    if not found:
        raise LabError("no NIfTI files in a layout that is known", where=place, mend=LAYOUTS)
    return found, {}


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
        found.setdefault(name, Found(pattern, {})).files[match[1]] = path
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


def _label_names(found: dict[str, Found], label: str | None, place: Path) -> list[str]:
    if label:
        if label not in found:
            raise LabError(
                f"no file is called {label!r}", where=place, mend=f"the names are {', '.join(sorted(found))}"
            )
        return [label]
    names = [name for name in found if LABEL_WORDS & set(re.split(r"[_\-.\s]+", name.lower()))]
    if not names:
        raise LabError(
            "no label file was found",
            where=place,
            mend=f"name it with --label; the names are {', '.join(sorted(found))}",
        )
    return names


def _owners(labels: list[str], modalities: list[str], place: Path) -> dict[str, str]:
    """Modality (or '' for all) -> label name: one label for all, or ``<modality>_label`` for each."""
    if len(labels) == 1:
        return {"": labels[0]}
    owners = {m: [name for name in labels if name.lower().startswith(f"{m.lower()}_")] for m in modalities}
    if sorted(name for names in owners.values() for name in names) != sorted(labels) or any(
        len(names) != 1 for names in owners.values()
    ):
        several = ", ".join(labels)
        raise LabError(f"several files may be the label: {several}", where=place, mend="name one with --label")
    return {modality: names[0] for modality, names in owners.items()}


def _plain(name: str) -> str:
    """A file's modality as a name in the manifest: ``t1+c`` becomes ``t1_c``, as + joins modalities."""
    return re.sub(r"[^\w-]+", "_", name).strip("_-") or "image"


def _kind(name: str, item: Found) -> str:
    if "ct" in re.split(r"[_\-.\s]+", name.lower()):
        return "CT"
    lowest = float(np.min(load_volume(next(iter(item.files.values()))).array))
    return "CT" if lowest <= -500 else "MR"  # air is -1000 HU; no MR magnitude goes there


def _values(item: Found) -> set[int]:
    """The values other than 0 over all label files."""
    values: set[int] = set()
    for path in item.files.values():
        array = load_volume(path).array
        rounded = np.rint(array)
        if not np.allclose(array, rounded, atol=1e-3):
            raise LabError(
                "label holds values that are not whole numbers",
                where=path,
                mend="was it interpolated, or is it an image? name the label with --label",
            )
        values |= {int(value) for value in np.unique(rounded)}
    values.discard(0)
    if not values or len(values) > 255:
        raise LabError(
            f"label files hold {len(values)} values beside 0",
            where=next(iter(item.files.values())).parent,
            mend="name the label with --label",
        )
    return values
