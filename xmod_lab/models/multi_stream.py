"""Multi-V4 (Valindria et al., WACV 2018): a U-Net a modality whose deepest layers are one (the X shape)."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from xmod_lab.models.blocks import DoubleConv, Tap
from xmod_lab.models.unet import LEVELS, Decoder, level_widths


class MultiStream(nn.Module):
    """(b, channels, h, w) of one stream -> logits (b, classes, h, w).

    Encoder levels below `share_from` and the decoders belong to a stream; levels from there on and the centre are
    shared. 57.7 million parameters with three streams at width 64 from level 3 on, 64.8 million with only the centre
    shared (share_from=4).
    """

    def __init__(
        self,
        streams: Sequence[str],
        channels: int,
        classes: int,
        width: int = 64,
        share_from: int = 3,
        dropout: float = 0.5,
    ):
        super().__init__()
        widths = [channels, *level_widths(width)]

        def levels(first: int, last: int) -> nn.ModuleList:
            return nn.ModuleList(DoubleConv(widths[i], widths[i + 1]) for i in range(first, last))

        self.own = nn.ModuleDict({name: levels(0, share_from) for name in streams})
        self.shared = levels(share_from, LEVELS)
        self.centre = DoubleConv(widths[LEVELS], widths[LEVELS + 1])
        self.centre_tap = Tap()
        self.decoders = nn.ModuleDict({name: Decoder(classes, width) for name in streams})
        self.pool, self.dropout = nn.MaxPool2d(2), nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b k h w"], stream: str) -> Float[Tensor, "b classes h w"]:
        skips = []
        for level in [*self.own[stream], *self.shared]:  # type: ignore[misc]
            skips.append(level(x))
            x = self.pool(skips[-1])
        skips[-1] = self.dropout(skips[-1])
        return self.decoders[stream](self.centre_tap(self.centre(x)), skips)
