"""Who trains, who validates, who is tested: always whole patients.

Patients are shuffled with the task's split seed within groups that have the same modalities, then dealt to the folds,
so that every fold tests a like share of each modality. Equal names count as one patient, in every data set.
"""

from __future__ import annotations

from dataclasses import dataclass

from xmod_lab.data.manifest import Dataset, Task
from xmod_lab.errors import LabError
from xmod_lab.rng import numpy_rng

THIRD = 3
"""one of so many patients of a disjoint data set is tested"""
ENOUGH = 2
"""training patients that each modality needs; with fewer a run is a demonstration"""


@dataclass(frozen=True)
class Split:
    """Patients by role. `demonstration`: too few; some may be in two roles or modalities and no score counts."""

    train: dict[str, list[str]]
    val: dict[str, list[str]]
    test: list[str]
    demonstration: bool = False


def split(data: Dataset, task: Task, fold: int, available: dict[str, list[str]]) -> Split:
    """Deal the patients of `available` (modality -> names) by the task's split. Deterministic.

    A test patient keeps every tested modality it has. Where the task says so, a training or validation patient
    contributes one modality only; a modality that has no more than two of them trains on both and validates none, as
    nothing is chosen by validation. Raises LabError for a fold that does not exist, or a modality without patients.
    """
    folds = task.split.folds
    if not 0 <= fold < folds:
        raise LabError(f"fold {fold} does not exist", where=f"data set {data.key}", mend=f"folds are 0 to {folds - 1}")
    for modality in {*task.modalities, *task.tested}:
        if not available.get(modality):
            raise LabError(f"no patient has modality {modality!r}", where=f"data set {data.key}")
    if task.split.disjoint:
        mine = set(_shuffled_alike(data, task, available)[fold::folds])
        available = {m: [p for p in names if p in mine] for m, names in available.items()}
    test = _test_patients(data, task, fold, available)
    rest = {m: [p for p in available[m] if p not in set(test)] for m in task.modalities}
    deal = task.one_modality_per_patient and data.relation != "independent" and task.draw == "unpaired"
    owned = _deal(data, task, rest) if deal else rest
    train, val = _validation(data, task, owned)
    train = {m: sorted(_shuffled(p, task.split.seed, "most", data.key, m)[: task.split.most]) for m, p in train.items()}
    whole = {p for names in train.values() for p in names}
    if (any(len(names) < ENOUGH for names in train.values()) or len(whole) < len(train)
            or any(not set(available[m]) & set(test) for m in task.tested)):
        return _demonstration(data, task, fold, available)
    return Split(train, val, sorted(test), data.demonstration)


def _shuffled(names: list[str], *name: int | str) -> list[str]:
    order = numpy_rng(*name).permutation(len(names))
    ranked = sorted(names)
    return [ranked[i] for i in order]


def _test_patients(data: Dataset, task: Task, fold: int, available: dict[str, list[str]]) -> list[str]:
    dealt = _shuffled_alike(data, task, available)
    return dealt[::THIRD] if task.split.disjoint else dealt[fold :: task.split.folds]


def _shuffled_alike(data: Dataset, task: Task, available: dict[str, list[str]]) -> list[str]:
    """The tested patients in random order, those with the same modalities next to each other."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for patient in sorted({p for m in task.tested for p in available[m]}):
        shown = task.split.like or [m for m in available if patient in available[m]]
        groups.setdefault(tuple(sorted(shown)), []).append(patient)
    dealt: list[str] = []
    for has, names in sorted(groups.items()):
        dealt += _shuffled(names, task.split.seed, "split", data.key, *has)
    return dealt


def _deal(data: Dataset, task: Task, rest: dict[str, list[str]]) -> dict[str, list[str]]:
    """One modality for each patient: the one with fewest so far; those with least choice come first."""
    names = _shuffled(sorted({p for listed in rest.values() for p in listed}), task.split.seed, "modality", data.key)
    names.sort(key=lambda p: sum(p in listed for listed in rest.values()))
    owned: dict[str, list[str]] = {m: [] for m in task.modalities}
    for patient in names:
        choices = [m for m in task.modalities if patient in rest[m]]
        owned[min(choices, key=lambda m: (len(owned[m]), task.modalities.index(m)))].append(patient)
    return owned


def _validation(data: Dataset, task: Task,
                owned: dict[str, list[str]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Take validation patients out of each modality's; a patient with several modalities validates in all of them."""
    chosen: set[str] = set()
    for modality in task.modalities:
        names = _shuffled(owned[modality], task.split.seed, "validation", data.key)
        wanted = max(1, round(task.split.val * len(names))) if task.split.val > 0 and len(names) > ENOUGH else 0
        have = sum(p in chosen for p in names)
        chosen |= set([p for p in names if p not in chosen][:max(0, wanted - have)])
    train = {m: sorted(p for p in names if p not in chosen) for m, names in owned.items()}
    val = {m: sorted(p for p in names if p in chosen) for m, names in owned.items()}
    return train, val


def _demonstration(data: Dataset, task: Task, fold: int, available: dict[str, list[str]]) -> Split:
    """Few patients: each contributes all its modalities, validation repeats training, and one that a modality cannot
    spare is trained on and tested."""
    test = set(_test_patients(data, task, fold, available))
    for modality in task.tested:
        if not test & set(available[modality]):
            names = _shuffled(available[modality], task.split.seed, "split", data.key)
            test.add(names[fold % len(names)])
    train = {m: sorted(set(available[m]) - test) or sorted(available[m]) for m in task.modalities}
    return Split(train, {m: list(names) for m, names in train.items()}, sorted(test), demonstration=True)
