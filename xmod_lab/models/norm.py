"""What a network knows of the modality: normalisation by domain, and scale and shift by the wanted modality."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

Parts = Sequence[tuple[int, int]]
"""(domain, number of samples) of the consecutive parts of a batch"""


class DomainNorm2d(nn.Module):
    r"""Batch normalisation with an own :math:`(\gamma_d, \beta_d, \mu_d, \sigma_d^2)` for each domain.

    .. math:: \hat x = \gamma_d \frac{x - \mu_d}{\sqrt{\sigma_d^2 + \epsilon}} + \beta_d

    Karani et al., MICCAI 2018; CSA, equation 1. (b, features, h, w) -> the same. The batch may hold several domains one
    after the other (`of_domains` says which): convolutions see them together, only this layer takes them apart, which
    is the same as separate passes and saves half the launches. Updating one domain leaves the others' statistics
    bit-identical. Defaults are those of the TensorFlow codes: decay 0.9, epsilon 1e-3.

    shared: one gamma and beta for all domains, statistics of their own (SIFA's encoder).
    """

    def __init__(self, features: int, domains: int, momentum: float = 0.1, eps: float = 1e-3, shared: bool = False):
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(features, eps, momentum) for _ in range(domains))
        for norm in list(self.norms)[1:] if shared else []:
            norm.weight, norm.bias = self.norms[0].weight, self.norms[0].bias
        self.parts: Parts = ()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        if len(self.norms) == 1:
            return self.norms[0](x)
        if sum(n for _, n in self.parts) != len(x):
            raise ValueError(f"parts {tuple(self.parts)} do not cover a batch of {len(x)}: use of_domains(...)")
        pieces = x.split([n for _, n in self.parts])
        done = [self.norms[domain](piece) for (domain, _), piece in zip(self.parts, pieces, strict=True)]
        return done[0] if len(done) == 1 else torch.cat(done)


@contextlib.contextmanager
def of_domains(network: nn.Module, parts: Parts) -> Iterator[None]:
    """While the block runs, batches of `network` consist of these parts: [(0, 4), (1, 4)] is 4 of domain 0, 4 of 1."""
    layers = [m for m in network.modules() if isinstance(m, DomainNorm2d)]
    before = [layer.parts for layer in layers]
    for layer in layers:
        layer.parts = parts
    try:
        yield
    finally:
        for layer, old in zip(layers, before, strict=True):
            layer.parts = old


class Film(nn.Module):
    r"""Scale and shift of each channel by the modality: :math:`(1 + \gamma_m) x + \beta_m` (Perez et al. 2018).

    A plane of constants is gone after instance normalisation, all but its padded border; this is not.
    """

    def __init__(self, modalities: int, channels: int):
        super().__init__()
        self.table = nn.Embedding(modalities, 2 * channels)
        nn.init.normal_(self.table.weight, std=0.5)

    def forward(self, x: Float[Tensor, "b c h w"], modality: Int64[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
        scale, shift = self.table(modality)[..., None, None].to(x.dtype).chunk(2, dim=1)
        return (1 + scale) * x + shift
