"""Runs of a suite on a Dask cluster of two local workers, and suites whose process is killed."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from tests.tiny import make_tiny, tiny_manifest
from xmod_lab import bench
from xmod_lab.bench import cluster
from xmod_lab.cli import app
from xmod_lab.errors import LabError
from xmod_lab.files import write_text
from xmod_lab.runs import Run, RunSpec, ensure_run, reads_of

OTHER_WAY = (("direction", "target_to_source"),)
SPECS = [
    RunSpec("cyclegan_seg", "tiny", "both"),
    RunSpec("cyclegan_seg", "tiny", "both", settings=OTHER_WAY),
    RunSpec("source_only", "tiny", "both", seed=1),
]
"""the first two read the same translator, which nobody has trained"""
BROKEN = RunSpec("source_only", "tiny", "both", settings=(("wrong", "1"),))
MEASURED = {"seconds", "peak_memory_mb", "checkpoint"}
"""of scores.json, what differs from one time to the next"""

CALLER = """
import sys
from xmod_lab import bench
from xmod_lab.runs import Run, RunSpec

runs = [Run(spec, spec.folder) for spec in {specs!r}]
bench.run_missing(runs, 1, "cpu", "killed", *sys.argv[1:])
"""


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folders with the same tiny data, and no runs."""
    base = tmp_path_factory.mktemp("homes")
    make_tiny(base / "first", modalities=("T1", "T2"), patients=8)
    text = tiny_manifest(("T1", "T2"), "registered", "tiny", {}, {}, {})
    write_text(base / "first" / "data" / "user_manifest.yaml", text)

    def home(name: str) -> Path:
        shutil.copytree(base / "first" / "data", base / name / "data")
        return base / name

    return home


@pytest.fixture(scope="module")
def alone(homes: Callable[[str], Path]) -> dict[RunSpec, Run]:
    """The runs, trained by this process."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMOD_HOME", str(homes("alone")))
        return {spec: ensure_run(spec, device="cpu", progress=False) for spec in SPECS}


@pytest.fixture(scope="module")
def local() -> Iterator[Any]:
    """A cluster of two workers, who know nothing of a test's home."""
    from distributed import LocalCluster

    options: dict[str, Any] = {"memory_limit": 0, "dashboard_address": ":0", "silence_logs": "CRITICAL"}
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, **options) as found:
        yield found


def _begin(folder: Path, specs: Sequence[RunSpec], *scheduler: str) -> subprocess.Popen[bytes]:
    """Run what is missing of `specs` in a process group of its own."""
    script = folder / "caller.py"
    script.write_text(CALLER.format(specs=list(specs)))
    return subprocess.Popen([sys.executable, script, *scheduler], start_new_session=True, stderr=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL)  # fmt: skip


def _wait(condition: Callable[[], object], caller: subprocess.Popen[bytes] | None = None) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        assert caller is None or caller.poll() is None, "it ended"
        time.sleep(0.05)


def _equal(run: Run, other: Run) -> None:
    ours, theirs = (load_file(one.folder / "checkpoint.safetensors") for one in (run, other))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    mine, others = ({k: v for k, v in one.scores().items() if k not in MEASURED} for one in (run, other))
    assert mine == others
    assert run.table().equals(other.table())


def test_a_killed_suite_continues(
    homes: Callable[[str], Path], alone: dict[RunSpec, Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL to the command and its run, between two checkpoints."""
    home, spec = homes("killed"), SPECS[2]
    monkeypatch.setenv("XMOD_HOME", str(home))
    run = Run(spec, spec.folder)
    with _begin(home, [spec]) as caller:
        _wait((run.folder / "checkpoint.safetensors").is_file, caller)
        os.killpg(caller.pid, signal.SIGKILL)
    assert not run.complete
    assert bench.run_missing([run], 1, "cpu", "again") == []
    assert len(run.log()) == 30
    _equal(run, alone[spec])


def test_a_suite_whose_caller_is_killed_continues_on_the_cluster(
    homes: Callable[[str], Path], alone: dict[RunSpec, Run], local: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs have begun, one has not and is dropped. They end as in one process, and a broken one stops none."""
    home = homes("cluster")
    monkeypatch.setenv("XMOD_HOME", str(home))
    shared, *runs = (Run(spec, spec.folder) for spec in (*reads_of(SPECS[0]).values(), *SPECS))
    assert reads_of(SPECS[1]) == reads_of(SPECS[0]) == {shared.spec.method: shared.spec}
    with _begin(home, SPECS, local.scheduler_address) as caller:
        _wait(lambda: (shared.folder / "log.jsonl").is_file() and len(_executing(local)) == 2, caller)
        os.killpg(caller.pid, signal.SIGKILL)
    _wait(lambda: not local.scheduler.tasks)
    assert not any(run.complete for run in runs) and not runs[2].folder.exists(), "dropped"
    broken = Run(BROKEN, BROKEN.folder)
    failed = bench.run_missing([broken, *runs], 1, "cpu", "again", local.scheduler_address)
    assert [run for run, _ in failed] == [broken]
    assert "no config field 'wrong'" in failed[0][1]
    assert len(shared.log()) == 30, "trained once"
    for run in runs:
        _equal(run, alone[run.spec])


def _executing(local: Any) -> list[str]:
    """Workers that execute a task, as the scheduler was told."""
    return [address for address, worker in local.scheduler.workers.items() if worker.processing]


def test_the_run_of_a_worker_that_dies_is_finished_by_another(
    homes: Callable[[str], Path], alone: dict[RunSpec, Run], local: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, spec = homes("lost"), SPECS[2]
    monkeypatch.setenv("XMOD_HOME", str(home))
    run = Run(spec, spec.folder)
    with _begin(home, [spec], local.scheduler_address) as caller:
        _wait((run.folder / "checkpoint.safetensors").is_file, caller)
        (busy,) = _executing(local)
        (nanny,) = (one for one in local.workers.values() if one.worker_address == busy)
        os.kill(nanny.pid, signal.SIGKILL)
    assert caller.returncode == 0 and run.complete
    _equal(run, alone[spec])


def test_threads_are_shared_by_the_workers_of_a_host(local: Any) -> None:
    from distributed import Client

    with Client(local, set_as_default=False) as client:
        assert client.submit(cluster._threads_of_this_host, pure=False).result() == 2


def test_another_disk_and_absent_locks_are_refused(tmp_path: Path) -> None:
    assert "has not the disk of the caller" in cluster.disk_problem(tmp_path / "elsewhere")
    assert cluster.train(SPECS[0], "cpu", {"XMOD_RUNS": str(tmp_path)})[0] == 1
    assert not list(tmp_path.iterdir()), "nothing was made there"
    with cluster._held(tmp_path), cluster._held(tmp_path):
        assert cluster.disk_problem(tmp_path) == "", "held, by two callers"
    assert "or not its locks" in cluster.disk_problem(tmp_path)


def test_folders_of_the_caller_mean_the_same_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XMOD_HOME", "here")
    monkeypatch.delenv("XMOD_DATA", raising=False)
    expected = {"XMOD_HOME": str(tmp_path / "here"), "XMOD_RUNS": str(tmp_path / "here" / "runs"), "XMOD_DATA": ""}
    assert cluster.places_here() == expected
    monkeypatch.setenv("XMOD_DATA", "sets")
    assert cluster.places_here() == expected | {"XMOD_DATA": str(tmp_path / "sets")}


def test_a_scheduler_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    monkeypatch.setattr(cluster, "ANSWERS", 1.0)
    with socket.socket() as bound:  # bound, but nobody listens
        bound.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{bound.getsockname()[1]}"
        ran = CliRunner().invoke(app, ["bench", "run", "--suite", "smoke", "--scheduler", address])
    assert isinstance(ran.exception, LabError)
    assert "no Dask scheduler answers" in str(ran.exception) and address in str(ran.exception)
    for wrong in ("nosuch", "nosuch://x:1"):
        with pytest.raises(LabError, match=f"no Dask scheduler answers .*: {wrong} "):
            bench.run_suite("smoke", scheduler=wrong)


def test_without_the_package_the_line_that_mends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(LabError, match=r'pip install "xmod-lab\[cluster\]"'):
        bench.run_suite("smoke", scheduler="tcp://127.0.0.1:1")
