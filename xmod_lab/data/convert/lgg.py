"""The "LGG Segmentation Dataset": TIFF slices made into NIfTI.

A patient's folder holds ``<patient>_<n>.tif`` (8 bit, three channels: T1 before contrast, FLAIR, T1 after contrast) and
``<patient>_<n>_mask.tif`` (0 or 255). Where a patient lacks a T1 sequence the collection repeats the FLAIR in its
channel; that modality is left out here. Buda, Saha, Mazurowski, Computers in Biology and Medicine, 2019.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from xmod_lab.data.volume import save_nifti
from xmod_lab.errors import LabError
from xmod_lab.files import atomic_folder

CHANNELS = ("t1", "flair", "t1gd")


def convert_lgg(source: Path, folder: Path, say: Callable[[str], None]) -> int:
    """Write ``<patient>/{t1,flair,t1gd,mask}.nii.gz``.

    Arrays are (column, row from the lower edge, slice): the slices are stored as a scanner shows them, face up, so the
    second axis points to the Anterior. The voxel size is lost, the affine is the identity.
    """
    patients = sorted({path.parent for path in source.rglob("*_mask.tif")})
    if not patients:
        raise LabError("no *_mask.tif below this folder", where=source, mend="name the folder kaggle_3m of the archive")
    written = 0
    for place in patients:
        target = folder / place.name
        if target.exists():
            continue
        image, mask = read_patient(place)
        absent = [
            name
            for channel, name in enumerate(CHANNELS)
            if name != "flair" and np.array_equal(image[..., channel], image[..., 1])
        ]
        with atomic_folder(target) as temporary:
            for channel, name in enumerate(CHANNELS):
                if name not in absent:
                    save_nifti(temporary / f"{name}.nii.gz", np.ascontiguousarray(image[..., channel]), np.eye(4))
            save_nifti(temporary / "mask.nii.gz", mask, np.eye(4))
        note = f"; left out as copies of the FLAIR: {', '.join(absent)}" if absent else ""
        say(f"lgg: {place.name}, {image.shape[2]} slices{note}")
        written += 1
    return written


def read_patient(place: Path) -> tuple[np.ndarray, np.ndarray]:
    """Image (x, y, slice, channel) and mask (x, y, slice) of 0 and 1, both uint8, slices ordered by their numbers."""
    numbered: dict[int, Path] = {}
    for path in place.glob("*.tif"):
        if match := re.search(r"_(\d+)\.tif$", path.name):
            numbered[int(match[1])] = path
    numbers = sorted(numbered)
    if not numbers or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        raise LabError(f"slices {numbers} are not numbered without a gap", where=place, mend="unpack the archive again")
    images = [_read(numbered[number], 3) for number in numbers]
    masks = [_read(numbered[number].with_name(f"{numbered[number].stem}_mask.tif"), 1) for number in numbers]
    for number, image, mask in zip(numbers, images, masks, strict=True):
        if image.shape[:2] != images[0].shape[:2] or mask.shape[:2] != images[0].shape[:2]:
            raise LabError(
                f"slice or mask is {image.shape[:2]} and {mask.shape[:2]}, the first slice {images[0].shape[:2]}",
                where=numbered[number],
                mend="unpack the archive again",
            )
    image = np.stack(images, axis=2)[::-1].transpose(1, 0, 2, 3)  # rows run downwards, from the face to the back
    mask = np.stack(masks, axis=2)[::-1, :, :, 0].transpose(1, 0, 2)
    return image, (mask > 127).astype(np.uint8)


def _read(path: Path, channels: int) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    if not path.is_file():
        raise LabError("file is missing", where=path, mend="unpack the archive again")
    try:
        with Image.open(path) as image:
            array = np.asarray(image.convert("L") if channels == 1 else image)
    except (UnidentifiedImageError, OSError) as error:
        raise LabError(f"cannot be read as a TIFF ({error})", where=path, mend="unpack the archive again") from error
    array = array[..., None] if array.ndim == 2 else array
    if array.dtype != np.uint8 or array.shape[2] != channels:
        raise LabError(
            f"expected 8 bit with {channels} channels, found {array.dtype} {array.shape}",
            where=path,
            mend="is this a slice of the collection?",
        )
    return array
