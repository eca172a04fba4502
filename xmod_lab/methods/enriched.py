"""Image enrichment: segment an image together with what a trained translator makes of it (TarGAN, Table 2).

A network for each modality sees ``[x, G(x -> first other), G(x -> second other) ...]``, the others in the order of the
task's modalities. The translator is another run's, frozen; its weights lie in this method's checkpoint as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from xmod_lab.errors import LabError
from xmod_lab.methods.base import Batch, Problem, Stage, adam, offers, one_of
from xmod_lab.methods.translated import trained_translator
from xmod_lab.methods.unet import SCHEDULES, UNetBaseline, UNetConfig
from xmod_lab.models.unet import LEVELS, UNet, level_widths

ALONE = "none"


@dataclass(frozen=True)
class EnrichedConfig(UNetConfig):
    """translator: a method of METHODS that translates, or "none": the same network on the single modality.

    segmenter: "unet", or "dynunet", MONAI's form of nnU-Net's network, which TarGAN's authors used (without dropout).
    The other fields are those of the U-Net baselines; a network a modality is the method itself.
    """

    individual: bool = True
    translator: str = "targan"
    segmenter: str = "unet"


class Enriched(UNetBaseline):
    """Supervised U-Nets on an image and its synthetic siblings; minimise Dice + cross-entropy, mean over modalities.

    Training translates each slice once, before it begins (`Stage.derive`), not in every step: a lesson draws a slice
    some ten times, so this is about ten times cheaper. The siblings then share the slice's augmentation draw, and are
    what the translator makes of an image as it was taken, as in a test; in the step they would be translations of
    deformed images.
    """

    Config = EnrichedConfig
    config: EnrichedConfig
    ablations: ClassVar[dict[str, dict[str, object]]] = {"alone": {"translator": ALONE}}

    def __init__(self, config: EnrichedConfig, problem: Problem):
        one_of(Enriched, "individual", config.individual, (True,))
        super().__init__(config, problem)
        if config.translator != ALONE and problem.channels != 1:
            raise LabError(
                f"images have {problem.channels} channels, siblings are made of one",
                where="Enriched",
                mend="take a task without neighbours and stacked modalities",
            )
        if config.translator != ALONE and problem.unlabelled:
            raise LabError(
                f"{', '.join(problem.unlabelled)} has no labels, and most translators know labelled modalities alone",
                where="Enriched",
                mend="take a task whose modalities all have labels",
            )

    @classmethod
    def reads(cls, config: EnrichedConfig) -> tuple[str, ...]:
        """The translator. Raises LabError for a method that does not translate."""
        if config.translator == ALONE:
            return ()
        return (translating(config.translator, "Enriched.translator", ALONE),)

    def others(self, modality: str) -> list[str]:
        """The modalities of the synthetic siblings of `modality`, in the order of the channels."""
        return [] if self.config.translator == ALONE else [m for m in self.problem.modalities if m != modality]

    def _networks(self) -> dict[str, nn.Module]:
        config, problem = self.config, self.problem
        one_of(Enriched, "segmenter", config.segmenter, SEGMENTERS)
        make = SEGMENTERS[config.segmenter]
        return {
            m: make(problem.channels * (1 + len(self.others(m))), problem.n_classes, config.width, config.dropout)
            for m in problem.labelled
        }

    @property
    def segmenters(self) -> tuple[str, ...]:
        """None: a network sees its own modality first, so that of T1 does not segment T2."""
        return ()

    def stages(self) -> list[Stage]:
        optimiser = adam(self.networks.parameters(), self.config.rate, (self.config.beta1, 0.999))
        schedule = {"segmenter": SCHEDULES[self.config.schedule]}
        derive = {f"{m}->{o}": self._to(m, o) for m in self.problem.labelled for o in self.others(m)}
        return [Stage("segmentation", 1.0, {"segmenter": optimiser}, schedule, ("networks",), derive)]

    def _to(self, source: str, target: str) -> Callable[[Tensor], Tensor]:
        return lambda image: self.sibling(image, source, target)

    @torch.no_grad()
    def sibling(self, image: Tensor, source: str, target: str) -> Tensor:
        """(b, k, h, w) of `source` -> the same slices as `target`, by the frozen translator."""
        translator = trained_translator(self, self.config.translator)
        return translator.translate(image, source, target).to(image.dtype)  # type: ignore[operator]

    def logits(self, batch: Batch, modality: str) -> Tensor:
        """Of a training batch: with the derived siblings that are in it, made here where they are not."""
        parts = [batch[modality].image]
        for other in self.others(modality):
            derived = batch.get(f"{modality}->{other}")
            parts.append(self.sibling(parts[0], modality, other) if derived is None else derived.image)
        return self.network(modality)(torch.cat(parts, 1))

    def enrich(self, image: Tensor, modality: str) -> Tensor:
        """(b, k, h, w) -> (b, k * modalities, h, w): the image, then each sibling."""
        return torch.cat([image, *(self.sibling(image, modality, other) for other in self.others(modality))], 1)

    def segment(self, image: Tensor, modality: str) -> Tensor:
        """(b, k, h, w) of `modality` -> logits (b, c, h, w); the siblings are made here."""
        network = self.network(modality)
        return network(self.enrich(image, modality))


def translating(name: str, where: str, *others: str) -> str:
    """`name`, if it is of a method that translates. Raises LabError listing those that do, and `others`."""
    from xmod_lab.methods import METHODS, method_entry

    if "translate" not in offers(method_entry(name).cls):
        able = [known for known, entry in METHODS.items() if "translate" in offers(entry.cls)]
        raise LabError(f"{name} does not translate", where=where, mend=f"known: {', '.join([*able, *others])}")
    return name


def dynunet(channels: int, classes: int, width: int, _dropout: float) -> nn.Module:
    """MONAI's DynUNet in 2D with the U-Net's levels and widths; (b, channels, h, w), h and w multiples of 16."""
    from monai.networks.nets import DynUNet

    return DynUNet(
        spatial_dims=2,
        in_channels=channels,
        out_channels=classes,
        kernel_size=[3] * (LEVELS + 1),
        strides=[1] + [2] * LEVELS,
        upsample_kernel_size=[2] * LEVELS,
        filters=level_widths(width),
        norm_name=("INSTANCE", {"affine": True}),
    )


SEGMENTERS: dict[str, Callable[[int, int, int, float], nn.Module]] = {"unet": UNet, "dynunet": dynunet}
