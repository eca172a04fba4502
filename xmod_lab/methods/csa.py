"""CSA: class-specific affinity guides one segmenter for several unpaired modalities (Chen et al., MICCAI 2020).

`csa`       affinities between two layers, per class, shall agree across modalities
`affinity`  the same without masks: one matrix for the whole slice
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from xmod_lab.errors import LabError
from xmod_lab.losses.affinity import affinity, affinity_loss, area_scaled, class_masks, mean_affinity
from xmod_lab.maps import Map, over_image
from xmod_lab.methods.base import Batch, Problem, one_of
from xmod_lab.methods.fcn import FCNBaseline, FCNConfig, Seen

PAIRS = {"near": ("5", "6"), "far": ("4", "8"), "late": ("8", "9")}
"""layer pairs by name: groups of the FCN, all at one resolution"""


@dataclass(frozen=True)
class CSAConfig(FCNConfig):
    """weight: lambda of equation 5, whose whole is divided by the number of modalities.

    pairs: near, far or late; several are summed. by_class: False is `affinity`. area_scaled and
    reduction="mean_then_square" are equations 3 and 4 to the letter (preset `printed`).
    """

    weight: float = 0.5
    pairs: tuple[str, ...] = ("near",)
    by_class: bool = True
    area_scaled: bool = False
    reduction: str = "entry"


class CSA(FCNBaseline):
    r"""`msbn` + :math:`\lambda L_{CSA}`, mean over pairs of modalities (equation 5).

    The default compares affinities entry by entry: as printed, the loss is the squared difference of two *means*, over
    an area in pixels, some four orders of magnitude smaller, and cannot be felt beside the segmentation loss.
    """

    Config = CSAConfig
    config: CSAConfig
    paper_names: ClassVar[dict[str, str]] = {
        "F(l)": "networks.all.groups",
        "M^c": "losses.affinity.class_masks",
        "a^c": "losses.affinity.affinity",
        "L_CSA": "losses.affinity.affinity_loss",
        "lambda": "config.weight",
    }
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "printed": FCNBaseline.presets["printed"] | {"area_scaled": True, "reduction": "mean_then_square"}
    }
    ablations: ClassVar[dict[str, dict[str, object]]] = {
        "far": {"pairs": ("far",)},
        "late": {"pairs": ("late",)},
        "literal": {"area_scaled": True, "reduction": "mean_then_square"},
        "weight-5": {"weight": 5.0},
        "weight-50": {"weight": 50.0},
    }

    def __init__(self, config: CSAConfig, problem: Problem):
        super().__init__(config, problem)
        one_of(CSA, "reduction", config.reduction, ("entry", "mean_then_square"))
        for pair in config.pairs:
            one_of(CSA, "pairs", pair, PAIRS)
        if len(problem.labelled) < 2:
            raise LabError("affinities are compared across modalities: the task labels one only", where="csa")

    def matrices(self, features: Mapping[str, Tensor], labels: Tensor, pair: str) -> tuple[Tensor, Tensor]:
        """Affinity (c, m, n) of the batch's classes between the groups of `pair`, and which classes are present."""
        first, second = (features[group] for group in PAIRS[pair])
        size = (first.shape[2], first.shape[3])
        if self.config.by_class:
            masks = class_masks(labels, self.problem.n_classes, size)
        else:
            masks = torch.ones(len(labels), 1, *size, device=labels.device)
        found = affinity(first, second, masks)
        return mean_affinity(area_scaled(found, masks) if self.config.area_scaled else found, masks)

    def between(self, seen: Seen, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``affinity``: the weighted L_CSA of equation 4, mean over pairs of modalities, summed over layer pairs."""
        terms = []
        for pair in self.config.pairs:
            found = {m: self.matrices(seen.features[m], labels[m], pair) for m in labels}
            over = [
                affinity_loss(found[a][0], found[b][0], found[a][1] & found[b][1], self.config.reduction)  # type: ignore[arg-type]
                for a, b in combinations(labels, 2)
            ]
            terms.append(torch.stack(over).mean())
        return {"affinity": self.config.weight / len(labels) * torch.stack(terms).sum()}

    @torch.no_grad()
    def maps(self, batch: Batch) -> dict[str, Map]:
        """Beside `msbn`'s maps, where labels are given:

        ``affinity/<pair>/<class>/<modality>`` and ``affinity_difference/<pair>/<class>/<m1>-<m2>`` (`pairwise`, mean
        over the samples that hold the class), ``features/<group>/<modality>`` (`stack`: the channels that affinities
        compare), ``class_features/<group>/<modality>`` (`stack`, equation 2: features
        times the class's mask, mean over channels; Fig. 2 of the paper).
        """
        found = super().maps(batch)
        labels = self.labels(batch)
        seen = self.see({m: batch[m].image for m in labels}) if labels else Seen()
        classes = ("background", *self.problem.classes) if self.config.by_class else ("all",)
        for pair in self.config.pairs:
            kept = {m: self.matrices(seen.features[m], labels[m], pair) for m in labels}
            groups = f"taps.[{''.join(PAIRS[pair])}]"
            for k, name in enumerate(classes):
                have = [m for m in labels if bool(kept[m][1][k])]
                for m in have:
                    layer = f"{self.place(m)}.{groups}"
                    stacks = (f"features/{PAIRS[pair][0]}/{m}", f"features/{PAIRS[pair][1]}/{m}")
                    found[f"affinity/{pair}/{name}/{m}"] = Map(
                        "pairwise", kept[m][0][k][None], m, layer, (-1.0, 1.0), behind=stacks
                    )
                for a, b in combinations(have, 2):
                    values = (kept[a][0][k] - kept[b][0][k])[None]
                    key = f"affinity_difference/{pair}/{name}/{a}-{b}"
                    found[key] = Map("pairwise", values, f"{a}-{b}", f"networks.*.{groups}", (-2.0, 2.0))
        for group in sorted({group for pair in self.config.pairs for group in PAIRS[pair]}):
            for m in labels:
                layer, values = f"{self.place(m)}.taps.{group}", over_image(seen.features[m][group], batch[m].image)
                names = tuple(str(i + 1) for i in range(values.shape[1]))
                found[f"features/{group}/{m}"] = Map("stack", values, m, layer, comparable=False, names=names)
        group = PAIRS[self.config.pairs[0]][0]
        for m, label in labels.items():
            values = class_features(seen.features[m][group], label, self.problem.n_classes)
            names = ("background", *self.problem.classes)
            found[f"class_features/{group}/{m}"] = Map(
                "stack", values, m, f"{self.place(m)}.taps.{group}", comparable=False, names=names
            )
        return found


def class_features(feature: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Equation 2, mean over channels: (b, c, h, w), each class's mask times the mean magnitude of the feature, >= 0.

    Masks are taken at the feature's resolution, then both are enlarged to the labels' with nearest neighbours.
    """
    masks = class_masks(labels, classes, (feature.shape[2], feature.shape[3]))
    return F.interpolate(feature.float().abs().mean(1, keepdim=True) * masks, labels.shape[1:], mode="nearest")
