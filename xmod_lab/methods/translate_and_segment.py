"""Translate, then segment: a U-Net and a trained translator that bridges two modalities, in either direction.

"CycleGAN + segmentation" of the papers on adaptation is one or the other of these. BiGL's and SASAN's rows translate in
the test; the pixel level of CyCADA translates what the U-Net learns from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from xmod_lab.maps import Map, class_maps
from xmod_lab.methods.base import Batch, Problem, Stage, adam, index_of, one_of, source_and_target
from xmod_lab.methods.enriched import translating
from xmod_lab.methods.translated import derivation, residual_map, trained_translator, translation
from xmod_lab.methods.unet import SCHEDULES, UNetBaseline, UNetConfig
from xmod_lab.models.blocks import Tap

DIRECTIONS = ("source_to_target", "target_to_source")


@dataclass(frozen=True)
class TranslateAndSegmentConfig(UNetConfig):
    """translator: a method of METHODS that translates; its finished run of the same data and seed is read. The default
    is CycleGAN set as BiGL's and CyCADA's are: the three differ in its steps, and in what they do with translations.

    direction     "source_to_target": the U-Net learns from translations of the labelled slices and is tested on the
                  target as it is. "target_to_source": it learns from the labelled slices as they are, and in a test
                  sees translations of the target. The first one can learn to live with the translator's faults, and a
                  test costs one network
    The other fields are those of the U-Net baselines.
    """

    translator: str = "cyclegan_adapting"
    direction: str = "source_to_target"


class TranslateAndSegment(UNetBaseline):
    r"""One U-Net S, and a frozen translator G, of a source s with labels and a target t without.

    .. math::
        \text{source to target:} \quad & \min_S L_{seg}(S(G_{s \to t}(x_s)), y_s), \quad \text{tested: } S(x_t) \\
        \text{target to source:} \quad & \min_S L_{seg}(S(x_s), y_s), \quad \text{tested: } S(G_{t \to s}(x_t))

    S has the loss, optimiser and draws of `source_only`; in the second direction it is that network, bit for bit.
    """

    Config = TranslateAndSegmentConfig
    config: TranslateAndSegmentConfig
    ablations: ClassVar[dict[str, dict[str, object]]] = {"target to source": {"direction": "target_to_source"}}

    def __init__(self, config: TranslateAndSegmentConfig, problem: Problem):
        one_of(TranslateAndSegment, "direction", config.direction, DIRECTIONS)
        one_of(TranslateAndSegment, "individual", config.individual, (False,))
        self.source, self.target = source_and_target(problem, "TranslateAndSegment")
        super().__init__(config, problem)
        self.made_tap = Tap()
        self.home = self.target if config.direction == "source_to_target" else self.source

    @classmethod
    def reads(cls, config: TranslateAndSegmentConfig) -> tuple[str, ...]:
        """The translator. Raises LabError for a method that does not translate."""
        return (translating(config.translator, "TranslateAndSegment.translator"),)

    @classmethod
    def translates_labelled(cls, config: TranslateAndSegmentConfig) -> bool:
        return config.direction == "source_to_target"

    def stages(self) -> list[Stage]:
        optimiser = adam(self.networks.parameters(), self.config.rate, (self.config.beta1, 0.999))
        schedule = {"segmenter": SCHEDULES[self.config.schedule]}
        derive = derivation(self.translated, self.source, self.target) if self.home == self.target else {}
        return [Stage("segmentation", 1.0, {"segmenter": optimiser}, schedule, ("networks",), derive)]

    @torch.no_grad()
    def translated(self, image: Tensor, source: str, target: str) -> Tensor:
        """(b, k, h, w) of `source` -> the same slices as `target`, by the frozen translator."""
        translator = trained_translator(self, self.config.translator)
        return translator.translate(image, source, target).to(image.dtype)  # type: ignore[operator]

    def at_home(self, image: Tensor, modality: str) -> Tensor:
        """(b, k, h, w) of `modality` as the U-Net sees them: translated, unless they look right as they are."""
        index_of(modality, self.problem.modalities)
        return image if modality == self.home else self.made_tap(self.translated(image, modality, self.home))

    def logits(self, batch: Batch, modality: str) -> Tensor:
        """Of the labelled slices of a training batch, with the derived translations that are in it."""
        if modality == self.home:
            return self.network(modality)(batch[modality].image)
        return self.network(modality)(translation(self.translated, batch, modality, self.home))

    def segment(self, image: Tensor, modality: str) -> Tensor:
        """(b, k, h, w) -> logits (b, c, h, w); slices of the modality that S did not learn from are translated."""
        return self.network(modality)(self.at_home(image, modality))

    @torch.no_grad()
    def maps(self, batch: Batch) -> dict[str, Map]:
        """Class probabilities and their entropy (`maps.class_maps`), and what the translation changed where there is
        one (`translated.residual_map`)."""
        found: dict[str, Map] = {}
        for m, slices in batch.items():
            made = self.at_home(slices.image, m)
            names = ("background", *self.problem.classes)
            found |= class_maps(self.network(m)(made), m, names, self.head(m))
            if m != self.home:
                found |= residual_map(slices.image, made, m, self.home, "made_tap")
        return found
