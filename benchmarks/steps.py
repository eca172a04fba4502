"""Training steps of a method against each other, each way in a process of its own, for its own peak of memory.

The ways take turns; seconds are the least of their steps, so that a neighbour on the machine weighs little.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from xmod_lab import precision
from xmod_lab.device import pick
from xmod_lab.files import write_json
from xmod_lab.methods.base import Batch, Clock, Method
from xmod_lab.train import Update, enter

PLAIN = "straightforward/float32"
WAYS = {PLAIN: (True, False), "lab/float32": (False, False), "lab/bf16": (False, True)}
"""name -> whether it is the straightforward step, and whether it is in bf16"""


class Contest(NamedTuple):
    """make(plain, size): the method, of either kind; batch(size, device); stage: which of the method's is timed.

    most: largest share of the straightforward step's seconds and of its memory where bf16 pays.
    """

    name: str
    make: Callable[[bool, int], Method]
    batch: Callable[[int, torch.device], Batch]
    stage: int
    most: Mapping[str, float]
    facts: Mapping[str, Any]


def one_way(contest: Contest, name: str, size: int, steps: int) -> dict[str, float]:
    """Seconds of the fastest of `steps` steps after one to warm up, and the peak of memory in MB."""
    plain, bf16 = WAYS[name]
    device = pick()
    torch.manual_seed(0)
    method = contest.make(plain, size).to(device)
    stage = method.stages()[contest.stage]
    enter(method, stage)
    update, batch, seconds = Update(stage.optimisers), contest.batch(size, device), []
    for _ in range(steps + 1):
        start = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            method.training_step(batch, Clock(stage.name, 0, 0.5), update)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
    return {"seconds": min(seconds[1:]), "memory_mb": peak}


def compare(contest: Contest, file: str, about: str | None) -> None:
    """The command line of a contest: print and record seconds, memory and ratios; exit 1 where a limit is broken."""
    parser = argparse.ArgumentParser(description=(about or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--way", choices=WAYS, help="one way, in this process")
    parser.add_argument("--out", type=Path, default=Path(file).parent / "results" / f"{contest.name}_step.json")
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(one_way(contest, arguments.way, arguments.size, arguments.steps)))
        return
    found: dict[str, dict[str, float]] = {}
    for _ in range(arguments.repeats):
        for name in WAYS:
            command = [sys.executable, file, "--way", name, "--size", str(arguments.size)]
            command += ["--steps", str(arguments.steps)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            row = json.loads(done.stdout.splitlines()[-1])
            best = found.setdefault(name, row)
            best["seconds"] = min(best["seconds"], row["seconds"])
            best["memory_mb"] = max(best["memory_mb"], row["memory_mb"])
            print(f"{name:<26}{row['seconds']:>8.1f} s{row['memory_mb']:>9.0f} MB", flush=True)
    plain, device = found[PLAIN], pick()
    ratios = {
        way: {key: value / plain[key] for key, value in row.items()} for way, row in found.items() if way != PLAIN
    }
    for way, row in ratios.items():
        print(f"{way:<26}{row['seconds']:>8.3f} of the time{row['memory_mb']:>8.3f} of the memory")
    pays = precision.choose(device)
    facts = {"size": arguments.size, **contest.facts, "threads": torch.get_num_threads(), "device": device.type}
    facts |= {"precision_that_pays": pays, "machine": platform.machine(), "python": platform.python_version()}
    facts |= {"versions": {"torch": version("torch")}, "results": found, "ratios": ratios}
    write_json(arguments.out, facts)
    print(f"written: {arguments.out}")
    if pays == "bf16" and any(ratios["lab/bf16"][key] > most for key, most in contest.most.items()):
        raise SystemExit(1)
