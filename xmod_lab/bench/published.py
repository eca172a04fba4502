"""What the papers' tables say, and differences between their rows."""

from __future__ import annotations

UAGAN_COLUMNS = ("dice", "precision", "sensitivity", "specificity", "assd_pooled")
UAGAN: dict[str, dict[str, tuple[float, ...]]] = {
    "T1Gd": {
        "unet_joint": (53.77, 56.19, 58.38, 99.13, 8.81),
        "multi_v4": (57.41, 54.18, 67.14, 98.84, 8.82),
        "unet_individual": (57.79, 56.82, 65.01, 98.99, 8.14),
        "uagan (fuse)": (54.95, 64.49, 53.67, 99.50, 7.81),
        "uagan (trans)": (53.53, 65.40, 50.21, 99.58, 8.11),
        "uagan (atten)": (53.87, 66.19, 50.65, 99.59, 8.41),
        "uagan": (53.61, 66.11, 51.14, 99.57, 8.46),
    },
    "FLAIR": {
        "unet_joint": (78.17, 71.74, 88.76, 99.18, 3.61),
        "multi_v4": (79.56, 73.78, 88.86, 99.25, 3.40),
        "unet_individual": (80.22, 75.17, 88.40, 99.31, 3.14),
        "uagan (fuse)": (80.67, 79.00, 85.32, 99.47, 2.84),
        "uagan (trans)": (80.67, 80.55, 84.11, 99.51, 2.77),
        "uagan (atten)": (81.38, 79.93, 86.08, 99.47, 2.64),
        "uagan": (81.55, 81.20, 84.98, 99.51, 2.53),
    },
    "T2": {
        "unet_joint": (73.08, 69.76, 81.55, 99.28, 4.43),
        "multi_v4": (73.07, 69.15, 81.40, 99.28, 4.51),
        "unet_individual": (72.29, 70.07, 79.55, 99.28, 4.59),
        "uagan (fuse)": (75.32, 78.94, 77.03, 99.59, 3.65),
        "uagan (trans)": (75.98, 80.13, 76.51, 99.60, 3.59),
        "uagan (atten)": (75.05, 79.24, 76.08, 99.58, 3.65),
        "uagan": (76.54, 80.16, 77.45, 99.60, 3.44),
    },
}
"""Yuan et al. 2019, Table 1, means over its three data sets: shares in %, ASSD in mm"""

CSA: dict[str, dict[str, dict[str, tuple[float, ...]]]] = {
    "dice": {
        "LGE": {
            "fcn_single": (90.17, 80.31, 86.51),
            "ummkd": (90.41, 80.48, 86.99),
            "fcn_joint": (90.22, 80.91, 86.61),
            "msbn": (90.23, 80.81, 86.08),
            "affinity": (90.65, 81.18, 87.27),
            "csa": (91.89, 83.39, 87.66),
        },
        "bSSFP": {
            "fcn_single": (92.89, 85.11, 88.76),
            "ummkd": (93.38, 85.69, 89.91),
            "fcn_joint": (92.74, 85.19, 89.12),
            "msbn": (93.46, 85.57, 89.91),
            "affinity": (93.54, 85.93, 89.93),
            "csa": (93.48, 85.72, 90.64),
        },
        "CT": {
            "fcn_single": (78.17, 85.84, 93.07, 81.08),
            "ummkd": (78.73, 83.47, 93.29, 81.41),
            "fcn_joint": (77.92, 83.96, 93.51, 80.08),
            "msbn": (78.82, 86.07, 94.40, 80.57),
            "affinity": (78.63, 87.13, 94.35, 79.49),
            "csa": (79.27, 87.46, 94.22, 81.42),
        },
        "MR": {
            "fcn_single": (87.56, 90.29, 91.66, 94.26),
            "ummkd": (87.89, 91.68, 91.88, 95.32),
            "fcn_joint": (84.03, 88.41, 90.92, 94.67),
            "msbn": (87.57, 92.30, 91.88, 96.02),
            "affinity": (85.31, 91.06, 91.84, 92.24),
            "csa": (88.89, 91.18, 92.53, 96.07),
        },
    },
    "hd": {
        "LGE": {
            "msbn": (5.75, 3.61, 5.48),
            "affinity": (5.00, 3.16, 9.72),
            "csa": (4.12, 3.00, 5.00),
        },
        "bSSFP": {
            "msbn": (3.00, 2.24, 5.10),
            "affinity": (3.00, 2.24, 5.10),
            "csa": (3.00, 2.24, 4.12),
        },
        "CT": {
            "msbn": (5.00, 10.63, 4.24, 13.93),
            "affinity": (6.00, 10.63, 4.89, 15.13),
            "csa": (5.39, 10.30, 4.24, 15.80),
        },
        "MR": {
            "msbn": (4.12, 9.06, 4.47, 3.00),
            "affinity": (10.05, 12.08, 5.00, 67.09),
            "csa": (4.12, 9.49, 4.12, 2.83),
        },
    },
}
"""Chen et al. 2020, Tables 1-3, by structure (LV, MYO, RV; MYO, LA, LV, AA): Dice in %, and the Hausdorff distance,
called mm and more likely in voxels (2.24 and 4.12 are roots of sums of squares of small integers)"""

TARGETS = ("CT", "T1w", "T2w")
MEAN = "mean"
"""as a modality: the mean over targets"""
TARGAN: dict[str, dict[str, tuple[float, ...]]] = {
    "s_score": {
        "stargan": (42.89, 29.23, 42.17),
        "csgan": (56.72, 45.67, 69.09),
        "remic": (51.03, 32.00, 69.58),
        "targan": (57.13, 65.79, 69.63),
    },
    "fd": {
        "stargan": (0.0488, 0.1179, 0.2615),
        "csgan": (0.0484, 0.1396, 0.4819),
        "remic": (0.0912, 0.1151, 0.5925),
        "targan": (0.0418, 0.0985, 0.2431),
    },
    "dice": {
        "single": (96.29, 93.53, 89.24),
        "enriched (stargan)": (96.65, 92.71, 86.38),
        "enriched (targan)": (97.06, 94.02, 90.94),
    },
}
"""Chen et al. 2021, Table 1 (S-score in %, Fréchet distance) and Table 2 (Dice in %), by TARGETS. Its distances are of
another extractor's features: the directions compare, the sizes do not"""
TARGAN_MEANS = {"targan": 64.18, "targan (C)": 51.03, "targan (S)": 62.65, "targan (STC)": 44.38}
"""the same, Table 3: S-score in %, mean over targets, without the parts in brackets"""


NOT_ADAPTED = "scorer (none)"
"""the scorer on the image as it is"""
SASAN: dict[str, dict[str, float]] = {
    "CT": {
        NOT_ADAPTED: 9,
        "scorer (cyclegan)": 55,
        "scorer (ugatit)": 57,
        "scorer (sasan)": 71,
        "detached (sasan) (labels=own)": 78,
        "scorer (sasan (seg))": 63,
        "scorer (sasan (aux))": 58,
        "scorer (sasan (reg))": 62,
        "scorer (sasan (16 maps))": 54,
        "scorer (sasan (low))": 57,
        "scorer (sasan (reg 5))": 64,
        "scorer (sasan (aux 60x))": 69,
    },
    "MR": {
        NOT_ADAPTED: 9,
        "scorer (cyclegan)": 51,
        "scorer (ugatit)": 53,
        "detached (sasan) (labels=own)": 70,
    },
    "T1": {NOT_ADAPTED: 2, "scorer (cyclegan)": 38, "scorer (sasan)": 42},
    "joint MR": {"unet_individual": 85, "detached (sasan) (labels=true)": 87},
}
"""Tomar et al. 2021, Tables 1-5 by the modality tested, mean Dice in %, of the systems that claims compare; its upper
bounds, Table 2's two ablations and all ASSD are left out. Its "SASAN (final)" is the row with a segmenter
that was trained again on translated images ("w/ aug."), which no other system had; the row without is in Table 3 alone,
for CT. Of the brain it does not say which of the two it is"""
SASAN_PAIRED: dict[str, dict[str, float]] = {
    "mae": {"pix2pix": 0.02, "mrgan": 0.03, "dc2anet": 0.04, "sasan": 0.04},
    "psnr": {"pix2pix": 22.42, "mrgan": 21.46, "dc2anet": 20.99, "sasan": 21.37},
    "ssim": {"pix2pix": 0.87, "mrgan": 0.90, "dc2anet": 0.90, "sasan": 0.90},
    "rmse": {"pix2pix": 0.08, "mrgan": 0.08, "dc2anet": 0.09, "sasan": 0.09},
    "pcc": {"pix2pix": 0.96, "mrgan": 0.97, "dc2anet": 0.97, "sasan": 0.97},
    "lpips": {"pix2pix": 0.06, "mrgan": 0.05, "dc2anet": 0.05, "sasan": 0.05},
}
"""the same, Table 6 (RIRE, CT to MR), on images in [0, 1]"""
SASAN_PAIRED_SD: dict[str, dict[str, float]] = {
    "mae": {"pix2pix": 0.01, "mrgan": 0.01, "dc2anet": 0.01, "sasan": 0.01},
    "psnr": {"pix2pix": 0.97, "mrgan": 0.74, "dc2anet": 0.98, "sasan": 1.29},
    "ssim": {"pix2pix": 0.01, "mrgan": 0.02, "dc2anet": 0.01, "sasan": 0.02},
    "rmse": {"pix2pix": 0.01, "mrgan": 0.01, "dc2anet": 0.01, "sasan": 0.01},
    "pcc": {"pix2pix": 0.01, "mrgan": 0.01, "dc2anet": 0.01, "sasan": 0.01},
    "lpips": {"pix2pix": 0.01, "mrgan": 0.01, "dc2anet": 0.01, "sasan": 0.01},
}
"""what stands behind ± there; of what it does not say. Two patients are tested"""


def sasan_difference(method: str, other: str, column: str) -> float | None:
    """`method` minus `other` in SASAN's Tables 1-5, None where one of them is not there."""
    found = SASAN[column]
    return round(found[method] - found[other], 2) if {method, other} <= set(found) else None


def uagan_difference(method: str, other: str, modality: str, metric: str) -> float:
    """`method` minus `other` in UAGAN's Table 1."""
    column = UAGAN_COLUMNS.index(metric)
    return round(UAGAN[modality][method][column] - UAGAN[modality][other][column], 2)


def csa_difference(method: str, other: str, modality: str, metric: str) -> float:
    """`method` minus `other` in CSA's tables, mean over structures."""
    a, b = CSA[metric][modality][method], CSA[metric][modality][other]
    return round(sum(a) / len(a) - sum(b) / len(b), 2)


def targan_difference(method: str, other: str, target: str, metric: str) -> float:
    """`method` minus `other` in TarGAN's tables, for the target MEAN in its Table 3."""
    if target == MEAN:
        return round(TARGAN_MEANS[method] - TARGAN_MEANS[other], 2)
    column = TARGETS.index(target)
    return round(TARGAN[metric][method][column] - TARGAN[metric][other][column], 4)
