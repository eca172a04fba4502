"""The detached segmenter: a U-Net of one modality that is taught by translations of another (SASAN, section 4.4).

SASAN's paper scores translators by a U-Net that was trained on real images of the modality they translate to, and then
trains it again with their images ("w/ aug."). This is that second U-Net, for any translator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from xmod_lab.errors import LabError
from xmod_lab.losses.segmentation import dice_cross_entropy
from xmod_lab.methods.base import Batch, Clock, Problem, Stage, StepResult, Update, adam, exactly_two, offers, one_of
from xmod_lab.methods.enriched import translating
from xmod_lab.methods.translated import trained_translator
from xmod_lab.methods.unet import SCHEDULES, UNetBaseline, UNetConfig

TEACHER = "unet_individual"
"""who labels translations by default: a U-Net like the one that scores translators, of the run's own seed"""
LABELS = ("detached", "own", "true")


@dataclass(frozen=True)
class DetachedConfig(UNetConfig):
    """translator: a method of METHODS that translates.

    labels: whose labels the translated images have. "detached": a U-Net's that saw real images alone, alike for every
    translator. "own": the translator's own segmenter's, as SASAN has them from its attention module; the paper gave the
    other translators no such help. "true": those of the images that were translated (Table 5, claim S5).
    """

    translator: str = "sasan"
    labels: str = "detached"


class Detached(UNetBaseline):
    r"""One U-Net of the first labelled modality, minimised over its real slices and translations of the other modality.

    .. math:: L = \tfrac12 L_{seg}(S(x_s), y_s) + \tfrac12 L_{seg}(S(G(x_t)), \hat y)

    Slices of the other modality are segmented through their translation. The translator, and who labels, are trained
    runs of the same data, frozen; pseudo labels are made of the translation, which is what the U-Net sees.
    """

    Config = DetachedConfig
    config: DetachedConfig
    ablations: ClassVar[dict[str, dict[str, object]]] = {"own labels": {"labels": "own"}}

    def __init__(self, config: DetachedConfig, problem: Problem):
        one_of(Detached, "labels", config.labels, LABELS)
        one_of(Detached, "individual", config.individual, (False,))
        exactly_two(problem.modalities, "Detached")
        super().__init__(config, problem)
        self.home = problem.labelled[0]
        (self.away,) = (m for m in problem.modalities if m != self.home)
        if config.labels == "true" and self.away not in problem.labelled:
            raise LabError(f"{self.away} has no labels here", where="Detached.labels", mend="take detached or own")

    @classmethod
    def reads(cls, config: DetachedConfig) -> tuple[str, ...]:
        """The translator and, for its labels, a U-Net. LabError for a method that cannot do what it is asked."""
        from xmod_lab.methods import METHODS

        name = translating(config.translator, "Detached.translator")
        if config.labels == "own" and "segment" not in offers(METHODS[name].cls):
            raise LabError(f"{name} has no segmenter of its own", where="Detached.labels", mend="take detached")
        return (name, TEACHER) if config.labels == "detached" else (name,)

    def stages(self) -> list[Stage]:
        optimiser = adam(self.networks.parameters(), self.config.rate, (self.config.beta1, 0.999))
        schedule = {"segmenter": SCHEDULES[self.config.schedule]}
        return [Stage("segmentation", 1.0, {"segmenter": optimiser}, schedule, ("networks",))]

    def training_step(self, batch: Batch, clock: Clock, update: Update) -> StepResult:
        home = batch[self.home]
        assert home.label is not None
        made = self.translated(batch[self.away].image)
        label = batch[self.away].label if self.config.labels == "true" else self._labels(made)
        assert label is not None
        terms = {
            f"segmentation/{self.home}": dice_cross_entropy(self._net(home.image).float(), home.label),
            "translated": dice_cross_entropy(self._net(made).float(), label),
        }
        total = torch.stack(list(terms.values())).mean()
        update(total, "segmenter")
        losses = {"total": total.item()} | {name: value.item() for name, value in terms.items()}
        return StepResult(losses, {"translated": made})

    def _net(self, image: Tensor) -> Tensor:
        return self.network(self.home)(image)

    @torch.no_grad()
    def translated(self, image: Tensor) -> Tensor:
        """(b, k, h, w) of the other modality -> the same slices as the U-Net's, by the frozen translator."""
        translator = trained_translator(self, self.config.translator)
        return translator.translate(image, self.away, self.home).to(image.dtype)  # type: ignore[operator]

    @torch.no_grad()
    def _labels(self, made: Tensor) -> Tensor:
        teacher = self.read[TEACHER if self.config.labels == "detached" else self.config.translator]
        labels: Tensor = teacher.segment(made, self.home).argmax(1)  # type: ignore[operator]
        return labels

    def taken_for(self, modality: str) -> str:
        return modality  # `segment` translates the other one

    def segment(self, image: Tensor, modality: str) -> Tensor:
        """(b, k, h, w) -> logits (b, c, h, w); slices of the other modality are translated first."""
        if modality not in (self.home, self.away):
            raise LabError(f"not trained with {modality!r}", mend=f"it knows {self.home}, {self.away}")
        return self._net(image if modality == self.home else self.translated(image))
