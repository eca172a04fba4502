"""UAGAN's generator: a segmentation and a translation U-Net that share the centre and read each other's encoder."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from xmod_lab.models.blocks import DoubleConv, Tap
from xmod_lab.models.norm import Film
from xmod_lab.models.unet import LEVELS, Decoder, Encoder, level_widths

STREAMS = ("segmentation", "translation")


class AttentionalBlock(nn.Module):
    r"""Adds the other stream's feature, gated by itself, to a stream's own (UAGAN, equations 1 and 2).

    .. math:: M = \sigma(W_m \otimes \tilde F), \qquad O = F + M \odot \phi(\tilde F)

    :math:`\phi` is a 3x3 convolution with instance normalisation and leaky ReLU 0.01. The gate M has a value for each
    channel and pixel, in (0, 1). Both inputs and the output are (b, c, h, w). gated=False is UAGAN-atten: M = 1.
    """

    def __init__(self, channels: int, gated: bool = True):
        super().__init__()
        self.gate = nn.Conv2d(channels, channels, 3, padding=1) if gated else None
        self.reduce = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.InstanceNorm2d(channels), nn.LeakyReLU(0.01)
        )
        self.gate_tap, self.passed_tap = Tap(), Tap()

    def forward(self, own: Float[Tensor, "b c h w"], other: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        passed = self.reduce(other)
        if self.gate is not None:
            passed = self.gate_tap(torch.sigmoid(self.gate(other))) * passed
        return own + self.passed_tap(passed)


class FilmEncoder(Encoder):
    """An encoder whose every normalisation is followed by a `Film` of the modality; shapes as `Encoder`."""

    def __init__(self, channels: int, width: int, modalities: int, dropout: float = 0.5):
        super().__init__(channels, width, dropout)
        self.films = nn.ModuleList(
            nn.ModuleList(Film(modalities, c) for _ in range(2)) for c in level_widths(width)[:LEVELS]
        )

    def forward(  # type: ignore[override]
        self, x: Float[Tensor, "b c h w"], modality: Int64[Tensor, " b"]
    ) -> tuple[list[Tensor], Tensor]:
        skips = []
        for level, films, tap in zip(self.levels, self.films, self.taps, strict=True):
            films_left = iter(films.children())
            for layer in level.children():
                x = layer(x)
                if isinstance(layer, nn.InstanceNorm2d):
                    x = next(films_left)(x, modality)
            feature = tap(x)
            skips.append(feature)
            x = self.pool(feature)
        skips[-1] = self.dropout(skips[-1])
        return skips, x


class TwoStream(nn.Module):
    """Image and wanted modality -> segmentation of the image and the image in that modality.

    conditioning  "film": the wanted modality scales and shifts the translation encoder's channels;
                  "plane": it is appended to the image as constant planes, as in the authors' code
    fuse          False: the streams share nothing but the centre (UAGAN-fuse)
    gated         False: the other stream's features are added without attention (UAGAN-atten)
    bounded       tanh on the translated image, whose range is then [-1, 1]

    60,442,755 parameters with planes, three modalities, two classes and width 64.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        modalities: int,
        width: int = 64,
        conditioning: str = "film",
        fuse: bool = True,
        gated: bool = True,
        bounded: bool = True,
        dropout: float = 0.5,
    ):
        super().__init__()
        self.modalities, self.conditioning, self.bounded = modalities, conditioning, bounded
        widths = level_widths(width)
        film = conditioning == "film"
        self.encoders = nn.ModuleDict(
            {
                "segmentation": Encoder(channels, width, dropout),
                "translation": FilmEncoder(channels, width, modalities, dropout)
                if film
                else Encoder(channels + modalities, width, dropout),
            }
        )
        self.centre = DoubleConv(widths[-2], widths[-1])
        self.centre_tap = Tap()
        self.decoders = nn.ModuleDict(
            {"segmentation": Decoder(classes, width), "translation": Decoder(channels, width)}
        )
        self.blocks = nn.ModuleDict(
            {s: nn.ModuleList(AttentionalBlock(c, gated) for c in widths[:LEVELS]) for s in STREAMS} if fuse else {}
        )

    def _encode(self, image: Tensor, modality: Tensor) -> tuple[dict[str, list[Tensor]], dict[str, Tensor]]:
        if self.conditioning == "film":
            translation = self.encoders["translation"](image, modality)
        else:
            planes = (
                F.one_hot(modality, self.modalities).to(image.dtype)[..., None, None].expand(-1, -1, *image.shape[2:])
            )
            translation = self.encoders["translation"](torch.cat([image, planes], 1))
        segmentation = self.encoders["segmentation"](image)
        deep = self.centre_tap(self.centre(torch.cat([segmentation[1], translation[1]])))  # both streams in one call
        return (
            {"segmentation": segmentation[0], "translation": translation[0]},
            dict(zip(STREAMS, deep.chunk(2), strict=True)),
        )

    def forward(
        self, image: Float[Tensor, "b k h w"], modality: Int64[Tensor, " b"], streams: tuple[str, ...] = STREAMS
    ) -> dict[str, Tensor]:
        """`segmentation`: logits (b, c, h, w); `translation`: the image in `modality` (b, k, h, w). Only `streams`."""
        skips, deep = self._encode(image, modality)
        found = {}
        for stream in streams:
            other = STREAMS[1 - STREAMS.index(stream)]
            fused = skips[stream]
            if stream in self.blocks:
                blocks = self.blocks[stream].children()
                fused = [b(a, o) for b, a, o in zip(blocks, skips[stream], skips[other], strict=True)]
            found[stream] = self.decoders[stream](deep[stream], fused)
        if self.bounded and "translation" in found:
            found["translation"] = torch.tanh(found["translation"])
        return found
