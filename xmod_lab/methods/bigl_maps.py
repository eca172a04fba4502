"""BiGL's maps: what its segmenter attends to in slices and in their translations, and what its critics make of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from xmod_lab.maps import Map, class_maps, difference, over_image

if TYPE_CHECKING:
    from xmod_lab.methods.base import Batch
    from xmod_lab.methods.bigl import BiGL


@torch.no_grad()
def maps_of(method: BiGL, batch: Batch) -> dict[str, Map]:
    """Maps of the slices of each <modality> of the batch; <image> is "real", or the modality of their translation. With
    `reconstructed` what is called real is the reconstruction that the segmenter is shown in its place.

    ``position/<image>/<modality>``     `pairwise` (b, n, n): row i says where position i of n = uv looks, 0 to 1
    ``saliency/<image>/<modality>``     `mask`: the sums of its columns, enlarged: how much all look there, on average 1
    ``channel/<image>/<modality>``      `pairwise` (b, c, c): which channels a channel looks at, 0 to 1
    ``probability/..``, ``entropy/..``  `stack` of class probabilities; `mask` of their entropy, 0 to 1
    ``critic/feature/<image>/<modality>``   `mask`: what the critic of features takes for an image with labels, 0 to 1
    ``critic/position/..``, ``critic/channel/..``   `pairwise` (b, u, v): the same of patches, or rows, of maps
    ``residual/<target>/<modality>``    `mask`: |x' - x|, 0 to 2
    """
    found: dict[str, Map] = {}
    names = ("background", *method.problem.classes)
    for m, other in [way for way in method.translations if way[0] in batch]:
        x = batch[m].image
        made = method.translate(x, m, other)
        cycle, pair = f"cyclegan.generators.{m}->{other}", f"{m}->{other}.generator"
        layer = f"translators.{cycle if 'cyclegan' in method.translators else pair}"
        found[f"residual/{other}/{m}"] = Map("mask", difference(made, x), m, layer, (0.0, 2.0))
        seen = method.see({m: method.as_seen(x, m), other: made}, mapped=True)
        for look, sight in seen.items():
            where, side = f"{'real' if look == m else look}/{m}", "source" if look == method.source else "target"
            found |= class_maps(sight.logits, m, names, "segmenter.decoder.head", where)
            if sight.position is not None and sight.channel is not None:
                layer = "segmenter.attention.position.map"
                n = sight.position.shape[1]
                looked = over_image(_in_plane(sight.position.sum(1)), x)[:, 0]
                edge = math.isqrt(n)
                found[f"position/{where}"] = Map(
                    "pairwise", sight.position, m, layer, (0.0, 1.0), grid=(edge, edge)
                )
                found[f"saliency/{where}"] = Map("mask", looked, m, layer, (0.0, float(n)))
                layer = "segmenter.attention.channel.map"
                found[f"channel/{where}"] = Map("pairwise", sight.channel, m, layer, (0.0, 1.0))
            for kind in method.kinds:
                told, layer = method.scores(kind, side, sight).float().sigmoid(), f"critics.{kind}/{side}"
                if kind == "feature":
                    found[f"critic/{kind}/{where}"] = Map("mask", over_image(told, x)[:, 0], m, layer, (0.0, 1.0))
                else:
                    found[f"critic/{kind}/{where}"] = Map("pairwise", told[:, 0], m, layer, (0.0, 1.0))
    return found


def looks_at(attention: Map, pixel: tuple[int, int], image: Tensor) -> Tensor:
    """Where the position of an image's `pixel` (row, column) looks: its row of a map of positions over the image
    (b, h, w), divided by its largest value."""
    edge = math.isqrt(attention.values.shape[1])
    u, v = (at * edge // size for at, size in zip(pixel, image.shape[2:], strict=True))
    row = _in_plane(attention.values[:, u * edge + v])
    return over_image(row / row.amax((2, 3), keepdim=True), image)[:, 0]


def _in_plane(values: Tensor) -> Tensor:
    """(b, uv) of a square -> (b, 1, u, v)."""
    edge = math.isqrt(values.shape[1])
    return values.float().view(-1, 1, edge, edge)
