"""PnP-AdaNet's networks: the dilated residual segmenter whose early groups can be exchanged, and its critics.

The segmenter has the groups of `models.fcn.SharedFCN`, with post-activation blocks (convolve, drop out, normalise,
leaky ReLU 0.2) and a head without normalisation.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from xmod_lab.models.blocks import Tap
from xmod_lab.models.fcn import GROUPS, group_widths

LEVELS = ("4", "6", "7", "9")
"""groups whose features the critic of features sees"""


class Seen(NamedTuple):
    """Features of each group before its pooling, (b, c, u, v), and logits (b, classes, h, w)."""

    features: dict[str, Tensor]
    logits: Tensor


class Norm(nn.BatchNorm2d):
    """Batch normalisation in float32 whatever the autocast: what tells modalities apart may be no more than the mean of
    a channel, which critics of features are shown."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


class PostActivation(nn.Sequential):
    """A convolution without bias, dropout, batch normalisation, leaky ReLU 0.2; (b, c_in, h, w) -> (b, c_out, u, v).

    running: keep running statistics for evaluation. False: the batch's own at all times, as PnP-AdaNet's critics.
    """

    def __init__(
        self, c_in: int, c_out: int, dropout: float, dilation: int = 1, kernel: int = 3, stride: int = 1,
        running: bool = True,
    ):  # fmt: skip
        super().__init__(
            nn.Conv2d(c_in, c_out, kernel, stride, dilation * (kernel // 2), dilation, bias=False),
            nn.Dropout(dropout),
            Norm(c_out, 1e-3, 0.1, track_running_stats=running),
            nn.LeakyReLU(0.2),
        )


class PostResidual(nn.Module):
    """Two post-activation convolutions, the second activated after the shortcut was added.

    The shortcut has no parameters: new channels are zeros on both sides.
    """

    def __init__(self, c_in: int, c_out: int, dropout: float, dilation: int = 1, running: bool = True):
        super().__init__()
        self.body = nn.Sequential(
            PostActivation(c_in, c_out, dropout, dilation, running=running),
            *list(PostActivation(c_out, c_out, dropout, dilation, running=running))[:3],
        )
        before = (c_out - c_in) // 2
        self.padding = (0, 0, 0, 0, before, c_out - c_in - before)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        return F.leaky_relu(self.body(x) + F.pad(x, self.padding), 0.2)


class PluggedFCN(nn.Module):
    """(b, channels, h, w) -> logits (b, classes, h, w); h and w multiples of `stride`, 8 as in the paper or 4.

    39.30 million kernel weights at width 64, three channels, five classes and stride 8, 11.80 of them in the head; the
    first six groups, 21 convolutions, have 5.09.
    """

    def __init__(self, channels: int, classes: int, width: int = 64, dropout: float = 0.25, stride: int = 8):
        super().__init__()
        w = group_widths(width)

        def residual(a: int, b: int, dilation: int = 1) -> PostResidual:
            return PostResidual(a, b, dropout, dilation)

        first = nn.Sequential(nn.Conv2d(channels, w[0], 3, padding=1, bias=False), nn.Dropout(dropout))
        self.groups = nn.ModuleDict(
            {"1": nn.Sequential(first, residual(w[0], w[0])), "2": nn.Sequential(residual(w[0], w[1]))}
        )
        for i in range(2, 8):
            dilation = 2 if i == 7 else 1
            self.groups[GROUPS[i]] = nn.Sequential(residual(w[i - 1], w[i], dilation), residual(w[i], w[i], dilation))
        self.groups["9"] = nn.Sequential(PostActivation(w[7], w[8], dropout), PostActivation(w[8], w[8], dropout))
        self.pools = nn.ModuleDict({group: nn.MaxPool2d(2) for group in ("1", "2", "3")[: 3 if stride == 8 else 2]})
        self.taps = nn.ModuleDict({group: Tap() for group in GROUPS})
        kept = stride * classes
        self.head = nn.Sequential(
            nn.Conv2d(w[8], stride**2 * kept, 3, padding=1, padding_mode="reflect", bias=False),
            nn.Dropout(dropout),
            nn.PixelShuffle(stride),
            nn.Conv2d(kept, classes, 5, padding=2, padding_mode="reflect", bias=False),
        )
        _begin(self)

    def front(self, depth: int) -> nn.ModuleDict:
        """A copy of the first `depth` groups, to be plugged in."""
        return nn.ModuleDict({group: copy.deepcopy(self.groups[group]) for group in GROUPS[:depth]})

    def see(self, x: Float[Tensor, "b c h w"], plugged: Mapping[str, nn.Module] | None = None) -> Seen:
        """Features and logits, by the groups of `plugged` instead of the network's own of the same number."""
        found = {}
        for name, group in self.groups.items():
            own = group if plugged is None or name not in plugged else plugged[name]
            x = found[name] = self.taps[name](own(x))
            if name in self.pools:
                x = self.pools[name](x)
        return Seen(found, self.head(x))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes h w"]:
        return self.see(x).logits


def level_stack(seen: Seen) -> Float[Tensor, "b c u v"]:
    """What the plain critic of features judges: the features of LEVELS and the mean class probabilities beneath."""
    stride = seen.logits.shape[-1] // seen.features[LEVELS[-1]].shape[-1]
    p = F.avg_pool2d(seen.logits.float().softmax(1), stride)
    return torch.cat([*(seen.features[group].float() for group in LEVELS), p], 1)


def plane_stack(seen: Seen) -> Float[Tensor, "b c h w"]:
    """What the authors' critic of features judges, at the size of the image: the features of LEVELS with their channels
    shuffled into pixels, those of group 4 three times over, logits, and the number of the likeliest class."""
    stride = seen.logits.shape[-1] // seen.features[LEVELS[-1]].shape[-1]
    planes = [F.pixel_shuffle(seen.features[group].float(), stride) for group in LEVELS]
    logits = seen.logits.float()
    return torch.cat([planes[0], planes[0], *planes, logits, logits.argmax(1, keepdim=True).float()], 1)


class PlainCritic(nn.Module):
    """Scores of patches without any normalisation, (b, c, h, w) -> (b, 1, u, v), unbounded.

    A 1x1 convolution to `width` channels, `layers` 4x4 convolutions of stride 2, width doubling, leaky ReLU 0.2, and a
    1x1 head. Features are not normalised, as what tells modalities apart may be no more than the mean of a channel.

    spectral: every kernel, as a matrix of outputs by all its inputs, is divided by its largest singular value.
    """

    def __init__(self, channels: int, width: int, layers: int, spectral: bool = True):
        super().__init__()
        parts: list[nn.Module] = [nn.Conv2d(channels, width, 1), nn.LeakyReLU(0.2)]
        for i in range(layers):
            parts += [nn.Conv2d(width * 2**i, width * 2 ** (i + 1), 4, 2, 1), nn.LeakyReLU(0.2)]
        self.trunk = nn.Sequential(*parts)
        self.patches = nn.Conv2d(width * 2**layers, 1, 1)
        _begin(self)
        for layer in [*self.trunk, self.patches] if spectral else []:
            if isinstance(layer, nn.Conv2d):
                spectral_norm(layer)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 u v"]:
        return self.patches(self.trunk(x))


class PlaneCritic(nn.Module):
    """The authors' critic of features: one score an image, (b, c, size, size) -> (b, 1), unbounded.

    Four times a residual block and a convolution of stride 2, width doubling, then one of stride 4 and one of 2, all
    with dropout and the batch's own statistics, and a weighted sum. 21,729,280 kernel weights at width 64, 32 channels
    and 256 pixels.
    """

    def __init__(self, channels: int, width: int, size: int, dropout: float = 0.25):
        super().__init__()
        c, parts = channels, []
        first = max(width, channels)  # the shortcut adds channels, it takes none away
        for i, kernel in enumerate((3, 5, 3, 3)):
            wide = first * 2**i
            parts += [
                PostResidual(c, wide, dropout, running=False),
                PostActivation(wide, wide, dropout, kernel=kernel, stride=2, running=False),
            ]
            c = wide
        parts += [
            PostResidual(c, c, dropout, running=False),
            PostActivation(c, c, dropout, kernel=5, stride=4, running=False),
            PostActivation(c, c, dropout, stride=2, running=False),
        ]
        self.trunk = nn.Sequential(*parts)
        self.score = nn.Linear(c * _edge(size, (2, 2, 2, 2, 4, 2)) ** 2, 1, bias=False)
        _begin(self)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1"]:
        return self.score(self.trunk(x).flatten(1))


class MaskCritic(nn.Module):
    """The authors' critic of masks: one score an image, (b, classes, size, size) -> (b, 1), unbounded.

    Convolutions of stride 2, 4, 4 and 4 with two residual blocks between them, dropout and the batch's own statistics.
    1,098,448 kernel weights at width 64, five classes and 256 pixels.
    """

    def __init__(self, classes: int, width: int, size: int, dropout: float = 0.25):
        super().__init__()
        w = max(width // 4, 4)

        def step(a: int, b: int, kernel: int, stride: int) -> PostActivation:
            return PostActivation(a, b, dropout, kernel=kernel, stride=stride, running=False)

        self.trunk = nn.Sequential(
            step(classes, w, 3, 2),
            PostResidual(w, w, dropout, running=False),
            step(w, 2 * w, 5, 4),
            PostResidual(2 * w, 4 * w, dropout, running=False),
            step(4 * w, 8 * w, 5, 4),
            step(8 * w, 16 * w, 5, 4),
        )
        self.score = nn.Linear(16 * w * _edge(size, (2, 4, 4, 4)) ** 2, 1, bias=False)
        _begin(self)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1"]:
        return self.score(self.trunk(x).flatten(1))


def _edge(size: int, strides: tuple[int, ...]) -> int:
    """Edge of an image after convolutions of these strides, each padded by half its kernel."""
    for stride in strides:
        size = -(-size // stride)
    return size


def _begin(network: nn.Module) -> None:
    """First weights as in He et al. 2015; biases are 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, a=0.2, nonlinearity="leaky_relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
