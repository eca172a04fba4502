"""Pix2Pix: translation learnt from registered pairs, one way (Isola et al., CVPR 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from xmod_lab.errors import LabError
from xmod_lab.losses.adversarial import cross_entropy_critic, cross_entropy_generator
from xmod_lab.maps import Map, difference, over_image, replace
from xmod_lab.methods.base import (
    Batch,
    Clock,
    Method,
    Problem,
    Stage,
    StepResult,
    Update,
    a_multiple,
    adam,
    half,
    one_of,
)
from xmod_lab.methods.pairs import check_way, paired, pairs, two_of
from xmod_lab.models.critic import PatchCritic
from xmod_lab.models.pix2pix import UNetGenerator, levels_of


@dataclass(frozen=True)
class Pix2PixConfig:
    """The paper's weights; what differs by default is said beside it. Weights begin as PyTorch's layers have them, the
    authors' with a standard deviation of 0.02.

    norm          "instance": a slice's result does not depend on what else is in the batch; "batch": the authors'. They
                  train with one slice and keep its own statistics at test, which is the same; ours at test are those
                  that training ran up
    dropout       0.5, the paper's only noise: on in training. The authors keep it at test, and say that it changes
                  little; ours is off, so that a slice has one translation
    rate, critic_rate   2e-4 both in the paper, for 200 passes over the data with one slice a step
    transposed    True: the authors' transposed convolutions, which leave a checkerboard in the images of a short run
    critic_layers 3: patches of 70x70 pixels
    adversarial_weight   0 leaves a U-Net that learns by L1 alone, with which the paper compares itself
    """

    width: int = 16
    rate: float = 1e-3
    critic_rate: float = 1e-3
    beta1: float = 0.5
    norm: str = "instance"
    dropout: float = 0.5
    transposed: bool = False
    critic_layers: int = 3
    adversarial_weight: float = 1.0
    pair_weight: float = 100.0
    augment: str = "standard"


class Pix2Pix(Method):
    r"""The first of two modalities, x, becomes the second, y; a critic sees a translation beside its source.

    .. math::
        L_D &= -\tfrac12 E[\ln D(x, y)] - \tfrac12 E[\ln(1 - D(x, G(x)))] \\
        L_G &= -E[\ln D(x, G(x))] + \lambda \|G(x) - y\|_1

    Pairs that do not lie on each other teach it blur or double edges: it needs a task of registered images with
    `draw: paired`, and reads no label.
    """

    Config = Pix2PixConfig
    config: Pix2PixConfig
    paper_names: ClassVar[dict[str, str]] = {"G": "generator", "D": "critic", "lambda": "config.pair_weight"}
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "official": {"norm": "batch", "transposed": True, "rate": 2e-4, "critic_rate": 2e-4}
    }
    ablations: ClassVar[dict[str, dict[str, object]]] = {
        "pair": {"pair_weight": 0.0},
        "adversarial": {"adversarial_weight": 0.0},
        "dropout": {"dropout": 0.0},
    }

    def __init__(self, config: Pix2PixConfig, problem: Problem):
        super().__init__(config, problem)
        one_of(Pix2Pix, "norm", config.norm, ("instance", "batch"))
        self.translations = [two_of(problem, "Pix2Pix")]
        a_multiple(problem.size, 16, "Pix2Pix")
        if problem.size < (least := 3 * 2**config.critic_layers):
            raise LabError(
                f"a critic of {config.critic_layers} layers needs slices of {least} pixels, these have {problem.size}",
                where="Pix2Pix.critic_layers",
                mend="set it lower, or take another profile",
            )
        k, batch = problem.channels, config.norm == "batch"
        self.generator = UNetGenerator(
            k, k, levels_of(problem.size), config.width, config.dropout, batch, config.transposed
        )
        self.critic = PatchCritic(2 * k, config.width, config.critic_layers, batch=batch)

    def stages(self) -> list[Stage]:
        betas = (self.config.beta1, 0.999)
        optimisers: dict[str, torch.optim.Optimizer] = {
            "generator": adam(self.generator.parameters(), self.config.rate, betas),
            "critic": adam(self.critic.parameters(), self.config.critic_rate, betas),
        }
        return [Stage("translation", 1.0, optimisers, dict.fromkeys(optimisers, half))]

    def training_step(self, batch: Batch, clock: Clock, update: Update) -> StepResult:
        x, y = pairs(batch, *self.translations[0], "Pix2Pix")
        made = self.generator(x)
        critic_loss = cross_entropy_critic(self._scores(x, y), self._scores(x, made.detach()))
        update(critic_loss, "critic")

        terms = {
            "adversarial": self.config.adversarial_weight * cross_entropy_generator(self._scores(x, made)),
            "pair": self.config.pair_weight * F.l1_loss(made.float(), y),
        }
        update(torch.stack(list(terms.values())).sum(), "generator")
        losses = {"critic": critic_loss.item()} | {name: value.item() for name, value in terms.items()}
        losses["change"] = float(difference(made.detach(), x).mean())
        return StepResult(losses, {"image": x, "translated": made.detach(), "truth": y})

    def _scores(self, x: Tensor, shown: Tensor) -> Tensor:
        """Logits (b, 1, u, v) of patches of `shown` beside its source."""
        return self.critic(torch.cat([x, shown], 1))

    def translate(self, image: Tensor, source: str, target: str) -> Tensor:
        """(b, k, h, w) in [-1, 1] of the first modality -> the same slices as the second; the way back is not learnt.

        Slices of the wanted modality stay as they are. Raises LabError for the way back.
        """
        check_way(source, target, self.translations)
        return image if source == target else self.generator(image)

    @torch.no_grad()
    def maps(self, batch: Batch) -> dict[str, Map]:
        """Of slices of the source, <modality>, translated to the <target>:

        ``skips/<target>/<modality>``     |x' - x'_i|, where x'_i is made without the i-th feature that passes from down
                                          to up, fine to coarse, the last of them the centre: what each one carries, 0
                                          to 2 (`stack`)
        ``residual/<target>/<modality>``  |x' - x|, 0 to 2 (`mask`, as the rest)
        ``pair_residual/<target>/<modality>``   |x' - y|, 0 to 2, where the batch has the same slices of the target
        ``critic/<target>/<modality>``    the critic's patch scores of (x, x'), enlarged: larger is more real
        ``critic/real/<modality>``        and of (x, y)
        """
        s, t = self.translations[0]
        if s not in batch:
            return {}
        x, y = paired(batch, s, t) or (batch[s].image, None)
        made = self.generator(x)
        lost = []
        for i in range(len(self.generator.taps)):
            with replace(self.generator, f"taps.{i}", torch.zeros_like):
                lost.append(difference(self.generator(x), made))
        edges = [x.shape[2] // 2 ** (i + 1) for i in range(len(lost))]
        names = (*(f"skip of {edge} px" for edge in edges[:-1]), f"centre of {edges[-1]} px")
        found = {
            f"skips/{t}/{s}": Map("stack", torch.stack(lost, 1), s, "generator.taps.*", (0.0, 2.0), names=names),
            f"residual/{t}/{s}": Map("mask", difference(made, x), s, "generator", (0.0, 2.0)),
            f"critic/{t}/{s}": Map("mask", over_image(self._scores(x, made), x)[:, 0], s, "critic.patches"),
        }
        if y is not None:
            found[f"pair_residual/{t}/{s}"] = Map("mask", difference(made, y), s, "generator", (0.0, 2.0))
            found[f"critic/real/{s}"] = Map("mask", over_image(self._scores(x, y), x)[:, 0], s, "critic.patches")
        return found
