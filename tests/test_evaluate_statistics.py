"""Signed-rank test, Holm, bootstrap and the comparison table against SciPy and hand-computed values."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from xmod_lab.errors import LabError
from xmod_lab.evaluate import compare, holm, signed_rank, smallest_p
from xmod_lab.evaluate.statistics import bootstrap_interval, crossed_interval, mean_interval


def by_enumeration(differences: np.ndarray) -> float:
    """Two-sided p over all sign patterns, one by one."""
    ranks = stats.rankdata(np.abs(differences))[differences != 0]
    observed = ranks[differences[differences != 0] > 0].sum()
    sums = np.array([np.dot(ranks, signs) for signs in itertools.product((0, 1), repeat=len(ranks))])
    return min(1.0, 2 * min((sums <= observed + 1e-9).mean(), (sums >= observed - 1e-9).mean()))


@pytest.mark.parametrize("n", [2, 5, 9, 17, 25])
def test_exact_equals_scipy_without_ties(n):
    differences = np.random.default_rng(n).normal(0.3, 1, n)
    expected = stats.wilcoxon(differences, method="exact").pvalue
    assert signed_rank(differences)[0] == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9))
def test_exact_with_ties_and_zeros(values):
    differences = np.array(values, dtype=float)
    p, effect = signed_rank(differences)
    assert p == pytest.approx(by_enumeration(differences) if differences.any() else 1.0)
    assert -1 <= effect <= 1
    assert signed_rank(-differences) == pytest.approx((p, -effect))


def test_pratt_against_scipys_permutation():
    differences = np.array([0.0, 0.1, 0.1, -0.2, 0.3, 0.4, 0.0, 0.5])
    expected = stats.wilcoxon(differences, zero_method="pratt",
                              method=stats.PermutationMethod(n_resamples=2**9)).pvalue
    assert signed_rank(differences)[0] == pytest.approx(expected)


def test_large_samples_take_scipys_approximation():
    differences = np.random.default_rng(0).normal(0.2, 1, 40)
    expected = stats.wilcoxon(differences, zero_method="pratt", method="asymptotic").pvalue
    assert signed_rank(differences)[0] == expected


def test_rank_biserial_by_hand():
    """|d| ranks 1, 2, 3, 4 with the second negative: (8 - 2) / 10."""
    assert signed_rank([1, -2, 3, 4])[1] == pytest.approx(0.6)
    assert signed_rank([1, 2, 3])[1] == 1
    assert signed_rank([0, 0, 0]) == (1.0, 0.0)


def test_rounding_noise_does_not_break_ties():
    assert 0.3 - 0.2 != 0.2 - 0.1
    assert signed_rank([0.3 - 0.2, 0.1 - 0.2, 0.5]) == signed_rank([1, -1, 5])


def test_smallest_p_of_the_card():
    assert [round(smallest_p(n), 4) for n in (4, 5, 6, 9)] == [0.125, 0.0625, 0.0312, 0.0039]
    for n in range(1, 12):
        assert signed_rank(np.arange(1, n + 1))[0] == pytest.approx(smallest_p(n))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=4, max_size=4))
def test_four_patients_never_reach_the_level(values):
    assert signed_rank(values)[0] >= 0.125


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, np.nan, 0.6]) == pytest.approx([1.0, np.nan, 1.0], nan_ok=True)
    assert holm([]).size == 0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_monotone_and_between_raw_and_bonferroni(values):
    raw, adjusted = np.array(values), holm(values)
    order = np.argsort(raw, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
    assert (adjusted >= raw).all() and (adjusted <= np.minimum(1, len(raw) * raw) + 1e-12).all()


def test_bootstrap_is_seeded_and_near_the_normal_interval():
    differences = np.random.default_rng(3).normal(1, 2, 200)
    low, high = bootstrap_interval(differences, seed=1)
    assert (low, high) == bootstrap_interval(differences, seed=1) != bootstrap_interval(differences, seed=2)
    half = 1.96 * differences.std(ddof=1) / np.sqrt(200)
    assert low == pytest.approx(differences.mean() - half, abs=0.1)
    assert high == pytest.approx(differences.mean() + half, abs=0.1)
    assert np.isnan(bootstrap_interval(np.array([1.0]))).all()


def test_interval_over_patients_and_trainings_by_hand():
    """Two patients, three trainings: patient means 0.2 and 0.4, trainings' shifts -0.1, 0, 0.1, no rest."""
    fold = np.array([[0.1, 0.2, 0.3], [0.3, 0.4, 0.5]])
    patients, trainings = 3 * 0.02, 2 * (0.01 + 0 + 0.01) / 2  # mean squares, one and two degrees of freedom
    variance = patients + trainings
    degrees = variance**2 / (patients**2 / 1 + trainings**2 / 2)
    half = stats.t.ppf(0.975, degrees) * np.sqrt(variance / 6)
    assert crossed_interval([fold]) == pytest.approx((0.3 - half, 0.3 + half))


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=8))
def test_one_seed_and_equal_seeds_leave_students_interval(values):
    column = np.array(values)[:, None]
    assert crossed_interval([column]) == mean_interval(column[:, 0])
    assert crossed_interval([np.repeat(column, 3, axis=1)]) == pytest.approx(mean_interval(column[:, 0]), abs=1e-12)
    halves = [column[: len(values) // 2], column[len(values) // 2 :]]
    assert crossed_interval(halves) == mean_interval(column[:, 0])


def test_fewer_than_two_patients_have_no_interval():
    assert np.isnan(crossed_interval([])).all() and np.isnan(crossed_interval([np.array([[0.1, 0.2]])])).all()
    assert np.isfinite(crossed_interval([np.array([[0.1, 0.2]]), np.array([[0.3, 0.2]])])).all()


@pytest.mark.parametrize("shape", [(1, 6, 3), (2, 3, 3), (3, 6, 3)])
def test_trainings_that_spread_as_patients_do_are_covered(shape):
    """Normal patients, trainings and rest about zero: 95 of 100 intervals hold it, of Student's at most 92."""
    rng, (folds, patients, seeds), count = np.random.default_rng(5), shape, 600
    held, student = 0, 0
    for _ in range(count):
        drawn = rng.normal(size=(folds, patients, 1)) + rng.normal(size=(folds, 1, seeds))
        drawn = drawn + 0.5 * rng.normal(size=(folds, patients, seeds))
        low, high = crossed_interval(list(drawn))
        held += low < 0 < high
        low, high = mean_interval(drawn.mean(2).ravel())
        student += low < 0 < high
    assert 0.92 < held / count < 0.985
    assert student / count < 0.92 < held / count


def scores(**methods: list[float]) -> pd.DataFrame:
    return pd.DataFrame([{"method": name, "patient": f"p{i}", "dice": value}
                         for name, values in methods.items() for i, value in enumerate(values)])


def test_compare_by_hand():
    base = [0.50, 0.52, 0.54, 0.56, 0.58, 0.60, 0.62, 0.64, 0.66]
    table = scores(unet=base, better=[b + 0.01 * (i + 1) for i, b in enumerate(base)], same=base)
    found = compare(table, "unet", "dice").set_index("method")
    assert list(found.index) == ["better", "same"]
    better = found.loc["better"]
    assert (better["n"], better["dropped"]) == (9, 0)
    assert better["p"] == pytest.approx(2**-8) and better["p_holm"] == pytest.approx(2**-7)
    assert better["median_difference"] == pytest.approx(0.05) and better["mean_difference"] == pytest.approx(0.05)
    assert 0.02 < better["ci_low"] < 0.05 < better["ci_high"] < 0.08
    assert better["effect"] == 1 and better["verdict"] == "different"
    assert found.loc["same", "p"] == 1 and found.loc["same", "verdict"] == "not shown"


@pytest.mark.parametrize(("n", "others", "verdict"), [
    (4, 1, "cannot reach 0.05"), (5, 1, "cannot reach 0.05"), (6, 1, "different"),
    (6, 2, "cannot reach 0.05 with 2 comparisons")])
def test_verdict_names_what_cannot_be_reached(n, others, verdict):
    table = scores(unet=[0.0] * n, **{f"m{k}": [0.1 * (i + 1) for i in range(n)] for k in range(others)})
    found = compare(table, "unet", "dice")
    assert set(found["verdict"]) == {verdict}
    assert (found["smallest_p"] == smallest_p(n)).all()


def test_patients_without_a_pair_are_counted():
    table = scores(unet=[0.1, 0.2, 0.3, np.nan, 0.5], other=[0.2, 0.3, 0.4, 0.5])
    found = compare(table, "unet", "dice").iloc[0]
    assert (found["n"], found["dropped"]) == (3, 2)


def test_refuses_slices_and_unknown_names():
    table = scores(unet=[0.1, 0.2], other=[0.2, 0.3])
    slices = pd.concat([table, table]).assign(slice=[0] * 4 + [1] * 4)
    with pytest.raises(LabError, match="rows are not patients: 2 rows of patient 'p0'.*never test on slices"):
        compare(slices, "unet", "dice")
    with pytest.raises(LabError, match="no rows of method 'sasan'.*the table has unet, other"):
        compare(table, "sasan", "dice")
    with pytest.raises(LabError, match="no column 'hd'"):
        compare(table, "unet", "hd")
    with pytest.raises(LabError, match="no column 'patient'"):
        compare(table.drop(columns="patient"), "unet", "dice")
