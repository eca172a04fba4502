"""Critics: networks that score images, not classes of pixels."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class StarCritic(nn.Module):
    """StarGAN's critic: scores of patches and logits of the modality from one trunk.

    `layers` 4x4 convolutions of stride 2 with leaky ReLU 0.01, width doubling; a 3x3 convolution for the patch scores
    (b, 1, h/2^layers, w/2^layers) and one over the whole rest for the modality logits (b, modalities), both without
    bias. `size` is the edge of the images, a multiple of 2^layers. 44,743,616 parameters at width 64, six layers, 128
    pixels and three modalities, as in UAGAN's repository; four layers (2.9 million) do for slices of one organ.

    Weights begin as in He et al. 2015. With PyTorch's default each layer leaves a third of the signal, and a short run
    hardly learns to tell modalities apart.
    """

    def __init__(self, channels: int, modalities: int, size: int, width: int = 64, layers: int = 4):
        super().__init__()
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
