"""What a segmenter of real and of made images reads by: the same test patients in one look after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from xmod_lab.data.prepare import Prepared
from xmod_lab.evaluate.overlap import overlap_scores
from xmod_lab.evaluate.runs import Case, structures_of, test_volumes
from xmod_lab.methods.translated import along

if TYPE_CHECKING:
    import pandas as pd

    from xmod_lab.methods.bigl import BiGL

BLUR = 1.0
"""pixels, standard deviation of a Gaussian: what it takes away is texture"""
LOOKS = ("real", "blurred", "reconstructed", "translated")
"""as it was taken; without its texture; there and back by the translators, so with theirs; as the other modality"""
COLUMNS = ("patient", "modality", "look", "structure", "dice", "grain")


def blurred(image: Tensor) -> Tensor:
    """(b, k, h, w) with a Gaussian of BLUR pixels in the plane."""
    from scipy.ndimage import gaussian_filter

    return torch.from_numpy(gaussian_filter(image.numpy(), (0, 0, BLUR, BLUR), mode="nearest"))


def grain(image: Tensor, foreground: Tensor) -> float:
    """Standard deviation over the body (b, h, w) of what `blurred` takes away from slices (b, 1, h, w)."""
    return float((image - blurred(image))[:, 0][foreground].std(correction=0))


@torch.no_grad()
def look_table(method: BiGL, prepared: Prepared) -> pd.DataFrame:
    """Dice of whole volumes of the test patients, shown to BiGL's segmenter in each of LOOKS, and the images' `grain`.

    One row a patient, modality it was taken in, look and structure that the task reports. The segmenter gets the look
    itself, also that of a run which would be shown reconstructions.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    other = dict(method.translations)
    for modality in prepared.modalities:
        for case in test_volumes(prepared, modality):
            x, made = case.slices.image, (modality, other[modality])
            shown = (x, blurred(x), along(method.translate, x, *made, modality), along(method.translate, x, *made))
            for look, image in zip(LOOKS, shown, strict=True):
                whose = {"patient": case.patient, "modality": modality, "look": look}
                texture = grain(image, case.slices.foreground)
                for name, dice in _dices(method, prepared, case, image).items():
                    rows.append(whose | {"structure": name, "dice": dice, "grain": texture})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _dices(method: BiGL, prepared: Prepared, case: Case, image: Tensor) -> dict[str, float]:
    logits = torch.cat([method.see({"": part})[""].logits for part in image.split(32)])
    labels = case.geometry.labels(logits.float().softmax(1).numpy())
    found = {}
    reported = prepared.task.reported or prepared.classes
    for name, values in ((name, values) for name, values in structures_of(prepared).items() if name in reported):
        p, g = np.isin(labels, values), np.isin(case.truth, values)
        both, predicted, true = (int(np.count_nonzero(mask)) for mask in (p & g, p, g))
        found[name] = overlap_scores(both, predicted, true, labels.size)["dice"]
    return found
