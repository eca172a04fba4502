"""TarGAN's networks: a generator with one stream for the image and one for the target area, and the shape controller.

The paper gives U-Nets whose skips keep half of their channels; sizes are those of the authors' code.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from xmod_lab.models.blocks import Tap, recomputed
from xmod_lab.models.norm import Film

STREAMS = ("image", "area")
Padding = Literal["zeros", "reflect"]


class ConvBlock(nn.Module):
    """Twice: 3x3 convolution without bias, instance normalisation with scale and shift, leaky ReLU 0.01.

    (b, c_in, h, w) -> (b, c_out, h, w). modalities > 0: a `Film` of the wanted modality follows each normalisation.
    """

    def __init__(self, c_in: int, c_out: int, padding: Padding = "zeros", modalities: int = 0):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(c, c_out, 3, padding=1, bias=False, padding_mode=padding) for c in (c_in, c_out)
        )
        self.norms = nn.ModuleList(nn.InstanceNorm2d(c_out, affine=True) for _ in range(2))
        self.films = nn.ModuleList(Film(modalities, c_out) for _ in range(2 if modalities else 0))

    def forward(self, x: Float[Tensor, "b c h w"], modality: Tensor | None = None) -> Float[Tensor, "b d h w"]:
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x))
            if self.films:
                x = self.films[i](x, modality)
            x = F.leaky_relu(x, 0.01, inplace=True)
        return x


class UpBlock(nn.Sequential):
    """Twice the size by nearest neighbours, then 3x3 convolution, instance normalisation and leaky ReLU.

    (b, c, h, w) -> (b, c/2, 2h, 2w).
    """

    def __init__(self, channels: int, padding: Padding = "zeros"):
        super().__init__(
            nn.Upsample(scale_factor=2),
            nn.Conv2d(channels, channels // 2, 3, padding=1, bias=False, padding_mode=padding),
            nn.InstanceNorm2d(channels // 2, affine=True),
            nn.LeakyReLU(0.01, inplace=True),
        )


def half(feature: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
    """The first half of the channels: what a skip connection passes on."""
    return feature[:, : feature.shape[1] // 2]


class TargetAware(nn.Module):
    """Image, wanted modality and, in training, the target area alone -> both in that modality.

    Each stream has its own two finest levels and head; the levels below are shared and see both streams in one call.

    conditioning  "plane": the wanted modality is appended to the image as constant planes, as in the authors' code. The
                  normalisation removes a constant, so that all the network can see of it is its rim of zero padding
                  "film": it also scales and shifts the channels of each stream's encoder
    padding       "zeros", or "reflect", with which a plane says nothing at all
    area          False: no second stream (Table 3, "w/o T")

    With the attribute `recompute` training keeps the inputs of each stream's own blocks alone, and computes the blocks
    again on the way back: less memory, more time, the same numbers.

    Values lie in (-1, 1). 33,750,656 parameters with one channel, three modalities, planes and width 64, of which the
    image stream uses 32,954,048.
    """

    def __init__(
        self,
        channels: int,
        modalities: int,
        width: int = 64,
        conditioning: str = "plane",
        padding: Padding = "zeros",
        area: bool = True,
    ):
        super().__init__()
        self.modalities, self.recompute = modalities, False
        f, films = width, modalities if conditioning == "film" else 0
        self.encoders, self.decoders, self.heads = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        for stream in STREAMS if area else STREAMS[:1]:
            self.encoders[stream] = nn.ModuleList(
                [ConvBlock(channels + modalities, f, padding, films), ConvBlock(f, 2 * f, padding, films)]
            )
            self.decoders[stream] = nn.ModuleList(
                [ConvBlock(3 * f, 2 * f, padding), UpBlock(2 * f, padding), ConvBlock(3 * f // 2, f, padding)]
            )
            self.heads[stream] = nn.Conv2d(f, channels, 1, bias=False)
        self.down = nn.ModuleList([ConvBlock(2 * f, 4 * f, padding), ConvBlock(4 * f, 8 * f, padding)])
        self.centre = ConvBlock(8 * f, 16 * f, padding)
        self.up = nn.ModuleList(
            [
                UpBlock(16 * f, padding),
                ConvBlock(12 * f, 8 * f, padding),
                UpBlock(8 * f, padding),
                ConvBlock(6 * f, 4 * f, padding),
                UpBlock(4 * f, padding),
            ]
        )
        self.pool = nn.AvgPool2d(2)
        self.centre_tap = Tap()
        self.taps = nn.ModuleDict({stream: nn.ModuleList(Tap() for _ in range(2)) for stream in self.encoders})

    def _encode(self, stream: str, x: Tensor, modality: Tensor) -> tuple[list[Tensor], Tensor]:
        planes = F.one_hot(modality, self.modalities).to(x.dtype)[..., None, None].expand(-1, -1, *x.shape[2:])
        x, skips = torch.cat([x, planes], 1), []
        for block, tap in zip(self.encoders[stream].children(), self.taps[stream].children(), strict=True):
            feature = tap(self._own(block, x, modality))
            skips.append(half(feature))
            x = self.pool(feature)
        return skips, x

    def _own(self, block: nn.Module, *inputs: Tensor) -> Tensor:
        """A block of one stream's own, remembered or not."""
        return recomputed(block, *inputs) if self.recompute and self.training else block(*inputs)

    def _shared(self, x: Tensor) -> Tensor:
        fine = self.down[0](x)
        coarse = self.down[1](self.pool(fine))
        x = self.centre_tap(self.centre(self.pool(coarse)))
        x = self.up[1](torch.cat([self.up[0](x), half(coarse)], 1))
        x = self.up[3](torch.cat([self.up[2](x), half(fine)], 1))
        return self.up[4](x)

    def forward(
        self,
        image: Float[Tensor, "b k h w"],
        modality: Int64[Tensor, " b"],
        area: Float[Tensor, "b k h w"] | None = None,
    ) -> dict[str, Tensor]:
        """`image` and, if given, `area`, both (b, k, h, w) in `modality`; h and w are multiples of 16."""
        streams = {"image": image} if area is None else {"image": image, "area": area}
        encoded = {name: self._encode(name, x, modality) for name, x in streams.items()}
        deep = self._shared(torch.cat([x for _, x in encoded.values()])).chunk(len(streams))
        found = {}
        for (name, (skips, _)), x in zip(encoded.items(), deep, strict=True):
            first, up, last = self.decoders[name].children()
            x = self._own(up, self._own(first, torch.cat([x, skips[1]], 1)))
            x = self._own(last, torch.cat([x, skips[0]], 1))
            found[name] = torch.tanh(self.heads[name](x))
        return found


class ShapeController(nn.Module):
    """U-Net that reads the foreground off a translated image: (b, k, h, w) -> probabilities (b, 1, h, w).

    h and w are multiples of 16. 1,942,289 parameters with one channel and width 16.
    """

    def __init__(self, channels: int, width: int = 16):
        super().__init__()
        widths = [channels, *(width * 2**i for i in range(5))]
        self.down = nn.ModuleList(ConvBlock(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))
        rising = list(reversed(widths[1:]))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in zip(rising[:-1], rising[1:], strict=True)
        )
        self.levels = nn.ModuleList(ConvBlock(2 * b, b) for b in rising[1:])
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, x: Float[Tensor, "b k h w"]) -> Float[Tensor, "b 1 h w"]:
        skips = []
        for level in self.down:
            x = level(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = skips.pop()
        for up, level in zip(self.up, self.levels, strict=True):
            x = level(torch.cat([skips.pop(), up(x)], 1))
        return torch.sigmoid(self.head(x))
