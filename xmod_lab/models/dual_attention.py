"""Dual attention (DANet, Fu et al., CVPR 2019): positions attend to positions, channels to channels.

Weights and their use are separate functions. The map of positions is (N, N) for N pixels, 64 MiB a slice at 64x64 in
float32: it is made only for who asks for it, else a fused kernel mixes the values without ever holding it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from xmod_lab.models.blocks import Tap

ChannelMode = Literal["paper", "released", "stabilised"]
Form = Literal["paper", "released"]


def position_map(query: Float[Tensor, "b n d"], key: Float[Tensor, "b n d"]) -> Float[Tensor, "b n n"]:
    r""":math:`A = \mathrm{softmax}(Q K^\top)` along rows: row i says where position i looks; in [0, 1], rows sum to 1.

    Not divided by :math:`\sqrt d`, as in the paper. In float32 whatever the autocast.
    """
    with torch.autocast(query.device.type, enabled=False):
        return (query.float() @ key.float().mT).softmax(2)


def attended(
    query: Float[Tensor, "b n d"], key: Float[Tensor, "b n d"], value: Float[Tensor, "b n c"]
) -> Float[Tensor, "b n c"]:
    r""":math:`\mathrm{softmax}(Q K^\top) V` by a fused kernel, which never holds the map; needs d <= c.

    Such kernels take heads of one size alone, with channels side by side in memory. Where either is missing PyTorch
    says nothing and makes the map: so queries and keys are filled up with zeros, which add nothing to their products.
    """
    wide = value.shape[2]
    q, k, v = (F.pad(t, (0, wide - t.shape[2])).contiguous()[:, None] for t in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v, scale=1.0)[:, 0]


def channel_map(
    x: Float[Tensor, "b c h w"], mode: ChannelMode = "released", temperature: Tensor | float = 1.0
) -> Float[Tensor, "b c c"]:
    r"""Row i says which channels channel i looks at; in [0, 1], rows sum to 1. With :math:`E = X X^\top` over pixels:

    paper        :math:`\mathrm{softmax}(E)`. A channel is most like itself and E grows with the pixels: the map is the
                 unit matrix, and the block does no more than scale
    released     :math:`\mathrm{softmax}(\max_j E_{ij} - E_{ij})`, the order reversed: a channel looks at those least
                 like it. The authors' code; they say that it keeps the loss from diverging
    stabilised   :math:`\mathrm{softmax}(\tau \hat X \hat X^\top)` of channels of unit length, with the `temperature`

    In float32 whatever the autocast: 4096 pixels of variance 16 are more than half precision holds.
    """
    with torch.autocast(x.device.type, enabled=False):
        rows = x.float().flatten(2)
        if mode == "stabilised":
            rows = F.normalize(rows, dim=2)
            return (temperature * (rows @ rows.mT)).softmax(2)
        energy = rows @ rows.mT
        if mode == "released":
            energy = energy.amax(2, keepdim=True) - energy
        return energy.softmax(2)


class PositionAttention(nn.Module):
    r"""(b, c, h, w) -> the same: :math:`\gamma A V + X` over the n = h w positions, and the map A (b, n, n) or None.

    Queries, keys and values are linear in a pixel's channels (DANet's 1x1 convolutions, in an order of memory that the
    kernel takes); queries and keys have an eighth of the channels, at least one. :math:`\gamma` is learnt and begins
    with 0: the block is the identity at first. 328,321 parameters with 512 channels, 82,241 with 256.

    The map is made where it is asked for (`mapped`), or where somebody reads or replaces the tap `map`; gradients then
    reach what the map was made of through it as well.
    """

    def __init__(self, channels: int):
        super().__init__()
        inner = max(channels // 8, 1)
        self.query, self.key = nn.Linear(channels, inner), nn.Linear(channels, inner)
        self.value = nn.Linear(channels, channels)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.map = Tap()

    def forward(self, x: Float[Tensor, "b c h w"], mapped: bool = False) -> tuple[Tensor, Tensor | None]:
        pixels = x.flatten(2).mT.contiguous()  # (b, n, c), so that what is made of it needs no copy
        attention: Tensor | None = None
        value = self.value(pixels)
        with torch.autocast(x.device.type, enabled=False):  # products are not divided: bf16 would lose whole units
            query, key = self.query(pixels.float()), self.key(pixels.float())
            if mapped or self.map.watched:
                attention = self.map(position_map(query, key))
                mixed = attention.to(value.dtype) @ value
            else:
                mixed = attended(query, key, value.float()).to(value.dtype)
        return x + (self.gamma * mixed).mT.reshape(x.shape), attention


class ChannelAttention(nn.Module):
    r"""(b, c, h, w) -> the same: :math:`\gamma A X + X` over the channels, and the map A (b, c, c) (`channel_map`).

    :math:`\gamma` begins with 0. It is the only parameter; stabilised also has the temperature, at first 10.
    """

    def __init__(self, mode: ChannelMode = "released"):
        super().__init__()
        self.mode: ChannelMode = mode
        self.gamma = nn.Parameter(torch.zeros(1))
        self.temperature = nn.Parameter(torch.full((1,), 10.0)) if mode == "stabilised" else None
        self.map = Tap()

    def forward(self, x: Float[Tensor, "b c h w"]) -> tuple[Tensor, Tensor]:
        attention = self.map(channel_map(x, self.mode, 1.0 if self.temperature is None else self.temperature))
        mixed = attention.to(x.dtype) @ x.flatten(2)
        return self.gamma * mixed.view(x.shape) + x, attention


class Attended(NamedTuple):
    """What a dual-attention block gives."""

    out: Tensor
    """(b, c, h, w), what goes on"""
    feature: Tensor
    """(b, inner, h, w), the sum of both branches: the features after the attention"""
    position: Tensor | None
    """(b, n, n), where it was asked for"""
    channel: Tensor | None
    """(b, inner, inner); without the attentions None"""


class DualAttention(nn.Module):
    """Position and channel attention side by side, their results summed: (b, c, h, w) -> `Attended`.

    released   as DANet's code has it: a 3x3 convolution of each branch takes the feature to `inner` channels before and
               another one follows it, both with instance normalisation (there batch normalisation) and ReLU. What the
               branches add up to goes through a 1x1 convolution and is added to x
    paper      BiGL's equation 3: both attend to x itself, and their sum goes on, 2x at first

    attend     False: what is left of it without the two attentions, as if both gammas stayed 0, and without their
               weights. All other weights begin as they would beside them
    """

    position: PositionAttention | None
    channel: ChannelAttention | None

    def __init__(
        self,
        channels: int,
        inner: int,
        form: Form = "released",
        mode: ChannelMode = "released",
        attend: bool = True,
    ):
        super().__init__()
        self.form: Form = form
        if form == "released":
            self.before = nn.ModuleList(_normalised(channels, inner) for _ in range(2))
            self.after = nn.ModuleList(_normalised(inner, inner) for _ in range(2))
            self.back = nn.Conv2d(inner, channels, 1)
        self.inner = inner if form == "released" else channels
        self.position, self.channel = PositionAttention(self.inner), ChannelAttention(mode)
        if not attend:  # drawn all the same: what is drawn after them begins alike
            self.position = self.channel = None

    def forward(self, x: Float[Tensor, "b c h w"], mapped: bool = False) -> Attended:
        released, position, channel = self.form == "released", None, None
        p, c = (before(x) for before in self.before) if released else (x, x)
        if self.position is not None and self.channel is not None:
            (p, position), (c, channel) = self.position(p, mapped), self.channel(c)
        if not released:
            return Attended(p + c, p + c, position, channel)
        feature = self.after[0](p) + self.after[1](c)
        return Attended(x + self.back(feature), feature, position, channel)


def _normalised(c_in: int, c_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=1, bias=False), nn.InstanceNorm2d(c_out), nn.ReLU())
