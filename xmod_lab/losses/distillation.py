"""Knowledge distillation between modalities without paired images (UMMKD, Dou et al., TMI 2020)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F


def class_logits(
    logits: Float[Tensor, "b c h w"], labels: Int64[Tensor, "b h w"]
) -> tuple[Float[Tensor, "c c"], Bool[Tensor, " c"]]:
    r"""Row k: mean logits over the pixels whose label is k, :math:`\bar z_k`; and which classes have pixels.

    A row of an absent class is zero.
    """
    z = logits.float()
    one_hot = F.one_hot(labels, z.shape[1]).to(z.dtype)
    counts = one_hot.sum((0, 1, 2))
    return torch.einsum("bhwk,bchw->kc", one_hot, z) / counts.clamp_min(1)[:, None], counts > 0


def soft_confusion(rows: Float[Tensor, "c c"], temperature: float = 2.0) -> Float[Tensor, "c c"]:
    r""":math:`q_k = \mathrm{softmax}(\bar z_k / T)`: row k says what pixels of class k are taken for; rows sum to 1."""
    return (rows / temperature).softmax(1)


def distillation_loss(
    first: Float[Tensor, "c c"],
    second: Float[Tensor, "c c"],
    present: Bool[Tensor, " c"],
    temperature: float = 2.0,
) -> Float[Tensor, ""]:
    r"""Symmetric divergence of two modalities' soft confusions, mean over the classes `present`; in nats, >= 0.

    .. math:: \frac1{|C|} \sum_{k \in C} \tfrac12 [ KL(q^1_k \Vert q^2_k) + KL(q^2_k \Vert q^1_k) ]

    As printed all classes count. A class absent from one batch then has a uniform row, and the loss pushes the other
    modality's confident predictions towards it: leave such classes out. Both modalities learn.
    """
    p, q = ((rows / temperature).log_softmax(1) for rows in (first, second))
    per_class = 0.5 * ((p.exp() - q.exp()) * (p - q)).sum(1)
    kept = present.to(per_class.dtype)
    return (per_class * kept).sum() / kept.sum().clamp_min(1)
