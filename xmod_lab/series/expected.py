"""Recorded numbers against ``tests/expected/<profile>.json``:

    {"versions": {"torch": ...}, "notebooks": {notebook: {score: {"value", "tolerance", "trivial"}}}}

The file's tolerance counts, not the one a notebook brings: loosening a bound shows up as a change of this file.
Numbers are compared for a notebook's own default data set and seed only.
"""

from __future__ import annotations

import dataclasses
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

from xmod_lab import paths
from xmod_lab.errors import LabError
from xmod_lab.files import read_json, write_json

Scores = dict[str, dict[str, dict[str, Any]]]
"""notebook -> score -> {"value", "tolerance", "trivial"}"""


@dataclasses.dataclass(frozen=True)
class Difference:
    """One score that is not as expected. kind: "differs", "missing", "new" or "vacuous"."""

    notebook: str
    score: str
    kind: str
    old: dict[str, Any] | None
    new: dict[str, Any] | None

    def __str__(self) -> str:
        head = f"{self.notebook} {self.score}"
        if self.kind == "missing":
            return f"{head}: expected, but not recorded"
        if self.kind == "new":
            return f"{head}: recorded, but not expected yet (--update-expected adds it)"
        if self.kind == "vacuous":
            return f"{head}: the tolerance is not narrower than the distance to the trivial answer"
        assert self.old and self.new
        return f"{head}: {shown(self.new['value'])}, expected {shown(self.old['value'])} +- {self.old['tolerance']:.3g}"


def shown(value: float, digits: int = 6) -> str:
    """A number for people: whole ones in full."""
    return str(value) if isinstance(value, int) else f"{value:.{digits}g}"


def file_of(profile: str) -> Path | None:
    """Where the expected numbers of `profile` lie in this checkout; None for an installed package."""
    root = paths.checkout()
    return root / "tests" / "expected" / f"{profile}.json" if root else None


def versions() -> dict[str, str]:
    """What the numbers may depend on."""
    return {"python": platform.python_version()} | {
        name: metadata.version(name) for name in ("torch", "numpy", "scipy")
    }


def load(path: Path) -> Scores:
    """The expected scores in `path`. Raises LabError if it does not hold what this module writes."""
    found = read_json(path)
    try:
        for scores in found["notebooks"].values():
            for row in scores.values():
                float(row["value"]), float(row["tolerance"]), row["trivial"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LabError(
            "not a file of expected scores", where=path.name, mend="write it with --update-expected"
        ) from error
    return dict(found["notebooks"])


def vacuous(row: dict[str, Any]) -> bool:
    """Would the trivial answer pass too?"""
    return row["trivial"] is not None and not row["tolerance"] < abs(row["value"] - row["trivial"])


def compare(recorded: Scores, expected: Scores) -> list[Difference]:
    """Every score of the notebooks in `recorded` that differs, is missing, is new, or whose tolerance says nothing."""
    found = []
    for notebook, scores in sorted(recorded.items()):
        wanted = expected.get(notebook, {})
        for score in sorted(set(wanted) | set(scores)):
            old, new = wanted.get(score), scores.get(score)
            if old is None:
                kind = "new"
            elif new is None:
                kind = "missing"
            elif vacuous(old):
                kind = "vacuous"
            elif not abs(new["value"] - old["value"]) <= old["tolerance"] + 1e-12 * abs(old["value"]):
                kind = "differs"
            else:
                continue
            found.append(Difference(notebook, score, kind, old, new))
    return found


def update(path: Path, recorded: Scores) -> list[Difference]:
    """Write `recorded` into `path`; notebooks that are not in it keep their numbers. Returns what changed.

    Raises LabError for a score whose tolerance would accept the trivial answer: such a number checks nothing.
    """
    expected = load(path) if path.is_file() else {}
    for notebook, scores in recorded.items():
        for score, row in scores.items():
            if vacuous(row):
                mend = "give it a narrower tolerance, or record a number that shows more"
                raise LabError(str(Difference(notebook, score, "vacuous", row, row)), mend=mend)
    changed = []
    for notebook, scores in sorted(recorded.items()):
        old = expected.get(notebook, {})
        for score in sorted(set(old) | set(scores)):
            if old.get(score) != scores.get(score):
                kind = "new" if score not in old else "missing" if score not in scores else "differs"
                changed.append(Difference(notebook, score, kind, old.get(score), scores.get(score)))
    if changed:
        write_json(path, {"versions": versions(), "notebooks": expected | recorded})
    return changed


def table(differences: list[Difference]) -> str:
    """Old and new value and tolerance side by side, one line a score."""
    rows = [["notebook", "score", "old", "new", "old tol.", "new tol.", ""]]
    for d in differences:
        cells = [_cell(row, key) for key in ("value", "tolerance") for row in (d.old, d.new)]
        rows.append([d.notebook, d.score, *cells, d.kind])
    widths = [max(len(row[i]) for row in rows) for i in range(7)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _cell(row: dict[str, Any] | None, key: str) -> str:
    return "-" if row is None else shown(row[key])
