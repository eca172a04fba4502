"""CycleGAN: translation between two modalities, there and back, unpaired and without labels (Zhu et al., ICCV 2017)."""

from __future__ import annotations

import math
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
    exactly_two,
    half,
    index_of,
)
from xmod_lab.models.critic import PatchCritic
from xmod_lab.models.pool import ImagePool, restore, state_of
from xmod_lab.models.resnet import ResNetGenerator
from xmod_lab.models.unet import UNet

Ways = Mapping[tuple[str, str], Tensor]
"""a tensor for each (source, target)"""


@dataclass(frozen=True)
class CycleGANConfig:
    """The authors' code; what differs by default is said beside it. The paper uses the identity term for paintings
    only (preset "printed"), the code always.

    rate, critic_rate   2e-4 both in the paper, for 200 passes over the images; 700 steps need larger ones
    blocks        of each generator: 6, for slices up to 128 pixels; theirs have 9 for 256
    transposed    True: their transposed convolutions. A short run leaves the checkerboard of these in the images
    critic_layers 3: patches of 70x70 pixels; 4: of 142x142. Fewer for slices below 48 or 24 pixels
    pool          earlier translations of each modality from which its critic is shown; 0: this step's alone
    identity_weight   of what a generator makes of images that are of its target already: half of the next
    shape_weight  0: the paper has no such term, and needs no labels. Else a U-Net learns to segment labelled images and
                  their translations, and its loss reaches the generators: what has a label must stay visible
    """

    width: int = 16
    rate: float = 1e-3
    critic_rate: float = 1e-3
    beta1: float = 0.5
    blocks: int = 6
    transposed: bool = False
    critic_layers: int = 3
    pool: int = 50
    identity_weight: float = 5.0
    reconstruction_weight: float = 10.0
    shape_weight: float = 0.0
    augment: str = "standard"


OWN: dict[str, object] = {"critic_layers": 3, "pool": 50, "identity_weight": 5.0, "reconstruction_weight": 10.0}
"""the defaults above, for presets of what has others"""
OFFICIAL: dict[str, object] = OWN | {"blocks": 9, "transposed": True, "rate": 2e-4, "critic_rate": 2e-4}


class CycleGAN(Method):
    r"""Two generators, each the other's way back, and a critic of each modality.

    Of a direction s to t with generator G and critic D, and the way back G':

    .. math::
        L_D &= \tfrac12 E[(D(x_t) - 1)^2] + \tfrac12 E[D(\tilde x_t)^2] \\
        L_G &= E[(D(G(x_s)) - 1)^2] + \lambda \|G'(G(x_s)) - x_s\|_1 + \lambda_{id} \|G(x_t) - x_t\|_1

    (equations 1 to 3, with the least squares of the paper's section on training.) :math:`\tilde x_t` is drawn from the
    pool of translations. Losses are means over both directions; the authors sum, and Adam does not see a factor. In
    each step the critics move first, as in U-GAT-IT; in the authors' code the generators do.

    With `shape_weight` the generators, and a U-Net S that is trained with them, also minimise

    .. math:: \lambda_{shape} \tfrac12 \left( L_{seg}(S(x_s), y_s) + L_{seg}(S(G(x_s)), y_s) \right)

    of the modalities that have labels, Dice + cross-entropy.

    `first_pass` and `judge` are what a relative with other networks replaces.
    """

    Config: ClassVar[type] = CycleGANConfig
    config: CycleGANConfig
    paper_names: ClassVar[dict[str, str]] = {
        "G, F": "generators",
        "D_X, D_Y": "critics",
        "lambda": "config.reconstruction_weight",
    }
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "official": OFFICIAL,
        "printed": OFFICIAL | {"identity_weight": 0.0},
    }
    ablations: ClassVar[dict[str, dict[str, object]]] = {"identity": {"identity_weight": 0.0}, "pool": {"pool": 0}}

    def __init__(self, config: CycleGANConfig, problem: Problem):
        super().__init__(config, problem)
        exactly_two(problem.modalities, type(self).__name__)
        a_multiple(problem.size, 4, type(self).__name__)
        self.translations = list(permutations(problem.modalities, 2))
        self.generators, self.critics = (
            nn.ModuleDict({f"{s}->{t}": make() for s, t in self.translations})
            for make in (self.make_generator, self.make_critic)
        )
        self.pools = {m: ImagePool(config.pool) for m in problem.modalities}
        self.shape = self._make_shape() if config.shape_weight else None

    def _make_shape(self) -> UNet:
        name = type(self).__name__
        if not self.problem.labelled:
            raise LabError("a shape term needs labels: the task has none", where=f"{name}.shape_weight")
        a_multiple(self.problem.size, 16, name)
        return UNet(self.problem.channels, self.problem.n_classes, self.config.width)

    def make_generator(self) -> nn.Module:
        """(b, k, h, w) -> (b, k, h, w) in (-1, 1)."""
        c, k = self.config, self.problem.channels
        return begun(
            ResNetGenerator(k, k, 0, c.width, c.blocks, "reflect", affine=False, strided=3, transposed=c.transposed)
        )

    def make_critic(self) -> nn.Module:
        layers = min(self.config.critic_layers, int(math.log2(self.problem.size / 3)))  # more would leave no patch
        return begun(PatchCritic(self.problem.channels, self.config.width, layers))

    def stages(self) -> list[Stage]:
        c, betas = self.config, (self.config.beta1, 0.999)
        optimisers: dict[str, torch.optim.Optimizer] = {
            "generators": adam(self.generators.parameters(), c.rate, betas),
            "critics": adam(self.critics.parameters(), c.critic_rate, betas),
        }
        if self.shape is not None:
            optimisers["shape"] = adam(self.shape.parameters(), c.rate)
        return [Stage("translation", 1.0, optimisers, dict.fromkeys(optimisers, half))]

    def training_step(self, batch: Batch, clock: Clock, update: Update) -> StepResult:
        x = {m: batch[m].image for m in self.problem.modalities}
        made, own, terms = self.first_pass(x)
        critic_terms = self._critic_terms(x, {(s, t): self.pools[t].draw(made[s, t]) for s, t in self.translations})
        update(torch.stack(list(critic_terms.values())).sum(), "critics")

        back = {(s, t): self.translate(made[s, t], t, s) for s, t in self.translations}
        terms = self._adversarial_terms(made) | terms
        terms["reconstruction"] = self.config.reconstruction_weight * self._mean(lambda s, t: apart(back[s, t], x[s]))
        if self.config.identity_weight:
            terms["identity"] = self.config.identity_weight * self._mean(lambda s, t: apart(own[s, t], x[t]))
        if self.shape is not None:
            terms["shape"] = self.config.shape_weight * self._shape_term(batch, made)
        update(torch.stack(list(terms.values())).sum(), "generators", *(["shape"] if self.shape is not None else []))

        losses = {name: value.item() for name, value in (critic_terms | terms).items()}
        losses["change"] = self._mean(lambda s, t: apart(made[s, t].detach(), x[s])).item()
        shown = {"image": [x[s] for s, _ in self.translations], "translated": made.values(), "back": back.values()}
        return StepResult(losses, {name: torch.cat(list(images)).detach() for name, images in shown.items()})

    def first_pass(self, x: Mapping[str, Tensor]) -> tuple[Ways, Ways, dict[str, Tensor]]:
        """From the images (b, k, h, w) of each modality: G(x_s) and, where it is asked for, G(x_t) of each direction,
        and further terms of the generators' loss: none here."""
        made = {(s, t): self.translate(x[s], s, t) for s, t in self.translations}
        asked = self.translations if self.config.identity_weight else []
        return made, {(s, t): self.generators[f"{s}->{t}"](x[t]) for s, t in asked}, {}

    def judge(self, image: Tensor, source: str, target: str) -> dict[str, Tensor]:
        """All scores that the critics of `target` give to images, of which they may be shown translations of `source`.
        By the tail that their losses' names have; scores of patches are (b, 1, u, v)."""
        return {"": self.critics[f"{source}->{target}"](image)}

    def _critic_terms(self, x: Mapping[str, Tensor], shown: Ways) -> dict[str, Tensor]:
        """`shown`: generated images for each direction's critic. Real and generated ones go through it together."""
        found: dict[str, list[Tensor]] = {}
        for (s, t), fake in shown.items():
            for tail, scores in self.judge(torch.cat([x[t], fake]), s, t).items():
                loss = least_squares_critic(*scores.split([len(x[t]), len(fake)]))
                found.setdefault(f"critic{tail}", []).append(loss)
        return {name: mean(losses) for name, losses in found.items()}

    def _adversarial_terms(self, made: Ways) -> dict[str, Tensor]:
        found: dict[str, list[Tensor]] = {}
        for (s, t), image in made.items():
            for tail, scores in self.judge(image, s, t).items():
                found.setdefault(f"adversarial{tail}", []).append(least_squares_generator(scores))
        return {name: mean(losses) for name, losses in found.items()}

    def _shape_term(self, batch: Batch, made: Ways) -> Tensor:
        """S sees labelled images and their translations in one pass; mean over both kinds and the labelled ones."""
        assert self.shape is not None
        found = []
        for s, t in [(s, t) for s, t in self.translations if s in self.problem.labelled]:
            image, label = batch[s].image, batch[s].label
            assert label is not None
            for logits in self.shape(torch.cat([image, made[s, t]])).chunk(2):
                found.append(dice_cross_entropy(logits.float(), label))
        return mean(found)

    def _mean(self, term: Callable[[str, str], Tensor]) -> Tensor:
        return mean(term(s, t) for s, t in self.translations)

    def extra_state(self) -> dict[str, Tensor]:
        return state_of(self.pools)

    def load_extra_state(self, state: dict[str, Tensor]) -> None:
        restore(self.pools, state)

    def translate(self, image: Tensor, source: str, target: str) -> Tensor:
        """(b, k, h, w) in [-1, 1] -> the same slices as `target`; those of `target` itself stay as they are."""
        for modality in (source, target):
            index_of(modality, self.problem.modalities)
        return image if source == target else self.generators[f"{source}->{target}"](image)

    @torch.no_grad()
    def maps(self, batch: Batch) -> dict[str, Map]:
        """Of the slices x of <modality> and their translations x' to <target>, all `mask`:

        ``residual/<target>/<modality>``        |x' - x|, 0 to 2
        ``cycle_residual/<target>/<modality>``  |x'' - x| of the way there and back, 0 to 2
        ``critic/<target>/<modality>``          scores of x' by the critic of <target>, enlarged
        ``critic/real/<modality>``              and of x by the critic of <modality>: 1 is real, 0 generated
        """
        found = {}
        for s, t in [(s, t) for s, t in self.translations if s in batch]:
            x = batch[s].image
            made = self.translate(x, s, t)
            for kind, image in (("residual", made), ("cycle_residual", self.translate(made, t, s))):
                found[f"{kind}/{t}/{s}"] = Map("mask", difference(image, x), s, f"generators.{s}->{t}", (0.0, 2.0))
            for name, image, (origin, judged) in (("real", x, (t, s)), (t, made, (s, t))):
                for tail, scores in self.judge(image, origin, judged).items():
                    if scores.ndim == 4:
                        values = over_image(scores, x)[:, 0]
                        found[f"critic{tail}/{name}/{s}"] = Map("mask", values, s, f"critics.{origin}->{judged}")
        return found


def begun(network: nn.Module) -> nn.Module:
    """The network with the authors' first weights: convolutions N(0, 0.02), their biases 0. In trials of 60 and 400
    steps it came closer to the truth from these than from PyTorch's own."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network


def mean(terms: Iterable[Tensor]) -> Tensor:
    """Mean of scalars, one a direction."""
    return torch.stack(list(terms)).mean()


def apart(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference, in float32."""
    return F.l1_loss(a.float(), b.float())


@torch.no_grad()
def error_by_noise(
    method: CycleGAN,
    image: Tensor,
    source: str,
    target: str,
    levels: Iterable[float],
    seed: int = 0,
    made: Tensor | None = None,
) -> list[float]:
    r"""How much of the way back hangs on traces too faint to see (Chu et al. 2017, "steganography").

    .. math:: e(\sigma) = E|G'(G(x) + \sigma n) - x|, \qquad n \sim N(0, I)

    for each sigma of `levels`, the same n for all; `image` (b, k, h, w) in [-1, 1] of `source`. A generator that writes
    into G(x) what the target cannot show needs it unharmed: e rises steeply where n is still far below the contrast of
    the image. What G' makes of an honest picture moves about as much as its input.

    made: what stands in place of G(x), such as the true image of the target, into which nobody wrote anything.
    """
    if made is None:
        made = method.translate(image, source, target)
    noise = torch.randn(made.shape, generator=torch.Generator().manual_seed(seed)).to(made)
    return [apart(method.translate(made + level * noise, target, source), image).item() for level in levels]
