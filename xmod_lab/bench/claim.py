"""A claim: two systems compared."""

from __future__ import annotations

import math
from dataclasses import dataclass

DISTANCES = ("hd", "hd95_max", "assd_pooled", "fd", "mae", "rmse", "lpips")
"""metrics of which less is better"""


@dataclass(frozen=True)
class Claim:
    """`method` against `other` in `metric` on `modality`, of translators the target.

    published: the paper's difference, in points (per cent) or the metric's unit; None where it says "better" without a
    number, or of other data: higher, but lower where the metric is a distance.
    """

    key: str
    method: str
    other: str
    modality: str
    metric: str = "dice"
    published: float | None = None
    dataset: str = "brain_tumour"
    task: str = "uagan"
    same_data: bool = True
    """whether data and modality are the paper's, up to phantoms: elsewhere nothing is reproduced"""
    less: tuple[str, str] | tuple[()] = ()
    """two more systems, whose difference is taken from that of the first two: does something else change the effect?"""
    structure: str = ""
    """the one structure that is compared; empty for the mean over the task's (`Task.structures`)"""
    least: float = 0.0
    """how large the difference is said to be at the least, in points or the metric's unit"""

    @property
    def systems(self) -> tuple[str, ...]:
        """All that are compared."""
        return (self.method, self.other, *self.less)

    @property
    def direction(self) -> int:
        """+1 if the paper has `method` higher here, else -1. Its table decides, also where it contradicts the text, as
        UAGAN's does on T1Gd."""
        if self.published is None:
            return -1 if self.metric in DISTANCES else 1
        return int(math.copysign(1, self.published))
