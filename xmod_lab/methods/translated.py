"""What segmenters of translated slices share (CyCADA, CycleGAN + segmentation): translating once, and the maps of it.

Training translates each labelled slice before the segmenter's stage begins (`Stage.derive`), not in every step: a slice
is drawn many times. The translation then has the slice's own label and augmentation draw, and is what the translator
makes of an image as it was taken, as in a test.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from xmod_lab.errors import LabError
from xmod_lab.maps import Map, difference
from xmod_lab.methods.base import Batch, Method


class Translate(Protocol):
    """(b, k, h, w) of `source` -> the same slices as `target`."""

    def __call__(self, image: Tensor, source: str, target: str) -> Tensor: ...


def along(translate: Translate, image: Tensor, *path: str) -> Tensor:
    """An image (b, k, h, w) of the path's first modality as each of the next ones in turn; there and back is a path."""
    for source, target in pairwise(path):
        image = translate(image, source, target)
    return image


def derivation(translate: Translate, *path: str) -> dict[str, Callable[[Tensor], Tensor]]:
    """`Stage.derive` that translates every training slice of the path's first modality. LabError for stacked
    modalities: of each derived slice one channel is kept."""
    if "+" in path[0]:
        raise LabError(f"{path[0]} is several modalities in one image, only one can be derived", where="derivation")
    return {"->".join(path): lambda image: along(translate, image, *path)}


@torch.no_grad()
def translation(translate: Translate, batch: Batch, *path: str) -> Tensor:
    """The translated slices (b, k, h, w) of a batch: the derived ones, made here where it has none."""
    derived = batch.get("->".join(path))
    return along(translate, batch[path[0]].image, *path) if derived is None else derived.image


def trained_translator(method: Method, name: str) -> Method:
    """The trained method `name` that `method` reads, evaluating. Raises LabError if it was not handed over."""
    if name not in method.read:
        raise LabError(
            f"the translator {name} is missing",
            where=type(method).__name__,
            mend="build it with runs.build, or `receive` a trained one",
        )
    return method.read[name].eval()  # type: ignore[return-value]


def residual_map(image: Tensor, made: Tensor, source: str, target: str, layer: str) -> dict[str, Map]:
    """``residual/<target>/<source>``, a `mask`: what the translation changed, 0 to 2."""
    return {f"residual/{target}/{source}": Map("mask", difference(made, image), source, layer, (0.0, 2.0))}
