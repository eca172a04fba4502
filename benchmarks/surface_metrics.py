"""How much faster the lab's mask metrics are than the calls of monai.metrics that give the same numbers.

A pair of 240x240x155 masks with a lesion of 1 % of the volume, at 1 mm: as BraTS has them. MONAI is called as its users
call it, with one-hot BNHWD tensors made beforehand and not counted. Both run in turn within each repeat; the table
shows the median of the ratios. Every number that both give is compared before anything is timed.

    python benchmarks/surface_metrics.py [--repeats 5] [--out benchmarks/results/surface_metrics.json]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.metrics import (
    compute_average_surface_distance,
    compute_confusion_matrix_metric,
    compute_dice,
    compute_hausdorff_distance,
    get_confusion_matrix,
)

from xmod_lab.evaluate import score_mask
from xmod_lab.files import write_json

SHAPE, SPACING = (240, 240, 155), (1.0, 1.0, 1.0)
NEEDED, AIM = 3.0, 10.0


def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    axes = np.ogrid[tuple(slice(n) for n in SHAPE)]
    return sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=True)) < radius**2


def lesion(seed: int = 0) -> np.ndarray:
    """A knobbly lesion that fills 1 % of the volume: a ball and its satellites, grown until the share is right."""
    rng = np.random.default_rng(seed)
    centre = np.array([100.0, 130.0, 80.0])
    directions = rng.normal(size=(12, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    low, high = 5.0, 60.0
    while high - low > 0.01:
        radius = (low + high) / 2
        mask = ball(tuple(centre), radius)
        for way in directions:
            mask |= ball(tuple(centre + 0.8 * radius * way), 0.45 * radius)
        low, high = (radius, high) if mask.mean() < 0.01 else (low, radius)
    return mask


def pairs() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Prediction and truth: one segmentation that is nearly right, and one with a false island at the far end."""
    truth = lesion()
    near = np.roll(truth, (2, -1, 1), axis=(0, 1, 2)) & ~ball((100, 150, 80), 9)
    return {"near miss": (near, truth), "with a false island": (near | ball((190, 50, 30), 4), truth)}


def monai_scores(pred: torch.Tensor, truth: torch.Tensor) -> dict[str, float]:
    """The same numbers from MONAI; pred, truth one-hot (1, 2, x, y, z)."""
    options: dict[str, Any] = {"include_background": False, "spacing": SPACING}
    confusion = get_confusion_matrix(pred, truth, include_background=False)
    return {
        "dice": compute_dice(pred, truth, include_background=False).item(),
        "hd": compute_hausdorff_distance(pred, truth, **options).item(),
        "hd95_max": compute_hausdorff_distance(pred, truth, percentile=95, **options).item(),
        "asd": compute_average_surface_distance(pred, truth, **options).item(),
        "assd_pooled": compute_average_surface_distance(pred, truth, symmetric=True, **options).item(),
        **{name: compute_confusion_matrix_metric(name, confusion).item()
           for name in ("precision", "sensitivity", "specificity")},
    }


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def one_hot(mask: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack([~mask, mask])[None].astype(np.float32))


def measure(pred: np.ndarray, truth: np.ndarray, repeats: int) -> dict[str, float]:
    """Median seconds of both and the median ratio; raises if a number differs."""
    tensors = one_hot(pred), one_hot(truth)
    ours, theirs = score_mask(pred, truth, SPACING), monai_scores(*tensors)  # also the warm-up
    for name, value in theirs.items():
        if abs(ours[name] - value) > 1e-4 * max(1.0, abs(value)):
            raise SystemExit(f"{name}: ours {ours[name]}, MONAI {value}: not the same numbers, so no comparison")
    times = [(seconds(lambda: score_mask(pred, truth, SPACING)), seconds(lambda: monai_scores(*tensors)))
             for _ in range(repeats)]
    ratios = [monai / lab for lab, monai in times]
    return {
        "lab_seconds": statistics.median(lab for lab, _ in times),
        "monai_seconds": statistics.median(monai for _, monai in times),
        "ratio_median": statistics.median(ratios), "ratio_least": min(ratios), "ratio_most": max(ratios),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "surface_metrics.json")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning, module="monai")  # about MONAI's own calls
    found = {}
    print(f"{'masks':<22}{'lab [s]':>10}{'MONAI [s]':>12}{'ratio':>8}{'least':>8}{'most':>8}")
    for name, (pred, truth) in pairs().items():
        found[name] = row = measure(pred, truth, arguments.repeats) | {"truth_share": float(truth.mean())}
        print(f"{name:<22}{row['lab_seconds']:>10.4f}{row['monai_seconds']:>12.4f}{row['ratio_median']:>8.1f}"
              f"{row['ratio_least']:>8.1f}{row['ratio_most']:>8.1f}")
    worst = min(row["ratio_median"] for row in found.values())
    verdict = "aim reached" if worst >= AIM else "enough" if worst >= NEEDED else "TOO SLOW"
    print(f"needed {NEEDED:g}, aim {AIM:g}: {verdict}")
    write_json(arguments.out, {
        "shape": SHAPE, "spacing": SPACING, "repeats": arguments.repeats, "threads": torch.get_num_threads(),
        "machine": platform.machine(), "python": platform.python_version(), "results": found,
        "versions": {name: version(name) for name in ("monai", "torch", "scipy", "numpy")},
    })
    print(f"written: {arguments.out}")
    if worst < NEEDED:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
