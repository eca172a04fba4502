"""PnP-AdaNet: early layers for the target, plugged into a frozen segmenter of the source (Dou et al. 2018).

Q. Dou, C. Ouyang, C. Chen, H. Chen, B. Glocker, X. Zhuang, P.-A. Heng, arXiv 1812.07907; a short form at IJCAI 2018.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from xmod_lab.errors import LabError
from xmod_lab.losses.adversarial import wasserstein_critic, wasserstein_generator
from xmod_lab.losses.segmentation import balanced_cross_entropy, dice_cross_entropy, soft_dice
from xmod_lab.maps import Map, class_entropy
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
    index_of,
    late,
    one_of,
    source_and_target,
)
from xmod_lab.methods.pnp_config import ABLATIONS, PRESETS, PnPConfig
from xmod_lab.methods.pnp_maps import maps_of
from xmod_lab.models.fcn import GROUPS, group_widths
from xmod_lab.models.pnp import (
    LEVELS,
    MaskCritic,
    PlainCritic,
    PlaneCritic,
    PluggedFCN,
    Seen,
    level_stack,
    plane_stack,
)


class PnPAdaNet(Method):
    r"""A segmenter S = H(F(x)) of the source, then early layers F' of the target under the same, frozen H.

    .. math::
        L_S &= L_{dice}(S(x_s), y_s) + L_{ce}(S(x_s), y_s) \qquad (1) \\
        L_D &= \sum_{k} \lambda_k \big( E[D_k(u_k(x_t; F'))] - E[D_k(u_k(x_s; F))] \big) \qquad (2) \\
        L_{F'} &= - \sum_{k} \lambda_k E[D_k(u_k(x_t; F'))] \qquad (3)

    in three stages, each minimised: S; the critic of features alone; critics and F' in turn. F' begins as a copy of F.
    The critic :math:`D_f` judges the features of groups 4, 6, 7 and 9 together, :math:`D_m` masks. F and H stay as the
    first stage left them, bit for bit. No label is used after it, and nothing holds F' to its task but that its
    features and masks look like the source's. The equations' numbers are ours.

    `segment` takes F for the source and F' for the target, before the copy F for both.
    """

    Config = PnPConfig
    config: PnPConfig
    plugged: Tensor
    paper_names: ClassVar[dict[str, str]] = {
        "M^s": "segmenter",
        "M (DAM)": "adapter",
        "D_f (DCM)": "critics.features",
        "D_m": "critics.mask",
        "lambda_f, lambda_m": "config.feature_weight, config.mask_weight",
    }
    presets = PRESETS
    ablations = ABLATIONS

    def __init__(self, config: PnPConfig, problem: Problem):
        super().__init__(config, problem)
        one_of(PnPAdaNet, "stride", config.stride, (0, 4, 8))
        one_of(PnPAdaNet, "depth", config.depth, range(1, len(GROUPS) + 1))
        one_of(PnPAdaNet, "optimiser", config.optimiser, ("adam", "rmsprop"))
        self.source, self.target = source_and_target(problem, "PnP-AdaNet")
        stride = config.stride or (8 if problem.size >= 128 else 4)
        a_multiple(problem.size, stride, "PnP-AdaNet")
        self.segmenter = PluggedFCN(problem.channels, problem.n_classes, config.width, config.dropout, stride)
        self.adapter = self.segmenter.front(config.depth)
        self.critics = nn.ModuleDict()
        for name, weight, make in (
            ("features", config.feature_weight, self._feature_critic),
            ("mask", config.mask_weight, self._mask_critic),
        ):
            if weight:
                self.critics[name] = make(stride)
        self.register_buffer("plugged", torch.zeros((), dtype=torch.long))  # 1: the adapter holds the source's layers

    def _feature_critic(self, stride: int) -> nn.Module:
        width, classes = self.config.width, self.problem.n_classes
        levels = [group_widths(width)[GROUPS.index(group)] for group in LEVELS]
        if not self.config.planes:
            return PlainCritic(sum(levels) + classes, 2 * width, 2, self.config.spectral)
        if any(c % stride**2 for c in levels):
            raise LabError(
                f"{levels} channels cannot be shuffled into {stride}x{stride} pixels",
                where="PnPAdaNet.planes",
                mend=f"take a width of {stride**2 // 2} or a multiple, or planes=False",
            )
        channels = sum(c // stride**2 for c in (levels[0], levels[0], *levels)) + classes + 1
        return PlaneCritic(channels, width, self.problem.size)

    def _mask_critic(self, _stride: int) -> nn.Module:
        classes, width = self.problem.n_classes, self.config.width
        if self.config.planes:
            return MaskCritic(classes, width, self.problem.size)
        return PlainCritic(classes, max(width // 2, 4), 3, self.config.spectral)

    def stages(self) -> list[Stage]:
        c = self.config
        segmenter = {"segmenter": self._optimiser(self.segmenter, c.rate, "adam", 0.9, c.decay)}
        decay = c.decay * c.scale
        adapting = {"adapter": self._optimiser(self.adapter, c.adapter_rate, c.optimiser, c.beta1, decay)}
        first = [Stage("segmentation", c.pretraining, segmenter, {"segmenter": late}, ("segmenter",))]
        share, trained = 1 - c.pretraining, ["adapter"]
        if self.critics:
            critics = {"critics": self._optimiser(self.critics, c.critic_rate, c.optimiser, c.beta1, decay)}
            warm = ("critics",) if c.running_statistics else ("critics", "adapter")
            first.append(Stage("critics", c.warm_up, critics, trained=warm))
            adapting, trained, share = adapting | critics, ["adapter", "critics"], share - c.warm_up
        falling: Callable[[float], float] = lambda progress: c.final_rate**progress  # noqa: E731
        return [*first, Stage("adaptation", share, adapting, dict.fromkeys(adapting, falling), tuple(trained))]

    def _optimiser(
        self, network: nn.Module, rate: float, kind: str, beta1: float, decay: float
    ) -> torch.optim.Optimizer:
        """Weight decay is of kernels alone. RMSProp with TensorFlow's decay, and nearly its epsilon."""
        kernels = [p for p in network.parameters() if p.ndim > 1]
        others = [p for p in network.parameters() if p.ndim <= 1]
        optimiser: torch.optim.Optimizer
        if kind == "adam":
            optimiser = adam(kernels, rate, (beta1, 0.999), decay)
        else:
            optimiser = torch.optim.RMSprop(kernels, rate, alpha=0.9, eps=1e-5, weight_decay=decay)
        if others:
            optimiser.add_param_group({"params": others, "weight_decay": 0.0})
        return optimiser

    def training_step(self, batch: Batch, clock: Clock, update: Update) -> StepResult:
        if clock.stage == "segmentation":
            return self._segmentation_step(batch, update)
        if not self.plugged:
            self._plug_in()
        return self._adversarial_step(batch, clock, update)

    def _segmentation_step(self, batch: Batch, update: Update) -> StepResult:
        label = batch[self.source].label
        assert label is not None
        logits = self.segmenter(batch[self.source].image).float()
        if self.config.balanced:
            loss = soft_dice(logits, label) + balanced_cross_entropy(logits, label)
        else:
            loss = dice_cross_entropy(logits, label)
        update(loss, "segmenter")
        return StepResult({f"segmentation/{self.source}": loss.item()})

    @torch.no_grad()
    def _plug_in(self) -> None:
        """The adapter takes over weights and running statistics of the segmenter's early groups; once."""
        for group, layers in self.adapter.items():
            layers.load_state_dict(self.segmenter.groups[group].state_dict())
        self.plugged.fill_(1)

    def _adversarial_step(self, batch: Batch, clock: Clock, update: Update) -> StepResult:
        """Critics first, then the plugged layers; in the stage before, the critic of features alone."""
        x_s, x_t = batch[self.source].image, batch[self.target].image
        learns = clock.stage == "adaptation" and bool(self.critics)
        names = list(self.critics) if learns else [name for name in self.critics if name == "features"]
        with torch.no_grad():
            real = self.judged(self.see(x_s, self.source))
        with torch.set_grad_enabled(learns and not self.config.running_statistics):
            seen = self._see_target(x_t)
            shown = self.judged(seen)
        losses = {f"entropy/{self.target}": class_entropy(seen.logits.detach()).mean().item()}
        for _ in range(self.turns(clock.progress) if names and clock.stage == "adaptation" else len(names)):
            terms = {f"critic/{name}": self._told(name, real[name], shown[name].detach()) for name in names}
            update(self.config.scale * torch.stack(list(terms.values())).sum(), "critics")
            self._clip()
            losses |= {key: value.item() for key, value in terms.items()}
        if learns:
            if self.config.running_statistics:
                shown = self.judged(self.see(x_t, self.target))
            fooling = {n: self._weight(n) * wasserstein_generator(self.critics[n](shown[n])) for n in names}
            update(self.config.scale * torch.stack(list(fooling.values())).sum(), "adapter")
            losses |= {f"adversarial/{name}": value.item() for name, value in fooling.items()}
        return StepResult(losses)

    def turns(self, progress: float) -> int:
        """Updates of the critics for one of the plugged layers."""
        return self.config.n_critic + int(self.config.more_critic * progress)

    def _see_target(self, image: Tensor) -> Seen:
        """Target images as the critics are shown them: normalised by the batch's statistics or by running ones."""
        mode = self.adapter.training
        self.adapter.train(mode and not self.config.running_statistics)
        seen = self.see(image, self.target)
        self.adapter.train(mode)
        return seen

    def _told(self, name: str, real: Tensor, fake: Tensor) -> Tensor:
        """The weighted loss of one critic; `real` is of the source, `fake` of the target."""
        critic = self.critics[name]
        return self._weight(name) * wasserstein_critic(critic(real), critic(fake))

    def _weight(self, name: str) -> float:
        return self.config.feature_weight if name == "features" else self.config.mask_weight

    @torch.no_grad()
    def _clip(self) -> None:
        """Bring the critics' kernels back into the range that `clip` allows."""
        if self.config.clip:
            for parameter in self.critics.parameters():
                if parameter.ndim > 1:
                    parameter.clamp_(-self.config.clip, self.config.clip)

    def see(self, image: Tensor, modality: str) -> Seen:
        """Features and logits of images (b, k, h, w), by the plugged layers if they are of the target."""
        index_of(modality, self.problem.modalities)
        plug = modality == self.target and bool(self.plugged)
        return self.segmenter.see(image, dict(self.adapter.items()) if plug else None)

    def judged(self, seen: Seen) -> dict[str, Tensor]:
        """What each critic is shown, (b, c, u, v) in float32."""
        if self.config.planes:
            inputs = {"features": plane_stack(seen), "mask": seen.logits.float()}
        else:
            inputs = {"features": level_stack(seen), "mask": seen.logits.float().softmax(1)}
        return {name: inputs[name] for name in self.critics}

    def segment(self, image: Tensor, modality: str) -> Tensor:
        """(b, k, h, w) -> logits (b, c, h, w)."""
        return self.see(image, modality).logits

    def maps(self, batch: Batch) -> dict[str, Map]:
        """Entropy, features by group and the critics' scores: `methods.pnp_maps.maps_of`."""
        return maps_of(self, batch)
