"""Maps of a whole volume as NIfTI on the volume's own grid, for any viewer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from xmod_lab.data.prepare import Prepared, test_slices
from xmod_lab.data.volume import save_nifti
from xmod_lab.errors import LabError
from xmod_lab.evaluate.runs import Case
from xmod_lab.view.atlas import labelled_slices, maps_of_case

if TYPE_CHECKING:
    from xmod_lab.methods.base import Method


@torch.no_grad()
def save_map(method: Method, prepared: Prepared, case: Case, name: str, folder: Path) -> list[Path]:
    """The map `name` (as views call it) of every slice, a file a panel: (x, y, z) of a mask, (x, y, z, K) of a stack.

    Stored axes and affine of the image; float32, 0 outside what networks see. Raises LabError for pairwise maps, which
    have no place in a volume.
    """
    slices = labelled_slices(case, range(case.geometry.slices))
    found = maps_of_case(method.eval(), slices, case.modality)
    if name not in found:
        raise LabError(f"no map {name!r} in every slice", mend=f"maps: {', '.join(found)}")
    _, _, volume = test_slices(prepared, case.patient, case.modality)
    written = []
    for panel, one in found[name].items():
        if one.kind == "pairwise":
            raise LabError(f"{name} is pairwise: it has no place in a volume", mend="save its arrays")
        values = one.values.float() if one.kind == "stack" else one.values.float()[:, None]
        size = case.geometry.size
        whole = torch.nn.functional.interpolate(values, (size, size), mode="bilinear", align_corners=False)
        native = [volume.to_native(array) for array in case.geometry.backward(whole.numpy())]
        array = native[0] if one.kind == "mask" else np.stack(native, -1)
        path = folder / f"{name} on {panel}.nii.gz".replace("/", "_").replace(" ", "_")
        save_nifti(path, array.astype(np.float32), volume.grid.affine)
        written.append(path)
    return written
