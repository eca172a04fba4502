"""How much of a cycle's way back hangs on what its translations hide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from xmod_lab.data.batches import neighbour_rows
from xmod_lab.data.prepare import Prepared
from xmod_lab.evaluate.runs import test_volumes
from xmod_lab.evaluate.translators import true_slices
from xmod_lab.methods.cyclegan import error_by_noise

if TYPE_CHECKING:
    import pandas as pd

    from xmod_lab.methods.cyclegan import CycleGAN

STARTS = ("translation", "truth")


def noise_table(
    models: Mapping[str, CycleGAN], prepared: Prepared, levels: Iterable[float], slices: int = 8
) -> pd.DataFrame:
    """`error_by_noise` of each of `models` in each of its directions: system, source, target, start, sigma, error.

    start: what the noise is added to and the way back begins with, the model's own translation or, where it is known,
    the true image of the target. Of the `slices` slices with most of the task's classes of the source's first test
    patient.
    """
    import pandas as pd

    levels, rows = list(levels), []
    for source, target in next(iter(models.values())).translations:
        case = next(test_volumes(prepared, source))
        depth = len(case.slices.image)
        area = (case.geometry.forward(case.truth, "nearest") > 0).sum((1, 2))
        kept = np.sort(np.argsort(area, kind="stable")[-slices:])
        given: dict[str, Any] = dict.fromkeys(STARTS)
        truth = true_slices(prepared, case, target)
        if truth is None:
            del given["truth"]
        else:
            ends = np.zeros_like(kept), np.full_like(kept, depth - 1)
            around = neighbour_rows(kept, *ends, prepared.task.neighbours)
            given["truth"] = torch.from_numpy(truth[around])  # as deep as what a network sees
        for name, model in models.items():
            for start, made in given.items():
                device = next(model.parameters()).device
                made = None if made is None else made.to(device)
                image = case.slices.image[kept].to(device)
                errors = error_by_noise(model, image, source, target, levels, made=made)
                where = {"system": name, "source": source, "target": target, "start": start}
                rows += [where | {"sigma": s, "error": e} for s, e in zip(levels, errors, strict=True)]
    return pd.DataFrame(rows)
