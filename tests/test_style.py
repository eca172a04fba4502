"""What every tracked file keeps to: length, style, types, light imports, no traces of one machine."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CHECKOUT

MOST_LINES = 300
LIGHT = ["errors", "files", "paths", "profiles", "data.manifest", "data.volume", "doctor", "precision", "cli"]
"""modules that every notebook or command imports"""
HEAVY = {"monai", "seaborn", "scipy", "pandas", "matplotlib", "skimage", "SimpleITK", "plotly"}

TRACES = {
    "a path of one machine": r"(?<![\w.:~$})/*-])(?:/(?:home|root|Users|work|tmp|mnt|media)/\w|[A-Z]:\\Users)",
    "a package index": r"\b(?:pypi\.org|python[h]osted\.org|registry\.npmjs|deb\.debian)",
    "unfinished work": r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b",
}


def _tracked(*patterns: str) -> list[Path]:
    """Tracked files that are there, or all files of the patterns where this is no git checkout."""
    ran = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=CHECKOUT, capture_output=True, text=True)
    if ran.returncode == 0:
        names = ran.stdout.split("\0")
        return [CHECKOUT / name for name in names if name and (CHECKOUT / name).is_file()]
    return [path for pattern in patterns or ("*",) for path in CHECKOUT.rglob(pattern) if path.is_file()]


def _run(*command: str) -> str:
    ran = subprocess.run([sys.executable, *command], cwd=CHECKOUT, capture_output=True, text=True)
    return "" if ran.returncode == 0 else ran.stdout + ran.stderr


def test_no_file_is_longer_than_300_lines():
    lengths = {path: len(path.read_text().splitlines()) for path in _tracked("xmod_lab/*.py", "tests/*.py")}
    assert lengths, "no file was found"
    assert [f"{path.name}: {n}" for path, n in lengths.items() if n > MOST_LINES] == []


def _traces(text: str) -> list[str]:
    return [f"{what}: {found.group()}" for what, pattern in TRACES.items() for found in re.finditer(pattern, text)]


def test_no_file_carries_traces_of_a_machine():
    found = {}
    for path in _tracked():
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:  # pictures
            continue
        for number, line in enumerate(lines, 1):
            if hits := _traces(line):
                found[f"{path.relative_to(CHECKOUT)}:{number}"] = hits
    assert found == {}


@pytest.mark.parametrize(
    ("text", "hits"),
    [
        ("see /ho" + "me/ann/data", 1),
        ('open("/tm' + 'p/out.nii")', 1),
        ("C:\\Us" + "ers\\Ann", 1),
        ("TO" + "DO: later", 1),
        ("https://files.python" + "hosted.org/x", 1),
        ("https://example.org/ho" + "me/page and notebooks/tm" + "p/x and ~/scans/x and $HOME/scans/x", 0),
        ("`/tmp` alone names no file", 0),
    ],
)
def test_the_search_for_traces_finds_what_it_should(text, hits):
    assert len(_traces(text)) == hits


def test_ruff_is_content():
    assert _run("-m", "ruff", "check", "--output-format", "concise", ".") == ""


def test_mypy_is_content():
    assert _run("-m", "mypy") == ""


def test_notebooks_are_stripped():
    """No outputs, no execution counts, no widget state: git holds sources, pages hold pictures."""
    dirty = []
    for path in _tracked("*.ipynb"):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        if "widgets" in notebook["metadata"]:
            dirty.append(f"{path.name}: widget state")
        for number, cell in enumerate(notebook["cells"]):
            if cell["cell_type"] == "code" and (cell["outputs"] or cell["execution_count"] is not None):
                dirty.append(f"{path.name}: cell {number} holds outputs")
            if "papermill" in cell["metadata"] or "execution" in cell["metadata"]:
                dirty.append(f"{path.name}: cell {number} holds traces of a run")
    assert dirty == []


def _brought_in(names: list[str]) -> set[str]:
    """The heavy packages that importing the modules in a fresh process brings in."""
    code = f"import importlib, sys; [importlib.import_module(n) for n in {names}]; print(*{HEAVY} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return set(ran.stdout.split())


def test_light_modules_stay_light():
    """Every notebook pays for what these import."""
    assert _brought_in([f"xmod_lab.{name}" for name in LIGHT]) == set()


def test_the_whole_library_imports_neither_monai_nor_seaborn():
    """All modules in one process: heavy packages are imported inside the functions that use them."""
    paths = [path.relative_to(CHECKOUT).with_suffix("") for path in _tracked("xmod_lab/*.py")]
    names = [".".join(path.parts).removesuffix(".__init__") for path in paths if path.name != "__main__"]
    assert _brought_in(names) & {"monai", "seaborn", "scipy"} == set()


def test_torchvision_is_absent():
    """Its published build does not match the CPU build of PyTorch and breaks what merely looks for it."""
    assert importlib.util.find_spec("torchvision") is None


def test_nothing_is_unpickled():
    """torch.load and numpy's allow_pickle execute what a file says."""
    pattern = re.compile(r"^\s*(?:import|from) pickle\b|allow_pickle=True|torch\.load\((?!.*weights_only=True)")
    found = [
        f"{path.relative_to(CHECKOUT)}:{number}"
        for path in _tracked("xmod_lab/*.py", "benchmarks/*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []
