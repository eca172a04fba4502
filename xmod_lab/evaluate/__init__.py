"""Evaluation: masks and label maps in mm, translated images, statistics over patients, tables.

Volumes are rebuilt from slices before anything here sees them; each number's rule for missing structures is explicit.
"""

from xmod_lab.evaluate.masks import HIGHER_IS_BETTER, METRICS, OVERLAP, SURFACE, score_labels, score_mask

__all__ = ["HIGHER_IS_BETTER", "METRICS", "OVERLAP", "SURFACE", "score_labels", "score_mask"]
