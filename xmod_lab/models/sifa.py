"""SIFA's networks: a generator from source to target, and an encoder that translation back and segmentation share.

`width` is that of the first level of a U-Net of like size. At 64 they have the authors' sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from xmod_lab.models.blocks import Tap
from xmod_lab.models.fcn import group_widths
from xmod_lab.models.norm import DomainNorm2d

Norm = Callable[[int], nn.Module]
DOMAINS = 2
"""sets of statistics in the encoder: of target images, and of translations to the target"""


def _by_instance(channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels, affine=True)


def _by_domain(channels: int) -> nn.Module:
    return DomainNorm2d(channels, DOMAINS, shared=True)


def _layer(conv: nn.Module, channels: int, norm: Norm, dropout: float = 0.0) -> list[nn.Module]:
    """Convolution, dropout where asked for, normalisation, ReLU."""
    return [conv, *([nn.Dropout(dropout)] if dropout else []), norm(channels), nn.ReLU()]


class Block(nn.Module):
    """ReLU of the input plus two normalised 3x3 convolutions of it; (b, c_in, h, w) -> (b, c_out, h, w).

    New channels of the short way are zeros, half of them before the others and half behind.
    """

    def __init__(
        self, c_in: int, c_out: int, norm: Norm, bias: bool = False, dilation: int = 1, dropout: float = 0.0
    ):
        super().__init__()
        first, second = (
            _layer(nn.Conv2d(c, c_out, 3, 1, dilation, dilation, bias=bias), c_out, norm, dropout)
            for c in (c_in, c_out)
        )
        self.body = nn.Sequential(*first, *second[:-1])
        before = (c_out - c_in) // 2
        self.padding = (0, 0, 0, 0, before, c_out - c_in - before)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        return F.relu(self.body(x) + F.pad(x, self.padding))


def _grow(c_in: int, c_out: int, transposed: bool) -> list[nn.Module]:
    """To twice the size; without transposed convolutions by nearest neighbours, which leaves no checkerboard."""
    if transposed:
        conv: nn.Module = nn.ConvTranspose2d(c_in, c_out, 3, 2, padding=1, output_padding=1)
    else:
        conv = nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(c_in, c_out, 3, padding=1))
    return _layer(conv, c_out, _by_instance)


def translator_width(width: int) -> int:
    """Channels of the first layer of the two translators: 32 of 64."""
    return max(8, width // 2)


class StyleGenerator(nn.Module):
    """Images of the source -> of the target, (b, k, h, w) -> the same in (-1, 1); h and w multiples of 4.

    7x7 convolution, two of stride 2, `blocks` residual blocks, two steps up, 7x7 convolution. What it makes (tap
    `added`) is added to the image before a tanh. 2,849,537 parameters at width 64 with nine blocks and one channel.
    """

    def __init__(self, channels: int, width: int = 64, blocks: int = 9, transposed: bool = True):
        super().__init__()
        w = translator_width(width)
        self.body = nn.Sequential(
            *_layer(nn.Conv2d(channels, w, 7, padding=3), w, _by_instance),
            *_layer(nn.Conv2d(w, 2 * w, 3, 2, 1), 2 * w, _by_instance),
            *_layer(nn.Conv2d(2 * w, 4 * w, 3, 2, 1), 4 * w, _by_instance),
            *(Block(4 * w, 4 * w, _by_instance, bias=True) for _ in range(blocks)),
            *_grow(4 * w, 2 * w, transposed),
            *_grow(2 * w, w, transposed),
            nn.Conv2d(w, channels, 7, padding=3),
        )
        self.added = Tap()

    def forward(self, image: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        return torch.tanh(image + self.added(self.body(image)))


class SharedEncoder(nn.Module):
    """(b, k, h, w) -> features (b, c, h/stride, w/stride) of the last and of an earlier level, c = 512 at width 64.

    7x7 convolution, twelve residual blocks with poolings between the first, which gives the earlier level; two dilated
    ones and two 3x3 convolutions. stride 8: three poolings, the authors'; 4: two. Two domains' batches normalise apart
    and share scale and shift: wrap calls in `norm.of_domains`. 27,517,424 parameters at width 64 with one channel.
    """

    def __init__(self, channels: int, width: int = 64, stride: int = 8, dropout: float = 0.0):
        super().__init__()
        w = group_widths(width)
        self.features, self.stride = w[8], stride

        def blocks(c_in: int, c_out: int, count: int, dilation: int = 1) -> list[nn.Module]:
            sizes = [c_in] + [c_out] * count
            return [
                Block(a, b, _by_domain, dilation=dilation, dropout=dropout)
                for a, b in zip(sizes, sizes[1:], strict=False)
            ]

        def plain(c_in: int, c_out: int, kernel: int) -> list[nn.Module]:
            conv = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False)
            return _layer(conv, c_out, _by_domain, dropout)

        self.first = nn.Sequential(
            *plain(channels, w[0], 7),
            *blocks(w[0], w[0], 1),
            nn.MaxPool2d(2),
            *blocks(w[0], w[1], 1),
            nn.MaxPool2d(2),
            *blocks(w[1], w[2], 2),
            *([nn.MaxPool2d(2)] if stride == 8 else []),
            *(block for i in range(3, 7) for block in blocks(w[i - 1], w[i], 2)),
        )
        self.second = nn.Sequential(
            *blocks(w[6], w[7], 2, dilation=2), *plain(w[7], w[8], 3), *plain(w[8], w[8], 3)
        )
        self.taps = nn.ModuleDict({"early": Tap(), "final": Tap()})
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x: Float[Tensor, "b k h w"]) -> tuple[Float[Tensor, "b c u v"], Float[Tensor, "b c u v"]]:
        early = self.taps["early"](self.first(x))
        return self.taps["final"](self.second(early)), early


class SourceDecoder(nn.Module):
    """Features (b, features, u, v) of the encoder and the image they are of -> that image as the source, in (-1, 1).

    3x3 convolution, four residual blocks, steps up to `stride` times the size, 7x7 convolution; what it makes (tap
    `added`) is added to the image before a tanh. 1,902,848 parameters at width 64, stride 8, 512 features, one channel.
    """

    def __init__(self, features: int, channels: int, width: int = 64, stride: int = 8, transposed: bool = True):
        super().__init__()
        w = translator_width(width)
        steps = int(math.log2(stride))
        sizes = [4 * w, *[2 * w] * (steps - 1), w]
        self.body = nn.Sequential(
            *_layer(nn.Conv2d(features, 4 * w, 3, padding=1, bias=False), 4 * w, _by_instance),
            *(Block(4 * w, 4 * w, _by_instance) for _ in range(4)),
            *(part for a, b in zip(sizes, sizes[1:], strict=False) for part in _grow(a, b, transposed)),
            nn.Conv2d(w, channels, 7, padding=3, bias=False),
        )
        self.added = Tap()

    def forward(self, features: Float[Tensor, "b c u v"], image: Float[Tensor, "b k h w"]) -> Float[Tensor, "b k h w"]:
        return torch.tanh(image + self.added(self.body(features)))


class ClassHead(nn.Module):
    """Features (b, features, u, v) -> logits (b, classes, stride u, stride v): 1x1 convolution, enlarged bilinearly."""

    def __init__(self, features: int, classes: int, stride: int = 8):
        super().__init__()
        self.stride = stride
        self.classify = nn.Conv2d(features, classes, 1, bias=False)
        nn.init.normal_(self.classify.weight, std=0.01)

    def forward(self, features: Float[Tensor, "b f u v"]) -> Float[Tensor, "b c h w"]:
        return F.interpolate(self.classify(features), scale_factor=self.stride, mode="bilinear", align_corners=False)
