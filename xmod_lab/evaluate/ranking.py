"""Ranks of several systems over patients, Friedman's test and Nemenyi's critical difference (Demšar 2006)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from xmod_lab.errors import LabError
from xmod_lab.evaluate.statistics import ALPHA, smallest_p

if TYPE_CHECKING:
    import pandas as pd


class Ranking(NamedTuple):
    """Mean ranks (1 is best) in their order, patients `n`, Friedman's `p`, and the critical difference of ranks."""

    ranks: pd.Series
    n: int
    p: float
    critical: float

    @property
    def groups(self) -> list[tuple[str, str]]:
        """First and last of each longest row of systems that patients cannot part: whose ranks differ by less than the
        critical difference; all of them where Friedman's test finds none, or with five patients or fewer."""
        names, values = list(self.ranks.index), self.ranks.to_numpy()
        if self.p >= ALPHA or smallest_p(self.n) >= ALPHA:
            return [(str(names[0]), str(names[-1]))]
        found: list[tuple[int, int]] = []
        for i, value in enumerate(values):
            last = max(j for j in range(i, len(values)) if values[j] - value < self.critical)
            if last > i and (not found or last > found[-1][1]):
                found.append((i, last))
        return [(str(names[i]), str(names[j])) for i, j in found]


def ranking(wide: pd.DataFrame, *, lower: bool = False) -> Ranking:
    """Rank the columns (systems) of `wide` within each row (patient), ties by their mean rank.

    lower: whether less is better. Patients without a value of every system are left out. The critical difference is
    q sqrt(k (k + 1) / (6 n)) with the studentised range's q over sqrt(2) at ALPHA: mean ranks further apart differ,
    if Friedman's test says that any do. Raises LabError for fewer than three systems or two patients.
    """
    import numpy as np
    from scipy.stats import friedmanchisquare, studentized_range

    whole = wide.dropna()
    n, k = whole.shape
    if k < 3 or n < 2:
        raise LabError(f"{k} systems and {n} patients with all values cannot be ranked", mend="give three and two")
    ranks = whole.rank(axis=1, ascending=lower).mean().sort_values()
    p = 1.0 if (whole.nunique(axis=1) == 1).all() else friedmanchisquare(*whole.to_numpy().T).pvalue
    q = studentized_range.ppf(1 - ALPHA, k, np.inf) / np.sqrt(2)
    return Ranking(ranks, n, float(p), float(q * np.sqrt(k * (k + 1) / (6 * n))))
