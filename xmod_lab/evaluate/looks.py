"""What a segmenter of real and of made images goes by: the same test patients in one look after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from xmod_lab.data.prepare import Prepared
from xmod_lab.evaluate.overlap import overlap_scores
from xmod_lab.evaluate.runs import Case, labels_of, structures_of, test_volumes
from xmod_lab.evaluate.translators import BATCH

if TYPE_CHECKING:
    import pandas as pd

    from xmod_lab.methods.bigl import BiGL

BLUR = 1.0
"""pixels, standard deviation of a Gaussian: what it takes away is called detail, noise and edges alike"""
LOOKS = ("real", "blurred", "made detail", "made greys", "reconstructed", "translated")
COLUMNS = ("patient", "modality", "look", "structure", "dice", "change")


def blurred(image: Tensor) -> Tensor:
    """(b, k, h, w) with a Gaussian of BLUR pixels in the plane."""
    from scipy.ndimage import gaussian_filter

    return torch.from_numpy(gaussian_filter(image.numpy(), (0, 0, BLUR, BLUR), mode="nearest"))


@torch.no_grad()
def looks_of(method: BiGL, case: Case) -> dict[str, Tensor]:
    """A case's slices (D, k, S, S) in each of LOOKS, on the CPU.

    real            as they were taken
    blurred         without their detail
    made detail     real, with the detail of the reconstruction
    made greys      the reconstruction, with the detail of the real slices
    reconstructed   as they come back from both translators
    translated      as the other modality
    """
    here, there = case.modality, dict(method.translations)[case.modality]
    device, parts = next(method.parameters()).device, []
    for x in case.slices.image.split(BATCH):
        made = method.translate(x.to(device), here, there)
        back = method.translate(made, there, here)
        parts.append((x, made.float().cpu(), back.float().cpu()))
    real, made, back = (torch.cat(column) for column in zip(*parts, strict=True))
    low, made_low = blurred(real), blurred(back)
    return {
        "real": real,
        "blurred": low,
        "made detail": low + (back - made_low),
        "made greys": made_low + (real - low),
        "reconstructed": back,
        "translated": made,
    }


def look_table(method: BiGL, prepared: Prepared) -> pd.DataFrame:
    """Dice of whole volumes of the test patients, shown to BiGL's segmenter in each of LOOKS.

    One row a patient, modality it was taken in, look and structure that the task reports; `change` is the mean
    difference of the look from the real slices in the body, in the recipe's range. The segmenter gets the look itself,
    also that of a run which would be shown reconstructions.
    """
    import pandas as pd

    reported = prepared.task.reported or prepared.classes
    structures = {name: values for name, values in structures_of(prepared).items() if name in reported}
    rows: list[dict[str, Any]] = []
    for modality in prepared.modalities:
        for case in test_volumes(prepared, modality):
            body = case.slices.foreground[:, None].expand_as(case.slices.image)
            for look, image in looks_of(method, case).items():
                labels = labels_of(method, case, lambda part: method.see({"": part})[""].logits, image)
                whose = {"patient": case.patient, "modality": modality, "look": look}
                change = float((image - case.slices.image)[body].abs().mean())
                for name, values in structures.items():
                    dice = _dice(np.isin(labels, values), np.isin(case.truth, values))
                    rows.append(whose | {"structure": name, "dice": dice, "change": change})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _dice(found: np.ndarray, truth: np.ndarray) -> float:
    both, predicted, true = (int(np.count_nonzero(mask)) for mask in (found & truth, found, truth))
    return overlap_scores(both, predicted, true, truth.size)["dice"]
