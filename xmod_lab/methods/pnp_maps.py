"""PnP-AdaNet's maps: how sure it is, what the plugged layers see, what the critics say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from xmod_lab.maps import Map, class_maps, over_image
from xmod_lab.models.fcn import GROUPS
from xmod_lab.models.pnp import LEVELS, Seen

if TYPE_CHECKING:
    from xmod_lab.methods.base import Batch
    from xmod_lab.methods.pnp_adanet import PnPAdaNet


@torch.no_grad()
def maps_of(method: PnPAdaNet, batch: Batch) -> dict[str, Map]:
    """Maps of the slices of each <modality> of the batch, those of the target through the plugged layers.

    ``probability/<modality>``   `stack` of class probabilities
    ``entropy/<modality>``       `mask`: entropy of the classes over its largest value, 0 to 1
    ``levels/<modality>``        `stack`: mean magnitude over channels in each group that the critic of features sees
    ``features/<modality>``      `stack`: all channels of the last plugged group, enlarged: the plane that
                                 `evaluate.feature_plane` lays through them shows whether modalities lie apart
    ``unplugged/<target>``       `stack`: the same of target images through the source's own layers: before adaptation
    ``critic/<features or mask>/<modality>``   `mask`: scores of patches, enlarged: the higher, the more like the
                                 source. Only of patch critics (planes=False)
    """
    found: dict[str, Map] = {}
    names = ("background", *method.problem.classes)
    last = GROUPS[method.config.depth - 1]
    for m in [m for m in (method.source, method.target) if m in batch]:
        image = batch[m].image
        seen = method.see(image, m)
        found |= class_maps(seen.logits, m, names, "segmenter.head")
        means = [over_image(seen.features[g].float().abs().mean(1, keepdim=True), image) for g in LEVELS]
        titles = tuple(f"group {g}" for g in LEVELS)
        layer = f"segmenter.taps.[{''.join(LEVELS)}]"
        found[f"levels/{m}"] = Map("stack", torch.cat(means, 1), m, layer, comparable=False, names=titles)
        found[f"features/{m}"] = _features(seen, image, m, last)
        if m == method.target:
            found[f"unplugged/{m}"] = _features(method.segmenter.see(image), image, m, last)
        if not method.config.planes:
            for name, shown in method.judged(seen).items():
                scores = over_image(method.critics[name](shown), image)[:, 0]
                found[f"critic/{name}/{m}"] = Map("mask", scores, m, f"critics.{name}")
    return found


def _features(seen: Seen, image: torch.Tensor, modality: str, group: str) -> Map:
    values = over_image(seen.features[group], image)
    numbers = tuple(str(i + 1) for i in range(values.shape[1]))
    return Map("stack", values, modality, f"segmenter.taps.{group}", names=numbers)
