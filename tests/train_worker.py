"""A process that trains tiny methods, for tests of kills and of several processes (run by test_train.py).

With --kill-at it forks a child that trains and kills it with SIGKILL as soon as the child has passed each of the steps
given, then lets a last child finish. The child does not wait: where exactly it dies is left to chance.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch._dynamo  # an optimiser imports it (seconds): before the forks, not in each of them

from tests.joint import problem_of, task_of
from tests.tiny import tiny_manifest
from xmod_lab import device
from xmod_lab.data import manifest
from xmod_lab.data.batches import BatchSource
from xmod_lab.data.prepare import Prepared, prepare
from xmod_lab.methods import METHODS
from xmod_lab.methods.base import Method, build_config
from xmod_lab.train import fit

STEPS = 60
MODALITIES = ("T1", "T2")
POOL = {"pool": 4}  # full, and giving back earlier images, long before the last step
SETTINGS: dict[str, dict[str, int]] = {"csa": {"width": 8}, "msbn": {"width": 8}, "sasan": {"width": 8}}
SETTINGS |= dict.fromkeys(("cyclegan", "mrgan", "dc2anet", "cycada", "sifa", "sifa_v1", "bigl"), POOL)
SETTINGS["cycada"] = POOL | {"gate_after": 2}  # of six steps


def tiny_method(name: str) -> Method:
    """A method of METHODS for two modalities of the tiny data set."""
    entry = METHODS[name]
    problem = problem_of(name, MODALITIES)
    values = {"width": 4} | SETTINGS.get(name, {}) | entry.overrides
    method = entry.cls(build_config(entry.cls, values), problem)
    for other in entry.cls.reads(method.config):
        method.receive(other, tiny_method(other))
    return method


def train(
    folder: Path,
    on_step: Callable[[int, object], object],
    report: bool = False,
    names: Sequence[str] = ("unet_joint",),
    steps: int = STEPS,
) -> None:
    """Train the methods in turn, the first into `folder`, the others into folders below it with their names."""
    torch.set_num_threads(1)
    text = tiny_manifest(MODALITIES, "registered", "tiny", {}, {}, task_of(names[0], MODALITIES))
    prepared = prepare(manifest.parse(text, "tiny")["tiny"], None, 32)
    device.join_group(torch.device("cpu"))
    for name in names:
        torch.manual_seed(device.rank())  # on purpose unlike: the first process's weights must win
        method, place = tiny_method(name), folder if name == names[0] else folder / name
        place.mkdir(parents=True, exist_ok=True)
        fit(method, name, prepared, place, steps=steps, batch=4, seed=0, checkpoint_every=7, on_step=on_step)
        if report:
            write_report(method, prepared, place)
    device.leave_group()


def write_report(method: Method, prepared: Prepared, folder: Path) -> None:
    state = method.state_dict()
    running = {key: value for key, value in state.items() if "running_" in key}
    drawn = BatchSource(prepared, 4, 0, rank=device.rank(), world=device.world()).draw(0)
    value = {
        "weights": digest(state),
        "statistics": digest(running) if running else None,
        "drawn": {m: [s.patient, s.index.tolist()] for m, s in drawn.items()},
        "world": device.world(),
    }
    (folder / f"report{device.rank()}.json").write_text(json.dumps(value))


def digest(tensors: dict[str, torch.Tensor]) -> str:
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in tensors.values())).hexdigest()


def killed_once(folder: Path, at: int, names: Sequence[str], steps: int) -> bool:
    """Train in a child and kill it once it has passed step `at`; False if it finished before the signal came."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            train(folder, lambda step, _result: os.write(writer, step.to_bytes(4, "big")), False, names, steps)
        finally:
            os._exit(0)
    os.close(writer)
    while (word := os.read(reader, 4)) and int.from_bytes(word, "big") < at:
        pass
    os.kill(child, signal.SIGKILL)
    os.close(reader)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("home", type=Path)
    parser.add_argument("--kill-at", type=int, nargs="*", default=[])
    parser.add_argument("--fail-at", type=int, default=-1)
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--method", nargs="+", default=["unet_joint"])
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    os.environ["XMOD_HOME"] = str(options.home)
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.kill_at:
        count = sum(killed_once(options.folder, at, options.method, options.steps) for at in options.kill_at)
        print(f"killed {count} times", flush=True)

    def on_step(step: int, _result: object) -> None:
        if step == options.fail_at:
            os.kill(os.getpid(), signal.SIGKILL)

    train(options.folder, on_step, options.report, options.method, options.steps)


if __name__ == "__main__":
    main()
