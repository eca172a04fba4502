"""The dilated residual FCN of UMMKD, CSA's most likely backbone: shared kernels, one normalisation a modality.

Nine groups of two to four pre-activation convolutions (normalise, leaky ReLU 0.2, convolve, drop out), three poolings,
and from group 4 on one resolution, so that features of different depth can be compared pixel by pixel.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from xmod_lab.models.blocks import Tap
from xmod_lab.models.norm import DomainNorm2d

MULTIPLES = (1, 2, 4, 8, 16, 16, 32, 32, 32)
"""channels of the nine groups over those of the first: 16 to 512 in the paper"""
GROUPS = tuple(str(i) for i in range(1, len(MULTIPLES) + 1))


def group_widths(width: int) -> list[int]:
    """Channels of the nine groups; `width` is the first level of a U-Net of like size (64 in the papers)."""
    return [max(8, width // 4 * multiple) for multiple in MULTIPLES]


class PreActivation(nn.Sequential):
    """Normalise, leaky ReLU 0.2, 3x3 convolution without bias, dropout; (b, c_in, h, w) -> (b, c_out, h, w)."""

    def __init__(self, c_in: int, c_out: int, domains: int, dropout: float, dilation: int = 1):
        super().__init__(
            DomainNorm2d(c_in, domains),
            nn.LeakyReLU(0.2),
            nn.Conv2d(c_in, c_out, 3, padding=dilation, dilation=dilation, bias=False),
            nn.Dropout(dropout),
        )


class Residual(nn.Module):
    """Two pre-activation convolutions and a shortcut without parameters: new channels are zeros on both sides."""

    def __init__(self, c_in: int, c_out: int, domains: int, dropout: float, dilation: int = 1):
        super().__init__()
        self.body = nn.Sequential(
            PreActivation(c_in, c_out, domains, dropout, dilation),
            PreActivation(c_out, c_out, domains, dropout, dilation),
        )
        before = (c_out - c_in) // 2
        self.padding = (0, 0, 0, 0, before, c_out - c_in - before)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        return self.body(x) + F.pad(x, self.padding)


class SharedFCN(nn.Module):
    """(b, channels, h, w) -> logits (b, classes, h, w); h and w multiples of `stride`.

    domains  sets of normalisation statistics and parameters: 1, or one a modality (`of_domains` chooses)
    stride   8 as in the paper (three poolings), or 4 for slices of 64 pixels, which keeps 16x16 positions
    phase    True: the paper's head, a convolution to stride^2 channels a class whose pixels are shuffled into place;
             False: 1x1 convolution and bilinear enlargement

    39.30 million kernel weights at width 64, three channels, five classes and stride 8.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        width: int = 64,
        domains: int = 1,
        dropout: float = 0.25,
        stride: int = 8,
        phase: bool = True,
    ):
        super().__init__()
        w = group_widths(width)
        self.stride = stride

        def residual(a: int, b: int, dilation: int = 1) -> Residual:
            return Residual(a, b, domains, dropout, dilation)

        pools = {"1": nn.MaxPool2d(2), "2": nn.MaxPool2d(2), "3": nn.MaxPool2d(2) if stride == 8 else nn.Identity()}
        self.first = nn.Conv2d(channels, w[0], 3, padding=1, bias=False)
        self.groups = nn.ModuleDict(
            {"1": nn.Sequential(residual(w[0], w[0])), "2": nn.Sequential(residual(w[0], w[1]))}
        )
        for i in range(2, 8):
            dilation = 2 if i == 7 else 1
            self.groups[GROUPS[i]] = nn.Sequential(residual(w[i - 1], w[i], dilation), residual(w[i], w[i], dilation))
        self.groups["9"] = nn.Sequential(
            PreActivation(w[7], w[8], domains, dropout), PreActivation(w[8], w[8], domains, dropout)
        )
        self.pools = nn.ModuleDict(pools)
        self.taps = nn.ModuleDict({group: Tap() for group in GROUPS})
        self.activate = nn.Sequential(DomainNorm2d(w[8], domains), nn.LeakyReLU(0.2))
        if phase:
            self.head: nn.Module = _PhaseHead(w[8], classes, domains, stride)
        else:
            self.head = nn.Sequential(
                nn.Conv2d(w[8], classes, 1), nn.Upsample(scale_factor=stride, mode="bilinear", align_corners=False)
            )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.2, nonlinearity="leaky_relu")

    def features(self, x: Float[Tensor, "b c h w"]) -> dict[str, Tensor]:
        """Output of each group before its pooling, by number; groups 4 to 9 are (b, c, h/stride, w/stride)."""
        found = {}
        x = self.first(x)
        for name, group in self.groups.items():
            x = found[name] = self.taps[name](group(x))
            if name in self.pools:
                x = self.pools[name](x)
        return found

    def classify(self, features: dict[str, Tensor]) -> Float[Tensor, "b classes h w"]:
        """Logits from `features`."""
        return self.head(self.activate(features["9"]))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes h w"]:
        return self.classify(self.features(x))


class _PhaseHead(nn.Sequential):
    """Convolution to stride^2 x stride x classes channels, normalise, leaky ReLU, shuffle pixels, 5x5 convolution."""

    def __init__(self, c_in: int, classes: int, domains: int, stride: int):
        kept = stride * classes
        super().__init__(
            nn.Conv2d(c_in, stride**2 * kept, 3, padding=1, padding_mode="reflect", bias=False),
            DomainNorm2d(stride**2 * kept, domains),
            nn.LeakyReLU(0.2),
            nn.PixelShuffle(stride),
            nn.Conv2d(kept, classes, 5, padding=2, padding_mode="reflect", bias=False),
        )


def kernel_weights(network: nn.Module) -> int:
    """Number of convolution weights."""
    return sum(m.weight.numel() for m in network.modules() if isinstance(m, nn.Conv2d))


def normalisation_weights(network: nn.Module) -> int:
    """Number of affine parameters of one domain over all layers."""
    return sum(
        sum(p.numel() for p in m.norms[0].parameters()) for m in network.modules() if isinstance(m, DomainNorm2d)
    )


def normalisation_state(layer: DomainNorm2d, domain: int) -> Float[Tensor, "4 c"]:
    """Scale, shift, running mean and running standard deviation of one domain in one layer."""
    norm = layer.norms[domain]
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    return torch.stack([norm.weight, norm.bias, norm.running_mean, norm.running_var.sqrt()]).detach()
