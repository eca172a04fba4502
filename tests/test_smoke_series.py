"""The smoke series end to end, as a newcomer runs it, and proof that a broken number makes it fail."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from notebook_tools import series, smoke_home, whole_series

from xmod_lab.series import expected, source


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return smoke_home(tmp_path_factory)


def test_the_smoke_series_passes_with_the_expected_numbers(tmp_path_factory: pytest.TempPathFactory) -> None:
    out, said = whole_series(tmp_path_factory)
    print(said["out"])
    assert said["code"] == 0, said["out"] + said["err"]
    report = json.loads((out / "report.json").read_text())
    names = [notebook.name for notebook in source.find([])]
    assert [row["name"] for row in report["notebooks"]] == names
    assert {row["status"] for row in report["notebooks"]} <= {"pass", "not run"}
    assert not report["differences"]
    for name in ("00_start_here", "01_data_prep", "02_domain_gap"):
        assert (out / f"{name}.html").is_file()


def test_every_notebook_has_expected_numbers_that_say_something() -> None:
    path = expected.file_of("smoke")
    assert path is not None
    numbers = expected.load(path)
    for name in ("00_start_here", "01_data_prep", "02_domain_gap"):
        assert len(numbers[name]) >= 4
        assert not [score for score, row in numbers[name].items() if expected.vacuous(row)]
        assert any(row["trivial"] is not None for row in numbers[name].values())


SHIM = '''
"""Break one function of one module when it is imported."""
import importlib.abc, importlib.util, sys

class Breaker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name != {module!r}:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module
        def exec_module(module):
            load(module)
            change(module)
        spec.loader.exec_module = exec_module
        return spec

def change(module):
{change}

sys.meta_path.insert(0, Breaker())
'''

SWAPPED = """
    slices = module.BatchSource._slices
    def swapped(self, *words):
        found = slices(self, *words)
        return {m: s if s.label is None else s._replace(label=(s.label == 0).long()) for m, s in found.items()}
    module.BatchSource._slices = swapped
"""
ZEROED = """
    loss = module.dice_cross_entropy
    module.dice_cross_entropy = lambda *words: 0.0 * loss(*words)
"""


BROKEN = [("xmod_lab.data.batches", SWAPPED), ("xmod_lab.losses.segmentation", ZEROED)]


@pytest.mark.parametrize(("module", "change"), BROKEN, ids=["swapped labels", "zeroed loss"])
def test_a_broken_number_makes_the_series_fail(home: Path, tmp_path: Path, module: str, change: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(SHIM.format(module=module, change=change))
    done = series(home, "00", "--out", str(tmp_path / "out"), extra={"PYTHONPATH": str(tmp_path)})
    # 3: a number differs. 1: record itself refused it, since it is as good as the trivial answer.
    assert done.returncode in (1, 3), done.stdout + done.stderr
    assert "dice/source" in done.stdout
    assert "trivial" in done.stdout or "expected" in done.stdout
