"""UAGAN: one segmenter for several unpaired modalities, helped by translation (Yuan et al., MICCAI 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from xmod_lab.errors import LabError
from xmod_lab.losses.adversarial import gradient_penalty, wasserstein_critic, wasserstein_generator
from xmod_lab.losses.segmentation import cross_entropy
from xmod_lab.maps import Map, record
from xmod_lab.methods.base import RAMP, Batch, Clock, Method, Problem, Stage, StepResult, Update, adam, late, one_of
from xmod_lab.models.critic import StarCritic
from xmod_lab.models.two_stream import STREAMS, TwoStream
from xmod_lab.models.unet import LEVELS


def ramp(progress: float) -> float:
    """Share of the shape-consistency weight at `progress` of training: linear from 0, and 1 from 60 % on."""
    return min(1.0, progress / RAMP)


@dataclass(frozen=True)
class UAGANConfig:
    """The paper's weights; what differs by default is said beside it.

    conditioning  film, or plane as in the authors' code: instance normalisation removes a plane's constant again
    fuse, gated, translate   False: UAGAN-fuse, UAGAN-atten, UAGAN-trans (the suffix is what is taken away; the last
                  reconstructs its input and has no critic)
    passes        generator passes a step: 2, or 3 as in the authors' loop, which computes the critic's image anew
    critic_layers 4: slices of one organ do not need the authors' 6 layers and 45 million parameters
    bounded       tanh on translated images (the authors' head is linear)
    foreground_weight   of each foreground class in the cross-entropy, against 1 - that for the background; in the
                  authors' code, not in the paper
    rate, critic_rate   1e-4 both in the paper, for 74,000 steps
    beta1         of Adam; the paper is silent, the authors' script says 0
    """

    width: int = 16
    rate: float = 1e-3
    critic_rate: float = 1e-3
    beta1: float = 0.5
    conditioning: str = "film"
    fuse: bool = True
    gated: bool = True
    translate: bool = True
    passes: int = 2
    critic_layers: int = 4
    bounded: bool = True
    dropout: float = 0.5
    foreground_weight: float = 0.98
    modality_weight: float = 1.0
    reconstruction_weight: float = 10.0
    penalty_weight: float = 10.0
    segmentation_weight: float = 100.0
    shape_weight: float = 100.0
    augment: str = "standard"


class UAGAN(Method):
    r"""Segment x, translate it to x', translate x' back, and segment x' like x.

    .. math::
        L_D &= E[D(x')] - E[D(x)] + \lambda_{gp} L_{gp} + \lambda_{cls} CE(D_{cls}(x), c) \\
        L_G &= -E[D(x')] + \lambda_{cls} CE(D_{cls}(x'), c') + \lambda_{rec} \|x - G_t(x', c)\|_1
               + \lambda_{seg} CE_w(G_s(x), y) + \lambda_{shape}(\tau) CE_w(G_s(x'), y)

    c' is a random permutation of the batch's own modalities, so that translated images have their frequencies. The
    forward pass gives G_s(x) and x', the backward pass G_t(x', c) and G_s(x'): two passes. The critic is trained on
    the x' that is there already, then judges it anew for the generator.
    """

    Config = UAGANConfig
    config: UAGANConfig
    class_weight: Tensor
    paper_names: ClassVar[dict[str, str]] = {
        "M": "generator.blocks.*.gate",
        "phi": "generator.blocks.*.reduce",
        "G_seg": "generator.decoders.segmentation",
        "G_trans": "generator.decoders.translation",
        "D": "critic",
        "lambda_shape": "config.shape_weight",
    }
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "official": {
            "conditioning": "plane",
            "critic_layers": 6,
            "bounded": False,
            "beta1": 0.0,
            "passes": 3,
            "rate": 1e-4,
            "critic_rate": 1e-4,
        }
    }
    ablations: ClassVar[dict[str, dict[str, object]]] = {
        "fuse": {"fuse": False},
        "trans": {"translate": False},
        "atten": {"gated": False},
        "plane": {"conditioning": "plane"},
    }

    def __init__(self, config: UAGANConfig, problem: Problem):
        super().__init__(config, problem)
        one_of(UAGAN, "passes", config.passes, (2, 3))
        one_of(UAGAN, "conditioning", config.conditioning, ("film", "plane"))
        count = len(problem.labelled)
        self.generator = TwoStream(
            problem.channels,
            problem.n_classes,
            count,
            config.width,
            config.conditioning,
            config.fuse,
            config.gated,
            config.bounded,
            config.dropout,
        )
        self.critic = (
            StarCritic(problem.channels, count, problem.size, config.width, config.critic_layers)
            if config.translate
            else None
        )
        w = config.foreground_weight
        self.register_buffer("class_weight", torch.tensor([1 - w] + [w] * len(problem.classes)), persistent=False)

    def number(self, modality: str) -> int:
        """Index of `modality` in the conditioning. Raises LabError for one it was not trained with."""
        if modality not in self.problem.labelled:
            raise LabError(
                f"UAGAN was not trained with {modality!r}", mend=f"it knows {', '.join(self.problem.labelled)}"
            )
        return self.problem.labelled.index(modality)

    def _numbers(self, image: Tensor, modality: str) -> Tensor:
        return torch.full((len(image),), self.number(modality), device=image.device)

    def stages(self) -> list[Stage]:
        betas = (self.config.beta1, 0.999)
        optimisers: dict[str, torch.optim.Optimizer] = {
            "generator": adam(self.generator.parameters(), self.config.rate, betas)
        }
        if self.critic is not None:
            optimisers["critic"] = adam(self.critic.parameters(), self.config.critic_rate, betas)
        return [Stage("joint", 1.0, optimisers, dict.fromkeys(optimisers, late))]

    def training_step(self, batch: Batch, clock: Clock, update: Update) -> StepResult:
        names = self.problem.labelled
        x = torch.cat([batch[m].image for m in names])
        labels = [label for m in names if (label := batch[m].label) is not None]
        y = torch.cat(labels)
        own = torch.cat([self._numbers(batch[m].image, m) for m in names])
        if self.critic is None:
            return self._reconstruct(x, y, own, update)
        wanted = own[torch.randperm(len(own), device=own.device)]

        there = self.generator(x, wanted)
        shown = there if self.config.passes == 2 else self.generator(x, wanted)
        losses, critic_loss = self._critic_loss(x, shown["translation"].detach(), own)
        update(critic_loss, "critic")

        translated = there["translation"]
        scores, classes = self.critic(translated)
        back = self.generator(translated, own)
        terms = {
            "adversarial": wasserstein_generator(scores),
            "modality": self.config.modality_weight * F.cross_entropy(classes.float(), wanted),
            "reconstruction": self.config.reconstruction_weight * F.l1_loss(back["translation"].float(), x),
            "segmentation": self.config.segmentation_weight * self._ce(there["segmentation"], y),
            "shape": self.config.shape_weight * ramp(clock.progress) * self._ce(back["segmentation"], y),
        }
        update(torch.stack(list(terms.values())).sum(), "generator")
        losses |= {name: value.item() for name, value in terms.items()}
        moved = wanted != own
        losses["change"] = float((translated.detach().float() - x)[moved].abs().mean()) if bool(moved.any()) else 0.0
        return StepResult(losses, {"image": x, "translated": translated.detach(), "back": back["translation"].detach()})

    def _critic_loss(self, x: Tensor, fake: Tensor, own: Tensor) -> tuple[dict[str, float], Tensor]:
        assert self.critic is not None
        scores, classes = self.critic(torch.cat([x, fake]))
        real_score, fake_score = scores.chunk(2)
        terms = {
            "critic": wasserstein_critic(real_score, fake_score),
            "critic_penalty": self.config.penalty_weight * gradient_penalty(lambda t: self.critic(t)[0], x, fake),  # type: ignore[misc]
            "critic_modality": self.config.modality_weight * F.cross_entropy(classes[: len(x)].float(), own),
        }
        return {name: value.item() for name, value in terms.items()}, torch.stack(list(terms.values())).sum()

    def _reconstruct(self, x: Tensor, y: Tensor, own: Tensor, update: Update) -> StepResult:
        """UAGAN-trans: the second stream gives its input back, which needs one pass and no critic."""
        found = self.generator(x, own)
        terms = {
            "reconstruction": self.config.reconstruction_weight * F.l1_loss(found["translation"].float(), x),
            "segmentation": self.config.segmentation_weight * self._ce(found["segmentation"], y),
        }
        update(torch.stack(list(terms.values())).sum(), "generator")
        images = {"image": x, "back": found["translation"].detach()}
        return StepResult({name: value.item() for name, value in terms.items()}, images)

    def _ce(self, logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits.float(), labels, self.class_weight)

    def segment(self, image: Tensor, modality: str, label: str = "given") -> Tensor:
        """(b, k, h, w) -> logits (b, c, h, w).

        In training the translation encoder, whose features the segmenter reads, is told the modality asked for; in a
        test, as in the authors' code, the image's own: `modality`, or
        with label="predicted" what the critic takes each image for: an image of unknown origin can be segmented.
        """
        if label == "predicted":
            if self.critic is None:
                raise LabError("UAGAN-trans has no critic that could tell the modality", mend="use label='given'")
            own = self.critic(image)[1].argmax(1)
        else:
            own = self._numbers(image, modality)
        return self.generator(image, own, ("segmentation",))["segmentation"]

    @property
    def translations(self) -> list[tuple[str, str]]:
        """Between all modalities it was trained with; none for UAGAN-trans."""
        return list(permutations(self.problem.labelled, 2)) if self.critic is not None else []

    def translate(self, image: Tensor, source: str, target: str) -> Tensor:
        """(b, k, h, w) in [-1, 1] -> the same slices as `target`; the network does not ask for the source."""
        return self.generator(image, self._numbers(image, target), ("translation",))["translation"]

    @torch.no_grad()
    def maps(self, batch: Batch) -> dict[str, Map]:
        """What each decoder receives of the other stream, at level 0 (finest) to 3, enlarged to the image's size.

        ``gate/<stream>/<level>/<modality>``      mean of M over channels, 0 to 1 (none for UAGAN-fuse and -atten)
        ``passed/<stream>/<level>/<modality>``    what is added: M times phi(F) of the other stream
        ``features/<stream>/<level>/<modality>``  F of the stream's own encoder

        All `mask`; <stream> names the decoder that receives, or the encoder. The last two are sums over channels set
        to 0..1 an image (the paper's footnote 1), so values of different images do not compare.
        """
        found = {}
        for modality in [m for m in batch if m in self.problem.labelled]:
            image = batch[modality].image
            with record(self.generator, "*tap*") as seen:
                self.generator(image, self._numbers(image, modality))
            for stream in STREAMS:
                for level in range(LEVELS):
                    block = f"blocks.{stream}.{level}"
                    for kind, tap in (
                        ("gate", f"{block}.gate_tap"),
                        ("passed", f"{block}.passed_tap"),
                        ("features", f"encoders.{stream}.taps.{level}"),
                    ):
                        if not seen.get(tap):
                            continue
                        values = seen[tap][0].float()
                        values = values.mean(1, keepdim=True) if kind == "gate" else summed(values)
                        values = F.interpolate(values, image.shape[2:], mode="bilinear", align_corners=False)[:, 0]
                        name = f"{kind}/{stream}/{level}/{modality}"
                        layer = f"generator.{tap}"
                        found[name] = Map("mask", values, modality, layer, (0.0, 1.0), comparable=kind == "gate")
        return found


def summed(feature: Tensor) -> Tensor:
    """(b, c, h, w) -> (b, 1, h, w): sum over channels, each image's smallest value set to 0 and largest to 1.

    0 everywhere where it is the same everywhere but for rounding.
    """
    total = feature.float().sum(1, keepdim=True)
    low, high = total.amin((2, 3), keepdim=True), total.amax((2, 3), keepdim=True)
    flat = high - low <= 1e-6 * torch.maximum(high.abs(), low.abs())
    return torch.where(flat, 0.0, (total - low) / (high - low).clamp_min(1e-8))
