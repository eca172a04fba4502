"""AdaptSegNet: a critic of segmentations aligns two modalities (Tsai et al., CVPR 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from xmod_lab.errors import LabError
from xmod_lab.losses.adversarial import (
    cross_entropy_critic,
    cross_entropy_generator,
    least_squares_critic,
    least_squares_generator,
)
from xmod_lab.losses.segmentation import cross_entropy, dice_cross_entropy
from xmod_lab.maps import Map, class_entropy, class_maps, over_image
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
    index_of,
    one_of,
    polynomial,
    sgd,
    source_and_target,
)
from xmod_lab.models.adaptsegnet import OutputCritic, TwoLevelUNet
from xmod_lab.models.unet import UNet

LOSSES = {
    "cross_entropy": (cross_entropy_critic, cross_entropy_generator),
    "least_squares": (least_squares_critic, least_squares_generator),
}


@dataclass(frozen=True)
class AdaptSegNetConfig:
    """The paper's losses on the U-Net of `source_only` with its loss, optimiser and schedule: what differs from
    `source_only` is what the critics do. Presets have the paper's weights and optimiser; its network is a DeepLab.

    multi_level   a second head on the last but one level of the decoder, with a critic of its own. In the paper it is
                  on the last but one stage of a ResNet
    adversarial   "cross_entropy" (equations 2 and 4), or "least_squares", which the code has as well
    adversarial_weight, lower_adversarial_weight   of what the critics say of either head; 1e-3 and 2e-4 in the paper,
                  1e-2 with least squares. On the first slices of the brain's lesson run their gradient is then 3e-4 of
                  the labels' gradient, and 1e-3 after 50 of 700 steps: nothing to a U-Net that is trained from scratch
                  in so few. Fifty times that is 1.3 % at first and 12 % after 200 steps; of least squares with the same
                  weight 3.6 % at first. Both 0 is the control: the critics learn and nobody listens
    lower_weight  of the second head's own segmentation loss
    dice          soft Dice + cross-entropy; the paper has cross-entropy alone
    sgd, rate     their rate, 2.5e-4 with SGD, is for a network pretrained on ImageNet. Theirs is tenfold for the heads,
                  which are not pretrained; here nothing is, and all rates are alike
    decay         of the segmenter's weights
    critic_rate   1e-4 theirs, for 150 thousand steps
    critic_layers 4, for slices up to 192 pixels; theirs has 5 for 512 x 1024 and more
    through       how far down the polynomial schedule training goes: to the end as printed, 150 of 250 thousand steps
                  in the code, 0.9 as `source_only` by default

    Their code forwards source and target one after the other in training mode, with batch normalisation: each image
    has its own statistics. The U-Net's instance normalisation is that by construction, in a test as well.
    """

    width: int = 16
    multi_level: bool = True
    adversarial: str = "cross_entropy"
    adversarial_weight: float = 5e-2
    lower_adversarial_weight: float = 1e-2
    lower_weight: float = 0.1
    dice: bool = True
    dropout: float = 0.5
    sgd: bool = False
    rate: float = 1e-3
    decay: float = 0.0
    critic_rate: float = 1e-3
    critic_layers: int = 4
    through: float = 0.9
    augment: str = "standard"


PRINTED: dict[str, object] = {
    "adversarial_weight": 1e-3, "lower_adversarial_weight": 2e-4, "sgd": True, "rate": 2.5e-4, "decay": 5e-4,
    "critic_rate": 1e-4, "critic_layers": 5, "dice": False, "through": 1.0,
}  # fmt: skip
NOBODY: dict[str, object] = {"adversarial_weight": 0.0, "lower_adversarial_weight": 0.0}


class AdaptSegNet(Method):
    r"""One U-Net for both modalities; what it says of the target must look like what it says of the source.

    With p = S(x) the class probabilities of an image, i the two heads, source s with labels y and target t:

    .. math::
        L_S &= \sum_i \lambda^i_{seg} L_{seg}(p^s_i, y) - \sum_i \lambda^i_{adv} E[\ln \sigma(D_i(p^t_i))] \\
        L_{D_i} &= - \tfrac12 E[\ln \sigma(D_i(p^s_i))] - \tfrac12 E[\ln(1 - \sigma(D_i(p^t_i)))]

    (equations 5 and 2; a critic calls 1 what is of the source, as printed; in the code it is 0.) The half of the
    critics' loss is the code's. The segmenter moves first, then the critics, on the same probabilities, detached, as in
    the code. With both adversarial weights 0 and one level, training is that of `source_only`, bit for bit.
    """

    Config: ClassVar[type] = AdaptSegNetConfig
    config: AdaptSegNetConfig
    paper_names: ClassVar[dict[str, str]] = {
        "G": "segmenter",
        "D": "critics",
        "lambda_seg": "config.lower_weight",
        "lambda_adv": "config.adversarial_weight",
    }
    presets: ClassVar[dict[str, dict[str, object]]] = {"official": PRINTED | {"through": 0.6}, "printed": PRINTED}
    ablations: ClassVar[dict[str, dict[str, object]]] = {
        "single level": {"multi_level": False},
        "no gradient": NOBODY,
        "single level, no gradient": NOBODY | {"multi_level": False},
        "single level, least squares": {"multi_level": False, "adversarial": "least_squares"},
    }

    def __init__(self, config: AdaptSegNetConfig, problem: Problem):
        super().__init__(config, problem)
        one_of(AdaptSegNet, "adversarial", config.adversarial, LOSSES)
        self.source, self.target = source_and_target(problem, "AdaptSegNet")
        a_multiple(problem.size, 16, "AdaptSegNet")
        if problem.size < 2**config.critic_layers:
            raise LabError(
                f"{config.critic_layers} layers leave nothing of {problem.size} pixels",
                where="AdaptSegNet.critic_layers",
            )
        network = TwoLevelUNet if config.multi_level else UNet
        self.segmenter = network(problem.channels, problem.n_classes, config.width, config.dropout)
        self.weights = {"main": config.adversarial_weight}
        if config.multi_level:
            self.weights["lower"] = config.lower_adversarial_weight
        self.critics = nn.ModuleDict(
            {level: OutputCritic(problem.n_classes, config.width, config.critic_layers) for level in self.weights}
        )

    def stages(self) -> list[Stage]:
        c, weights = self.config, self.segmenter.parameters()
        optimisers: dict[str, torch.optim.Optimizer] = {
            "segmenter": sgd(weights, c.rate, decay=c.decay) if c.sgd else adam(weights, c.rate, decay=c.decay),
            "critics": adam(self.critics.parameters(), c.critic_rate, (0.9, 0.99)),
        }

        def falling(progress: float) -> float:
            return polynomial(c.through * progress)

        return [Stage("adaptation", 1.0, optimisers, dict.fromkeys(optimisers, falling))]

    def training_step(self, batch: Batch, clock: Clock, update: Update) -> StepResult:
        label = batch[self.source].label
        assert label is not None
        loss = dice_cross_entropy if self.config.dice else cross_entropy
        known = self.levels(batch[self.source].image)
        terms = {"segmentation": loss(known["main"], label)}
        if "lower" in known:
            terms["segmentation/lower"] = self.config.lower_weight * loss(known["lower"], label)
        with torch.set_grad_enabled(any(self.weights.values())):
            other = self.levels(batch[self.target].image)
        of_critic, fooled = LOSSES[self.config.adversarial]
        for level, weight in self.weights.items():
            if weight:
                scores = self.critics[level](other[level].softmax(1))
                terms[f"adversarial/{level}"] = weight * fooled(scores)
        update(torch.stack(list(terms.values())).sum(), "segmenter")

        told = {}
        for level, critic in self.critics.items():
            shown = torch.cat([known[level], other[level]]).detach().softmax(1)
            told[f"critic/{level}"] = of_critic(*critic(shown).split([len(label), len(shown) - len(label)]))
        update(torch.stack(list(told.values())).sum(), "critics")
        losses = {name: value.item() for name, value in (terms | told).items()}
        for m, logits in ((self.source, known), (self.target, other)):  # a score of the target that needs no labels
            losses[f"entropy/{m}"] = class_entropy(logits["main"].detach()).mean().item()
        return StepResult(losses)

    def levels(self, image: Tensor) -> dict[str, Tensor]:
        """(b, k, h, w) -> logits (b, c, h, w) in float32 of each head, "main" and, with two levels, "lower"."""
        both = isinstance(self.segmenter, TwoLevelUNet)
        logits = self.segmenter.levels(image) if both else {"main": self.segmenter(image)}  # type: ignore[operator]
        return {level: values.float() for level, values in logits.items()}

    def segment(self, image: Tensor, modality: str) -> Tensor:
        """(b, k, h, w) -> logits (b, c, h, w) of the main head, one network for both modalities."""
        index_of(modality, self.problem.modalities)
        logits: Tensor = self.segmenter(image)
        return logits

    @torch.no_grad()
    def maps(self, batch: Batch) -> dict[str, Map]:
        """Class probabilities and their entropy (`maps.class_maps`), and of each level

        ``critic/<level>/<modality>``   `mask`: what its critic says of the segmentation, enlarged. 1 is source, 0 is
                                        target: a probability for cross-entropy, the score itself for least squares
        """
        found: dict[str, Map] = {}
        for m, slices in batch.items():
            logits = self.levels(slices.image)
            found |= class_maps(logits["main"], m, ("background", *self.problem.classes), "segmenter.decoder.head")
            for level, critic in self.critics.items():
                scores, span = critic(logits[level].softmax(1)).float(), None
                if self.config.adversarial == "cross_entropy":
                    scores, span = scores.sigmoid(), (0.0, 1.0)
                values = over_image(scores, slices.image)[:, 0]
                found[f"critic/{level}/{m}"] = Map("mask", values, m, f"critics.{level}", span)
        return found
