"""What a step of SASAN's cycle costs in time and memory at the paper's sizes, beside a straightforward one.

256x256 pixels, three slices deep, two slices of each modality, the appendix' networks and losses, one modality with
labels, without the authors' critics of features. The straightforward step, in float32, is a loop of two halves: critics
first, on images and maps that it then makes again for the generators, whose identity is a pass of its own. The lab's
step makes each image and each map once.

    python benchmarks/sasan_step.py [--repeats 2] [--size 256] [--out benchmarks/results/sasan_step.json]
"""

from __future__ import annotations

import torch
from steps import Contest, compare

from xmod_lab.data.batches import Slices
from xmod_lab.losses.adversarial import least_squares_critic, least_squares_generator
from xmod_lab.methods.base import Batch, Clock, Method, Problem, StepResult
from xmod_lab.methods.sasan import SASAN, Images, Seen, Sights
from xmod_lab.methods.sasan_config import SASANConfig
from xmod_lab.train import Update

NAMES = ("MR", "CT")


class Straightforward(SASAN):
    """The same losses in two halves, each of which makes its images."""

    def _seen(self, batch: Batch, x: Images) -> tuple[Sights, Images, Sights]:
        real = {m: Seen(*self.attention[m](x[m])) for m in x}
        made = {t: self.generators[f"{s}->{t}"](x[s], real[s].maps) for s, t in self.translations}
        return real, made, {m: Seen(*self.attention[m](made[m])) for m in made}

    def training_step(self, batch: Batch, clock: Clock, update: Update) -> StepResult:
        assert self.seg_critic is not None
        x = {m: batch[m].image for m in self.problem.modalities}
        with torch.no_grad():
            real, made, fake = self._seen(batch, x)
            shown, like = self._segmentations(batch, real, fake)
        told = [least_squares_critic(self.critics[m](x[m]), self.critics[m](made[m])) for m in x]
        seg = least_squares_critic(self.seg_critic(like), self.seg_critic(shown))
        update(torch.stack(told).mean() + seg, "critics")

        real, made, fake = self._seen(batch, x)
        same = {t: self.generators[f"{s}->{t}"](x[t], real[t].maps) for s, t in self.translations}
        back = {s: self.generators[f"{t}->{s}"](made[t], fake[t].maps) for s, t in self.translations}
        each = self._terms(batch, x, real, made, fake, same, back)
        loss = torch.stack([torch.stack(found).sum() / 2 for found in each.values()]).sum()
        fooled = least_squares_generator(self.seg_critic(self._segmentations(batch, real, fake)[0]))
        update(loss + self.config.adversarial_weight * self.config.seg_weight * fooled, "generators")
        return StepResult({"generators": loss.item()})


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
    compare(Contest("sasan", make, slices_of, 1, {"seconds": 0.65, "memory_mb": 0.7}, facts), __file__, __doc__)
