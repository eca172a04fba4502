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
    """``FD[extractor]`` of each (method, source, target) as pseudo-values of its patients (`distribution.jackknife`):
    one row a patient, source, target and method; NaN for a translator that diverged.

    A patient is taken out of the translated images and, where he is among the real ones as well (registered data), out
    of those too. Other real images stay: the values are of the translator's patients, given the real test images.
    """
    rows: dict[tuple[str, str, str, str], dict[str, Any]] = {}
    for extractor, found in features.items():
        real = _real(found)
        for (which, source, target), own in found.items():
            if which == REAL or target not in real:
                continue
            finite = np.isfinite(_stack(own)).all()
            shares = jackknife(partial(_without, own=own, real=real[target]), list(own)) if finite else None
            for i, patient in enumerate(own):
                where = {"patient": patient, "source": source, "target": target, "method": which}
                value = float("nan") if shares is None else float(shares[i])
                rows.setdefault((which, source, target, patient), where)[f"FD[{extractor}]"] = value
    return list(rows.values())


def _real(found: dict[tuple[str, str, str], dict[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    return {target: values for (which, _, target), values in found.items() if which == REAL}


def _stack(values: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate(list(values.values()))


def _without(kept: Sequence[str], own: dict[str, np.ndarray], real: dict[str, np.ndarray]) -> float:
    """Fréchet distance of the patients `kept` of a translator to the real images without those left out."""
    gone = set(own) - set(kept)
    others = _stack({p: values for p, values in real.items() if p not in gone})
    return frechet_distance(others, _stack({p: own[p] for p in kept}))


def _scores(real: np.ndarray, fake: np.ndarray, extractor: str) -> dict[str, float]:
    if np.isfinite(fake).all():
        return distribution_scores(real, fake, extractor)
    known = distribution_scores(real, real, extractor)  # floor and count of the real images still hold
    kept = {name: value for name, value in known.items() if name.endswith("floor") or name == "n_real"}
    return dict.fromkeys(known, float("nan")) | kept | {"n_fake": float(len(fake))}
