"""Structures against maps and against the foreground, by patient."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from xmod_lab.data.prepare import Prepared
from xmod_lab.evaluate.runs import Case, slices_at, structures_of, test_volumes
from xmod_lab.maps import Map

if TYPE_CHECKING:
    import pandas as pd

    from xmod_lab.methods.base import Method


def inside_outside(values: np.ndarray, inside: np.ndarray, body: np.ndarray) -> float:
    """Mean of `values` inside a structure over its mean in the rest of the body; all (n, h, w), values >= 0.

    1: the map does not care. NaN if there is no pixel inside, or none outside, or nothing at all outside.
    """
    outside = body & ~inside
    if not inside.any() or not outside.any() or not (rest := float(values[outside].mean())):
        return float("nan")
    return float(values[inside].mean()) / rest


@torch.no_grad()
def volume_maps(
    method: Method, case: Case, prefix: str = "", kept: torch.Tensor | None = None, batch: int = 32
) -> dict[str, Map]:
    """The method's maps of the slices of a test volume, or of those whose numbers are `kept`: float32 on the CPU.

    Those whose name begins with `prefix`. What needs labels is left out, as no labels are shown; and so are matrices
    that are of a batch or of the weights, which have no entry for each slice.
    """
    parts: dict[str, list[Map]] = {}
    numbers = torch.arange(len(case.slices.image)) if kept is None else kept
    for some in numbers.split(batch):
        slices = slices_at(case.slices, some)
        slices = slices._replace(image=slices.image.to(next(method.parameters()).device))
        for name, one in method.maps({case.modality: slices}).items():  # type: ignore[operator]
            if name.startswith(prefix) and len(one.values) == len(some):
                parts.setdefault(name, []).append(dataclasses.replace(one, values=one.values.float().cpu()))
    whole = {name: torch.cat([one.values for one in each]) for name, each in parts.items()}
    return {
        name: dataclasses.replace(parts[name][0], values=values)
        for name, values in whole.items()
        if len(values) == len(numbers)
    }


def map_ratios(method: Method, prepared: Prepared, prefix: str, batch: int = 32) -> pd.DataFrame:
    """`inside_outside` of every `mask` map whose name begins with `prefix`, over each test volume.

    Inside is the union of the task's classes, at the slices' resolution. One row a patient, modality and map: patient,
    modality, map (its name without the modality), ratio.
    """
    import pandas as pd

    method.eval()
    rows: list[dict[str, Any]] = []
    for modality in prepared.task.labelled:
        for case in test_volumes(prepared, modality):
            inside = case.geometry.forward(case.truth, "nearest") > 0
            body = case.slices.foreground.numpy() | inside
            masks = {name: m for name, m in volume_maps(method, case, prefix, batch=batch).items() if m.kind == "mask"}
            for name, found in masks.items():
                ratio = inside_outside(found.values.numpy(), inside, body)
                shown = name.removesuffix(f"/{modality}")
                rows.append({"patient": case.patient, "modality": modality, "map": shown, "ratio": ratio})
    return pd.DataFrame(rows)


def map_correlations(method: Method, prepared: Prepared, prefix: str, batch: int = 32) -> pd.DataFrame:
    """How much each map of a `stack` and each structure occupy the same pixels, over each test volume.

    Pearson's correlation of the map's values with the structure's mask, over the body's pixels of all slices: in
    [-1, 1], 0 for a map that does not know the structure, whatever the map's scale and offset; NaN for a structure that
    the patient does not have, and a constant map. Stacks are those whose name begins with `prefix`; of a modality's own
    images only (``attention/MR/MR`` for "attention/"). One row a patient, modality, map (from 0) and structure.
    """
    import pandas as pd

    method.eval()
    rows: list[dict[str, Any]] = []
    for modality in prepared.task.tested:
        for case in test_volumes(prepared, modality):
            truth = case.geometry.forward(case.truth, "nearest")
            body = case.slices.foreground.numpy() | (truth > 0)
            found = volume_maps(method, case, prefix, batch=batch)[f"{prefix}{modality}/{modality}"]
            values = found.values.numpy().swapaxes(0, 1)[:, body]
            for structure, members in structures_of(prepared).items():
                mask = np.isin(truth, members)[body].astype(np.float64)
                for number, value in enumerate(values):
                    where = {"patient": case.patient, "modality": modality, "map": number, "structure": structure}
                    rows.append(where | {"correlation": correlation(value.astype(np.float64), mask)})
    return pd.DataFrame(rows)


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's correlation of two vectors; NaN where one is constant."""
    if x.std() == 0 or y.std() == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def everything_rows(prepared: Prepared) -> pd.DataFrame:
    """The trivial answer that fills the picture: `everything`, Dice of calling all foreground the structure.

    One row a test patient, tested modality and structure, on the slices as networks see them.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for modality in prepared.task.tested:
        for case in test_volumes(prepared, modality):
            truth = case.geometry.forward(case.truth, "nearest")
            filled = case.slices.foreground.numpy()
            for structure, members in structures_of(prepared).items():
                mask = np.isin(truth, members)
                dice = 2 * (mask & filled).sum() / max(1, mask.sum() + filled.sum())
                rows.append({
                    "patient": case.patient, "modality": modality, "structure": structure, "everything": float(dice)
                })
    return pd.DataFrame(rows)
