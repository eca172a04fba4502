"""A run folder is taken for what it was made from, and for nothing else; and runs side by side."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.tiny import make_tiny, tiny_manifest
from xmod_lab import bench, profiles
from xmod_lab.bench import tables
from xmod_lab.errors import LabError
from xmod_lab.files import read_json, write_json, write_text
from xmod_lab.methods import METHODS
from xmod_lab.methods.unet import UNetConfig
from xmod_lab.runs import RunSpec, build, ensure_run, prepared_of
from xmod_lab.train import fit

REAL_SMOKE = profiles.PROFILES["smoke"]
SMALL = profiles.Profile("smoke", 32, 4, 12, 6, None, 1, "float32", 5, "for tests")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    fields = {"labelled": ["T1", "T2"], "unlabelled": []}
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    monkeypatch.setitem(profiles.PROFILES, "smoke", SMALL)
    make_tiny(tmp_path, modalities=("T1", "T2"), patients=8, **fields)
    text = tiny_manifest(("T1", "T2"), "registered", "tiny", {}, {}, fields)
    write_text(tmp_path / "data" / "user_manifest.yaml", text)
    yield tmp_path


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("what", ["profile", "config", "patients"])
def test_a_folder_made_from_something_else_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, finished: bool, what: str
) -> None:
    spec = RunSpec("unet_joint", "tiny", seed=7)
    run = ensure_run(spec, progress=False)
    assert ensure_run(spec, progress=False) == run
    if not finished:
        (spec.folder / "scores.json").unlink()
    if what == "profile":
        monkeypatch.setitem(profiles.PROFILES, "smoke", dataclasses.replace(SMALL, steps=13))
    elif what == "config":  # a default that changed with the package
        entry = METHODS["unet_joint"]
        monkeypatch.setitem(METHODS, "unet_joint", entry._replace(overrides={"dropout": 0.25}))
        assert UNetConfig().dropout != 0.25
    else:  # a folder of other patients in the same layout
        for number in range(8):
            shutil.move(home / "data" / "tiny" / f"p{number:03d}", home / "data" / "tiny" / f"q{number:03d}")
    said = {"profile": "another smoke profile", "config": "another value of dropout", "patients": "other patients"}
    with pytest.raises(LabError, match=f"the run was begun with {said[what]}"):
        ensure_run(spec, progress=False)
    if finished:  # whoever takes finished runs asks the same
        monkeypatch.setattr(bench, "suite", lambda name: [spec])
        monkeypatch.setattr(tables, "suite", lambda name: [spec])
        for taker in (lambda: bench.ensure_runs({"x": spec}), lambda: bench.run_suite("x")):
            with pytest.raises(LabError, match=f"the run was begun with {said[what]}"):
                taker()
        with pytest.raises(LabError, match=f"the run was begun with {said[what]}"):
            tables.record("x", home)


def test_a_finished_run_is_read_where_its_data_are_gone(home: Path) -> None:
    spec = RunSpec("unet_joint", "tiny", seed=8)
    run = ensure_run(spec, progress=False)
    shutil.rmtree(home / "data" / "tiny")
    assert ensure_run(spec, progress=False) == run


def test_runs_side_by_side_give_the_numbers_of_one_after_the_other(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their processes know the real smoke profile, not this module's small one."""
    specs = {str(seed): RunSpec("unet_joint", "tiny", "both", seed=seed) for seed in (40, 41)}
    monkeypatch.setitem(profiles.PROFILES, "smoke", REAL_SMOKE)
    found = bench.ensure_runs(specs, jobs=2, device="cpu")
    assert [run.complete for run in found.values()] == [True, True]
    assert bench.ensure_runs(specs) == found
    alone = RunSpec("unet_joint", "tiny", "both", seed=40, settings=(("width", 8),))
    torch.set_num_threads(1)
    assert ensure_run(alone, progress=False).scores()["means"] == found["40"].scores()["means"]


def test_a_failed_run_is_named(home: Path) -> None:
    with pytest.raises(LabError, match="unet_joint on tiny/both .* failed: .*no config field 'wrong'"):
        bench.ensure_runs({"x": RunSpec("unet_joint", "tiny", "both", settings=(("wrong", 1),))}, jobs=2, device="cpu")


def test_a_wrong_name_makes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path / "new"))
    for method in ("nosuch", "../../escape"):
        with pytest.raises(LabError, match="no method"):
            ensure_run(RunSpec(method, "brain_tumour"), progress=False)
    assert not (tmp_path / "new").exists() and not (tmp_path / "escape").exists()


def test_a_resumed_run_counts_all_its_seconds_and_names_where_it_was_begun(home: Path) -> None:
    spec = RunSpec("unet_joint", "tiny", seed=9)

    def stop(step: int, _result: object) -> None:
        if step == 6:
            time.sleep(0.3)
        if step == 11:
            raise KeyboardInterrupt

    prepared = prepared_of(spec)
    method = build(spec, prepared)
    with pytest.raises(KeyboardInterrupt):
        fit(method, spec.method, prepared, spec.folder, steps=12, batch=6, seed=9, checkpoint_every=5, on_step=stop)
    write_json(spec.folder / "environment.json", {"device": "another"})
    run = ensure_run(spec, progress=False)
    assert run.scores()["seconds"] > 0.3, "the pause lay before the last checkpoint of the first part"
    assert read_json(spec.folder / "environment.json")["resumed_from"] == [{"device": "another"}]


PARENT = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from xmod_lab.bench import _begin

if __name__ == "__main__":
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin, (1,)) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 600).result()
"""


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        os.kill(worker, 0)  # it is there
        parent.kill()
    for _ in range(300):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{worker}/stat").is_file() and Path(f"/proc/{worker}/stat").read_text().split()[2] == "Z":
            return  # ended; nobody has asked how
        time.sleep(0.1)
    pytest.fail("the worker goes on without its parent")
