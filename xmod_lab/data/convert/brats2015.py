"""BraTS 2015: MetaImage files made into NIfTI.

``{HGG,LGG}/<patient>/VSD.Brain.XX.O.MR_<sequence>.<number>/*.mha`` for Flair, T1, T1c, T2, and folders
``VSD.Brain_*.OT.<number>`` for the labels. Menze et al., IEEE TMI 34(10), 2015.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from xmod_lab.data.volume import save_nifti
from xmod_lab.errors import LabError
from xmod_lab.files import atomic_folder

FOLDERS = {"flair": "*.MR_Flair.*", "t1": "*.MR_T1.*", "t1gd": "*.MR_T1c.*", "t2": "*.MR_T2.*", "seg": "*OT.*"}


def convert_brats2015(source: Path, folder: Path, say: Callable[[str], None]) -> int:
    """Write ``<patient>/{flair,t1,t1gd,t2,seg}.nii.gz``. Needs SimpleITK."""
    patients = sorted({path.parent for path in source.rglob("*.MR_T1.*") if path.is_dir()})
    if not patients:
        raise LabError(
            "no *.MR_T1.* folders below this folder", where=source, mend="name the folder that holds HGG and LGG"
        )
    written = 0
    for place in patients:
        target = folder / place.name
        if target.exists():
            continue
        with atomic_folder(target) as temporary:
            for name, pattern in FOLDERS.items():
                found = sorted(place.glob(f"{pattern}/*.mha"))
                if len(found) != 1:
                    raise LabError(
                        f"{len(found)} files match {pattern}/*.mha", where=place, mend="there must be exactly one"
                    )
                array, affine = read_metaimage(found[0])
                save_nifti(temporary / f"{name}.nii.gz", array.astype(np.uint8) if name == "seg" else array, affine)
        say(f"brats2015: {place.name}")
        written += 1
    return written


def read_metaimage(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Array (x, y, z) in the stored type and its affine to RAS millimetres."""
    try:
        import SimpleITK as sitk
    except ImportError as error:
        raise LabError(
            "reading MetaImage needs SimpleITK", where=path, mend="pip install 'xmod-lab[registration]'"
        ) from error
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise LabError("cannot be read as MetaImage", where=path, mend="unpack it again") from error
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    affine[:2] *= -1  # ITK points to the Left and Posterior
    return np.ascontiguousarray(sitk.GetArrayFromImage(image).transpose(2, 1, 0)), affine
