"""What methods there are, as rows of a table."""

from __future__ import annotations

from typing import Any

from xmod_lab.data.manifest import dataset
from xmod_lab.methods import METHODS
from xmod_lab.methods.base import Problem, build_config, offers
from xmod_lab.models.blocks import count_parameters
from xmod_lab.profiles import profile_of


def problem_of(key: str, task_name: str, size: int) -> Problem:
    """The problem of a task without touching its files (for parameter counts and tables)."""
    data = dataset(key)
    task = data.task(task_name)
    stacked = max(len(task.stack), 1)
    return Problem(
        modalities=tuple(task.modalities),
        tested=tuple(task.tested),
        labelled=tuple(task.labelled),
        unlabelled=tuple(task.unlabelled),
        classes=tuple(task.class_names),
        channels=task.neighbours * stacked,
        size=size,
        paired=task.draw == "paired",
    )


def method_rows(profile: str = "lesson") -> list[dict[str, Any]]:
    """One row a method: name, what it is, offers, ablations, parameters at `profile`, task it is shown on, source."""
    rows = []
    sizes = profile_of(profile)
    for name, entry in METHODS.items():
        key, task = entry.shown_on
        config = build_config(entry.cls, {"width": sizes.width} | entry.overrides)
        method = entry.cls(config, problem_of(key, task, sizes.size))
        rows.append(
            {
                "method": name,
                "what": entry.title,
                "offers": ", ".join(offers(entry.cls)),
                "ablations": ", ".join(entry.cls.ablations) or "-",
                "parameters": f"{count_parameters(method):,}",
                "shown on": f"{key}/{task}",
                "source": entry.source,
            }
        )
    return rows
