"""What a training step of TarGAN at the authors' sizes costs in time and memory, beside a straightforward one.

256x256 pixels, four slices, three modalities, networks of width 64, six critic layers. The straightforward step is
arranged like the authors' loop, in float32: translations for the critics are made without gradient, and made anew for
the generator. The lab's step makes them once, and computes features of full and half the size again on the way back
instead of keeping them. Each way runs in a process of its own, for its own peak of memory, in turn with the others;
seconds are the least of its steps, so that a neighbour on the machine weighs little.

    python benchmarks/targan_step.py [--repeats 2] [--size 256] [--out benchmarks/results/targan_step.json]
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from xmod_lab import precision
from xmod_lab.data.batches import Slices
from xmod_lab.device import pick
from xmod_lab.files import write_json
from xmod_lab.methods.base import Batch, Clock, Problem, StepResult, side_by_side
from xmod_lab.methods.targan import TarGAN, TarGANConfig
from xmod_lab.train import Update, enter

TIME, MEMORY = 0.45, 0.6
"""of the straightforward step in float32, at most, where bf16 pays"""
NAMES = ("CT", "T1w", "T2w")
WAYS = {"straightforward/float32": (True, False), "lab/float32": (False, False), "lab/bf16": (False, True)}
CLOCK = Clock("translation", 0, 0.5)


class Straightforward(TarGAN):
    """The same losses, translations for the critics made by a pass of their own."""

    def training_step(self, batch: Batch, clock: Clock, update: Update) -> StepResult:  # type: ignore[override]
        state = torch.get_rng_state()
        with torch.no_grad():  # what the critics see; the generator makes it again below
            x, own = side_by_side({m: batch[m].image for m in self.problem.labelled}, self.problem.labelled)
            self.generator(x, own[torch.randperm(len(own), device=own.device)], x)
        torch.set_rng_state(state)
        return super().training_step(batch, clock, update)


def slices_of(size: int, device: torch.device) -> dict[str, Slices]:
    """Four slices: two of the first modality, one of each other one."""
    found = {}
    for i, name in enumerate(NAMES):
        each = 2 if i == 0 else 1
        image = torch.rand(each, 1, size, size, device=device) * 2 - 1
        label = torch.zeros(each, size, size, dtype=torch.long, device=device)
        label[:, size // 4 : size // 2, size // 4 : size // 2] = 1
        found[name] = Slices(image, label, label == 0, [name] * each, torch.arange(each, device=device))
    return found


def one_way(name: str, size: int, steps: int) -> dict[str, float]:
    """Seconds of the fastest of `steps` steps after one to warm up, and the peak of memory in MB."""
    plain, bf16 = WAYS[name]
    device = pick()
    torch.manual_seed(0)
    config = TarGANConfig(width=64, critic_layers=6, shape_width=16, conditioning="plane")
    method = (Straightforward if plain else TarGAN)(config, Problem(NAMES, NAMES, NAMES, (), ("liver",), 1, size))
    method.generator.recompute &= not plain
    method.to(device)
    stage = method.stages()[0]
    enter(method, stage)
    update, batch, seconds = Update(stage.optimisers), slices_of(size, device), []
    for _ in range(steps + 1):
        start = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            method.training_step(batch, CLOCK, update)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
    return {"seconds": min(seconds[1:]), "memory_mb": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--way", choices=WAYS, help="one way, in this process")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "targan_step.json")
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(one_way(arguments.way, arguments.size, arguments.steps)))
        return
    device = pick()
    pays = precision.choose(device)
    found: dict[str, dict[str, float]] = {}
    for _ in range(arguments.repeats):
        for name in WAYS:
            command = [sys.executable, __file__, "--way", name]
            command += ["--size", str(arguments.size), "--steps", str(arguments.steps)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            row = json.loads(done.stdout.splitlines()[-1])
            best = found.setdefault(name, row)
            best["seconds"] = min(best["seconds"], row["seconds"])
            best["memory_mb"] = max(best["memory_mb"], row["memory_mb"])
            print(f"{name:<26}{row['seconds']:>8.1f} s{row['memory_mb']:>9.0f} MB", flush=True)
    plain, best_way = found["straightforward/float32"], f"lab/{pays}"
    lab = {way: row for way, row in found.items() if way.startswith("lab")}
    ratios = {way: {key: value / plain[key] for key, value in row.items()} for way, row in lab.items()}
    for way, row in ratios.items():
        print(f"{way:<26}{row['seconds']:>8.3f} of the time{row['memory_mb']:>8.3f} of the memory")
    facts: dict[str, Any] = {
        "size": arguments.size, "batch": 4, "modalities": len(NAMES), "threads": torch.get_num_threads(),
        "device": device.type, "precision_that_pays": pays, "machine": platform.machine(),
        "python": platform.python_version(), "versions": {"torch": version("torch")}, "results": found,
        "ratios": ratios,
    }
    write_json(arguments.out, facts)
    print(f"written: {arguments.out}")
    if pays == "bf16" and (ratios[best_way]["seconds"] > TIME or ratios[best_way]["memory_mb"] > MEMORY):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
