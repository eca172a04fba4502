"""CHAOS 2019: DICOM series with PNG labels, made into NIfTI.

The archive holds ``Train_Sets/MR/<n>/{T1DUAL,T2SPIR}/{DICOM_anon,Ground}`` (T1DUAL's DICOM_anon in InPhase and
OutPhase) and ``Train_Sets/CT/<n>/{DICOM_anon,Ground}``. A PNG belongs to the DICOM file at the same place in the order
of names. MR labels are grey values around 63 liver, 126 right kidney, 189 left kidney, 252 spleen (the ranges are the
challenge's own); CT labels are liver wherever they are not 0. Kavur et al., Medical Image Analysis 69, 2021.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from xmod_lab.data.convert.dicom import read_series
from xmod_lab.data.volume import save_nifti
from xmod_lab.errors import LabError
from xmod_lab.files import atomic_folder

MR_RANGES = {1: (56, 69), 2: (111, 134), 3: (176, 199), 4: (241, 254)}
"""stored label -> grey values of the PNG, both ends included"""


def convert_chaos(source: Path, folder: Path, say: Callable[[str], None]) -> int:
    """Write ``MR_<n>/{t1,t2}[_label].nii.gz`` (T1 is the in-phase image) and ``CT_<n>/ct[_label].nii.gz``."""
    written = 0
    for kind, patient in _patients(source):
        target = folder / f"{kind}_{patient.name}"
        if target.exists():
            continue
        with atomic_folder(target) as temporary:
            parts = {"ct": patient} if kind == "CT" else {"t1": patient / "T1DUAL", "t2": patient / "T2SPIR"}
            for name, place in parts.items():
                image, label, affine = read_pair(place, ct=kind == "CT")
                save_nifti(temporary / f"{name}.nii.gz", image, affine)
                save_nifti(temporary / f"{name}_label.nii.gz", label, affine)
        say(f"chaos: {target.name}")
        written += 1
    return written


def convert_chaos_t2(source: Path, folder: Path, say: Callable[[str], None]) -> int:
    """Write T2-SPIR alone as ``image_<n>.nii.gz`` and ``label_<n>.nii.gz``."""
    written = 0
    for kind, patient in _patients(source):
        image_file = folder / f"image_{patient.name}.nii.gz"
        if kind == "CT" or image_file.exists():
            continue
        image, label, affine = read_pair(patient / "T2SPIR", ct=False)
        save_nifti(folder / f"label_{patient.name}.nii.gz", label, affine)
        save_nifti(image_file, image, affine)  # last, since its presence says that the patient is complete
        say(f"chaos_t2: {image_file.name}")
        written += 1
    return written


def read_pair(place: Path, *, ct: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image (columns, rows, slices), label of the same shape (uint8), affine, of one ``DICOM_anon``/``Ground`` pair."""
    series = place / "DICOM_anon"
    if (series / "InPhase").is_dir():
        series /= "InPhase"
    images = sorted(series.glob("*.dcm"), key=_by_number)
    labels = sorted((place / "Ground").glob("*.png"), key=_by_number)
    if not images or len(images) != len(labels):
        raise LabError(
            f"{len(images)} DICOM files and {len(labels)} PNG labels",
            where=place,
            mend="there must be one label per slice; unpack the training set again",
        )
    label_of = dict(zip(images, labels, strict=True))
    array, affine, order = read_series(images)
    label = np.stack([_read_label(label_of[path], ct).T for path in order], axis=2)
    if label.shape != array.shape:
        raise LabError(
            f"label grid {label.shape} differs from its image's {array.shape}",
            where=place,
            mend="unpack the training set again",
        )
    return array, label, affine


def _patients(source: Path) -> list[tuple[str, Path]]:
    roots = [source, *sorted(path for path in source.rglob("Train_Sets") if path.is_dir())]
    found = [
        (kind, path)
        for root in roots
        for kind in ("CT", "MR")
        if (root / kind).is_dir()
        for path in sorted((root / kind).iterdir(), key=_by_number)
        if path.is_dir()
    ]
    if not found:
        raise LabError(
            "no CHAOS training set below this folder", where=source, mend="it must hold Train_Sets/MR and Train_Sets/CT"
        )
    return found


def _read_label(path: Path, ct: bool) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            grey = np.asarray(image.convert("L"))
    except (UnidentifiedImageError, OSError) as error:
        raise LabError(
            f"cannot be read as a PNG ({error})", where=path, mend="unpack the training set again"
        ) from error
    if ct:
        return (grey > 0).astype(np.uint8)
    label = np.zeros(grey.shape, np.uint8)
    for value, (low, high) in MR_RANGES.items():
        label[(grey >= low) & (grey <= high)] = value
    unknown = np.unique(grey[(label == 0) & (grey > 0)])
    if unknown.size:
        raise LabError(
            f"grey value {unknown[0]} stands for no organ",
            where=path,
            mend="CHAOS uses about 63, 126, 189 and 252; is this its label?",
        )
    return label


def _by_number(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]
