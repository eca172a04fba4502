"""What CSA, UAGAN, UMMKD, TarGAN, SASAN and BiGL claim, as comparisons of two systems; `bench.verdicts` answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from xmod_lab.bench.published import (
    MEAN,
    NOT_ADAPTED,
    SASAN_PAIRED,
    TARGETS,
    csa_difference,
    sasan_difference,
    targan_difference,
    uagan_difference,
)
from xmod_lab.bench.published_adaptation import (
    ALONE,
    AT_TRAINING,
    CONTROL,
    FEATURE,
    HIGH,
    LOW,
    NO_ATTENTION,
    ONE_LEVEL,
    OUTPUT,
    PLAIN,
    SQUARES,
    STACKED,
    STRONG,
    bigl_difference,
)

DISTANCES = ("hd", "hd95_max", "assd_pooled", "fd", "mae", "rmse", "lpips")
"""metrics of which less is better"""
HEART = {"LGE": "cardiac_mr", "bSSFP": "cardiac_mr", "CT": "whole_heart", "MR": "whole_heart"}


@dataclass(frozen=True)
class Claim:
    """`method` against `other` in `metric` on `modality`, of translators the target.

    published: the paper's difference, in points (per cent) or the metric's unit; None where it says "better" without a
    number, or of other data: higher, but lower where the metric is a distance.
    """

    key: str
    method: str
    other: str
    modality: str
    metric: str = "dice"
    published: float | None = None
    dataset: str = "brain_tumour"
    task: str = "uagan"
    same_data: bool = True
    """whether data and modality are the paper's, up to phantoms: elsewhere nothing is reproduced"""
    less: tuple[str, str] | tuple[()] = ()
    """two more systems, whose difference is taken from that of the first two: does something else change the effect?"""
    structure: str = ""
    """the one structure that is compared; empty for the mean over the task's (`Task.structures`)"""
    least: float = 0.0
    """how large the difference is said to be at the least, in points or the metric's unit"""

    @property
    def systems(self) -> tuple[str, ...]:
        """All that are compared."""
        return (self.method, self.other, *self.less)

    @property
    def direction(self) -> int:
        """+1 if the paper has `method` higher here, else -1. Its table decides, also where it contradicts the text, as
        UAGAN's does on T1Gd."""
        if self.published is None:
            return -1 if self.metric in DISTANCES else 1
        return int(math.copysign(1, self.published))


def _brains(
    key: str, method: str, others: Sequence[str], metrics: Sequence[str] = ("dice",), **more: Any
) -> list[Claim]:
    """UAGAN's Table 1 in its three modalities, or in those of `lgg`."""
    modalities = ("T1Gd", "FLAIR") if more.get("dataset") == "lgg" else ("T1Gd", "FLAIR", "T2")
    return [
        Claim(key, method, other, m, metric, uagan_difference(method, other, m, metric), **more)
        for other in others
        for metric in metrics
        for m in modalities
    ]


def _hearts(key: str, method: str, others: Sequence[str], metrics: Sequence[str] = ("dice",)) -> list[Claim]:
    """CSA's Tables 1-3 in their four modalities."""
    return [
        Claim(key, method, other, m, metric, csa_difference(method, other, m, metric), data, "joint")
        for other in others
        for metric in metrics
        for m, data in HEART.items()
    ]


def _livers(
    key: str, method: str, others: Sequence[str], metric: str = "dice", targets: Sequence[str] = TARGETS
) -> list[Claim]:
    """TarGAN's Tables 1-3 in their three modalities, or the mean over them."""
    return [
        Claim(key, method, other, m, metric, targan_difference(method, other, m, metric), "abdomen", "liver")
        for other in others
        for m in targets
    ]


def _adapted(
    key: str, pairs: Sequence[tuple[str, str]], modality: str, dataset: str, task: str, column: str = "", **more: Any
) -> list[Claim]:
    """SASAN's Tables 1-5: Dice in the modality tested; `column` where it is not the tables' own."""
    return [
        Claim(key, a, b, modality, "dice", sasan_difference(a, b, column or modality), dataset, task, **more)
        for a, b in pairs
    ]


def _bigl(key: str, pairs: Sequence[tuple[str, str]], metrics: Sequence[str] = ("dice",), **more: Any) -> list[Claim]:
    """BiGL's Tables 1-5: the brain's T2, mean over WT, TC and ET, or one of them."""
    return [
        Claim(key, a, b, "T2", metric, bigl_difference(a, b, "T2", metric, more.get("structure", "")), *GLIOMA, **more)
        for a, b in pairs
        for metric in metrics
    ]


UAGAN = [
    *_brains("U1", "uagan", ["unet_joint"]),
    *_brains("U2", "uagan", ["unet_individual", "multi_v4"]),
    *_brains("U3", "uagan", ["unet_joint"], ["precision", "assd_pooled", "sensitivity"]),
    *_brains("U4", "uagan", ["uagan (atten)", "uagan (trans)", "uagan (fuse)"]),
    *_brains("U5", "unet_joint", ["unet_individual"]),
]
CSA = [
    *_hearts("C0", "csa", ["ummkd", "fcn_joint"]),
    *_hearts("C1", "csa", ["msbn", "affinity"], ["dice", "hd"]),
    *_hearts("C2", "msbn", ["fcn_joint"]),
    *_hearts("C3", "affinity", ["msbn"]),
    *_hearts("C5", "csa", ["fcn_single"]),
    *_hearts("C5", "msbn", ["fcn_single"]),
    *_hearts("K1", "ummkd", ["msbn", "fcn_joint", "fcn_single"]),
]
CSA_ABLATIONS = [
    Claim(key, "csa", f"csa ({name})", m, dataset="cardiac_mr", task="joint")
    for key, names in (("literal", ("literal",)), ("C4", ("far", "late")))
    for name in names
    for m in ("LGE", "bSSFP")
] + [
    Claim("C5", method, "fcn_single", m, dataset="cardiac_mr", task=task)
    for task in ("joint_4", "joint_2")
    for method in ("csa", "msbn")
    for m in ("LGE", "bSSFP")
]
REAL = [
    *_brains("U1", "uagan", ["unet_joint"], dataset="lgg", same_data=False),
    *_brains("U2", "uagan", ["unet_individual", "multi_v4"], dataset="lgg", same_data=False),
    *_brains(
        "U3", "uagan", ["unet_joint"], ["precision", "assd_pooled", "sensitivity"], dataset="lgg", same_data=False
    ),
    *_brains("U5", "unet_joint", ["unet_individual"], dataset="lgg", same_data=False),
    *[Claim("C1", "csa", "msbn", m, dataset="lgg", same_data=False) for m in ("FLAIR", "T1", "T1Gd")],
    *[Claim("C2", "msbn", "fcn_joint", m, dataset="lgg", same_data=False) for m in ("FLAIR", "T1", "T1Gd")],
]
NO_TRACE = (("targan (untraceable, S)", "targan (S)"), ("targan (untraceable)", "targan"))
"""without and with the untraceable term: without a shape controller, and with it"""
TRANSLATION = [
    *_livers("T1", "targan", ["stargan", "csgan", "remic"], "s_score"),
    *_livers("T2", "targan", ["stargan", "csgan", "remic"], "fd"),
    *_livers("T3", "targan", ["targan (C)", "targan (S)", "targan (STC)"], "s_score", [MEAN]),
    *_livers("T3", "targan (S)", ["targan (C)"], "s_score", [MEAN]),
    *_livers("T4", "enriched (targan)", ["single"]),
    *_livers("T4", "enriched (stargan)", ["single"]),
    Claim("T5", *NO_TRACE[0], MEAN, "s_score", dataset="abdomen", task="liver"),
    Claim("T5", *NO_TRACE[0], MEAN, "s_score", dataset="abdomen", task="liver", less=NO_TRACE[1]),
]
TRANSLATION_REAL = [
    Claim(key, "targan", "stargan", m, metric, dataset="lgg", same_data=False)
    for key, metric in (("T1", "s_score"), ("T2", "fd"))
    for m in ("FLAIR", "T1", "T1Gd")
]
HEART_TO = (("CT", "whole_heart", "sasan_mr_to_ct"), ("MR", "whole_heart", "sasan_ct_to_mr"))
CYCLEGAN, UGATIT, WITH_SASAN = "scorer (cyclegan)", "scorer (ugatit)", "scorer (sasan)"
ORDER = [(CYCLEGAN, NOT_ADAPTED), (UGATIT, CYCLEGAN), (WITH_SASAN, CYCLEGAN), (WITH_SASAN, UGATIT)]
TAUGHT = [("detached (cyclegan)", CYCLEGAN), ("detached (sasan)", WITH_SASAN)]
"""a segmenter that a translator's images taught, against the scorer on the same images"""
OWN = [("detached (sasan) (labels=own)", WITH_SASAN)]
SASAN = [
    *[c for place in HEART_TO for c in _adapted("S1", ORDER, *place)],
    *_adapted("S1", [ORDER[0], ORDER[2]], "T1", "brain_tumour", "sasan"),
    *[c for place in HEART_TO for c in _adapted("S3", [*TAUGHT, ("detached (ugatit)", UGATIT), *OWN], *place)],
    *_adapted("S3", [*TAUGHT, *OWN], "T1", "brain_tumour", "sasan"),
    *_adapted(
        "S5", [("detached (sasan) (labels=true)", "unet_individual")], "MR", "whole_heart", "sasan_joint", "joint MR"
    ),
]
SASAN_ABLATIONS = _adapted(
    "S2",
    [(WITH_SASAN, f"scorer (sasan ({name}))") for name in ("seg", "aux", "reg", "16 maps", "low", "reg 5", "aux 60x")],
    *HEART_TO[0],
)
SASAN_REAL = [
    *_adapted("S1", [ORDER[0], ORDER[2]], "T1Gd", "lgg", "flair_to_t1gd", "T1", same_data=False),
    *_adapted("S3", [*TAUGHT, *OWN], "T1Gd", "lgg", "flair_to_t1gd", "T1", same_data=False),
]
HEADS = ("head_ct_mr", "registered")
PAIRED = [
    Claim("S4", "sasan", "pix2pix", "MR", metric, round(found["sasan"] - found["pix2pix"], 2), *HEADS)
    for metric, found in ((name, SASAN_PAIRED[name]) for name in ("psnr", "mae"))
]
GLIOMA = ("brain_tumour", "subregions")
BETTER = [("adaptsegnet", "source_only"), ("cycada", "adaptsegnet"), ("sifa", "cycada"), ("bigl", "sifa")]
"""BiGL's Tables 1, 2, 6 and 7, each system against the one below it"""
PARTS = [(FEATURE, OUTPUT), ("bigl", FEATURE)]
HEARTS_TO = (("CT", "mr_to_ct"), ("MR", "ct_to_mr"))
CHEAP = (STRONG, AT_TRAINING)
"""what anyone would try first: strong augmentation, and a U-Net of translated slices"""
ADAPTATION = [
    *_bigl("B0", [("bigl", "source_only")], least=25.0),
    *_bigl("B1", [*BETTER, (STACKED, "bigl"), ("target_only", "bigl")]),
    *[
        Claim("B6", "bigl", "sifa", m, metric, bigl_difference("bigl", "sifa", m, metric), "whole_heart", task)
        for m, task in HEARTS_TO
        for metric in ("dice", "assd_pooled")
    ],
    *_bigl("B7", [("bigl", other) for other in CHEAP]),
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
SAYS = {
    "U1": "UAGAN above Joint in Dice, not on T1Gd",
    "U2": "UAGAN above Individual and Multi-V4 on FLAIR and T2, below on T1Gd",
    "U3": "UAGAN above Joint in precision and ASSD, below in sensitivity",
    "U4": "UAGAN above its ablations, below two of them on T1Gd",
    "U5": "Joint below Individual on T1Gd and FLAIR, above on T2",
    "U6": "the gates into the segmentation decoder favour the tumour",
    "C0": "CSA above UMMKD and one network for all",
    "C1": "CSA above MSBN and above affinity without classes, in Dice and Hausdorff distance",
    "C2": "MSBN above one network for all, not on LGE",
    "C3": "affinity without classes below MSBN on CT and MR",
    "C4": "CSA between near layers above far and late ones",
    "C5": "training together, with MSBN or CSA, above a network a modality",
    "K1": "UMMKD against MSBN, one network for all and one a modality, as CSA's tables have it",
    "literal": "CSA as recommended above its equations as printed",
    "T1": "TarGAN above StarGAN, CSGAN and ReMIC in S-score (that it is most so on T1w is not tested)",
    "T2": "TarGAN closer to real images than StarGAN, CSGAN and ReMIC, by the Fréchet distance",
    "T3": "TarGAN above itself without crossing loss, shape controller or all three parts; the first costs more",
    "T4": "segmenters of images that TarGAN enriched above those of one image; StarGAN's below, above on CT",
    "T5": "without shape controller the untraceable term deforms: the S-score is higher without it, and more so than "
    "with the controller",
    "S1": "translation helps: CycleGAN above no adaptation, U-GAT-IT above CycleGAN, SASAN above both",
    "S2": "SASAN above itself without segmentation critic, auxiliary loss or orthogonality, with 16 maps, at half the "
    "size, and with two other weights",
    "S3": "a segmenter taught by translated images above one that saw real ones alone",
    "S4": "SASAN, paired, behind Pix2Pix in PSNR and MAE (that all are on a par in SSIM, PCC, LPIPS is not tested)",
    "S5": "translations with true labels improve a supervised segmenter",
    "B0": "BiGL at least 25 points of Dice above the same augmentation without adaptation (this lab's own bar)",
    "B1": "no adaptation below AdaptSegNet, CyCADA, SIFA, BiGL, labels of the target, each below the next in Dice",
    "B2": "BiGL's feature critics add to output consistency, its attention critics to both, in Dice",
    "B3": "the same two steps lower HD95, the second not that of ET (that it adds little is not tested)",
    "B4": "BiGL's weight of 0.1 above 0.02 and 0.5 in Dice, below in HD95 (that Dice is flat is not tested)",
    "B5": "BiGL with attention above BiGL without, its block's convolutions kept; and above a plain U-Net without the "
    "block, with and without attention critics",
    "B6": "BiGL above SIFA on the heart in Dice, below in surface distance",
    "B7": "BiGL above strong augmentation, a U-Net of translated slices, and its own network on the source alone (this "
    "lab's own question)",
    "A1": "AdaptSegNet at two levels above one, and above itself with weight 0; least squares above cross-entropy",
}
"""by key: what is claimed, in a line"""
CLAIMS = {"sasan": SASAN, "sasan-ablations": SASAN_ABLATIONS, "sasan-real": SASAN_REAL, "paired": PAIRED,
          "uagan": UAGAN, "csa": CSA, "csa-ablations": CSA_ABLATIONS, "joint-real": REAL,
          "translation": TRANSLATION, "translation-real": TRANSLATION_REAL,
          "adaptation": ADAPTATION, "adaptation-ablations": ADAPTATION_ABLATIONS, "adaptation-real": ADAPTATION_REAL}
"""by grid (`bench.suites`), the profile left off"""
