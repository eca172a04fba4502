"""SASAN's networks: an attention module, and a generator whose decoder is normalised by what it attends to.

Sizes are those of the paper's appendix; instance normalisation and leaky ReLU in the plain blocks are the authors'
code's, where the appendix says convolution and ReLU alone. `width` is 32 there.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from xmod_lab.models.blocks import Tap, recomputed


class ConvBlock(nn.Sequential):
    """Reflection padding, convolution, instance normalisation without scale and shift, leaky ReLU 0.2."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 3, stride: int = 1):
        super().__init__(
            nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, padding_mode="reflect"),
            nn.InstanceNorm2d(c_out),
            nn.LeakyReLU(0.2, inplace=True),
        )


class AttentionModule(nn.Module):
    """(b, channels, h, w) -> attention maps (b, maps, h, w), unbounded, and logits (b, classes, h, w) or None.

    A light U-Net; h and w are multiples of 16. Its last layer reads the logits off the maps alone, which ties them to
    anatomy; classes 0: there is no such layer. 2,427,925 parameters with three channels, eight maps, five classes.
    """

    def __init__(self, channels: int, classes: int, maps: int = 8, width: int = 32):
        super().__init__()
        w = width
        self.first = ConvBlock(channels, w, 5)
        self.down = nn.ModuleList(
            ConvBlock(a * w, b * w, 5, 2) for a, b in ((1, 2), (2, 2), (2, 4), (4, 8))
        )  # fmt: skip
        self.up = nn.ModuleList(ConvBlock(a * w, b * w) for a, b in ((8, 8), (12, 4), (6, 2), (4, 2)))
        self.last = ConvBlock(3 * w, w)
        self.attend = nn.Conv2d(w, maps, 3, padding=1)
        self.maps = Tap()
        self.classify = nn.Conv2d(maps, classes, 3, padding=1) if classes else None

    def forward(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b n h w"], Tensor | None]:
        skips = [self.first(x)]
        for block in self.down:
            skips.append(block(skips[-1]))
        x = skips.pop()
        for block in self.up:
            x = torch.cat([F.interpolate(block(x), scale_factor=2), skips.pop()], 1)
        maps = self.maps(self.attend(self.last(x)))
        return maps, None if self.classify is None else self.classify(maps)


class SelfAttentiveNorm(nn.Module):
    r"""Instance normalisation whose scale and shift are maps of their own, made from the attention maps.

    .. math:: \hat x_{cij} = (1 + \gamma_{cij}(a)) \frac{x_{cij} - \mu_c}{\sigma_c} + \beta_{cij}(a)

    Section 3.1.2; (b, c, h, w) and maps (b, n, H, W), which are brought to h x w by nearest neighbours. shifted: False:
    :math:`\gamma` without the 1, as printed; the layer then begins by silencing what it is given. `gamma` and `beta`
    are taps, (b, c, h, w). One convolution makes both.
    """

    def __init__(self, channels: int, maps: int, hidden: int = 64, shifted: bool = True):
        super().__init__()
        self.shifted = shifted
        self.norm = nn.InstanceNorm2d(channels)
        self.embed = nn.Conv2d(maps, hidden, 3, padding=1)
        self.modulate = nn.Conv2d(hidden, 2 * channels, 3, padding=1)
        self.gamma, self.beta = Tap(), Tap()

    def forward(self, x: Float[Tensor, "b c h w"], maps: Float[Tensor, "b n H W"]) -> Float[Tensor, "b c h w"]:
        small = F.interpolate(maps, x.shape[2:]) if maps.shape[2:] != x.shape[2:] else maps
        gamma, beta = self.modulate(F.relu(self.embed(small))).chunk(2, 1)
        gamma, beta = self.gamma(gamma), self.beta(beta)
        return torch.addcmul(beta, self.norm(x), 1 + gamma if self.shifted else gamma)


class NormBlock(nn.Module):
    """Residual block of two `SelfAttentiveNorm`s, each before leaky ReLU 0.2 and a 3x3 convolution (SPADE's block).

    (b, c_in, h, w) and maps -> (b, c_out, h, w). Where the widths differ the short way is normalised as well and
    brought to c_out by a 1x1 convolution.
    """

    def __init__(self, c_in: int, c_out: int, maps: int, hidden: int = 64, shifted: bool = True):
        super().__init__()
        between = min(c_in, c_out)
        self.norms = nn.ModuleList(SelfAttentiveNorm(c, maps, hidden, shifted) for c in (c_in, between))
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in ((c_in, between), (between, c_out))
        )  # fmt: skip
        same = c_in == c_out
        self.short_norm = None if same else SelfAttentiveNorm(c_in, maps, hidden, shifted)
        self.short = None if same else nn.Conv2d(c_in, c_out, 1, bias=False)

    def forward(self, x: Float[Tensor, "b c h w"], maps: Float[Tensor, "b n H W"]) -> Float[Tensor, "b d h w"]:
        short = x if self.short is None or self.short_norm is None else self.short(self.short_norm(x, maps))
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = conv(F.leaky_relu(norm(x, maps), 0.2, inplace=True))
        return x + short


class Synthesis(nn.Module):
    """Image (b, channels, h, w) and its attention maps (b, n, h, w) -> image (b, channels, h, w) in (-1, 1).

    h and w are multiples of 4. The decoder's three blocks, at a quarter, half and the whole of the size, are where the
    maps come in; there are no skip connections. 1,580,291 parameters with three channels and eight maps.

    recompute: the backward pass computes the finest of these blocks again instead of keeping it (`recomputed`).
    """

    def __init__(self, channels: int, maps: int = 8, width: int = 32, shifted: bool = True):
        super().__init__()
        w, hidden = width, 2 * width
        self.encoder = nn.Sequential(
            ConvBlock(channels, w, 7), ConvBlock(w, 2 * w, 3, 2), ConvBlock(2 * w, 4 * w, 3, 2), ConvBlock(4 * w, 4 * w)
        )
        self.blocks = nn.ModuleList(
            NormBlock(a * w, b * w, maps, hidden, shifted) for a, b in ((4, 4), (4, 2), (2, 1))
        )  # fmt: skip
        self.last = ConvBlock(w, w // 2)
        self.head = nn.Conv2d(w // 2, channels, 3, padding=1)

    def forward(
        self, x: Float[Tensor, "b c h w"], maps: Float[Tensor, "b n h w"], recompute: bool = False
    ) -> Float[Tensor, "b c h w"]:
        x = self.encoder(x)
        for i, block in enumerate(self.blocks):
            finest = i == len(self.blocks) - 1
            x = recomputed(block, x, maps) if finest and recompute else block(x, maps)
            if not finest:
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return torch.tanh(self.head(self.last(x)))
