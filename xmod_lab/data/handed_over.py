"""A known data set's patients as a clinic would hand them over: other names, series numbers, a legend in a text file.

What a reader's own folder looks like, to try `xmod-lab data add` on. Voxels and headers are those of the originals.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from xmod_lab.data.schema import Dataset
from xmod_lab.data.volume import file_of, label_paths, patients
from xmod_lab.errors import LabError
from xmod_lab.files import atomic_folder, read_json, write_json
from xmod_lab.rng import numpy_rng

LEGEND = "LEGEND.txt"
LABEL = "ROI"
MADE_OF = "made_of.json"


def hand_over(data: Dataset, folder: str | Path, names: Mapping[str, str], *, most: int | None = None) -> Path:
    """Copy up to `most` patients of `data` to ``<folder>/PAT-<n>/PAT-<n>_<series>_<name>.nii.gz``, once, and return it.

    names: what the clinic calls each modality; others stay behind. The label, which all of them share, is called LABEL;
    the file LEGEND has a line ``value = structure`` for each of its values. A folder that was made of the same, as its
    file MADE_OF says, stays as it is; one made of anything else is made anew. Raises LabError if a modality is unknown,
    has no files, or has labels of its own, a patient has no label, or the folder is somebody else's.
    """
    folder, made_of = Path(folder), {"data set": data.key, "names": dict(names), "most": most}
    if folder.is_dir() and not (folder / MADE_OF).is_file():
        raise LabError("the folder was not made here", where=folder, mend="name another, or delete it")
    if folder.is_dir() and read_json(folder / MADE_OF) == made_of:
        return folder
    if unknown := sorted(set(names) - set(data.modalities)):
        raise LabError(f"data set {data.key!r} has no modality {unknown[0]!r}")
    if data.label is None or data.label.masks or any(data.modalities[m].label for m in names):
        raise LabError(f"data set {data.key!r} has no label file that all its modalities share")
    have = {modality: patients(data, modality) for modality in names}
    chosen = sorted({name for found in have.values() for name in found})[:most]
    rng = numpy_rng("handed over", data.key)
    with atomic_folder(folder) as temporary:
        for number, patient in enumerate(chosen, start=1):
            mine = f"PAT-{number:03d}"
            (temporary / mine).mkdir()
            own = [m for m in names if patient in have[m]]
            files = {names[m]: file_of(data, patient, data.modalities[m].pattern) for m in own}
            files[LABEL] = label_paths(data, patient, own[0])[0]
            if not files[LABEL].is_file():
                raise LabError(f"patient {patient!r} has no label", where=files[LABEL], mend="choose another data set")
            series = sorted(rng.choice(range(2, 30), len(files), replace=False))  # as the scanner numbers them
            for (name, path), count in zip(files.items(), series, strict=True):
                suffix = ".nii.gz" if path.name.endswith(".nii.gz") else path.suffix
                shutil.copyfile(path, temporary / mine / f"{mine}_{count}_{name}{suffix}")
        lines = [f"{value} = {name}" for value, name in sorted(data.label.values.items()) if value != 0]
        (temporary / LEGEND).write_text("\n".join(lines) + "\n", encoding="utf-8")
        write_json(temporary / MADE_OF, made_of)
        if folder.is_dir():
            shutil.rmtree(folder)
    return folder
