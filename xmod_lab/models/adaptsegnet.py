"""AdaptSegNet's networks: a U-Net that segments at two levels, and the critic of what it says."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from xmod_lab.models.unet import UNet


class TwoLevelUNet(UNet):
    """U-Net with a second 1x1 head, `lower`, on the last but one level of the decoder.

    (b, channels, h, w) -> logits (b, classes, h, w); `levels` gives the lower head's as well. 31,030,916 parameters at
    width 64 with one channel and two classes: 258 more than the U-Net.
    """

    def __init__(self, channels: int, classes: int, width: int = 64, dropout: float = 0.5):
        super().__init__(channels, classes, width, dropout)
        self.lower = nn.Conv2d(2 * width, classes, 1)

    def levels(self, x: Float[Tensor, "b c h w"]) -> dict[str, Tensor]:
        """Logits (b, classes, h, w) of both heads; those of `lower` are enlarged from half the size, bilinear."""
        skips, centre = self.encoder(x)
        *_, before, last = self.decoder.features(self.centre_tap(self.centre(centre)), skips)
        lower = F.interpolate(self.lower(before), x.shape[2:], mode="bilinear", align_corners=False)
        return {"main": self.decoder.head(last), "lower": lower}


class OutputCritic(nn.Module):
    """Scores of patches of a segmentation: class probabilities (b, c, h, w) -> (b, 1, h / 2^layers, w / 2^layers).

    `layers` 4x4 convolutions of stride 2, of which the last is the head, width doubling; leaky ReLU 0.2 between them,
    no normalisation. Five judge patches of 94x94 pixels (2,781,121 parameters at width 64 with 19 classes, 2,766,785
    with 5); four judge 46x46 and leave 4x4 scores of a slice of 64 pixels.

    Weights begin as in He et al. 2015: with PyTorch's own each layer leaves a third of the signal, and a short run of a
    narrow critic without normalisation hardly learns to tell two segmentations apart.
    """

    def __init__(self, classes: int, width: int = 64, layers: int = 4):
        super().__init__()
        widths = [classes, *(width * 2**i for i in range(layers - 1))]
        parts: list[nn.Module] = []
        for a, b in zip(widths[:-1], widths[1:], strict=True):
            parts += [nn.Conv2d(a, b, 4, 2, 1), nn.LeakyReLU(0.2)]
        self.trunk = nn.Sequential(*parts)
        self.patches = nn.Conv2d(widths[-1], 1, 4, 2, 1)
        for part in self.trunk:
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, a=0.2, nonlinearity="leaky_relu")
        nn.init.kaiming_normal_(self.patches.weight, nonlinearity="linear")

    def forward(self, p: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 u v"]:
        return self.patches(self.trunk(p))
