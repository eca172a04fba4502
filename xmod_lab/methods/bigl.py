"""BiGL: adaptation by translation both ways, and by outputs, features and attention that agree (He et al.)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from xmod_lab.errors import LabError
from xmod_lab.losses.consistency import accuracy, consistency_loss, critic_loss, output_consistency
from xmod_lab.losses.segmentation import cross_entropy, generalised_dice
from xmod_lab.maps import Map
from xmod_lab.methods.base import (
    Batch,
    Clock,
    Method,
    Problem,
    Stage,
    StepResult,
    Update,
    adam,
    index_of,
    one_of,
    polynomial,
    sgd,
    source_and_target,
)
from xmod_lab.methods.bigl_config import ABLATIONS, PRESETS, VALUES, BiGLConfig
from xmod_lab.methods.bigl_maps import maps_of
from xmod_lab.methods.cyclegan import CycleGAN, CycleGANConfig
from xmod_lab.methods.pix2pix import Pix2Pix, Pix2PixConfig
from xmod_lab.methods.translated import along, derivation, translation
from xmod_lab.models.bigl import DualAttentionUNet, FeatureCritic, RowCritic, Sight, map_critic, shown

LOOKS = {"source": ("s", "t->s"), "target": ("s->t", "t")}
"""what an image looks like -> the image of that look that has labels, and the one that shall become like it"""


class BiGL(Method):
    r"""One segmenter :math:`\Phi` for four images: :math:`x_s`, its translation :math:`x_{s \to t}`, :math:`x_t` and
    :math:`x_{t \to s}`.

    First stage: the translators, CycleGAN's loss (`synth`). They are frozen then, and their images derived once.
    Second stage, with features after the attention block (feat) and its maps of positions (pos) and channels (ch):

    .. math::
        L_\Phi &= L_{seg}(\Phi(x_s), y_s) + L_{seg}(\Phi(x_{s \to t}), y_s)
                  + \lambda_{out} \tfrac1{hw} \|\Phi(x_t) - \Phi(x_{t \to s})\|_2^2 \\
               &- \lambda_{gtl} \sum_{k} \left( E[\ln D^k_s(u^k_{t \to s})] + E[\ln D^k_t(u^k_t)] \right) \\
        L_D &= -\sum_k \left( E[\ln D^k_s(u^k_s)] + E[\ln(1 - D^k_s(u^k_{t \to s}))]
               + E[\ln D^k_t(u^k_{s \to t})] + E[\ln(1 - D^k_t(u^k_t))] \right)

    k in feat, pos, ch, and :math:`L_{seg}` cross-entropy + generalised Dice. Equations 4 to 10. In print the Dice, the
    output's consistency and the adversarial terms of :math:`\Phi` have the other sign (preset "printed"), and equation
    10 puts the critics' own objective into the sum that the segmenter minimises. Within each look the image without
    labels is drawn to the one that has them, as equation 7 says; the second rows of equations 7 and 9, forgotten in 10,
    are used. Equation 2, whose two terms pull a critic one way, is `losses.consistency.printed_critic_loss`.

    In each step the segmenter moves first, then the six critics, on the same features and maps of one forward pass.
    """

    Config = BiGLConfig
    config: BiGLConfig
    paper_names: ClassVar[dict[str, str]] = {
        "G": "translators",
        "Phi": "segmenter",
        "A^Pos": "segmenter.attention.position.map",
        "A^Cha": "segmenter.attention.channel.map",
        "alpha": "segmenter.attention.*.gamma",
        "xi": "segmenter.attention",
        "D_s, D_t": "critics",
        "lambda_out": "config.output_weight",
        "lambda_gtl": "config.gtl_weight",
    }
    presets = PRESETS
    ablations = ABLATIONS

    @classmethod
    def translates_labelled(cls, config: BiGLConfig) -> bool:
        return not config.learn_source

    def __init__(self, config: BiGLConfig, problem: Problem):
        super().__init__(config, problem)
        for field, known in VALUES.items():
            one_of(BiGL, field, getattr(config, field), known)
        self.source, self.target = source_and_target(problem, "BiGL")
        self.translations = [(self.source, self.target), (self.target, self.source)]
        self.own = {m: (m, other, m) if config.reconstructed else (m,) for m, other in self.translations}
        if config.align_attention and not (config.dual_attention and config.attend):
            what = "a block without attention" if config.dual_attention else "a plain U-Net"
            raise LabError(f"{what} has no attention to align", where="BiGL.align_attention", mend="set it false")
        if not (config.learn_source or config.learn_translated):
            raise LabError("nothing is learned from labels", where="BiGL.learn_source", mend="set one of the two true")
        if config.reconstructed and not config.translation_share:
            raise LabError("its translators do not train", where="BiGL.reconstructed", mend="give them a share")
        self.translators = nn.ModuleDict(self._translators())
        c, k = config, problem.channels
        self.segmenter = DualAttentionUNet(
            k, problem.n_classes, problem.size, c.width, c.dropout, c.dual_attention,
            c.attention_form, c.channel_mode, c.attend,  # type: ignore[arg-type]  # one_of has seen them
        )  # fmt: skip
        maps = c.align_attention * ("position", "channel")
        self.kinds = (*(c.align_features * ("feature",)), *maps) if c.gtl_weight else ()
        self.adapts = bool(c.learn_translated or c.output_weight or self.kinds)
        self.critics = nn.ModuleDict({f"{kind}/{look}": self._critic(kind) for kind in self.kinds for look in LOOKS})

    def _translators(self) -> dict[str, Method]:
        c, problem = self.config, self.problem
        rates = {"width": c.width, "rate": c.translator_rate, "critic_rate": c.translator_rate}
        if c.synth == "cyclegan":
            config = CycleGANConfig(
                **rates, blocks=c.blocks, critic_layers=c.critic_layers, pool=c.pool, identity_weight=c.identity_weight,  # type: ignore[arg-type]
                reconstruction_weight=c.reconstruction_weight, shape_weight=c.shape_weight,
            )  # fmt: skip
            return {"cyclegan": CycleGAN(config, problem)}
        if not problem.paired or c.shape_weight:
            raise LabError(
                "paired synthesis learns from registered pairs, without a shape term",
                where="BiGL.synth",
                mend="take a task with `draw: paired` and shape_weight 0, or synth=cyclegan",
            )
        pair = Pix2PixConfig(**rates, pair_weight=c.pair_weight)  # type: ignore[arg-type]
        return {f"{s}->{t}": Pix2Pix(pair, dataclasses.replace(problem, modalities=(s, t)))
                for s, t in self.translations}  # fmt: skip

    def _critic(self, kind: str) -> nn.Module:
        width, features = self.config.width, self.segmenter.features
        if kind == "feature":
            return FeatureCritic(features, 4 * width)
        edge = self.segmenter.positions if kind == "position" else features
        if self.config.map_critic == "rows":
            return RowCritic(edge, 4 * width)
        return map_critic(edge, width if self.config.wide_critics else width // 2)

    def stages(self) -> list[Stage]:
        c = self.config
        optimisers: dict[str, torch.optim.Optimizer] = {}
        schedules: dict[str, Callable[[float], float]] = {}
        for name, translator in self.translators.items():
            (stage,) = translator.stages()  # type: ignore[operator]
            optimisers |= {f"{name}/{o}": optimiser for o, optimiser in stage.optimisers.items()}
            schedules |= {f"{name}/{o}": factor for o, factor in stage.schedules.items()}
        first = Stage("translation", c.translation_share, optimisers, schedules, ("translators",))
        weights = self.segmenter.parameters()
        optimisers = {"segmenter": adam(weights, c.rate) if c.optimiser == "adam" else sgd(weights, c.rate, 0.9, 5e-4)}
        if self.kinds:
            optimisers["critics"] = adam(self.critics.parameters(), c.critic_rate, (0.9, 0.99))
        falling: dict[str, Callable[[float], float]] = {"segmenter": partial(polynomial, power=c.power)}
        trained = ("segmenter", *(["critics"] if self.kinds else []))
        ways = self.translations if self.adapts else []
        paths = [*ways, *(self.own[s] for s, _ in ways if c.reconstructed)]
        derive = {name: fn for path in paths for name, fn in derivation(self.translate, *path).items()}
        return [first, Stage("segmentation", 1 - c.translation_share, optimisers, falling, trained, derive)]

    def training_step(self, batch: Batch, clock: Clock, update: Update) -> StepResult:
        if clock.stage == "translation":
            return self._translation_step(batch, clock, update)
        return self._segmentation_step(batch, update)

    def _translation_step(self, batch: Batch, clock: Clock, update: Update) -> StepResult:
        """A step of CycleGAN, or one of Pix2Pix for each direction, by these methods' own code."""
        losses: dict[str, float] = {}
        images: dict[str, Tensor] = {}
        for name, translator in self.translators.items():
            step = translator.training_step(batch, clock, _under(name, update))  # type: ignore[operator]
            losses |= {f"{key}/{name}": value for key, value in step.losses.items()}
            images |= {key if len(self.translators) == 1 else f"{key}/{name}": i for key, i in step.images.items()}
        return StepResult(losses, images)

    def _segmentation_step(self, batch: Batch, update: Update) -> StepResult:
        c, s, t = self.config, self.source, self.target
        label = batch[s].label
        assert label is not None
        images = {"s": translation(self.translate, batch, *self.own[s])}
        if self.adapts:
            images |= {"s->t": translation(self.translate, batch, s, t),
                       "t": translation(self.translate, batch, *self.own[t]),
                       "t->s": translation(self.translate, batch, t, s)}  # fmt: skip
        seen = self.see(images, mapped="position" in self.kinds)
        terms: dict[str, Tensor] = {}
        if c.learn_source:
            terms["segmentation"] = self._supervised(seen["s"].logits, label)
        if c.learn_translated:
            terms["segmentation/translated"] = self._supervised(seen["s->t"].logits, label)
        if self.adapts:
            apart = output_consistency(seen["t"].logits, seen["t->s"].logits, c.literal)
            terms["output"] = c.output_weight * apart
        for kind in self.kinds:
            told = [consistency_loss(self.scores(kind, look, seen[away]), c.literal)
                    for look, (_, away) in LOOKS.items()]  # fmt: skip
            terms[kind] = c.gtl_weight * torch.stack(told).sum()
        update(torch.stack(list(terms.values())).sum(), "segmenter")

        critic_terms, right = {}, {}
        for kind in self.kinds:
            sides = [self._told(kind, look, seen[home], seen[away]) for look, (home, away) in LOOKS.items()]
            critic_terms[f"critic/{kind}"] = torch.stack([critic_loss(*side) for side in sides]).sum()
            right[f"accuracy/{kind}"] = torch.stack([accuracy(*side) for side in sides]).mean()
        if critic_terms:
            update(torch.stack(list(critic_terms.values())).sum(), "critics")

        losses = {name: value.item() for name, value in (terms | critic_terms | right).items()}
        for name in ("position", "channel"):
            if (attention := getattr(self.segmenter.attention, name, None)) is not None:
                losses[f"gamma/{name}"] = attention.gamma.item()
        if not self.adapts:
            return StepResult(losses)
        made = torch.cat([images["s->t"], images["t->s"]])
        return StepResult(losses, {"image": torch.cat([batch[m].image for m in (s, t)]), "translated": made})

    def as_seen(self, image: Tensor, modality: str) -> Tensor:
        """What the segmenter is shown of an image (b, k, h, w): itself, or its reconstruction (`reconstructed`)."""
        return along(self.translate, image, *self.own[modality])

    def _supervised(self, logits: Tensor, label: Tensor) -> Tensor:
        """Equation 4; as printed its minus stands before the Dice loss as well."""
        dice = generalised_dice(logits, label, self.config.literal)
        return cross_entropy(logits.float(), label) + (-dice if self.config.literal else dice)

    def see(self, images: Mapping[str, Tensor], mapped: bool = False) -> dict[str, Sight]:
        """What the segmenter sees in images (b, k, h, w) by name, in one forward pass."""
        whole = self.segmenter(torch.cat(list(images.values())), mapped)
        return dict(zip(images, whole.split([len(image) for image in images.values()]), strict=True))

    def scores(self, kind: str, look: str, sight: Sight) -> Tensor:
        """Logits (b, 1, u, v) of a critic of that kind and look: large for what it takes for an image with labels."""
        return self.critics[f"{kind}/{look}"](self._shown(kind, sight))

    def _shown(self, kind: str, sight: Sight) -> Tensor:
        if kind == "feature":
            return sight.feature
        return shown(getattr(sight, kind), self.config.map_scale)  # type: ignore[arg-type]

    def _told(self, kind: str, look: str, home: Sight, away: Sight) -> list[Tensor]:
        """Scores of both, which the critic sees in one pass and cut off from the segmenter."""
        both = [self._shown(kind, sight).detach() for sight in (home, away)]
        return list(self.critics[f"{kind}/{look}"](torch.cat(both)).split([len(part) for part in both]))

    def extra_state(self) -> dict[str, Tensor]:
        """The translators' pools."""
        return {f"{name}/{key}": value for name, translator in self.translators.items()
                for key, value in translator.extra_state().items()}  # type: ignore[operator]  # fmt: skip

    def load_extra_state(self, state: dict[str, Tensor]) -> None:
        for name, translator in self.translators.items():
            own = {key.removeprefix(f"{name}/"): v for key, v in state.items() if key.startswith(f"{name}/")}
            translator.load_extra_state(own)  # type: ignore[operator]

    def translate(self, image: Tensor, source: str, target: str) -> Tensor:
        """(b, k, h, w) in [-1, 1] -> the same slices as `target`; those of `target` itself stay as they are."""
        for modality in (source, target):
            index_of(modality, self.problem.modalities)
        found = (m for m in self.translators.values() if (source, target) in m.translations)  # type: ignore[operator]
        return image if source == target else next(found).translate(image, source, target)  # type: ignore[operator]

    def segment(self, image: Tensor, modality: str) -> Tensor:
        """(b, k, h, w) of either modality -> logits (b, c, h, w)."""
        index_of(modality, self.problem.modalities)
        logits: Tensor = self.segmenter(self.as_seen(image, modality)).logits
        if not self.config.average or modality == self.source:
            return logits
        other = self.segmenter(self.translate(image, self.target, self.source)).logits
        return ((logits.float().softmax(1) + other.float().softmax(1)) / 2).clamp_min(1e-12).log()

    def maps(self, batch: Batch) -> dict[str, Map]:
        """What the segmenter attends to in slices and in their translations: `methods.bigl_maps.maps_of`."""
        return maps_of(self, batch)


def _under(name: str, update: Update) -> Update:
    """An update whose optimisers are called ``name/...``."""
    return lambda loss, *names: update(loss, *(f"{name}/{n}" for n in names))
