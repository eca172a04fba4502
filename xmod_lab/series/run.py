"""Plan a series run and execute it: several notebooks at once, each in a child process with limits of its own.

What a run leaves in its folder:

    index.html  report.json  junit.xml  NN_name.html  runs/
    NN_name/    NN_name.ipynb (as far as it came), stdout.txt, stderr.txt, process.txt, scores.jsonl, and export/ with
                its figures and tables if they were asked for
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from xmod_lab import paths
from xmod_lab.errors import LabError
from xmod_lab.files import write_json
from xmod_lab.series import proof, source

HARD = 5
"""A notebook is ended after this many times its budget: a slow machine is reported, an endless loop is stopped."""
KERNEL = "xmod-lab"
THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


@dataclasses.dataclass(frozen=True)
class Limits:
    """seconds: a notebook (None: HARD times its budget); cell: seconds a cell (None: as the notebook);
    memory: GB that a notebook's processes may hold together (None: no limit)."""

    seconds: float | None = None
    cell: float | None = None
    memory: float | None = None


@dataclasses.dataclass(frozen=True)
class Job:
    """One notebook with the parameters it gets. `comparable`: all but the profile are its own defaults."""

    notebook: source.Source
    parameters: dict[str, Any]
    comparable: bool
    missing: str  # a need that is not met, or ""


@dataclasses.dataclass
class Result:
    """How one notebook ended. status: "pass", "fail" or "not run"; `reason`: a line; `detail`: the traceback's end."""

    name: str
    title: str
    status: str
    reason: str = ""
    detail: str = ""
    seconds: float = 0.0
    budget: float = 0.0
    comparable: bool = True
    cells: int = 0
    images: int = 0
    scores: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

    @property
    def slow(self) -> bool:
        return self.seconds > self.budget > 0


@dataclasses.dataclass(frozen=True)
class Watch:
    """What a run tells while it runs; each is called from worker threads."""

    began: Callable[[str, int], None] = lambda name, cells: None
    cell: Callable[[str, int], None] = lambda name, cell: None
    ended: Callable[[Result], None] = lambda result: None


def plan(
    names: list[str], profile: str, dataset: str | None, extra: dict[str, str], notebooks: Path | None = None
) -> list[Job]:
    """The jobs of a run. Raises LabError for an unknown notebook or parameter, or a value of another type."""
    jobs = []
    for notebook in source.find(names, notebooks):
        given = {"profile": profile} | ({"dataset": dataset} if dataset else {}) | extra
        parameters = {}
        for name, text in given.items():
            if name not in notebook.parameters:
                has = ", ".join(notebook.parameters) or "none"
                raise LabError(f"no parameter {name!r}", where=notebook.name, mend=f"it declares {has}")
            parameters[name] = source.typed(name, text, notebook.parameters[name])
        comparable = all(notebook.parameters[n].default == v for n, v in parameters.items() if n != "profile")
        jobs.append(Job(notebook, parameters, comparable, _missing(notebook, parameters.get("dataset"))))
    return jobs


def _missing(notebook: source.Source, dataset: str | None) -> str:
    if dataset and notebook.datasets and dataset not in notebook.datasets:
        return f"made for {', '.join(notebook.datasets)}, not {dataset}"
    for need in [*notebook.needs, *([f"data:{dataset}"] if dataset else [])]:
        if need == "gpu":
            import torch

            if not torch.cuda.is_available():
                return "needs gpu"
        elif need.startswith("data:"):
            from xmod_lab.data import manifest

            entry = manifest.dataset(need.removeprefix("data:"))
            if entry.access != "phantom" and not (entry.folder.is_dir() and any(entry.folder.iterdir())):
                return f"needs {need} (xmod-lab data info {entry.key} says how to get it)"
    return ""


def default_jobs(profile: str, notebooks: int) -> int:
    """Smoke notebooks use one thread each, so as many as there are cores (4 at most, for memory); others one by one."""
    return max(1, min(notebooks, 4, cores())) if profile == "smoke" else 1


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def execute(
    jobs: list[Job], out: Path, *, runs: Path | None = None, workers: int = 1, limits: Limits | None = None,
    watch: Watch | None = None, export: bool = False,
) -> list[Result]:  # fmt: skip
    """Run the jobs, `workers` at a time, below `out`; results in the order of the jobs. Ctrl-C ends every kernel.

    export: keep each notebook's figures and tables as files (`xmod_lab.kept`).
    """
    limits, watch = limits or Limits(), watch or Watch()
    runs = runs or out / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    _write_kernel(out / "jupyter")
    stop = threading.Event()
    threads = max(1, cores() // workers)

    def one(job: Job) -> Result:
        result = Result(job.notebook.name, job.notebook.title, "not run", job.missing, comparable=job.comparable)
        if not job.missing and not stop.is_set():
            watch.began(job.notebook.name, len(job.notebook.nb.cells))
            tell = functools.partial(watch.cell, job.notebook.name)
            result = _one(job, out, runs, threads, limits, tell, stop, export)
        watch.ended(result)
        return result

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(one, job) for job in jobs]
        try:
            return [future.result() for future in futures]
        except BaseException:
            stop.set()  # the threads end their notebooks; the pool's exit waits for them
            raise


def _write_kernel(folder: Path) -> None:
    """A kernel of the running interpreter: an installed "python3" may belong to another one, or be absent."""
    argv = [sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": KERNEL, "language": "python"}
    write_json(folder / "kernels" / KERNEL / "kernel.json", spec)


def environment(
    folder: Path, out: Path, runs: Path, threads: int, comparable: bool, export: bool
) -> dict[str, str]:  # fmt: skip
    """The environment of one notebook's process and kernel."""
    # NumPy's products are of single slices: on busy cores two threads make them five times slower, not faster
    return os.environ | {name: str(threads) for name in THREADS} | {"OPENBLAS_NUM_THREADS": "1"} | {
        "PYTHONHASHSEED": "0",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "JUPYTER_PATH": str(out / "jupyter"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "IPYTHONDIR": str(folder / "runtime"),  # a reader's own IPython profile must not change what runs
        "XMOD_RUNS": str(runs.resolve()),
        "XMOD_SCORES": str((folder / "scores.jsonl").resolve()),
        "XMOD_COMPARE": "1" if comparable else "0",
        "XMOD_EXPORT": str(folder / "export") if export else "",
    }  # fmt: skip


def _one(
    job: Job, out: Path, runs: Path, threads: int, limits: Limits, tell: Callable[[int], None], stop: threading.Event,
    export: bool,
) -> Result:  # fmt: skip
    notebook, profile = job.notebook, job.parameters["profile"]
    folder = (out / notebook.name).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scores.jsonl").unlink(missing_ok=True)
    shutil.rmtree(folder / "export", ignore_errors=True)  # of an earlier run
    budget = notebook.budget[profile]
    seconds = limits.seconds or HARD * budget
    spec: dict[str, Any] = {key: str(folder / name) for key, name in _FILES.items()}
    spec |= {
        "source": str(notebook.path.resolve()),
        "output": str(folder / notebook.path.name),
        "kernel": KERNEL,
        "cwd": str(notebook.path.resolve().parent),
        "parameters": job.parameters,
        "parent": os.getpid(),
        "cell_timeout": limits.cell or seconds,
    }
    write_json(folder / "spec.json", spec)
    began = time.monotonic()
    with open(folder / "process.txt", "wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "xmod_lab.series.one", str(folder / "spec.json")],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder,
            env=environment(folder, out.resolve(), runs, threads, job.comparable, export),
        )  # fmt: skip
        with _ended_at_last(child):
            broken = _wait(child, began + seconds, limits.memory, Path(spec["cell"]), tell, stop)
    took = time.monotonic() - began
    shutil.rmtree(folder / "runtime", ignore_errors=True)
    if broken is None:
        ended = json.loads(Path(spec["result"]).read_text()) if Path(spec["result"]).is_file() else {}
        ended = ended or {"kind": "broken", "text": f"its process ended with code {child.returncode}"}
    else:
        ended = {"kind": "killed", "text": broken.format(seconds=seconds, memory=limits.memory)}
    found = proof.examine(Path(spec["output"]), folder / "scores.jsonl", ended, job.parameters)
    return Result(
        notebook.name, notebook.title, "fail" if found.problem else "pass", found.problem, found.detail, round(took, 2),
        budget, job.comparable, found.cells, found.images, found.scores,
    )  # fmt: skip


_FILES = {"stdout": "stdout.txt", "stderr": "stderr.txt", "cell": "cell.txt", "result": "result.json"}


def _wait(
    child: subprocess.Popen[bytes], end: float, memory: float | None, cell: Path, tell: Callable[[int], None],
    stop: threading.Event,
) -> str | None:  # fmt: skip
    """Wait for `child`; what was wrong if it had to be ended."""
    while child.poll() is None:
        with contextlib.suppress(OSError, ValueError):  # not written yet, or being written
            tell(int(cell.read_text()))
        if stop.wait(0.1):
            return "the series was stopped"
        if time.monotonic() > end:
            return "stopped after {seconds:g} s"
        if memory and sum(_memory(process) for process in _tree(child.pid)) > memory * 1e9:
            return "stopped: it held more than {memory:g} GB of memory"
    return None


def _tree(pid: int) -> list[Any]:
    """The process and all it started; a kernel lies in a session of its own, so its group would not do."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    return []


def _memory(process: Any) -> int:
    import psutil

    with contextlib.suppress(psutil.Error):
        return int(process.memory_info().rss)
    return 0


@contextlib.contextmanager
def _ended_at_last(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill `child` and its kernel on the way out if they still run."""
    import psutil

    try:
        yield
    finally:
        if child.poll() is None:
            for process in _tree(child.pid):
                with contextlib.suppress(psutil.Error):
                    process.kill()
            child.wait()


def default_out() -> Path:
    """A fresh folder <home>/series/<time>-<process>: two runs at the same time never share one."""
    return paths.home() / "series" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
