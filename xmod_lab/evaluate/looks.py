"""What a segmenter of real and of made images goes by: the same test patients in one look after the other."""

from __future__ import annotations

import dataclasses
import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from xmod_lab.data.prepare import Prepared
from xmod_lab.evaluate.overlap import overlap_scores
from xmod_lab.evaluate.runs import Case, labels_of, structures_of, test_volumes
from xmod_lab.evaluate.translators import translated

if TYPE_CHECKING:
    import pandas as pd

    from xmod_lab.methods.bigl import BiGL

BLUR = 1.0
"""pixels, standard deviation of a Gaussian: what it takes away is called detail, noise and edges alike"""
LOOKS = ("real", "blurred", "made detail", "made greys", "one curve", "reconstructed", "translated")
METRICS = ("dice", "sensitivity", "precision")
COLUMNS = ("patient", "modality", "look", "structure", *METRICS, "change")
PARTS = 32
"""of equal size, in which `one_curve` takes the greys of a body"""


def blurred(image: Tensor) -> Tensor:
    """(b, k, h, w) with a Gaussian of BLUR pixels in the plane."""
    from scipy.ndimage import gaussian_filter

    return torch.from_numpy(gaussian_filter(image.numpy(), (0, 0, BLUR, BLUR), mode="nearest"))


def one_curve(image: Tensor, other: Tensor, body: Tensor) -> Tensor:
    """`image` with the greys of its body (b, h, w) changed by one curve, so that each becomes what it is in `other` on
    average: a change of contrast and nothing else. Both (b, 1, h, w); outside the body as it was."""
    given, wanted = (x[:, 0][body].numpy() for x in (image, other))
    order = np.argsort(given, kind="stable")
    greys, means = (np.array([part.mean() for part in np.array_split(x[order], PARTS)]) for x in (given, wanted))
    greys, place = np.unique(greys, return_inverse=True)  # parts of one grey, where many pixels have it, are one
    means = np.bincount(place, means) / np.bincount(place)
    changed = image.clone()
    changed[:, 0][body] = torch.from_numpy(np.interp(given, greys, means)).to(image.dtype)
    return changed


@torch.no_grad()
def looks_of(method: BiGL, case: Case) -> dict[str, Tensor]:
    """A case's slices (D, k, S, S) in each of LOOKS, on the CPU.

    real            as they were taken
    blurred         without their detail
    made detail     real, with the detail of the reconstruction
    made greys      the reconstruction, with the detail of the real slices
    one curve       real, with the reconstruction's contrast alone (`one_curve`)
    reconstructed   as they come back from both translators
    translated      as the other modality
    """
    here, there = case.modality, dict(method.translations)[case.modality]
    real, made = case.slices.image, translated(method, case, there)
    back = translated(method, dataclasses.replace(case, modality=there, slices=case.slices._replace(image=made)), here)
    low, made_low = blurred(real), blurred(back)
    return {
        "real": real,
        "blurred": low,
        "made detail": low + (back - made_low),
        "made greys": made_low + (real - low),
        "one curve": one_curve(real, back, case.slices.foreground),
        "reconstructed": back,
        "translated": made,
    }


def look_table(method: BiGL, prepared: Prepared) -> pd.DataFrame:
    """METRICS of whole volumes of the test patients, shown to BiGL's segmenter in each of LOOKS.

    One row a patient, modality it was taken in, look and structure that the task reports; `change` is the mean
    absolute difference of the look from the real slices in the body, in the recipe's range. The segmenter gets the look
    itself, also that of a run which would be shown reconstructions.
    """
    import pandas as pd

    known = structures_of(prepared)
    structures = {name: known[name] for name in prepared.task.reported or prepared.classes}
    rows: list[dict[str, Any]] = []
    for modality in prepared.modalities:
        for case in test_volumes(prepared, modality):
            body = case.slices.foreground[:, None].expand_as(case.slices.image)
            for look, image in looks_of(method, case).items():
                labels = labels_of(method, case, lambda part: method.see({"": part})[""].logits, image)
                whose = {"patient": case.patient, "modality": modality, "look": look}
                change = float((image - case.slices.image)[body].abs().mean())
                for name, values in structures.items():
                    scores = _scores(np.isin(labels, values), np.isin(case.truth, values))
                    rows.append(whose | {"structure": name} | scores | {"change": change})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def look_gains(table: pd.DataFrame) -> pd.DataFrame:
    """Means of `look_table` by modality, structure and look, and of each patient's Dice minus that of its real look:
    `gain`, its standard deviation over patients (n - 1) as `sd`, and the count of patients where it is `above` 0."""
    keys, whose = ["modality", "structure", "look"], ["modality", "structure", "patient"]
    real = table.loc[table["look"] == "real", [*whose, "dice"]].rename(columns={"dice": "real"})
    table = table.merge(real, on=whose)
    table["gain"] = table["dice"] - table["real"]
    table["above"] = table["gain"] > 0
    means = {name: (name, "mean") for name in ("dice", "gain", *METRICS[1:], "change")}
    found = table.groupby(keys, sort=False).agg(sd=("gain", "std"), above=("above", "sum"), **means)
    found = found[["dice", "gain", "sd", "above", *METRICS[1:], "change"]]
    order = itertools.product(*(dict.fromkeys(table[key]) for key in keys))
    return found.loc[[row for row in order if row in found.index]]


def _scores(found: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    both, predicted, true = (int(np.count_nonzero(mask)) for mask in (found & truth, found, truth))
    scores = overlap_scores(both, predicted, true, truth.size)
    return {name: scores[name] for name in METRICS}
