"""BiGL's networks (He et al.): a U-Net with dual attention at its centre, and critics of features and of maps."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xmod_lab.errors import LabError
from xmod_lab.models.blocks import DoubleConv, Tap
from xmod_lab.models.critic import PatchCritic
from xmod_lab.models.dual_attention import ChannelMode, DualAttention, Form
from xmod_lab.models.unet import LEVELS, Decoder, Encoder, level_widths

LEAST = 12
"""positions along an edge that the attention has at least, those of 192 pixels after four halvings"""
MapScale = Literal["mean 1", "log", "raw"]


def levels_for(size: int) -> int:
    """How often slices of `size` pixels are halved: as often as leaves 12x12 positions, four times at most.

    A slice of 192 pixels is halved four times, of 96 and 128 three times, of 48 and 64 twice: a position then stands
    for about as much anatomy in all of them. Raises LabError for a size that leaves fewer than 12 after one halving.
    """
    fitting = [i for i in range(1, LEVELS + 1) if size % 2**i == 0 and size >> i >= LEAST]
    if not fitting:
        raise LabError(
            f"attention needs {LEAST}x{LEAST} positions, slices of {size} pixels do not leave them",
            where="BiGL",
            mend="take a profile of larger slices, of an even number of pixels",
        )
    return max(fitting)


class Sight(NamedTuple):
    """What the segmenter sees in images."""

    logits: Tensor
    """(b, classes, h, w)"""
    feature: Tensor
    """(b, features, u, v) after the attention"""
    position: Tensor | None
    """(b, uv, uv) where it was asked for"""
    channel: Tensor | None
    """(b, features, features) where there is attention"""

    def split(self, sizes: list[int]) -> list[Sight]:
        """By images, as `Tensor.split`."""
        parts = [[None] * len(sizes) if t is None else t.split(sizes) for t in self]
        return [Sight(*part) for part in zip(*parts, strict=True)]


class DualAttentionUNet(nn.Module):
    """U-Net whose centre goes through dual attention before the decoder: (b, channels, h, w) -> `Sight`.

    The lab's U-Net of `levels_for(size)` levels; the attention's branches have 4 `width` features. At width 32 and 192
    pixels that is the U-Net's 512 at 12x12 positions, taken to 128.

    attention   False: the plain U-Net; its feature is the centre's
    attend      False: the block stays, without its attentions (`DualAttention`)
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        size: int,
        width: int = 32,
        dropout: float = 0.5,
        attention: bool = True,
        form: Form = "released",
        mode: ChannelMode = "released",
        attend: bool = True,
    ):
        super().__init__()
        levels = levels_for(size)
        *_, before, centre = level_widths(width, levels)
        self.positions = (size >> levels) ** 2
        self.encoder = Encoder(channels, width, dropout, levels)
        self.centre = DoubleConv(before, centre)
        self.attention = DualAttention(centre, 4 * width, form, mode, attend) if attention else None
        self.features = centre if self.attention is None else self.attention.inner
        self.centre_tap = Tap()
        self.decoder = Decoder(classes, width, levels)

    def forward(self, x: Float[Tensor, "b c h w"], mapped: bool = False) -> Sight:
        """mapped: with the map of positions, which is else never made."""
        skips, x = self.encoder(x)
        out = feature = self.centre(x)
        position: Tensor | None = None
        channel: Tensor | None = None
        if self.attention is not None:
            out, feature, position, channel = self.attention(out, mapped)
        return Sight(self.decoder(self.centre_tap(out), skips), feature, position, channel)


class FeatureCritic(nn.Sequential):
    """Scores of positions, (b, c, h, w) -> (b, 1, h, w): 1x1 convolutions to `width`, to half of it and to one.

    12x12 positions are too few for convolutions of stride 2. 24,833 parameters with 128 channels and width 128.
    """

    def __init__(self, channels: int, width: int):
        super().__init__(
            nn.Conv2d(channels, width, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, width // 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width // 2, 1, 1),
        )


class RowCritic(nn.Module):
    """Scores of a map's rows, (b, 1, m, n) -> (b, 1, m, 1), by their values alone: each is sorted first.

    What a row looks at is not asked, only how sharply; the order of channels, or of positions in a raster, does not
    matter to it.
    """

    def __init__(self, columns: int, width: int):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(columns, width), nn.LeakyReLU(0.2), nn.Linear(width, 1))

    def forward(self, x: Float[Tensor, "b 1 m n"]) -> Float[Tensor, "b 1 m 1"]:
        return self.layers(x.sort(dim=3, descending=True).values)


def map_critic(edge: int, width: int) -> PatchCritic:
    """Scores of patches of maps (b, 1, edge, edge): a PatchGAN of three layers of stride 2, fewer below an edge of 24.

    693,217 parameters at width 32.
    """
    return PatchCritic(1, width, min(3, int(math.log2(edge / 3))))


def shown(attention: Float[Tensor, "b m n"], scale: MapScale) -> Float[Tensor, "b 1 m n"]:
    r"""A map as its critic sees it. Values of a row sum to 1, so they are about 1/n:

    mean 1   n A
    log      :math:`\ln(n A)`, at least ln(n 1e-6)
    raw      A. Beside the first bias of a critic without normalisation (`RowCritic`) 1/n is nothing; instance
             normalisation (`map_critic`) blows up what is small, and such a critic learns from raw maps as fast
    """
    n = attention.shape[2]
    if scale == "mean 1":
        attention = n * attention
    elif scale == "log":
        attention = torch.log(n * attention.clamp_min(1e-6))
    return attention[:, None]
