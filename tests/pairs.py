"""What the losses of MR-GAN and DC2Anet are, from the networks alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from xmod_lab.losses.similarity import gradient_difference, structural_similarity
from xmod_lab.models.critic import HybridCritic

WAYS = ("A->B", "B->A")
WEIGHTS = {"adversarial": 1, "reconstruction": 10, "pair": 100, "gradient_difference": 100, "similarity": 1}


def terms_of(method: Any, x: dict[str, Tensor], kind: str) -> tuple[dict[str, float], float]:
    """Means over both directions of the generators' plain losses, and of the critics', from the networks alone."""
    g, found, critics = method.generators, {}, []
    for way in WAYS:
        s, t = way.split("->")
        made = g[way](x[s])
        back = g[f"{t}->{s}"](made)

        def scores(image: Tensor, way: str = way, s: str = s) -> Tensor:
            shown = torch.cat([x[s], image], 1) if kind == "pair" else image
            critic = method.critics[way]
            return (critic(shown, kind) if isinstance(critic, HybridCritic) else critic(shown)).sigmoid()

        critics.append(-0.5 * scores(x[t]).log().mean() - 0.5 * (1 - scores(made)).log().mean())
        found[way] = {
            "adversarial": -scores(made).log().mean(),
            "reconstruction": (back - x[s]).abs().mean(),
            "pair": (made - x[t]).abs().mean(),
            "gradient_difference": gradient_difference(made, x[t]),
            "similarity": 1 - structural_similarity(made, x[t], clamped=False),
            "change": (made - x[s]).abs().mean(),
        }
    means = {name: torch.stack([found[way][name] for way in WAYS]).mean().item() for name in found["A->B"]}
    return means, torch.stack(critics).mean().item()
