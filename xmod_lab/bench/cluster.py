"""Runs of a suite on a Dask cluster: each is a task, whose worker launches the process that `bench` would launch here.

All workers need the caller's disk, under the same paths, and locks on it that hold between hosts: a run is trained
under one (`runs.ensure_run`), so two workers whose runs read the same translator wait for each other; so does one that
gets the run of a lost worker whose process still trains. The lock is flock: NFS 4 keeps it unless it is mounted with
local_lock, Lustre needs the mount option flock, BeeGFS the setting tuneUseGlobalFileLocks. Without, two would write the
same files; a worker therefore tries it before it trains (`disk_problem`).

A worker that dies is Dask's to replace, and its run resumes from its checkpoint; a run that fails is not tried again.
If the caller ends, tasks that have not begun are dropped, begun ones train to their end. The same command continues.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xmod_lab import paths
from xmod_lab.bench import Ended, launch
from xmod_lab.errors import LabError
from xmod_lab.runs import Run, RunSpec

ANSWERS = 10.0
"""seconds in which a scheduler has to answer"""
APPEARS = 60.0
"""seconds in which what a worker wrote has to appear here: NFS remembers that long that a file was absent"""
HELD = ".cluster.lock"
"""file below the runs that callers hold a shared lock on, for `disk_problem`"""
TRIES = 6
"""of a worker, to take that lock"""


def on_cluster(runs: Sequence[Run], device: str, scheduler: str) -> Generator[Ended]:
    """Train `runs` on the workers of the scheduler at that address, and yield them as they end.

    Raises LabError without the package, for a scheduler that does not answer, and for a disk without locks.
    """
    distributed = _package()
    places = places_here()
    with _client(distributed, scheduler) as client, _held(Path(places["XMOD_RUNS"])):
        # one group: Dask sees that they are alike, and hands out the next when a worker is free
        group = f"xmod-lab train in {places['XMOD_RUNS']}"
        begun = {(group, str(run.spec)): run for run in runs}
        tasks = [
            client.submit(train, run.spec, device, places, key=key, pure=False, retries=0) for key, run in begun.items()
        ]
        if not client.nthreads():
            print("the cluster has no worker yet; runs begin when one comes", flush=True)
        for task in distributed.as_completed(tasks, loop=client.loop):
            try:
                code, output, seconds = task.result()
            except Exception as error:  # of Dask: a worker without this package, one that died again and again
                code, output, seconds = 1, f"{type(error).__name__}: {error}", 0.0
            run = begun[task.key]
            if not code and not _appeared(run):
                output += f"\nnot seen from {socket.gethostname()}: {run.folder}"
            yield Ended(run, code, output, seconds)


def train(spec: RunSpec, device: str, places: dict[str, str]) -> tuple[int, str, float]:
    """On a worker: launch a run below the caller's folders. Returns exit code, output and seconds.

    It has the cores of the host divided by the threads of all workers there, at most the worker's OMP_NUM_THREADS
    (which Dask's nanny sets to 1 where the worker was started without it).
    """
    if problem := disk_problem(Path(places["XMOD_RUNS"])):
        return 1, problem, 0.0
    began = time.monotonic()
    done = launch(spec, device, _threads_of_this_host(), places)
    return done.returncode, done.stdout, time.monotonic() - began


def places_here() -> dict[str, str]:
    """The folders of `xmod_lab.paths` as environment variables that mean the same anywhere; empty is not set."""
    data = os.environ.get("XMOD_DATA")
    return {
        "XMOD_HOME": str(paths.home()),
        "XMOD_RUNS": str(paths.runs_home()),
        "XMOD_DATA": str(Path(data).expanduser().resolve()) if data else "",
    }


def disk_problem(runs: Path) -> str:
    """What is wrong with the disk that runs would be written to here, or nothing.

    A caller holds a shared lock there. Who does not find its file is on another disk; who can lock it all the same is,
    too, or has locks that do not hold between hosts. It is tried several times: other workers try it as well.
    """
    for _ in range(TRIES):
        try:
            with open(runs / HELD, "r+") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(random.uniform(0.005, 0.02))
        except OSError as error:
            return f"{socket.gethostname()} has not the disk of the caller: {error}"
        else:
            return f"{socket.gethostname()} has not the disk of the caller, or not its locks: {runs}"
    return ""


def _threads_of_this_host() -> int:
    """Threads of all workers of the cluster that run where this worker does."""
    from distributed import get_client, get_worker
    from distributed.comm import get_address_host

    here = get_address_host(get_worker().address)
    return sum(count for address, count in get_client().nthreads().items() if get_address_host(address) == here)


def _appeared(run: Run) -> bool:
    until = time.monotonic() + APPEARS
    while not run.complete and time.monotonic() < until:
        time.sleep(0.5)
    return run.complete


@contextmanager
def _held(runs: Path) -> Iterator[None]:
    """Hold the lock that workers try."""
    runs.mkdir(parents=True, exist_ok=True)
    with open(runs / HELD, "a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH)
        except OSError as error:
            raise LabError(f"the disk keeps no locks ({error})", where=runs, mend="set XMOD_HOME to another") from error
        yield


def _package() -> Any:
    try:
        import distributed
    except ModuleNotFoundError as error:
        raise LabError("a cluster needs Dask", mend='pip install "xmod-lab[cluster]"') from error
    return distributed


def _client(distributed: Any, scheduler: str) -> Any:
    from distributed.comm import resolve_address

    try:
        resolve_address(scheduler)  # a client of an address that is none would hold up the end of this process
        return distributed.Client(scheduler, timeout=ANSWERS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise LabError(
            f"no Dask scheduler answers ({error})", where=scheduler, mend="start one with `dask scheduler`"
        ) from error
