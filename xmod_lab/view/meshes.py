"""Surfaces of labels in millimetres: closed, and no coarser than a picture needs.

A surface runs half way between voxels inside and outside (marching cubes, Lewiner et al. 2003), so that a box of voxels
ends at its voxels' outer faces, its edges cut off. Slices 5 mm apart make terraces. Smoothing (Taubin 1995: in turns
towards and away from the mean of the neighbours) takes them away, and is honest because it is bounded: no vertex leaves
its place by more than half a (merged) voxel along any axis of the grid, which is as well as the labels know it.

Where a structure would need too many triangles, voxels are merged before. The surface of their shares then runs where
it holds the volume of the structure to a twentieth, so that thin shells neither vanish nor swell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

ROUNDS = 12
"""of smoothing"""
SHRINK, GROW = 0.5, -0.53
"""Taubin's weights of one round: the mean of the neighbours, and back by a little more"""
MERGED = 8
"""most voxels along one axis that become one"""
LEEWAY = 0.05
"""of the volume within a surface of merged voxels, as a share of the structure's"""
Steps = tuple[int, int, int]
"""voxels along each axis that become one"""


class Mesh(NamedTuple):
    """Triangles, counter-clockwise as seen from outside."""

    points: np.ndarray
    """(n, 3) float32, mm or whatever the affine leads to"""
    faces: np.ndarray
    """(m, 3) indices of points"""


def mesh_of(mask: np.ndarray, affine: np.ndarray, *, steps: Steps = (1, 1, 1), smooth: bool = True) -> Mesh | None:
    """The closed surface of `mask` (x, y, z) bool, canonical; None for an empty one.

    affine: index -> mm, of a right-handed grid. steps: voxels along each axis that are merged into one.
    """
    if not mask.any():
        return None
    low, high = (np.array(edge) for edge in zip(*_extent(mask), strict=True))
    low = low // steps * steps  # blocks are the same whatever the structure
    points, faces = _surface(merged(mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))], steps))
    if smooth:
        points = _smoothed(points, faces)
    index = low + (points - 1) * steps + (np.array(steps) - 1) / 2
    return Mesh((index @ affine[:3, :3].T + affine[:3, 3]).astype(np.float32), faces)


def _extent(mask: np.ndarray) -> list[tuple[int, int]]:
    found = []
    for axis in range(3):
        here = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        found.append((int(here[0]), int(here[-1]) + 1))
    return found


def merged(mask: np.ndarray, steps: Steps) -> np.ndarray:
    """The share (float32) of each block of `steps` voxels that is inside; what lies beyond the array is outside."""
    more = [(0, -n % step) for n, step in zip(mask.shape, steps, strict=True)]
    whole = np.pad(mask, more).astype(np.float32)
    blocks = whole.reshape([part for n, step in zip(whole.shape, steps, strict=True) for part in (n // step, step)])
    return np.asarray(blocks.mean((1, 3, 5)))


def _surface(shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points, in blocks from one block before the first, and faces of the surface that encloses the blocks' shares."""
    from skimage.measure import marching_cubes

    closed = np.pad(shares, 1)  # air all around closes what touches the border
    if shares.min() == 1 or set(np.unique(shares)) == {0.0, 1.0}:
        points, faces, _, _ = marching_cubes(closed, 0.5)
        return points, faces[:, ::-1]
    low, high, level = 0.0, float(shares.max()), min(0.5, 0.5 * float(shares.max()))
    for _ in range(10):
        points, faces, _, _ = marching_cubes(closed, level * 0.9999)  # not a share itself: triangles without area
        faces = faces[:, ::-1]
        more = volume_of(points, faces) / float(shares.sum()) - 1
        if abs(more) <= LEEWAY:
            break
        low, high = (level, high) if more > 0 else (low, level)
        level = (low + high) / 2
    return points, faces


def volume_of(points: np.ndarray, faces: np.ndarray) -> float:
    """Volume within a closed surface, positive where its faces turn counter-clockwise seen from outside."""
    a, b, c = (points[faces[:, k]].astype(float) for k in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


def steps_for(
    structures: Mapping[str, Sequence[np.ndarray]], spacing: Sequence[float], most: int
) -> dict[str, Steps]:
    """By structure the fewest voxels to merge, the finest axis first, until all have at most `most` vertices together.

    structures: name -> masks that are to be compared, which get the same steps. Small structures come first: what they
    leave of their share is for the large ones. No more than MERGED voxels along an axis are merged.
    """
    found, left = {}, most
    own = {name: sum(_vertices(mask, (1, 1, 1)) for mask in masks) for name, masks in structures.items()}
    for number, name in enumerate(sorted(own, key=lambda each: own[each])):
        share, count, steps = left // (len(own) - number), own[name], (1, 1, 1)
        while count > share and max(steps) < MERGED:
            finest = min(size * n for size, n in zip(spacing, steps, strict=True)) * 1.01  # axes alike go together
            x, y, z = (n + (size * n <= finest) for n, size in zip(steps, spacing, strict=True))
            steps = (x, y, z)
            count = sum(_vertices(mask, steps, share) for mask in structures[name])
        found[name], left = steps, max(left - count, 0)
    return {name: found[name] for name in structures}


def _vertices(mask: np.ndarray, steps: Steps, enough: int = 0) -> int:
    """Of a surface; of merged voxels a rough count where that is far from `enough`."""
    if not mask.any():
        return 0
    shares = merged(mask, steps)
    inside = np.pad(shares > 0.5 * shares.max(), 1)  # a vertex on each line between two voxels of which one is inside
    count = int(sum(np.count_nonzero(np.diff(inside, axis=axis)) for axis in range(3)))
    return count if max(steps) == 1 or count > 2 * enough else len(_surface(shares)[0])


def _smoothed(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """In units of (merged) voxels, bounded by half of one along each axis."""
    from scipy.sparse import coo_array

    ends = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    links = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(len(points),) * 2).tocsr()
    links = links + links.T
    weights = 1 / np.asarray(links.sum(axis=1)).reshape(-1, 1)
    start = found = points.astype(float)
    for _ in range(ROUNDS):
        for step in (SHRINK, GROW):
            found = found + step * (weights * (links @ found) - found)
        found = np.clip(found, start - 0.5, start + 0.5)
    return found


def around(masks: Mapping[str, np.ndarray]) -> set[str]:
    """The structures that lie around most of another one, and so hide it: what lies inside of a structure meets it
    along at least five of the six directions of the grid."""
    found = set()
    for name, mask in masks.items():
        met = np.zeros(mask.shape, np.uint8)
        for axis in range(3):
            ahead = np.logical_or.accumulate(mask, axis=axis)
            behind = np.flip(np.logical_or.accumulate(np.flip(mask, axis), axis=axis), axis)
            met += ahead.astype(np.uint8) + behind
        if any(other.any() and (met[other] >= 5).mean() > 0.5 for key, other in masks.items() if key != name):
            found.add(name)
    return found
