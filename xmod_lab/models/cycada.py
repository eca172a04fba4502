"""CyCADA's critic of features."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class DomainCritic(nn.Module):
    """How much more each place looks like the source than like the target: (b, c, h, w) -> (b, 1, h, w), unbounded.

    Three 1x1 convolutions, `width`, half of it, then a logit a domain, with dropout of whole channels and ReLU between
    them. It returns the first logit minus the second, of which the softmax over both domains is the sigmoid. A place is
    judged by itself, so what is shown decides how much of the image it stands for. Width 512 has 134,914 parameters
    for 5 channels and 142,082 for 19, width 1024 has 4,721,154 for 4096.
    """

    def __init__(self, channels: int, width: int = 512, dropout: float = 0.5):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 1), nn.Dropout2d(dropout), nn.ReLU(inplace=True),
            nn.Conv2d(width, width // 2, 1), nn.Dropout2d(dropout), nn.ReLU(inplace=True),
            nn.Conv2d(width // 2, 2, 1),
        )  # fmt: skip

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 h w"]:
        source, target = self.layers(x).split(1, 1)
        return source - target
