"""TarGAN: translation between modalities that keeps a target area (Chen et al., MICCAI 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xmod_lab.losses.adversarial import gradient_penalty, wasserstein_critic, wasserstein_generator
from xmod_lab.losses.translation import crossing_loss, cut_out, shape_loss, slot_loss, unit
from xmod_lab.maps import Map, over_image, record
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
    index_of,
    one_of,
    side_by_side,
)
from xmod_lab.models.averaged import averaged
from xmod_lab.models.blocks import LARGE
from xmod_lab.models.critic import StarCritic
from xmod_lab.models.targan import Padding, ShapeController, TargetAware

OFFICIAL: dict[str, object] = {
    "conditioning": "plane",
    "critic_layers": 6,
    "shape_width": 16,
    "rate": 1e-4,
    "critic_rate": 3e-4,
    "reconstruction_weight": 1.0,
}
LAYERS = {"cut": "heads.image", "area": "heads.area", "crossing": "heads.*", "similarity": "centre_tap"}
"""what in the averaged generator makes a kind of map"""


@dataclass(frozen=True)
class TarGANConfig:
    """The paper's weights; what differs by default is said beside it.

    The preset "official" has the authors' sizes, weights and rates, the critic's three times the generator's. Ours in
    it are the critics' first weights (He et al.) and the warm-up of the weight average. The default turns the rates
    round: see there.

    conditioning, padding   see `models.targan.TargetAware`; film by default, see there what planes can do
    area, shape   False: without the target stream, without the shape controller ("w/o T", "w/o S" of Table 3)
    crossing_weight   0: "w/o C"
    untraceable_weight   lambda_u; 0: the critic is not told where a generated image came from
    exclusive     softmax over the 2n slots as equations 2 and 3 print it, not the authors' 2n independent logits
    raw_crossing  equation 6 on [-1, 1] as printed
    critic_layers 4: the authors' 6 layers reduce 256 pixels to 4x4
    shape_width   8: theirs is 16, beside a generator of 64
    rate, critic_rate   1e-4 and 3e-4 in the paper. Seven hundred steps need larger ones; a critic with more than 5e-4
                  may leave its penalty's hold (in trials at 1e-3 it suddenly rose a thousandfold)
    reconstruction_weight   10, as in StarGAN; 1 in the paper. With 1 a short run learns what an image of a modality
                  looks like and forgets the one it was given: all but the target area is gone
    decay         of the weight average, which translates in tests
    """

    width: int = 16
    rate: float = 1e-3
    critic_rate: float = 5e-4
    beta1: float = 0.5
    beta2: float = 0.9
    conditioning: str = "film"
    padding: Padding = "zeros"
    area: bool = True
    shape: bool = True
    critic_layers: int = 4
    shape_width: int = 8
    modality_weight: float = 1.0
    untraceable_weight: float = 0.01
    reconstruction_weight: float = 10.0
    crossing_weight: float = 50.0
    shape_weight: float = 1.0
    penalty_weight: float = 10.0
    exclusive: bool = False
    raw_crossing: bool = False
    decay: float = 0.999
    augment: str = "standard"


class TarGAN(Method):
    r"""Translate a slice x and the target area r cut from it, and make both agree.

    .. math::
        L_D &= E[D(x_t)] - E[D(x_s)] + \lambda_{gp} L_{gp} + CLS(x_s, s) + \lambda_u CLS(x_t, n + s) \\
        L_{G,S} &= -E[D(x_t)] + CLS(x_t, t) + \lambda_{rec} \|x_s - G(x_t, s)\|_1 + \|b - S(x_t)\|^2
                   + \lambda_{cross} \|u(x_t) \odot y - u(r_t)\|_1

    and all of it but the last term for r with its own critic as well. t is a random permutation of the batch's own
    modalities. One critic step and one step of generator and shape controller share one translation. The terms of D_r
    use only slices that show the target area; the other terms of r use all.
    """

    Config = TarGANConfig
    config: TarGANConfig
    paper_names: ClassVar[dict[str, str]] = {
        "G": "generator",
        "S": "shape",
        "D_x": "critics.image",
        "D_r": "critics.area",
        "lambda_u": "config.untraceable_weight",
        "lambda_cross": "config.crossing_weight",
    }
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "official": OFFICIAL,
        "printed": OFFICIAL | {"exclusive": True, "raw_crossing": True},
    }
    ablations: ClassVar[dict[str, dict[str, object]]] = {
        "STC": {"shape": False, "area": False},
        "SC": {"shape": False, "crossing_weight": 0.0},
        "TC": {"area": False},
        "C": {"crossing_weight": 0.0},
        "S": {"shape": False},
        "untraceable": {"untraceable_weight": 0.0},
        "untraceable, S": {"untraceable_weight": 0.0, "shape": False},
        "plane": {"conditioning": "plane"},
    }
    """by what is taken away, as in Table 3; the two of the untraceable term are claim T5"""

    def __init__(self, config: TarGANConfig, problem: Problem):
        super().__init__(config, problem)
        one_of(TarGAN, "conditioning", config.conditioning, ("film", "plane"))
        one_of(TarGAN, "padding", config.padding, ("zeros", "reflect"))
        at_least_two(problem.labelled, "TarGAN")
        a_multiple(problem.size, 16, "TarGAN")
        count = len(problem.labelled)
        self.generator = TargetAware(
            problem.channels, count, config.width, config.conditioning, config.padding, config.area
        )
        self.generator.recompute = problem.size >= LARGE
        self.averaged = averaged(self.generator, config.decay)
        self.shape = ShapeController(problem.channels, config.shape_width) if config.shape else None
        self.critics = nn.ModuleDict({
            stream: StarCritic(problem.channels, 2 * count, problem.size, config.width, config.critic_layers)
            for stream in self.generator.encoders
        })  # fmt: skip

    def _numbers(self, image: Tensor, modality: str) -> Tensor:
        return torch.full((len(image),), index_of(modality, self.problem.labelled), device=image.device)

    def stages(self) -> list[Stage]:
        c = self.config
        generating = [p for m in (self.generator, self.shape) if m is not None for p in m.parameters()]
        optimisers: dict[str, torch.optim.Optimizer] = {
            "generator": adam(generating, c.rate, (c.beta1, c.beta2)),
            "critic": adam(self.critics.parameters(), c.critic_rate, (c.beta1, c.beta2)),
        }
        trained = ("generator", "critics", *(("shape",) if self.shape is not None else ()))
        return [Stage("translation", 1.0, optimisers, trained=trained)]

    def training_step(self, batch: Batch, clock: Clock, update: Update) -> StepResult:
        names = self.problem.labelled
        x, own = side_by_side({m: batch[m].image for m in names}, names)
        y = torch.cat([label > 0 for m in names if (label := batch[m].label) is not None])[:, None].float()
        body = torch.cat([batch[m].foreground for m in names])[:, None].float()
        wanted = own[torch.randperm(len(own), device=own.device)]
        real = {"image": x} | ({"area": cut_out(x, y)} if self.config.area else {})
        shown = {"image": torch.ones_like(own, dtype=torch.bool), "area": y.flatten(1).any(1)}

        fake = self.generator(x, wanted, real.get("area"))
        losses, critic_loss = self._critic_loss(real, fake, shown, own)
        update(critic_loss, "critic")

        back = self.generator(fake["image"], own, fake.get("area"))
        terms = self._generator_terms(real, fake, back, shown, wanted, {"image": body, "area": y})
        update(torch.stack(list(terms.values())).sum(), "generator")
        self.averaged.update_parameters(self.generator)

        losses |= {name: value.item() for name, value in terms.items()}
        moved = wanted != own
        change = (fake["image"].detach().float() - x)[moved].abs()
        losses["change"] = float(change.mean()) if bool(moved.any()) else 0.0
        images = {"image": x} | {f"translated {k}": v.detach() for k, v in fake.items()}
        return StepResult(losses, images | {f"back {k}": v.detach() for k, v in back.items()})

    def _critic_loss(
        self, real: dict[str, Tensor], fake: dict[str, Tensor], shown: dict[str, Tensor], own: Tensor
    ) -> tuple[dict[str, float], Tensor]:
        c, count = self.config, len(self.problem.labelled)
        share = torch.rand(len(own), device=own.device)  # of the way from fake to real, alike for both streams
        terms: dict[str, Tensor] = {}
        for stream, critic in self.critics.items():
            rows = shown[stream]
            x, x_t, s = real[stream][rows], fake[stream].detach()[rows], own[rows]
            if not len(x):
                continue
            scores, slots = critic(torch.cat([x, x_t]))
            (score, score_t), (slot, slot_t) = scores.chunk(2), slots.chunk(2)
            tail = "" if stream == "image" else "/area"
            terms |= {
                f"critic{tail}": wasserstein_critic(score, score_t),
                f"critic_penalty{tail}": c.penalty_weight
                * gradient_penalty(lambda t, critic=critic: critic(t)[0], x, x_t, share[rows]),  # type: ignore[misc]
                f"critic_modality{tail}": c.modality_weight * slot_loss(slot, s, c.exclusive),
            }
            origin = slot_loss(slot_t, s + count, c.exclusive)
            terms[f"critic_origin{tail}"] = c.modality_weight * c.untraceable_weight * origin
        return {name: value.item() for name, value in terms.items()}, torch.stack(list(terms.values())).sum()

    def _generator_terms(
        self,
        real: dict[str, Tensor],
        fake: dict[str, Tensor],
        back: dict[str, Tensor],
        shown: dict[str, Tensor],
        wanted: Tensor,
        masks: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        c = self.config
        terms: dict[str, Tensor] = {}
        for stream, critic in self.critics.items():
            rows, tail = shown[stream], "" if stream == "image" else "/area"
            if bool(rows.any()):
                scores, slots = critic(fake[stream][rows])
                terms[f"adversarial{tail}"] = wasserstein_generator(scores)
                terms[f"modality{tail}"] = c.modality_weight * slot_loss(slots, wanted[rows], c.exclusive)
            difference = F.l1_loss(back[stream].float(), real[stream])
            terms[f"reconstruction{tail}"] = c.reconstruction_weight * difference
        if self.shape is not None:
            found = self.shape(torch.cat(list(fake.values()))).chunk(len(fake))
            for stream, mask in zip(fake, found, strict=True):
                terms["shape" if stream == "image" else "shape/area"] = c.shape_weight * shape_loss(mask, masks[stream])
        if c.area and c.crossing_weight:
            crossing = crossing_loss(fake["image"], fake["area"], masks["area"], c.raw_crossing)
            terms["crossing"] = c.crossing_weight * crossing
        return terms

    def translate(self, image: Tensor, source: str, target: str) -> Tensor:
        """(b, k, h, w) in [-1, 1] -> the same slices as `target`, by the averaged weights and without target stream.

        The network does not ask for the source.
        """
        found: dict[str, Tensor] = self.averaged(image, self._numbers(image, target))
        return found["image"]

    @torch.no_grad()
    def maps(self, batch: Batch) -> dict[str, Map]:
        """What the two streams make of a slice, and what critics and shape controller see in it, by averaged weights.

        For each modality and each other one as target, all `mask` but the last:

        ``cut/<target>/<modality>``         target area cut from the translated slice, 0 to 1 (needs labels)
        ``area/<target>/<modality>``        the target area as its own stream translates it, 0 to 1 (needs labels)
        ``crossing/<target>/<modality>``    their absolute difference, 0 to 1 (needs labels)
        ``similarity/<target>/<modality>``  cosine of the two streams' deepest features, -1 to 1 (needs labels)
        ``shape/<target>/<modality>``       what the shape controller takes for foreground, 0 to 1
        ``patches/<image>/<modality>``      the critic's scores of the real slice and of its translations; unbounded
        ``slots/<modality>``                `pairwise`: the critic's probabilities (b, 1 + targets, 2n), one row the
                                            real slice, one each translation; one column a slot of `slot_loss`
        """
        found: dict[str, Map] = {}
        for modality in [m for m in batch if m in self.problem.labelled]:
            s = batch[modality]
            mask = torch.zeros_like(s.image[:, :1]) if s.label is None else (s.label > 0)[:, None].float()
            area = cut_out(s.image, mask) if s.label is not None and self.config.area else None
            judged = {"real": s.image}
            for target in [t for t in self.problem.labelled if t != modality]:
                with record(self.averaged, "*centre_tap") as seen:
                    streams = self.averaged(s.image, self._numbers(s.image, target), area)
                judged[target] = streams["image"]
                masks = {}
                if area is not None:
                    cut = unit(streams["image"].float()) * mask
                    own = unit(streams["area"].float())
                    deep = next(iter(seen.values()))[0].float().chunk(2)
                    cosine = F.cosine_similarity(deep[0], deep[1], dim=1)[:, None]
                    masks = {"cut": cut, "area": own, "crossing": (cut - own).abs(), "similarity": cosine}
                if self.shape is not None:
                    masks["shape"] = self.shape(streams["image"]).float()
                for kind, values in masks.items():
                    span = (-1.0, 1.0) if kind == "similarity" else (0.0, 1.0)
                    name = f"{kind}/{target}/{modality}"
                    layer = f"averaged.module.{LAYERS[kind]}" if kind in LAYERS else kind
                    found[name] = Map("mask", fitted(values, s.image), modality, layer, span)
            rows = []
            for name, image in judged.items():
                scores, slots = self.critics["image"](image)
                rows.append(slots.float().softmax(1) if self.config.exclusive else slots.float().sigmoid())
                patches = fitted(scores, s.image)
                found[f"patches/{name}/{modality}"] = Map("mask", patches, modality, "critics.image.patches")
            layer = "critics.image.modality"
            found[f"slots/{modality}"] = Map("pairwise", torch.stack(rows, 1), modality, layer, (0.0, 1.0))
        return found


def fitted(values: Tensor, image: Tensor) -> Tensor:
    """(b, c, u, v) -> (b, h, w): the mean over channels, enlarged to the image's size."""
    return over_image(values.mean(1, keepdim=True), image)[:, 0]
