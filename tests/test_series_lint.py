"""The lint finds each thing it is for, and only that."""

from __future__ import annotations

import nbformat
import pytest
from notebook_tools import GAP, cell, proper_cells, write
from typer.testing import CliRunner

from xmod_lab.series import lint
from xmod_lab.series.cli import app


def problems(tmp_path, change=lambda cells: None, **xmod):
    cells = proper_cells()
    cells = change(cells) or cells
    return lint.lint([write(tmp_path / "05_tiny.ipynb", cells, **xmod)])


def test_a_proper_notebook_has_no_problem(tmp_path):
    assert problems(tmp_path) == []


def put(number, source):
    def change(cells):
        cells[number].source = source

    return change


def tag(number, *tags):
    def change(cells):
        cells[number].metadata["tags"] = list(tags)

    return change


def outputs(cells):
    cells[6].outputs = [nbformat.v4.new_output("stream", text="x")]
    cells[6].execution_count = 1


PARAMETERS = 'profile: str = "lesson"  # a\nseed: int = 0  # b\ndataset: str = "x"  # c\n'


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda cells: cells[:1] + cells[2:], "no cell is tagged 'goal'"),
        (lambda cells: [*cells[:4], cells[5], cells[4], *cells[6:]], "the first 'theory' (cell 6) comes after"),
        (lambda cells: [cells[1], cells[0], *cells[2:]], "the first cell is not tagged 'title'"),
        (lambda cells: [*cells, cell("x", markdown=True)], "the last cell is not tagged 'recap'"),
        (lambda cells: [*cells[:7], *[cell(str(i), "code") for i in range(26)], *cells[7:]],
         "33 code cells, at most 25"),
        (lambda cells: [*cells[:7], *[cell("a = 1\n" * 24, "code") for _ in range(11)], *cells[7:]], "lines of code"),
        (tag(6), "cell 7: a code cell without a tag"),
        (tag(6, "code", "cool"), "cell 7: unknown tag 'cool'"),
        (tag(1, "goal", "figure"), "cell 2: tag 'figure' on a markdown cell"),
        (tag(10, "code"), "exercise 1 is tagged exercise, solution"),
        (put(0, "# Gap\n\n**Time** 1\n\n**Hardware** 2"), "the title has no line that begins **Needs**"),
        (put(0, "# Gap\n\n**Time** 1\n\n**Hardware** 2"), "the title does not begin like"),
        (put(0, "# 10 CSA\n\n**Time** 1\n\n**Hardware** 2\n\n**Needs** 3"), "1 exercise(s), at least 2"),
        (put(2, PARAMETERS.replace("dataset", "data")), "parameter 'dataset' is missing"),
        (put(2, PARAMETERS.replace("lesson", "quick")), "the default profile 'quick' does not exist"),
        (put(2, PARAMETERS.replace("  # b", "")), "the parameter in line 2 has no comment"),
        (put(2, PARAMETERS + "".join(f"p{i}: int = 1  # d\n" for i in range(6))), "9 parameters, at most 8"),
        (put(2, "seed = 1"), "the parameters cell cannot be read"),
        (put(6, "a = 1\n" * 26), "cell 7: 26 lines, at most 25"),
        (put(6, "%matplotlib inline"), "cell 7: not plain Python (line 1)"),
        (put(6, "import nothing_like_this"), "cell 7: imports nothing_like_this, which is not there"),
        (put(6, "import xmod_lab.nothing.here"), "imports xmod_lab.nothing.here, which is not there"),
        (put(6, "open('/data/patients/1.nii')"), "cell 7: the absolute path /data/patients/1.nii"),
        (put(6, r"open('C:\patients')"), r"cell 7: the absolute path C:\patients"),
        (put(5, "See `~/notes`."), "cell 6: the absolute path ~/notes"),
        (put(5, "See [this](99_none.ipynb)."), "cell 6: the link to 99_none.ipynb leads nowhere"),
        (put(4, "short"), "words, 300 to 1500 are wanted"),
        (put(4, GAP * 6), "words, 300 to 1500 are wanted"),
        (put(6, "import os\nprint(undefined_name)"), "cell 7, line 1: F401 `os` imported but unused"),
        (put(6, "print(undefined_name)"), "F821 Undefined name `undefined_name`"),
        (put(6, "a = 'x' # " + "y" * 39_000), "bytes, at most 40000"),
        (outputs, "holds outputs: strip them"),
        (outputs, "holds execution counts: strip them"),
    ],
)  # fmt: skip
def test_each_problem_is_named(tmp_path, change, message):
    found = problems(tmp_path, change)
    assert any(message in line for line in found), found
    assert all(line.startswith("05_tiny.ipynb: ") for line in found)


def test_formulas_and_slashes_are_no_paths(tmp_path):
    text = "$/a/b/c$ and/or 3/4/5 $$x /a/b/ y$$ <b>x</b> https://example.org/a/b"
    assert problems(tmp_path, put(5, text)) == []


def test_budget_kernel_ids_and_broken_files(tmp_path):
    assert any("smoke budget 90 s" in line for line in problems(tmp_path, budget={"smoke": 90}))
    path = tmp_path / "05_tiny.ipynb"
    path.write_text(path.read_text().replace('"name": "python3"', '"name": "mine"').replace('"cell-3"', '"cell-4"'))
    found = lint.lint([path])
    assert any("kernelspec.name is not python3" in line for line in found)
    assert any("two cells have the same id" in line for line in found)
    path.write_text("{}")
    assert len(lint.lint([path])) == 1 and "05_tiny.ipynb" in lint.lint([path])[0]


def test_the_command_lists_and_counts(tmp_path):
    problems(tmp_path, tag(6))
    done = CliRunner().invoke(app, ["lint", "--notebooks", str(tmp_path)])
    assert done.exit_code == 1 and "a code cell without a tag" in done.output and "1 notebook(s), " in done.output
    problems(tmp_path)
    done = CliRunner().invoke(app, ["lint", "05", "--notebooks", str(tmp_path)])
    assert done.exit_code == 0 and "1 notebook(s), 0 problem(s)" in done.output
