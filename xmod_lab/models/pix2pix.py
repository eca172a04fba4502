"""Pix2Pix's generator: a U-Net of strided convolutions that goes down to one pixel where the size lets it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xmod_lab.models.blocks import Tap

DEEPEST = 8


def levels_of(size: int) -> int:
    """How often slices of `size` pixels are halved: 8 times at 256 and 6 at 64, to one pixel; 4 at 48, to three."""
    return min(DEEPEST, (size & -size).bit_length() - 1)


class UNetGenerator(nn.Module):
    """(b, channels, h, w) -> (b, out, h, w) in (-1, 1); h and w multiples of 2^levels (Isola et al. 2017).

    Down, 4x4 convolutions of stride 2: width, doubling to eightfold; leaky ReLU 0.2 before, a norm after all but the
    first and the last. Up, ReLU and transposed ones of that kind; a norm after each but the last, which has tanh.
    Dropout follows the norm where an eightfold layer that is not the deepest meets another: three times at 8 levels.

    taps        what goes from down to up, as `levels` features from fine to coarse: the skip connections, and last the
                centre (b, 8 width, h/2^levels, w/2^levels). What goes on downwards does not pass a skip's tap
    batch       batch normalisation instead of instance normalisation without affine; no bias beside it
    transposed  False: nearest neighbours and a 3x3 convolution on the way up, which leave no checkerboard

    Parameters at width 64 and 8 levels, batch and transposed: 54,413,955 with three channels, 54,407,809 with one.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        levels: int,
        width: int = 64,
        dropout: float = 0.5,
        batch: bool = False,
        transposed: bool = True,
    ):
        super().__init__()
        widths = [width * min(2**i, 8) for i in range(levels)]

        def norm(c: int) -> nn.Module:
            return nn.BatchNorm2d(c) if batch else nn.InstanceNorm2d(c)

        def grow(c_in: int, c_out: int, bias: bool) -> nn.Module:
            if transposed:
                return nn.ConvTranspose2d(c_in, c_out, 4, 2, 1, bias=bias)
            return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(c_in, c_out, 3, padding=1, bias=bias))

        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.taps = nn.ModuleList(Tap() for _ in widths)
        for i, c in enumerate(widths):
            before = [nn.LeakyReLU(0.2)] if i else []
            conv = nn.Conv2d(widths[i - 1] if i else channels, c, 4, 2, 1, bias=not batch)
            self.down.append(nn.Sequential(*before, conv, *([norm(c)] if 0 < i < levels - 1 else [])))
        for i in reversed(range(1, levels)):
            joined = widths[i] * (1 if i == levels - 1 else 2)
            up = grow(joined, widths[i - 1], not batch)
            wide = i < levels - 1 and widths[i - 1] == 8 * width
            self.up.append(nn.Sequential(nn.ReLU(), up, norm(widths[i - 1]), nn.Dropout(dropout if wide else 0.0)))
        self.up.append(nn.Sequential(nn.ReLU(), grow(2 * width, out, True), nn.Tanh()))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b out h w"]:
        passed = []
        for down, tap in zip(self.down, self.taps, strict=True):
            x = down(x)
            passed.append(tap(x))
        x = passed.pop()
        for up in self.up[:-1]:
            x = torch.cat([passed.pop(), up(x)], 1)
        return self.up[-1](x)
