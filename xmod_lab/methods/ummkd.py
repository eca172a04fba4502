"""UMMKD: unpaired multi-modal segmentation by knowledge distillation (Dou, Liu, Heng, Glocker; IEEE TMI 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import torch
from torch import Tensor

from xmod_lab.losses.distillation import class_logits, distillation_loss, soft_confusion
from xmod_lab.maps import Map
from xmod_lab.methods.base import Batch
from xmod_lab.methods.fcn import FCNBaseline, FCNConfig, Seen


@dataclass(frozen=True)
class UMMKDConfig(FCNConfig):
    """weight (as `csa`'s over the number of modalities) and temperature of the distillation.

    decay: none, like the systems beside it; 1e-4 as printed. absent_classes: count those a batch lacks, as printed.
    """

    decay: float = 0.0
    weight: float = 0.5
    temperature: float = 2.0
    absent_classes: bool = False


class UMMKD(FCNBaseline):
    r"""`msbn` + 0.5 :math:`L_{KD}`: what pixels of a class are taken for shall agree across modalities.

    With `absent_classes` (preset `printed`) a class missing from one batch is distilled towards a uniform row.
    """

    Config = UMMKDConfig
    config: UMMKDConfig
    paper_names: ClassVar[dict[str, str]] = {
        "q_c^m": "losses.distillation.soft_confusion",
        "L_KD": "losses.distillation.distillation_loss",
        "T": "config.temperature",
    }
    presets: ClassVar[dict[str, dict[str, object]]] = {
        # the authors' rate, its fall over 150,000 steps (0.95^150), and dropout
        "printed": {"rate": 1e-3, "final_rate": 4.6e-4, "dropout": 0.25, "decay": 1e-4, "absent_classes": True}
    }
    ablations: ClassVar[dict[str, dict[str, object]]] = {"absent": {"absent_classes": True}}

    def between(self, seen: Seen, labels: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``distillation``: the weighted L_KD, mean over pairs of modalities."""
        rows = {m: class_logits(seen.logits[m], labels[m]) for m in labels}
        over = []
        for a, b in combinations(labels, 2):
            present = rows[a][1] & rows[b][1]
            kept = torch.ones_like(present) if self.config.absent_classes else present
            over.append(distillation_loss(rows[a][0], rows[b][0], kept, self.config.temperature))
        return {"distillation": self.config.weight / len(labels) * torch.stack(over).mean()}

    @torch.no_grad()
    def maps(self, batch: Batch) -> dict[str, Map]:
        """Beside `msbn`'s maps: ``confusion/<modality>`` and ``confusion_difference/<m1>-<m2>`` (`pairwise`).

        (1, c, c). Row: true class, column: what its pixels are taken for at the distillation's temperature.
        """
        found = super().maps(batch)
        labels = self.labels(batch)
        names = ("background", *self.problem.classes)
        rows = {}
        for m, label in labels.items():
            rows[m] = soft_confusion(class_logits(self.segment(batch[m].image, m), label)[0], self.config.temperature)
            layer = f"{self.place(m)}.head"
            found[f"confusion/{m}"] = Map("pairwise", rows[m][None], m, layer, (0.0, 1.0), names=names)
        for a, b in combinations(rows, 2):
            values = (rows[a] - rows[b])[None]
            found[f"confusion_difference/{a}-{b}"] = Map(
                "pairwise", values, f"{a}-{b}", "networks.*.head", (-1.0, 1.0), names=names
            )
        return found
