"""NIfTI in and out: one place where a file becomes an array and is checked.

Arrays are in the closest canonical orientation (first axis to the patient's Right, then Anterior, then Superior), so
``array[:, :, k]`` is an axial slice for every data set; `to_native` undoes it. Spacing is in mm, or in voxels where the
data set says that its voxel size was lost.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xmod_lab.data.manifest import Dataset, LabelFiles
from xmod_lab.errors import LabError
from xmod_lab.files import atomic_file

if TYPE_CHECKING:
    from nibabel.spatialimages import SpatialImage


@dataclass(frozen=True)
class Grid:
    """The stored grid of a file, enough to bring an array back to it."""

    shape: tuple[int, int, int]
    affine: np.ndarray
    orientation: np.ndarray
    """nibabel orientation transform from stored to canonical axes, (3, 2)"""

    def same_as(self, other: Grid) -> bool:
        return self.shape == other.shape and np.allclose(self.affine, other.affine, atol=1e-3)


@dataclass(frozen=True)
class Volume:
    """`array` (x, y, z) canonical; `spacing` along these axes; `unit` mm or voxel; `grid` as stored."""

    array: np.ndarray
    spacing: tuple[float, float, float]
    unit: str
    grid: Grid
    path: Path

    def to_native(self, array: np.ndarray) -> np.ndarray:
        """Bring a canonical array of this volume's shape back to the stored axes."""
        import nibabel as nib

        back = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), self.grid.orientation)
        return np.ascontiguousarray(nib.apply_orientation(array, back))


def _open(path: Path) -> tuple[SpatialImage, np.ndarray]:
    import nibabel as nib

    if not path.is_file():
        raise LabError("file is missing", where=path, mend="see `xmod-lab data info` for what belongs there")
    try:
        image = nib.load(path)
        array = np.asanyarray(image.dataobj)
    except Exception as error:  # nibabel, zlib, gzip and struct each raise their own kinds on a broken file
        if isinstance(error, (MemoryError, PermissionError)):
            raise
        raise LabError(
            f"cannot be read as NIfTI ({type(error).__name__}), it is truncated or not an image",
            where=path,
            mend="fetch or copy it again",
        ) from error
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim != 3:
        raise LabError(
            f"expected a 3D volume, found shape {array.shape}", where=path, mend="split it by time or channel"
        )
    return image, array


def load_volume(path: str | Path, *, unit: str = "mm", orientation: str | None = None) -> Volume:
    """Read one 3D NIfTI file. `orientation` (axis codes) overrides an affine that says nothing.

    Raises LabError for a missing, truncated or 4D file.
    """
    import nibabel as nib

    path = Path(path)
    image, array = _open(path)
    affine = np.asarray(image.affine, dtype=float)
    if orientation:
        native = nib.orientations.axcodes2ornt(tuple(orientation))
    else:
        native = nib.io_orientation(affine)
    if np.isnan(native).any():
        raise LabError("the affine is singular", where=path, mend="name the axes with `orientation` in the manifest")
    canonical = np.ascontiguousarray(nib.apply_orientation(array, native))
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    spacing = [1.0] * 3
    for axis in range(3):
        spacing[int(native[axis, 0])] = float(sizes[axis]) if unit == "mm" else 1.0
    grid = Grid(tuple(int(n) for n in array.shape), affine, native)  # type: ignore[arg-type]
    return Volume(canonical, (spacing[0], spacing[1], spacing[2]), unit, grid, path)


def patients(data: Dataset, modality: str) -> list[str]:
    """Names of the patients that have a file of `modality`, sorted. Raises LabError if there is none."""
    names: set[str] | None = None
    for part in modality.split("+"):
        pattern = data.modalities[part].pattern
        here = _matches(data, pattern)
        if not here:
            raise LabError(
                f"modality {part!r} of data set {data.key!r} has no files like {pattern}",
                where=data.folder,
                mend=f"run `xmod-lab data info {data.key}` for the layout",
            )
        names = here if names is None else names & here
    return sorted(names or (), key=_natural)


def _matches(data: Dataset, pattern: str) -> set[str]:
    if "{patient}" not in pattern:
        return {_only_patient(data, pattern)} if (data.folder / pattern).is_file() else set()
    first, *rest = [".*".join(map(re.escape, part.split("*"))) for part in pattern.split("{patient}")]
    regex = re.compile(first + "(?P<patient>[^/]+)" + "(?P=patient)".join(rest))
    found = set()
    for path in data.folder.glob(pattern.replace("{patient}", "*")):
        match = regex.fullmatch(path.relative_to(data.folder).as_posix())
        if match and not match["patient"].startswith("."):  # what another process is writing just now
            found.add(match["patient"])
    return found


def _only_patient(data: Dataset, pattern: str) -> str:
    return Path(pattern).parent.name or data.key


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key that puts image_2 before image_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def file_of(data: Dataset, patient: str, pattern: str) -> Path:
    """The one file that `pattern` names for `patient`; it need not exist unless the pattern holds a ``*``."""
    if "{patient}" not in pattern and patient != _only_patient(data, pattern):
        raise LabError(
            f"patient {patient!r} has no file {pattern}",
            where=data.folder,
            mend=f"that file belongs to {_only_patient(data, pattern)!r}",
        )
    relative = pattern.replace("{patient}", patient)
    if "*" not in relative:
        return data.folder / relative
    found = sorted(data.folder.glob(relative))
    if len(found) != 1:
        raise LabError(f"{len(found)} files match {relative}", where=data.folder, mend="there must be exactly one")
    return found[0]


def load_image(data: Dataset, patient: str, modality: str) -> Volume:
    """The image of one patient and modality, float32. Raises LabError if it holds NaN or is constant."""
    path = file_of(data, patient, data.modalities[modality].pattern)
    volume = load_volume(path, unit=data.unit, orientation=data.orientation)
    array = volume.array.astype(np.float32)
    if not np.isfinite(array).all():
        raise LabError("image holds NaN or infinite values", where=path, mend="repair or leave out this patient")
    if array.min() == array.max():
        raise LabError(f"image is constant ({array.flat[0]:g} everywhere)", where=path, mend="leave out this patient")
    return Volume(array, volume.spacing, volume.unit, volume.grid, path)


def label_paths(data: Dataset, patient: str, modality: str) -> list[Path]:
    """The files that `load_structures` would open."""
    files = data.label_of(modality)
    patterns = list(files.masks.values()) if files.masks else [files.pattern or ""]
    return [file_of(data, patient, pattern) for pattern in patterns]


def load_structures(data: Dataset, patient: str, modality: str, like: Volume | None = None) -> dict[str, np.ndarray]:
    """Boolean arrays by structure, on the grid of the patient's image (`like`, checked when given).

    Raises LabError if a label value is not in the manifest, or grid and image differ.
    """
    files = data.label_of(modality)
    found: dict[str, np.ndarray] = {}
    if files.masks:
        for (structure, _), path in zip(files.masks.items(), label_paths(data, patient, modality), strict=True):
            found[structure] = _labels(data, path, like) > 0
        return found
    path = label_paths(data, patient, modality)[0]
    values = _labels(data, path, like)
    _check_values(values, files, path)
    for value, structure in files.values.items():
        if value != 0:
            found[structure] = found.get(structure, False) | (values == value)
    return found


def _labels(data: Dataset, path: Path, like: Volume | None) -> np.ndarray:
    volume = load_volume(path, unit=data.unit, orientation=data.orientation)
    if like is not None and not volume.grid.same_as(like.grid):
        raise LabError(
            f"label grid {volume.grid.shape} differs from its image's {like.grid.shape}"
            + ("" if volume.grid.shape != like.grid.shape else " in the affine"),
            where=path,
            mend=f"resample one of them; the image is {like.path.name}",
        )
    rounded = np.rint(volume.array)
    if not np.allclose(volume.array, rounded, atol=1e-3):  # masks stored as floats (0.99999997) are common
        raise LabError(
            "label holds values that are not whole numbers", where=path, mend="was it interpolated? use nearest"
        )
    return rounded.astype(np.int64)


def _check_values(values: np.ndarray, files: LabelFiles, path: Path) -> None:
    unknown = sorted(set(np.unique(values).tolist()) - set(files.values) - {0})
    if unknown:
        raise LabError(
            f"label value {unknown[0]} is not in the manifest",
            where=path,
            mend=f"it lists {sorted(files.values)}; add it there with its structure",
        )


def save_nifti(path: str | Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Write a gzipped NIfTI in mm whose bytes depend on the array alone (no time stamp), beside and renamed."""
    import gzip

    import nibabel as nib

    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    with (
        atomic_file(path) as temporary,
        open(temporary, "wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1, mtime=0, filename="") as packed,
    ):
        packed.write(image.to_bytes())
