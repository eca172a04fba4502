"""U-GAT-IT, light version: CycleGAN with attention by class activation and adaptive norms (Kim et al., ICLR 2020)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xmod_lab.maps import Map, over_image, record
from xmod_lab.methods.base import Batch, Clock, Stage, StepResult, Update
from xmod_lab.methods.cyclegan import CycleGAN, Ways, mean
from xmod_lab.methods.uagan import summed
from xmod_lab.models.ugatit import AttentionCritic, AttentionGenerator, clip_mixtures, critic_layers, mixtures


@dataclass(frozen=True)
class UGATITConfig:
    """The authors' PyTorch code in its light version; what differs by default is said beside it. Ours in the preset
    "official" are the weights in use of the critics' classifiers and what follows from these (`ClassActivation`), and
    critics of fewer layers for slices below 96 pixels.

    rate, critic_rate   1e-4 both in the paper, for a million steps of one image; 700 steps need larger ones
    decay         L2 penalty beside the authors' losses, which are sums where ours are means: `stages` keeps the ratio
    blocks        residual blocks before and after the attention
    cam_weight    1000 in the paper. Users of the code report that the term harms images of one channel and tasks that
                  keep shapes. Here one of the two classifiers stays at chance (see `ClassActivation`), so that the
                  loss does not fall below ln 2 and a large weight goes on pushing: in trials of 400 steps with 0, 10,
                  100 and 1000 the other classifier was learned alike, and cycles closed the worse the larger it was
    pool          of earlier translations, as in CycleGAN: none, like the authors
    shape_weight  as in CycleGAN: none
    """

    width: int = 16
    rate: float = 1e-3
    critic_rate: float = 1e-3
    beta1: float = 0.5
    decay: float = 1e-4
    blocks: int = 4
    pool: int = 0
    cam_weight: float = 10.0
    identity_weight: float = 10.0
    reconstruction_weight: float = 10.0
    shape_weight: float = 0.0
    augment: str = "standard"


class UGATIT(CycleGAN):
    r"""Generators and critics look at what tells their two kinds of images apart.

    A generator's classifier :math:`\eta` (two logits) says whether an image is of its source s; a critic's, whether it
    is real. To CycleGAN's loss the generators add

    .. math:: \lambda_{cam} \left( E[-\log \sigma(\eta(x_s))] + E[-\log(1 - \sigma(\eta(x_t)))] \right)

    and both sides the least squares of the critics' logits beside those of their patches, of a local and a global
    critic, all with weight 1. (The paper prints a logarithm for the critics' logits; its code has squares.) The
    cycle, its means over directions and their order are CycleGAN's.
    """

    Config = UGATITConfig
    config: UGATITConfig  # type: ignore[assignment]  # it has all fields that CycleGAN's step reads
    paper_names: ClassVar[dict[str, str]] = {
        "G": "generators",
        "eta": "generators.*.cam",
        "rho": "generators.*.adaptive.*.norms.*.rho",
        "D": "critics",
        "lambda_1": "1",
        "lambda_2": "config.reconstruction_weight",
        "lambda_3": "config.identity_weight",
        "lambda_4": "config.cam_weight",
    }
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "official": {"rate": 1e-4, "critic_rate": 1e-4, "cam_weight": 1000.0}
    }
    ablations: ClassVar[dict[str, dict[str, object]]] = {"cam": {"cam_weight": 0.0}}

    def make_generator(self) -> nn.Module:
        k = self.problem.channels
        return AttentionGenerator(k, k, self.config.width, self.config.blocks)

    def make_critic(self) -> nn.Module:
        layers = dict(zip(("local", "global"), critic_layers(self.problem.size), strict=True))
        k, width = self.problem.channels, self.config.width
        return nn.ModuleDict({name: AttentionCritic(k, width, count) for name, count in layers.items()})

    def stages(self) -> list[Stage]:
        (stage,) = super().stages()
        # the authors add up both directions, ours is their mean, and halve no squares of the critics
        for name, less in (("generators", 2), ("critics", 4)):
            for group in stage.optimisers[name].param_groups:
                group["weight_decay"] = self.config.decay / less
        return [stage]

    def training_step(self, batch: Batch, clock: Clock, update: Update) -> StepResult:
        result = super().training_step(batch, clock, update)
        clip_mixtures(self.generators)
        return result

    def first_pass(self, x: Mapping[str, Tensor]) -> tuple[Ways, Ways, dict[str, Tensor]]:
        """One pass a direction makes G(x_s), G(x_t) and the logits of both."""
        made, own, told = {}, {}, []
        for s, t in self.translations:
            generator, rows = self.generators[f"{s}->{t}"], [len(x[s]), len(x[t])]
            images, logits = generator.classified(torch.cat([x[s], x[t]]))  # type: ignore[operator]
            made[s, t], own[s, t] = images.split(rows)
            told.append(class_loss(*logits.split(rows)))
        return made, own, {"cam": self.config.cam_weight * mean(told)} if self.config.cam_weight else {}

    def judge(self, image: Tensor, source: str, target: str) -> dict[str, Tensor]:
        critics = self.critics[f"{source}->{target}"]
        (near, near_logits), (far, far_logits) = critics["local"](image), critics["global"](image)  # type: ignore[index]
        return {"": near, "/global": far, "_cam": near_logits, "_cam/global": far_logits}

    @torch.no_grad()
    def maps(self, batch: Batch) -> dict[str, Map]:
        """Beside CycleGAN's, with ``critic/global/...`` of the global critic, of the slices of <modality>:

        ``cam/<target>/<modality>``             heat map of the generator: where the channels are strong that tell it
                                                the slice's modality (`mask`)
        ``critic_cam/<image>/<modality>``       the same of the local critic, image being "real" or the target of a
                                                translation, ``critic_cam/global/...`` of the global one (`mask`)
        ``rho/<layer>/<target>/<modality>``     (1, 1, channels): 1 where the layer normalises by the channel, 0 by all
                                                channels together (`pairwise`)

        Heat maps are sums over channels set to 0..1 an image, a blank one to 0: values of different images do not
        compare.
        """
        found: dict[str, Map] = {}
        for s, t in [(s, t) for s, t in self.translations if s in batch]:
            with record(self, "*.cam.tap") as seen:
                own = super().maps({s: batch[s]})
            for name, one in own.items():
                if name.startswith("critic"):
                    scale = "global" if name.startswith("critic/global/") else "local"
                    one = dataclasses.replace(one, layer=f"{one.layer}.{scale}.patches")
                found[name] = one
            layers = {f"cam/{t}/{s}": f"generators.{s}->{t}"}
            for scale, tail in (("local", ""), ("global", "/global")):
                layers[f"critic_cam{tail}/real/{s}"] = f"critics.{t}->{s}.{scale}"
                layers[f"critic_cam{tail}/{t}/{s}"] = f"critics.{s}->{t}.{scale}"
            for name, layer in layers.items():
                heat = over_image(summed(seen[f"{layer}.cam.tap"][0]), batch[s].image)[:, 0]
                found[name] = Map("mask", heat, s, f"{layer}.cam.tap", (0.0, 1.0), comparable=False)
            for layer, rho in mixtures(self.generators[f"{s}->{t}"]).items():
                values, where = rho.detach()[None, None], f"generators.{s}->{t}.{layer}"
                found[f"rho/{layer}/{t}/{s}"] = Map("pairwise", values, s, where, (0.0, 1.0), names=("rho",))
        return found


def class_loss(source: Tensor, target: Tensor) -> Tensor:
    r""":math:`E[-\log \sigma(l_s)] + E[-\log(1 - \sigma(l_t))]` of logits (b, 2) of source and target images, >= 0.

    2 ln 2 where a classifier says nothing. Means are over images and both logits.
    """
    return F.softplus(-source.float()).mean() + F.softplus(target.float()).mean()
