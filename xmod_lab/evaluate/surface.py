"""Distances between the surfaces of two binary masks.

The surface of a mask is its inner border: the voxels that have a background voxel, or the edge of the array, among
their 4 (2D) or 6 (3D) direct neighbours. D_PG holds the distance of every border voxel of the prediction to the nearest
border voxel of the truth, D_GP the other way round; every metric is an order statistic or a mean of these two samples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Two exact ways to the nearest border voxel: a distance transform of the box, whose cost is the box's, and a tree of
# the border, whose cost is that of the queries. The tree wins where the box is mostly empty (a false island at the far
# end of a volume), but a query from far inside a large surface can cost as much as thousands of voxels.
NEAR_QUERY, FAR_QUERY = 60, 2000
"""cost of a tree query in voxels of the transform, as measured: within NEAR voxels of the other surface, and beyond"""
NEAR = 8


def bounding_box(mask: np.ndarray) -> tuple[slice, ...] | None:
    """The smallest box around the true voxels of `mask`, or None if there is none."""
    box: list[slice] = []
    for axis in range(mask.ndim):
        # Each axis looks only inside the box found so far; the first and cheapest pass discards most of the array.
        rest = tuple(i for i in range(mask.ndim) if i != axis)
        hit = np.flatnonzero(mask[tuple(box)].any(axis=rest))
        if hit.size == 0:
            return None
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(box)


def border(mask: np.ndarray) -> np.ndarray:
    """`mask` XOR its erosion with the cross; outside the array counts as background.

    Same result as SciPy's binary_erosion with its default structure, by shifted views and 5-10 times faster.
    """
    core = mask.copy()
    for axis in range(mask.ndim):
        here, there = np.moveaxis(core, axis, 0), np.moveaxis(mask, axis, 0)
        here[1:] &= there[:-1]
        here[:-1] &= there[1:]
        here[0] = here[-1] = False
    return core ^ mask


def surface_distances(pred: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """(D_PG, D_GP), each a 1-D float array in the unit of `spacing`.

    pred, truth: boolean, same shape, 2D or 3D, neither empty. Cropping both to the box around their union changes
    nothing, because outside the array counts as background.
    """
    pred_border, truth_border = border(pred), border(truth)
    return (_distances(pred_border, truth_border, spacing), _distances(truth_border, pred_border, spacing))


def _distances(source: np.ndarray, target: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Distance of every true voxel of `source` to the nearest true voxel of `target`."""
    from scipy.ndimage import distance_transform_edt
    from scipy.spatial import cKDTree

    points = np.nonzero(source)
    scale = np.asarray(spacing, dtype=float)
    if source.size > NEAR_QUERY * len(points[0]):
        tree, places = cKDTree(np.argwhere(target) * scale), np.transpose(points) * scale
        found, _ = tree.query(places, distance_upper_bound=NEAR * scale.max())
        far = np.isinf(found)
        if source.size > FAR_QUERY * np.count_nonzero(far):
            found[far] = tree.query(places[far])[0]
            return np.asarray(found)
    # Only the nearest target voxel is asked for: the distances are then computed on the border, not in the whole box.
    nearest = distance_transform_edt(~target, sampling=scale, return_distances=False, return_indices=True)
    squares = sum((step * (nearest[axis][points] - points[axis])) ** 2 for axis, step in enumerate(scale))
    return np.sqrt(squares)
