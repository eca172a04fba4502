"""Arrays that tests of the query view share: two appearances of one anatomy, maps of every kind."""

from __future__ import annotations

from typing import Any

import numpy as np

from xmod_lab.view.layers import Place
from xmod_lab.view.query_view import QueryView, query

EDGE, GRID, SLICES = 24, 6, 3
MM = np.array([[0, 0, -2.0, 24.0], [0, -2.0, 0, 24.0], [5.0, 0, 0, -5.0], [0, 0, 0, 1]])
"""slices axial, anterior up, the patient's right on the left; pixels of 2 mm, slices of 5 mm"""
VOXEL = np.array([[0, 0, -1.0, 23.0], [0, -1.0, 0, 23.0], [1.0, 0, 0, 0], [0, 0, 0, 1]])


def image() -> np.ndarray:
    """(3, 24, 24): a blob that moves down by a pixel a slice."""
    y, x = np.mgrid[:EDGE, :EDGE]
    return np.stack([2 * np.exp(-((x - 12) ** 2 + (y - 10 - z) ** 2) / 40) - 1 for z in range(SLICES)])


def labels() -> np.ndarray:
    """(3, 24, 24): oedema (1) around a core (2) in the middle slice, oedema alone in the others."""
    y, x = np.mgrid[:EDGE, :EDGE]
    near = (x - 15) ** 2 + (y - 8) ** 2
    found = np.repeat((near < 26).astype(np.uint8)[None], SLICES, 0)
    found[1][near < 5] = 2
    return found


def attention(width: float, grid: int = GRID, slices: int = SLICES) -> np.ndarray:
    """(slices, N, N): each position looks around itself, wider from slice to slice; rows sum to 1."""
    at = np.stack(np.divmod(np.arange(grid * grid), grid), 1)
    far = np.square(at[:, None] - at[None]).sum(-1)
    found = np.stack([np.exp(-far / (width + z)) for z in range(slices)])
    return found / found.sum(-1, keepdims=True)


def view(**more: Any) -> QueryView:
    """Positions over two images with an untrained model, a stack, its cosines and a mask over the first."""
    waves = np.stack([[np.sin(image()[z] * (k + 1) * 3) for k in range(4)] for z in range(SLICES)])
    cosines = np.stack([np.corrcoef(waves[z].reshape(4, -1)) for z in range(SLICES)])
    maps = {"position": {"MR": attention(1.0), "as CT": attention(4.0)}, "waves": {"MR": waves}}
    maps |= {"cosines": {"MR": cosines}, "size": {"MR": np.abs(image())}}
    settings: dict[str, Any] = {
        "classes": ("oedema", "core"), "nulls": {"untrained": {"position": {"MR": attention(60.0)}}},
        "place": Place(MM, VOXEL), "behind": {"cosines": "waves"}, "units": {"as CT": "HU"}, "kinds": {"as CT": "CT"},
        "title": "a view", "note": "profile smoke",
    }  # fmt: skip
    return query(maps, {"MR": image(), "as CT": 100 - 300 * image()}, labels(), **settings | more)
