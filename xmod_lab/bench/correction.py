"""Holm's correction of comparisons, as text of a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from xmod_lab.evaluate.statistics import ALPHA, holm, smallest_p

if TYPE_CHECKING:
    import pandas as pd

UNREACHABLE = f"cannot reach {ALPHA}"
"""in place of Holm's p"""


def corrected(table: pd.DataFrame) -> pd.DataFrame:
    """The table with p as text and, behind it, p_holm within each claim."""
    if "p" not in table:
        return table
    for _, rows in table.groupby("claim"):
        table.loc[rows.index, "p_holm"] = held(rows["p"].astype(float).tolist(), rows["n"])
    table["p"] = [f"{p:.2g}" if p == p else "" for p in table["p"]]
    order = [c for c in table if c not in ("p", "p_holm", "verdict", "healthy folds", "reason")]
    apart = ["healthy folds"] if "healthy folds" in table and table["healthy folds"].any() else []
    return table[[*order, "p", "p_holm", "verdict", *apart, "reason"]]


def held(p: Sequence[float], patients: Iterable[int]) -> list[str]:
    """Holm's p of comparisons, as text; UNREACHABLE where it would stay at ALPHA or above if all of its patients had
    one sign, empty where there is no p."""
    text = []
    for i, (adjusted, n) in enumerate(zip(holm(p), patients, strict=True)):
        least = holm([*p[:i], min(p[i], smallest_p(int(n))), *p[i + 1 :]])[i]
        text.append("" if adjusted != adjusted else UNREACHABLE if least >= ALPHA else f"{adjusted:.2g}")
    return text
