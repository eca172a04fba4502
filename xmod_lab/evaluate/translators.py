"""Scores of any method with `translate`: errors against the truth, S-score, Fréchet distance.

One pass over the test volumes: each is translated once to each target, and everything is computed from that. Rows carry
`method`: the translator's name, ``untranslated`` (the source image as it is, the trivial answer) or ``real`` (a true
image of the target, the upper anchor of the S-score). What is kept of a run, and its scorer: `evaluate.scored`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from xmod_lab.data.manifest import Dataset
from xmod_lab.data.prepare import Prepared
from xmod_lab.data.recipes import normalise, outside_of
from xmod_lab.data.registered import registered
from xmod_lab.data.slicing import body_of, image_of, same_grid
from xmod_lab.data.volume import Volume, file_of, load_image
from xmod_lab.evaluate.distances import REAL, Features, distance_rows, patient_distance_rows
from xmod_lab.evaluate.features import Extractor, extractors_of
from xmod_lab.evaluate.masks import capped_assd, score_labels
from xmod_lab.evaluate.runs import Case, predict_volume, structures_of, test_volumes
from xmod_lab.evaluate.translation import image_scores, lpips_network, lpips_score

if TYPE_CHECKING:
    import pandas as pd

    from xmod_lab.methods.base import Method

BATCH = 32
"""slices that a network sees at once; no number depends on it"""
UNTRANSLATED = "untranslated"
ERRORS = ("mae", "rmse", "ssim", "psnr", "pcc")


class Scores(NamedTuple):
    """errors: one row a test patient, source, target and method; s_scores: and structure; distances: over patients;
    fd_patients: the Fréchet distances shared among the patients (`distances.patient_distance_rows`)."""

    errors: pd.DataFrame
    s_scores: pd.DataFrame
    distances: pd.DataFrame
    fd_patients: pd.DataFrame


def translations_of(method: Method, prepared: Prepared) -> list[tuple[str, str]]:
    """(source, target) of every translation that can be scored: the method's `translations` (by default from each of
    its modalities to each other) whose source has test volumes. Empty for a method that does not translate."""
    if not callable(getattr(method, "translate", None)):
        return []
    known = getattr(method, "translations", None)
    pairs = permutations(method.problem.modalities, 2) if known is None else known
    return [(source, target) for source, target in pairs if source in prepared.task.tested]


def true_volume(
    data: Dataset, patient: str, source: str, target: str, register: str | None = None
) -> Volume | None:
    """The image of `target` that lies where the patient's image of `source` does; None where nobody knows it.

    Phantoms know it, unless the source is itself displaced (truth/ shows a displaced image where it would lie at rest).
    Of registered data it is the patient's own image. Stacked modalities (A+B) have none. register: the modality that
    the task brings the others onto, so that the source lies where this one does; real data have the registered image.
    """
    from xmod_lab.data import phantoms

    if "+" in source + target:
        return None
    place = register or source
    if target == place:
        return load_image(data, patient, place)
    if data.access == "phantom":
        displaced = (data.folder / "truth" / patient / f"{place}.nii.gz").is_file()
        return None if displaced else phantoms.truth(data, patient, target)
    if not file_of(data, patient, data.modalities[target].pattern).is_file():
        return None
    if register is not None:
        return registered(data, patient, target, register).image
    return load_image(data, patient, target) if data.relation == "registered" else None


def true_slices(prepared: Prepared, case: Case, target: str) -> np.ndarray | None:
    """The true image of `target` on the slices of `case`: (D, S, S) float32 in the recipe's range, or None.

    Normalised as `prepare` does a real image of that modality, by the true image's own statistics, and rounded to
    float16 as prepared slices are. For evaluation only.
    """
    volume = true_volume(prepared.data, case.patient, case.modality, target, prepared.recipe.register)
    if volume is None:
        return None
    same_grid(volume, image_of(prepared.data, prepared.recipe, case.patient, case.modality))
    volume = dataclasses.replace(volume, array=volume.array.astype(np.float32))
    body = body_of(prepared.data, prepared.recipe, case.patient, target, volume)
    values = normalise(volume.array, body, prepared.recipe, prepared.data.modalities[target].kind)
    planes = case.geometry.forward(values, "linear", fill=outside_of(values, prepared.recipe))
    return planes.astype(np.float16).astype(np.float32)


@torch.no_grad()
def translated(method: Method, case: Case, target: str) -> Tensor:
    """The slices of `case` as `target`: (D, k, S, S) float32 on the CPU, in batches of BATCH."""
    device = next(method.parameters()).device
    parts = [
        method.translate(image.to(device), case.modality, target).float().cpu()  # type: ignore[operator]
        for image in case.slices.image.split(BATCH)
    ]
    return torch.cat(parts)


def features_of(extractor: Extractor, image: Tensor, modality: str, device: torch.device) -> np.ndarray:
    """(D, k, S, S) -> (D, d) float64 features of `image` taken for `modality`."""
    with torch.no_grad():
        parts = [extractor.fn(part.to(device), modality).double().cpu() for part in image.split(BATCH)]
    return torch.cat(parts).numpy()


def score_translator(
    method: Method,
    prepared: Prepared,
    name: str,
    scorer: Method | None = None,
    extractors: Sequence[Extractor] | None = None,
) -> Scores:
    """All scores of a translator, called `name` in the rows, on the test volumes.

    Errors need the method alone; LPIPS is among them where a reader brought its network. S-scores need `scorer`, which
    must be in evaluation mode as `method` is, and whose own modalities limit the targets. Distances need `extractors`,
    by default those of the scorer (`features.extractors_of`), without one none.
    """
    import pandas as pd

    pairs = translations_of(method, prepared)
    device = next(method.parameters()).device
    known = scorer.problem.labelled if scorer is not None else method.problem.modalities
    if extractors is None:
        extractors = extractors_of(scorer, prepared.channels, device) if scorer is not None else ()
    lpips = lpips_network(device)
    errors: list[dict[str, Any]] = []
    dices: list[dict[str, Any]] = []
    features: Features = {e.name: {} for e in extractors}
    seen = dict.fromkeys(name for pair in pairs for name in pair)  # targets, too: their real images are compared with
    for source in (name for name in seen if name in prepared.task.tested):
        for case in test_volumes(prepared, source):
            shown = {(name, t): translated(method, case, t) for s, t in pairs if s == source}
            shown |= {(UNTRANSLATED, t): case.slices.image for s, t in pairs if s == source}
            errors += _error_rows(prepared, case, shown, lpips)
            shown |= {(REAL, source): case.slices.image}
            for (which, target), image in shown.items():
                if target not in known:
                    continue
                if scorer is not None:
                    dices += _s_rows(scorer, prepared, case, image, target, which)
                for extractor in extractors:
                    found = features_of(extractor, image, target, device)
                    features[extractor.name].setdefault((which, source, target), {})[case.patient] = found
    kinds = (errors, dices, distance_rows(features), patient_distance_rows(features))
    return Scores(*map(pd.DataFrame, kinds))


def _error_rows(
    prepared: Prepared, case: Case, shown: dict[tuple[str, str], Tensor], lpips: Callable[..., Any] | None
) -> list[dict[str, Any]]:
    """ERRORS of each (method, target), overall, inside the input's foreground (``_body``), in the target area, the
    task's classes united (``_area``), and in the foreground outside it (``_rest``); NaN where a patient has no such
    voxel. And ``lpips`` overall, where its network is given. Where a registered image is the truth, slices that it
    does not show, which have no foreground, are left out."""
    body, area = case.slices.foreground.numpy(), case.geometry.forward(case.truth, "nearest") > 0
    registered = prepared.recipe.register is not None and prepared.data.access != "phantom"
    kept = body.any((1, 2)) if registered else np.ones(len(body), bool)
    masks = {name: mask[kept] for name, mask in {"body": body, "area": area, "rest": body & ~area}.items()}
    given = {name: mask for name, mask in masks.items() if mask.any()}
    names = [metric + part for part in ("", *(f"_{name}" for name in masks)) for metric in ERRORS]
    names += ["lpips"] if lpips is not None else []
    truths = {target: true_slices(prepared, case, target) for target in dict.fromkeys(t for _, t in shown)}
    rows = []
    for (which, target), image in shown.items():
        truth = truths[target]
        if truth is None:
            continue
        middle, truth = image[:, image.shape[1] // 2].numpy()[kept], truth[kept]
        scores: dict[str, float] = {}  # a translator that diverged has none; the run that trained it says so in its log
        if np.isfinite(middle).all():
            scores = image_scores(middle, truth, given, prepared.value_range)
            if lpips is not None:
                scores["lpips"] = lpips_score(middle, truth, prepared.value_range, network=lpips)
        where = {"patient": case.patient, "source": case.modality, "target": target, "method": which}
        rows.append(where | {metric: scores.get(metric, float("nan")) for metric in names})
    return rows


def _s_rows(
    scorer: Method, prepared: Prepared, case: Case, image: Tensor, target: str, which: str
) -> list[dict[str, Any]]:
    """The scorer of `target` on `image` (D, k, S, S) against the source's own label, on the volume's grid."""
    seen = dataclasses.replace(case, slices=case.slices._replace(image=image))
    predicted = predict_volume(scorer, seen, target, BATCH)
    where = {"patient": case.patient, "source": case.modality, "target": target, "method": which}
    return [
        where
        | {"structure": row["structure"], "region": row["structure"] in prepared.task.regions}
        | {metric: row[metric] for metric in ("dice", "assd_pooled", "missing")}
        | {"assd_cap50": capped_assd(row)}
        for row in score_labels(predicted, case.truth, structures_of(prepared), case.spacing)
    ]


def error_names(errors: pd.DataFrame, name: str) -> dict[str, float]:
    """Means over patients for scores.json: ERRORS (``mae/CT->T1w`` ...), ``mae_area/..`` where there is such an area
    and ``lpips/..`` where it was computed, of the method `name`; ``mae_untranslated/..`` and ``ssim_untranslated/..``
    of the source as it is."""
    found: dict[str, float] = {}
    extra = [column for column in ("mae_area", "lpips") if column in errors and errors[column].notna().any()]
    keys = {name: ((*ERRORS, *extra), ""), UNTRANSLATED: (("mae", "ssim"), f"_{UNTRANSLATED}")}
    for (source, target, which), rows in errors.groupby(["source", "target", "method"], sort=True):
        metrics, suffix = keys[str(which)]
        found |= {f"{metric}{suffix}/{source}->{target}": float(rows[metric].mean()) for metric in metrics}
    return found
