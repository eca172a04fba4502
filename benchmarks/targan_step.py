"""What a training step of TarGAN at the authors' sizes costs in time and memory, beside a straightforward one.

256x256 pixels, four slices, three modalities, networks of width 64, six critic layers. The straightforward step is
arranged like the authors' loop, in float32: translations for the critics are made without gradient, and made anew for
the generator. The lab's step makes them once, and computes features of full and half the size again on the way back
instead of keeping them.

    python benchmarks/targan_step.py [--repeats 2] [--size 256] [--out benchmarks/results/targan_step.json]
"""

from __future__ import annotations

import torch
from steps import Contest, compare

from xmod_lab.data.batches import Slices
from xmod_lab.methods.base import Batch, Clock, Method, Problem, StepResult, side_by_side
from xmod_lab.methods.targan import TarGAN, TarGANConfig
from xmod_lab.train import Update

NAMES = ("CT", "T1w", "T2w")


class Straightforward(TarGAN):
    """The same losses, translations for the critics made by a pass of their own."""

    def training_step(self, batch: Batch, clock: Clock, update: Update) -> StepResult:  # type: ignore[override]
        state = torch.get_rng_state()
        with torch.no_grad():  # what the critics see; the generator makes it again below
            x, own = side_by_side({m: batch[m].image for m in self.problem.labelled}, self.problem.labelled)
            self.generator(x, own[torch.randperm(len(own), device=own.device)], x)
        torch.set_rng_state(state)
        return super().training_step(batch, clock, update)


def make(plain: bool, size: int) -> Method:
    config = TarGANConfig(width=64, critic_layers=6, shape_width=16, conditioning="plane")
    method = (Straightforward if plain else TarGAN)(config, Problem(NAMES, NAMES, NAMES, (), ("liver",), 1, size))
    method.generator.recompute &= not plain
    return method


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


if __name__ == "__main__":
    facts = {"batch": 4, "modalities": len(NAMES)}
    compare(Contest("targan", make, slices_of, 0, {"seconds": 0.45, "memory_mb": 0.6}, facts), __file__, __doc__)
