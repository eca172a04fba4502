"""Content and style apart, in the layers of MUNIT (Huang et al., ECCV 2018), on which ReMIC builds.

A content code is a feature map that should hold the anatomy whatever the modality; a style code is a short vector that
should hold the modality's look. A decoder puts the two together: the style sets scale and shift of its normalisations.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from xmod_lab.models.blocks import Tap
from xmod_lab.models.resnet import Residual, normalised

STYLE = 8
"""length of a style code"""
MULTIPLE = 4
"""channels of a content code over `width`; it has a quarter of the image's height and width"""


def conv(c_in: int, c_out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Convolution with bias that pads by reflection and keeps the size, or halves it with stride 2."""
    return nn.Conv2d(c_in, c_out, kernel, stride, (kernel - 1) // 2, padding_mode="reflect")


class ContentEncoder(nn.Sequential):
    """(b, channels, h, w) -> content (b, 4 width, h/4, w/4); 5,379,584 parameters at width 64 with one channel.

    7x7 convolution, two 4x4 of stride 2, `blocks` residual blocks, all with instance normalisation without affine.
    """

    def __init__(self, channels: int, width: int = 64, blocks: int = 4):
        super().__init__(
            *normalised(conv(channels, width, 7), width, False),
            *normalised(conv(width, 2 * width, 4, 2), 2 * width, False),
            *normalised(conv(2 * width, MULTIPLE * width, 4, 2), MULTIPLE * width, False),
            *(Residual(MULTIPLE * width, "reflect") for _ in range(blocks)),
            Tap(),
        )


class StyleEncoder(nn.Module):
    """(b, channels, h, w) -> style (b, 8), unbounded; 2,758,664 parameters at width 64 with one channel.

    7x7 convolution, four 4x4 of stride 2, ReLU, mean over the image, 1x1 convolution. No normalisation: it would take
    away the mean and contrast that are the style. Hence the weights of He et al. 2015: with PyTorch's default each
    layer leaves a third of the signal, and styles of different images begin all but equal.
    """

    def __init__(self, channels: int, width: int = 64):
        super().__init__()
        deep = MULTIPLE * width
        self.layers = nn.ModuleList(
            [conv(channels, width, 7), conv(width, 2 * width, 4, 2)]
            + [conv(c, deep, 4, 2) for c in (2 * width, deep, deep)]
        )
        self.head = nn.Conv2d(deep, STYLE, 1)
        for layer in self.layers.children():
            nn.init.kaiming_normal_(layer.weight)  # type: ignore[arg-type]

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 8"]:
        for layer in self.layers:
            x = F.relu(layer(x))
        return self.head(x.mean((2, 3), keepdim=True)).flatten(1)


class AdaptiveResidual(nn.Module):
    r"""A residual block whose two instance norms take scale and shift from outside (AdaIN, Huang & Belongie 2017).

    .. math:: x + \mathrm{AdaIN}_2(W_2\, \mathrm{ReLU}(\mathrm{AdaIN}_1(W_1 x))), \qquad
              \mathrm{AdaIN}(h) = \gamma \frac{h - \mu(h)}{\sigma(h)} + \beta
    """

    def __init__(self, channels: int):
        super().__init__()
        self.first, self.second = conv(channels, channels, 3), conv(channels, channels, 3)

    def forward(self, x: Float[Tensor, "b c h w"], style: Float[Tensor, "b 2 2 c"]) -> Float[Tensor, "b c h w"]:
        """`style`: for each image and norm, scales and shifts of the channels."""
        h = F.relu(adapted(self.first(x), style[:, 0]))
        return x + adapted(self.second(h), style[:, 1])


def adapted(x: Float[Tensor, "b c h w"], style: Float[Tensor, "b 2 c"]) -> Float[Tensor, "b c h w"]:
    """Instance normalisation with scales style[:, 0] and shifts style[:, 1]."""
    scale, shift = style[..., None, None].to(x.dtype).unbind(1)
    return scale * F.instance_norm(x) + shift


def growing(width: int, out: int) -> nn.Sequential:
    """(b, 4 width, h/4, w/4) -> (b, out, h, w): twice nearest-neighbour doubling and a 5x5 convolution, then a 7x7.

    Normalised over the whole layer (a group norm of one group), not over each channel, so that the channels' means,
    which the style has set, stay apart.
    """
    parts: list[nn.Module] = []
    for c in (MULTIPLE * width, MULTIPLE * width // 2):
        parts += [nn.Upsample(scale_factor=2), conv(c, c // 2, 5), nn.GroupNorm(1, c // 2), nn.ReLU()]
    return nn.Sequential(*parts, conv(width, out, 7))


class StyleDecoder(nn.Module):
    """Content (b, 4 width, h/4, w/4) and style (b, 8) -> image (b, out, h, w) in (-1, 1).

    `mlp` (1,120,768 parameters at width 64) turns the style into scales and shifts of `blocks` adaptive residual
    blocks; all but it has 5,748,353 with one channel. Scales begin about 1 and as far apart as the styles are: with
    PyTorch's default scales and shifts begin about 0, which silences every block.
    """

    def __init__(self, out: int, width: int = 64, blocks: int = 4):
        super().__init__()
        deep = MULTIPLE * width
        self.shape = (blocks, 2, 2, deep)
        self.mlp = nn.Sequential(
            nn.Linear(STYLE, deep), nn.ReLU(), nn.Linear(deep, deep), nn.ReLU(), nn.Linear(deep, 4 * blocks * deep)
        )
        self.blocks = nn.ModuleList(AdaptiveResidual(deep) for _ in range(blocks))
        self.grow = growing(width, out)
        for number, gain in ((0, "relu"), (2, "relu"), (4, "linear")):
            nn.init.kaiming_normal_(self.mlp[number].weight, nonlinearity=gain)  # type: ignore[arg-type]
            nn.init.zeros_(self.mlp[number].bias)  # type: ignore[arg-type]
        with torch.no_grad():
            self.mlp[4].bias.view(self.shape)[:, :, 0] = 1.0  # type: ignore[operator]

    def forward(self, content: Float[Tensor, "b c u v"], style: Float[Tensor, "b 8"]) -> Float[Tensor, "b out h w"]:
        settings = self.mlp(style).view(-1, *self.shape)
        x = content
        for number, block in enumerate(self.blocks):
            x = block(x, settings[:, number])
        return torch.tanh(self.grow(x))


class ContentSegmenter(nn.Sequential):
    """Content (b, 4 width, h/4, w/4) -> logits (b, classes, h, w): the decoder without style, one residual block."""

    def __init__(self, classes: int, width: int = 64):
        super().__init__(Residual(MULTIPLE * width, "reflect"), growing(width, classes))
