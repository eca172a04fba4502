"""The series runner on tiny notebooks: it believes only what ran, and keeps what it saw."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import nbformat
import psutil
import pytest
from notebook_tools import FIGURE, PICTURE, SCORE, cell, shared_folder, tiny, write
from typer.testing import CliRunner

from xmod_lab import files
from xmod_lab.errors import LabError
from xmod_lab.series import page, run, source
from xmod_lab.series.cli import app

ENVIRONMENT = """import os, sys
names = ["OMP_NUM_THREADS", "PYTHONHASHSEED", "XMOD_RUNS", "MPLBACKEND"]
print(sys.executable, os.getcwd(), *[os.environ[name] for name in names], sep="|")
print("careful", file=sys.stderr)"""


START = "from xmod_lab.series.cli import app; app()"
COMMAND = [sys.executable, "-c", START, "run", "--notebooks", "notebooks"]


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """One run of everything that can go wrong, made by the first worker that asks: what it printed, its folder."""
    folder = shared_folder(tmp_path_factory) / "tiny_series"
    with files.locked(folder):
        if not (folder / "printed.txt").is_file():
            _run_everything(folder)
    return (folder / "printed.txt").read_text(), folder / "out", folder / "notebooks"


def _run_everything(folder):
    books = folder / "notebooks"
    tiny(books / "01_passes.ipynb", ENVIRONMENT, FIGURE, SCORE)
    tiny(books / "02_fails.ipynb", "print('before the fall')\nvalues = [1, 2]\nvalues[7]", PICTURE, SCORE)
    tiny(books / "03_exits.ipynb", "import sys\n\nsys.exit(0)", PICTURE, SCORE)
    # two cells: what a process prints in the instant it is killed may never leave it
    tiny(books / "04_dies.ipynb", "print('alive')", "import os\n\nos.kill(os.getpid(), 9)", PICTURE, SCORE)
    tiny(books / "05_hangs.ipynb", "import time\n\nprint('waiting', flush=True)\ntime.sleep(999)", PICTURE, SCORE)
    tiny(books / "06_silent.ipynb", PICTURE)
    tiny(books / "07_blind.ipynb", SCORE)
    tiny(books / "08_needs.ipynb", PICTURE, SCORE, needs=["data:lgg"])
    tiny(books / "09_endless.ipynb", "while True:\n    pass", budget={"smoke": 1})
    command = ["run", "--notebooks", str(books), "--out", str(folder / "out"), "--jobs", "2", "--cell-timeout", "9"]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("XMOD_DATA", raising=False)
        done = CliRunner().invoke(app, [*command, "--expected", str(folder / "expected.json")])
    assert done.exit_code == 1, done.output
    (folder / "printed.txt").write_text(done.output)


def rows(series):
    return {row["name"]: row for row in json.loads((series[1] / "report.json").read_text())["notebooks"]}


def test_a_good_notebook_passes_with_its_score(series):
    row = rows(series)["01_passes"]
    assert (row["status"], row["reason"], row["images"], row["cells"]) == ("pass", "", 1, 4)
    assert row["scores"] == {"dice": {"value": 0.75, "tolerance": 0.05, "trivial": 0.0}}
    assert re.search(r"PASS +\d+\.\d s  01_passes +dice=0.75", series[0])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("02_fails", "IndexError: list index out of range [code cell 2 of 4]"),
        ("03_exits", "sys.exit in a cell ended it after 1 of 4 code cells [code cell 2 of 4]"),
        ("04_dies", "the kernel died [code cell 3 of 5]"),
        ("05_hangs", "a cell took longer than 9 s [code cell 2 of 4]"),
        ("06_silent", "it recorded no score: end with record(name, value)"),
        ("07_blind", "it drew no picture: no output is an image/png"),
    ],
)
def test_what_did_not_run_to_its_end_fails(series, name, reason):
    assert (rows(series)[name]["status"], rows(series)[name]["reason"]) == ("fail", reason)


def test_an_endless_notebook_is_stopped_from_outside(series):
    row = rows(series)["09_endless"]
    assert row["status"] == "fail" and row["reason"].startswith("stopped after 5 s") and row["seconds"] < 15
    assert "SLOW: over its 1 s" in series[0]


def test_needs_are_reported_not_hidden(series):
    row = rows(series)["08_needs"]
    assert row["status"] == "not run" and row["reason"].startswith("needs data:lgg")
    assert "NOT RUN" in series[0] and not (series[1] / "08_needs").exists()


def test_a_failed_run_shows_where(series):
    assert json.loads((series[1] / "report.json").read_text())["exit_code"] == 1
    for said in ("02_fails failed:", "code cell 2 of 4:", "    values = [1, 2]", "----> 3 values[7]"):
        assert said in series[0]


def test_output_is_kept_whatever_happened(series):
    out = series[1]
    for name, said in [("02_fails", "before the fall"), ("04_dies", "alive"), ("05_hangs", "waiting")]:
        assert said in (out / name / "stdout.txt").read_text()
    assert (out / "01_passes" / "stderr.txt").read_text() == "careful\n"
    assert nbformat.read(out / "02_fails" / "02_fails.ipynb", 4).metadata.papermill.exception


def test_the_kernel_is_this_interpreter_in_the_notebooks_folder(series):
    executable, folder, threads, seed, runs, backend = (
        (series[1] / "01_passes" / "stdout.txt").read_text().strip().split("|")
    )
    assert executable == sys.executable and Path(folder) == series[2].resolve()
    assert (threads, seed) == (str(max(1, run.cores() // 2)), "0")
    assert Path(runs) == (series[1] / "runs").resolve() and backend.startswith("module://matplotlib_inline")


def processes_of(out):
    """Kernels and their parents whose scores would go below `out`."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("XMOD_SCORES", "").startswith(str(out.resolve())):
                found.append(process)
    return found


def test_no_process_outlives_the_run(series):
    assert processes_of(series[1]) == []


def test_a_killed_series_takes_its_kernels_along(tmp_path):
    tiny(tmp_path / "notebooks" / "01_endless.ipynb", "print('begun', flush=True)\nwhile True:\n    pass")
    said = tmp_path / "out" / "01_endless" / "stdout.txt"
    process = subprocess.Popen([*COMMAND, "--out", "out"], cwd=tmp_path, stdout=-3, stderr=-3)
    try:
        assert eventually(lambda: said.is_file() and "begun" in said.read_text())
        assert len(processes_of(tmp_path / "out")) == 2
    finally:
        process.kill()
        process.wait()
    assert eventually(lambda: processes_of(tmp_path / "out") == [])


def eventually(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.2)
    return condition()


def test_the_report_says_when_and_of_which_commit(series):
    about = json.loads((series[1] / "report.json").read_text())
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", about["date"]) and "commit" in about


def test_junit_is_well_formed(series):
    suite = ElementTree.parse(series[1] / "junit.xml").getroot().find("testsuite")
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("9", "7", "1")
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert float(cases["01_passes"].get("time")) > 0 and cases["01_passes"].find("failure") is None
    assert "values[7]" in cases["02_fails"].find("failure").text
    assert cases["08_needs"].find("skipped").get("message").startswith("needs data:lgg")


def test_html_holds_the_picture_and_asks_for_nothing_else(series):
    out = series[1]
    html = (out / "01_passes.html").read_text()
    outputs = [o for c in nbformat.read(out / "01_passes" / "01_passes.ipynb", 4).cells for o in c.get("outputs", [])]
    png = next(o.data["image/png"] for o in outputs if "image/png" in o.get("data", {})).strip().replace("\n", "")
    assert base64.b64decode(png)[:4] == b"\x89PNG" and png in html.replace("\n", "")
    assert re.findall(r"""(?:src|href)=["'](?!data:|#)[^"']*""", html) == []
    index = (out / "index.html").read_text()
    assert "data:image/png;base64," in index and 'href="01_passes.html"' in index and "0.75" in index
    assert "list index out of range" in index and "NOT RUN" in index


def test_two_series_at_once_do_not_meet(tmp_path):
    meet = """import os, pathlib, time
mine = pathlib.Path(os.environ["XMOD_RUNS"]) / "mark"
assert not mine.exists(), "someone else's folder"
mine.write_text(str(os.getpid()))
time.sleep(1)
assert mine.read_text() == str(os.getpid())"""
    tiny(tmp_path / "notebooks" / "01_one.ipynb", meet, PICTURE, SCORE)
    env = os.environ | {"XMOD_HOME": str(tmp_path)}
    both = [subprocess.Popen(COMMAND, cwd=tmp_path, env=env, stdout=-1, stderr=-1, text=True) for _ in range(2)]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    places = {re.search(r"HTML: (.*)/index.html", text)[1] for text in said}
    assert len(places) == 2 and all(Path(place, "report.json").is_file() for place in places)


def plan(folder, names=(), dataset=None, **extra):
    return run.plan(list(names), "smoke", dataset, extra, folder)


def test_unknown_names_and_parameters_are_refused(tmp_path):
    tiny(tmp_path / "01_one.ipynb", parameters='profile: str = "lesson"\nseed: int = 0\ndeep: bool = False\n')
    with pytest.raises(LabError, match="no notebook '02'.*there are 01_one"):
        plan(tmp_path, ["02"])
    with pytest.raises(LabError, match="no parameter 'dataset': 01_one .*profile, seed, deep"):
        plan(tmp_path, dataset="abdomen")
    with pytest.raises(LabError, match="no parameter 'sede'"):
        plan(tmp_path, sede="1")
    with pytest.raises(LabError, match="parameter seed is int, not 'one'"):
        plan(tmp_path, seed="one")
    with pytest.raises(LabError, match="parameter deep is bool, not '1'"):
        plan(tmp_path, deep="1")
    (job,) = plan(tmp_path, ["01"], seed="4", deep="true")
    assert job.parameters == {"profile": "smoke", "seed": 4, "deep": True} and not job.comparable
    assert plan(tmp_path, ["01_one"], seed="0")[0].comparable


def test_usage_errors_end_with_code_2(tmp_path):
    tiny(tmp_path / "01_one.ipynb")
    for more in (["99"], ["-p", "sede=1"], ["-p", "sede"], ["--profile", "quick"], ["--dataset", "abdomen"]):
        done = CliRunner().invoke(app, ["run", "--notebooks", str(tmp_path), "--out", str(tmp_path / "out"), *more])
        assert done.exit_code == 2 and done.output.startswith("error: "), more
    assert not (tmp_path / "out").exists()


def test_nothing_run_ends_with_code_4(tmp_path):
    tiny(tmp_path / "01_one.ipynb", datasets=["whole_heart"], parameters='profile: str = "a"\ndataset: str = "b"\n')
    command = ["run", "--notebooks", str(tmp_path), "--out", str(tmp_path / "out"), "--dataset", "abdomen"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 4 and "made for whole_heart, not abdomen" in done.output


def test_names_choose_by_number_and_beginning(tmp_path):
    for name in ("10_csa", "60_joint", "61_multi"):
        tiny(tmp_path / f"{name}.ipynb")
    found = [[s.name for s in source.find(names, tmp_path)] for names in (["6"], ["10"], ["61_multi", "1"], [])]
    assert found == [["60_joint", "61_multi"], ["10_csa"], ["10_csa", "61_multi"], ["10_csa", "60_joint", "61_multi"]]


def test_bad_metadata_is_named(tmp_path):
    for xmod, message in [
        ({"need": []}, "unknown field xmod.need: 01_a.ipynb"),
        ({"needs": ["tpu"]}, "unknown need 'tpu'"),
        ({"budget": {"quick": 1}}, "budget of unknown profile 'quick'"),
    ]:
        with pytest.raises(LabError, match=message):
            source.read(tiny(tmp_path / "01_a.ipynb", **xmod))
    with pytest.raises(LabError, match="the parameters cell cannot be read"):
        source.read(write(tmp_path / "01_a.ipynb", [cell("seed = 0", "parameters")]))
    (tmp_path / "01_a.ipynb").write_text("{")
    with pytest.raises(LabError, match="not a notebook"):
        source.read(tmp_path / "01_a.ipynb")


def test_equations_become_mathml_and_code_stays(tmp_path):
    text = "The loss $L = -\\log p_y$ and\n$$\nM = \\sigma(x)\n$$\nbut `$HOME`, $5 or $6.\n```\n$a$\n```"
    shown = page.with_mathml(text)
    assert shown.count("<math") == 2 and 'display="block"' in shown
    assert "`$HOME`, $5 or $6." in shown and "```\n$a$\n```" in shown
    notebook = write(tmp_path / "01_a.ipynb", [cell("x = 1")])
    nb = json.loads(notebook.read_text())
    nb["cells"].insert(0, {"cell_type": "markdown", "id": "m", "metadata": {}, "source": "$a^2$"})
    notebook.write_text(json.dumps(nb))
    page.notebook_page(notebook, tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text()
    assert "<msup>" in text and not re.search(r"<(script|link|img)[^>]+(src|href)=.?https?://", text)
