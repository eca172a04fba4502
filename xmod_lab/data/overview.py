"""What to look at before training: sizes, greys and volumes by patient, and files that two patients share."""

from __future__ import annotations

from typing import Any

import numpy as np

from xmod_lab.data.check import Report
from xmod_lab.data.schema import Dataset
from xmod_lab.data.volume import file_of, load_image, patients
from xmod_lab.files import sha256


def overview(report: Report) -> list[dict[str, Any]]:
    """A row a patient: shape and voxel size of the first modality, what the middle 98 % of each modality's voxels span,
    and how large each structure is: ml, or voxels where the voxel size was lost. A mean of patients hides the odd one.
    """
    data, rows = report.data, []
    for found in report.patients:
        row: dict[str, Any] = {"patient": found.patient}
        if found.spacing is not None:
            row["shape"] = " x ".join(map(str, next(iter(found.shapes.values()))))
            row[f"voxel [{data.unit}]"] = " x ".join(f"{step:.3g}" for step in found.spacing)
        for modality in found.shapes:
            low, high = np.percentile(load_image(data, found.patient, modality).array, (1, 99))
            row[f"{modality}, 1 to 99 %"] = f"{low:.4g} to {high:.4g}"
        known = data.unit == "mm" and found.spacing is not None
        each = float(np.prod(found.spacing or 1)) / 1000 if known else 1
        for name, count in found.voxels.items():
            row[f"{name} [{'ml' if known else 'voxels'}]"] = count * each
        rows.append(row)
    return rows


def repeated(data: Dataset) -> list[tuple[str, ...]]:
    """Groups of patients whose image files have the same bytes: one person under several names, who must not be split
    between training and test. A person scanned twice is not found. Raises LabError if a modality has no files."""
    owners: dict[str, set[str]] = {}
    for modality, about in data.modalities.items():
        for patient in patients(data, modality):
            owners.setdefault(sha256(file_of(data, patient, about.pattern)), set()).add(patient)
    return sorted({tuple(sorted(names)) for names in owners.values() if len(names) > 1})
