"""RIRE's own format, ``header.ascii`` beside ``image.bin``, made into NIfTI.

The header holds lines ``Keyword := value``; the image is big-endian signed 16 bit, columns fastest, then rows, then
slices. ``Patient orientation := L : P : H`` names the direction of growing columns, rows and slices (H head, F feet).
Which image it is follows from study, series and acquisition. Source: the project's page "data format",
rire.insight-journal.org.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from xmod_lab.data.volume import save_nifti
from xmod_lab.errors import LabError

NAMES = {
    "1": "ct",
    "2": "pet",
    "3.1": "mr_t1",
    "3.2": "mr_pd",
    "3.3": "mr_t2",
    "4.1": "mr_t1_rectified",
    "4.2": "mr_pd_rectified",
    "4.3": "mr_t2_rectified",
    "5": "mr_mp_rage",
}
"""study, or study and series -> file name; reversed-gradient acquisitions are left out"""

TOWARDS = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "H": (0, 0, 1), "F": (0, 0, -1)}
"""letter -> direction in RAS"""


def convert_rire(source: Path, folder: Path, say: Callable[[str], None]) -> int:
    """Write ``<patient>/<image>.nii.gz``, image by image; `patient` is the folder called patient_... or training_..."""
    headers = sorted(source.rglob("header.ascii"))
    if not headers:
        raise LabError(
            "no header.ascii below this folder", where=source, mend="unpack all of RIRE's archives there first"
        )
    touched = set()
    for header in headers:
        patient = next((part for part in reversed(header.parts) if re.match(r"(patient|training)_\w+$", part)), None)
        if patient is None:
            raise LabError(
                "no folder of this path names the patient", where=header, mend="keep RIRE's folders patient_001 ..."
            )
        name = image_name(read_header(header), header)
        if name is None or (folder / patient / f"{name}.nii.gz").exists():
            continue
        array, affine = read_image(header)
        save_nifti(folder / patient / f"{name}.nii.gz", array, affine)
        say(f"rire: {patient}/{name}.nii.gz")
        touched.add(patient)
    return len(touched)


def read_header(path: Path) -> dict[str, str]:
    """Keyword (lower case) -> value. A keyword that comes again (Group length, Comments) keeps its last value."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError as error:
        raise LabError(f"cannot be read ({error.strerror})", where=path, mend="unpack it again") from error
    fields = {}
    for line in lines:
        keyword, sign, value = line.partition(":=")
        if sign:
            fields[" ".join(keyword.lower().split())] = value.strip()
    if not fields:
        raise LabError("holds no line `Keyword := value`", where=path, mend="is this a RIRE header?")
    return fields


def image_name(fields: dict[str, str], where: Path) -> str | None:
    """The image's file name, None for an acquisition with reversed gradient."""
    study, series, acquisition = (fields.get(key, "") for key in ("study", "series", "acquisition"))
    if acquisition not in ("", "1"):
        return None
    name = NAMES.get(study) or NAMES.get(f"{study}.{series}")
    if name is None:
        raise LabError(
            f"study {study!r}, series {series!r} stands for no image of RIRE",
            where=where,
            mend="studies are 1 CT, 2 PET, 3 MR, 4 rectified MR, 5 MP-RAGE",
        )
    return name


def read_image(header: Path) -> tuple[np.ndarray, np.ndarray]:
    """Array (columns, rows, slices) int16 and affine to RAS millimetres whose origin is the first voxel.

    Raises LabError for a header without a needed field and a voxel file that is missing or of the wrong length.
    """
    fields = read_header(header)
    shape = tuple(int(_field(fields, key, header)) for key in ("columns", "rows", "slices"))
    row_step, col_step = _split(fields, "pixel size", 2, header)  # the project's images have square pixels
    spacing = [float(col_step), float(row_step), float(_field(fields, "slice thickness", header))]
    letters = [part.upper() for part in _split(fields, "patient orientation", 3, header)]
    affine = np.eye(4)
    try:
        affine[:3, :3] = np.column_stack(
            [np.multiply(TOWARDS[letter], step) for letter, step in zip(letters, spacing, strict=True)]
        )
    except KeyError as error:
        raise LabError(
            f"patient orientation {letters} has an unknown letter", where=header, mend="they are L R A P H F"
        ) from error
    if fields.get("bits allocated", "16") != "16" or fields.get("pixel representation", "1") != "1":
        raise LabError("voxels are not signed 16 bit", where=header, mend="RIRE's images are")
    return _voxels(header.with_name("image.bin"), shape), affine


def _voxels(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    if not path.is_file():
        packed = path.with_name("image.bin.Z").is_file()
        raise LabError(
            "image.bin is missing",
            where=path.parent,
            mend="run `gzip -d image.bin.Z` there" if packed else "unpack the archive again",
        )
    expected, size = 2 * int(np.prod(shape)), path.stat().st_size
    if size != expected:
        raise LabError(
            f"holds {size} bytes, its header asks for {expected}", where=path, mend="unpack the archive again"
        )
    stored = np.fromfile(path, dtype=">i2").reshape(shape[::-1])
    return np.ascontiguousarray(stored.transpose(2, 1, 0)).astype(np.int16)


def _field(fields: dict[str, str], key: str, where: Path) -> str:
    if not re.match(r"[-+.\d]", fields.get(key, "")):
        raise LabError(f"header without a number for {key!r}", where=where, mend="unpack the archive again")
    return fields[key]


def _split(fields: dict[str, str], key: str, count: int, where: Path) -> list[str]:
    parts = [part.strip() for part in fields.get(key, "").split(":")]
    if len(parts) != count or not all(parts):
        raise LabError(
            f"header field {key!r} needs {count} values divided by ':'", where=where, mend="unpack the archive again"
        )
    return parts
