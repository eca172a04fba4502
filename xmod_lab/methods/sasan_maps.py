"""SASAN's maps: what its attention modules see in slices and in their translations, and what generators make of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from xmod_lab.losses.attention import gram
from xmod_lab.maps import Map, difference, over_image, record

if TYPE_CHECKING:
    from xmod_lab.methods.base import Batch
    from xmod_lab.methods.sasan import SASAN

LAYERS = {
    "1/4 first": "blocks.0.norms.0", "1/4 second": "blocks.0.norms.1",
    "1/2 first": "blocks.1.norms.0", "1/2 second": "blocks.1.norms.1", "1/2 short": "blocks.1.short_norm",
    "1/1 first": "blocks.2.norms.0", "1/1 second": "blocks.2.norms.1", "1/1 short": "blocks.2.short_norm",
}  # fmt: skip
"""the decoder's normalisations by size and place; "short" are those of the blocks' short ways"""


@torch.no_grad()
def maps_of(method: SASAN, batch: Batch) -> dict[str, Map]:
    """Maps of the slices of each <modality> of the batch.

    ``attention/<seen by>/<modality>``  `stack` (b, n, h, w), unbounded: of real slices where both are one modality, of
                                        their translation where they are not
    ``gram/<seen by>/<modality>``       `pairwise` (b, n, n): the maps' cosines, -1 to 1; what orthogonality asks for
    ``gamma/<target>/<modality>``, ``beta/..``   `stack` (b, 8, h, w): mean over channels of |gamma|, and of beta, in
                                        each of the decoder's normalisations (LAYERS)
    ``segmentation/<seen by>/<modality>``   `stack` of class probabilities, where there were labels
    ``residual/<target>/<modality>``    `mask`: |x' - x|, 0 to 2
    """
    found: dict[str, Map] = {}
    names = ("background", *method.problem.classes)
    for s, t in [(s, t) for s, t in method.translations if s in batch]:
        image, x = batch[s].image, method.small(batch[s].image)
        generator = method.generators[f"{s}->{t}"]
        maps, logits = method.attention[s](x)
        with record(generator, "blocks.*a") as taps:  # gamma and beta
            made = generator(x, maps)
        for m, (values, classes) in {s: (maps, logits), t: method.attention[t](made)}.items():
            layer, where = f"attention.{m}", f"{m}/{s}"
            numbers = tuple(str(i + 1) for i in range(values.shape[1]))
            found[f"attention/{where}"] = Map("stack", over_image(values, image), s, f"{layer}.maps", names=numbers)
            stacks = (f"attention/{where}", f"attention/{where}")
            found[f"gram/{where}"] = Map("pairwise", gram(values), s, f"{layer}.maps", (-1.0, 1.0), behind=stacks)
            if classes is not None:
                seen = over_image(classes.float().softmax(1), image)
                found[f"segmentation/{where}"] = Map(
                    "stack", seen, s, f"{layer}.classify", (0.0, 1.0), names=names
                )
        for kind in ("gamma", "beta"):
            each = [taps[f"{layer}.{kind}"][0].float() for layer in LAYERS.values()]
            means = [over_image((v.abs() if kind == "gamma" else v).mean(1, keepdim=True), image) for v in each]
            layer = f"generators.{s}->{t}.blocks.*.{kind}"
            found[f"{kind}/{t}/{s}"] = Map("stack", torch.cat(means, 1), s, layer, names=tuple(LAYERS))
        change = difference(over_image(made, image), image)
        found[f"residual/{t}/{s}"] = Map("mask", change, s, f"generators.{s}->{t}", (0.0, 2.0))
    return found
