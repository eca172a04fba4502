"""SASAN: translation normalised by what an attention module sees (Tomar et al. 2021)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xmod_lab.errors import LabError
from xmod_lab.losses.adversarial import least_squares_critic, least_squares_generator
from xmod_lab.losses.attention import orthogonality
from xmod_lab.losses.segmentation import balanced_cross_entropy, soft_dice
from xmod_lab.losses.similarity import structural_similarity
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
    exactly_two,
    half,
    index_of,
    late,
)
from xmod_lab.methods.pairs import pairs
from xmod_lab.methods.sasan_config import ABLATIONS, PRESETS, SASANConfig
from xmod_lab.methods.sasan_maps import maps_of
from xmod_lab.models.blocks import LARGE
from xmod_lab.models.critic import PatchCritic
from xmod_lab.models.sasan import AttentionModule, Synthesis


class Seen(NamedTuple):
    """What an attention module sees: maps (b, n, h, w) and, where there were labels to learn, logits (b, c, h, w)."""

    maps: Tensor
    logits: Tensor | None

    def classes(self) -> Tensor:
        """Probabilities (b, c, h, w) in float32."""
        assert self.logits is not None
        return self.logits.float().softmax(1)


Images = dict[str, Tensor]
Sights = dict[str, Seen]


class SASAN(Method):
    r"""Two modalities, a generator for each direction, an attention module for each modality.

    .. math:: x' = G_{s \to t}(x_s; A_s(x_s)), \qquad x'' = G_{t \to s}(x'; A_t(x'))

    .. math::
        L = L_{adv} + L_{seg} + \lambda_c (\|x'' - x\|_1 + 1 - SSIM(x'', x)) + \lambda_{id} \|G_{s \to t}(x_t) - x_t\|_1
            + \lambda_{reg} O(A(x)) + \lambda_{aux} L_{aux} + \lambda_v \|x' - x_t\|_1

    each a mean over the two modalities. The segmentation critic takes what A of a labelled modality sees in its real
    images for real; what it sees in translations to it, and what A of an unlabelled modality sees, must look like that.
    The auxiliary loss holds A to labels: true ones, those of the image that a translation was made of, and, for images
    of an unlabelled modality, what the other module sees in their translation (section 3.2.5).

    Without labels (paired translation) neither of these two is there, nor the first stage.
    """

    Config = SASANConfig
    config: SASANConfig
    paper_names: ClassVar[dict[str, str]] = {
        "A": "attention",
        "S": "generators",
        "D": "critics",
        "D_seg": "seg_critic",
        "lambda_c": "config.reconstruction_weight",
        "lambda_id": "config.identity_weight",
        "lambda_reg": "config.orthogonality_weight",
        "lambda_aux": "config.auxiliary_weight",
    }
    presets = PRESETS
    ablations = ABLATIONS

    def __init__(self, config: SASANConfig, problem: Problem):
        super().__init__(config, problem)
        exactly_two(problem.modalities, "SASAN")
        a_multiple(problem.size, 32 if config.low_resolution else 16, "SASAN")
        if problem.size < (least := 64 if config.low_resolution else 32):
            raise LabError(f"SASAN needs slices of {least} pixels at least, these have {problem.size}", where="SASAN")
        k, n, width = problem.channels, config.attention_maps, config.width // 2
        a, b = problem.modalities
        self.translations = [(a, b), (b, a)]
        classes = problem.n_classes if problem.labelled else 0
        self.attention = nn.ModuleDict({m: AttentionModule(k, classes, n, width) for m in (a, b)})
        self.generators = nn.ModuleDict(
            {f"{s}->{t}": Synthesis(k, n, width, config.shifted) for s, t in self.translations}
        )
        critic = config.width if config.wide_critics else width
        self.critics = nn.ModuleDict({m: PatchCritic(k, critic, config.critic_layers, extra=0) for m in (a, b)})
        seg = bool(problem.labelled and config.seg_weight)
        self.seg_critic = PatchCritic(classes, critic, 3, extra=0, grow=False) if seg else None

    def stages(self) -> list[Stage]:
        c, betas, labelled = self.config, (self.config.beta1, 0.999), self.problem.labelled
        first = bool(labelled and c.pretraining)
        learning = [m for m in self.attention if not self._fixed(m)]
        parts = ["generators", *(f"attention.{m}" for m in learning)]
        critics = ["critics", *(["seg_critic"] if self.seg_critic is not None else [])]
        optimisers: dict[str, torch.optim.Optimizer] = {
            "generators": adam(self._weights(parts), c.rate, betas),
            "critics": adam(self._weights(critics), c.critic_rate, betas),
        }
        share = c.pretraining if first else 0.0
        cycle = Stage("cycle", 1 - share, optimisers, dict.fromkeys(optimisers, half), (*parts, *critics))
        if not first:
            return [cycle]
        seeing = [f"attention.{m}" for m in labelled]
        optimiser: dict[str, torch.optim.Optimizer] = {"attention": adam(self._weights(seeing), c.attention_rate)}
        return [Stage("attention", share, optimiser, {"attention": late}, tuple(seeing)), cycle]

    def _fixed(self, modality: str) -> bool:
        """Whether the modality's attention module stays as the first stage left it."""
        return bool(self.config.frozen and self.config.pretraining and modality in self.problem.labelled)

    def _weights(self, names: list[str]) -> list[nn.Parameter]:
        return [p for name in names for p in self.get_submodule(name).parameters()]

    def training_step(self, batch: Batch, clock: Clock, update: Update) -> StepResult:
        if clock.stage == "attention":
            return self._attention_step(batch, update)
        return self._cycle_step(batch, update)

    def _attention_step(self, batch: Batch, update: Update) -> StepResult:
        terms = {}
        for m in self.problem.labelled:
            maps, logits = self.attention[m](self.small(batch[m].image))
            terms[f"segmentation/{m}"] = self._segmentation(logits, self._label(batch, m))
            terms[f"orthogonality/{m}"] = self.config.orthogonality_weight * orthogonality(maps, self.config.literal)
        update(torch.stack(list(terms.values())).sum() / len(self.problem.labelled), "attention")
        return StepResult({name: value.item() for name, value in terms.items()})

    def _cycle_step(self, batch: Batch, update: Update) -> StepResult:
        x = {m: self.small(batch[m].image) for m in self.problem.modalities}
        again = self.problem.size >= LARGE
        real = {m: Seen(*self.attention[m](x[m])) for m in x}
        made, same, back = {}, {}, {}
        for s, t in self.translations:  # one pass gives the translation and the identity
            maps = torch.cat([real[s].maps, real[t].maps])
            both = self.generators[f"{s}->{t}"](torch.cat([x[s], x[t]]), maps, recompute=again)
            made[t], same[t] = both.split([len(x[s]), len(x[t])])
        fake = {m: Seen(*self.attention[m](made[m])) for m in made}

        critic_terms = {"critic": torch.stack([_told(self.critics[m], x[m], made[m].detach()) for m in x]).mean()}
        if self.seg_critic is not None:
            shown, like = self._segmentations(batch, real, fake)
            critic_terms["critic/segmentation"] = _told(self.seg_critic, like.detach(), shown.detach())
        update(torch.stack(list(critic_terms.values())).sum(), "critics")

        for s, t in self.translations:
            back[s] = self.generators[f"{t}->{s}"](made[t], fake[t].maps, recompute=again)
        each = self._terms(batch, x, real, made, fake, same, back)
        terms = {name: torch.stack(found).sum() / 2 for name, found in each.items()}
        if self.seg_critic is not None:
            fooled = least_squares_generator(self.seg_critic(shown))
            terms["adversarial/segmentation"] = self.config.adversarial_weight * self.config.seg_weight * fooled
        update(torch.stack(list(terms.values())).sum(), "generators")

        losses = {name: value.item() for name, value in (critic_terms | terms).items()}
        changes = [difference(made[t].detach(), x[s]).mean() for s, t in self.translations]
        losses["change"] = torch.stack(changes).mean().item()
        images = {"image": x, "translated": {s: made[t] for s, t in self.translations}, "back": back}
        return StepResult(losses, {name: torch.cat([of[m] for m in x]).detach() for name, of in images.items()})

    def _terms(
        self, batch: Batch, x: Images, real: Sights, made: Images, fake: Sights, same: Images, back: Images
    ) -> dict[str, list[Tensor]]:
        """The generators' terms by name, weighted, of each direction; the loss holds half their sum."""
        c = self.config
        found: dict[str, list[Tensor]] = {}

        def add(name: str, weight: float, term: Tensor) -> None:
            found.setdefault(name, []).append(weight * term)

        for s, t in self.translations:
            add("adversarial", c.adversarial_weight, least_squares_generator(self.critics[t](made[t])))
            add("reconstruction", c.reconstruction_weight, F.l1_loss(back[s].float(), x[s]))
            add("similarity", c.reconstruction_weight, 1 - structural_similarity(back[s], x[s]))
            add("identity", c.identity_weight, F.l1_loss(same[t].float(), x[t]))
            if c.identity_similarity:
                add("identity", c.identity_weight, 1 - structural_similarity(same[t], x[t]))
            for seen in (real[t], fake[t]) if c.orthogonal_fakes else (real[t],):
                add("orthogonality", c.orthogonality_weight, orthogonality(seen.maps, c.literal))
            if c.agreement_weight:
                add("agreement", c.agreement_weight, F.l1_loss(fake[t].maps.float(), real[s].maps.float()))
            if self.problem.paired:
                n = len(pairs(batch, s, t, "SASAN")[0])
                add("pair", c.voxel_weight, F.l1_loss(made[t][:n].float(), x[t][:n]))
            if c.auxiliary_weight:
                for logits, label in self._supervised(batch, s, t, real, fake):
                    add("auxiliary", c.auxiliary_weight, self._segmentation(logits, label))
        return found

    def _supervised(
        self, batch: Batch, s: str, t: str, real: Sights, fake: Sights
    ) -> Iterator[tuple[Tensor | None, Tensor]]:
        """(logits, label) of the auxiliary loss of t's attention module, which sees x_t and the translations of x_s."""
        labelled, pseudo = self.problem.labelled, fake[s].logits
        if s in labelled and pseudo is not None:
            yield fake[t].logits, self._label(batch, s)
            if t not in labelled:
                yield real[t].logits, pseudo.detach().argmax(1)  # what the other module sees in x_t as s
        if t in labelled and not self._fixed(t):
            yield real[t].logits, self._label(batch, t)

    def _segmentations(self, batch: Batch, real: Sights, fake: Sights) -> tuple[Tensor, Tensor]:
        """Probabilities that the segmentation critic judges, and those that it takes for real."""
        labelled = self.problem.labelled
        shown = [(fake if m in labelled else real)[m].classes() for m in self.problem.modalities]
        if self.config.one_hot:
            like = [F.one_hot(self._label(batch, m), self.problem.n_classes).movedim(-1, 1).float() for m in labelled]
        else:
            like = [real[m].classes() for m in labelled]
        return torch.cat(shown), torch.cat(like)

    def _segmentation(self, logits: Tensor | None, label: Tensor) -> Tensor:
        assert logits is not None  # there are labels
        logits = logits.float()
        if self.config.summed:
            entropy = F.cross_entropy(logits, label, reduction="sum") / len(label)
        else:
            entropy = balanced_cross_entropy(logits, label)
        return entropy + self.config.dice_weight * soft_dice(logits, label)

    def small(self, image: Tensor) -> Tensor:
        """The image as the networks see it: of half the size with `low_resolution`."""
        return F.avg_pool2d(image, 2) if self.config.low_resolution else image

    def _label(self, batch: Batch, modality: str) -> Tensor:
        label = batch[modality].label
        assert label is not None
        if not self.config.low_resolution:
            return label
        shares = F.avg_pool2d(F.one_hot(label, self.problem.n_classes).movedim(-1, 1).float(), 2)
        return shares.argmax(1)  # of four pixels the most frequent class

    def translate(self, image: Tensor, source: str, target: str) -> Tensor:
        """(b, k, h, w) in [-1, 1] -> the same slices as `target`; those of `target` itself stay as they are."""
        for modality in (source, target):
            index_of(modality, self.problem.modalities)
        if source == target:
            return image
        x = self.small(image)
        made: Tensor = self.generators[f"{source}->{target}"](x, self.attention[source](x)[0])
        return over_image(made, image) if self.config.low_resolution else made

    def segment(self, image: Tensor, modality: str) -> Tensor:
        """(b, k, h, w) -> logits (b, c, h, w) of the modality's attention module. LabError where no label was there."""
        index_of(modality, self.problem.modalities)
        if not self.problem.labelled:
            raise LabError("trained without labels, its attention modules do not segment", where="SASAN")
        return over_image(self.attention[modality](self.small(image))[1], image)

    def maps(self, batch: Batch) -> dict[str, Map]:
        """What the attention modules see and how the generators use it: `methods.sasan_maps.maps_of`."""
        return maps_of(self, batch)


def _told(critic: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """Loss of a critic that sees both in one pass."""
    scores, shown = critic(torch.cat([real, fake])).split([len(real), len(fake)])
    return least_squares_critic(scores, shown)
