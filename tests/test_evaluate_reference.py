"""Mask metrics against two independent sources: MONAI, and brute force over all pairs of border points."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from xmod_lab.evaluate import SURFACE, score_mask, surface


def blobs(seed: int, shape: tuple[int, ...], share: float = 0.15) -> np.ndarray:
    """A random mask with lumps and holes; it may touch the edge of the array."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.2)
    return noise > np.quantile(noise, 1 - share)


def border_points(mask: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Voxels of `mask` with a direct neighbour outside it, found one by one."""
    padded = np.pad(mask, 1)
    points = []
    for index in np.argwhere(padded):
        for axis in range(mask.ndim):
            step = np.eye(mask.ndim, dtype=int)[axis]
            if not (padded[tuple(index + step)] and padded[tuple(index - step)]):
                points.append(index)
                break
    return np.array(points) * np.array(spacing)


def by_brute_force(pred: np.ndarray, truth: np.ndarray, spacing: tuple[float, ...]) -> dict[str, float]:
    distances = cdist(border_points(pred, spacing), border_points(truth, spacing))
    forth, back = distances.min(1), distances.min(0)
    both = np.concatenate([forth, back])
    return {
        "hd": both.max(),
        "hd95_pooled": np.percentile(both, 95),
        "hd95_max": max(np.percentile(forth, 95), np.percentile(back, 95)),
        "asd": forth.mean(),
        "assd_pooled": both.mean(),
        "assd_averaged": (forth.mean() + back.mean()) / 2,
    }


GRIDS = [((14, 17), (1.0, 1.0)), ((11, 12, 9), (1.0, 1.0, 1.0)), ((12, 10, 8), (0.7, 1.3, 4.0)),
         ((9, 9, 1), (2.0, 1.0, 5.0))]
CASES = [(seed, shape, spacing) for seed in range(3) for shape, spacing in GRIDS]


@pytest.mark.parametrize(("seed", "shape", "spacing"), CASES)
@pytest.mark.parametrize(("costs", "near"), [((0, 0), 8), ((0, 0), 1), ((0, 10**9), 1), ((10**9, 0), 8)],
                         ids=["tree", "tree, far points apart", "far points by transform", "transform"])
def test_surface_against_brute_force(seed, shape, spacing, costs, near, monkeypatch):
    """Every way to the nearest border voxel."""
    monkeypatch.setattr(surface, "NEAR_QUERY", costs[0])
    monkeypatch.setattr(surface, "FAR_QUERY", costs[1])
    monkeypatch.setattr(surface, "NEAR", near)
    pred, truth = blobs(seed, shape), blobs(seed + 100, shape)
    scores = score_mask(pred, truth, spacing)
    assert {name: scores[name] for name in SURFACE} == pytest.approx(by_brute_force(pred, truth, spacing))


def test_a_far_island_goes_by_the_tree():
    """It leaves a mostly empty box, and only itself far from the truth."""
    shape = (60, 60, 60)
    truth = np.zeros(shape, dtype=bool)
    truth[5:15, 5:15, 5:15] = True
    pred = truth.copy()
    pred[57, 57, 57] = True
    scores = score_mask(pred, truth, (1, 1, 1))
    assert pred.size > surface.NEAR_QUERY * surface.border(pred).sum()
    tree = cKDTree(np.argwhere(surface.border(truth)))
    assert scores["hd"] == pytest.approx(tree.query([57, 57, 57])[0])


@pytest.mark.filterwarnings("ignore::FutureWarning:monai")  # about MONAI's own calls
@pytest.mark.parametrize(("seed", "shape", "spacing"), [
    (0, (24, 20), (1.0, 2.0)), (1, (16, 18, 14), (1.0, 1.0, 1.0)), (2, (16, 18, 14), (0.8, 0.8, 3.0))])
def test_against_monai(seed, shape, spacing):
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("monai.metrics")
    pred, truth = blobs(seed, shape), blobs(seed + 50, shape)

    def one_hot(mask):
        return torch.from_numpy(np.stack([~mask, mask])[None].astype(np.float32))

    p, t = one_hot(pred), one_hot(truth)
    options = {"include_background": False, "spacing": spacing}
    confusion = metrics.get_confusion_matrix(p, t, include_background=False)
    expected = {
        "dice": metrics.compute_dice(p, t, include_background=False),
        "hd": metrics.compute_hausdorff_distance(p, t, **options),
        "hd95_max": metrics.compute_hausdorff_distance(p, t, percentile=95, **options),
        "asd": metrics.compute_average_surface_distance(p, t, **options),
        "assd_pooled": metrics.compute_average_surface_distance(p, t, symmetric=True, **options),
        **{name: metrics.compute_confusion_matrix_metric(name, confusion)
           for name in ("precision", "sensitivity", "specificity")},
    }
    scores = score_mask(pred, truth, spacing)
    for name, value in expected.items():
        assert scores[name] == pytest.approx(value.item(), rel=1e-5), name
