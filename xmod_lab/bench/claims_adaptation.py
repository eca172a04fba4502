"""What BiGL and AdaptSegNet claim, and this lab's own questions about them, as comparisons of two systems."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xmod_lab.bench.claim import Claim
from xmod_lab.bench.published_adaptation import (
    ALONE,
    AT_TRAINING,
    CONTROL,
    FEATURE,
    GLIOMA,
    HIGH,
    LOW,
    NO_ATTENTION,
    ON_TRANSLATIONS,
    ONE_LEVEL,
    OUTPUT,
    PLAIN,
    RECONSTRUCTED,
    SQUARES,
    STACKED,
    STRONG,
    TRANSLATORS,
    bigl_difference,
)


def _bigl(key: str, pairs: Sequence[tuple[str, str]], metrics: Sequence[str] = ("dice",), **more: Any) -> list[Claim]:
    """BiGL's Tables 1-5: the brain's T2, mean over WT, TC and ET, or one of them."""
    return [
        Claim(key, a, b, "T2", metric, bigl_difference(a, b, "T2", metric, more.get("structure", "")), *GLIOMA, **more)
        for a, b in pairs
        for metric in metrics
    ]


BETTER = [("adaptsegnet", "source_only"), ("cycada", "adaptsegnet"), ("sifa", "cycada"), ("bigl", "sifa")]
"""BiGL's Tables 1, 2, 6 and 7, each system against the one below it"""
PARTS = [(FEATURE, OUTPUT), ("bigl", FEATURE)]
HEARTS_TO = (("CT", "mr_to_ct"), ("MR", "ct_to_mr"))
CHEAP = (STRONG, AT_TRAINING)
"""what costs least: strong augmentation, and a U-Net of translated slices"""
BAR = [
    *_bigl("B0", [("bigl", "source_only"), (RECONSTRUCTED, "source_only")], least=25.0),
    *_bigl("B9", [(RECONSTRUCTED, "bigl")]),
]
ADAPTATION = [
    *BAR[:1],
    *_bigl("B1", [*BETTER, (STACKED, "bigl"), ("target_only", "bigl")]),
    *_bigl("B7", [("bigl", other) for other in CHEAP]),
]
ADAPTATION_HEART = [
    *[
        Claim("B6", "bigl", "sifa", m, metric, bigl_difference("bigl", "sifa", m, metric), "whole_heart", task)
        for m, task in HEARTS_TO
        for metric in ("dice", "assd_pooled")
    ],
    *[Claim("B7", "bigl", o, m, dataset="whole_heart", task=task) for m, task in HEARTS_TO for o in CHEAP],
]
ADAPTATION_ABLATIONS = [
    *_bigl("B2", PARTS),
    *_bigl("B3", PARTS, ["hd95_max"]),
    *_bigl("B3", PARTS[1:], ["hd95_max"], structure="ET"),
    *_bigl("B4", [("bigl", LOW), ("bigl", HIGH)], ["dice", "hd95_max"]),
    *_bigl("B5", [(FEATURE, NO_ATTENTION), ("bigl", PLAIN), (FEATURE, PLAIN)]),
    *_bigl("B7", [("bigl", ALONE)]),
    *_bigl("A1", [("adaptsegnet", ONE_LEVEL), ("adaptsegnet", CONTROL), (SQUARES, ONE_LEVEL)]),
]
ADAPTATION_REAL = [
    Claim("B1", a, b, "FLAIR", "dice", bigl_difference(a, b, "T2", "dice", "WT"), "lgg", "t1gd_to_flair", False)
    for a, b in [BETTER[0], ("sifa", "adaptsegnet"), BETTER[3], ("target_only", "bigl")]
]
THROUGH = [
    *_bigl("B8", [("bigl", other) for other in TRANSLATORS]),
    *_bigl("B9", [(other, "bigl") for other in (RECONSTRUCTED, ON_TRANSLATIONS)]),
]
SAYS = {
    "B0": "BiGL, as published or shown reconstructions, at least 25 points of Dice above the same augmentation without "
    "adaptation (this lab's own bar)",
    "B1": "no adaptation below AdaptSegNet, CyCADA, SIFA, BiGL, labels of the target, each below the next in Dice",
    "B2": "BiGL's feature critics add to output consistency, its attention critics to both, in Dice",
    "B3": "the same two steps lower HD95, the second not that of ET (that it adds little is not tested)",
    "B4": "BiGL's weight of 0.1 above 0.02 and 0.5 in Dice, below in HD95 (that Dice is flat is not tested)",
    "B5": "BiGL with attention above BiGL without, its block's convolutions kept; and above a plain U-Net without the "
    "block, with and without attention critics",
    "B6": "BiGL above SIFA on the heart in Dice, below in surface distance",
    "B7": "BiGL above strong augmentation, above a U-Net of translated slices, or above its own network on the source "
    "alone (this lab's own questions)",
    "B8": "BiGL above itself with one setting of its translators as CycleGAN has it, or with a shape term (this "
    "lab's own question)",
    "B9": "BiGL shown reconstructions in place of real images, or taught by translations alone, above BiGL as "
    "published (this lab's own question)",
    "B10": "BiGL's translators, before any segmenter, come nearer to the change of grey that the true image asks for "
    "than with one setting as CycleGAN has it, or with a shape term (this lab's own question)",
    "A1": "AdaptSegNet at two levels above one, and above itself with weight 0; least squares above cross-entropy",
}
"""by key: what is claimed, in a line"""
CLAIMS = {
    "adaptation": ADAPTATION,
    "adaptation-heart": ADAPTATION_HEART,
    "adaptation-bar": BAR,
    "adaptation-ablations": ADAPTATION_ABLATIONS,
    "adaptation-translators": THROUGH,
    "adaptation-real": ADAPTATION_REAL,
}
"""by grid (`bench.suites_adaptation`)"""
