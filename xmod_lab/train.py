"""The one training loop: stages, precision, checkpoints, exact resume, one or several processes.

A method asks for every weight change through `update(loss, *optimisers)`; the loop draws the batches, keeps the clock
and writes the run folder. A notebook can run the same parts by hand: `Update`, `clock_at` and a `BatchSource`.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xmod_lab import checkpoint
from xmod_lab import device as dev
from xmod_lab.data.batches import BatchSource, Slices
from xmod_lab.data.prepare import Prepared
from xmod_lab.errors import LabError
from xmod_lab.files import atomic_file
from xmod_lab.losses.segmentation import hard_dice
from xmod_lab.methods.base import Clock, Method, Stage, StepResult
from xmod_lab.rng import seed_of

VALIDATIONS = 10
"""how often a run looks at its validation slices"""
VALIDATION_SLICES = 32
"""and at how many of each modality, evenly spaced: it watches training, it does not score it"""
MOMENTS = (0.05, 0.15, 0.4)
"""shares of a run's steps after which its weights are kept in half precision, to look at what it saw on its way"""
OnStep = Callable[[int, StepResult], None]


class Update:
    """`update(loss, *names)`: backward, average the gradients across processes, one step of the named optimisers.

    Only these optimisers' parameters receive gradients. A parameter that the loss does not reach gets a zero gradient,
    so that all processes make the same calls and momentum decays alike.
    """

    def __init__(self, optimisers: dict[str, torch.optim.Optimizer]):
        self.optimisers = optimisers

    def __call__(self, loss: Tensor, *names: str) -> None:
        chosen = [self.optimisers[name] for name in names]
        parameters = [p for o in chosen for group in o.param_groups for p in group["params"]]
        with torch.autocast(loss.device.type, enabled=False):
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = torch.zeros_like(parameter) if gradient is None else gradient
        if dev.world() > 1:
            _average([p.grad for p in parameters if p.grad is not None])
        for optimiser in chosen:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        torch.clear_autocast_cache()  # or bf16 copies of the weights as they were would serve the rest of the step


def _average(tensors: list[Tensor]) -> None:
    """Replace each by its mean over the processes."""
    if not tensors:
        return
    flat = torch.cat([t.reshape(-1) for t in tensors])  # one message instead of one a tensor
    torch.distributed.all_reduce(flat)
    flat /= dev.world()
    for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def _running_statistics(method: Method) -> Iterator[Tensor]:
    """Running means and variances of batch normalisation: each process sees its own slices, all must end with one."""
    for name, buffer in method.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            yield buffer


def stage_ends(stages: list[Stage], steps: int) -> list[int]:
    """Step at which each stage ends; together they fill `steps` by their shares."""
    total = sum(stage.share for stage in stages)
    return [round(steps * sum(s.share for s in stages[: i + 1]) / total) for i in range(len(stages))]


def clock_at(stages: list[Stage], steps: int, step: int) -> tuple[Stage, Clock]:
    """Stage and clock of a step."""
    start = 0
    for stage, end in zip(stages, stage_ends(stages, steps), strict=True):
        if step < end:
            return stage, Clock(stage.name, step, (step - start) / max(end - start - 1, 1))
        start = end
    raise IndexError(f"step {step} lies behind the last of {steps}")


def enter(method: Method, stage: Stage) -> None:
    """Put the stage's networks in training mode with gradients; freeze the others."""
    trained = [method.get_submodule(name) for name in stage.trained] or [method]
    method.eval().requires_grad_(False)
    for module in trained:
        module.train().requires_grad_(True)


def set_rates(stage: Stage, progress: float) -> None:
    for name, optimiser in stage.optimisers.items():
        for group in optimiser.param_groups:
            group.setdefault("initial_lr", group["lr"])
            group["lr"] = group["initial_lr"] * stage.schedules.get(name, lambda _t: 1.0)(progress)


def to_device(batch: dict[str, Slices], device: torch.device) -> dict[str, Slices]:
    """The batch with its tensors on `device`."""

    def moved(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    return {
        modality: s._replace(
            image=moved(s.image),
            label=None if s.label is None else moved(s.label),
            foreground=moved(s.foreground),
            index=moved(s.index),
        )
        for modality, s in batch.items()
    }


def fit(
    method: Method,
    name: str,
    prepared: Prepared,
    folder: Path,
    *,
    steps: int,
    batch: int,
    seed: int,
    augment: str = "standard",
    precision: str = "float32",
    checkpoint_every: int = 100,
    on_step: OnStep | None = None,
) -> dict[str, Any]:
    """Train `method` (METHODS name `name`) for `steps` steps into `folder`, from its checkpoint if one is there.

    `batch` slices are drawn a step and process. After a kill at any moment the next call ends with the same weights,
    bit for bit, on the same device, precision and count of threads and processes. Returns `precision`, that of the
    checkpoint where there was one, and `seconds` of training, those before a kill (up to its checkpoint) included.
    """
    began, spent = time.perf_counter(), 0.0
    device = next(method.parameters()).device
    stages = method.stages()
    optimisers = {n: o for stage in stages for n, o in stage.optimisers.items()}
    path = folder / "checkpoint.safetensors"
    first = 0
    if path.is_file():
        first, facts = checkpoint.restore(path, method, name, optimisers)
        precision, spent = facts["precision"], float(facts.get("seconds", 0.0))
        if method.extra_state():
            if (before := facts.get("world", dev.world())) != dev.world():
                raise LabError(f"{before} processes began this run, {dev.world()} cannot go on with their states",
                               where=folder, mend="start as many, or delete the run folder")  # fmt: skip
            method.load_extra_state(checkpoint.load_extra(folder, dev.rank(), first))
    elif dev.world() > 1:
        for value in method.state_dict().values():
            torch.distributed.broadcast(value, 0)
    if first == 0 and dev.rank() == 0:  # of an earlier attempt, whose networks are gone
        shutil.rmtree(folder / "derived", ignore_errors=True)
    dev.barrier()
    checkpoint.drop_extras(folder, dev.rank(), dev.world(), first)

    def keep(done: int) -> None:
        if extra := method.extra_state():
            checkpoint.save_extra(folder, dev.rank(), done, extra)
        dev.barrier()  # the weights are written last: a checkpoint stands for the extra states of all processes
        if dev.rank() == 0:
            seconds = round(spent + time.perf_counter() - began, 2)
            facts = {"precision": precision, "seconds": seconds, "world": dev.world()}
            checkpoint.save(path, method, name, optimisers, done, **facts)
        dev.barrier()
        checkpoint.drop_extras(folder, dev.rank(), dev.world(), done)

    update, log = Update(optimisers), _Log(folder, first)
    ends, early = stage_ends(stages, steps), {round(share * steps) for share in MOMENTS} - {0}
    current: Stage | None = None
    derived: dict[str, np.ndarray] = {}
    for step in range(first, steps):
        stage, clock = clock_at(stages, steps, step)
        if stage is not current:
            for earlier in stages[: stages.index(stage) + 1]:
                derived |= _derived(earlier, method, prepared, batch, folder, device)
            enter(method, stage)
            batches = BatchSource(
                prepared, batch, seed, augment=augment, rank=dev.rank(), world=dev.world(), extra=derived
            )
            current = stage
        set_rates(stage, clock.progress)
        torch.manual_seed(seed_of(seed, "torch", step, dev.rank()))  # dropout and whatever else a method draws
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            result = method.training_step(to_device(batches.draw(step), device), clock, update)
        if dev.world() > 1:
            _average(list(_running_statistics(method)))
        record: dict[str, Any] = {"step": step, "stage": stage.name, **result.losses}
        due = (step + 1) * VALIDATIONS // steps > step * VALIDATIONS // steps
        if due and callable(getattr(method, "segment", None)):
            record |= validate(method, batches, device, precision)
            enter(method, stage)
        log.write(record)
        if on_step:
            on_step(step, StepResult({k: v for k, v in record.items() if isinstance(v, float)}, result.images))
        if step + 1 in early and dev.rank() == 0:
            checkpoint.save_weights(folder / "moments" / f"{step + 1}.safetensors", method, name, step + 1)
        if (step + 1) % checkpoint_every == 0 or step + 1 in ends:
            keep(step + 1)
    method.eval()
    return {"precision": precision, "seconds": round(spent + time.perf_counter() - began, 2)}


@torch.no_grad()
def validate(method: Method, batches: BatchSource, device: torch.device, precision: str) -> dict[str, float]:
    """`validation/<modality>`: mean Dice over classes on the validation slices of each labelled modality, pooled."""
    method.eval()
    pairs: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for batch in batches.validation(VALIDATION_SLICES):
        for modality, slices in to_device(batch, device).items():
            if slices.label is not None and modality in method.problem.labelled:
                with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                    logits = method.segment(slices.image, modality)  # type: ignore[operator]
                pairs.setdefault(modality, []).append((logits.argmax(1), slices.label))
    scores = {}
    for modality, found in pairs.items():
        predicted, truth = (torch.cat(column) for column in zip(*found, strict=True))
        scores[f"validation/{modality}"] = float(hard_dice(predicted, truth, method.problem.n_classes).nanmean())
    return scores


@torch.no_grad()
def _derived(
    stage: Stage, method: Method, prepared: Prepared, batch: int, folder: Path, device: torch.device
) -> dict[str, np.ndarray]:
    """The stage's derived images as memory-mapped arrays, written by the first process where they are missing."""
    found = {}
    for name, fn in stage.derive.items():
        path = folder / "derived" / f"{name.replace('->', '_to_')}.npy"
        if dev.rank() == 0 and not path.is_file():
            method.eval()
            origin = name.split("->")[0]
            source, rows = BatchSource(prepared, batch, 0, augment="none"), np.arange(len(prepared.images[origin]))
            parts = []
            for start in range(0, len(rows), batch):
                images = fn(source.at(origin, rows[start : start + batch]).image.to(device))
                parts.append(images[:, images.shape[1] // 2].float().cpu().numpy().astype(np.float16))
            with atomic_file(path) as temporary, open(temporary, "wb") as stream:
                np.save(stream, np.concatenate(parts))
        dev.barrier()
        found[name] = np.load(path, mmap_mode="r")
    return found


class _Log:
    """``log.jsonl``: a line a step, by the first process; a resumed run drops what lies behind its checkpoint."""

    def __init__(self, folder: Path, first: int):
        self.path = folder / "log.jsonl"
        if dev.rank() == 0:
            kept = [line for line in read_log(folder) if line["step"] < first]
            with atomic_file(self.path) as temporary:
                temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))

    def write(self, record: dict[str, Any]) -> None:
        if dev.rank() == 0:
            with open(self.path, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(record) + "\n")


def read_log(folder: Path) -> Iterator[dict[str, Any]]:
    """The step log of a run folder, oldest first; a last line cut off by a kill is left out."""
    path = folder / "log.jsonl"
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                return
