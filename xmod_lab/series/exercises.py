"""Exercises: the notebook with solutions is the source, the student's version is generated.

An exercise is three cells in a row, with these tags:

    exercise   markdown: the question
    solution   code: its answer. In the student's version everything after a line ``# solution`` (as far as its
               indentation reaches) becomes ``# your code here`` and ``...``; without such a line, the whole cell does.
    check      code: xmod_lab.nb.check or check_close, with a hint

The check must fail with its hint, not with an error of its own, while the answer is still ``...``. So hand over
functions, ``check(lambda: dice(a, b) == 0.5, "hint")``, or bind names before the line ``# solution``.

So that exercises can be tried without running the whole notebook, the solution and check cells may use only what the
cells tagged ``parameters``, ``setup`` and ``needed`` make, and earlier solutions. `try_exercises` runs exactly these.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import dataclasses
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xmod_lab.errors import LabError
from xmod_lab.files import write_text
from xmod_lab.nb import CheckFailed
from xmod_lab.series import source

FIRST = ("parameters", "setup", "needed")
_LINK = re.compile(r"\]\((?!\w+:|#|/)([^)\s]+)")


@dataclasses.dataclass(frozen=True)
class Tried:
    """One exercise of a notebook. `solved`: "" or why the solution fails its check. `unsolved`: how the untouched stub
    ends: the hint, "" if it passes, or "broken: ..." if it ends with anything but a hint."""

    number: int
    solved: str
    unsolved: str


def stub(code: str) -> str:
    """The student's version of a solution cell."""
    lines = code.splitlines()
    if not any(line.strip() == "# solution" for line in lines):
        lines.insert(0, "# solution")
    kept: list[str] = []
    hidden: int | None = None  # indentation of what is being left out
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if hidden is not None and (not line.strip() or indent >= hidden):
            continue
        hidden = None
        if line.strip() == "# solution":
            hidden = indent
            kept += [" " * indent + "# your code here", " " * indent + "..."]
        else:
            kept.append(line)
    return "\n".join(kept)


def student_version(nb: Any, name: str) -> Any:
    """The student's notebook of `nb`, whose file is called `name`. Cell ids stay, so that differences stay small."""
    student = copy.deepcopy(nb)
    student.metadata["xmod"] = dict(nb.metadata.get("xmod", {})) | {"generated_from": name}
    for cell in student.cells:
        if cell.cell_type == "markdown":
            cell.source = _LINK.sub(r"](../\1", cell.source)  # it lies one folder deeper
        elif "solution" in source.tags(cell):
            cell.source = stub(cell.source)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return student


def text_of(nb: Any) -> str:
    """The text of a notebook's file."""
    from xmod_lab.series.light import nbformat

    return str(nbformat.writes(nb, version=4)).rstrip("\n") + "\n"


def build(notebooks: Path, *, write: bool = True) -> list[str]:
    """Bring ``notebooks/exercises`` up to date; names of the files that were not. Nothing is written if not `write`."""
    folder = notebooks / "exercises"
    wanted = {}
    for path in sorted(notebooks.glob("[0-9]*_*.ipynb")):
        nb = source.read(path).nb
        if source.tagged(nb, "solution"):
            wanted[path.name] = text_of(student_version(nb, path.name))
    present = {path.name: path for path in folder.glob("*.ipynb")}
    changed = []
    for name in sorted(set(wanted) | set(present)):
        if name in present and name in wanted and present[name].read_text(encoding="utf-8") == wanted[name]:
            continue
        changed.append(name)
        if write and name in wanted:
            write_text(folder / name, wanted[name])
        elif write:
            present[name].unlink()  # its notebook is gone or has no exercise any more
    return changed


def exercises_of(nb: Any, where: str = "") -> list[tuple[Any, Any]]:
    """(solution, check) cells in order. Raises LabError if the three cells of an exercise do not follow each other."""
    marks = [(tag, cell) for cell in nb.cells for tag in source.tags(cell) if tag in ("exercise", "solution", "check")]
    found = []
    for number, start in enumerate(range(0, len(marks), 3), start=1):
        group = marks[start : start + 3]
        if [tag for tag, _ in group] != ["exercise", "solution", "check"]:
            got = ", ".join(tag for tag, _ in group)
            raise LabError(
                f"exercise {number} is tagged {got}", where=where, mend="tag exercise, solution, check in this order"
            )
        found.append((group[1][1], group[2][1]))
    return found


def try_exercises(nb: Any, folder: Path, profile: str = "smoke") -> list[Tried]:
    """Run each exercise of `nb` twice, in this process and below `folder`: as a student finds it, and solved.

    Only cells tagged parameters, setup and needed run besides. Raises LabError if one of these fails.
    """
    pairs = exercises_of(nb)
    answers = {id(cell): number for number, pair in enumerate(pairs) for cell in pair[:1]}
    space: dict[str, Any] = {"__name__": "__main__"}
    tried = []
    with _quiet(folder):
        for cell in nb.cells:
            if cell.cell_type == "code" and set(source.tags(cell)) & set(FIRST):
                if problem := _run(cell.source, space):
                    raise LabError(
                        f"a cell before the exercises fails: {problem[1]}", mend="see exercises.py for what may run"
                    )
                if "parameters" in source.tags(cell):
                    space["profile"] = profile
            elif id(cell) in answers:
                number = answers[id(cell)]
                checking = pairs[number][1].source
                student = dict(space)
                left = _run(stub(cell.source), student) or _run(checking, student, hint=True)
                solved = _run(cell.source, space) or _run(checking, space, hint=True)
                tried.append(Tried(number + 1, " ".join(solved or ("",)).strip(), _unsolved(left)))
    return tried


def _unsolved(left: tuple[str, str] | None) -> str:
    if left is None:
        return ""
    return left[1] if left[0] == "hint" else f"broken: {left[1]}"


def _run(code: str, space: dict[str, Any], hint: bool = False) -> tuple[str, str] | None:
    """What went wrong: ("hint", its text) for a failed check where `hint`, ("error", ...) for anything else."""
    try:
        exec(compile(ast.parse(code), "<cell>", "exec"), space)
    except CheckFailed as error:
        return ("hint" if hint else "error"), str(error)
    except Exception as error:
        return "error", f"{type(error).__name__}: {error}"
    return None


@contextlib.contextmanager
def _quiet(folder: Path) -> Iterator[None]:
    """As the series runner would run it: in `folder`, no windows, nothing printed, no score file."""
    import matplotlib

    scores = os.environ.pop("XMOD_SCORES", None)
    matplotlib.use("agg")
    try:
        with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()), matplotlib.rc_context():
            yield
    finally:
        if scores is not None:
            os.environ["XMOD_SCORES"] = scores
