"""Train and score a grid of runs, several side by side (its tables: xmod_lab.bench.tables).

Each run is a process of its own (`xmod-lab train`), so that one that dies takes nothing with it, memory is returned,
and each has its share of the threads. A run that is finished is skipped, one that was begun is resumed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed

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


def launch(spec: RunSpec, device: str, jobs: int) -> subprocess.CompletedProcess[str]:
    """Train a run in a process of its own; both of its output streams come back as one."""
    return subprocess.run(
        command_of(spec, device),
        env=os.environ | share_of_threads(jobs),
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


def run_suite(name: str, jobs: int = 1, device: str = "auto") -> int:
    """Run what is missing of a suite; returns 0 if every run is finished, 1 otherwise. Progress goes to stdout."""
    runs = [Run(spec, spec.folder) for spec in suite(name)]
    todo = sum(not run.complete for run in runs)
    print(f"suite {name}: {len(runs)} runs, {len(runs) - todo} done, {todo} to go, {jobs} at a time", flush=True)
    failed = run_missing(runs, jobs, device, name)
    for run, output in failed:
        print(f"\n{run.spec} failed; the end of its output:\n{output[-2000:]}")
    return 1 if failed else 0


def run_missing(runs: Sequence[Run], jobs: int, device: str, name: str) -> list[tuple[Run, str]]:
    """Train those of `runs` that are not finished; returns the failed ones with their output.

    Raises LabError for a finished one that was made from something else.
    """
    from tqdm import tqdm

    from xmod_lab import inputs

    todo = [run for run in runs if not run.complete]
    for run in runs:
        if run.complete:
            inputs.check_now(run)
    failed: list[tuple[Run, str]] = []
    lock = threading.Lock()
    with tqdm(total=len(todo), desc=name, unit="run", disable=not todo) as bar:

        def work(run: Run) -> None:
            began = time.monotonic()
            done = launch(run.spec, device, jobs)
            with lock:
                bar.update()
                if done.returncode or not run.complete:
                    failed.append((run, done.stdout))
                    bar.write(f"FAILED  {run.spec}")
                else:
                    bar.write(f"done    {run.spec}  {time.monotonic() - began:.0f} s")

        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(work, todo))
    return failed
