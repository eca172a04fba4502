"""Critics: networks that score images, not classes of pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from xmod_lab.errors import LabError


class StarCritic(nn.Module):
    """StarGAN's critic: scores of patches and logits of the modality from one trunk.

    `layers` 4x4 convolutions of stride 2 with leaky ReLU 0.01, width doubling; a 3x3 convolution for the patch scores
    (b, 1, h/2^layers, w/2^layers) and one over the whole rest for the modality logits (b, modalities), both without
    bias. `size` is the edge of the images, a multiple of 2^layers. 44,743,616 parameters at width 64, six layers, 128
    pixels and three modalities, as in UAGAN's repository; four layers (2.9 million) do for slices of one organ.

    Losses take the mean of the patch scores, the gradient penalty holds the slope of their sum at 1, as the authors'
    codes do: the mean may rise by one over their number, 1/16 for 64 pixels and four layers. Raises LabError for a size
    that is no multiple of 2^layers.

    Weights begin as in He et al. 2015. With PyTorch's default each layer leaves a third of the signal, and a short run
    hardly learns to tell modalities apart.
    """

    def __init__(self, channels: int, modalities: int, size: int, width: int = 64, layers: int = 4):
        super().__init__()
        if size % 2**layers:
            raise LabError(
                f"a critic of {layers} layers needs slices of a multiple of {2**layers} pixels, these have {size}",
                where="StarCritic",
                mend="set critic_layers lower, or take another profile",
            )
        parts: list[nn.Module] = []
        c = channels
        for i in range(layers):
            parts += [nn.Conv2d(c, width * 2**i, 4, stride=2, padding=1), nn.LeakyReLU(0.01)]
            c = width * 2**i
        self.trunk = nn.Sequential(*parts)
        self.patches = nn.Conv2d(c, 1, 3, padding=1, bias=False)
        self.modality = nn.Conv2d(c, modalities, size // 2**layers, bias=False)
        for module in self.trunk:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.01, nonlinearity="leaky_relu")
        for head in (self.patches, self.modality):
            nn.init.kaiming_normal_(head.weight, nonlinearity="linear")

    def forward(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b 1 u v"], Float[Tensor, "b n"]]:
        h = self.trunk(x)
        return self.patches(h), torch.flatten(self.modality(h), 1)


class PatchCritic(nn.Module):
    """Scores of overlapping patches, (b, c, h, w) -> (b, heads, u, v), unbounded (PatchGAN; Isola et al. 2017).

    4x4 convolutions with `padding` and leaky ReLU 0.2: `layers` of stride 2, `extra` of stride 1, and the head of
    stride 1. Instance normalisation in all but the first and the head.

    grow     width doubles from layer to layer, up to eightfold; False: all layers have `width` channels
    affine   of the normalisation
    batch    batch normalisation instead, after convolutions without bias (Pix2Pix: 2,764,609 with two channels)
    heads    scores a patch
    bias     False: of no convolution (SIFA, affine, padding 2: 2,763,520 with one channel, 2,771,712 with two heads)

    3 and 1 `layers` and `extra` judge patches of 70x70 pixels: 2,764,737 parameters at width 64 with three channels,
    2,762,689 with one. 3 and 0 judge 46x46 (SASAN: 167,649 at width 32 with three channels), 4 and 0 judge 94x94
    (MR-GAN, affine: 2,765,505 with two channels).
    """

    def __init__(
        self,
        channels: int,
        width: int = 64,
        layers: int = 3,
        extra: int = 1,
        grow: bool = True,
        affine: bool = False,
        batch: bool = False,
        heads: int = 1,
        bias: bool = True,
        padding: int = 1,
    ):
        super().__init__()
        widths = [width * (min(2**i, 8) if grow else 1) for i in range(layers + extra)]
        parts: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, padding, bias=bias), nn.LeakyReLU(0.2)]
        for i in range(1, layers + extra):
            stride = 2 if i < layers else 1
            conv = nn.Conv2d(widths[i - 1], widths[i], 4, stride, padding, bias=bias and not batch)
            norm = nn.BatchNorm2d(widths[i]) if batch else nn.InstanceNorm2d(widths[i], affine=affine)
            parts += [conv, norm, nn.LeakyReLU(0.2)]
        self.trunk = nn.Sequential(*parts)
        self.patches = nn.Conv2d(widths[-1], heads, 4, 1, padding, bias=bias)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n u v"]:
        return self.patches(self.trunk(x))


class HybridCritic(nn.Module):
    """DC2Anet's critic: a `PatchCritic` of 94x94 pixels for pairs of images and one for `single` images, in one.

    Of each kind the first and the last convolution are its own (`first`, `last`); the three layers between (`middle`)
    are shared. 2,774,786 parameters at width 64 with one channel, of which 2,755,200 are shared.
    """

    def __init__(self, channels: int, width: int = 64, layers: int = 4, kinds: Sequence[str] = ("pair", "single")):
        super().__init__()
        whole = PatchCritic(channels, width, layers, 0, affine=True)
        inputs = {kind: channels * (2 if kind == "pair" else 1) for kind in kinds}
        self.first = nn.ModuleDict(
            {kind: nn.Sequential(nn.Conv2d(c, width, 4, 2, 1), nn.LeakyReLU(0.2)) for kind, c in inputs.items()}
        )
        self.middle = nn.Sequential(*list(whole.trunk)[2:])
        self.last = nn.ModuleDict({kind: nn.Conv2d(whole.patches.in_channels, 1, 4, 1, 1) for kind in kinds})

    def forward(self, x: Float[Tensor, "b c h w"], kind: str) -> Float[Tensor, "b 1 u v"]:
        """Patch scores of pairs (b, 2 channels, h, w), or of single images (b, channels, h, w)."""
        return self.last[kind](self.middle(self.first[kind](x)))


class MultiScaleCritic(nn.Module):
    """Scores of patches at several scales, (b, c, h, w) -> `scales` maps (b, 1, u, v), the finest first (MUNIT).

    Each scale has a critic of its own: `layers` 4x4 convolutions of stride 2, width doubling, leaky ReLU 0.2, no
    normalisation, and a 1x1 head; between scales the image is halved by 3x3 means. 8,265,027 parameters at width 64
    with one channel, three scales and four layers. Weights as in He et al. 2015: with MUNIT's standard deviation of
    0.02 a critic of small width, which has no normalisation, says nearly the same of every image at first.
    """

    def __init__(self, channels: int, width: int = 64, scales: int = 3, layers: int = 4):
        super().__init__()
        self.critics = nn.ModuleList()
        for _ in range(scales):
            parts: list[nn.Module] = []
            c = channels
            for i in range(layers):
                parts += [nn.Conv2d(c, width * 2**i, 4, 2, 1, padding_mode="reflect"), nn.LeakyReLU(0.2)]
                c = width * 2**i
            self.critics.append(nn.Sequential(*parts, nn.Conv2d(c, 1, 1)))
        self.halve = nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, a=0.2, nonlinearity="leaky_relu")

    def forward(self, x: Float[Tensor, "b c h w"]) -> list[Tensor]:
        found = []
        for critic in self.critics:
            found.append(critic(x))
            x = self.halve(x)
        return found
