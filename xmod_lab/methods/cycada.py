"""CyCADA: adapt the images by a cycle, then the features by a critic (Hoffman et al., ICML 2018)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xmod_lab import device as dev
from xmod_lab.losses.adversarial import cross_entropy_critic, cross_entropy_generator
from xmod_lab.losses.consistency import accuracy
from xmod_lab.losses.segmentation import cross_entropy, dice_cross_entropy
from xmod_lab.maps import Map, class_maps, over_image
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
    sgd,
    source_and_target,
)
from xmod_lab.methods.cyclegan import OFFICIAL as CYCLEGAN
from xmod_lab.methods.cyclegan import CycleGAN, CycleGANConfig, Ways, mean
from xmod_lab.methods.translated import derivation, translation
from xmod_lab.methods.unet import SCHEDULES
from xmod_lab.models.cycada import DomainCritic
from xmod_lab.models.unet import UNet, level_widths

INPUTS = ("logits", "features")
FALLING = SCHEDULES | {"constant": lambda _t: 1.0}


@dataclass(frozen=True)
class CyCADAConfig(CycleGANConfig):
    """CycleGAN's fields are of the image stage, with BiGL's numbers. The rest is the release's; what differs is said.

    image_share, feature_share   of the steps; the pixel stage has the rest
    semantic_weight   of the semantic consistency; 0 as in the release, which has it for digits alone. Above 0 a stage
                  of `teacher_share`, relative to the others' sum of 1, first trains a U-Net on the source. The paper's
                  equation: its predictions on both sides, frozen. The release takes true labels for the source, and
                  switches the term on when the classifier is good enough, which the stage makes needless
    sgd           SGD with momentum 0.99 for segmenter and critic of features, as the release; Adam for short runs
    segmenter_rate, schedule   of the pixel stage; 1e-3 and constant in the release
    feature_rate, feature_critic_rate, feature_decay   of the feature stage; 1e-5, 1e-5 and 5e-4 in the release, for up
                  to 100 thousand steps
    critic_input, critic_dropout   "logits", the release's score maps, or "features", those of the U-Net's centre; of
                  the critic's whole channels, 0.5 in the release. In short trials on one run of 400 steps critics of
                  the logits, and of features with dropout, ended with accuracies of 0.47 to 0.52, one of features
                  without it with 0.59, which is enough for the gate
    shrink        means over so many by so many pixels of logits are shown: 1 in the release. On a quarter of the edge
                  the critic costs a sixteenth. Features are small as they are
    feature_weight   lambda_G of the release
    gate          the segmenter moves while the critic's accuracy is at least this: 0.6 in the release, which users
                  found out of reach, so 0.55. 0 is no gate, as in the paper
    gate_window   steps over which this accuracy is averaged; 100 in the release, of a hundred thousand
    gate_after    steps of the critic alone before the gate decides: one batch says little. 0 in the release
    dice          soft Dice + cross-entropy; theirs is cross-entropy alone

    The release moves the segmenter twice when the gate is open, once for the critic and once for the labels; here it
    is one step of their sum, which costs one pass less. Its translator's loss for digits has weight 2 towards the
    target; here both weigh alike. It ends when a pass goes by with the gate closed; here the steps are fixed."""

    critic_layers: int = 4
    pool: int = 0
    identity_weight: float = 0.0
    reconstruction_weight: float = 2.0
    image_share: float = 0.5
    feature_share: float = 0.2
    semantic_weight: float = 0.0
    teacher_share: float = 0.2
    sgd: bool = False
    segmenter_rate: float = 1e-3
    schedule: str = "poly"
    dropout: float = 0.5
    dice: bool = True
    feature_rate: float = 1e-4
    feature_critic_rate: float = 1e-3
    feature_decay: float = 0.0
    critic_input: str = "features"
    critic_dropout: float = 0.0
    shrink: int = 4
    feature_weight: float = 0.1
    gate: float = 0.55
    gate_window: int = 20
    gate_after: int = 10


OFFICIAL: dict[str, object] = CYCLEGAN | {
    "sgd": True, "schedule": "constant", "dice": False, "feature_rate": 1e-5, "feature_critic_rate": 1e-5,
    "feature_decay": 5e-4, "critic_input": "logits", "critic_dropout": 0.5, "shrink": 1, "gate": 0.6,
    "gate_window": 100, "gate_after": 0,
}  # fmt: skip


class ImageStage(CycleGAN):
    r"""CycleGAN, with :math:`\lambda_{sem}` times the cross-entropy of what a frozen U-Net of the source, `teacher`,
    says of a translation against what it says of the image: equation 4, the mean over both directions."""

    config: CyCADAConfig

    def __init__(self, config: CyCADAConfig, problem: Problem):
        super().__init__(config, problem)
        wanted = config.semantic_weight > 0
        self.teacher = UNet(problem.channels, problem.n_classes, config.width, config.dropout) if wanted else None

    def first_pass(self, x: Mapping[str, Tensor]) -> tuple[Ways, Ways, dict[str, Tensor]]:
        made, own, terms = super().first_pass(x)
        if self.teacher is not None:
            said = {m: self.teacher(image).argmax(1) for m, image in x.items()}
            each = [cross_entropy(self.teacher(image).float(), said[s]) for (s, _), image in made.items()]
            terms = terms | {"semantic": self.config.semantic_weight * mean(each)}
        return made, own, terms


class CyCADA(Method):
    r"""Three stages: a CycleGAN; a U-Net S of its translations x' = G(x_s); S against a critic D of what it says.

    .. math::
        L_{pixel} &= L_{seg}(S(x'), y_s) \\
        L_D &= - \tfrac12 E[\ln \sigma(D(S(x')))] - \tfrac12 E[\ln(1 - \sigma(D(S(x_t))))] \\
        L_{feature} &= L_{seg}(S(x'), y_s) - \lambda_G E[\ln \sigma(D(S(x_t)))]

    (the terms of equation 6, in turn and not at once, as the authors did.) In the third stage D learns in every step;
    S learns while D, over the last steps, tells translated source from real target at least as often as the `gate`
    asks, and not in the first ones. What a critic that only guesses says would be noise. All processes average D's
    accuracy and count the same steps, and so agree.

    Slices of the source are segmented through their translation, which is what S knows.
    """

    Config: ClassVar[type] = CyCADAConfig
    config: CyCADAConfig
    accuracies: Tensor
    counted: Tensor
    paper_names: ClassVar[dict[str, str]] = {
        "G": "translator.generators",
        "D_S, D_T": "translator.critics",
        "f_S": "translator.teacher",
        "f_T": "segmenter",
        "D_feat": "feature_critic",
    }
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "official": OFFICIAL,
        "printed": OFFICIAL | {"semantic_weight": 1.0, "gate": 0.0},
    }
    ablations: ClassVar[dict[str, dict[str, object]]] = {
        "pixel level only": {"feature_share": 0.0},
        "no gradient": {"feature_weight": 0.0},
        "semantic": {"semantic_weight": 1.0},
        "logits": {"critic_input": "logits"},
        "no gate": {"gate": 0.0},
    }

    @classmethod
    def translates_labelled(cls, config: CyCADAConfig) -> bool:
        return True

    def __init__(self, config: CyCADAConfig, problem: Problem):
        super().__init__(config, problem)
        one_of(CyCADA, "critic_input", config.critic_input, INPUTS)
        one_of(CyCADA, "schedule", config.schedule, FALLING)
        self.source, self.target = source_and_target(problem, "CyCADA")
        a_multiple(problem.size, 16, "CyCADA")
        c, deepest = config, level_widths(config.width)[-1]
        self.translator = ImageStage(c, problem)
        self.segmenter = UNet(problem.channels, problem.n_classes, c.width, c.dropout)
        shown = (deepest, deepest) if c.critic_input == "features" else (problem.n_classes, deepest // 2)
        self.feature_critic = DomainCritic(*shown, c.critic_dropout) if c.feature_share else None
        self.register_buffer("accuracies", torch.zeros(c.gate_window))
        self.register_buffer("counted", torch.zeros((), dtype=torch.int64))

    @property
    def translations(self) -> list[tuple[str, str]]:
        return self.translator.translations

    def stages(self) -> list[Stage]:
        c, falling = self.config, FALLING[self.config.schedule]
        (cycle,) = self.translator.stages()
        shape = () if self.translator.shape is None else ("translator.shape",)
        networks = ("translator.generators", "translator.critics", *shape)
        found = [dataclasses.replace(cycle, name="image", share=c.image_share, trained=networks)]
        if (teacher := self.translator.teacher) is not None:
            learns = {"teacher": self._optimiser(teacher, c.segmenter_rate)}
            found.insert(0, Stage("teacher", c.teacher_share, learns, {"teacher": falling}, ("translator.teacher",)))
        learns = {"segmenter": self._optimiser(self.segmenter, c.segmenter_rate)}
        derive = derivation(self.translate, self.source, self.target)
        share = 1 - c.image_share - c.feature_share
        found.append(Stage("pixel", share, learns, {"segmenter": falling}, ("segmenter",), derive))
        if self.feature_critic is not None:
            both = {
                "adapted": self._optimiser(self.segmenter, c.feature_rate, c.feature_decay),
                "feature_critic": self._optimiser(self.feature_critic, c.feature_critic_rate, c.feature_decay),
            }
            found.append(Stage("feature", c.feature_share, both, {}, ("segmenter", "feature_critic")))
        return found

    def _optimiser(self, network: nn.Module, rate: float, decay: float = 0.0) -> torch.optim.Optimizer:
        weights = network.parameters()
        return sgd(weights, rate, 0.99, decay) if self.config.sgd else adam(weights, rate, decay=decay)

    def training_step(self, batch: Batch, clock: Clock, update: Update) -> StepResult:
        if clock.stage == "image":
            return self.translator.training_step(batch, clock, update)
        if clock.stage == "feature":
            return self._feature_step(batch, update)
        if clock.stage == "teacher":
            logits, name = self.translator.teacher(batch[self.source].image), "teacher"  # type: ignore[misc]
        else:
            logits, name = self.segmenter(translation(self.translate, batch, self.source, self.target)), "segmenter"
        loss = self._segmentation(logits, batch)
        update(loss, name)
        return StepResult({"segmentation": loss.item()})

    def _feature_step(self, batch: Batch, update: Update) -> StepResult:
        assert self.feature_critic is not None
        made, x = translation(self.translate, batch, self.source, self.target), batch[self.target].image
        logits, seen = self.seen(torch.cat([made, x]))  # instance normalisation: one pass is two
        ours, theirs = self.feature_critic(seen.detach()).split([len(made), len(x)])
        told = cross_entropy_critic(ours, theirs)
        right = self._running(accuracy(ours, theirs))
        update(told, "feature_critic")

        c = self.config
        passes = not c.gate or (int(self.counted) > c.gate_after and right >= c.gate)
        losses = {"critic": told.item(), "accuracy": right, "open": float(passes)}
        if passes:
            terms = {"segmentation": self._segmentation(logits[: len(made)], batch)}
            if c.feature_weight:
                scores = self.feature_critic(seen[len(made) :])
                terms["adversarial"] = c.feature_weight * cross_entropy_generator(scores)
            update(torch.stack(list(terms.values())).sum(), "adapted")
            losses |= {name: value.item() for name, value in terms.items()}
        return StepResult(losses)

    def _running(self, right: Tensor) -> float:
        """Mean of the critic's accuracy over the last steps, this one's included, and over all processes."""
        count = int(self.counted)
        self.accuracies[count % len(self.accuracies)] = dev.mean_of(right.detach())
        self.counted += 1
        return self.accuracies[: count + 1].mean().item()

    def seen(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(b, k, h, w) -> logits (b, c, h, w) in float32, and what the critic of features is shown of them."""
        skips, x = self.segmenter.encoder(image)
        centre = self.segmenter.centre_tap(self.segmenter.centre(x))
        logits = self.segmenter.decoder(centre, skips).float()
        if self.config.critic_input == "features":
            return logits, centre
        return logits, F.avg_pool2d(logits, self.config.shrink)

    def _segmentation(self, logits: Tensor, batch: Batch) -> Tensor:
        """Against the labels of the source: logits (b, c, h, w) of its slices or of their translations."""
        label = batch[self.source].label
        assert label is not None
        return (dice_cross_entropy if self.config.dice else cross_entropy)(logits.float(), label)

    def extra_state(self) -> dict[str, Tensor]:
        return self.translator.extra_state()

    def load_extra_state(self, state: dict[str, Tensor]) -> None:
        self.translator.load_extra_state(state)

    def translate(self, image: Tensor, source: str, target: str) -> Tensor:
        """(b, k, h, w) in [-1, 1] -> the same slices as `target`; those of `target` itself stay as they are."""
        return self.translator.translate(image, source, target)

    def segment(self, image: Tensor, modality: str) -> Tensor:
        """(b, k, h, w) -> logits (b, c, h, w); slices of the source are translated first."""
        index_of(modality, self.problem.modalities)
        logits: Tensor = self.segmenter(self.translate(image, modality, self.target))
        return logits

    @torch.no_grad()
    def maps(self, batch: Batch) -> dict[str, Map]:
        """The translator's maps (`CycleGAN.maps`), class probabilities and their entropy (`maps.class_maps`), and

        ``domain/<modality>``   `mask`, 0 to 1: the critic's probability that features are of translated source, of the
                                translated slices of the source and the target's own
        """
        inner = self.translator.maps(batch).items()
        found = {name: dataclasses.replace(one, layer=f"translator.{one.layer}") for name, one in inner}
        for m, slices in batch.items():
            logits, seen = self.seen(self.translate(slices.image, m, self.target))
            found |= class_maps(logits, m, ("background", *self.problem.classes), "segmenter.decoder.head")
            if self.feature_critic is not None:
                p = over_image(self.feature_critic(seen).float().sigmoid(), slices.image)[:, 0]
                found[f"domain/{m}"] = Map("mask", p, m, "feature_critic", (0.0, 1.0))
        return found
