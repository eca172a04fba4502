"""Paired comparison of methods over patients. Never over slices: they are not independent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xmod_lab.errors import LabError

if TYPE_CHECKING:
    import pandas as pd

EXACT_UP_TO = 25
"""patients; beyond, the normal approximation"""
ALPHA = 0.05


def smallest_p(n: int) -> float:
    """The smallest two-sided p that the signed-rank test of `n` non-zero differences can give: 2^(1-n).

    4 -> 0.125, 5 -> 0.0625, 6 -> 0.031, 9 -> 0.0039: with four or five patients no result can reach 0.05.
    """
    return min(1.0, 2.0 ** (1 - n))


def signed_rank(differences: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Two-sided p of Wilcoxon's signed-rank test, and the matched-pairs rank-biserial effect in -1..1.

    Zeros by Pratt: they are ranked, then dropped. The effect is (W+ - W-) / (W+ + W-), 1 if every difference is
    positive. Up to EXACT_UP_TO differences p is exact, conditional on ties and zeros, by counting all sign patterns:
    SciPy's exact method holds without ties only, and its enumeration takes 2^n steps where this takes n^3. Beyond,
    SciPy's approximation. Differences are rounded to ten decimals first, or 0.3 - 0.2 and 0.2 - 0.1 would not tie.
    """
    from scipy.stats import rankdata, wilcoxon

    d = np.round(np.asarray(differences, dtype=float), 10)
    ranks = rankdata(np.abs(d))[d != 0]
    if ranks.size == 0:
        return 1.0, 0.0
    positive = ranks[d[d != 0] > 0].sum()
    effect = float(2 * positive / ranks.sum() - 1)
    if d.size > EXACT_UP_TO:
        return float(wilcoxon(d, zero_method="pratt", method="asymptotic").pvalue), effect
    doubled = np.rint(2 * ranks).astype(int)  # tied ranks are halves
    ways = np.ones(1)
    for rank in doubled:  # ways[s]: sign patterns whose positive ranks sum to s / 2
        ways = np.pad(ways, (0, rank)) + np.pad(ways, (rank, 0))
    observed = round(2 * positive)
    tail = min(ways[: observed + 1].sum(), ways[observed:].sum()) / ways.sum()
    return float(min(1.0, 2 * tail)), effect


def holm(p: Sequence[float] | np.ndarray) -> np.ndarray:
    """Holm's step-down adjusted p values (Holm 1979), in the order given; NaN stays NaN and counts as no comparison."""
    values = np.asarray(p, dtype=float)
    adjusted = np.full(values.shape, np.nan)
    order = [i for i in np.argsort(values) if not np.isnan(values[i])]
    highest = 0.0
    for step, i in enumerate(order):
        highest = max(highest, min(1.0, float(values[i]) * (len(order) - step)))
        adjusted[i] = highest
    return adjusted


def bootstrap_interval(
    differences: np.ndarray, *, level: float = 0.95, resamples: int = 9999, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean paired difference, patients resampled; NaN for fewer than two."""
    from scipy.stats import bootstrap

    if len(differences) < 2:
        return float("nan"), float("nan")
    found = bootstrap((differences,), np.mean, confidence_level=level, n_resamples=resamples, method="percentile",
                      rng=np.random.default_rng(seed)).confidence_interval
    return float(found.low), float(found.high)


def mean_interval(differences: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Student's interval of the mean paired difference; NaN for fewer than two.

    With six patients it misses a true mean of normal differences 5 times in 100, the percentile bootstrap about 13.
    """
    from scipy.stats import t

    n = len(differences)
    if n < 2:
        return float("nan"), float("nan")
    half = t.ppf((1 + level) / 2, n - 1) * np.std(differences, ddof=1) / np.sqrt(n)
    return float(np.mean(differences) - half), float(np.mean(differences) + half)


def crossed_interval(folds: Sequence[np.ndarray], level: float = 0.95) -> tuple[float, float]:
    """Interval of a mean difference over patients and trainings; NaN for fewer than two patients.

    folds: one array a fold, (patients, seeds), all with the same seeds; whoever is tested in a fold is seen by the same
    networks, one a seed. The variance of the mean is that of patients, and what trainings add to it,

        (MS_patients + max(0, MS_trainings - MS_rest)) / (patients * seeds),

    mean squares of patients over all folds, of trainings and rest within folds. Degrees of freedom by Satterthwaite
    (1946), at least those of the smaller factor. With one seed, or where trainings differ no more than the rest does,
    it is `mean_interval` of the patients' means, which is of these networks alone: where trainings spread as patients
    do, that one misses the true mean of six patients and three seeds 20 times in 100, this one 5.
    """
    from scipy.stats import t

    means = np.concatenate([np.mean(fold, axis=1) for fold in folds]) if folds else np.empty(0)
    n, seeds = len(means), folds[0].shape[1] if folds else 0
    if n < 2 or seeds < 2:
        return mean_interval(means, level)
    trainings, free = 0.0, len(folds) * (seeds - 1)
    rest, left = 0.0, (seeds - 1) * (n - len(folds))
    for fold in folds:
        shift = fold.mean(0) - fold.mean()
        trainings += len(fold) * float((shift**2).sum()) / free
        rest += float(((fold - fold.mean(1, keepdims=True) - shift) ** 2).sum()) / max(left, 1)
    patients = seeds * float(means.var(ddof=1))
    if trainings <= rest:
        return mean_interval(means, level)
    variance = patients + trainings - rest
    terms = patients**2 / (n - 1) + trainings**2 / free + rest**2 / max(left, 1)
    degrees = max(variance**2 / terms, min(n - 1, free))
    half = t.ppf((1 + level) / 2, degrees) * np.sqrt(variance / (n * seeds))
    return float(np.mean(means) - half), float(np.mean(means) + half)


def compare(
    table: pd.DataFrame, baseline: str, metric: str, *, methods: Sequence[str] | None = None, seed: int = 0
) -> pd.DataFrame:
    """Every method against `baseline`, paired by patient: one row a method.

    table: columns `method`, `patient` and `metric`, one row a patient and method (average seeds with
    `tables.patient_values`, filter to one structure and modality). Differences are method minus baseline. Columns:

    n, dropped             pairs used; patients without a finite value on both sides
    median_difference, mean_difference, ci_low, ci_high       with the bootstrap 95 % interval of the mean
    p, p_holm, effect      `signed_rank`; Holm over the rows of this table
    smallest_p             what n pairs could give at best
    verdict                "different" (p_holm < 0.05), "not shown", or "cannot reach 0.05" where even the smallest p,
                           times the number of comparisons, is not below it: as with five patients or fewer

    Raises LabError where rows are not patients (slices, structures or seeds left in), and for an unknown name.
    """
    import pandas as pd

    for column in ("method", "patient", metric):
        if column not in table.columns:
            raise LabError(f"the table has no column {column!r}", mend=f"it has {', '.join(map(str, table.columns))}")
    present = list(dict.fromkeys(table["method"]))
    others = [name for name in present if name != baseline] if methods is None else list(methods)
    if unknown := [name for name in [baseline, *others] if name not in present]:
        raise LabError(f"no rows of method {unknown[0]!r}", mend=f"the table has {', '.join(map(str, present))}")
    _refuse_repeats(table)
    wide = table.pivot(index="patient", columns="method", values=metric).astype(float)
    rows: list[dict[str, Any]] = []
    for name in others:
        difference = (wide[name] - wide[baseline]).to_numpy()
        entered = int((wide[name].notna() | wide[baseline].notna()).sum())
        used = difference[np.isfinite(difference)]
        low, high = bootstrap_interval(used, seed=seed)
        p, effect = signed_rank(used) if used.size else (float("nan"), float("nan"))
        rows.append({
            "method": name, "baseline": baseline, "metric": metric, "n": used.size, "dropped": entered - used.size,
            "median_difference": float(np.median(used)) if used.size else float("nan"),
            "mean_difference": float(np.mean(used)) if used.size else float("nan"),
            "ci_low": low, "ci_high": high, "p": p, "p_holm": float("nan"), "effect": effect,
            "smallest_p": smallest_p(used.size),
        })
    for row, adjusted in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = float(adjusted)
        row["verdict"] = _verdict(row, len(rows))
    return pd.DataFrame(rows)


def _verdict(row: dict[str, Any], comparisons: int) -> str:
    if not row["smallest_p"] * comparisons < ALPHA:
        return f"cannot reach {ALPHA}" + (f" with {comparisons} comparisons" if row["smallest_p"] < ALPHA else "")
    return "different" if row["p_holm"] < ALPHA else "not shown"


def _refuse_repeats(table: pd.DataFrame) -> None:
    repeated = table[table.duplicated(["method", "patient"])]
    if len(repeated):
        first = repeated.iloc[0]
        count = int(((table["method"] == first["method"]) & (table["patient"] == first["patient"])).sum())
        raise LabError(f"rows are not patients: {count} rows of patient {first['patient']!r} and method "
                       f"{first['method']!r}",
                       mend="never test on slices; keep one structure and modality, average seeds (patient_values)")
