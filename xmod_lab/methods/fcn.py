"""The dilated residual FCN that CSA compares on, without any term between the modalities.

`fcn_single`  a network for each modality
`fcn_joint`   one network and one batch normalisation for all of them
`msbn`        one network, one batch normalisation a modality (Karani et al. 2018; CSA, section 2.2)

`csa`, `affinity` and `ummkd` add a term to this class's loss and change nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from xmod_lab.errors import LabError
from xmod_lab.losses.segmentation import dice_cross_entropy
from xmod_lab.maps import Map
from xmod_lab.methods.base import Batch, Clock, Method, Problem, Stage, StepResult, Update, adam, one_of
from xmod_lab.models.fcn import SharedFCN, normalisation_state
from xmod_lab.models.norm import DomainNorm2d, of_domains

STATISTICS = ("scale", "shift", "mean", "standard deviation")


@dataclass(frozen=True)
class FCNConfig:
    """width: 64 gives the paper's 16 to 512 channels; sharing: none, all, or kernels (a normalisation a modality).

    stride: 8 as in the paper, 4, or 0 for 8 from 128 pixels on and 4 below, so that deep groups keep 16x16 positions.
    rate falls over the run to `final_rate` times itself. decay: coupled weight decay on kernels. phase: the
    paper's head, or bilinear enlargement.

    dropout: none by default. CSA prints a drop rate of 0.75, the *keep* rate of UMMKD's code. What is dropped before a
    batch normalisation makes its running variances those of noisier features than a test has (Li et al., CVPR 2019):
    with a quarter dropped, slices that were fitted in training were not found again in evaluation mode.
    """

    width: int = 16
    sharing: str = "kernels"
    rate: float = 1e-3
    final_rate: float = 0.1
    dropout: float = 0.0
    decay: float = 0.0
    stride: int = 0
    phase: bool = True
    augment: str = "standard"


@dataclass(frozen=True)
class Seen:
    """What one forward pass over all modalities gave, by modality."""

    logits: dict[str, Tensor] = field(default_factory=dict)
    features: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    """modality -> group -> (b, c, h, w)"""


class FCNBaseline(Method):
    r"""Minimise soft Dice + cross-entropy of every modality (CSA, equation 5 over M, with alpha = beta = 1).

    .. math:: L = \tfrac1M \big[ \sum_m (L^m_{dice} + L^m_{ce}) + \lambda L_{between} \big]

    Over the number of modalities M, so that the learning rate means the same for two and three of them; lambda keeps
    its weight against the sum.
    """

    Config = FCNConfig
    config: FCNConfig
    paper_names: ClassVar[dict[str, str]] = {"F(l)": "network.groups"}
    presets: ClassVar[dict[str, dict[str, object]]] = {
        # CSA: Adam at 1e-4, 5 % less every 1,000 iterations. It does not say how many: 0.022 is after UAGAN's 74,000
        "printed": {"rate": 1e-4, "final_rate": 0.022, "dropout": 0.75}
    }

    def __init__(self, config: FCNConfig, problem: Problem):
        super().__init__(config, problem)
        one_of(type(self), "sharing", config.sharing, ("none", "all", "kernels"))
        one_of(type(self), "stride", config.stride, (0, 4, 8))
        names = problem.labelled if config.sharing == "none" else ("all",)
        stride = config.stride or (8 if problem.size >= 128 else 4)
        domains = len(problem.labelled) if config.sharing == "kernels" else 1

        def network() -> SharedFCN:
            return SharedFCN(
                problem.channels, problem.n_classes, config.width, domains, config.dropout, stride, config.phase
            )

        self.networks = nn.ModuleDict({name: network() for name in names})

    def network(self, modality: str) -> SharedFCN:
        """The network that segments `modality`: its own, or the shared one. LabError if it is unknown."""
        return self.get_submodule(self.place(modality))  # type: ignore[return-value]

    def place(self, modality: str) -> str:
        """The dotted name of `network`."""
        self.domain(modality)
        return f"networks.{modality if self.config.sharing == 'none' else 'all'}"

    def domain(self, modality: str) -> int:
        """Which set of normalisation statistics `modality` uses. Raises LabError for one it was not trained with."""
        if modality not in self.problem.labelled:
            raise LabError(f"not trained with {modality!r}", mend=f"it knows {', '.join(self.problem.labelled)}")
        return self.problem.labelled.index(modality)

    def stages(self) -> list[Stage]:
        kernels = [p for p in self.parameters() if p.ndim == 4]
        others = [p for p in self.parameters() if p.ndim != 4]
        optimiser = adam(kernels, self.config.rate, decay=self.config.decay)
        if others:
            optimiser.add_param_group({"params": others, "weight_decay": 0.0})
        final = self.config.final_rate
        return [Stage("segmentation", 1.0, {"segmenter": optimiser}, {"segmenter": lambda t: final**t})]

    def see(self, images: Mapping[str, Tensor]) -> Seen:
        """Logits and features of every modality: one pass through shared kernels, or one a network."""
        seen = Seen()
        if self.config.sharing == "none":
            for modality, image in images.items():
                network = self.network(modality)
                seen.features[modality] = network.features(image)
                seen.logits[modality] = network.classify(seen.features[modality])
            return seen
        network, sizes = self.network(next(iter(images))), [len(image) for image in images.values()]
        with of_domains(network, [(self.domain(m), n) for m, n in zip(images, sizes, strict=True)]):
            features = network.features(torch.cat(list(images.values())))
            logits = network.classify(features)
        parts = {group: values.split(sizes) for group, values in features.items()}
        for i, modality in enumerate(images):
            seen.logits[modality] = logits.split(sizes)[i]
            seen.features[modality] = {group: values[i] for group, values in parts.items()}
        return seen

    def labels(self, batch: Batch) -> dict[str, Tensor]:
        """The labels that a batch has, of the modalities that were trained with."""
        return {m: label for m in self.problem.labelled if m in batch and (label := batch[m].label) is not None}

    def between(self, seen: Seen, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Terms between modalities, named and weighted; none here."""
        return {}

    def training_step(self, batch: Batch, clock: Clock, update: Update) -> StepResult:
        images = {m: batch[m].image for m in self.problem.labelled}
        labels = self.labels(batch)
        seen = self.see(images)
        losses = {
            f"segmentation/{m}": dice_cross_entropy(seen.logits[m].float(), labels[m]) for m in self.problem.labelled
        }
        total = torch.stack(list(losses.values())).mean()
        between = self.between(seen, labels)
        for term in between.values():
            total = total + term
        update(total, "segmenter")
        return StepResult({"total": total.item()} | {name: value.item() for name, value in (losses | between).items()})

    def segment(self, image: Tensor, modality: str) -> Tensor:
        """(b, k, h, w) -> logits (b, c, h, w), normalised as `modality`."""
        return self.see({modality: image}).logits[modality]

    @torch.no_grad()
    def maps(self, batch: Batch) -> dict[str, Map]:
        """Class probabilities (`stack`), and for each normalisation layer the four statistics of each modality.

        The latter are `pairwise` (1, 4, channels): rows are scale, shift, running mean and running standard deviation.
        """
        found = {}
        for modality in [m for m in batch if m in self.problem.labelled]:
            p = self.segment(batch[modality].image, modality).float().softmax(1)
            names = ("background", *self.problem.classes)
            found[f"probability/{modality}"] = Map(
                "stack", p, modality, f"{self.place(modality)}.head", (0.0, 1.0), names=names
            )
            if self.config.sharing == "kernels":
                for layer, module in self.network(modality).named_modules():
                    if isinstance(module, DomainNorm2d):
                        values = normalisation_state(module, self.domain(modality))[None]
                        name = f"normalisation/{layer}/{modality}"
                        where = f"{self.place(modality)}.{layer}"
                        found[name] = Map("pairwise", values, modality, where, comparable=False, names=STATISTICS)
        return found
