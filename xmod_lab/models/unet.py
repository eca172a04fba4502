"""The U-Net of UAGAN's repository, in parts that other methods recombine.

Encoder, centre and decoder are modules of their own because UAGAN and Multi-V4 share the centre between streams and
BiGL puts attention between them. Instance normalisation has no affine parameters and no running statistics.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from xmod_lab.models.blocks import DoubleConv, Tap, concat

LEVELS = 4


def level_widths(width: int, levels: int = LEVELS) -> list[int]:
    """Channels of the encoder levels and the centre: f, 2f, 4f, 8f, 16f."""
    return [width * 2**i for i in range(levels + 1)]


class Encoder(nn.Module):
    """Four double convolutions, each followed by a 2x2 max-pool.

    Input (b, c, h, w) with h and w multiples of 16. Returns the four features before pooling, fine to coarse
    ((b, f, h, w) ... (b, 8f, h/8, w/8)), and the pooled last one (b, 8f, h/16, w/16). Dropout of 0.5 acts on the copy
    of the coarsest feature that goes to the decoder, not on the path to the centre. Of fewer `levels`, h and w are
    multiples of 2^levels, and so on.
    """

    def __init__(self, channels: int, width: int, dropout: float = 0.5, levels: int = LEVELS):
        super().__init__()
        widths = [channels, *level_widths(width, levels)[:levels]]
        self.levels = nn.ModuleList(DoubleConv(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.taps = nn.ModuleList(Tap() for _ in range(levels))
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b c h w"]) -> tuple[list[Tensor], Float[Tensor, "b d h16 w16"]]:
        skips = []
        for level, tap in zip(self.levels, self.taps, strict=True):
            feature = tap(level(x))
            skips.append(feature)
            x = self.pool(feature)
        skips[-1] = self.dropout(skips[-1])
        return skips, x


class Decoder(nn.Module):
    """Four steps of 2x2 transposed convolution, concatenation with the skip and a double convolution; then a 1x1 head.

    Takes the centre's feature (b, 16f, h/16, w/16) and the skips fine to coarse; returns (b, out, h, w).
    """

    def __init__(self, out: int, width: int, levels: int = LEVELS):
        super().__init__()
        widths = level_widths(width, levels)[:levels]
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * n, n, 2, stride=2) for n in reversed(widths))
        self.levels = nn.ModuleList(DoubleConv(2 * n, n) for n in reversed(widths))
        self.taps = nn.ModuleList(Tap() for _ in range(levels))
        self.head = nn.Conv2d(width, out, 1)

    def forward(self, x: Float[Tensor, "b d h16 w16"], skips: list[Tensor]) -> Float[Tensor, "b out h w"]:
        return self.head(self.features(x, skips)[-1])

    def features(self, x: Float[Tensor, "b d h16 w16"], skips: list[Tensor]) -> list[Tensor]:
        """What the levels give, coarse to fine: (b, 8f, h/8, w/8) ... (b, f, h, w)."""
        found = []
        for up, level, tap, skip in zip(self.up, self.levels, self.taps, reversed(skips), strict=True):
            x = tap(level(concat(skip, up(x))))
            found.append(x)
        return found


class UNet(nn.Module):
    """U-Net: (b, channels, h, w) -> logits (b, classes, h, w); h and w multiples of 16.

    31,030,658 parameters at width 64 with one channel and two classes.
    """

    def __init__(self, channels: int, classes: int, width: int = 64, dropout: float = 0.5):
        super().__init__()
        self.encoder = Encoder(channels, width, dropout)
        self.centre = DoubleConv(level_widths(width)[-2], level_widths(width)[-1])
        self.centre_tap = Tap()
        self.decoder = Decoder(classes, width)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes h w"]:
        skips, x = self.encoder(x)
        return self.decoder(self.centre_tap(self.centre(x)), skips)
