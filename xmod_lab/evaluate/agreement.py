"""Whether attention agrees across appearances: maps of a slice against those of its translation, as numbers."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from xmod_lab.data.batches import Slices
from xmod_lab.data.prepare import Prepared
from xmod_lab.errors import LabError
from xmod_lab.evaluate.runs import fullest, slices_at, test_volumes

if TYPE_CHECKING:
    import pandas as pd

    from xmod_lab.methods.base import Batch
    from xmod_lab.methods.bigl import BiGL

KINDS = ("position", "channel")
WITH = ("its translation", "another's translation")
"""what a slice's map is compared with; the second is the control: maps that agree with everything say nothing"""


def total_variation(first: Tensor, second: Tensor) -> Tensor:
    r""":math:`\tfrac12 \sum_j |a_{ij} - b_{ij}|` of rows that sum to 1, (..., m, n) -> (..., m): 0 for equal ones, 1
    where they look at nothing in common."""
    return 0.5 * (first.double() - second.double()).abs().sum(-1)


def jensen_shannon(first: Tensor, second: Tensor) -> Tensor:
    r"""Jensen-Shannon distance of rows that sum to 1, (..., m, n) -> (..., m), in [0, 1].

    .. math:: \sqrt{\tfrac1{2 \ln 2} \left( KL(a \Vert \tfrac{a + b}2) + KL(b \Vert \tfrac{a + b}2) \right)}
    """
    a, b = first.double(), second.double()
    middle = (a + b) / 2
    divergence = sum(torch.xlogy(p, p / middle.clamp_min(1e-300)).sum(-1) for p in (a, b)) / 2
    assert isinstance(divergence, Tensor)
    return (divergence / np.log(2)).clamp(0, 1).sqrt()


def appearances(names: Collection[str], source: str, target: str) -> dict[str, tuple[str, str]]:
    """Maps that are there of slices of `source` and of their translation to `target`: by kind the names of both.

    The first is ``<kind>/real/<source>`` or ``<kind>/<source>/<source>``, the second ``<kind>/<target>/<source>``.
    """
    found = {}
    for made in names if target != source else ():
        kind = made.removesuffix(f"/{target}/{source}")
        for real in (f"{kind}/real/{source}", f"{kind}/{source}/{source}"):
            if kind != made and real in names:
                found[kind] = (real, made)
    return found


def attention_distances(method: BiGL, batch: Batch) -> list[dict[str, Any]]:
    """Mean distances of the rows of maps of slices and of translations: a row for each modality, kind of map and WITH.

    For the control each slice meets the translation of the next one of another patient. Keys: modality, map, with,
    total_variation, jensen_shannon. Raises LabError for slices of one patient alone, and where there is no attention.
    """
    found = []
    maps = method.maps(batch)
    for source, target in [way for way in method.translations if way[0] in batch]:
        others = _of_others(batch[source].patient, source)
        pairs = appearances(maps, source, target)
        for kind in KINDS:
            if kind not in pairs:
                raise LabError("the segmenter has no attention", where=type(method).__name__)
            real, made = (maps[name].values for name in pairs[kind])
            for name, other in zip(WITH, (made, made[others]), strict=True):
                distances = {"total_variation": total_variation, "jensen_shannon": jensen_shannon}
                means = {key: float(distance(real, other).mean()) for key, distance in distances.items()}
                found.append({"modality": source, "map": kind, "with": name} | means)
    return found


def agreement_table(models: Mapping[str, BiGL], prepared: Prepared, slices: int = 4) -> pd.DataFrame:
    """`attention_distances` of each of `models` on the test patients, `slices` of each: those with most of the task's
    classes. The control is the translation of another patient's slice. Columns: system, and those of the distances.
    """
    import pandas as pd

    rows = []
    for modality in prepared.modalities:
        found: list[Slices] = []
        for case in test_volumes(prepared, modality):
            found.append(slices_at(case.slices, fullest(case, slices)))
        together = _together(found)
        for name, model in models.items():
            device = next(model.parameters()).device
            batch = {modality: together._replace(image=together.image.to(device))}
            rows += [{"system": name} | row for row in attention_distances(model, batch)]
    return pd.DataFrame(rows)


def _of_others(patients: Sequence[str], modality: str) -> list[int]:
    """For each slice the next one, round in a circle, that is of another patient."""
    n = len(patients)
    if len(set(patients)) < 2:
        raise LabError(f"slices of {modality} of one patient have no other to be compared with", where="agreement")
    return [next(j % n for j in range(i, i + n) if patients[j % n] != patients[i]) for i in range(n)]


def _together(parts: list[Slices]) -> Slices:
    image, body, index = (torch.cat([getattr(s, field) for s in parts]) for field in ("image", "foreground", "index"))
    return Slices(image, None, body, [name for s in parts for name in s.patient], index)
