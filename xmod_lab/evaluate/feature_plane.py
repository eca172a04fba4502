"""The plane in which features of several modalities vary most: do modalities lie apart in it?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from xmod_lab.data.prepare import Prepared
from xmod_lab.errors import LabError
from xmod_lab.evaluate.runs import test_volumes

if TYPE_CHECKING:
    from xmod_lab.methods.base import Method


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


def between_share(first: np.ndarray, second: np.ndarray) -> float:
    r"""Share of the variance of features (n, d) of two modalities that lies between them, in [0, 1].

    .. math:: \frac{\beta}{\beta + \tfrac12 (\sigma_1^2 + \sigma_2^2)}, \quad \beta = \tfrac14 \|\mu_1 - \mu_2\|^2

    with the sum over dimensions of each modality's variance; both weigh alike. 0 where the means agree, or nothing
    varies, 1 where all that differs is the modality.
    """
    a, b = (np.asarray(v, np.float64) for v in (first, second))
    between = float(((a.mean(0) - b.mean(0)) ** 2).sum()) / 4
    within = float(a.var(0).sum() + b.var(0).sum()) / 2
    return between / (between + within) if between + within > 0 else 0.0


def pixel_features(method: Method, prepared: Prepared, modality: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, d) of pixels of the test volumes of `modality`, and their classes (n,) by the truth, for a picture.

    name: the `stack` map ``<name>/<modality>`` of `method`. Of every second slice with a label the pixels in the body
    are taken, in every second row and column: maps that are enlarged say the same again in between. LabError for a map
    that the method has not, or is of another kind.
    """
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for case in test_volumes(prepared, modality):
        labels = case.geometry.forward(case.truth, "nearest")
        kept = np.flatnonzero((labels > 0).any((1, 2)))[::2]
        if not len(kept):
            continue
        slices = case.slices._replace(image=case.slices.image[kept])
        found = method.maps({modality: slices}).get(f"{name}/{modality}")  # type: ignore[operator]
        if found is None or found.kind != "stack":
            raise LabError(f"{type(method).__name__} has no stack {name}/{modality}", where="pixel_features")
        body = case.slices.foreground[kept].numpy()[:, ::2, ::2]
        values = found.values.permute(0, 2, 3, 1)[:, ::2, ::2].float().cpu().numpy()
        parts.append((values[body], labels[kept][:, ::2, ::2][body]))
    if not parts:
        raise LabError(f"no test volume of {modality} has a labelled slice", where="pixel_features")
    return np.concatenate([v for v, _ in parts]), np.concatenate([y for _, y in parts])
