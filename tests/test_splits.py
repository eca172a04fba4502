"""Splits: whole patients, one role each, one modality each, every fold."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_manifest

from xmod_lab.data.manifest import Dataset, dataset, parse
from xmod_lab.data.splits import Split, split
from xmod_lab.errors import LabError


def entry(modalities: tuple[str, ...] = ("A", "B", "C"), relation: str = "registered", demonstration: bool = False,
          **task: Any) -> Dataset:
    text = tiny_manifest(modalities, relation, "tiny", {}, {"demonstration": demonstration}, task)
    return parse(text, "tiny")["tiny"]


def names(count: int, prefix: str = "p") -> list[str]:
    return [f"{prefix}{i:03d}" for i in range(count)]


def made(data: Dataset, available: dict[str, list[str]], fold: int = 0) -> Split:
    return split(data, data.task(), fold, available)


def roles(found: Split) -> tuple[set[str], set[str], set[str]]:
    train = {p for patients in found.train.values() for p in patients}
    val = {p for patients in found.val.values() for p in patients}
    return train, val, set(found.test)


@given(st.integers(12, 60), st.integers(0, 3), st.integers(0, 5))
def test_registered_patients_have_one_role_and_one_modality(count: int, fold: int, seed: int) -> None:
    data = entry(split={"seed": seed})
    found = made(data, {m: names(count) for m in "ABC"}, fold)
    train, val, test = roles(found)
    assert not found.demonstration
    assert train | val | test == set(names(count))
    assert len(train) + len(val) + len(test) == count
    dealt = [p for part in (found.train, found.val) for patients in part.values() for p in patients]
    assert len(dealt) == len(set(dealt))
    sizes = [len(found.train[m]) + len(found.val[m]) for m in "ABC"]
    assert max(sizes) - min(sizes) <= 1
    assert all(len(found.val[m]) >= 1 for m in "ABC")


@given(st.integers(8, 50), st.integers(2, 5))
def test_folds_test_every_patient_once(count: int, folds: int) -> None:
    data = entry(("A", "B"), split={"folds": folds})
    tests = [made(data, {"A": names(count), "B": names(count)}, fold).test for fold in range(folds)]
    if count >= folds * 4:
        assert sorted(p for test in tests for p in test) == names(count)
        assert max(map(len, tests)) - min(map(len, tests)) <= 1


@given(st.integers(36, 120), st.integers(2, 3), st.integers(0, 3))
def test_disjoint_folds_are_data_sets_of_their_own(count: int, folds: int, seed: int) -> None:
    """No patient in two of them, none left out; each tests a third of its own in all modalities."""
    data = entry(split={"folds": folds, "disjoint": True, "seed": seed})
    available = {m: names(count) for m in "ABC"}
    parts = []
    for fold in range(folds):
        found = made(data, available, fold)
        train, val, test = roles(found)
        assert not found.demonstration
        assert not train & val and not train & test and not val & test
        mine = train | val | test
        assert len(test) == -(-len(mine) // 3)
        dealt = [p for part in (found.train, found.val) for patients in part.values() for p in patients]
        assert len(dealt) == len(set(dealt)), "one modality for each patient that is not tested"
        parts.append(mine)
    assert set.union(*parts) == set(names(count)) and sum(map(len, parts)) == count
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_disjoint_folds_differ_from_cross_validation() -> None:
    """The same patients: cross-validation tests all of them, disjoint data sets a third, and train on others."""
    available = {m: names(36) for m in "ABC"}
    crossed, apart = ([made(entry(split={"folds": 3, "disjoint": d}), available, fold) for fold in range(3)]
                      for d in (False, True))
    assert sum(len(found.test) for found in crossed) == 36 and sum(len(found.test) for found in apart) == 12
    assert all(roles(a)[0] & roles(b)[0] for a, b in zip(crossed, crossed[1:], strict=False))
    with pytest.raises(LabError, match="folds are 0 to 2"):
        made(entry(split={"folds": 3, "disjoint": True}), available, 3)


def test_disjoint_folds_of_independent_modalities_hold_a_share_of_each() -> None:
    data = entry(("A", "B"), "independent", split={"folds": 3, "disjoint": True})
    found = [made(data, {"A": names(36, "ct"), "B": names(24, "mr")}, fold) for fold in range(3)]
    for prefix, count in (("ct", 36), ("mr", 24)):
        parts = [{p for role in roles(one) for p in role if p.startswith(prefix)} for one in found]
        assert [len(part) for part in parts] == [count // 3] * 3 and len(set.union(*parts)) == count


def test_a_split_does_not_depend_on_the_order_of_files() -> None:
    data = entry()
    first = made(data, {m: names(24) for m in "ABC"})
    again = made(data, {m: names(24)[::-1] for m in "CBA"})
    assert first == again
    assert first != made(entry(split={"seed": 1}), {m: names(24) for m in "ABC"})


def test_independent_modalities_are_split_each_for_itself() -> None:
    data = entry(("A", "B"), "independent")
    available = {"A": names(20, "ct"), "B": names(12, "mr")}
    found = made(data, available)
    train, val, test = roles(found)
    assert len([p for p in test if p.startswith("ct")]) == 5
    assert len([p for p in test if p.startswith("mr")]) == 3
    assert set(found.train["A"]) | set(found.val["A"]) == set(available["A"]) - test
    assert not train & val and not train & test and not val & test


def test_equal_names_are_one_patient_even_in_independent_data() -> None:
    found = made(entry(("A", "B"), "independent"), {"A": names(20), "B": names(30)})
    train, val, test = roles(found)
    assert not train & val and not train & test and not val & test


def test_only_tested_modalities_decide_who_is_tested() -> None:
    data = entry(("A", "B"), "independent", tested=["B"])
    found = made(data, {"A": names(10, "ct"), "B": names(16, "mr")})
    assert all(p.startswith("mr") for p in found.test)
    assert len(found.train["A"]) + len(found.val["A"]) == 10


def test_missing_modalities_are_dealt_evenly() -> None:
    """Half of the patients have no C: those who have it are spent on C before the others."""
    data = entry()
    found = made(data, {"A": names(24), "B": names(24), "C": names(24)[::2]})
    sizes = [len(found.train[m]) + len(found.val[m]) for m in "ABC"]
    assert max(sizes) - min(sizes) <= 1
    assert set(found.train["C"]) <= set(names(24)[::2])


def test_paired_tasks_keep_all_modalities_of_a_patient() -> None:
    data = entry(("A", "B"), draw="paired", one_modality_per_patient=False)
    found = made(data, {"A": names(16), "B": names(16)})
    assert found.train["A"] == found.train["B"] and found.val["A"] == found.val["B"]
    assert not set(found.train["A"]) & set(found.val["A"])


@pytest.mark.parametrize(("counts", "demonstration"), [((2, 2), True), ((4, 4), True), ((8, 8), False), ((6, 1), True)])
def test_too_few_patients_make_a_demonstration(counts: tuple[int, int], demonstration: bool) -> None:
    found = made(entry(("A", "B"), split={"val": 0}), {"A": names(counts[0]), "B": names(counts[1])})
    assert found.demonstration is demonstration
    for modality in "AB":
        assert found.train[modality]
    if demonstration:
        assert found.test
        assert found.val == found.train  # so that a loop that validates has something to show


def test_a_single_patient_of_a_modality_is_trained_and_tested() -> None:
    """As `chaos_t2` joined with one CT."""
    data = entry(("A", "B"), "independent", one_modality_per_patient=False)
    found = made(data, {"A": names(6, "mr"), "B": ["ct"]})
    assert found.demonstration
    assert found.train["B"] == ["ct"] and "ct" in found.test
    assert not set(found.train["A"]) & set(found.test)


def test_an_entry_marked_demonstration_is_one() -> None:
    assert made(entry(("A", "B"), demonstration=True), {"A": names(24), "B": names(24)}).demonstration


def test_unpaired_with_all_modalities_needs_a_patient_for_each() -> None:
    data = entry(("A", "B", "C"), one_modality_per_patient=False, split={"folds": 2, "val": 0})
    assert made(data, {m: names(4) for m in "ABC"}).demonstration  # two train: no batch without a repeated patient
    assert not made(data, {m: names(8) for m in "ABC"}).demonstration


def test_errors() -> None:
    data = entry(("A", "B"))
    with pytest.raises(LabError, match="fold 4 does not exist.*folds are 0 to 3"):
        made(data, {"A": names(9), "B": names(9)}, 4)
    with pytest.raises(LabError, match="no patient has modality 'B'"):
        made(data, {"A": names(9), "B": []})


def test_the_bound_of_all_modalities_is_tested_on_the_same_patients() -> None:
    data = dataset("brain_tumour")
    one, all_four = data.task("subregions"), data.task("subregions_all")
    patients = [f"p{i:02d}" for i in range(48)]
    stack = "T1+T1Gd+T2+FLAIR"
    for fold in range(4):
        first = split(data, one, fold, {"T1": patients, "T2": patients})
        second = split(data, all_four, fold, {stack: patients})
        assert first.test == second.test and len(second.train[stack]) == len(first.train["T2"]) == 16
    plain = all_four.model_copy(update={"split": all_four.split.model_copy(update={"like": []})})
    tests = [[split(data, task, f, had).test for f in range(4)]
             for task, had in ((plain, {stack: patients}), (one, {"T1": patients, "T2": patients}))]  # fmt: skip
    assert tests[0] != tests[1]
