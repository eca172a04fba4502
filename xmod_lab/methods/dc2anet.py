"""DC2Anet: MR-GAN with more to compare pairs by, and images judged alone (Jin et al., Applied Sciences 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from xmod_lab.losses.similarity import dissimilarity, feature_difference, gradient_difference
from xmod_lab.methods.base import Batch, Clock, Problem, Stage, StepResult, Update, a_multiple, adam, half, one_of
from xmod_lab.methods.mrgan import CRITIC_LAYERS, MRGAN, OFFICIAL, MRGANConfig
from xmod_lab.models.critic import HybridCritic
from xmod_lab.models.unet import Encoder


@dataclass(frozen=True)
class DC2AnetConfig(MRGANConfig):
    """MR-GAN's, and the rest of the paper's six losses (adversarial, cycle, L1, slopes, similarity, perceptual).

    gradient_weight    of the difference of the slopes' sizes
    similarity         "difference": 1 - SSIM, weight 1; "logarithm": the authors' -ln SSIM, weight 0.05, which is
                       infinite where structure is opposite, as it may be early on; ours is held at 9.2
    perceptual_weight  1 in the authors' code, of features of VGG-16, whose weights are not part of this package. 0
                       here; otherwise the features are those of a U-Net's encoder with fixed random weights, of which
                       nobody has shown that they help
    unsupervised       a second update in each step, without L1 and what else compares pairs, in which critics see
                       images alone. In the authors' code these are the same slices, as here
    shared_adam        False: Adam of the second update has a memory of its own, as in the authors' code
    adversarial        of both updates; in the authors' code the second has cross-entropy always
    """

    gradient_weight: float = 100.0
    similarity: str = "difference"
    similarity_weight: float = 1.0
    perceptual_weight: float = 0.0
    unsupervised: bool = True
    shared_adam: bool = True


class DC2Anet(MRGAN):
    r"""What MR-GAN does, with two more losses of pairs, and a hybrid critic D with a head for pairs and one for images.

    .. math::
        L_G &= -E[\ln D(x, y')] + \lambda_p \|y' - y\|_1 + \lambda_c L_{cyc}
               + \lambda_g L_{GD}(y', y) + \lambda_s (1 - SSIM(y', y)) \\
        L_G^u &= -E[\ln D(y')] + \lambda_c L_{cyc}

    A training step is one update of critics and generators by the first, then one by the second; the logged losses of
    the second end in ``/single``.
    """

    Config = DC2AnetConfig
    config: DC2AnetConfig
    paper_names: ClassVar[dict[str, str]] = MRGAN.paper_names | {
        "lambda_g": "config.gradient_weight",
        "lambda_s": "config.similarity_weight",
    }
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "official": OFFICIAL | {"similarity": "logarithm", "similarity_weight": 0.05, "shared_adam": False}
    }
    ablations: ClassVar[dict[str, dict[str, object]]] = {
        "cycle": {"reconstruction_weight": 0.0},
        "gradient": {"gradient_weight": 0.0},
        "similarity": {"similarity_weight": 0.0},
        "unsupervised": {"unsupervised": False},
    }

    def __init__(self, config: DC2AnetConfig, problem: Problem):
        super().__init__(config, problem)
        one_of(DC2Anet, "similarity", config.similarity, ("difference", "logarithm"))
        if config.perceptual_weight:
            a_multiple(problem.size, 16, "DC2Anet with a perceptual loss")
            self.encoder = Encoder(problem.channels, config.width).requires_grad_(False)

    @property
    def kinds(self) -> tuple[str, ...]:
        return ("pair", "single") if self.config.unsupervised else ("pair",)

    def _critic(self) -> nn.Module:
        return HybridCritic(self.problem.channels, self.config.width, CRITIC_LAYERS, self.kinds)

    def stages(self) -> list[Stage]:
        """Optimisers ``generators``, ``critics`` (their shared middles), ``pair`` and ``single`` (the heads)."""
        config, betas = self.config, (self.config.beta1, 0.999)
        critics: list[HybridCritic] = list(self.critics.values())  # type: ignore[arg-type]
        middles = nn.ModuleList(critic.middle for critic in critics)
        optimisers: dict[str, torch.optim.Optimizer] = {}
        for memory in dict.fromkeys(("", self._second)):
            optimisers[f"generators{memory}"] = adam(self.generators.parameters(), config.rate, betas)
            optimisers[f"critics{memory}"] = adam(middles.parameters(), config.critic_rate, betas)
        for kind in self.kinds:
            heads = nn.ModuleList(part for c in critics for part in (c.first[kind], c.last[kind]))
            optimisers[kind] = adam(heads.parameters(), config.critic_rate, betas)
        return [Stage("translation", 1.0, optimisers, dict.fromkeys(optimisers, half), ("generators", "critics"))]

    @property
    def _second(self) -> str:
        """End of the names of the optimisers of the second update, where they are others."""
        return "/single" if self.config.unsupervised and not self.config.shared_adam else ""

    def training_step(self, batch: Batch, clock: Clock, update: Update) -> StepResult:
        x = self._images(batch)
        result = self._step(x, update, "pair", ("critics", "pair"))
        if self.config.unsupervised:
            critics, generators = (f"critics{self._second}", "single"), f"generators{self._second}"
            second = self._step(x, update, "single", critics, generators).losses
            result.losses.update({f"{name}/single": value for name, value in second.items() if name != "change"})
        return result

    def _scores(self, kind: str, s: str, t: str, shown: Tensor) -> Tensor:
        return self.critics[f"{s}->{t}"](shown, kind)

    def _terms(
        self, kind: str, s: str, t: str, x: Tensor, y: Tensor | None, made: Tensor, back: Tensor | None
    ) -> dict[str, Tensor]:
        terms, config = super()._terms(kind, s, t, x, y, made, back), self.config
        if y is None:
            return terms
        if config.gradient_weight:
            terms["gradient_difference"] = config.gradient_weight * gradient_difference(made, y)
        if config.similarity_weight:
            apart = dissimilarity(made, y, logarithm=config.similarity == "logarithm")
            terms["similarity"] = config.similarity_weight * apart
        if config.perceptual_weight:
            seen, wanted = (self.encoder(image)[0] for image in (made, y))
            terms["perceptual"] = config.perceptual_weight * feature_difference(seen, wanted)
        return terms
