"""The residual generator of StarGAN, CycleGAN and what follows them: image, and modality where asked for, to image."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from xmod_lab.models.blocks import Tap
from xmod_lab.models.norm import Film

Padding = Literal["zeros", "reflect"]


def normalised(conv: nn.Module, channels: int, affine: bool) -> list[nn.Module]:
    """A convolution followed by instance normalisation without running statistics, and ReLU."""
    return [conv, nn.InstanceNorm2d(channels, affine=affine), nn.ReLU()]


class Residual(nn.Module):
    """x plus (3x3 convolution, instance norm, ReLU, 3x3 convolution, instance norm) of x: (b, c, h, w) -> the same.

    modalities > 0: a `Film` of the wanted modality follows the last normalisation. bias: of the convolutions; None:
    where the norms have no affine.
    """

    def __init__(
        self,
        channels: int,
        padding: Padding = "zeros",
        affine: bool = False,
        modalities: int = 0,
        bias: bool | None = None,
    ):
        super().__init__()
        biased = not affine if bias is None else bias

        def conv() -> nn.Conv2d:
            return nn.Conv2d(channels, channels, 3, padding=1, padding_mode=padding, bias=biased)

        self.body = nn.Sequential(
            *normalised(conv(), channels, affine), conv(), nn.InstanceNorm2d(channels, affine=affine)
        )

        self.film = Film(modalities, channels) if modalities else None

    def forward(self, x: Float[Tensor, "b c h w"], wanted: Tensor | None = None) -> Float[Tensor, "b c h w"]:
        change = self.body(x)
        return x + (change if self.film is None else self.film(change, wanted))


class ResNetGenerator(nn.Module):
    """(b, channels, h, w) -> (b, out, h, w) in (-1, 1); h and w multiples of 4. Three parts and a tap between them.

    `down`: 7x7 convolution to `width`, two of stride 2, doubling it. `blocks` residual blocks, after which the tap
    `bottleneck` gives (b, 4 width, h/4, w/4). `up`: two transposed convolutions and a 7x7 one with tanh.

                 StarGAN   CycleGAN   MR-GAN
    modalities   n         0          0         the wanted one is appended to the image as n constant planes, 1 and n-1
                                                times 0
    padding      zeros     reflect    zeros     of the convolutions of stride 1; with reflect, a constant plane is
                                                invisible: the first instance norm takes it away, no border betrays it
    rim          None      None       reflect   padding of the two 7x7 convolutions; None: as the others
    affine       True      False      True      of the norms
    bias         None      None       True      of the convolutions; None: where the norms have no affine
    strided      4         3          3         kernel of those of stride 2
    blocks       6         9          9
    transposed   True      True       True      False: nearest neighbours and a 3x3 convolution, which leave no
                                                checkerboard
    film         False     False      False     True: the wanted modality also scales and shifts what each residual
                                                block adds

    Never with running statistics: an image's result would depend on those seen before. Parameters at width 64, of
    StarGAN's column: 8,430,528 with three channels and five planes, 8,424,256 with three; with one channel, of
    CycleGAN's: 11,365,633, of MR-GAN's: 11,376,129.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        modalities: int = 0,
        width: int = 64,
        blocks: int = 6,
        padding: Padding = "zeros",
        affine: bool = True,
        strided: int = 4,
        film: bool = False,
        transposed: bool = True,
        rim: Padding | None = None,
        bias: bool | None = None,
    ):
        super().__init__()
        self.modalities = modalities
        deep, bias = 4 * width, not affine if bias is None else bias

        def outer(c_in: int, c_out: int, bias: bool) -> nn.Conv2d:
            return nn.Conv2d(c_in, c_out, 7, padding=3, padding_mode=rim or padding, bias=bias)

        def shrink(c: int) -> nn.Conv2d:
            return nn.Conv2d(c, 2 * c, strided, stride=2, padding=1, bias=bias)

        def grow(c: int) -> nn.Module:
            if transposed:
                return nn.ConvTranspose2d(c, c // 2, strided, 2, padding=1, output_padding=strided % 2, bias=bias)
            conv = nn.Conv2d(c, c // 2, 3, padding=1, padding_mode=padding, bias=bias)
            return nn.Sequential(nn.Upsample(scale_factor=2), conv)

        self.down = nn.Sequential(
            *normalised(outer(channels + modalities, width, bias), width, affine),
            *normalised(shrink(width), 2 * width, affine),
            *normalised(shrink(2 * width), deep, affine),
        )
        films = modalities if film else 0
        self.blocks = nn.ModuleList(Residual(deep, padding, affine, films, bias) for _ in range(blocks))
        self.bottleneck = Tap()
        self.up = nn.Sequential(
            *normalised(grow(deep), 2 * width, affine),
            *normalised(grow(2 * width), width, affine),
            outer(width, out, bias),
            nn.Tanh(),
        )

    def forward(
        self, x: Float[Tensor, "b c h w"], wanted: Int64[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b out h w"]:
        """`wanted`: index of the modality that each image shall become; None for a generator without planes."""
        if wanted is not None:
            planes = F.one_hot(wanted, self.modalities).to(x.dtype)[..., None, None]
            x = torch.cat([x, planes.expand(-1, -1, *x.shape[2:])], 1)
        x = self.down(x)
        for block in self.blocks:
            x = block(x, wanted)
        return self.up(self.bottleneck(x))
