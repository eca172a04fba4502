"""Recorded numbers against expected ones: what is broken on purpose must be found."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from notebook_tools import PICTURE, tiny
from typer.testing import CliRunner

from xmod_lab.errors import LabError
from xmod_lab.profiles import PROFILES
from xmod_lab.series import expected, report
from xmod_lab.series.cli import app
from xmod_lab.series.run import Result

T1 = {"value": 0.8, "tolerance": 0.05, "trivial": 0.0}
T2 = {"value": 0.3, "tolerance": 0.05, "trivial": 0.0}
RECORDED = {"02_gap": {"dice/T1": T1, "dice/T2": T2, "patients": {"value": 12, "tolerance": 0.0, "trivial": None}}}


def changed(score, **values):
    scores = copy.deepcopy(RECORDED)
    scores["02_gap"][score].update(values)
    return scores


def kinds(recorded, wanted=RECORDED):
    return [(d.score, d.kind) for d in expected.compare(recorded, wanted)]


def test_the_same_numbers_agree_and_small_changes_pass():
    assert kinds(RECORDED) == []
    assert kinds(changed("dice/T1", value=0.85)) == [] and kinds(changed("dice/T1", value=0.75)) == []
    assert kinds({}) == []  # a notebook that was not run is not missing


def test_broken_numbers_are_found():
    assert kinds(changed("dice/T1", value=0.0)) == [("dice/T1", "differs")]  # a zeroed loss
    swapped = {"02_gap": RECORDED["02_gap"] | {"dice/T1": T2, "dice/T2": T1}}
    assert kinds(swapped) == [("dice/T1", "differs"), ("dice/T2", "differs")]
    assert kinds(changed("patients", value=13)) == [("patients", "differs")]
    assert kinds(changed("dice/T1", value=float("nan"))) == [("dice/T1", "differs")]


def test_a_notebook_cannot_loosen_its_own_bound():
    assert kinds(changed("dice/T1", value=0.5, tolerance=0.5)) == [("dice/T1", "differs")]


def test_missing_new_and_vacuous_scores_are_found():
    fewer = {"02_gap": {"dice/T1": T1}}
    assert kinds(fewer) == [("dice/T2", "missing"), ("patients", "missing")]
    assert kinds(RECORDED, fewer) == [("dice/T2", "new"), ("patients", "new")]
    assert kinds({"03_new": {"x": T1}}) == [("x", "new")]
    assert kinds(RECORDED, changed("dice/T1", tolerance=0.8)) == [("dice/T1", "vacuous")]


def test_update_shows_old_and_new_and_keeps_other_notebooks(tmp_path):
    path = tmp_path / "smoke.json"
    assert len(expected.update(path, RECORDED)) == 3
    assert expected.update(path, RECORDED) == []
    differences = expected.update(path, {"03_gan": {"x": T1}} | changed("dice/T1", value=0.9))
    assert set(expected.load(path)) == {"02_gap", "03_gan"}
    lines = expected.table(differences).splitlines()
    assert lines[1].split() == ["02_gap", "dice/T1", "0.8", "0.9", "0.05", "0.05", "differs"]
    assert lines[2].split() == ["03_gan", "x", "-", "0.8", "-", "0.05", "new"]
    assert set(json.loads(path.read_text())["versions"]) == {"python", "torch", "numpy", "scipy"}
    with pytest.raises(LabError, match="not narrower than the distance to the trivial answer"):
        expected.update(path, changed("dice/T1", tolerance=0.8))
    assert expected.load(path)["02_gap"]["dice/T1"]["tolerance"] == 0.05


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "smoke.json").write_text('{"notebooks": {"a": {"b": 1}}}')
    with pytest.raises(LabError, match="not a file of expected scores: smoke.json"):
        expected.load(tmp_path / "smoke.json")


def finished(out: Path, **more) -> Path:
    """A report as a run writes it."""
    result = Result("02_gap", "02 The gap", "pass", seconds=3.0, budget=60.0, scores=RECORDED["02_gap"], **more)
    about = {"profile": "smoke", "dataset": None, "parameters": {}, "jobs": 1, "seconds": 3.0}
    report.write(out, [result], [], about)
    return out


def check(*arguments):
    return CliRunner().invoke(app, ["check", *map(str, arguments)])


def test_check_compares_a_finished_run(tmp_path):
    out, path = finished(tmp_path / "out"), tmp_path / "smoke.json"
    assert check(out, "--expected", path).exit_code == 2
    assert check(tmp_path, "--expected", path).exit_code == 2
    done = check(out, "--expected", path, "--update-expected")
    assert done.exit_code == 0 and "dice/T1" in done.output and "new" in done.output
    done = check(out / "report.json", "--expected", path)
    assert done.exit_code == 0 and "3 score(s) as expected" in done.output
    broken = json.loads(path.read_text())
    broken["notebooks"]["02_gap"]["dice/T1"]["value"] = 0.5
    path.write_text(json.dumps(broken))
    done = check(out, "--expected", path)
    assert done.exit_code == 3 and "02_gap dice/T1: 0.8, expected 0.5 +- 0.05" in done.output


def test_other_data_are_not_compared(tmp_path):
    (tmp_path / "smoke.json").write_text(json.dumps({"notebooks": {"02_gap": {"dice/T1": T2}}}))
    done = check(finished(tmp_path / "out", comparable=False), "--expected", tmp_path / "smoke.json")
    assert done.exit_code == 0 and "02_gap: not the data set and parameters it comes with" in done.output


def test_reports_keep_odd_characters_out_of_xml(tmp_path):
    result = Result("01_a", "A", "fail", "bell \x07 & <b>", "colour \x1b[31m ]]> ü", seconds=1.0)
    about = {"profile": "smoke", "dataset": None, "parameters": {}, "jobs": 1, "seconds": 1.0}
    report.write(tmp_path, [result], [], about)
    import xml.etree.ElementTree as ElementTree

    failure = ElementTree.parse(tmp_path / "junit.xml").getroot().find(".//failure")
    assert failure.get("message") == "bell ? & <b>" and failure.text == "colour ?[31m ]]> ü"


TRAINING = """from labels import TRUTH
from xmod_lab.nb import record

weight, step = [0.0, 0.0], 0.1
for _ in range(100):
    for k in (0, 1):
        weight[k] -= step * 2 * (weight[k] - TRUTH[k])
record("fit/first", weight[0], trivial=0.0, tolerance=0.1)
record("fit/second", weight[1], trivial=0.0, tolerance=0.1)"""


def test_a_run_with_swapped_labels_ends_with_code_3(tmp_path):
    books = tmp_path / "notebooks"
    tiny(books / "01_fit.ipynb", TRAINING, PICTURE)
    (books / "labels.py").write_text("TRUTH = [1.0, 2.0]\n")
    command = ["run", "--notebooks", str(books), "--expected", str(tmp_path / "smoke.json"), "--out"]
    done = CliRunner().invoke(app, [*command, str(tmp_path / "a"), "--update-expected"])
    assert done.exit_code == 0 and "fit/second" in done.output, done.output
    (books / "labels.py").write_text("TRUTH = [2.0, 1.0]  # swapped\n")
    done = CliRunner().invoke(app, [*command, str(tmp_path / "b")])
    assert done.exit_code == 3, done.output
    assert "01_fit fit/first: 2, expected 1 +- 0.1" in done.output
    assert 'failures="1"' in (tmp_path / "b" / "junit.xml").read_text()
    assert json.loads((tmp_path / "b" / "report.json").read_text())["exit_code"] == 3


def test_recorded_expectations_all_say_something(request):
    """The project's own expected numbers: no tolerance accepts the trivial answer."""
    folder = request.config.rootpath / "tests" / "expected"
    paths = [path for profile in PROFILES if (path := folder / f"{profile}.json").is_file()]
    assert paths
    for path in paths:
        for notebook, scores in expected.load(path).items():
            assert [name for name, row in scores.items() if expected.vacuous(row)] == [], notebook
