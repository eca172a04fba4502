"""Small problems, batches and methods for the tests of joint learning."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from xmod_lab.data.batches import Slices
from xmod_lab.methods import METHODS
from xmod_lab.methods.base import Clock, Method, Problem, StepResult, build_config
from xmod_lab.train import Update, enter

ALONE: dict[str, dict[str, Any]] = {"enriched": {"translator": "none"}}
"""without the run that a method reads; tests of its own have one"""
READS = {"detached": ("sasan", "unet_individual")}
"""untrained methods that `built` hands to those that read others' runs"""
PAIRED = ("pix2pix", "mrgan", "dc2anet")
"""methods that learn from registered pairs, and the fields of a task that has them"""
PAIRED_TASK: dict[str, Any] = {"draw": "paired", "one_modality_per_patient": False}
ADAPTING = ("pnp_adanet",)
"""methods that adapt from a labelled modality to one without labels: `built` labels the first of two alone"""
JOINT = Problem(("A", "B"), ("A", "B"), ("A", "B"), (), ("core", "rim"), 1, 32)


def built(name: str, modalities: str = "AB", size: int = 32, **config: Any) -> Any:
    """A method of METHODS at width 8 (4 for U-Nets), always the same weights; `config` overrides its entry."""
    entry, problem = METHODS[name], problem_of(name, modalities, size)
    config = ALONE.get(name, {}) | config
    torch.manual_seed(0)
    width = 8 if "sharing" in entry.cls.Config.__dataclass_fields__ else 4
    method: Method = entry.cls(build_config(entry.cls, {"width": width} | entry.overrides | config), problem)
    for other in READS.get(name, ()):
        method.receive(other, built(other, modalities, size))
    return method


def problem_of(name: str, modalities: str = "AB", size: int = 32) -> Problem:
    """The problem that `built` gives to a method."""
    known = tuple(modalities)
    labelled, unlabelled = (known[:1], known[1:]) if name in ADAPTING else (known, ())
    return dataclasses.replace(
        JOINT, modalities=known, tested=known, labelled=labelled, unlabelled=unlabelled, size=size
    )


def a_batch(
    modalities: str = "AB", each: int = 2, size: int = 32, seed: int = 0, paired: bool = False
) -> dict[str, Slices]:
    """Random slices of each modality; the label has a core in a rim. paired: of the same patients."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for m in modalities:
        image = torch.rand(each, 1, size, size, generator=generator) * 2 - 1
        label = torch.zeros(each, size, size, dtype=torch.long)
        label[:, size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = 2
        label[:, 3 * size // 8 : 5 * size // 8, 3 * size // 8 : 5 * size // 8] = 1
        names = [f"{'p' if paired else m}{i}" for i in range(each)]
        found[m] = Slices(image, label, label > 0, names, torch.arange(each))
    return found


class Kept:
    """An `update` that changes nothing and keeps the losses, in place of the loop's."""

    def __init__(self) -> None:
        self.losses: dict[str, Tensor] = {}

    def __call__(self, loss: Tensor, *names: str) -> None:
        (name,) = names
        self.losses[name] = loss


class Watched:
    """The loop's `update`, which notes the sub-modules whose weights each call moves."""

    def __init__(self, method: Any, stage: int = 0):
        self.method, self.update = method, Update(method.stages()[stage].optimisers)
        self.seen: list[tuple[tuple[str, ...], set[str]]] = []

    def __call__(self, loss: Tensor, *names: str) -> None:
        before = weights(self.method)
        self.update(loss, *names)
        self.seen.append((names, changed(self.method, before)))


def weights(method: Method) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in method.named_parameters()}


def changed(method: Method, before: dict[str, Tensor]) -> set[str]:
    """Names of the sub-modules of which a weight moved."""
    return {k.split(".")[0] for k, v in method.named_parameters() if not torch.equal(v, before[k])}


def one_step(method: Any, stage: int = 0, update: Any = None, batch: Any = None, seed: int = 0) -> StepResult:
    """One step in the middle of a stage, entered as the loop does, of three modalities unless a batch is given."""
    found = method.stages()[stage]
    enter(method, found)
    torch.manual_seed(seed)
    clock = Clock(found.name, 0, 0.5)
    return method.training_step(batch or a_batch("ABC"), clock, update or Update(found.optimisers))
