"""StarGAN: one generator and one critic for all modalities, unpaired and without labels (Choi et al., CVPR 2018)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from xmod_lab.losses.adversarial import gradient_penalty, wasserstein_critic, wasserstein_generator
from xmod_lab.maps import Map, difference, over_image, record
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
    one_of,
    side_by_side,
)
from xmod_lab.models.critic import StarCritic
from xmod_lab.models.resnet import ResNetGenerator


@dataclass(frozen=True)
class StarGANConfig:
    """The paper's weights; what differs by default is said beside it.

    n_critic      updates of the critic for one of the generator. A training step holds all of them, so that as many
                  steps are as many updates of the generator as in the methods it is compared with; the authors count
                  the critic's, and let the generator move in every fifth step. Of 700 steps that would be 140
    rate, critic_rate   1e-4 both in the authors' code, for 40,000 updates of the generator
    conditioning  "film": the wanted modality also scales and shifts what each residual block adds, as in our TarGAN;
                  "plane": it is told by planes alone, as the authors do. The generator then hears of it from the rim of
                  zero padding, and a short run writes it into the background
    critic_layers 4: the authors' 6 layers judge the image as a whole, with 45 million parameters at width 64
    transposed    True: the authors' transposed convolutions. A short run leaves their checkerboard in the images
    padding       zeros; with reflect a generator that is told by planes cannot know the wanted modality
    """

    width: int = 16
    rate: float = 5e-4
    critic_rate: float = 5e-4
    beta1: float = 0.5
    n_critic: int = 5
    blocks: int = 6
    conditioning: str = "film"
    transposed: bool = False
    padding: str = "zeros"
    critic_layers: int = 4
    modality_weight: float = 1.0
    reconstruction_weight: float = 10.0
    penalty_weight: float = 10.0
    augment: str = "standard"


class StarGAN(Method):
    r"""Translate x into a wanted modality c' as x' = G(x, c'), and back.

    .. math::
        L_D &= E[D(x')] - E[D(x)] + \lambda_{gp} L_{gp} + \lambda_{cls} CE(D_{cls}(x), c) \\
        L_G &= -E[D(x')] + \lambda_{cls} CE(D_{cls}(x'), c') + \lambda_{rec} \|x - G(x', c)\|_1

    c' is a random permutation of the batch's own modalities. Modalities exclude each other, so the class is a softmax
    cross-entropy, as in the authors' code for facial expressions (for attributes it is one of each attribute). Their
    instance normalisation keeps running statistics, which an evaluation with these then stumbles over; ours has none.
    """

    Config = StarGANConfig
    config: StarGANConfig
    paper_names: ClassVar[dict[str, str]] = {
        "G": "generator",
        "D_src": "critic.patches",
        "D_cls": "critic.modality",
        "lambda_cls": "config.modality_weight",
        "lambda_rec": "config.reconstruction_weight",
        "lambda_gp": "config.penalty_weight",
    }
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "official": {
            "conditioning": "plane", "transposed": True, "critic_layers": 6, "rate": 1e-4, "critic_rate": 1e-4
        }
    }
    ablations: ClassVar[dict[str, dict[str, object]]] = {
        "plane": {"conditioning": "plane"},
        "reflect": {"conditioning": "plane", "padding": "reflect"},
        "critic-1": {"n_critic": 1},
    }

    def __init__(self, config: StarGANConfig, problem: Problem):
        super().__init__(config, problem)
        one_of(StarGAN, "conditioning", config.conditioning, ("film", "plane"))
        one_of(StarGAN, "padding", config.padding, ("zeros", "reflect"))
        one_of(StarGAN, "n_critic", config.n_critic, range(1, 11))
        at_least_two(problem.modalities, "StarGAN")
        a_multiple(problem.size, 4, "StarGAN")
        count, k = len(problem.modalities), problem.channels
        self.generator = ResNetGenerator(
            k, k, count, config.width, config.blocks, config.padding,  # type: ignore[arg-type]
            film=config.conditioning == "film", transposed=config.transposed,
        )
        self.critic = StarCritic(k, count, problem.size, config.width, config.critic_layers)

    def stages(self) -> list[Stage]:
        betas = (self.config.beta1, 0.999)
        optimisers: dict[str, torch.optim.Optimizer] = {
            "generator": adam(self.generator.parameters(), self.config.rate, betas),
            "critic": adam(self.critic.parameters(), self.config.critic_rate, betas),
        }
        return [Stage("translation", 1.0, optimisers, dict.fromkeys(optimisers, half))]

    def training_step(self, batch: Batch, clock: Clock, update: Update) -> StepResult:
        known = self.problem.modalities
        x, own = side_by_side({m: batch[m].image for m in known}, known)
        for turn in range(1, self.config.n_critic + 1):
            wanted = own[torch.randperm(len(own), device=own.device)]
            with torch.set_grad_enabled(turn == self.config.n_critic):  # the last translation serves the generator too
                translated = self.generator(x, wanted)
            losses, critic_loss = self._critic_loss(x, translated.detach(), own)
            update(critic_loss, "critic")

        scores, classes = self.critic(translated)
        back = self.generator(translated, own)
        terms = {
            "adversarial": wasserstein_generator(scores),
            "modality": self.config.modality_weight * F.cross_entropy(classes.float(), wanted),
            "reconstruction": self.config.reconstruction_weight * F.l1_loss(back.float(), x),
        }
        update(torch.stack(list(terms.values())).sum(), "generator")
        losses |= {name: value.item() for name, value in terms.items()}
        moved = wanted != own
        losses["change"] = float((translated.detach().float() - x)[moved].abs().mean()) if bool(moved.any()) else 0.0
        return StepResult(losses, {"image": x, "translated": translated.detach(), "back": back.detach()})

    def _critic_loss(self, x: Tensor, fake: Tensor, own: Tensor) -> tuple[dict[str, float], Tensor]:
        scores, classes = self.critic(torch.cat([x, fake]))
        real_score, fake_score = scores.chunk(2)
        terms = {
            "critic": wasserstein_critic(real_score, fake_score),
            "critic_penalty": self.config.penalty_weight * gradient_penalty(lambda t: self.critic(t)[0], x, fake),
            "critic_modality": self.config.modality_weight * F.cross_entropy(classes[: len(x)].float(), own),
        }
        return {name: value.item() for name, value in terms.items()}, torch.stack(list(terms.values())).sum()

    def translate(self, image: Tensor, source: str, target: str) -> Tensor:
        """(b, k, h, w) in [-1, 1] -> the same slices as `target`; the network does not ask for the source."""
        wanted = torch.full((len(image),), index_of(target, self.problem.modalities), device=image.device)
        return self.generator(image, wanted)

    @torch.no_grad()
    def maps(self, batch: Batch) -> dict[str, Map]:
        """All `mask`, for each modality that the slices of <modality> are translated to, its own included:

        ``residual/<target>/<modality>``      |x' - x|, mean over channels, 0 to 2
        ``bottleneck/<target>/<modality>``    mean over the channels behind the last residual block
        ``critic/<target>/<modality>``        the critic's patch scores of x', enlarged
        ``critic/real/<modality>``            and of x: larger is more real, of one critic alone
        """
        found = {}
        known = self.problem.modalities
        for m in [m for m in batch if m in known]:
            x = batch[m].image
            found[f"critic/real/{m}"] = Map("mask", over_image(self.critic(x)[0], x)[:, 0], m, "critic.patches")
            for target in known:
                with record(self.generator, "bottleneck") as seen:
                    made = self.translate(x, m, target)
                deep = seen["bottleneck"][0].float().mean(1, keepdim=True)
                scores = self.critic(made)[0]
                found[f"residual/{target}/{m}"] = Map("mask", difference(made, x), m, "generator", (0.0, 2.0))
                found[f"bottleneck/{target}/{m}"] = Map("mask", over_image(deep, x)[:, 0], m, "generator.bottleneck")
                found[f"critic/{target}/{m}"] = Map("mask", over_image(scores, x)[:, 0], m, "critic.patches")
        return found
