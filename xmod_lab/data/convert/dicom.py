"""One DICOM series as an array with an affine.

pydicom decodes the files. Slices are ordered by their position along the normal of the image plane: file names and
instance numbers do not always follow it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xmod_lab.errors import LabError


def read_series(files: Sequence[Path]) -> tuple[np.ndarray, np.ndarray, list[Path]]:
    """Read single-frame DICOM files of one series.

    Returns the array (columns, rows, slices) with rescale slope and intercept applied (int16 where the values are whole
    and fit, else float32), its affine to RAS millimetres (4, 4), and the files in the order of the slices.
    Raises LabError for a file that is no DICOM image, slices of different size or direction, or a gap between them.
    """
    slices = [(_read(path), path) for path in files]
    if not slices:
        raise LabError("a DICOM series without files", mend="is the folder complete?")
    first, first_path = slices[0]
    rows, cols = _numbers(first, "ImageOrientationPatient", 6, first_path).reshape(2, 3)
    normal = np.cross(rows, cols)
    row_step, col_step = _numbers(first, "PixelSpacing", 2, first_path)  # distance between rows, between columns
    for image, path in slices:
        same = (image.Rows, image.Columns) == (first.Rows, first.Columns)
        if not same or not np.allclose(_numbers(image, "ImageOrientationPatient", 6, path), [*rows, *cols], atol=1e-3):
            raise LabError(
                "slice of another size or direction than the first", where=path, mend="keep one series a folder"
            )
    places = [(float(normal @ _numbers(image, "ImagePositionPatient", 3, path)), image, path) for image, path in slices]
    places.sort(key=lambda place: place[0])
    step = _step([place for place, _, _ in places], first, first_path)
    array = np.stack([_values(image, path).T for _, image, path in places], axis=2)
    origin = _numbers(places[0][1], "ImagePositionPatient", 3, places[0][2])
    affine = np.eye(4)
    affine[:3, :4] = np.column_stack([rows * col_step, cols * row_step, normal * step, origin])
    affine[:2] *= -1  # DICOM points to the Left and Posterior, NIfTI to the Right and Anterior
    return _compact(array), affine, [path for _, _, path in places]


def _read(path: Path) -> Any:
    import pydicom

    try:
        image = pydicom.dcmread(path)
        if image.get("NumberOfFrames") not in (None, 1) or "PixelData" not in image:
            raise ValueError("no single-frame image")
    except Exception as error:  # pydicom raises its own kinds, ValueError, AttributeError, struct.error on broken files
        if isinstance(error, (MemoryError, PermissionError)):
            raise
        raise LabError(f"cannot be read as a DICOM image ({error})", where=path, mend="fetch it again") from error
    return image


def _numbers(image: Any, keyword: str, count: int, path: Path) -> np.ndarray:
    value = image.get(keyword)
    if value is None or len(value) != count:
        raise LabError(f"DICOM file without {keyword}", where=path, mend="its geometry is needed; fetch it again")
    return np.array([float(part) for part in value])


def _values(image: Any, path: Path) -> np.ndarray:
    try:
        stored = image.pixel_array
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        raise LabError(f"the pixels cannot be decoded ({error})", where=path, mend="fetch it again") from error
    return stored.astype(np.float64) * float(image.get("RescaleSlope", 1)) + float(image.get("RescaleIntercept", 0))


def _compact(array: np.ndarray) -> np.ndarray:
    whole = np.array_equal(array, np.rint(array)) and np.abs(array).max(initial=0) <= np.iinfo(np.int16).max
    return array.astype(np.int16 if whole else np.float32)


def _step(positions: list[float], first: Any, path: Path) -> float:
    """Distance between slices, from their positions; of a single slice, its thickness."""
    steps = np.diff(positions)
    if len(steps) == 0:
        return float(first.get("SpacingBetweenSlices") or first.get("SliceThickness") or 1.0)
    middle = float(np.median(steps))
    if middle <= 0 or np.abs(steps - middle).max() > 0.1 * middle:
        raise LabError(
            f"slices lie {steps.min():.2f} to {steps.max():.2f} mm apart, so one is missing or there twice",
            where=path.parent,
            mend="fetch the series again",
        )
    return float(np.mean(steps))
