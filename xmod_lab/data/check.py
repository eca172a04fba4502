"""`xmod-lab data verify`: is a data set complete, readable and what the manifest says it is?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from xmod_lab.data.schema import Dataset
from xmod_lab.data.volume import Volume, file_of, load_image, load_structures, load_volume, patients
from xmod_lab.errors import LabError
from xmod_lab.files import sha256


@dataclass
class PatientReport:
    """What was found of one patient; `problems` are lines a reader can act on."""

    patient: str
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """modality -> stored shape, of the modalities that could be read"""
    spacing: tuple[float, float, float] | None = None
    voxels: dict[str, int] = field(default_factory=dict)
    """structure -> voxels, the largest over the modalities"""
    registered: bool = True
    """all modalities lie on one grid"""
    identity: bool = True
    """every affine is the identity, so the voxel size may be lost"""
    problems: list[str] = field(default_factory=list)


@dataclass
class Report:
    """`problems` concern the data set as a whole: modalities without files, checksums."""

    data: Dataset
    patients: list[PatientReport]
    problems: list[str]

    @property
    def all_problems(self) -> list[str]:
        return [*self.problems, *(problem for report in self.patients for problem in report.problems)]


def verify(data: Dataset, *, watch: Callable[[list[str]], Iterable[str]] = iter) -> Report:
    """Read every file of `data` and check hashes (where known), grids, label values, NaN and constant images.

    `watch` wraps the list of patients (a progress bar). Raises LabError only if there is nothing to look at.
    """
    problems = _files(data)
    present: dict[str, list[str]] = {}
    for modality in data.modalities:
        try:
            present[modality] = patients(data, modality)
        except LabError as error:
            problems.append(str(error))
    if not present:
        raise LabError(f"data set {data.key!r} has no files", where=data.folder, mend=how_to_get(data))
    names = list(dict.fromkeys(name for found in present.values() for name in found))
    reports = [_patient(data, name, [m for m, found in present.items() if name in found]) for name in watch(names)]
    return Report(data, reports, problems)


def how_to_get(data: Dataset) -> str:
    """What to do when the files are not there, in a few words."""
    return {
        "phantom": f"run `xmod-lab data make {data.key}`",
        "registration": f"`xmod-lab data info {data.key}` lists the steps to obtain it",
        "own": "is the disk mounted? the folder was named in user_manifest.yaml",
    }.get(data.access, f"run `xmod-lab data fetch {data.key}`")


def _files(data: Dataset) -> list[str]:
    """Problems with the files as downloaded; archives are gone once they are unpacked."""
    found = []
    for file in data.files:
        path = data.folder / file.path
        if file.unpack:
            continue
        if not path.is_file():
            found.append(str(LabError("file is missing", where=path, mend=how_to_get(data))))
        elif file.bytes is not None and path.stat().st_size != file.bytes:
            size = path.stat().st_size
            found.append(
                str(LabError(f"file has {size} bytes instead of {file.bytes}", where=path, mend=how_to_get(data)))
            )
        elif file.sha256 is not None and sha256(path) != file.sha256:
            found.append(str(LabError("checksum differs", where=path, mend="delete it and fetch it again")))
    return found


def _patient(data: Dataset, patient: str, modalities: list[str]) -> PatientReport:
    report = PatientReport(patient)
    first: Volume | None = None
    for modality in modalities:
        try:
            volume = load_image(data, patient, modality)
        except LabError as error:
            report.problems.append(str(error))
            continue
        report.shapes[modality] = volume.grid.shape
        report.spacing = report.spacing or volume.spacing
        report.identity &= bool((volume.grid.affine == np.eye(4)).all())
        if first is not None and not volume.grid.same_as(first.grid):
            report.registered = False
            if data.relation == "registered":
                what = f"{modality} grid {volume.grid.shape} differs from {first.path.name}'s {first.grid.shape}"
                report.problems.append(str(LabError(what, where=volume.path, mend="the manifest says `registered`")))
        told = first is not None and volume.grid.same_as(first.grid) and data.modalities[modality].label is None
        first = first or volume
        if told:  # the label all modalities share was read with the first one
            continue
        report.problems += _labels(data, patient, modality, volume, report.voxels)
    if first is not None and data.foreground:
        report.problems += _foreground(data, patient, first)
    return report


def _labels(data: Dataset, patient: str, modality: str, volume: Volume, voxels: dict[str, int]) -> list[str]:
    if data.label is None and data.modalities[modality].label is None:
        return []
    try:
        for structure, mask in load_structures(data, patient, modality, like=volume).items():
            voxels[structure] = max(voxels.get(structure, 0), int(mask.sum()))
    except LabError as error:
        return [str(error)]
    return []


def _foreground(data: Dataset, patient: str, image: Volume) -> list[str]:
    try:
        mask = load_volume(file_of(data, patient, data.foreground or ""), unit=data.unit, orientation=data.orientation)
    except LabError as error:
        return [str(error)]
    if mask.grid.shape != image.grid.shape:
        what = f"foreground grid {mask.grid.shape} differs from its image's {image.grid.shape}"
        return [str(LabError(what, where=mask.path, mend="resample it"))]
    return []
