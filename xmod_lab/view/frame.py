"""Where an array lies in the patient: from its own axes to canonical ones, and from voxels to millimetres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xmod_lab.data.volume import Volume
from xmod_lab.errors import LabError

Place = Volume | Sequence[float] | np.ndarray
"""where an array lies: a volume on the same grid, voxel sizes (3) of a canonical array, or an affine (4, 4)"""
Point = tuple[int, int, int]
ENDS = ("LR", "PA", "IS")
"""letters of the two ends of each canonical axis"""


class Frame(NamedTuple):
    """The way of an array's voxels into the patient."""

    shape: tuple[int, ...]
    """of the array as given"""
    turn: np.ndarray
    """nibabel's orientation transform (3, 2) from the axes as given to the closest canonical ones"""
    affine: np.ndarray
    """canonical index -> mm RAS (4, 4); where no affine is known, mm from the centre of the first voxel"""
    unit: str
    """mm, or voxel where the voxel size was lost"""
    known: bool
    """whether an affine told the place; if not, axes are taken as canonical"""

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Size of a voxel along the canonical axes."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def tilt(self) -> float:
        """Largest angle between an axis of the grid and the patient's axis that it stands for, in degrees."""
        along = np.diag(self.affine)[:3] / np.array(self.spacing)
        return float(np.degrees(np.arccos(np.clip(along, -1, 1))).max())


def frame_of(shape: tuple[int, ...], place: Place) -> Frame:
    """The frame of an array of this shape. Raises LabError for a shape that is not 3D or not that of the volume, for
    voxel sizes that are not positive, and for an affine that is singular or not finite."""
    import nibabel as nib

    as_is = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]])
    if len(shape) != 3:
        raise LabError(f"expected a 3D array, found shape {shape}")
    if isinstance(place, Volume):
        if place.array.shape != tuple(shape):
            raise LabError(f"array {tuple(shape)} and volume {place.array.shape} differ", where=place.path)
        with np.errstate(all="ignore"):  # an affine that says nothing has a way out: the manifest's orientation
            affine = place.grid.affine @ nib.orientations.inv_ornt_aff(place.grid.orientation, place.grid.shape)
            sound = np.isfinite(affine).all() and np.array_equal(nib.io_orientation(affine), as_is)
        if place.unit == "mm" and sound:
            return Frame(tuple(shape), as_is, np.asarray(affine, float), "mm", True)
        return Frame(tuple(shape), as_is, np.diag([*place.spacing, 1.0]), place.unit, False)
    given = np.asarray(place, float)
    if given.shape == (3,):
        if not (np.isfinite(given).all() and (given > 0).all()):
            raise LabError(f"voxel sizes must be positive, these are {given.tolist()}")
        return Frame(tuple(shape), as_is, np.diag([*given, 1.0]), "mm", False)
    if given.shape != (4, 4):
        raise LabError(f"expected a volume, 3 voxel sizes or a 4 x 4 affine, found an array {given.shape}")
    if not np.isfinite(given).all() or abs(np.linalg.det(given[:3, :3])) < 1e-9:
        raise LabError("the affine is singular or not finite", mend="give voxel sizes of the canonical array instead")
    turn = nib.io_orientation(given)
    return Frame(tuple(shape), turn, given @ nib.orientations.inv_ornt_aff(turn, shape), "mm", True)


def canonical(frame: Frame, array: np.ndarray) -> np.ndarray:
    """The array on canonical axes. Raises LabError if it has another shape than the frame."""
    import nibabel as nib

    if array.shape != frame.shape:
        raise LabError(f"arrays {array.shape} and {frame.shape} lie on different grids")
    return np.asarray(nib.apply_orientation(array, frame.turn))


def canonical_point(frame: Frame, at: Sequence[int]) -> Point:
    """A voxel of the array as given -> the same on canonical axes. Raises LabError outside the array."""
    import nibabel as nib

    if len(at) != 3 or not all(0 <= i < n for i, n in zip(at, frame.shape, strict=True)):
        raise LabError(f"voxel {tuple(at)} lies outside of the array {frame.shape}")
    back = np.linalg.inv(nib.orientations.inv_ornt_aff(frame.turn, frame.shape))
    x, y, z = np.rint(back[:3, :3] @ np.asarray(at) + back[:3, 3]).astype(int)
    return int(x), int(y), int(z)


def given_point(frame: Frame, at: Point) -> Point:
    """Undo `canonical_point`."""
    import nibabel as nib

    back = nib.orientations.inv_ornt_aff(frame.turn, frame.shape)
    x, y, z = np.rint(back[:3, :3] @ np.asarray(at) + back[:3, 3]).astype(int)
    return int(x), int(y), int(z)


def in_mm(frame: Frame, points: np.ndarray) -> np.ndarray:
    """Canonical indices (..., 3) -> mm."""
    return np.asarray(points @ frame.affine[:3, :3].T + frame.affine[:3, 3])


def point_text(frame: Frame, at: Point) -> str:
    """A canonical voxel in words: its index in the array as given, and where it lies in the patient."""
    text = f"voxel ({', '.join(map(str, given_point(frame, at)))})"
    if frame.unit != "mm":
        return f"{text}, voxel size unknown"
    mm = in_mm(frame, np.array(at, float))
    if not frame.known:
        return f"{text}, ({', '.join(f'{v:.1f}' for v in mm)}) mm from the first one"
    places = [f"{abs(v):.1f} mm {ends[int(v >= 0)]}" for v, ends in zip(np.round(mm, 1), ENDS, strict=True)]
    tilt = f", grid turned by {frame.tilt:.0f}°" if frame.tilt >= 1 else ""
    return f"{text}, {', '.join(places)}{tilt}"
