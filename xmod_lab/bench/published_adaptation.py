"""What BiGL's tables say, and differences between their rows."""

from __future__ import annotations

GLIOMA = ("brain_tumour", "subregions")
"""where the brain's tables and claims are"""
STACKED = "target_only (all modalities)"
"""the upper bound that sees every modality as a channel of one image; BiGL's only one on the brain"""
STRONG = "source_only (augment=strong)"
ABLATIONS = {
    "bigl": ("output", "feature", "weight 0.02", "weight 0.5", "plain", "no attention", "source only"),
    "adaptsegnet": ("single level", "single level, least squares", "no gradient"),
    "cyclegan_seg": ("target to source",),
}
"""of those that claims and tables know, by method; the tables below and claims call them by these names.

Against BiGL's "feature", "no attention" lacks attention alone and keeps the convolutions of its block; "plain" lacks
these as well, so that it says what the whole block does. "source only" is the lower bound of BiGL's own network. All
three are this lab's own: the paper has no such rows"""
OUTPUT, FEATURE, LOW, HIGH, PLAIN, NO_ATTENTION, ALONE = (f"bigl ({name})" for name in ABLATIONS["bigl"])
TRANSLATOR_ABLATIONS = ("way back 10", "identity", "small critics", "pool", "shape", "CycleGAN's")
TRANSLATORS = tuple(f"bigl ({name})" for name in TRANSLATOR_ABLATIONS)
"""of what its translators are set to: this lab's own question as well"""
SHOWN_ABLATIONS = ("reconstructed", "translations alone")
RECONSTRUCTED, ON_TRANSLATIONS = (f"bigl ({name})" for name in SHOWN_ABLATIONS)
"""of labelled images that are real in the source's look and made in the target's: made in both, or no label of a real
one is learned; this lab's own question too"""
ONE_LEVEL, SQUARES, CONTROL = (f"adaptsegnet ({name})" for name in ABLATIONS["adaptsegnet"])
UNADAPTED = ("source_only", STRONG, CONTROL, ALONE)
"""what learns from labelled images alone: that it fails in the other modality is no failure of training"""
AT_TEST, AT_TRAINING = f"cyclegan_seg ({ABLATIONS['cyclegan_seg'][0]})", "cyclegan_seg"
"""CycleGAN + segmentation: the target's images as source to a segmenter of real source images (BiGL's and SASAN's
"CycleGAN"), and a segmenter that was trained on the source's images as target"""

BIGL: dict[str, dict[str, dict[str, tuple[float, ...]]]] = {
    "T2": {
        "dice": {
            "source_only": (14.95, 14.71, 2.91),
            "adaptsegnet": (65.70, 52.51, 27.79),
            "cycada": (67.87, 57.33, 33.99),
            "sifa": (70.81, 65.32, 44.46),
            "bigl": (80.39, 74.76, 53.73),
            STACKED: (88.60, 83.74, 75.96),
            OUTPUT: (73.26, 63.91, 41.34),
            FEATURE: (76.72, 70.56, 48.67),
            LOW: (78.38, 71.52, 50.14),
            HIGH: (79.62, 73.17, 52.53),
        },
        "hd95_max": {
            "source_only": (55.89, 68.78, 61.56),
            "adaptsegnet": (25.88, 29.45, 29.45),
            "cycada": (31.23, 28.94, 27.71),
            "sifa": (14.89, 19.29, 17.46),
            "bigl": (13.19, 17.38, 18.23),
            STACKED: (11.49, 11.19, 13.62),
            OUTPUT: (46.09, 66.80, 22.47),
            FEATURE: (14.11, 19.69, 17.33),
            LOW: (17.26, 19.87, 17.47),
            HIGH: (25.13, 22.23, 17.81),
        },
    },
    "MR": {
        "dice": {
            "source_only": (14.5, 14.4, 26.6, 1.3),
            "adaptsegnet": (60.8, 39.8, 71.5, 35.5),
            AT_TEST: (64.3, 30.7, 65.0, 43.0),
            "cycada": (60.5, 44.0, 77.6, 47.9),
            "sifa_v1": (67.0, 60.7, 75.1, 45.8),
            "sifa": (65.3, 62.3, 78.9, 47.3),
            "bigl": (62.0, 71.1, 88.0, 43.7),
            "target_only": (82.8, 80.5, 92.4, 78.8),
        },
        "assd_pooled": {
            "source_only": (22.4, 27.6, 10.3, 10.7),
            "adaptsegnet": (5.7, 8.0, 4.6, 4.6),
            AT_TEST: (5.8, 9.8, 6.0, 5.0),
            "cycada": (7.7, 13.9, 4.8, 5.2),
            "sifa_v1": (6.2, 9.8, 4.4, 4.4),
            "sifa": (7.3, 7.4, 3.8, 4.4),
            "bigl": (10.9, 5.4, 2.3, 3.3),
            "target_only": (3.6, 3.9, 2.1, 1.9),
        },
    },
    "CT": {
        "dice": {
            "source_only": (38.9, 57.8, 5.2, 10.8),
            "adaptsegnet": (65.2, 76.6, 54.4, 43.6),
            AT_TEST: (73.8, 75.7, 52.3, 28.7),
            "cycada": (72.9, 77.0, 62.4, 45.3),
            "sifa_v1": (81.1, 76.4, 75.7, 58.7),
            "sifa": (81.3, 79.5, 73.8, 61.6),
            "bigl": (87.7, 78.6, 80.0, 54.9),
            "target_only": (92.7, 91.1, 91.9, 87.7),
        },
        "assd_pooled": {
            "source_only": (26.8, 13.3, 17.7, 20.2),
            "adaptsegnet": (17.9, 5.5, 5.9, 8.9),
            AT_TEST: (11.5, 13.6, 9.2, 8.8),
            "cycada": (9.6, 8.0, 9.6, 10.5),
            "sifa_v1": (10.6, 7.4, 6.7, 7.8),
            "sifa": (7.9, 6.2, 5.5, 8.5),
            "bigl": (8.0, 5.0, 6.1, 5.6),
            "target_only": (1.5, 3.5, 1.7, 2.1),
        },
    },
}
"""He et al., Tables 1-7, by the modality tested, metric and system, of WT, TC, ET (BraTS 2019) and AA, LA, LV, MYO
(MM-WHS): Dice in %, HD95 and ASD in mm. Of its two "source only" rows of the heart the one it trained itself. What its
ASD is it does not say; SIFA's rows, copied from there, are of a symmetric distance, so that it stands beside ASSD"""
STRUCTURES = {"T2": ("WT", "TC", "ET"), "MR": ("AA", "LA", "LV", "MYO"), "CT": ("AA", "LA", "LV", "MYO")}
"""by the modality tested, in the tables' order"""


def bigl_row(system: str, modality: str, metric: str) -> tuple[float, ...]:
    """The system's numbers by structure; empty where the tables have none."""
    return BIGL.get(modality, {}).get(metric, {}).get(system, ())


def bigl_difference(method: str, other: str, modality: str, metric: str = "dice", structure: str = "") -> float | None:
    """`method` minus `other`, of one structure or their mean; None where one of them is not there."""
    means = []
    for system in (method, other):
        if not (row := bigl_row(system, modality, metric)):
            return None
        means.append(row[STRUCTURES[modality].index(structure)] if structure else sum(row) / len(row))
    return round(means[0] - means[1], 2)
