"""Scores of a predicted mask or label map against the truth: overlap, surface distances, missing structures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np

from xmod_lab.errors import LabError
from xmod_lab.evaluate.overlap import NAN, overlap_scores
from xmod_lab.evaluate.surface import bounding_box, surface_distances

Missing = Literal["diagonal", "cap", "nan"]
CAP = 50.0
"""SASAN's upper bound of the ASSD (section 4.3), in the data's unit"""

OVERLAP = ("dice", "precision", "sensitivity", "specificity", "ravd")
SURFACE = ("hd", "hd95_pooled", "hd95_max", "asd", "assd_pooled", "assd_averaged")
METRICS = (*OVERLAP, *SURFACE)
HIGHER_IS_BETTER = {"dice", "precision", "sensitivity", "specificity"}


def score_mask(
    pred: np.ndarray, truth: np.ndarray, spacing: Sequence[float], *, missing: Missing = "diagonal", cap: float = CAP
) -> dict[str, float]:
    """All metrics of one structure.

    pred, truth: boolean arrays of one shape, 2D or 3D. spacing: size of a voxel along each axis, in mm (or 1s, then
    every distance is in voxels). With P the prediction, G the truth and D_PG, D_GP of `xmod_lab.evaluate.surface`:

    =================  =========================================  ================================================
    key                definition                                 known as
    =================  =========================================  ================================================
    dice ... ravd      see `overlap_scores`
    hd                 max of D_PG and D_GP                       Hausdorff distance
    hd95_pooled        95th percentile of D_PG and D_GP together  medpy's HD95
    hd95_max           larger of the two 95th percentiles         HD95 of MONAI, DeepMind and BraTS
    asd                mean of D_PG (directed)                    MONAI's average surface distance
    assd_pooled        mean of D_PG and D_GP together             MONAI's symmetric one; medpy's today
    assd_averaged      mean of the two means                      medpy's of old, hence SIFA 2019-2020
    missing            1 if exactly one mask is empty, else 0     the count that belongs beside every mean
    =================  =========================================  ================================================

    Percentiles interpolate linearly. The six distances where a mask is empty:

    * both empty: 0, under every rule;
    * exactly one empty, ``missing="diagonal"``: the diagonal of the volume, sqrt(sum((n_i s_i)^2)), 373.13 mm for
      240x240x155 at 1 mm (BraTS). No distance that was found can reach it, so a miss is always the worst;
    * exactly one empty, ``missing="cap"``: `cap`, which is then also the upper bound of every distance that was found
      (SASAN's evaluation, "we upper bound", uses 50), so a miss is never better than a find;
    * exactly one empty, ``missing="nan"``: NaN, for tables that leave such cases out. Their mean may improve when more
      is missed: print the count of `missing` with it.

    Raises LabError for arrays that are not boolean, of different shapes, not 2D or 3D, or empty, and for a spacing that
    does not fit.
    """
    if pred.dtype != bool or truth.dtype != bool:
        raise LabError(f"masks must be boolean, these are {pred.dtype} and {truth.dtype}",
                       mend="compare with the label's value, or use score_labels")
    _check(pred, truth, spacing, missing)
    box = _box(pred | truth)
    return _score(pred[box], truth[box], pred.shape, spacing, missing, cap)


def score_labels(
    pred: np.ndarray,
    truth: np.ndarray,
    classes: Mapping[str, Sequence[int]],
    spacing: Sequence[float],
    *,
    missing: Missing = "diagonal",
    cap: float = CAP,
) -> list[dict[str, Any]]:
    """One row of metrics a structure: ``{"structure": name, **score_mask(...)}``.

    pred, truth: integer label maps of one shape. classes: structure -> the label values it unites; a single class has
    one value, a region union (whole tumour) several, and structures may overlap. The rules are those of `score_mask`.
    """
    for name, array in (("prediction", pred), ("truth", truth)):
        if not (np.issubdtype(array.dtype, np.integer) or array.dtype == bool):
            raise LabError(f"the {name} holds {array.dtype}, not integer labels", mend="take the argmax, or round it")
    _check(pred, truth, spacing, missing)
    if any(0 in values for values in classes.values()):
        raise LabError("a structure lists label value 0, which is background", mend="leave 0 out of classes")
    shape = pred.shape
    box = _box((pred != 0) | (truth != 0))
    pred, truth = pred[box], truth[box]  # every structure lies in here
    rows = []
    for name, values in classes.items():
        ours, theirs = (np.isin(labels, list(values)) for labels in (pred, truth))
        own = _box(ours | theirs)
        rows.append({"structure": name} | _score(ours[own], theirs[own], shape, spacing, missing, cap))
    return rows


def capped_assd(row: Mapping[str, Any], cap: float = CAP) -> float:
    """`assd_pooled` of a row of scores as ``missing="cap"`` has it, whatever rule the row was made by: what one mask
    alone has costs `cap`, and nothing costs more (SASAN, section 4.3)."""
    return cap if row["missing"] else min(float(row["assd_pooled"]), cap)


def _box(union: np.ndarray) -> tuple[slice, ...]:
    return bounding_box(union) or (slice(0, 0),) * union.ndim


def _score(pred: np.ndarray, truth: np.ndarray, shape: tuple[int, ...], spacing: Sequence[float], missing: Missing,
           cap: float) -> dict[str, float]:
    """`score_mask` of masks cropped out of a volume of `shape`."""
    n_pred, n_truth = int(np.count_nonzero(pred)), int(np.count_nonzero(truth))
    both = int(np.count_nonzero(pred & truth))
    scores = overlap_scores(both, n_pred, n_truth, int(np.prod(shape)))
    one_empty = (n_pred == 0) != (n_truth == 0)
    if n_pred and n_truth:
        scores |= _distances(pred, truth, spacing, same=both == n_pred == n_truth)
        if missing == "cap":
            scores |= {name: min(scores[name], float(cap)) for name in SURFACE}
    else:
        scores |= dict.fromkeys(SURFACE, _penalty(shape, spacing, missing, cap) if one_empty else 0.0)
    return scores | {"missing": float(one_empty)}


def _distances(pred: np.ndarray, truth: np.ndarray, spacing: Sequence[float], same: bool) -> dict[str, float]:
    if same:
        return dict.fromkeys(SURFACE, 0.0)
    forth, back = surface_distances(pred, truth, spacing)
    pooled = np.concatenate([forth, back])
    return {
        "hd": float(pooled.max()),
        "hd95_pooled": float(np.percentile(pooled, 95)),
        "hd95_max": float(max(np.percentile(forth, 95), np.percentile(back, 95))),
        "asd": float(forth.mean()),
        "assd_pooled": float(pooled.mean()),
        "assd_averaged": float((forth.mean() + back.mean()) / 2),
    }


def _penalty(shape: tuple[int, ...], spacing: Sequence[float], missing: Missing, cap: float) -> float:
    """The distance that a structure gets which only one of the masks has."""
    if missing == "diagonal":
        return float(np.linalg.norm(np.multiply(shape, spacing)))
    if missing == "cap":
        return float(cap)
    return NAN


def _check(pred: np.ndarray, truth: np.ndarray, spacing: Sequence[float], missing: Missing) -> None:
    if pred.shape != truth.shape:
        raise LabError(f"prediction {pred.shape} and truth {truth.shape} differ in shape",
                       mend="bring the prediction back to the native grid")
    if pred.ndim not in (2, 3) or pred.size == 0:
        raise LabError(f"masks must be 2D or 3D and not empty arrays, these have shape {pred.shape}",
                       mend="score one patient's volume at a time")
    if len(spacing) != pred.ndim or not all(0 < step < float("inf") for step in spacing):
        raise LabError(f"spacing {tuple(spacing)} does not fit {pred.ndim}D masks",
                       mend="give one positive size an axis")
    if missing not in get_args(Missing):
        raise LabError(f"no rule {missing!r} for missing structures",
                       mend=f"choose one of {', '.join(get_args(Missing))}")
