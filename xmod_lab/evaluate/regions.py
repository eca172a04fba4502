"""Structures against maps and against the foreground, by patient."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from xmod_lab.data.prepare import Prepared
from xmod_lab.evaluate.runs import structures_of, test_volumes

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
            parts: dict[str, list[np.ndarray]] = {}
            for start in range(0, len(inside), batch):
                some = slice(start, start + batch)
                slices = case.slices._replace(image=case.slices.image[some].to(next(method.parameters()).device))
                for name, found in method.maps({modality: slices}).items():  # type: ignore[operator]
                    if name.startswith(prefix) and found.kind == "mask":
                        parts.setdefault(name, []).append(found.values.float().cpu().numpy())
            for name, values in parts.items():
                ratio = inside_outside(np.concatenate(values), inside, body)
                shown = name.removesuffix(f"/{modality}")
                rows.append({"patient": case.patient, "modality": modality, "map": shown, "ratio": ratio})
    return pd.DataFrame(rows)


@torch.no_grad()
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
            parts = []
            for start in range(0, len(truth), batch):
                image = case.slices.image[start : start + batch].to(next(method.parameters()).device)
                slices = case.slices._replace(image=image, foreground=case.slices.foreground[start : start + batch])
                maps = method.maps({modality: slices})  # type: ignore[operator]
                parts.append(maps[f"{prefix}{modality}/{modality}"].values.float().cpu().numpy())
            values = np.concatenate(parts).swapaxes(0, 1)[:, body]
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
