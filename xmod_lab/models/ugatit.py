"""The networks of U-GAT-IT's light version: class activation as attention, and norms between instance and layer.

Kim et al., ICLR 2020; sizes are those of the authors' PyTorch code.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from xmod_lab.errors import LabError
from xmod_lab.models.blocks import Tap
from xmod_lab.models.resnet import normalised


def layer_instance_norm(
    x: Float[Tensor, "b c h w"],
    rho: Float[Tensor, " c"],
    scale: Float[Tensor, "#b c"],
    shift: Float[Tensor, "#b c"],
    eps: float = 1e-5,
) -> Float[Tensor, "b c h w"]:
    r"""Each channel normalised by a mixture of its own moments and those of all channels together.

    .. math:: \gamma \left( \rho \frac{x - \mu_I}{\sqrt{\sigma_I^2 + \epsilon}}
              + (1 - \rho) \frac{x - \mu_L}{\sqrt{\sigma_L^2 + \epsilon}} \right) + \beta

    I: over (h, w) of each channel; L: over (c, h, w); variances divided by their number less one. rho 1 is instance
    normalisation, 0 layer normalisation. As all of it is linear in x, it is one product and one sum a pixel; the
    layer's moments come from the channels'. In float32 whatever the autocast, the result in x's type.
    """
    with torch.autocast(x.device.type, enabled=False):
        values, pixels = x.float(), x.shape[2] * x.shape[3]
        var, mean = torch.var_mean(values, (2, 3))
        middle = mean.mean(1, keepdim=True)
        squares = (pixels - 1) * var + pixels * (mean - middle).square()
        whole = squares.sum(1, keepdim=True) / (pixels * x.shape[1] - 1)
        own, layer = rho * (var + eps).rsqrt(), (1 - rho) * (whole + eps).rsqrt()
        offset = shift - scale * (own * mean + layer * middle)
        return torch.addcmul(offset[..., None, None], values, (scale * (own + layer))[..., None, None]).to(x.dtype)


class AdaLIN(nn.Module):
    """`layer_instance_norm` whose scale and shift come from outside; rho, one a channel, begins at 0.9."""

    def __init__(self, channels: int):
        super().__init__()
        self.rho = nn.Parameter(torch.full((channels,), 0.9))

    def forward(
        self, x: Float[Tensor, "b c h w"], scale: Float[Tensor, "b c"], shift: Float[Tensor, "b c"]
    ) -> Float[Tensor, "b c h w"]:
        return layer_instance_norm(x, self.rho, scale, shift)


class LIN(nn.Module):
    """`layer_instance_norm` with learned scale and shift; rho begins at 0."""

    def __init__(self, channels: int):
        super().__init__()
        self.rho = nn.Parameter(torch.zeros(channels))
        self.scale, self.shift = nn.Parameter(torch.ones(1, channels)), nn.Parameter(torch.zeros(1, channels))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return layer_instance_norm(x, self.rho, self.scale, self.shift)


def mixtures(network: nn.Module) -> dict[str, nn.Parameter]:
    """rho (c,) of every AdaLIN and LIN of a network, by the layer's name."""
    return {name: m.rho for name, m in network.named_modules() if isinstance(m, AdaLIN | LIN)}


@torch.no_grad()
def clip_mixtures(network: nn.Module) -> None:
    """Bring every rho back to [0, 1]: to be called after each step of the network's optimiser."""
    for rho in mixtures(network).values():
        rho.clamp_(0, 1)


class ClassActivation(nn.Module):
    r"""Attention to the channels by which a linear classifier tells two classes apart (after Zhou et al. 2016, CAM).

    .. math:: l = (w_a \cdot \mathrm{mean}_{ij} f,\; w_m \cdot \max_{ij} f), \qquad g = \phi(W [w_a f, w_m f] + b)

    (b, c, h, w) -> g (b, c, h, w), logits (b, 2). Tap `tap` gives g; its sum over channels is the heat map. The
    classifiers have no bias. bounded: spectral normalisation of each, which of one row of weights leaves the direction
    and length 1. Features are weighed by these w too, not by the raw ones, as happens in the authors' code. W then
    begins so that g has the size of f (He et al. 2015): with PyTorch's default a tenth is left, and a critic without
    other normalisation begins to tell patches apart the later.

    Where f is a sum of instance norms, as in the generator, its mean hardly depends on the image. The first classifier
    then stays at chance, and it is the second that tells the classes apart.
    """

    def __init__(self, channels: int, activation: nn.Module, bounded: bool = False):
        super().__init__()
        self.classifiers, self.bounded = nn.Linear(channels, 2, bias=False), bounded
        self.mix, self.activation = nn.Conv2d(2 * channels, channels, 1), activation
        if bounded:
            nn.init.normal_(self.mix.weight)  # of 2c channels, each a c-th of f's square: twice it, for half is cut off
        self.tap = Tap()

    def weights(self) -> Float[Tensor, "2 c"]:
        """w_a and w_m, those in use."""
        w = self.classifiers.weight
        return F.normalize(w, dim=1) if self.bounded else w

    def forward(self, f: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b 2"]]:
        w = self.weights()
        logits = (torch.stack([f.mean((2, 3)), f.amax((2, 3))], 1) * w).sum(2)
        weighed = (f[:, None] * w[..., None, None]).flatten(1, 2)
        return self.tap(self.activation(self.mix(weighed))), logits


def conv(c_in: int, c_out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """Convolution without bias that pads by reflection and keeps the size, or halves it with stride 2."""
    return nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, padding_mode="reflect", bias=False)


class Block(nn.Module):
    """x plus (3x3 convolution, norm, ReLU, 3x3 convolution, norm) of x: (b, c, h, w) -> the same.

    Norms: instance without affine, or AdaLIN where `adaptive`, of which `style` is scale and shift (b, c) each.
    """

    def __init__(self, channels: int, adaptive: bool = False):
        super().__init__()
        norm = AdaLIN if adaptive else nn.InstanceNorm2d
        self.convs = nn.ModuleList(conv(channels, channels, 3) for _ in range(2))
        self.norms = nn.ModuleList(norm(channels) for _ in range(2))

    def forward(self, x: Float[Tensor, "b c h w"], *style: Tensor) -> Float[Tensor, "b c h w"]:
        h = F.relu(self.norms[0](self.convs[0](x), *style))
        return x + self.norms[1](self.convs[1](h), *style)


class AttentionGenerator(nn.Module):
    """(b, channels, h, w) -> (b, out, h, w) in (-1, 1); h and w multiples of 4.

    `down`: 7x7 convolution and two of stride 2; `blocks` residual blocks; `cam`; as many residual blocks with AdaLIN,
    whose scale and shift a perceptron makes of the attended features' means (the full version: of all their pixels,
    268 million weights for one size of image); `up`: twice nearest neighbours, convolution and LIN, then a 7x7 one
    with tanh. 10,589,888 parameters at width 64 with three channels and 4 blocks.
    """

    def __init__(self, channels: int, out: int, width: int = 64, blocks: int = 4):
        super().__init__()
        deep = 4 * width
        self.down = nn.Sequential(
            *normalised(conv(channels, width, 7), width, False),
            *normalised(conv(width, 2 * width, 3, 2), 2 * width, False),
            *normalised(conv(2 * width, deep, 3, 2), deep, False),
        )
        self.blocks = nn.Sequential(*(Block(deep) for _ in range(blocks)))
        self.cam = ClassActivation(deep, nn.ReLU())
        self.mlp = nn.Sequential(
            nn.Linear(deep, deep, bias=False), nn.ReLU(), nn.Linear(deep, deep, bias=False), nn.ReLU()
        )
        self.scale, self.shift = (nn.Linear(deep, deep, bias=False) for _ in range(2))
        self.adaptive = nn.ModuleList(Block(deep, adaptive=True) for _ in range(blocks))
        parts: list[nn.Module] = []
        for c in (deep, 2 * width):
            parts += [nn.Upsample(scale_factor=2), conv(c, c // 2, 3), LIN(c // 2), nn.ReLU()]
        self.up = nn.Sequential(*parts, conv(width, out, 7), nn.Tanh())

    def classified(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b o h w"], Float[Tensor, "b 2"]]:
        """The image, and the logits of its two classifiers: is x of the source modality?"""
        h, logits = self.cam(self.blocks(self.down(x)))
        style = self.mlp(h.mean((2, 3)))
        scale, shift = self.scale(style), self.shift(style)
        for block in self.adaptive:
            h = block(h, scale, shift)
        return self.up(h), logits

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b o h w"]:
        return self.classified(x)[0]


def critic_layers(size: int) -> tuple[int, int]:
    """Layers of the local and the global critic for slices of `size` pixels, the last ones before the scores counted.

    From 96 pixels on the authors' 5 and 7, which judge patches of 70 and 286 pixels; for smaller slices so many fewer
    that 3 pixels are left behind the global critic's strides: 4 and 6 for 48 and 64 pixels, which see 34 and 142.
    Raises LabError below 24 pixels.
    """
    if size < 24:
        raise LabError(f"the critics of U-GAT-IT need slices of 24 pixels, these have {size}", where="UGATIT")
    strides = min((size // 3).bit_length() - 1, 5)
    return strides, strides + 2


class AttentionCritic(nn.Module):
    """Scores of patches, (b, c, h, w) -> (b, 1, u, v) and the logits (b, 2) of its `ClassActivation`; all unbounded.

    `layers` - 2 convolutions 4x4 of stride 2 and one of stride 1, width doubling, leaky ReLU 0.2, no normalisation but
    the spectral one of every weight; `cam`; a head without bias. All pad by reflection. At width 64 with three
    channels: 3,290,560 parameters with 5 layers, 53,130,176 with 7.
    """

    def __init__(self, channels: int, width: int = 64, layers: int = 5):
        super().__init__()

        def bounded(c_in: int, c_out: int, stride: int, bias: bool = True) -> nn.Module:
            return spectral_norm(nn.Conv2d(c_in, c_out, 4, stride, 1, padding_mode="reflect", bias=bias))

        parts: list[nn.Module] = []
        c = channels
        for i in range(layers - 1):
            parts += [bounded(c, width * 2**i, 2 if i < layers - 2 else 1), nn.LeakyReLU(0.2)]
            c = width * 2**i
        self.trunk = nn.Sequential(*parts)
        self.cam = ClassActivation(c, nn.LeakyReLU(0.2), bounded=True)
        self.patches = bounded(c, 1, 1, bias=False)

    def forward(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b 1 u v"], Float[Tensor, "b 2"]]:
        g, logits = self.cam(self.trunk(x))
        return self.patches(g), logits
