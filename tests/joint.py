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
READS = {"detached": ("sasan", "unet_individual"), "cyclegan_seg": ("cyclegan_adapting",)}
"""untrained methods that `built` hands to those that read others' runs"""
PAIRED = ("pix2pix", "mrgan", "dc2anet")
"""methods that learn from registered pairs, and the fields of a task that has them"""
PAIRED_TASK: dict[str, Any] = {"draw": "paired", "one_modality_per_patient": False}
ADAPTING = ("adaptsegnet", "cycada", "cyclegan_seg", "sifa", "sifa_v1", "pnp_adanet", "bigl")
"""methods that adapt from the first modality, which has labels, to the second"""
JOINT = Problem(("A", "B"), ("A", "B"), ("A", "B"), (), ("core", "rim"), 1, 32)


def task_of(name: str, modalities: tuple[str, ...] = ("A", "B")) -> dict[str, Any]:
    """Fields of the tiny task that the method learns from: all modalities labelled, unless it adapts."""
    if name in ADAPTING:
        return {"labelled": [modalities[0]], "unlabelled": list(modalities[1:])}
    return {"labelled": list(modalities), "unlabelled": []} | (PAIRED_TASK if name in PAIRED else {})


def problem_of(name: str, modalities: tuple[str, ...] = ("A", "B"), size: int = 32, **fields: Any) -> Problem:
    """The same as a method sees it."""
    labelled = modalities[:1] if name in ADAPTING else modalities
    unlabelled = modalities[len(labelled) :]
    own = {"modalities": modalities, "tested": modalities, "labelled": labelled, "unlabelled": unlabelled}
    return dataclasses.replace(JOINT, **own, size=size, **fields)


def built(name: str, modalities: str = "AB", size: int = 32, **config: Any) -> Any:
    """A method of METHODS at width 8 (4 for U-Nets), always the same weights; `config` overrides its entry."""
    entry = METHODS[name]
    problem = problem_of(name, tuple(modalities), size)
    config = ALONE.get(name, {}) | config
    torch.manual_seed(0)
    width = 8 if "sharing" in entry.cls.Config.__dataclass_fields__ else 4
    method: Method = entry.cls(build_config(entry.cls, {"width": width} | entry.overrides | config), problem)
    for other in READS.get(name, ()):
        method.receive(other, built(other, modalities, size))
    return method


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


def poisoned(batch: dict[str, Slices], modality: str = "B", seed: int = 1) -> dict[str, Slices]:
    """The batch with noise for the labels of `modality`."""
    label = torch.randint(0, 3, batch[modality].image[:, 0].shape, generator=torch.Generator().manual_seed(seed))
    return batch | {modality: batch[modality]._replace(label=label)}
