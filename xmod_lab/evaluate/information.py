"""Mutual information of two images, from the histogram of their pairs of values."""

from __future__ import annotations

import numpy as np

BINS = 32
CLIP = (0.5, 99.5)
"""percentiles of each image that its bins span; what lies beyond falls into the outermost ones"""


def joint_histogram(a: np.ndarray, b: np.ndarray, bins: int = BINS) -> np.ndarray:
    """(bins, bins) counts: how often a value of `a` (rows) stands in the same place as one of `b` (columns).

    a, b: alike in shape, one place each. Bins are equally wide, from the percentiles CLIP of each image.
    """
    inside = []
    for values in (a.ravel(), b.ravel()):
        low, high = np.percentile(values, CLIP)
        inside.append(np.clip(values, low, high))
    found: np.ndarray = np.histogram2d(inside[0], inside[1], bins=bins)[0]
    return found


def mutual_information(joint: np.ndarray) -> float:
    r"""What one image tells about the other, in nats, >= 0, of a joint histogram (m, n) of counts.

    .. math:: I = \sum_{ij} p_{ij} \ln \frac{p_{ij}}{p_i\, p_j}

    with :math:`p_i`, :math:`p_j` the sums of rows and columns. 0 where the images know nothing of each other; no order
    of grey values is asked for, so that bone may be white in one and black in the other.
    """
    p = joint / joint.sum()
    independent = p.sum(1, keepdims=True) * p.sum(0, keepdims=True)
    there = p > 0
    return float(np.sum(p[there] * np.log(p[there] / independent[there])))
