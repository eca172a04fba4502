"""Evaluation: masks and label maps in mm, translated images, statistics over patients, tables.

Volumes are rebuilt from slices before anything here sees them; each number's rule for missing structures is explicit.
"""

from xmod_lab.evaluate.distribution import (
    distribution_scores,
    frechet_distance,
    frechet_floor,
    jackknife,
    kernel_distance,
)
from xmod_lab.evaluate.folder import evaluate_folder
from xmod_lab.evaluate.masks import HIGHER_IS_BETTER, METRICS, OVERLAP, SURFACE, score_labels, score_mask
from xmod_lab.evaluate.statistics import compare, holm, signed_rank, smallest_p
from xmod_lab.evaluate.tables import export, patient_values, summarise, to_latex, to_markdown
from xmod_lab.evaluate.translation import IMAGE_METRICS, image_scores, lpips_available, lpips_score

__all__ = [
    "HIGHER_IS_BETTER", "IMAGE_METRICS", "METRICS", "OVERLAP", "SURFACE", "compare", "distribution_scores",
    "evaluate_folder", "export", "frechet_distance", "frechet_floor", "holm", "image_scores", "jackknife",
    "kernel_distance", "lpips_available", "lpips_score", "patient_values", "score_labels", "score_mask",
    "signed_rank", "smallest_p", "summarise", "to_latex", "to_markdown",
]
