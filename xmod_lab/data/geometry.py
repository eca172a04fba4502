"""From a canonical volume to square slices and back.

A slice is laid out as a radiologist reads it with ``imshow(origin="upper")``: axial with anterior up and the patient's
right on the left, coronal with the head up and the patient's right on the left, sagittal with the head up and anterior
on the left. Canonical axes run to Right, Anterior and Superior, so every row and column runs against its axis.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np

from xmod_lab.data.recipes import Plane, Recipe

AXES: dict[str, tuple[int, int, int]] = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}
"""plane -> canonical axes of (slice, row, column)"""


def to_planes(array: np.ndarray, plane: Plane) -> np.ndarray:
    """Canonical (x, y, z) -> slices as displayed (D, rows, columns); a view."""
    return array.transpose(AXES[plane])[:, ::-1, ::-1]


def from_planes(planes: np.ndarray, plane: Plane) -> np.ndarray:
    """Undo `to_planes` on the last three axes; a view."""
    flipped = planes[..., ::-1, ::-1]
    lead = planes.ndim - 3
    back = np.argsort(AXES[plane])
    return flipped.transpose(*range(lead), *(lead + int(axis) for axis in back))


@functools.lru_cache(maxsize=512)
def _weights(count: int, start: float, stop: float, size: int) -> np.ndarray:
    """(size, count) linear weights that sample [start, stop) at `size` points; smoothing where it shrinks.

    The kernel is a triangle as wide as the coarser of the two pixels, so that a smaller picture does not alias. At the
    grid's edge the outermost pixel is repeated; a sample whose centre lies outside the grid has no weights at all.
    """
    step = (stop - start) / size
    centres = start + (np.arange(size) + 0.5) * step - 0.5
    width = max(step, 1.0)
    kernel = np.clip(1.0 - np.abs(centres[:, None] - np.arange(count)[None, :]) / width, 0.0, None)
    kernel[(centres < -0.5) | (centres > count - 0.5)] = 0.0
    weights = (kernel / np.maximum(kernel.sum(axis=1, keepdims=True), 1e-12)).astype(np.float32)
    weights.setflags(write=False)
    return weights


def _nearest(count: int, start: float, stop: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel under each of `size` sample points of [start, stop), and whether it lies in the grid."""
    found = np.floor(start + (np.arange(size) + 0.5) * (stop - start) / size).astype(int)
    return np.clip(found, 0, count - 1), (found >= 0) & (found < count)


@dataclass(frozen=True)
class SliceGeometry:
    """How the slices of one volume were cut: enough to bring predictions back to its canonical grid."""

    plane: Plane
    shape: tuple[int, int, int]
    """canonical volume"""
    box: tuple[float, float, float, float]
    """top, bottom, left, right in pixel edges of a displayed slice (pixel i covers i to i+1); may exceed the grid"""
    size: int

    @property
    def slices(self) -> int:
        return self.shape[AXES[self.plane][0]]

    @property
    def _plane_shape(self) -> tuple[int, int]:
        _, row, column = AXES[self.plane]
        return self.shape[row], self.shape[column]

    @property
    def to_voxel(self) -> np.ndarray:
        """4 x 4: (slice, row, column, 1) of the cut slices -> voxel (x, y, z); whole numbers are centres in both."""
        (top, bottom, left, right), found = self.box, np.zeros((4, 4))
        depth, row, column = AXES[self.plane]
        found[depth, 0] = found[3, 3] = 1.0
        for axis, place, count, start, stop in ((row, 1, self._plane_shape[0], top, bottom),
                                                (column, 2, self._plane_shape[1], left, right)):
            step = (stop - start) / self.size
            found[axis, place] = -step  # rows and columns run against the canonical axes
            found[axis, 3] = count - 1 - (start + 0.5 * step - 0.5)
        return found

    def forward(self, array: np.ndarray, order: Literal["linear", "nearest"] = "linear",
                fill: float = 0.0) -> np.ndarray:
        """(x, y, z) -> (D, S, S): float32 for linear, the array's own type for nearest; `fill` outside the grid."""
        if array.shape != self.shape:
            raise ValueError(f"expected shape {self.shape}, found {array.shape}")
        planes = to_planes(array, self.plane)
        (rows, columns), (top, bottom, left, right) = self._plane_shape, self.box
        if order == "nearest":
            r, r_inside = _nearest(rows, top, bottom, self.size)
            c, c_inside = _nearest(columns, left, right, self.size)
            picked = planes[:, r[:, None], c[None, :]]
            return np.where(r_inside[:, None] & c_inside[None, :], picked, array.dtype.type(fill))
        down = _weights(rows, top, bottom, self.size)
        across = _weights(columns, left, right, self.size)
        centred = np.ascontiguousarray(planes, dtype=np.float32) - np.float32(fill)
        return down @ centred @ across.T + np.float32(fill)

    def backward(self, planes: np.ndarray, fill: float = 0.0) -> np.ndarray:
        """(D, C, S, S) -> (C, x, y, z) float32, linear; `fill` outside the box."""
        depth, channels = planes.shape[:2]
        if planes.shape != (self.slices, channels, self.size, self.size):
            raise ValueError(f"expected ({self.slices}, C, {self.size}, {self.size}), found {planes.shape}")
        out = np.full((channels, depth, *self._plane_shape), fill, np.float32)
        for d in range(depth):
            patch, (rows, columns) = self._upsampled(planes[d])
            out[:, d, rows, columns] = patch
        return np.ascontiguousarray(from_planes(out, self.plane))

    def labels(self, probabilities: np.ndarray) -> np.ndarray:
        """(D, C, S, S) class probabilities or logits -> (x, y, z) uint8 class of the largest, after upsampling.

        Outside the box it is background (0). Works slice by slice, so that no (C, x, y, z) array is ever held.
        """
        out = np.zeros((self.slices, *self._plane_shape), np.uint8)
        for d in range(self.slices):
            patch, (rows, columns) = self._upsampled(probabilities[d])
            out[d, rows, columns] = patch.argmax(axis=0)
        return np.ascontiguousarray(from_planes(out, self.plane))

    def _upsampled(self, plane: np.ndarray) -> tuple[np.ndarray, tuple[slice, slice]]:
        """(C, S, S) -> the pixels of the grid whose centres lie in the box, and where they are."""
        (rows, columns), (top, bottom, left, right) = self._plane_shape, self.box
        r, down = self._back_weights(rows, top, bottom)
        c, across = self._back_weights(columns, left, right)
        return down @ plane.astype(np.float32) @ across.T, (r, c)

    def _back_weights(self, count: int, start: float, stop: float) -> tuple[slice, np.ndarray]:
        first, last = max(0, int(np.ceil(start - 0.5))), min(count, int(np.floor(stop - 0.5)) + 1)
        scale = self.size / (stop - start)
        if last <= first:
            return slice(0, 0), np.zeros((0, self.size), np.float32)
        return slice(first, last), _weights(self.size, (first - start) * scale, (last - start) * scale, last - first)


def geometry_of(shape: tuple[int, ...], spacing: tuple[float, ...], foreground: np.ndarray, recipe: Recipe,
                size: int) -> SliceGeometry:
    """Cut squares (equal in mm, or in voxels where mm are unknown) by the recipe's crop; `foreground` (x, y, z).

    A volume that is not square in plane is padded to a square rather than stretched. A centre crop is never larger than
    that square, so that a small volume is not lost in padding.
    """
    _, row, column = AXES[recipe.plane]
    rows, columns = shape[row], shape[column]
    pixel = (spacing[row], spacing[column])
    top, bottom, left, right = 0.0, float(rows), 0.0, float(columns)
    if recipe.crop == "foreground" and foreground.any():
        planes = np.any(to_planes(foreground, recipe.plane), axis=0)
        hit_rows, hit_columns = np.flatnonzero(planes.any(axis=1)), np.flatnonzero(planes.any(axis=0))
        top, bottom = float(hit_rows[0]), float(hit_rows[-1] + 1)
        left, right = float(hit_columns[0]), float(hit_columns[-1] + 1)
    side = max((bottom - top) * pixel[0], (right - left) * pixel[1])
    if recipe.crop == "foreground":
        side *= 1.0 + 2.0 * recipe.margin
    elif isinstance(recipe.crop, dict):
        side = min(side, recipe.crop["centre"] * min(pixel))
    row_middle, column_middle = (top + bottom) / 2, (left + right) / 2
    row_half, column_half = side / pixel[0] / 2, side / pixel[1] / 2
    box = (row_middle - row_half, row_middle + row_half, column_middle - column_half, column_middle + column_half)
    return SliceGeometry(recipe.plane, (shape[0], shape[1], shape[2]), box, size)
