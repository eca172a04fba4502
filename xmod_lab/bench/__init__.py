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
from concurrent.futures import ThreadPoolExecutor

from xmod_lab.bench.suites import suite
from xmod_lab.errors import LabError
from xmod_lab.runs import Run, RunSpec, text_of


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
    """Environment that gives a job its share of the cores: two processes with two threads each on two cores are five
    times slower than with one each."""
    count = str(max(1, (os.cpu_count() or 1) // jobs))
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), count)


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
    """The finished runs of `specs` by name; what is missing is trained in processes of its own, `jobs` at a time.

    jobs: default one a core on a CPU, one on a GPU. Two runs end sooner than one after the other with
    two, and give the numbers of `runs.ensure_run` with one. Raises LabError with the last line of a failed run.
    """
    import torch

    if jobs is None:
        jobs = 1 if torch.cuda.is_available() and device != "cpu" else os.cpu_count() or 1
    failed = run_missing([Run(spec, spec.folder) for spec in specs.values()], jobs, device, "runs", quiet=True)
    if failed:
        run, output = failed[0]
        raise LabError(f"{run.spec} failed: {output.strip().splitlines()[-1] if output.strip() else 'no output'}")
    return {name: Run(spec, spec.folder) for name, spec in specs.items()}


def run_suite(name: str, jobs: int = 1, device: str = "auto") -> int:
    """Run what is missing of a suite; returns 0 if every run is finished, 1 otherwise. Progress goes to stdout."""
    runs = [Run(spec, spec.folder) for spec in suite(name)]
    todo = sum(not run.complete for run in runs)
    print(f"suite {name}: {len(runs)} runs, {len(runs) - todo} done, {todo} to go, {jobs} at a time", flush=True)
    failed = run_missing(runs, jobs, device, name)
    for run, output in failed:
        print(f"\n{run.spec} failed; the end of its output:\n{output[-2000:]}")
    return 1 if failed else 0


def run_missing(
    runs: Sequence[Run], jobs: int, device: str, name: str, *, quiet: bool = False
) -> list[tuple[Run, str]]:
    """Train those of `runs` that are not finished; returns the failed ones with their output. quiet: the bar alone."""
    from tqdm import tqdm

    todo = [run for run in runs if not run.complete]
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
                elif not quiet:
                    bar.write(f"done    {run.spec}  {time.monotonic() - began:.0f} s")

        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(work, todo))
    return failed
