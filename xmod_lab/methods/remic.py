"""ReMIC without pairs: a content code shared by all modalities, a style of each (Shen et al., IEEE TMI 2020).

The paper completes missing modalities of registered images. TarGAN's comparison has an unsupervised form of it, which
is not described; this is our reading: a sample has one modality, the others' channels are zero, and the term that needs
a registered truth is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xmod_lab.errors import LabError
from xmod_lab.losses.adversarial import least_squares_critic, least_squares_generator
from xmod_lab.losses.segmentation import dice_cross_entropy
from xmod_lab.maps import Map, difference, over_image
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
    half,
    index_of,
)
from xmod_lab.models.content_style import STYLE, ContentEncoder, ContentSegmenter, StyleDecoder, StyleEncoder
from xmod_lab.models.critic import MultiScaleCritic

GROUPS = 4
"""of channels of the content code in its map"""
MEMORY = 100
"""steps over which the mean style is taken"""


@dataclass(frozen=True)
class ReMICConfig:
    """The layers are MUNIT's, on which ReMIC builds; no code of ReMIC itself is known.

    blocks        residual blocks of the content encoder and of each decoder
    scales, critic_layers   of the critics: MUNIT's 4 layers, which see enough of a slice to tell which organ they are
                  looking at (in trials with 3, a liver that is bright in CT stayed bright in T2w); MUNIT has 3 scales,
                  the coarsest of which needs slices of 64 pixels
    rate, critic_rate   1e-4 both in MUNIT's code, with weight decay 1e-4, for a million steps
    reconstruction_weight, image_weight   of a slice against its way there and back, and against its own content and
                  style put together again: 10 both
    segmentation_weight   of soft Dice + cross-entropy of what the segmenter finds in the content code
    """

    width: int = 16
    rate: float = 1e-3
    critic_rate: float = 1e-3
    beta1: float = 0.5
    decay: float = 0.0
    blocks: int = 4
    scales: int = 2
    critic_layers: int = 4
    reconstruction_weight: float = 10.0
    image_weight: float = 10.0
    content_weight: float = 1.0
    style_weight: float = 1.0
    segmentation_weight: float = 1.0
    augment: str = "standard"


class ReMIC(Method):
    r"""Content :math:`c = E_c(x_i)` and a random style :math:`\tilde s_j \sim N(0, I)` make the slice in modality j.

    .. math::
        x'_j &= G_j(c, \tilde s_j), \qquad s_i = E_{s_i}(x_i) \\
        L_D &= \tfrac12 E[(D_j(x_j) - 1)^2] + \tfrac12 E[D_j(x'_j)^2] \\
        L_G &= E[(D_j(x'_j) - 1)^2] + \lambda_{rec} \|G_i(E_c(x'_j), s_i) - x_i\|_1 \\
            &\quad + \lambda_x \|G_i(c, s_i) - x_i\|_1 + \lambda_c \|E_c(x'_j) - c\|_1 \\
            &\quad + \lambda_s \|E_{s_j}(x'_j) - \tilde s_j\|_1 + \lambda_{seg} L_{seg}(G_s(c), y)

    In each step all slices of a modality go to one other, and each modality is the aim of one other, so that every
    critic and decoder has its turn. The least squares of a critic's scales are summed, everything else is a mean.

    At test a style drawn for each slice would change the contrast within a volume. So there is one style a modality:
    the running mean over the last hundred steps of the styles that its encoder reads off real slices
    (`style_running_mean`, a buffer: saved with the weights and averaged across processes like those of batch
    normalisation). `segment` asks the content code alone.
    """

    Config = ReMICConfig
    config: ReMICConfig
    style_running_mean: Tensor
    style_steps: Tensor
    paper_names: ClassVar[dict[str, str]] = {
        "E^c": "content",
        "E^s": "styles",
        "G": "decoders",
        "G_s": "segmenter",
        "D": "critics",
    }
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "munit": {"scales": 3, "rate": 1e-4, "critic_rate": 1e-4, "decay": 1e-4}
    }
    ablations: ClassVar[dict[str, dict[str, object]]] = {
        "content": {"content_weight": 0.0},
        "style": {"style_weight": 0.0},
    }

    def __init__(self, config: ReMICConfig, problem: Problem):
        super().__init__(config, problem)
        self.names = problem.labelled
        at_least_two(self.names, "ReMIC")
        a_multiple(problem.size, 4, "ReMIC")
        if problem.size < (least := 2 ** (config.critic_layers + config.scales - 1)):
            raise LabError(
                f"the coarsest critic needs slices of {least} pixels, these have {problem.size}",
                where="ReMIC.critic_layers, ReMIC.scales",
                mend="lower one of them",
            )
        k, width, blocks = problem.channels, config.width, config.blocks

        def each(make: Callable[[], nn.Module]) -> nn.ModuleDict:
            return nn.ModuleDict({m: make() for m in self.names})

        self.content = ContentEncoder(k * len(self.names), width, blocks)
        self.styles = each(lambda: StyleEncoder(k, width))
        self.decoders = each(lambda: StyleDecoder(k, width, blocks))
        self.segmenter = ContentSegmenter(problem.n_classes, width)
        self.critics = each(lambda: MultiScaleCritic(k, width, config.scales, config.critic_layers))
        self.register_buffer("style_running_mean", torch.zeros(len(self.names), STYLE))
        self.register_buffer("style_steps", torch.tensor(0))

    def stages(self) -> list[Stage]:
        config, betas = self.config, (self.config.beta1, 0.999)
        makers = nn.ModuleList([self.content, self.styles, self.decoders, self.segmenter])
        optimisers: dict[str, torch.optim.Optimizer] = {
            "generator": adam(makers.parameters(), config.rate, betas, config.decay),
            "critics": adam(self.critics.parameters(), config.critic_rate, betas, config.decay),
        }
        return [Stage("joint", 1.0, optimisers, dict.fromkeys(optimisers, half))]

    def contents(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Content codes (b, 4 width, h/4, w/4) of slices (b, k, h, w) of each modality, in one pass.

        The encoder reads the channels of all modalities one after the other; those of the missing ones are zero.
        """
        k, rows = self.problem.channels, []
        for m, image in images.items():
            before = k * index_of(m, self.names)
            rows.append(F.pad(image, (0, 0, 0, 0, before, k * len(self.names) - k - before)))
        codes = self.content(torch.cat(rows)).split([len(row) for row in rows])
        return dict(zip(images, codes, strict=True))

    def training_step(self, batch: Batch, clock: Clock, update: Update) -> StepResult:
        x = {m: batch[m].image for m in self.names}
        shift = int(torch.randint(1, len(self.names), ()))
        aim = {m: self.names[(i + shift) % len(self.names)] for i, m in enumerate(self.names)}
        content, style = self.contents(x), {m: self.styles[m](x[m]) for m in self.names}
        drawn = {m: torch.randn(len(x[m]), STYLE, device=x[m].device) for m in self.names}
        made = {m: self.decoders[aim[m]](content[m], drawn[m]) for m in self.names}

        critic_loss = mean(
            scales(least_squares_critic, self.critics[t](x[t]), self.critics[t](made[m].detach()))
            for m, t in aim.items()
        )
        update(critic_loss, "critics")

        read = self.contents({aim[m]: made[m] for m in self.names})
        again = {m: read[t] for m, t in aim.items()}
        back = {m: self.decoders[m](again[m], style[m]) for m in self.names}
        own = {m: self.decoders[m](content[m], style[m]) for m in self.names}
        logits = self.segmenter(torch.cat(list(content.values())))
        labels = [label for m in self.names if (label := batch[m].label) is not None]
        config = self.config
        terms = {
            "adversarial": mean(scales(least_squares_generator, self.critics[t](made[m])) for m, t in aim.items()),
            "reconstruction": config.reconstruction_weight * mean(apart(back[m], x[m]) for m in self.names),
            "image": config.image_weight * mean(apart(own[m], x[m]) for m in self.names),
            "content": config.content_weight * mean(apart(again[m], content[m]) for m in self.names),
            "style": config.style_weight * mean(apart(self.styles[t](made[m]), drawn[m]) for m, t in aim.items()),
            "segmentation": config.segmentation_weight * dice_cross_entropy(logits.float(), torch.cat(labels)),
        }
        update(torch.stack(list(terms.values())).sum(), "generator")
        self._remember(style)
        losses = {"critic": critic_loss.item()} | {name: value.item() for name, value in terms.items()}
        losses["change"] = mean(apart(made[m], x[m]) for m in self.names).item()
        images = {"image": x, "translated": made, "back": back}
        return StepResult(losses, {name: torch.cat(list(v.values())).detach() for name, v in images.items()})

    @torch.no_grad()
    def _remember(self, style: Mapping[str, Tensor]) -> None:
        """Move the mean styles towards this step's: the plain mean of the first hundred steps, a running one after."""
        now = torch.stack([style[m].detach().float().mean(0) for m in self.names])
        self.style_steps += 1
        self.style_running_mean.lerp_(now, 1 / self.style_steps.clamp(max=MEMORY))

    def _decode(self, content: Tensor, modality: str) -> Tensor:
        style = self.style_running_mean[index_of(modality, self.names)]
        return self.decoders[modality](content, style.expand(len(content), -1))

    @property
    def translations(self) -> list[tuple[str, str]]:
        """From each modality it was trained with to each other."""
        return list(permutations(self.names, 2))

    def translate(self, image: Tensor, source: str, target: str) -> Tensor:
        """(b, k, h, w) in [-1, 1] -> the same slices as `target`, all in its one mean style."""
        index_of(target, self.names)
        return self._decode(self.contents({source: image})[source], target)

    def segment(self, image: Tensor, modality: str) -> Tensor:
        """(b, k, h, w) -> logits (b, c, h, w) from the content code."""
        return self.segmenter(self.contents({modality: image})[modality])

    @torch.no_grad()
    def maps(self, batch: Batch) -> dict[str, Map]:
        """Of the slices of <modality>, those of two indices translated to each <target> in its mean style:

        ``content/<modality>``      means of four groups of channels of the content code, enlarged (`stack`): alike in
                                    all modalities if the code holds the anatomy alone
        ``probability/<modality>``  classes that the segmenter finds in it (`stack`)
        ``residual/<target>/<modality>``        |x' - x|, 0 to 2 (`mask`)
        ``cycle_residual/<target>/<modality>``  |x'' - x| of the way there and, with its own style, back (`mask`)
        """
        found = {}
        classes = ("background", *self.problem.classes)
        groups = tuple(f"channel group {i}" for i in range(1, GROUPS + 1))
        for m in [m for m in batch if m in self.names]:
            x = batch[m].image
            code, style = self.contents({m: x})[m], self.styles[m](x)
            means = over_image(code.float().unflatten(1, (GROUPS, -1)).mean(2), x)
            found[f"content/{m}"] = Map("stack", means, m, "content", names=groups)
            seen = self.segmenter(code).float().softmax(1)
            found[f"probability/{m}"] = Map("stack", seen, m, "segmenter", (0.0, 1.0), names=classes)
            for t in [t for t in self.names if t != m]:
                made = self._decode(code, t)
                back = self.decoders[m](self.contents({t: made})[t], style)
                for kind, image in (("residual", made), ("cycle_residual", back)):
                    found[f"{kind}/{t}/{m}"] = Map("mask", difference(image, x), m, f"decoders.{t}", (0.0, 2.0))
        return found


def mean(terms: Iterable[Tensor]) -> Tensor:
    """Mean of scalars, one a modality."""
    return torch.stack(list(terms)).mean()


def apart(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference, in float32."""
    return F.l1_loss(a.float(), b.float())


def scales(loss: Callable[..., Tensor], *scores: list[Tensor]) -> Tensor:
    """Sum of `loss` over the scales of a critic: of its scores of real and made images, or of made ones."""
    return torch.stack([loss(*of_scale) for of_scale in zip(*scores, strict=True)]).sum()
