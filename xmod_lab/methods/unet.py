"""The baselines: one U-Net, trained on one modality at a time or on all of them.

`unet_individual`  a network for each labelled modality, trained side by side
`unet_joint`       one network for all of them
`source_only`      one network that sees the labelled modality alone: the lower bound of adaptation
`target_only`      the same on the unlabelled modality with its labels: the upper bound, not an adaptation method
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xmod_lab.losses.segmentation import dice_cross_entropy
from xmod_lab.maps import Map
from xmod_lab.methods.base import Batch, Clock, Method, Problem, Stage, StepResult, Update, adam
from xmod_lab.models.unet import UNet

SHARED = "all"


@dataclass(frozen=True)
class UNetConfig:
    """width: channels of the first level; individual: a network a modality; rate: Adam's learning rate.

    foreground_weight: weight of each foreground class in the cross-entropy against 1 - foreground_weight for the
    background, 0.5 for none; UAGAN's code uses 0.98. augment: none, standard, or strong (gamma and inversion).
    """

    width: int = 16
    individual: bool = False
    rate: float = 1e-3
    dropout: float = 0.5
    foreground_weight: float = 0.5
    augment: str = "standard"


class UNetBaseline(Method):
    """Supervised U-Net(s): minimise soft Dice + cross-entropy on every labelled modality, mean over modalities."""

    Config = UNetConfig
    config: UNetConfig
    class_weight: Tensor | None

    def __init__(self, config: UNetConfig, problem: Problem):
        super().__init__(config, problem)
        names = problem.labelled if config.individual else (SHARED,)
        self.networks = nn.ModuleDict(
            {n: UNet(problem.channels, problem.n_classes, config.width, config.dropout) for n in names}
        )
        foreground = config.foreground_weight
        weight = torch.tensor([1 - foreground] + [foreground] * len(problem.classes))
        self.register_buffer("class_weight", None if foreground == 0.5 else weight, persistent=False)

    def network(self, modality: str) -> UNet:
        """The U-Net that segments `modality`: its own, or the shared one."""
        return self.networks[modality if self.config.individual else SHARED]  # type: ignore[return-value]

    @property
    def segmenters(self) -> tuple[str, ...]:
        """Modalities that have a network of their own; empty for a shared one."""
        return tuple(self.networks) if self.config.individual else ()

    def stages(self) -> list[Stage]:
        optimiser = adam(self.parameters(), self.config.rate)
        return [Stage("segmentation", 1.0, {"segmenter": optimiser}, {"segmenter": lambda t: (1 - 0.9 * t) ** 0.9})]

    def training_step(self, batch: Batch, clock: Clock, update: Update) -> StepResult:
        losses = {}
        for modality in self.problem.labelled:
            slices = batch[modality]
            assert slices.label is not None
            logits = self.segment(slices.image, modality)
            losses[modality] = dice_cross_entropy(logits.float(), slices.label, self.class_weight)
        total = torch.stack(list(losses.values())).mean()
        update(total, "segmenter")
        return StepResult({"total": total.item()} | {f"segmentation/{m}": v.item() for m, v in losses.items()})

    def segment(self, image: Tensor, modality: str) -> Tensor:
        """(b, k, h, w) -> logits (b, c, h, w) by the network of `modality`."""
        return self.network(modality)(image)

    @torch.no_grad()
    def maps(self, batch: Batch) -> dict[str, Map]:
        """Class probabilities (`stack`) and their entropy in bits over log2 of the class count (`mask`, 0 to 1)."""
        found = {}
        for modality, slices in batch.items():
            p = self.segment(
                slices.image, modality if modality in self.networks else next(iter(self.networks))
            ).softmax(1)
            entropy = -(p * p.clamp_min(1e-12).log()).sum(1) / torch.log(torch.tensor(float(p.shape[1])))
            names = ("background", *self.problem.classes)
            found[f"probability/{modality}"] = Map("stack", p, modality, "head", (0.0, 1.0), names=names)
            found[f"entropy/{modality}"] = Map("mask", entropy.clamp(0, 1), modality, "head", (0.0, 1.0))
        return found


class TargetOnly(UNetBaseline):
    """The upper bound: trained on the modality that the task calls unlabelled, with its labels."""

    swaps_labels = True
