"""What CSA, UAGAN, UMMKD, TarGAN, SASAN and BiGL claim, as comparisons of two systems; `bench.verdicts` answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xmod_lab.bench import claims_adaptation as adaptation
from xmod_lab.bench.claim import Claim
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

HEART = {"LGE": "cardiac_mr", "bSSFP": "cardiac_mr", "CT": "whole_heart", "MR": "whole_heart"}


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
} | adaptation.SAYS
"""by key: what is claimed, in a line"""
CLAIMS = {"sasan": SASAN, "sasan-ablations": SASAN_ABLATIONS, "sasan-real": SASAN_REAL, "paired": PAIRED,
          "uagan": UAGAN, "csa": CSA, "csa-ablations": CSA_ABLATIONS, "joint-real": REAL,
          "translation": TRANSLATION, "translation-real": TRANSLATION_REAL,
          **adaptation.CLAIMS}
"""by grid (`bench.suites`), the profile left off"""
