"""What a step of SASAN's cycle costs in time and memory at the paper's sizes, beside a straightforward one.

256x256 pixels, three slices deep, two slices of each modality, the appendix' networks and losses, one modality with
labels, without the authors' critics of features. The straightforward step, in float32, makes what the critics are shown
by a pass of its own; the lab's step makes each image and each map once.

    python benchmarks/sasan_step.py [--repeats 2] [--size 256] [--out benchmarks/results/sasan_step.json]
"""

from __future__ import annotations

import torch
from steps import Contest, compare

from xmod_lab.data.batches import Slices
from xmod_lab.methods.base import Batch, Clock, Method, Problem, StepResult
from xmod_lab.methods.sasan import SASAN
from xmod_lab.methods.sasan_config import SASANConfig
from xmod_lab.train import Update

NAMES = ("MR", "CT")


class Straightforward(SASAN):
    """The same losses, translations for the critics made by a pass of their own."""

    def training_step(self, batch: Batch, clock: Clock, update: Update) -> StepResult:  # type: ignore[override]
        with torch.no_grad():  # what the critics see; the generators make it again below
            for s, t in self.translations:
                self.attention[t](self.translate(batch[s].image, s, t))
        return super().training_step(batch, clock, update)


def make(plain: bool, size: int) -> Method:
    problem = Problem(NAMES, NAMES, NAMES[:1], NAMES[1:], ("AA", "LA", "LV", "MYO"), 3, size)
    return (Straightforward if plain else SASAN)(SASANConfig(width=64, wide_critics=False), problem)


def slices_of(size: int, device: torch.device) -> dict[str, Slices]:
    """Two slices of each modality; the first has labels."""
    found = {}
    for name in NAMES:
        image = torch.rand(2, 3, size, size, device=device) * 2 - 1
        label = torch.zeros(2, size, size, dtype=torch.long, device=device)
        label[:, size // 4 : size // 2, size // 4 : size // 2] = 1
        whose = label if name == NAMES[0] else None
        found[name] = Slices(image, whose, label == 0, [name] * 2, torch.arange(2, device=device))
    return found


if __name__ == "__main__":
    facts = {"batch": 4, "modalities": 2}
    compare(Contest("sasan", make, slices_of, 1, {"seconds": 0.4, "memory_mb": 0.6}, facts), __file__, __doc__)
