"""Small problems, batches and methods for the tests of joint learning."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from xmod_lab.data.batches import Slices
from xmod_lab.methods import METHODS
from xmod_lab.methods.base import Method, Problem, build_config

ALONE: dict[str, dict[str, Any]] = {"enriched": {"translator": "none"}}
"""without the run that a method reads; tests of its own have one"""
JOINT = Problem(("A", "B"), ("A", "B"), ("A", "B"), (), ("core", "rim"), 1, 32)


def built(name: str, modalities: str = "AB", size: int = 32, **config: Any) -> Any:
    """A method of METHODS at width 8 (4 for U-Nets), always the same weights; `config` overrides its entry."""
    entry = METHODS[name]
    problem = dataclasses.replace(
        JOINT, modalities=tuple(modalities), tested=tuple(modalities), labelled=tuple(modalities), size=size
    )
    config = ALONE.get(name, {}) | config
    torch.manual_seed(0)
    width = 8 if "sharing" in entry.cls.Config.__dataclass_fields__ else 4
    method: Method = entry.cls(build_config(entry.cls, {"width": width} | entry.overrides | config), problem)
    return method


def a_batch(modalities: str = "AB", each: int = 2, size: int = 32, seed: int = 0) -> dict[str, Slices]:
    """Random slices of each modality; the label has a core in a rim."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for m in modalities:
        image = torch.rand(each, 1, size, size, generator=generator) * 2 - 1
        label = torch.zeros(each, size, size, dtype=torch.long)
        label[:, size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = 2
        label[:, 3 * size // 8 : 5 * size // 8, 3 * size // 8 : 5 * size // 8] = 1
        found[m] = Slices(image, label, label > 0, [f"{m}{i}" for i in range(each)], torch.arange(each))
    return found
