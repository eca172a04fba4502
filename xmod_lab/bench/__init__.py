"""Train and score a grid of runs, several side by side (its tables: xmod_lab.bench.tables).

Each run is a process of its own (`xmod-lab train`), so that one that dies takes nothing with it, memory is returned,
and each has its share of the threads. A run that is finished is skipped, one that was begun is resumed. Runs are
launched here, or by the workers of a Dask cluster (xmod_lab.bench.cluster).
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from contextlib import closing
from typing import NamedTuple

from xmod_lab.bench.suites import suite
from xmod_lab.errors import LabError
from xmod_lab.runs import Run, RunSpec, ensure_run, text_of


def command_of(spec: RunSpec, device: str) -> list[str]:
    """The command line that trains a run."""
    pairs = [part for key, value in spec.settings for part in ("--set", f"{key}={text_of(value)}")]
    return [
        sys.executable,
        "-m",
        "xmod_lab",
        "train",
        spec.method,
        "--dataset",
        spec.dataset,
        "--task",
        spec.task_name,
        "--profile",
        spec.profile,
        "--seed",
        str(spec.seed),
        "--fold",
        str(spec.fold),
        "--preset",
        spec.preset,
        "--device",
        device,
        *pairs,
    ]


def share_of_threads(jobs: int) -> dict[str, str]:
    """Environment that gives a job its share of the cores, at most OMP_NUM_THREADS of the caller where that is set: two
    processes with two threads each on two cores are many times slower than with one each."""
    share, most = (os.cpu_count() or 1) // jobs, os.environ.get("OMP_NUM_THREADS", "")
    count = str(max(1, min(share, int(most)) if most.isdecimal() else share))
    return {"OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": "1"}  # as in series.run


def launch(
    spec: RunSpec, device: str, jobs: int, places: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Train a run in a process of its own; both of its output streams come back as one.

    places: environment variables of `xmod_lab.paths`, where they are not those of this process.
    """
    return subprocess.run(
        command_of(spec, device),
        env=os.environ | share_of_threads(jobs) | dict(places or {}),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
    )


def ensure_runs(specs: Mapping[str, RunSpec], jobs: int | None = None, device: str = "auto") -> dict[str, Run]:
    """The finished runs of `specs` by name; what is missing is trained by `jobs` processes side by side.

    jobs: default one a core on a CPU, one on a GPU. Two runs with a thread each end sooner than in turn with
    two, and give the numbers of `runs.ensure_run` with one thread. Raises LabError naming the first run that failed.
    """
    import multiprocessing

    from tqdm import tqdm

    if jobs is None:
        import torch

        jobs = 1 if torch.cuda.is_available() and device != "cpu" else os.cpu_count() or 1
    todo = [spec for spec in specs.values() if not Run(spec, spec.folder).complete]
    threads = int(share_of_threads(jobs)["OMP_NUM_THREADS"])
    if todo:
        # spawned, not forked: a notebook's kernel has threads, and PyTorch may hold a lock
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(jobs, len(todo)), spawn, _begin, (threads,)) as pool:
            begun = {pool.submit(_train, spec, device): spec for spec in todo}
            for done in tqdm(as_completed(begun), desc="runs", total=len(todo), unit="run"):
                if problem := done.exception() or done.result():
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise LabError(f"{begun[done]} failed: {problem}")
    return {name: ensure_run(spec, device=device, progress=False) for name, spec in specs.items()}


def _begin(threads: int) -> None:
    """Of each worker: its share of the threads, and an end when its parent ends: a notebook's kernel that is killed
    cannot stop them, and they would train on."""
    import multiprocessing

    import torch

    torch.set_num_threads(threads)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _train(spec: RunSpec, device: str) -> str:
    """Train a run in this process; returns what went wrong, or nothing."""
    try:
        ensure_run(spec, device=device, progress=False)
    except LabError as error:
        return str(error)
    return ""


class Ended(NamedTuple):
    """How the process of a run ended. seconds: from its launch."""

    run: Run
    code: int
    output: str
    seconds: float


def run_suite(name: str, jobs: int = 1, device: str = "auto", scheduler: str | None = None) -> int:
    """Run what is missing of a suite; returns 0 if every run is finished, 1 otherwise. Progress goes to stdout.

    scheduler: address of a Dask scheduler, whose workers then train the runs; `jobs` is without effect.
    """
    runs = [Run(spec, spec.folder) for spec in suite(name)]
    todo = sum(not run.complete for run in runs)
    side = f"{jobs} at a time" if scheduler is None else f"on the workers of {scheduler}"
    print(f"suite {name}: {len(runs)} runs, {len(runs) - todo} done, {todo} to go, {side}", flush=True)
    failed = run_missing(runs, jobs, device, name, scheduler)
    for run, output in failed:
        print(f"\n{run.spec} failed; the end of its output:\n{output[-2000:]}")
    return 1 if failed else 0


def run_missing(
    runs: Sequence[Run], jobs: int, device: str, name: str, scheduler: str | None = None
) -> list[tuple[Run, str]]:
    """Train those of `runs` that are not finished; returns the failed ones with their output.

    Raises LabError for a finished one that was made from something else, and for a cluster that cannot be used.
    """
    from tqdm import tqdm

    from xmod_lab import inputs
    from xmod_lab.bench.cluster import on_cluster

    todo = [run for run in runs if not run.complete]
    for run in runs:
        if run.complete:
            inputs.check_now(run)
    if not todo:
        return []
    failed: list[tuple[Run, str]] = []
    ended = side_by_side(todo, jobs, device) if scheduler is None else on_cluster(todo, device, scheduler)
    with tqdm(total=len(todo), desc=name, unit="run") as bar, closing(ended):
        for run, code, output, seconds in ended:
            bar.update()
            if code or not run.complete:
                failed.append((run, output))
                bar.write(f"FAILED  {run.spec}")
            else:
                bar.write(f"done    {run.spec}  {seconds:.0f} s")
    return failed


def side_by_side(runs: Sequence[Run], jobs: int, device: str) -> Generator[Ended]:
    """Train `runs`, `jobs` at a time, and yield them as they end. If it is closed before, those that have not begun
    never do."""

    def work(run: Run) -> Ended:
        began = time.monotonic()
        done = launch(run.spec, device, jobs)
        return Ended(run, done.returncode, done.stdout, time.monotonic() - began)

    with ThreadPoolExecutor(jobs) as pool:
        try:
            for future in as_completed([pool.submit(work, run) for run in runs]):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
