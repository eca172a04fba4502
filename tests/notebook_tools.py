"""Tiny notebooks for the tests of the series."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from xmod_lab import paths
from xmod_lab.data import manifest, phantoms
from xmod_lab.files import locked
from xmod_lab.profiles import profile_of

PARAMETERS = 'profile: str = "lesson"  # effort\nseed: int = 0  # every draw follows it\n'
FIGURE = "import matplotlib.pyplot as plt\n\nfigure, axes = plt.subplots(figsize=(1, 1))\naxes.plot([1, 2, 3]);"
PICTURE = """from IPython.display import Image, display

display(Image(data=bytes.fromhex("89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b55"
    "0000000a49444154789c636000000002000148afa4710000000049454e44ae426082")))"""
SCORE = 'from xmod_lab.nb import record\n\nrecord("dice", 0.75, trivial=0.0, tolerance=0.05)'


def shared_folder(tmp_path_factory: Any) -> Path:
    """A folder of this test session that all its workers see."""
    base = Path(tmp_path_factory.getbasetemp())
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base


PLAIN = ("XMOD_DATA", "XMOD_RUNS", "XMOD_SCORES", "XMOD_COMPARE", "PYTHONPATH")
"""environment variables that would change what a series run does"""


def smoke_home(tmp_path_factory: Any) -> Path:
    """A home of this test session with the phantoms: `make lab` makes them before the series runs, too."""
    folder = shared_folder(tmp_path_factory) / "home"
    with locked(folder / "phantoms"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMOD_HOME", str(folder))
        for entry in manifest.load_manifest().values():
            if entry.access == "phantom":
                few = profile_of("smoke").subjects if entry.key == "brain_tumour" else len(entry.modalities)
                phantoms.make(entry, subjects=few, jobs=2)
    return folder


def series(home: Path, *words: str, extra: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """`xmod-lab series run` in the smoke profile, as a newcomer runs it."""
    kept = {name: value for name, value in os.environ.items() if name not in PLAIN}
    command = [sys.executable, "-m", "xmod_lab", "series", "run", *words, "--profile", "smoke"]
    return subprocess.run(command, env=kept | {"XMOD_HOME": str(home)} | (extra or {}), capture_output=True, text=True,
                          cwd=paths.checkout())


def whole_series(tmp_path_factory: Any) -> tuple[Path, dict[str, Any]]:
    """The folder of a smoke run of all notebooks, and its exit code and output: one a session, for all its workers."""
    shared = shared_folder(tmp_path_factory)
    said = shared / "series.json"
    with locked(shared / "series"):
        if not said.is_file():
            done = series(smoke_home(tmp_path_factory), "--jobs", "2", "--out", str(shared / "series"))
            said.write_text(json.dumps({"code": done.returncode, "out": done.stdout, "err": done.stderr}))
    return shared / "series", json.loads(said.read_text())


def cell(source: str, *tags: str, markdown: bool = False) -> Any:
    made = (new_markdown_cell if markdown else new_code_cell)(source)
    if tags:
        made.metadata["tags"] = list(tags)
    return made


def write(path: Path, cells: list[Any], **xmod: Any) -> Path:
    """Write a notebook of `cells` with stable ids."""
    nb = new_notebook(cells=cells)
    for number, one in enumerate(nb.cells):
        one["id"] = f"cell-{number}"
    nb.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nb.metadata["xmod"] = xmod
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nb, path)
    return path


def tiny(path: Path, *sources: str, parameters: str = PARAMETERS, **xmod: Any) -> Path:
    """A notebook of a heading, a parameters cell and code cells."""
    first = [cell(f"# {path.stem[:2]} Tiny {path.stem[3:]}", markdown=True), cell(parameters, "parameters")]
    return write(path, first + [cell(source) for source in sources], **xmod)


EXERCISE = """def dice(a, b):
    # solution
    both = (a & b).sum()
    return 2 * both / (a.sum() + b.sum())
"""
CHECK = 'check_close(lambda: dice(a, b), 2 / 3, "count the overlap twice", rtol=1e-3)'
GAP = "domain shift " * 160


def proper_cells() -> list[Any]:
    """Cells of a notebook that follows the skeleton."""
    parameters = PARAMETERS + 'dataset: str = "brain_tumour"  # a key of the manifest\n'
    setup = "import numpy as np\n\nfrom xmod_lab.nb import check_close, record\n\n"
    setup += "a, b = np.array([1, 1]), np.array([1, 0])"
    return [
        cell("# 05 Tiny\n\n**Time** seconds\n\n**Hardware** any\n\n**Needs** nothing", "title", markdown=True),
        cell("Afterwards you can count.", "goal", markdown=True),
        cell(parameters.strip(), "parameters"),
        cell(setup, "setup"),
        cell(f"Dice is $2|A \\cap B| / (|A| + |B|)$ (eq. 1). {GAP}", "theory", markdown=True),
        cell("What will it be?", "predict", markdown=True),
        cell("a, b = a > 0, b > 0", "code", "needed"),
        cell("print(profile, seed, dataset, a)", "figure"),
        cell("Write it. See [the tiny one](05_tiny.ipynb).", "exercise", markdown=True),
        cell(EXERCISE.strip(), "solution"),
        cell(CHECK, "check"),
        cell('record("dice", dice(a, b), trivial=0.0, tolerance=0.01)', "record"),
        cell("It is 2/3. Next: [this one](05_tiny.ipynb).", "recap", markdown=True),
    ]
