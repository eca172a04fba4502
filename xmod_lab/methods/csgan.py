"""CSGAN: cycle- and shape-consistent translation between two modalities (Zhang, Yang and Zheng, CVPR 2018).

The method is of two modalities. For n of them this holds a pair model for each two, trained side by side and sharing
nothing, as in the comparison of TarGAN's paper: six generators, six critics and six segmenters for three modalities.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xmod_lab.losses.adversarial import least_squares_critic, least_squares_generator
from xmod_lab.losses.segmentation import dice_cross_entropy
from xmod_lab.maps import Map, difference
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
    at_least_two,
    half,
    index_of,
    late,
)
from xmod_lab.models.critic import PatchCritic
from xmod_lab.models.resnet import ResNetGenerator
from xmod_lab.models.unet import UNet


@dataclass(frozen=True)
class CSGANConfig:
    """Our reading of the paper, of which no code is known: in 2-D, with the networks of CycleGAN and a U-Net. The
    generators grow by nearest neighbours, like our StarGAN's.

    pretraining, refinement   shares of the steps for the segmenters, before and after the generators' turn. A share of
                  one fifth is enough for a segmenter to be a judge, and leaves the generators 420 of 700 steps
    blocks        of each generator: 6, for slices up to 128 pixels
    critic_layers 3: patches of 70x70 pixels
    rate, critic_rate, segmenter_rate   2e-4 in the paper
    shape_weight  1; the paper's loss is a cross-entropy, ours soft Dice + cross-entropy
    synthetic_weight   of translated images against real ones in the refinement: a half, as in the nearest public code
    """

    width: int = 16
    rate: float = 1e-3
    critic_rate: float = 1e-3
    segmenter_rate: float = 1e-3
    beta1: float = 0.5
    blocks: int = 6
    critic_layers: int = 3
    dropout: float = 0.5
    pretraining: float = 0.2
    refinement: float = 0.2
    reconstruction_weight: float = 10.0
    shape_weight: float = 1.0
    synthetic_weight: float = 0.5
    augment: str = "standard"


class CSGAN(Method):
    r"""A translation must have the shape of its source: a segmenter of the target modality finds the source's label.

    Of a direction s to t, with its generator G, critic D and segmenter S of t, and the way back G':

    .. math::
        L_D &= \tfrac12 E[(D(x_t) - 1)^2] + \tfrac12 E[D(G(x_s))^2] \\
        L_G &= E[(D(G(x_s)) - 1)^2] + \lambda \|G'(G(x_s)) - x_s\|_1 + \gamma L_{seg}(S(G(x_s)), y_s) \\
        L_S &= L_{seg}(S(x_t), y_t) + \omega L_{seg}(S(G(x_s)), y_s)

    Three stages: segmenters on real slices; generators and critics, the segmenters frozen; segmenters on real and
    translated slices, the generators frozen. While both learn, they can agree on a hidden sign that carries the label
    through an image that does not show it; the paper trains them in turn. Logged losses are means over the directions,
    which share no parameter.
    """

    Config = CSGANConfig
    config: CSGANConfig
    paper_names: ClassVar[dict[str, str]] = {
        "G": "generators",
        "D": "critics",
        "S": "networks",
        "lambda": "config.reconstruction_weight",
        "gamma": "config.shape_weight",
    }
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "printed": {"rate": 2e-4, "critic_rate": 2e-4, "segmenter_rate": 2e-4}
    }
    ablations: ClassVar[dict[str, dict[str, object]]] = {"shape": {"shape_weight": 0.0}}

    def __init__(self, config: CSGANConfig, problem: Problem):
        super().__init__(config, problem)
        at_least_two(problem.labelled, "CSGAN")
        a_multiple(problem.size, 16, "CSGAN")
        self.translations = list(permutations(problem.labelled, 2))
        k, width = problem.channels, config.width

        def each(make: Callable[[], nn.Module]) -> nn.ModuleDict:
            return nn.ModuleDict({f"{s}->{t}": make() for s, t in self.translations})

        self.generators = each(
            lambda: ResNetGenerator(k, k, 0, width, config.blocks, "reflect", affine=False, strided=3, transposed=False)
        )
        self.critics = each(lambda: PatchCritic(k, width, config.critic_layers))
        self.networks = each(lambda: UNet(k, problem.n_classes, width, config.dropout))

    def stages(self) -> list[Stage]:
        config, betas = self.config, (self.config.beta1, 0.999)
        segmenters = {"segmenters": adam(self.networks.parameters(), config.segmenter_rate)}
        both = {
            "generators": adam(self.generators.parameters(), config.rate, betas),
            "critics": adam(self.critics.parameters(), config.critic_rate, betas),
        }
        falling: dict[str, Callable[[float], float]] = {"segmenters": late}
        return [
            Stage("segmentation", config.pretraining, {**segmenters}, falling, ("networks",)),
            Stage(
                "translation",
                1 - config.pretraining - config.refinement,
                {**both},
                dict.fromkeys(both, half),
                ("generators", "critics"),
            ),
            Stage("refinement", config.refinement, {**segmenters}, falling, ("networks",)),
        ]

    def training_step(self, batch: Batch, clock: Clock, update: Update) -> StepResult:
        if clock.stage == "translation":
            return self._translation_step(batch, update)
        return self._segmentation_step(batch, update, translated=clock.stage == "refinement")

    def _segmentation_step(self, batch: Batch, update: Update, translated: bool) -> StepResult:
        real: dict[str, list[Tensor]] = {m: [] for m in self.problem.labelled}
        made = []
        for s, t in self.translations:
            network = self.networks[f"{s}->{t}"]
            real[t].append(dice_cross_entropy(network(batch[t].image).float(), labels_of(batch, t)))
            if translated:
                with torch.no_grad():
                    image = self.translate(batch[s].image, s, t)
                made.append(dice_cross_entropy(network(image).float(), labels_of(batch, s)))
        terms = {f"segmentation/{m}": torch.stack(found).mean() for m, found in real.items()}
        total = torch.stack(list(terms.values())).mean()
        if made:
            terms["synthetic"] = self.config.synthetic_weight * torch.stack(made).mean()
            total = total + terms["synthetic"]
        update(total, "segmenters")
        return StepResult({"total": total.item()} | {name: value.item() for name, value in terms.items()})

    def _translation_step(self, batch: Batch, update: Update) -> StepResult:
        made = {(s, t): self.translate(batch[s].image, s, t) for s, t in self.translations}
        critic_loss = self._mean(
            lambda s, t: least_squares_critic(
                self.critics[f"{s}->{t}"](batch[t].image), self.critics[f"{s}->{t}"](made[s, t].detach())
            )
        )
        update(critic_loss, "critics")

        back = {(s, t): self.translate(made[s, t], t, s) for s, t in self.translations}
        terms = {
            "adversarial": self._mean(lambda s, t: least_squares_generator(self.critics[f"{s}->{t}"](made[s, t]))),
            "reconstruction": self.config.reconstruction_weight
            * self._mean(lambda s, t: F.l1_loss(back[s, t].float(), batch[s].image)),
        }
        if self.config.shape_weight:
            terms["shape"] = self.config.shape_weight * self._mean(
                lambda s, t: dice_cross_entropy(self.networks[f"{s}->{t}"](made[s, t]).float(), labels_of(batch, s))
            )
        update(torch.stack(list(terms.values())).sum(), "generators")
        losses = {"critic": critic_loss.item()} | {name: value.item() for name, value in terms.items()}
        losses["change"] = self._mean(lambda s, t: difference(made[s, t].detach(), batch[s].image).mean()).item()
        shown = {
            "image": [batch[s].image for s, _ in self.translations],
            "translated": list(made.values()),
            "back": list(back.values()),
        }
        return StepResult(losses, {name: torch.cat(images).detach() for name, images in shown.items()})

    def _mean(self, term: Callable[[str, str], Tensor]) -> Tensor:
        return torch.stack([term(s, t) for s, t in self.translations]).mean()

    def translate(self, image: Tensor, source: str, target: str) -> Tensor:
        """(b, k, h, w) in [-1, 1] -> the same slices as `target`; those of `target` itself stay as they are."""
        for modality in (source, target):
            index_of(modality, self.problem.labelled)
        return image if source == target else self.generators[f"{source}->{target}"](image)

    def segment(self, image: Tensor, modality: str) -> Tensor:
        """(b, k, h, w) -> logits (b, c, h, w): logarithms of the mean probability of the modality's segmenters.

        It has one in each pair that it is in. TarGAN's paper reports the mean of their scores, not of their answers.
        """
        index_of(modality, self.problem.labelled)
        logs = [self.networks[f"{s}->{t}"](image).float().log_softmax(1) for s, t in self.translations if t == modality]
        return torch.stack(logs).logsumexp(0) - math.log(len(logs))

    @torch.no_grad()
    def maps(self, batch: Batch) -> dict[str, Map]:
        """Of the slices of <modality>, translated to each <target>:

        ``probability/<target>/<modality>``     classes that the target's segmenter finds in the translation (`stack`)
        ``error/<target>/<modality>``           1 - its probability of the source's label, where labels are given
        ``disagreement/<target>/<modality>``    half the sum over classes of the difference between that and what the
                                                pair's segmenter of <modality> finds in the real slice, 0 to 1
        ``residual/<target>/<modality>``        |x' - x|, 0 to 2
        ``cycle_residual/<target>/<modality>``  |x'' - x| of the way there and back, 0 to 2; all but the first `mask`
        """
        found = {}
        names = ("background", *self.problem.classes)
        for s, t in [(s, t) for s, t in self.translations if s in batch]:
            x, label = batch[s].image, batch[s].label
            made = self.translate(x, s, t)
            seen = self.networks[f"{s}->{t}"](made).float().softmax(1)
            real = self.networks[f"{t}->{s}"](x).float().softmax(1)
            where, layer = f"{t}/{s}", f"networks.{s}->{t}"
            found[f"probability/{where}"] = Map("stack", seen, s, layer, (0.0, 1.0), names=names)
            apart = (0.5 * (seen - real).abs().sum(1)).clamp(0, 1)
            found[f"disagreement/{where}"] = Map("mask", apart, s, layer, (0.0, 1.0))
            if label is not None:
                error = 1 - seen.gather(1, label[:, None])[:, 0]
                found[f"error/{where}"] = Map("mask", error.clamp(0, 1), s, layer, (0.0, 1.0))
            for kind, image in (("residual", made), ("cycle_residual", self.translate(made, t, s))):
                found[f"{kind}/{where}"] = Map("mask", difference(image, x), s, f"generators.{s}->{t}", (0.0, 2.0))
        return found


def labels_of(batch: Batch, modality: str) -> Tensor:
    """Labels (b, h, w) of a modality, which all modalities of this method have."""
    label = batch[modality].label
    assert label is not None
    return label
