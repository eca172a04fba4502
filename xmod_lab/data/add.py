"""`xmod-lab data add FOLDER`: a reader's own NIfTI folder becomes an entry of the user's manifest, without a copy.

`add_layouts` says which layouts are recognised. `described` looks and writes nothing, so that an entry can be corrected
before it is kept (`manifest.add_entry`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import numpy as np

from xmod_lab.data.add_layouts import LABEL_WORDS, LAYOUTS, Found, look
from xmod_lab.data.check import Report, verify
from xmod_lab.data.manifest import add_entry, dataset, load_manifest, parse
from xmod_lab.data.schema import Dataset
from xmod_lab.data.volume import load_volume
from xmod_lab.errors import LabError

FEW = 8
"""with fewer patients than this, a run is a demonstration"""


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
    key = key or re.sub(r"[^a-z0-9_-]+", "_", Path(folder).expanduser().resolve().name.lower()).strip("_-")
    if key in load_manifest():
        raise LabError(f"the key {key!r} is taken", mend="choose another key, as with --key")
    entry, report = described(folder, key, label=label, kind=kind, like=like)
    return add_entry(key, entry), report


def described(
    folder: str | Path,
    key: str,
    *,
    label: str | None = None,
    kind: Literal["MR", "CT"] | None = None,
    like: str | None = None,
) -> tuple[dict[str, Any], Report]:
    """The entry that `add` would write, and what verification found; nothing is written. Raises LabError as `add`."""
    place = Path(folder).expanduser().resolve()
    if not place.is_dir():
        raise LabError("the folder is missing", where=place, mend="name the folder that holds the NIfTI files")
    entry = _taken_over(like) if like else _described(place, label, kind)
    entry |= {"title": f"{key}: own data", "access": "own", "location": str(place)}
    report = verify(parse_entry(key, entry))
    if problems := report.all_problems:
        more = f"; {len(problems)} problems in all" if len(problems) > 1 else ""
        raise LabError(f"not added, {problems[0]}{more}")
    if not like:
        _refine(entry, report)
    return entry, report


def parse_entry(key: str, entry: dict[str, Any]) -> Dataset:
    """The entry as the user's manifest would hold it, checked."""
    import yaml

    return parse(yaml.safe_dump({key: entry}, sort_keys=False), "the new entry", own=True)[key]


def _taken_over(like: str) -> dict[str, Any]:
    entry = dataset(like).model_dump(mode="json", exclude_defaults=True)
    return {
        name: value
        for name, value in entry.items()
        if name not in ("key", "steps", "files", "parts", "phantom", "convert", "location", "demonstration")
    }


def _described(place: Path, label: str | None, kind: Literal["MR", "CT"] | None) -> dict[str, Any]:
    found, names = look(place)
    labels = _label_names(found, label, place)
    images = {name: item for name, item in found.items() if name not in labels}
    if not images:
        raise LabError("only label files were found, no image", where=place, mend=LAYOUTS)
    modalities: dict[str, dict[str, Any]] = {
        _plain(name): {"kind": kind or _kind(name, item), "pattern": item.pattern} for name, item in images.items()
    }
    if len(modalities) < len(images):
        several = ", ".join(sorted(images))
        raise LabError(f"two of the names {several} differ in signs only", where=place, mend="rename the files")
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
