"""The plane in which features of several modalities vary most: do modalities lie apart in it?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from xmod_lab.errors import LabError


def feature_plane(features: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], tuple[float, float]]:
    r"""Coordinates in the first two principal components of all features together, and the share each explains.

    features: (n, d) by modality, a vector a slice or a pixel; n may differ, d may not. Returns (n, 2) by modality, in
    the units of the features, and :math:`\lambda_1 / \sum_k \lambda_k`, :math:`\lambda_2 / \sum_k \lambda_k` of the
    eigenvalues of their covariance, 0 where nothing varies. Every modality has the same weight, whatever its n: means
    and covariances are means over modalities. Of each axis the sign is such that its largest loading is positive, so
    that the picture does not flip between runs. Raises LabError for vectors of different length or of less than two
    numbers, and for a modality that has none.
    """
    values = {name: np.asarray(given, np.float64) for name, given in features.items()}
    lengths = {name: v.shape[1] if v.ndim == 2 and len(v) else 0 for name, v in values.items()}
    if not values or len(set(lengths.values())) != 1 or min(lengths.values()) < 2:
        shapes = ", ".join(f"{name} {v.shape}" for name, v in values.items()) or "none"
        raise LabError(f"features must be (n, d) with one d of at least 2, these are {shapes}", where="feature_plane")
    mean = np.mean([v.mean(0) for v in values.values()], axis=0)
    weighted = np.concatenate([(v - mean) / np.sqrt(len(v) * len(values)) for v in values.values()])
    weighted = np.pad(weighted, ((0, max(0, 2 - len(weighted))), (0, 0)))  # a single vector has no second axis
    _, strengths, axes = np.linalg.svd(weighted, full_matrices=False)
    plane, shares = axes[:2], strengths**2 / max(float((strengths**2).sum()), np.finfo(float).tiny)
    plane = plane * np.where(np.take_along_axis(plane, np.abs(plane).argmax(1)[:, None], 1) < 0, -1.0, 1.0)
    return {name: (v - mean) @ plane.T for name, v in values.items()}, (float(shares[0]), float(shares[1]))
