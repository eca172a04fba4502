"""What an executed notebook proves. papermill reports success where it must not: after ``sys.exit(0)`` the later cells
never ran, and a cell whose kernel died counts as completed. So success is looked for in the notebook itself: every code
cell ran to its end, at least one number was recorded and at least one picture was drawn.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from xmod_lab.nb import SCORE_MIME

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclasses.dataclass(frozen=True)
class Proof:
    """problem: one line, empty if all is well; detail: where it stopped and the traceback's end."""

    problem: str
    detail: str
    cells: int
    images: int
    scores: dict[str, dict[str, Any]]


def examine(notebook: Path, scores: Path, ended: dict[str, str], parameters: dict[str, Any]) -> Proof:
    """Judge the executed notebook (as far as it was written), its score file and how its process ended."""
    from xmod_lab.series.light import nbformat

    rows = [json.loads(line) for line in scores.read_text(encoding="utf-8").splitlines()] if scores.is_file() else []
    found = {row["name"]: {key: row[key] for key in ("value", "tolerance", "trivial")} for row in rows}
    try:
        nb = nbformat.read(notebook, as_version=4)
    except Exception:
        return Proof(ended["text"] or "no executed notebook was written", "", 0, 0, found)
    cells = [cell for cell in nb.cells if cell.cell_type == "code" and cell.source.strip()]
    own = [cell for cell in cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    done = [cell for cell in own if _done(cell)]
    outputs = [output for cell in cells for output in cell.outputs]
    images = sum("image/png" in output.get("data", {}) for output in outputs)
    shown = [output.data[SCORE_MIME]["name"] for output in outputs if SCORE_MIME in output.get("data", {})]
    proof = Proof("", "", len(done), images, found)
    stopped = _stopped(cells)
    if ended["kind"] != "ok" or any(output.output_type == "error" for output in outputs) or len(done) < len(own):
        problem = _where(stopped, own, ended, len(done))
        return dataclasses.replace(proof, problem=problem, detail=_detail(stopped, own))
    if parameters and len(cells) == len(own):
        return dataclasses.replace(proof, problem="its parameters were not set: no cell is tagged parameters")
    if not found:
        return dataclasses.replace(proof, problem="it recorded no score: end with record(name, value)")
    if len(rows) != len(found) or sorted(shown) != sorted(found):
        return dataclasses.replace(proof, problem="the scores in the notebook differ from those in its score file")
    if not images:
        return dataclasses.replace(proof, problem="it drew no picture: no output is an image/png")
    return proof


def _done(cell: Any) -> bool:
    note = cell.metadata.get("papermill", {})
    failed = any(output.output_type == "error" for output in cell.outputs)
    return cell.execution_count is not None and note.get("status") == "completed" and not failed


def _stopped(cells: list[Any]) -> Any:
    """The cell that failed, else the last that was started; None if there is none."""
    failed = [cell for cell in cells if any(output.output_type == "error" for output in cell.outputs)]
    begun = [cell for cell in cells if cell.metadata.get("papermill", {}).get("start_time")]
    return failed[0] if failed else begun[-1] if begun else None


def _where(stopped: Any, own: list[Any], ended: dict[str, str], done: int) -> str:
    errors = [] if stopped is None else [o for o in stopped.outputs if o.output_type == "error"]
    what = ended["text"] or "it stopped before its end"
    if errors and ended["kind"] in ("ok", "error"):  # stopping a cell from outside leaves an error in it too
        what = f"{errors[0].ename}: {errors[0].evalue}".strip().splitlines()[0]
        if errors[0].ename == "SystemExit":
            what = f"sys.exit in a cell ended it after {done} of {len(own)} code cells"
    return f"{what} [{_number(stopped, own)}]" if stopped is not None else what


def _number(cell: Any, own: list[Any]) -> str:
    for number, other in enumerate(own, start=1):
        if other is cell:
            return f"code cell {number} of {len(own)}"
    return "the parameters it was given"


def _detail(stopped: Any, own: list[Any]) -> str:
    """Cell number, head of its source, and the traceback's end."""
    if stopped is None:
        return ""
    lines = stopped.source.splitlines()
    text = [f"{_number(stopped, own)}:", *(f"    {line}" for line in lines[:6])]
    if len(lines) > 6:
        text.append(f"    ... {len(lines) - 6} more lines")
    for output in stopped.outputs:
        if output.output_type == "error":
            trace = _ANSI.sub("", "\n".join(output.traceback)).splitlines()
            text += [f"  {line}" for line in trace[-12:]]
    return "\n".join(text)
