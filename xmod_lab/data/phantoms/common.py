"""What every generator hands over, and tissue maps turned into signal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xmod_lab.data.phantoms.physics import Tissue
from xmod_lab.data.phantoms.shapes import Box, Space


@dataclass(frozen=True)
class Subject:
    """Arrays of one subject, all of `space.shape`: what training may read, and what it may not.

    images       modality -> int16
    labels       modality, or "" where one label serves all -> uint8
    truth        modality -> int16: modalities that `images` lacks or shows displaced
    truth_labels as `labels`, for the arrays of `truth`
    record       facts for the truth folder (a displacement, say), JSON values by file stem
    """

    space: Space
    images: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    truth: dict[str, np.ndarray] = field(default_factory=dict)
    truth_labels: dict[str, np.ndarray] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Mix:
    """Inside `box`, the share `weight` (0-1, of the box's shape) of the signal comes from `tissue` instead."""

    box: Box
    tissue: int
    weight: np.ndarray


def signal_of(
    tissues: dict[int, Tissue], sequence: Callable[[Tissue], float], tissue: np.ndarray, mixes: Sequence[Mix] = ()
) -> np.ndarray:
    """Signal (float32) of a uint8 tissue map under `sequence`, in arbitrary units."""
    table = np.zeros(256, np.float32)
    for value, constants in tissues.items():
        table[value] = sequence(constants)
    signal = table[tissue]
    for mix in mixes:
        part = signal[mix.box]
        part += mix.weight * (table[mix.tissue] - part)
    return signal
