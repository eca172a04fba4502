"""Medical Segmentation Decathlon Task01: one 4D file per patient, split into one 3D file per sequence.

``imagesTr/<patient>.nii.gz`` holds FLAIR, T1w, T1gd, T2w along its fourth axis (``dataset.json`` says so and is
believed where it lies beside), ``labelsTr/<patient>.nii.gz`` the labels.
Antonelli et al., Nature Communications 13, 2022.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from xmod_lab.data.volume import load_volume, save_nifti
from xmod_lab.errors import LabError
from xmod_lab.files import atomic_folder, read_json

FILES = {"flair": "flair", "t1w": "t1", "t1gd": "t1gd", "t2w": "t2"}
"""name in dataset.json, lower case -> file"""


def convert_msd(source: Path, folder: Path, say: Callable[[str], None]) -> int:
    """Write ``<patient>/{flair,t1,t1gd,t2,seg}.nii.gz`` in the stored type and grid."""
    import nibabel as nib

    images = sorted(path for path in source.rglob("imagesTr/*.nii.gz") if not path.name.startswith("."))
    if not images:
        raise LabError(
            "no imagesTr/*.nii.gz below this folder", where=source, mend="name the unpacked Task01_BrainTumour"
        )
    written = 0
    for path in images:
        patient = path.name.removesuffix(".nii.gz")
        if (folder / patient).exists():
            continue
        names = _channels(path.parent.parent)
        label = load_volume(path.parent.parent / "labelsTr" / path.name)
        try:
            image = nib.load(path)
            array = np.asanyarray(image.dataobj)
        except Exception as error:  # nibabel, zlib and gzip each raise their own kinds on a broken file
            if isinstance(error, (MemoryError, PermissionError)):
                raise
            raise LabError(
                f"cannot be read as NIfTI ({type(error).__name__})", where=path, mend="unpack it again"
            ) from error
        if array.ndim != 4 or array.shape[3] != len(names) or array.shape[:3] != label.grid.shape:
            raise LabError(
                f"expected {label.grid.shape} with {len(names)} channels, found {array.shape}",
                where=path,
                mend="is this Task01?",
            )
        with atomic_folder(folder / patient) as temporary:
            for channel, name in enumerate(names):
                save_nifti(temporary / f"{name}.nii.gz", np.ascontiguousarray(array[..., channel]), image.affine)
            save_nifti(temporary / "seg.nii.gz", label.to_native(label.array).astype(np.uint8), label.grid.affine)
        say(f"msd: {patient}")
        written += 1
    return written


def _channels(root: Path) -> list[str]:
    if not (root / "dataset.json").is_file():
        return list(FILES.values())
    listed = read_json(root / "dataset.json").get("modality", {})
    names = [str(listed[key]).lower() for key in sorted(listed, key=int)]
    if unknown := [name for name in names if name not in FILES]:
        raise LabError(f"unknown modality {unknown[0]!r}", where=root / "dataset.json", mend="only Task01 is converted")
    return [FILES[name] for name in names]
