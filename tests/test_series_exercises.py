"""Exercises: the stub, the generated file, and what may be wrong with an exercise."""

from __future__ import annotations

import nbformat
import pytest
from notebook_tools import CHECK, EXERCISE, cell, proper_cells, write
from typer.testing import CliRunner

from xmod_lab.errors import LabError
from xmod_lab.series import exercises, source
from xmod_lab.series.cli import app


@pytest.fixture
def notebook(tmp_path):
    return write(tmp_path / "notebooks" / "05_tiny.ipynb", proper_cells())


@pytest.mark.parametrize(
    ("code", "left"),
    [
        ("x = 1\ny = 2", "# your code here\n..."),
        ("x = None\n# solution\nx = 1\n\ny = 2", "x = None\n# your code here\n..."),
        (EXERCISE, "def dice(a, b):\n    # your code here\n    ..."),
        (
            "def f(x):\n    # solution\n    return x\n\nprint(f(1))",
            "def f(x):\n    # your code here\n    ...\nprint(f(1))",
        ),
        (
            "if a:\n    # solution\n    b = 1\nelse:\n    # solution\n    b = 2",
            "if a:\n    # your code here\n    ...\nelse:\n    # your code here\n    ...",
        ),
    ],
)
def test_stub(code, left):
    assert exercises.stub(code) == left
    compile(left, "stub", "exec")


def test_student_version_keeps_ids_and_mends_links(notebook):
    nb = source.read(notebook).nb
    nb.cells[6].outputs, nb.cells[6].execution_count = [nbformat.v4.new_output("stream", text="x")], 3
    student = exercises.student_version(nb, notebook.name)
    assert [c.id for c in student.cells] == [c.id for c in nb.cells]
    assert student.metadata.xmod.generated_from == "05_tiny.ipynb"
    assert "return 2" not in "".join(c.source for c in student.cells) and "# your code here" in student.cells[9].source
    assert "[the tiny one](../05_tiny.ipynb)" in student.cells[8].source
    assert student.cells[6].outputs == [] and student.cells[6].execution_count is None
    assert "return 2" in nb.cells[9].source and nb.cells[6].outputs  # the source is not touched
    nbformat.validate(student)


def test_build_writes_checks_and_removes(notebook):
    folder = notebook.parent
    command = ["exercises", "--notebooks", str(folder)]
    assert CliRunner().invoke(app, [*command, "--check"]).exit_code == 1
    assert not (folder / "exercises").exists()
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0 and "written: exercises/05_tiny.ipynb" in done.output
    assert CliRunner().invoke(app, [*command, "--check"]).exit_code == 0
    generated = folder / "exercises" / "05_tiny.ipynb"
    generated.write_text(generated.read_text().replace("your code", "my code"))
    (folder / "exercises" / "07_gone.ipynb").write_text("{}")
    assert exercises.build(folder, write=False) == ["05_tiny.ipynb", "07_gone.ipynb"]
    exercises.build(folder)
    assert exercises.build(folder) == [] and not (folder / "exercises" / "07_gone.ipynb").exists()


def test_the_solution_passes_and_the_stub_ends_with_the_hint(notebook):
    (tried,) = exercises.try_exercises(source.read(notebook).nb, notebook.parent)
    assert tried.solved == "" and tried.unsolved.startswith("count the overlap twice")


def tried(tmp_path, **replace):
    cells = proper_cells()
    for number, code in replace.items():
        cells[int(number[1:])].source = code
    path = write(tmp_path / "05_tiny.ipynb", cells)
    return exercises.try_exercises(source.read(path).nb, tmp_path)[0]


def test_a_wrong_solution_is_found(tmp_path):
    assert "count the overlap twice" in tried(tmp_path, c9=EXERCISE.replace("return 2", "return 1")).solved


def test_a_check_that_cannot_fail_is_found(tmp_path):
    assert tried(tmp_path, c10='from xmod_lab.nb import check\n\ncheck(True, "never")').unsolved == ""


def test_a_check_that_breaks_instead_of_hinting_is_found(tmp_path):
    left = tried(tmp_path, c10="assert abs(dice(a, b) - 2 / 3) < 1e-3").unsolved
    assert left.startswith("broken: TypeError")


def test_a_stub_that_breaks_before_its_check_is_found(tmp_path):
    left = tried(tmp_path, c9=EXERCISE + "\nprint(1 / dice(a, b))").unsolved
    assert left.startswith("broken: TypeError")


def test_later_exercises_see_earlier_solutions(tmp_path):
    cells = proper_cells()
    more = [
        cell("Now the loss.", "exercise", markdown=True),
        cell("def loss(a, b):\n    # solution\n    return 1 - dice(a, b)", "solution"),
        cell(CHECK.replace("dice(a, b), 2 / 3", "loss(a, b), 1 / 3").replace("count", "turn"), "check"),
    ]
    path = write(tmp_path / "05_tiny.ipynb", cells[:11] + more + cells[11:])
    found = exercises.try_exercises(source.read(path).nb, tmp_path)
    assert [(t.number, t.solved, t.unsolved.split()[0]) for t in found] == [(1, "", "count"), (2, "", "turn")]


def test_cells_out_of_order_and_failing_setup_are_named(tmp_path):
    cells = proper_cells()
    cells[9], cells[10] = cells[10], cells[9]
    with pytest.raises(LabError, match="exercise 1 is tagged exercise, check, solution"):
        exercises.exercises_of(source.read(write(tmp_path / "05_tiny.ipynb", cells)).nb)
    with pytest.raises(LabError, match="a cell before the exercises fails: ZeroDivisionError"):
        tried(tmp_path, c6="1 / 0")
