"""Ranks, Friedman's test and the critical difference, by hand and against published values."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmod_lab.errors import LabError
from xmod_lab.evaluate.ranking import Ranking, ranking
from xmod_lab.view.evidence import critical_differences

CRITICAL = {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 6: 2.850, 7: 2.949, 8: 3.031, 9: 3.102, 10: 3.164}
"""Demšar 2006, Table 5(a): q at 0.05 by number of systems"""
SCORES = pd.DataFrame(
    {"a": [0.9, 0.8, 0.7, 0.9, 0.6], "b": [0.8, 0.8, 0.6, 0.7, 0.5], "c": [0.7, 0.6, 0.5, 0.8, 0.4],
     "d": [0.2, 0.3, 0.1, 0.2, 0.5]}
)  # fmt: skip
"""ranks by hand: a 1 1.5 1 1 1, b 2 1.5 2 3 2.5, c 3 3 3 2 4, d 4 4 4 4 2.5"""


def test_ranks_by_hand() -> None:
    found = ranking(SCORES)
    assert found.ranks.to_dict() == pytest.approx({"a": 1.1, "b": 2.2, "c": 3.0, "d": 3.7})
    assert list(found.ranks.index) == list("abcd") and found.n == 5


@pytest.mark.parametrize("k", [k for k in CRITICAL if k > 2])
def test_the_critical_difference_is_the_published_one(k: int) -> None:
    n = 14
    found = ranking(pd.DataFrame(np.random.default_rng(k).random((n, k))))
    assert found.critical == pytest.approx(CRITICAL[k] * np.sqrt(k * (k + 1) / (6 * n)), rel=5e-4)


def test_friedmans_p_follows_from_the_ranks() -> None:
    from scipy.stats import chi2

    table = pd.DataFrame(np.random.default_rng(1).random((14, 4)))  # no ties
    found, n, k = ranking(table), 14, 4
    statistic = 12 * n / (k * (k + 1)) * ((found.ranks**2).sum() - k * (k + 1) ** 2 / 4)
    assert found.p == pytest.approx(chi2.sf(statistic, k - 1), rel=1e-6)


def test_lower_is_better_turns_the_order_round() -> None:
    high, low = ranking(SCORES), ranking(SCORES, lower=True)
    assert low.ranks.to_dict() == pytest.approx({name: 5 - rank for name, rank in high.ranks.items()})
    assert low.critical == high.critical and low.p == pytest.approx(high.p)


def test_groups_are_the_longest_rows_within_the_critical_difference() -> None:
    ranks = pd.Series({"a": 1.0, "b": 1.5, "c": 2.4, "d": 4.0})
    assert Ranking(ranks, 9, 0.01, 1.45).groups == [("a", "c")]
    assert Ranking(ranks, 9, 0.01, 1.0).groups == [("a", "b"), ("b", "c")]
    assert Ranking(ranks, 9, 0.01, 0.4).groups == []
    assert Ranking(ranks, 9, 0.01, 9.0).groups == [("a", "d")]
    assert Ranking(ranks, 9, 0.06, 0.4).groups == [("a", "d")], "Friedman's test finds no difference"
    assert Ranking(ranks, 5, 0.01, 0.4).groups == [("a", "d")], "five patients part nobody"


def test_a_patient_without_a_value_is_left_out_and_equal_systems_do_not_differ() -> None:
    table = SCORES.copy()
    table.iloc[0, 0] = np.nan
    assert ranking(table).n == 4
    same = pd.DataFrame(np.ones((5, 3)), columns=list("abc"))
    found = ranking(same)
    assert found.p == 1.0 and (found.ranks == 2).all() and found.groups == [("a", "c")]


@pytest.mark.parametrize("shape", [(5, 2), (1, 4), (0, 3)])
def test_too_few_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(LabError, match="cannot be ranked"):
        ranking(pd.DataFrame(np.random.default_rng(0).random(shape)))


@given(st.integers(3, 7), st.integers(2, 9), st.integers(0, 10**6))
def test_ranks_sum_to_what_they_must(k: int, n: int, seed: int) -> None:
    found = ranking(pd.DataFrame(np.random.default_rng(seed).integers(0, 4, (n, k))))
    assert found.ranks.sum() == pytest.approx(k * (k + 1) / 2) and 0 <= found.p <= 1
    assert found.ranks.is_monotonic_increasing


def test_the_diagram_names_every_system_with_its_rank() -> None:
    found = ranking(SCORES)
    figure = critical_differences({"AUC": found})
    texts = [text.get_text() for text in figure.axes[0].texts]
    for name, rank in found.ranks.items():
        assert any(name in text and f"{rank:.2f}" in text for text in texts)
    assert "5 patients" in figure.axes[0].get_title()
    for p, text in ((0.0001, "p below 0.001,"), (0.0504, "p 0.050: no difference found"), (0.011, "p 0.011,")):
        title = critical_differences({"AUC": found._replace(p=p)}).axes[0].get_title()
        assert text in title
