"""From the features of translated and real test images to rows: distances over patients, and by patient."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from xmod_lab.evaluate.distribution import distribution_scores, frechet_distance, jackknife

REAL, OVER_SOURCES = "real", "mean"
Features = dict[str, dict[tuple[str, str, str], dict[str, np.ndarray]]]
"""extractor -> (method, source, target) -> patient -> (slices, d); of real images source and target are the same"""


def distance_rows(features: Features) -> list[dict[str, Any]]:
    """`distribution_scores` by extractor of each (method, source, target) against the real test images of the target,
    then the mean over the sources of each method and target, as in TarGAN's Table 1 (source OVER_SOURCES). A translator
    that diverged has NaN."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for extractor, found in features.items():
        real = _real(found)
        for (which, source, target), values in found.items():
            if which != REAL and target in real:
                row = rows.setdefault((which, target, source), {"source": source, "target": target, "method": which})
                row |= _scores(_stack(real[target]), _stack(values), extractor)
    means: list[dict[str, Any]] = []
    for which, target in dict.fromkeys(key[:2] for key in rows):
        members = [row for key, row in rows.items() if key[:2] == (which, target)]
        numbers = [key for key, value in members[0].items() if not isinstance(value, str)]
        mean = {key: float(np.mean([row[key] for row in members])) for key in numbers}
        means.append({"source": OVER_SOURCES, "target": target, "method": which} | mean)
    return [*rows.values(), *means]


def patient_distance_rows(features: Features) -> list[dict[str, Any]]:
    """``FD[extractor]`` of each (method, target), the mean over sources, as pseudo-values of the patients who made it
    (`distribution.jackknife`): one row a patient, target and method; NaN for a translator that diverged, and where a
    modality has one patient alone.

    Those are the translated patients and the real ones of the target. Each is taken out wherever he occurs: in
    registered data he is both. A few real patients lie off the mean by chance, all translators are measured against
    them, and one who errs in that direction looks better: pseudo-values of the translated patients alone do not see it.
    With few patients they may order two translators otherwise than the plain distance does, which favours images with
    too little spread: its bias grows with the spread of both sets, and these have less of that bias.
    """
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for extractor, found in features.items():
        for target, real in _real(found).items():
            for which in dict.fromkeys(w for w, _, t in found if t == target and w != REAL):
                sources = [own for (w, _, t), own in found.items() if (w, t) == (which, target)]
                patients = list(dict.fromkeys(p for own in (*sources, real) for p in own))
                known = all(len(own) > 1 and np.isfinite(_stack(own)).all() for own in (*sources, real))
                mean = partial(_mean_distance, sources=sources, real=real)
                shares = jackknife(mean, patients) if known else np.full(len(patients), np.nan)
                for patient, share in zip(patients, shares, strict=True):
                    where = {"patient": patient, "target": target, "method": which}
                    rows.setdefault((which, target, patient), where)[f"FD[{extractor}]"] = float(share)
    return list(rows.values())


def _real(found: dict[tuple[str, str, str], dict[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    return {target: values for (which, _, target), values in found.items() if which == REAL}


def _stack(values: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate(list(values.values()))


def _mean_distance(
    kept: Sequence[str], sources: Sequence[dict[str, np.ndarray]], real: dict[str, np.ndarray]
) -> float:
    """Fréchet distance to the real images, mean over `sources`, of the patients `kept` alone."""
    members = set(kept)
    others, *rest = (_stack({p: own[p] for p in own if p in members}) for own in (real, *sources))
    return float(np.mean([frechet_distance(others, own) for own in rest]))


def _scores(real: np.ndarray, fake: np.ndarray, extractor: str) -> dict[str, float]:
    if np.isfinite(fake).all():
        return distribution_scores(real, fake, extractor)
    known = distribution_scores(real, real, extractor)  # floor and count of the real images still hold
    kept = {name: value for name, value in known.items() if name.endswith("floor") or name == "n_real"}
    return dict.fromkeys(known, float("nan")) | kept | {"n_fake": float(len(fake))}
