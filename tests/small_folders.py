"""Small NIfTI folders as readers have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xmod_lab.data.volume import save_nifti

AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])


def image(seed: int = 0, shape: tuple[int, ...] = (5, 6, 4)) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)


def label(*values: int, shape: tuple[int, ...] = (5, 6, 4)) -> np.ndarray:
    array = np.zeros(shape, np.uint8)
    for row, value in enumerate(values):
        array[row] = value
    return array


def write(folder: Path, **arrays: np.ndarray) -> Path:
    """Files by name, ``__`` for a folder: ``p1__t1`` is p1/t1.nii.gz."""
    for name, array in arrays.items():
        save_nifti(folder / (name.replace("__", "/") + ".nii.gz"), array, AFFINE)
    return folder


def three(folder: Path) -> Path:
    for n in range(3):
        write(folder, **{f"p{n}__t1": image(n), f"p{n}__flair": image(n + 9), f"p{n}__mask": label(1)})
    return folder
