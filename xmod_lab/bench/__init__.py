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
from concurrent.futures import ThreadPoolExecutor

from xmod_lab.bench.suites import suite
from xmod_lab.runs import Run, RunSpec


def command_of(spec: RunSpec, device: str) -> list[str]:
    """The command line that trains a run."""
    pairs = [part for key, value in spec.settings for part in ("--set", f"{key}={value}")]
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


def run_suite(name: str, jobs: int = 1, device: str = "auto") -> int:
    """Run what is missing of a suite; returns 0 if every run is finished, 1 otherwise. Progress goes to stdout."""
    from tqdm import tqdm

    specs = suite(name)
    runs = [Run(spec, spec.folder) for spec in specs]
    todo = [run for run in runs if not run.complete]
    print(
        f"suite {name}: {len(runs)} runs, {len(runs) - len(todo)} done, {len(todo)} to go, {jobs} at a time", flush=True
    )
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
    for run, output in failed:
        print(f"\n{run.spec} failed; the end of its output:\n{output[-2000:]}")
    return 1 if failed else 0
