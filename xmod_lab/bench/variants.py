"""What all grids of runs share: seeds, folds, and ablations as run specs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xmod_lab.methods import METHODS
from xmod_lab.runs import RunSpec

SEEDS = (0, 1, 2)
FOLDS = (0, 1, 2)


def variants(method: str, names: Sequence[str], dataset: str, task: str, profile: str, **more: Any) -> list[RunSpec]:
    """Ablations of a method by name, as run specs."""
    ablations = METHODS[method].cls.ablations
    return [
        RunSpec(method, dataset, task, profile, settings=tuple(sorted(ablations[n].items())), **more) for n in names
    ]
