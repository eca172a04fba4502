"""MR-GAN: translation learnt from registered pairs, both ways, with a cycle (Jin et al., Sensors 2019)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xmod_lab.errors import LabError
from xmod_lab.losses.adversarial import (
    cross_entropy_critic,
    cross_entropy_generator,
    least_squares_critic,
    least_squares_generator,
)
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
    half,
    one_of,
)
from xmod_lab.methods.pairs import check_way, paired, pairs, two_of
from xmod_lab.models.critic import PatchCritic
from xmod_lab.models.pool import ImagePool, restore, state_of
from xmod_lab.models.resnet import ResNetGenerator

ADVERSARIAL: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "cross_entropy": (cross_entropy_critic, cross_entropy_generator),
    "least_squares": (least_squares_critic, least_squares_generator),
}
"""losses of the critic and of the generator"""
CRITIC_LAYERS = 4


@dataclass(frozen=True)
class MRGANConfig:
    """The weights are those of the code that the authors published later, beside DC2Anet: all slices are in pairs. The
    paper also has slices without partner, whose step that code leaves out; its earlier code leaves out the cycle of
    those in pairs instead. What else differs by default is said beside it.

    blocks        6, for slices up to 128 pixels; 9 in the authors' code
    transposed    True: the authors' transposed convolutions, which leave a checkerboard in the images of a short run
    adversarial   "cross_entropy", or "least_squares", which the earlier code has for slices without partner
    rate, critic_rate   2e-4 both, for 200,000 steps of one slice
    pool          of the critic's earlier pairs
    """

    width: int = 16
    rate: float = 1e-3
    critic_rate: float = 1e-3
    beta1: float = 0.5
    blocks: int = 6
    transposed: bool = False
    adversarial: str = "cross_entropy"
    pool: int = 50
    pair_weight: float = 100.0
    reconstruction_weight: float = 10.0
    augment: str = "standard"


OFFICIAL: dict[str, object] = {"blocks": 9, "transposed": True, "rate": 2e-4, "critic_rate": 2e-4}


class MRGAN(Method):
    r"""The modalities x and y of a pair become each other, :math:`x' = F(y)` and :math:`y' = G(x)`.

    .. math::
        L_{D_y} &= -\tfrac12 E[\ln D_y(x, y)] - \tfrac12 E[\ln(1 - D_y(x, y'))] \\
        L_G &= -E[\ln D_y(x, y')] + \lambda_p \|y' - y\|_1 + \lambda_c (\|F(y') - x\|_1 + \|G(x') - y\|_1)

    and the same the other way round; a critic sees translations of a pool of earlier ones. Logged losses are means over
    both directions, and their sum moves both generators: as each one's own loss does, since it has both cycles in it.
    It needs a task of registered images with `draw: paired`, and reads no label.
    """

    Config = MRGANConfig
    config: MRGANConfig
    paper_names: ClassVar[dict[str, str]] = {
        "G, F": "generators",
        "D": "critics",
        "lambda_p": "config.pair_weight",
        "lambda_c": "config.reconstruction_weight",
    }
    presets: ClassVar[dict[str, dict[str, object]]] = {"official": OFFICIAL}
    ablations: ClassVar[dict[str, dict[str, object]]] = {
        "cycle": {"reconstruction_weight": 0.0},
        "pair": {"pair_weight": 0.0},
    }

    def __init__(self, config: MRGANConfig, problem: Problem):
        super().__init__(config, problem)
        name, (s, t) = type(self).__name__, two_of(problem, type(self).__name__)
        one_of(type(self), "adversarial", config.adversarial, ADVERSARIAL)
        a_multiple(problem.size, 4, name)
        if problem.size < (least := 2 ** (CRITIC_LAYERS + 1)):
            raise LabError(f"{name} needs slices of {least} pixels, these have {problem.size}", where=name)
        self.translations = [(s, t), (t, s)]
        k = problem.channels
        self.generators = self._each(
            lambda: ResNetGenerator(
                k, k, 0, config.width, config.blocks, strided=3, transposed=config.transposed, rim="reflect", bias=True
            )
        )
        self.critics = self._each(self._critic)
        names = ["/".join((kind, *way)) for kind in self.kinds for way in self.translations]
        self.pools = {name: ImagePool(config.pool) for name in names}

    def _each(self, make: Callable[[], nn.Module]) -> nn.ModuleDict:
        return nn.ModuleDict({f"{s}->{t}": make() for s, t in self.translations})

    @property
    def kinds(self) -> tuple[str, ...]:
        """What its critics judge."""
        return ("pair",)

    def _critic(self) -> nn.Module:
        return PatchCritic(2 * self.problem.channels, self.config.width, CRITIC_LAYERS, extra=0, affine=True)

    def stages(self) -> list[Stage]:
        config, betas = self.config, (self.config.beta1, 0.999)
        optimisers: dict[str, torch.optim.Optimizer] = {
            "generators": adam(self.generators.parameters(), config.rate, betas),
            "critics": adam(self.critics.parameters(), config.critic_rate, betas),
        }
        return [Stage("translation", 1.0, optimisers, dict.fromkeys(optimisers, half), ("generators", "critics"))]

    def training_step(self, batch: Batch, clock: Clock, update: Update) -> StepResult:
        return self._step(self._images(batch), update)

    def _images(self, batch: Batch) -> dict[str, Tensor]:
        s, t = self.translations[0]
        return dict(zip((s, t), pairs(batch, s, t, type(self).__name__), strict=True))

    def _step(
        self,
        x: dict[str, Tensor],
        update: Update,
        kind: str = "pair",
        critics: Sequence[str] = ("critics",),
        generators: str = "generators",
    ) -> StepResult:
        """Critics, then generators, of images (b, k, h, w) by modality, by the optimisers of these names.

        kind "pair": both modalities show the same slices. "single": each is taken for itself.
        """
        made = {(s, t): self.generators[f"{s}->{t}"](x[s]) for s, t in self.translations}
        of_critic, _ = ADVERSARIAL[self.config.adversarial]
        judged = []
        for s, t in self.translations:
            earlier = self.pools[f"{kind}/{s}/{t}"].draw(_shown(kind, x[s], made[s, t]))
            both = torch.cat([_shown(kind, x[s], x[t]), earlier])
            judged.append(of_critic(*self._scores(kind, s, t, both).chunk(2)))
        critic_loss = torch.stack(judged).mean()
        update(critic_loss, *critics)

        back = {}
        if self.config.reconstruction_weight:
            back = {(s, t): self.generators[f"{t}->{s}"](made[s, t]) for s, t in self.translations}
        each = [
            self._terms(kind, s, t, x[s], x[t] if kind == "pair" else None, made[s, t], back.get((s, t)))
            for s, t in self.translations
        ]
        terms = {name: torch.stack([found[name] for found in each]).mean() for name in each[0]}
        update(torch.stack(list(terms.values())).sum(), generators)
        losses = {"critic": critic_loss.item()} | {name: value.item() for name, value in terms.items()}
        losses["change"] = float(torch.stack([difference(made[s, t].detach(), x[s]).mean() for s, t in made]).mean())
        shown = {"image": [x[s] for s, _ in made], "translated": list(made.values()), "truth": [x[t] for _, t in made]}
        if back:
            shown["back"] = list(back.values())
        return StepResult(losses, {name: torch.cat(images).detach() for name, images in shown.items()})

    def _scores(self, kind: str, s: str, t: str, shown: Tensor) -> Tensor:
        """Patch scores (b, 1, u, v) by the critic of the translation from s to t."""
        return self.critics[f"{s}->{t}"](shown)

    def _terms(
        self, kind: str, s: str, t: str, x: Tensor, y: Tensor | None, made: Tensor, back: Tensor | None
    ) -> dict[str, Tensor]:
        """Weighted losses of the generators in the direction from s to t: x has become `made`, and that `back`.

        Those that compare `made` with the true y are there if it is known; the cycle is if there is a way back.
        """
        _, of_generator = ADVERSARIAL[self.config.adversarial]
        terms = {"adversarial": of_generator(self._scores(kind, s, t, _shown(kind, x, made)))}
        if back is not None:
            terms["reconstruction"] = self.config.reconstruction_weight * F.l1_loss(back.float(), x)
        if y is not None:
            terms["pair"] = self.config.pair_weight * F.l1_loss(made.float(), y)
        return terms

    def extra_state(self) -> dict[str, Tensor]:
        return state_of(self.pools)

    def load_extra_state(self, state: dict[str, Tensor]) -> None:
        restore(self.pools, state)

    def translate(self, image: Tensor, source: str, target: str) -> Tensor:
        """(b, k, h, w) in [-1, 1] -> the same slices as `target`; those of `target` itself stay as they are."""
        check_way(source, target, self.translations)
        return image if source == target else self.generators[f"{source}->{target}"](image)

    @torch.no_grad()
    def maps(self, batch: Batch) -> dict[str, Map]:
        """All `mask`; of the slices of <modality>, translated to <target>:

        ``residual/<target>/<modality>``        |x' - x|, 0 to 2
        ``cycle_residual/<target>/<modality>``  |x'' - x| of the way there and back, 0 to 2
        ``pair_residual/<target>/<modality>``   |x' - y|, 0 to 2, where the batch has the same slices of the target
        ``critic/<target>/<modality>``          the critic's patch scores of (x, x'), enlarged: larger is more real
        ``critic/real/<modality>``              and of (x, y)
        ``pull/<loss>/<target>/<modality>``     which pixels each loss of the generators cares about: the size of its
                                                weighted slope in x', mean over channels, times the number of values in
                                                the batch. A mean absolute difference has its weight everywhere
        """
        found = {}
        for s, t in [(s, t) for s, t in self.translations if s in batch]:
            x, y = paired(batch, s, t) or (batch[s].image, None)
            made, where, layer = self.translate(x, s, t), f"{t}/{s}", f"generators.{s}->{t}"
            apart = {"residual": (made, x), "cycle_residual": (self.translate(made, t, s), x)}
            judged = {where: made}
            if y is not None:
                apart["pair_residual"], judged[f"real/{s}"] = (made, y), y
            for name, (a, b) in apart.items():
                found[f"{name}/{where}"] = Map("mask", difference(a, b), s, layer, (0.0, 2.0))
            for name, image in judged.items():
                scores = over_image(self._scores("pair", s, t, _shown("pair", x, image)), x)[:, 0]
                found[f"critic/{name}"] = Map("mask", scores, s, f"critics.{s}->{t}")
            for name, values in self._pulls(s, t, x, y, made).items():
                found[f"pull/{name}/{where}"] = Map("mask", values, s, layer)
        return found

    def _pulls(self, s: str, t: str, x: Tensor, y: Tensor | None, made: Tensor) -> dict[str, Tensor]:
        """Sizes (b, h, w) of the slopes of each weighted loss in the translated image."""
        found = {}
        with torch.enable_grad():
            image = made.detach().requires_grad_(True)
            back = self.generators[f"{t}->{s}"](image) if self.config.reconstruction_weight else None
            terms = self._terms("pair", s, t, x, y, image, back)
            if "single" in self.kinds:  # the cycle is the same
                terms["adversarial/single"] = self._terms("single", s, t, x, None, image, None)["adversarial"]
            for name, term in terms.items():
                (slope,) = torch.autograd.grad(term, image)
                found[name] = slope.abs().mean(1) * image.numel()
        return found


def _shown(kind: str, x: Tensor, image: Tensor) -> Tensor:
    """What a critic sees of an image: beside its source x, or alone."""
    return torch.cat([x, image], 1) if kind == "pair" else image
