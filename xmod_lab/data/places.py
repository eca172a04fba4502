"""Where the voxels of a volume lie, and what a volume shows at a place: to look at images on different grids."""

from __future__ import annotations

import numpy as np

from xmod_lab.data.register import affine_of
from xmod_lab.data.volume import Volume


def places(volume: Volume) -> np.ndarray:
    """Where each voxel lies: (x, y, z, 3) mm RAS. Raises LabError for a volume without voxel sizes in mm."""
    affine = affine_of(volume)
    index = np.moveaxis(np.indices(volume.array.shape), 0, -1)
    return index @ affine[:3, :3].T + affine[:3, 3]


def seen_at(volume: Volume, points: np.ndarray) -> np.ndarray:
    """What `volume` shows at `points` (..., 3) mm RAS: float32 (...), linear between voxels.

    Beyond the outermost voxels it is the smallest value, air. Raises LabError as `places` does.
    """
    from scipy.ndimage import map_coordinates

    back = np.linalg.inv(affine_of(volume))
    index = points @ back[:3, :3].T + back[:3, 3]
    array = np.asarray(volume.array, np.float32)
    found: np.ndarray = map_coordinates(array, index.reshape(-1, 3).T, order=1, mode="constant",
                                        cval=float(array.min()))  # fmt: skip
    return found.reshape(points.shape[:-1])
