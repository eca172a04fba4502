"""Feature spaces of Fréchet distances: the scorer's encoder, a random one, and networks that a reader brings."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xmod_lab.errors import LabError
from xmod_lab.maps import record
from xmod_lab.paths import LPIPS_FILE, features_home
from xmod_lab.rng import torch_rng

if TYPE_CHECKING:
    from xmod_lab.methods.base import Method

FEATURES = 64
"""most features of a slice: the Fréchet distance of N vectors needs N well above their length (card 13.1)"""


class Extractor(NamedTuple):
    """What turns images into feature vectors, and the name that their distances carry: ``FD[name]``.

    fn(image, modality): image float32 (b, k, h, w) in the task's value range, on one device -> features
    (b, d). One that uses its batch's statistics gives features that depend on what else is in the batch.
    """

    name: str
    fn: Callable[[Tensor, str], Tensor]


def scorer_features(scorer: Method, most: int = FEATURES) -> Extractor:
    """The scorer's encoder as `Extractor`: each channel's mean over the image, at its deepest level of at most `most`.

    The network of the target modality is used, before its pooling: level 2 and 64 features at width 16. Instance
    normalisation keeps each channel's mean over an image near constant, so these features tell shapes of structures
    and hardly contrast: a dimmed image is as good as the image. Raises LabError for a method without
    `network(modality).encoder.taps` (the U-Net baselines have them).
    """
    known = getattr(scorer, "network", None)
    encoder = getattr(known(scorer.problem.labelled[0]), "encoder", None) if callable(known) else None
    if encoder is None or not hasattr(encoder, "taps"):
        raise LabError(f"{type(scorer).__name__} has no encoder to take features from", mend="use unet_individual")
    widths = [next(m for m in level.modules() if isinstance(m, nn.Conv2d)).out_channels for level in encoder.levels]
    level = max((i for i, width in enumerate(widths) if width <= most), default=0)

    def pooled(image: Tensor, modality: str) -> Tensor:
        own = scorer.network(modality).encoder  # type: ignore[operator]
        with record(own, f"taps.{level}") as seen:
            own(image)
        return seen[f"taps.{level}"][0].float().mean((2, 3))

    return Extractor(f"scorer encoder {level}", pooled)


def random_features(channels: int) -> Extractor:
    """A small convolutional network with fixed random weights as `Extractor`, the same on every machine: 64 features.

    Three 3x3 convolutions of stride 2 (16, 32, 64 channels, He's scale) with leaky ReLU 0.2, nothing normalised, mean
    over the image: it sees brightness, contrast and noise, which `scorer_features` do not. Nobody trained it, so no
    translator can have been trained towards it.
    """
    generator, weights, before = torch_rng("random encoder"), [], channels
    for after in (16, 32, FEATURES):
        weights.append(torch.randn(after, before, 3, 3, generator=generator) * (2 / (9 * before)) ** 0.5)
        before = after

    def pooled(image: Tensor, _modality: str) -> Tensor:
        for weight in weights:
            image = F.leaky_relu(F.conv2d(image, weight.to(image.device), stride=2, padding=1), 0.2)
        return image.mean((2, 3))

    return Extractor("random encoder", pooled)


def brought() -> list[Path]:
    """The networks a reader brought: exported programs (``*.pt2``) in `paths.features_home()`, by name. LPIPS's is none
    of them: it compares two images and gives no features."""
    return sorted(path for path in features_home().glob("*.pt2") if path.name != LPIPS_FILE)


def brought_lpips() -> Path | None:
    """The exported program that a reader brought for LPIPS, or None; `translation.lpips_score` says how to make one."""
    path = features_home() / LPIPS_FILE
    return path if path.is_file() else None


def exported_program(path: Path, device: torch.device) -> Callable[..., Any]:
    """The network in an exported program. Raises LabError for a file that is none."""
    try:
        network: nn.Module = torch.export.load(path).module().to(device)
    except (RuntimeError, ValueError, zipfile.BadZipFile) as error:
        raise LabError("no exported program", where=path, mend="save it by torch.export.save") from error
    return network


def brought_features(path: Path, device: torch.device) -> Extractor:
    """An exported program as `Extractor`, named after its file; nothing is ever downloaded.

    The network takes float32 (b, 1, h, w) in [0, 1], the middle channel of a slice, and gives (b, d). An Inception
    network is wrapped so that it copies the channel and resizes, a 3-D encoder (Models Genesis) so that it repeats the
    slice; then, for slices of 64 pixels and any batch::

        sizes = ({0: torch.export.Dim.AUTO},)
        program = torch.export.export(wrapped.eval(), (torch.rand(2, 1, 64, 64),), dynamic_shapes=sizes)
        torch.export.save(program, "features/inception.pt2")

    Raises LabError for a file that is none, and for features that are no vectors.
    """
    network = exported_program(path, device)

    def pooled(image: Tensor, _modality: str) -> Tensor:
        middle = image.shape[1] // 2
        found: Tensor = network((image[:, middle : middle + 1] + 1) / 2)
        if found.shape[:1] != image.shape[:1] or found.ndim != 2:
            raise LabError(f"features have the shape {tuple(found.shape)}", where=path, mend="give one vector a slice")
        return found.float()

    return Extractor(path.stem, pooled)


def extractors_of(scorer: Method | None, channels: int, device: torch.device) -> list[Extractor]:
    """The default feature spaces, on `device`: the scorer's where there is one, a random one, and all that are
    `brought`."""
    own = [] if scorer is None else [scorer_features(scorer)]
    return [*own, random_features(channels), *(brought_features(path, device) for path in brought())]
