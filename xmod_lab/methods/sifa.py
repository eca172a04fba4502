"""SIFA: adaptation of images and of features in one, through an encoder that does both (Chen et al. 2019, 2020)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from xmod_lab.losses.adversarial import least_squares_critic, least_squares_generator
from xmod_lab.losses.segmentation import share_weighted_cross_entropy, squared_dice
from xmod_lab.maps import Map, difference
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
    half,
    index_of,
    one_of,
    source_and_target,
)
from xmod_lab.methods.cyclegan import apart, begun, mean
from xmod_lab.methods.sifa_config import ABLATIONS, PRESETS, SIFAConfig
from xmod_lab.methods.sifa_maps import maps_of
from xmod_lab.models.critic import PatchCritic
from xmod_lab.models.norm import of_domains
from xmod_lab.models.pool import ImagePool, restore, state_of
from xmod_lab.models.sifa import ClassHead, SharedEncoder, SourceDecoder, StyleGenerator

LEVELS = ("final", "early")
"""of the encoder's features; the heads' names"""
SCHEDULES: dict[str, Callable[[float], float]] = {
    "half": half,
    "constant": lambda _progress: 1.0,
    "stairs": lambda progress: 0.9 ** min(int(10 * progress), 9),
}


class Seen(NamedTuple):
    """One pass through all networks but the critics, of source and target images (b, k, h, w)."""

    to_target: Tensor
    to_source: Tensor
    source_again: Tensor
    target_again: Tensor
    of_target: list[Tensor]
    """logits (b, c, h, w) of each level, of target images"""
    of_made: list[Tensor]
    """and of the translations to it"""


class SIFA(Method):
    r"""A generator G from source to target, an encoder E of target images with a decoder U back to the source and heads
    C_1 and C_2 that segment, critics of images D_s and D_t and of masks D_1 and D_2. Real source images are not seen by
    E: what carries their labels is :math:`x_{st}`.

    .. math::
        x_{st} = G(x_s), \quad x_{ts} = U(E(x_t), x_t), \quad x_{sts} = U(E(x_{st}), x_{st}), \quad x_{tst} = G(x_{ts})

    .. math::
        L_{cyc} &= \|x_{sts} - x_s\|_1 + \|x_{tst} - x_t\|_1 \qquad (1) \\
        L_t &= \mathbb E[(D_t(x_{st}) - 1)^2], \quad L_s = \mathbb E[(D_s(x_{ts}) - 1)^2] \qquad (2) \\
        L_{seg}^i &= CE_w(C_i(E(x_{st})), y_s) + Dice(C_i(E(x_{st})), y_s) \qquad (3) \\
        L_{mask}^i &= \mathbb E[(D_i(C_i(E(x_t))) - 1)^2] \qquad (4) \\
        L_{aux} &= \mathbb E[(D_s'(x_{ts}) - 1)^2] \qquad (5)

    .. math::
        L_{G, U} &= \lambda L_{cyc} + L_t + L_s \qquad (6) \\
        L_{E, C} &= \sum_i w_i L_{seg}^i + \tfrac1{10} (\lambda L_{cyc} + L_s) + \sum_i m_i L_{mask}^i
                    + a L_{aux} + \tfrac\delta2 \|\theta\|^2 \qquad (7)

    Critics minimise :math:`\tfrac12 \mathbb E[(D - 1)^2]` of what is real to them plus :math:`\tfrac12 \mathbb E[D^2]`
    of the rest. To D_s and D_t images are real, pooled translations are not; to D_i masks of :math:`x_{st}` are real,
    those of :math:`x_t` are not; to the second score D_s' :math:`x_{sts}` is real and :math:`x_{ts}` is not. U made
    both, of features that shall not tell where they come from.

    (6) and (7) as in the authors' code: the labels do not move G. Its seven steps, each with a pass of its own, are two
    here, with one pass: first all but the critics, by two backward passes, then the critics on detached tensors.
    """

    Config: ClassVar[type] = SIFAConfig
    config: SIFAConfig
    paper_names: ClassVar[dict[str, str]] = {
        "G_t": "generator",
        "E": "encoder",
        "U": "decoder",
        "C_i": "heads",
        "D_s": "source_critic",
        "D_t": "target_critic",
        "D_p_i": "mask_critics",
        "lambda_cyc": "config.cycle_weight",
        "lambda_p_i": "config.mask_weights",
        "lambda_aux": "config.auxiliary_weight",
    }
    presets = PRESETS
    ablations = ABLATIONS

    @classmethod
    def translates_labelled(cls, config: SIFAConfig) -> bool:
        return True

    def __init__(self, config: SIFAConfig, problem: Problem):
        super().__init__(config, problem)
        for name, known in {"levels": (1, 2), "stride": (0, 4, 8)}.items():
            one_of(SIFA, name, getattr(config, name), known)
        for name in ("schedule", "segmenter_schedule"):
            one_of(SIFA, name, getattr(config, name), SCHEDULES)
        self.source, self.target = source_and_target(problem, "SIFA")
        self.translations = [(self.source, self.target), (self.target, self.source)]
        stride = config.stride or (8 if problem.size >= 256 else 4)
        a_multiple(problem.size, stride, "SIFA")
        c, k, classes, width = config, problem.channels, problem.n_classes, config.width
        self.generator = begun(StyleGenerator(k, width, c.blocks, c.transposed))
        self.encoder = SharedEncoder(k, width, stride, c.dropout)
        self.decoder = begun(SourceDecoder(self.encoder.features, k, width, stride, c.transposed))
        levels = LEVELS[: c.levels]
        self.heads = nn.ModuleDict({level: ClassHead(self.encoder.features, classes, stride) for level in levels})
        self.target_critic = self._critic(k)
        self.source_critic = self._critic(k, 2 if c.auxiliary_weight else 1)
        judged = [level for level, weight in zip(levels, c.mask_weights, strict=False) if weight]
        self.mask_critics = nn.ModuleDict({level: self._critic(classes) for level in judged})
        self.pools = {m: ImagePool(c.pool) for m in (self.source, self.target)}

    def _critic(self, channels: int, heads: int = 1) -> nn.Module:
        c = self.config
        return begun(PatchCritic(channels, c.width, c.critic_layers, affine=True, heads=heads, bias=False,
                                 padding=c.critic_padding))  # fmt: skip

    def stages(self) -> list[Stage]:
        c, betas = self.config, (self.config.beta1, 0.999)
        critics = nn.ModuleList([self.target_critic, self.source_critic, self.mask_critics])
        optimisers: dict[str, torch.optim.Optimizer] = {
            "translators": adam(self._weights("generator", "decoder"), c.rate, betas),
            "segmenter": adam(self._weights("encoder", "heads"), c.segmenter_rate, decay=c.decay),
            "critics": adam(critics.parameters(), c.critic_rate, betas),
        }
        schedules = dict.fromkeys(optimisers, SCHEDULES[c.schedule])
        schedules["segmenter"] = SCHEDULES[c.segmenter_schedule]
        return [Stage("adaptation", 1.0, optimisers, schedules)]

    def _weights(self, *names: str) -> list[nn.Parameter]:
        return [p for name in names for p in self.get_submodule(name).parameters()]

    def training_step(self, batch: Batch, clock: Clock, update: Update) -> StepResult:
        x_s, x_t, label = batch[self.source].image, batch[self.target].image, batch[self.source].label
        assert label is not None
        seen = self.look(x_s, x_t)
        translation, segmentation, terms = self._losses(seen, x_s, x_t, label, clock)
        total = pulled(translation, self._weights("generator", "decoder"), keep=True)
        total = total + pulled(segmentation, self._weights("encoder", "heads"))
        update(total, "translators", "segmenter")

        critic_terms = self._critic_terms(seen, x_s, x_t)
        update(torch.stack(list(critic_terms.values())).sum(), "critics")

        terms["critic"] = mean(critic_terms[f"critic/{m}"] for m in (self.source, self.target))
        losses = {name: value.item() for name, value in (critic_terms | terms).items()}
        changes = (difference(made.detach(), x).mean() for made, x in ((seen.to_target, x_s), (seen.to_source, x_t)))
        losses["change"] = mean(changes).item()
        shown = {"image": (x_s, x_t), "translated": seen[:2], "back": seen[2:4]}
        return StepResult(losses, {name: torch.cat(images).detach() for name, images in shown.items()})

    def look(self, x_s: Tensor, x_t: Tensor) -> Seen:
        """All that a step needs of its images; translations and target images go through E and U together."""
        sizes = [len(x_t), len(x_s)]
        made = self.generator(x_s)
        both = torch.cat([x_t, made.to(x_t.dtype)])
        features = self.encode(both, sizes)
        to_source, source_again = self.decoder(features[0], both).split(sizes)
        logits = [head(level) for head, level in zip(self.heads.values(), features, strict=False)]
        of_target, of_made = zip(*(each.split(sizes) for each in logits), strict=True)
        return Seen(made, to_source, source_again, self.generator(to_source), list(of_target), list(of_made))

    def encode(self, images: Tensor, sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Features of the final and the earlier level, of sizes[0] target images and sizes[1] translations."""
        domains = (0, 1 if self.config.own_statistics else 0)
        with of_domains(self.encoder, [(d, n) for d, n in zip(domains, sizes, strict=True) if n]):
            found: tuple[Tensor, Tensor] = self.encoder(images)
            return found

    def _losses(
        self, seen: Seen, x_s: Tensor, x_t: Tensor, label: Tensor, clock: Clock
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Equations 6 and 7, and their terms by name: those of both directions as means, `reconstruction` weighted."""
        c = self.config
        cycles = c.cycle_weight * (apart(seen.source_again, x_s) + apart(seen.target_again, x_t))
        scores = self.source_critic(seen.to_source)
        to_target = least_squares_generator(self.target_critic(seen.to_target))
        to_source = least_squares_generator(scores[:, :1])
        translation = cycles + to_target + to_source
        segmentation = c.encoder_share * (cycles + to_source)
        terms = {"adversarial": (to_target + to_source) / 2, "reconstruction": cycles / 2}

        def add(name: str, weight: float, term: Tensor) -> None:
            nonlocal segmentation
            terms[name], segmentation = term, segmentation + weight * term

        for i, level in enumerate(self.heads):
            entropy = share_weighted_cross_entropy(seen.of_made[i], label, c.floor)
            add(f"segmentation/{level}", c.segmentation_weights[i], entropy + squared_dice(seen.of_made[i], label))
        ramp = min(max((20 * clock.progress - 4) / 3, 0.0), 1.0) if c.ramp else 1.0
        for level, critic in self.mask_critics.items():
            i = LEVELS.index(level)
            fooled = least_squares_generator(critic(self.mask(seen.of_target[i])))
            add(f"adversarial/{level}", ramp * c.mask_weights[i], fooled)
        if c.auxiliary_weight:
            add("adversarial/auxiliary", c.auxiliary_weight, least_squares_generator(scores[:, 1:]))
        return translation, segmentation, terms

    def _critic_terms(self, seen: Seen, x_s: Tensor, x_t: Tensor) -> dict[str, Tensor]:
        """The critics' losses on detached tensors; each sees real and generated ones in one pass."""
        to_target = self.pools[self.target].draw(seen.to_target)
        to_source = self.pools[self.source].draw(seen.to_source)
        n, again = len(x_s), [seen.source_again.detach()] if self.config.auxiliary_weight else []
        scores = self.source_critic(torch.cat([x_s, to_source, *again]))
        fake = scores[n : n + len(to_source)]
        terms = {
            f"critic/{self.target}": told(self.target_critic, x_t, to_target),
            f"critic/{self.source}": least_squares_critic(scores[:n, :1], fake[:, :1]),
        }
        if again:
            terms["critic/auxiliary"] = least_squares_critic(scores[n + len(to_source) :, 1:], fake[:, 1:])
        for level, critic in self.mask_critics.items():
            i = LEVELS.index(level)
            masks = [self.mask(of[i].detach()) for of in (seen.of_made, seen.of_target)]
            terms[f"critic/{level}"] = told(critic, *masks)
        return terms

    def mask(self, logits: Tensor) -> Tensor:
        """What critics of masks are shown of logits (b, c, h, w)."""
        return logits.float() if self.config.logits else logits.float().softmax(1)

    def extra_state(self) -> dict[str, Tensor]:
        return state_of(self.pools)

    def load_extra_state(self, state: dict[str, Tensor]) -> None:
        restore(self.pools, state)

    def translate(self, image: Tensor, source: str, target: str) -> Tensor:
        """(b, k, h, w) in [-1, 1] -> the same slices as `target`; those of `target` itself stay as they are."""
        for modality in (source, target):
            index_of(modality, self.problem.modalities)
        if source == target:
            return image
        if source == self.source:
            return self.generator(image)
        return self.decoder(self.encode(image, (len(image), 0))[0], image)

    def segment(self, image: Tensor, modality: str) -> Tensor:
        """(b, k, h, w) -> logits (b, c, h, w) of the final level; source images are translated first."""
        return self.segmentations(image, modality)[0]

    def segmentations(self, image: Tensor, modality: str) -> list[Tensor]:
        """Logits (b, c, h, w) of each level."""
        index_of(modality, self.problem.modalities)
        real = modality == self.target
        sizes = (len(image), 0) if real else (0, len(image))
        features = self.encode(image if real else self.generator(image), sizes)
        return [head(level) for head, level in zip(self.heads.values(), features, strict=False)]

    def maps(self, batch: Batch) -> dict[str, Map]:
        """What translation adds, where the heads are in doubt, what the critics say: `methods.sifa_maps.maps_of`."""
        return maps_of(self, batch)


def told(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """Loss of a critic that sees both in one pass."""
    return least_squares_critic(*critic(torch.cat([real, fake])).split([len(real), len(fake)]))


def pulled(loss: Tensor, weights: Sequence[nn.Parameter], keep: bool = False) -> Tensor:
    """A scalar whose gradient to `weights` is that of `loss`, and which reaches nothing else.

    Two losses of one pass, each for other networks, become one for `update`: a step that follows the first would change
    weights that the second one's backward pass still needs. keep: another loss of the same pass is to come.
    """
    with torch.autocast(loss.device.type, enabled=False):
        gradients = torch.autograd.grad(loss, weights, retain_graph=keep, allow_unused=True)
        found = [torch.dot(w.flatten(), g.flatten()) for w, g in zip(weights, gradients, strict=True) if g is not None]
        return torch.stack(found).sum()
