"""Distances between two sets of feature vectors: how alike translated and real images are without pairs.

The numbers depend on the feature extractor as much as on the images. They are therefore named ``FD[extractor]`` and
``KD[extractor]``, never FID or KID, which stand for one particular Inception network; and they come with the number of
vectors and with a floor, because the Fréchet distance of few vectors is far from 0 even for equal distributions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from xmod_lab.errors import LabError

Item = TypeVar("Item")


def frechet_distance(features_real: np.ndarray, features_fake: np.ndarray) -> float:
    """Fréchet distance between Gaussians fitted to two sets of features, each (N, d); 0 for equal sets.

    ||mu1 - mu2||^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) (Heusel et al. 2017, eq 6) with sample covariances (N - 1) and
    nothing added to their diagonals. The trace of the root is the sum of the roots of the eigenvalues of
    S1^(1/2) S2 S1^(1/2), which is symmetric: no complex root, also where N < d.
    Raises LabError for sets that are not (N, d) with the same d, N of at least 2, and finite.
    """
    a, b = _checked(features_real, features_fake)
    mean_gap = a.mean(0) - b.mean(0)
    cov_a, cov_b = (np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b))
    values, vectors = np.linalg.eigh(cov_a)
    root_a = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root_a @ cov_b @ root_a).clip(min=0)).sum()
    return max(float(mean_gap @ mean_gap + np.trace(cov_a) + np.trace(cov_b) - 2 * cross), 0.0)


def frechet_floor(features_real: np.ndarray, *, seed: int = 0, repeats: int = 10) -> float:
    """What `frechet_distance` gives for no difference at all: two random halves of the real features, mean of
    `repeats`.

    A half holds N/2 vectors and the bias falls about as 1/N, which makes it large; but both halves are of the same
    patients, which makes it small. Two sets of different patients lie further apart where patients differ.
    """
    real, _ = _checked(features_real, features_real)
    if len(real) < 4:
        raise LabError(f"{len(real)} feature vectors cannot be halved", mend="give at least 4")
    rng = np.random.default_rng(seed)
    half = len(real) // 2
    draws = [rng.permutation(len(real)) for _ in range(repeats)]
    return float(np.mean([frechet_distance(real[order[:half]], real[order[half : 2 * half]]) for order in draws]))


def kernel_distance(
    features_real: np.ndarray, features_fake: np.ndarray, *, subsets: int = 100, size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Mean and standard deviation (ddof 1) over random subsets of the unbiased squared MMD, kernel (x.y / d + 1)^3.

    Bińkowski et al. 2018, eq 4 and section 4. Each subset holds `size` vectors of either set, at most half of the
    smaller one, so that subsets differ. Unbiased: near 0, also below, for equal distributions whatever N is.
    """
    a, b = _checked(features_real, features_fake)
    size = min(size, min(len(a), len(b)) // 2)
    if size < 2:
        raise LabError("too few feature vectors for a kernel distance", mend="give at least 4 in each set")
    rng = np.random.default_rng(seed)
    values = [
        _mmd(a[rng.choice(len(a), size, replace=False)], b[rng.choice(len(b), size, replace=False)])
        for _ in range(subsets)
    ]
    return float(np.mean(values)), float(np.std(values, ddof=1)) if subsets > 1 else 0.0


def _mmd(x: np.ndarray, y: np.ndarray) -> float:
    xx, yy, xy = ((a @ b.T / x.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    n, m = len(x), len(y)
    within = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within - 2 * xy.mean())


def jackknife(statistic: Callable[[Sequence[Item]], float], items: Sequence[Item]) -> np.ndarray:
    """Pseudo-values n s(all) - (n - 1) s(all but one) of each of n `items`, (n,) float64 (Tukey 1958).

    They share a number that belongs to the whole set, such as a Fréchet distance, among those who made it, so that it
    can be paired patient by patient. Of a mean they are the values themselves; of another statistic their mean has no
    bias of order 1/n. One item alone has NaN: nobody is left without it.
    """
    n = len(items)
    if n < 2:
        return np.full(n, np.nan)
    whole = statistic(items)
    without = [statistic([*items[:i], *items[i + 1 :]]) for i in range(n)]
    return n * whole - (n - 1) * np.array(without)


def distribution_scores(
    features_real: np.ndarray, features_fake: np.ndarray, extractor: str, *, seed: int = 0
) -> dict[str, float]:
    """The numbers to print together, named after the `extractor`: ``FD[...]``, floor, ``KD[...]`` with sd, both N."""
    mean, sd = kernel_distance(features_real, features_fake, seed=seed)
    return {
        f"FD[{extractor}]": frechet_distance(features_real, features_fake),
        f"FD[{extractor}] floor": frechet_floor(features_real, seed=seed),
        f"KD[{extractor}]": mean,
        f"KD[{extractor}] sd": sd,
        "n_real": float(len(features_real)),
        "n_fake": float(len(features_fake)),
    }


def _checked(*sets: np.ndarray) -> list[np.ndarray]:
    arrays = [np.asarray(features, dtype=np.float64) for features in sets]
    for features in arrays:
        if features.ndim != 2 or features.shape[1] != arrays[0].shape[1] or len(features) < 2:
            raise LabError(f"features must be (N, d) with one d and N of at least 2, found {[a.shape for a in arrays]}",
                           mend="pool each image to one vector")
        if not np.isfinite(features).all():
            raise LabError("features hold NaN or infinite values", mend="look at the images they come from")
    return arrays
