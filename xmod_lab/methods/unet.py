"""The baselines: one U-Net, trained on one modality at a time or on all of them.

`unet_individual`  a network for each labelled modality, trained side by side
`unet_joint`       one network for all of them
`source_only`      one network that sees the labelled modality alone: the lower bound of adaptation
`target_only`      the same on the unlabelled modality with its labels: the upper bound, not an adaptation method
`multi_v4`         encoder and decoder for each modality, the deepest layers shared (Valindria et al., WACV 2018)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from xmod_lab.errors import LabError
from xmod_lab.losses.segmentation import cross_entropy, dice_cross_entropy
from xmod_lab.maps import Map, class_maps
from xmod_lab.methods.base import Batch, Clock, Method, Problem, Stage, StepResult, Update, adam, late, one_of
from xmod_lab.models.multi_stream import MultiStream
from xmod_lab.models.unet import LEVELS, UNet

SHARED = "all"
SCHEDULES = {"poly": lambda t: (1 - 0.9 * t) ** 0.9, "late": late}


@dataclass(frozen=True)
class UNetConfig:
    """width: channels of the first level; individual: a network a modality; rate: Adam's learning rate.

    foreground_weight: weight of each foreground class in the cross-entropy against 1 - foreground_weight for the
    background, 0.5 for none; UAGAN's code uses 0.98. dice: add the soft Dice (UAGAN's code has cross-entropy alone).
    augment: none, standard, or strong (gamma and inversion). schedule: of the learning rate, `poly` (falling from the
    first step) or `late` (constant for 60 %, then linear to a hundredth, as UAGAN). beta1: of Adam.
    """

    width: int = 16
    individual: bool = False
    rate: float = 1e-3
    dropout: float = 0.5
    foreground_weight: float = 0.5
    dice: bool = True
    schedule: str = "poly"
    beta1: float = 0.9
    augment: str = "standard"


class UNetBaseline(Method):
    """Supervised U-Net(s): soft Dice (unless dice=False) + cross-entropy of every labelled modality, mean over them."""

    Config: ClassVar[type] = UNetConfig
    config: UNetConfig
    class_weight: Tensor | None

    def __init__(self, config: UNetConfig, problem: Problem):
        super().__init__(config, problem)
        one_of(type(self), "schedule", config.schedule, SCHEDULES)
        self.networks = nn.ModuleDict(self._networks())
        foreground = config.foreground_weight
        weight = torch.tensor([1 - foreground] + [foreground] * len(problem.classes))
        self.register_buffer("class_weight", None if foreground == 0.5 else weight, persistent=False)

    def _networks(self) -> dict[str, nn.Module]:
        config, problem = self.config, self.problem
        names = problem.labelled if config.individual else (SHARED,)
        return {n: UNet(problem.channels, problem.n_classes, config.width, config.dropout) for n in names}

    def network(self, modality: str) -> UNet:
        """The U-Net that segments `modality`: its own, or the shared one. LabError if it has none."""
        if self.config.individual:
            self._known(modality)
        return self.networks[modality if self.config.individual else SHARED]  # type: ignore[return-value]

    def _known(self, modality: str) -> None:
        if modality not in self.problem.labelled:
            raise LabError(f"not trained with {modality!r}", mend=f"it knows {', '.join(self.problem.labelled)}")

    @property
    def segmenters(self) -> tuple[str, ...]:
        """Modalities that have a network of their own; empty for a shared one."""
        return tuple(self.networks) if self.config.individual else ()

    def stages(self) -> list[Stage]:
        optimiser = adam(self.parameters(), self.config.rate, (self.config.beta1, 0.999))
        schedule = SCHEDULES[self.config.schedule]
        return [Stage("segmentation", 1.0, {"segmenter": optimiser}, {"segmenter": schedule})]

    def training_step(self, batch: Batch, clock: Clock, update: Update) -> StepResult:
        losses = {}
        for modality in self.problem.labelled:
            slices = batch[modality]
            assert slices.label is not None
            logits = self.logits(batch, modality)
            loss = dice_cross_entropy if self.config.dice else cross_entropy
            losses[modality] = loss(logits.float(), slices.label, self.class_weight)
        total = torch.stack(list(losses.values())).mean()
        update(total, "segmenter")
        return StepResult({"total": total.item()} | {f"segmentation/{m}": v.item() for m, v in losses.items()})

    def logits(self, batch: Batch, modality: str) -> Tensor:
        """Logits (b, c, h, w) of a training batch's slices of `modality`."""
        return self.segment(batch[modality].image, modality)

    def segment(self, image: Tensor, modality: str) -> Tensor:
        """(b, k, h, w) -> logits (b, c, h, w) by the network of `modality`."""
        return self.network(modality)(image)

    def head(self, modality: str) -> str:
        """Name of the module that gives the logits of `modality`."""
        return f"networks.{modality if self.config.individual else SHARED}"

    def taken_for(self, modality: str) -> str:
        """The modality as which `maps` segments: one without labels passes for the first that has some."""
        return modality if modality in self.problem.labelled else self.problem.labelled[0]

    @torch.no_grad()
    def maps(self, batch: Batch) -> dict[str, Map]:
        """Class probabilities (`stack`) and how undecided they are (`mask`, `maps.class_entropy`, 0 to 1)."""
        found: dict[str, Map] = {}
        for modality, slices in batch.items():
            logits = self.segment(slices.image, self.taken_for(modality))
            layer = self.head(self.taken_for(modality))
            found |= class_maps(logits, modality, ("background", *self.problem.classes), layer)
        return found


@dataclass(frozen=True)
class MultiV4Config(UNetConfig):
    """share_from: first encoder level that all modalities share; 4 shares the centre alone."""

    share_from: int = 3


class MultiV4(UNetBaseline):
    """A stream for each modality, the deepest layers one; all modalities' losses in one step.

    Where the sharing begins is not stated: "last layers" is read as the last encoder level and the centre.
    """

    Config = MultiV4Config
    config: MultiV4Config

    def _networks(self) -> dict[str, nn.Module]:
        config, problem = self.config, self.problem
        one_of(MultiV4, "share_from", config.share_from, range(LEVELS + 1))
        return {
            SHARED: MultiStream(
                problem.labelled, problem.channels, problem.n_classes, config.width, config.share_from, config.dropout
            )
        }

    def segment(self, image: Tensor, modality: str) -> Tensor:
        """(b, k, h, w) -> logits (b, c, h, w) by the stream of `modality`."""
        self._known(modality)
        return self.networks[SHARED](image, modality)

    def head(self, modality: str) -> str:
        return f"networks.{SHARED}.decoders.{modality}"


class TargetOnly(UNetBaseline):
    """The upper bound: trained on the modality that the task calls unlabelled, with its labels."""

    swaps_labels = True
