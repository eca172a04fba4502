"""The skeleton every notebook follows, checked by tags, never by words.

    title       markdown, the first cell: ``# 02 The domain gap``, then lines that begin **Time**, **Hardware**,
                **Needs**
    goal        markdown: what you can do afterwards
    parameters  code: at most 8 typed lines ``name: type = value  # what it is``, with profile, dataset and seed
    setup       code: imports and ``xmod_lab.nb.start``
    theory      markdown: the equations, with the numbers of the docstrings
    predict     markdown: a guess before the run
    code        code: the work
    figure      code: a static picture first
    exercise, solution, check   (exercises.py says how)
    record      code: the numbers that the series compares
    recap       markdown, the last cell: what was seen, what it does not prove, which notebook is next

Each tag appears at least once, and first appearances come in this order; every code cell has a tag, and ``needed``
marks further cells that the exercises build on. Notebooks of methods (10 to 69) have at least two exercises.
"""

from __future__ import annotations

import ast
import importlib.util
import io
import json
import re
import subprocess
import sys
import tokenize
import warnings
from pathlib import Path
from typing import Any

from xmod_lab.errors import LabError
from xmod_lab.profiles import PROFILES
from xmod_lab.series import exercises, source

MARKDOWN = ("title", "goal", "theory", "predict", "exercise", "recap")
ORDER = ("title", "goal", "parameters", "setup", "theory", "predict", "code", "figure", "exercise", "solution", "check",
         "record", "recap")  # fmt: skip
KNOWN = {*ORDER, "needed"}
CODE_CELLS, CELL_LINES, CODE_LINES, WORDS, BYTES, PARAMETERS = 25, 25, 250, (300, 1500), 40_000, 8
SMOKE_SECONDS = 60
_ABSOLUTE = re.compile(r"""(?:^|[\s"'`(=\[])((?:~/|/(?:[\w.-]+/)+|[A-Za-z]:[\\/])[\w.-]*)""", re.M)
_LINK = re.compile(r"\]\((?!\w+:|#)([^)\s#]+)")
# E402 and B018 are how notebooks are written: imports where they teach, a bare name that shows its value.
_RUFF = (
    "check",
    "--isolated",
    "--no-cache",
    "--line-length=120",
    "--select=E,F,W,I,B,UP",
    "--ignore=E402,E741,F722,B018",
)


def lint(files: list[Path]) -> list[str]:
    """Every problem of the notebooks, one line each, beginning with the file's name. Empty if there is none."""
    with warnings.catch_warnings(action="ignore"):  # of the code that is parsed: ruff says it better
        problems = [f"{path.name}: {problem}" for path in files for problem in _one(path)]
    return problems + _ruff([path for path in files if not any(line.startswith(f"{path.name}:") for line in problems)])


def _one(path: Path) -> list[str]:
    from xmod_lab.series.light import nbformat

    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        ids = [cell.get("id") for cell in raw.get("cells", [])]  # before nbformat mends them silently
        notebook = source.read(path)
        nbformat.validate(raw)
    except (LabError, ValueError, nbformat.ValidationError) as error:
        return [str(error).splitlines()[0]]
    nb = notebook.nb
    problems = ["two cells have the same id, or one has none"] if None in ids or len({*ids}) < len(ids) else []
    problems += [*_form(nb, path), *_order(nb), *_title(nb), *_parameters(nb), *_sizes(nb), *_paths(nb, path)]
    for number, cell in enumerate(nb.cells, start=1):
        if cell.cell_type == "code":
            problems += [f"cell {number}: {problem}" for problem in _code(cell)]
    if notebook.budget["smoke"] > SMOKE_SECONDS:
        problems.append(f"its smoke budget {notebook.budget['smoke']:g} s is above {SMOKE_SECONDS} s")
    return problems


def _form(nb: Any, path: Path) -> list[str]:
    problems = []
    if any(cell.get("outputs") for cell in nb.cells):
        problems.append("holds outputs: strip them")
    if any(cell.get("execution_count") is not None for cell in nb.cells):
        problems.append("holds execution counts: strip them")
    if nb.metadata.get("kernelspec", {}).get("name") != "python3":
        problems.append("metadata.kernelspec.name is not python3")
    if (size := path.stat().st_size) > BYTES:
        problems.append(f"{size} bytes, at most {BYTES}")
    return problems


def _order(nb: Any) -> list[str]:
    problems: list[str] = []
    first: dict[str, int] = {}
    for number, cell in enumerate(nb.cells, start=1):
        for tag in source.tags(cell):
            first.setdefault(tag, number)
            if tag not in KNOWN:
                problems.append(f"cell {number}: unknown tag {tag!r}")
            elif tag != "needed" and (cell.cell_type == "markdown") != (tag in MARKDOWN):
                problems.append(f"cell {number}: tag {tag!r} on a {cell.cell_type} cell")
        if cell.cell_type == "code" and not source.tags(cell):
            problems.append(f"cell {number}: a code cell without a tag")
    problems += [f"no cell is tagged {tag!r}" for tag in ORDER if tag not in first]
    present = [tag for tag in ORDER if tag in first]
    for before, after in zip(present, present[1:], strict=False):
        if first[before] > first[after]:
            problems.append(f"the first {before!r} (cell {first[before]}) comes after the first {after!r}")
    if first.get("title") != 1:
        problems.append("the first cell is not tagged 'title'")
    if nb.cells and "recap" not in source.tags(nb.cells[-1]):
        problems.append("the last cell is not tagged 'recap'")
    return problems


def _title(nb: Any) -> list[str]:
    problems = []
    text = nb.cells[0].source if nb.cells else ""
    if not re.match(r"# \d\d \S", text):
        problems.append("the title does not begin like `# 02 The domain gap`")
    for word in ("Time", "Hardware", "Needs"):
        if not re.search(rf"^\W*\*\*{word}\b", text, re.M):
            problems.append(f"the title has no line that begins **{word}**")
    return problems


def _parameters(nb: Any) -> list[str]:
    cells = source.tagged(nb, "parameters")
    if len(cells) != 1:
        return [f"{len(cells)} cells are tagged 'parameters', not one"]
    declared = source.parameters_of(nb, "")
    problems = [f"parameter {name!r} is missing" for name in ("profile", "dataset", "seed") if name not in declared]
    if len(declared) > PARAMETERS:
        problems.append(f"{len(declared)} parameters, at most {PARAMETERS}")
    if "profile" in declared and declared["profile"].default not in PROFILES:
        problems.append(f"the default profile {declared['profile'].default!r} does not exist")
    commented = {token.start[0] for token in _tokens(cells[0].source) if token.type == tokenize.COMMENT}
    for line in ast.parse(cells[0].source).body:
        if not commented & set(range(line.lineno, (line.end_lineno or line.lineno) + 1)):
            problems.append(f"the parameter in line {line.lineno} has no comment")
    return problems


def _tokens(code: str) -> list[tokenize.TokenInfo]:
    return list(tokenize.generate_tokens(io.StringIO(code).readline))


def _sizes(nb: Any) -> list[str]:
    code = [cell.source.splitlines() for cell in nb.cells if cell.cell_type == "code"]
    words = sum(len(cell.source.split()) for cell in nb.cells if cell.cell_type == "markdown")
    problems = []
    if len(code) > CODE_CELLS:
        problems.append(f"{len(code)} code cells, at most {CODE_CELLS}")
    if (total := sum(map(len, code))) > CODE_LINES:
        problems.append(f"{total} lines of code, at most {CODE_LINES}")
    if not WORDS[0] <= words <= WORDS[1]:
        problems.append(f"{words} words, {WORDS[0]} to {WORDS[1]} are wanted")
    try:
        count = len(exercises.exercises_of(nb))
    except LabError as error:
        return [*problems, str(error)]
    if heading := re.match(r"# (\d\d) ", nb.cells[0].source if nb.cells else ""):
        wanted = 2 if 10 <= int(heading[1]) < 70 else 1
        if count < wanted:
            problems.append(f"{count} exercise(s), at least {wanted}")
    return problems


def _paths(nb: Any, path: Path) -> list[str]:
    problems = []
    for number, cell in enumerate(nb.cells, start=1):
        text = cell.source
        if cell.cell_type == "markdown":
            text = re.sub(r"\$\$.*?\$\$|\$[^$\n]*\$", "", text, flags=re.S)
            for link in _LINK.findall(text):
                if not (path.parent / link).exists():
                    problems.append(f"cell {number}: the link to {link} leads nowhere")
        if found := _ABSOLUTE.search(text):
            problems.append(f"cell {number}: the absolute path {found[1]}")
    return problems


def _code(cell: Any) -> list[str]:
    problems = []
    if (lines := len(cell.source.splitlines())) > CELL_LINES:
        problems.append(f"{lines} lines, at most {CELL_LINES}")
    try:
        tree = ast.parse(cell.source)
    except SyntaxError as error:
        return [*problems, f"not plain Python (line {error.lineno}): magics do not run everywhere"]
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        problems += [f"imports {name}, which is not there" for name in names if not _importable(name)]
    return problems


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _ruff(files: list[Path]) -> list[str]:
    """ruff reads notebooks as one module each and says cell and line."""
    if not files:
        return []
    if not importlib.util.find_spec("ruff"):
        raise LabError("ruff is not installed", mend="pip install ruff")
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *_RUFF, "--output-format=json", *map(str, files)], capture_output=True, text=True
    )
    if done.returncode not in (0, 1):
        raise LabError(f"ruff failed: {done.stderr.strip()[-200:]}")
    problems = []
    for row in json.loads(done.stdout):
        place = f"cell {row['cell']}, line {row['location']['row']}"
        problems.append(f"{Path(row['filename']).name}: {place}: {row['code']} {row['message']}")
    return problems
