"""SIFA's maps: what translation adds to a slice, where its heads are in doubt, and what its critics say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from xmod_lab.maps import Map, class_entropy, class_maps, difference, over_image, record

if TYPE_CHECKING:
    from xmod_lab.methods.base import Batch
    from xmod_lab.methods.sifa import SIFA


@torch.no_grad()
def maps_of(method: SIFA, batch: Batch) -> dict[str, Map]:
    """Of the slices x of each <modality> of the batch and their translations x' to <other>, all `mask` but one:

    ``style/<other>/<modality>``           x' - x, mean over channels, -2 to 2
    ``added/<other>/<modality>``           what the translator adds to x before the tanh, mean over channels, unbounded
    ``residual/<other>/<modality>``        |x' - x|, 0 to 2
    ``cycle_residual/<other>/<modality>``  |x'' - x| of the way there and back, 0 to 2
    ``critic/<other>/<modality>``, ``critic/real/..``   scores of x' by the critic of <other>, and of x by that of
                                           <modality>, enlarged: 1 is real, 0 generated
    ``critic_auxiliary/<source>/<modality>``   the source critic's second score of what the decoder made of the slices:
                                           1 says of translations to the target, 0 of target images
    ``probability/<modality>``             `stack`: of the classes, final level
    ``entropy/<modality>``, ``entropy_early/..``   of the two levels, 0 to 1
    ``critic_mask/<modality>``, ``critic_mask_early/..``   scores of the masks: 1 of translations, 0 of the target's
    """
    found: dict[str, Map] = {}
    translators = {method.source: "generator", method.target: "decoder"}
    critics = {method.source: "source_critic", method.target: "target_critic"}
    names = ("background", *method.problem.classes)
    for m, other in [(s, t) for s, t in method.translations if s in batch]:
        x, layer = batch[m].image, translators[m]
        with record(method, f"{layer}.added") as taps:
            made = method.translate(x, m, other)
        added = taps[f"{layer}.added"][0].float()
        if m == method.source:  # normalised as in training: as a translation, not as an image of the target
            back = method.decoder(method.encode(made, (0, len(made)))[0], made)
        else:
            back = method.translate(made, other, m)

        def keep(name: str, values: torch.Tensor, layer: str, span: tuple[float, float] | None, m: str = m) -> None:
            found[f"{name}/{m}"] = Map("mask", values, m, layer, span)

        keep(f"style/{other}", (made.float() - x.float()).mean(1), layer, (-2.0, 2.0))
        keep(f"added/{other}", added.mean(1), f"{layer}.added", None)
        keep(f"residual/{other}", difference(made, x), layer, (0.0, 2.0))
        keep(f"cycle_residual/{other}", difference(back, x), layer, (0.0, 2.0))
        for name, image, judge in (("real", x, m), (other, made, other)):
            scores = over_image(method.get_submodule(critics[judge])(image), x)
            keep(f"critic/{name}", scores[:, 0], critics[judge], None)
        decoded = back if m == method.source else made
        scores = over_image(method.source_critic(decoded), x)
        if scores.shape[1] > 1:
            keep(f"critic_auxiliary/{method.source}", scores[:, 1], "source_critic", None)
        for level, logits in zip(method.heads, method.segmentations(x, m), strict=True):
            tail = "" if level == "final" else f"_{level}"
            if level == "final":
                found.update(class_maps(logits, m, names, f"heads.{level}"))
            else:
                keep(f"entropy{tail}", class_entropy(logits), f"heads.{level}", (0.0, 1.0))
            if level in method.mask_critics:
                scores = over_image(method.mask_critics[level](method.mask(logits)), x)
                keep(f"critic_mask{tail}", scores[:, 0], f"mask_critics.{level}", None)
    return found
