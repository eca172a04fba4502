"""The project's own notebooks: skeleton, exercises, generated files, and the smoke series, one test a notebook."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import CHECKOUT
from notebook_tools import whole_series

from xmod_lab.series import exercises, lint, report, source

NOTEBOOKS = CHECKOUT / "notebooks"
FILES = sorted(NOTEBOOKS.glob("[0-9]*_*.ipynb"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_follows_the_skeleton(path: Path):
    assert lint.lint([path]) == []


def test_all_notebooks_are_numbered():
    assert [path.name for path in NOTEBOOKS.glob("*.ipynb") if path not in FILES] == []


def test_the_students_versions_are_current():
    assert exercises.build(NOTEBOOKS, write=False) == [], "run: xmod-lab series exercises"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_solutions_pass_and_stubs_end_with_a_hint(path: Path):
    threads = torch.get_num_threads()
    try:
        _exercises_hold(path)
    finally:  # nb.start, which they call, sets these for the whole process
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)


def _exercises_hold(path: Path):
    tried = exercises.try_exercises(source.read(path).nb, NOTEBOOKS)
    assert tried, "it has no exercise"
    for one in tried:
        assert one.solved == "", f"the solution of exercise {one.number} fails its check"
        assert one.unsolved, f"the check of exercise {one.number} passes without an answer"
        assert not one.unsolved.startswith("broken"), f"exercise {one.number} ends with an error, not with its hint"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_runs_in_the_smoke_profile_with_the_expected_scores(path: Path, tmp_path_factory):
    out, said = whole_series(tmp_path_factory)
    assert (out / "report.json").is_file(), said["out"] + said["err"]
    about, results = report.read(out)
    (result,) = [one for one in results if one.name == path.stem]
    if result.status == "not run":
        pytest.skip(result.reason)
    assert result.status == "pass", f"{result.reason}\n{result.detail}"
    assert [line for line in about["differences"] if line.startswith(f"{path.stem} ")] == []
