"""What CSA's affinities cost as one batched product and as loops.

Features of 8 slices, 256 channels in both layers, 28x28 pixels and four classes, with area-averaged masks of nested
discs. The loops go over samples and classes and take the cosines of all pairs of channels with PyTorch's function, or
also over the rows of each matrix. A third loop takes each matrix as one product of masked, normalised features: on a
CPU it does the sums of the batched product one after the other and is not much slower: it stands here as the floor.
All forms agree to 1e-5 before anything is timed. They run in turn within each repeat, in processor time on one thread;
the table shows medians and median ratios of batched to loops. The backward pass is timed for the products alone: the
other loops would keep 13 GB for it.

    python benchmarks/affinity.py [--repeats 5] [--out benchmarks/results/affinity.json]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from xmod_lab.files import write_json
from xmod_lab.losses.affinity import affinity, class_masks

ALLOWED = 0.25
"""of the loops over samples and classes, at most"""
SAMPLES, CHANNELS, EDGE, CLASSES = 8, 256, 28, 4
Form = Callable[[Tensor, Tensor, Tensor], Tensor]


def each(first: Tensor, second: Tensor, masks: Tensor, matrix: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Loops over samples and classes: `matrix` of the masked features (m, p) and (n, p)."""
    found = []
    for s in range(len(first)):
        row = []
        for c in range(masks.shape[1]):
            root = masks[s, c].sqrt()  # a mask's weight stands once in the product of both features
            row.append(matrix((first[s] * root).flatten(1), (second[s] * root).flatten(1)))
        found.append(torch.stack(row))
    return torch.stack(found)


def by_pairs(first: Tensor, second: Tensor, masks: Tensor) -> Tensor:
    return each(first, second, masks, lambda f, g: F.cosine_similarity(f[:, None], g[None], dim=2))


def by_rows(first: Tensor, second: Tensor, masks: Tensor) -> Tensor:
    return each(first, second, masks, lambda f, g: torch.stack([F.cosine_similarity(r[None], g, dim=1) for r in f]))


def by_products(first: Tensor, second: Tensor, masks: Tensor) -> Tensor:
    return each(first, second, masks, lambda f, g: F.normalize(f, dim=1) @ F.normalize(g, dim=1).T)


FORMS: dict[str, Form] = {
    "batched": affinity,
    "samples, classes": by_pairs,
    "samples, classes, rows": by_rows,
    "samples, classes, as products": by_products,
}


def case() -> tuple[Tensor, Tensor, Tensor]:
    """Features of both layers and masks of nested discs that move from slice to slice."""
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(SAMPLES, CHANNELS, EDGE, EDGE, generator=generator) for _ in range(2)]
    y, x = torch.meshgrid(torch.arange(224.0), torch.arange(224.0), indexing="ij")
    labels = torch.zeros(SAMPLES, 224, 224, dtype=torch.long)
    for s in range(SAMPLES):
        away = ((y - 96 - 3 * s).square() + (x - 110 - 2 * s).square()).sqrt()
        for number, radius in enumerate((75, 50, 25), 1):
            labels[s][away < radius] = number
    return features[0], features[1], class_masks(labels, CLASSES, (EDGE, EDGE))


def seconds(form: Form, first: Tensor, second: Tensor, masks: Tensor, backward: bool) -> float:
    leaves = [t.clone().requires_grad_(backward) for t in (first, second)]
    start = time.process_time()
    found = form(*leaves, masks)
    if backward:
        found.square().mean().backward()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "affinity.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    inputs = case()
    expected = affinity(*inputs)
    apart = {name: (form(*inputs) - expected).abs().max().item() for name, form in FORMS.items()}
    assert max(apart.values()) < 1e-5, apart
    found: dict[str, Any] = {}
    print(f"{'loops over':<30}{'':<18}{'loops [s]':>10}{'batched [s]':>12}{'ratio':>8}")
    for way, names in (("forward", list(FORMS)[1:]), ("with backward", ["samples, classes, as products"])):
        forms = {name: FORMS[name] for name in ("batched", *names)}
        backward = way != "forward"
        seconds(affinity, *inputs, backward)  # kernels are chosen
        rounds = [{n: seconds(f, *inputs, backward) for n, f in forms.items()} for _ in range(arguments.repeats)]
        batched = statistics.median(r["batched"] for r in rounds)
        for name in names:
            row = {"loops_seconds": statistics.median(r[name] for r in rounds), "batched_seconds": batched,
                   "ratio": statistics.median(r["batched"] / r[name] for r in rounds)}
            found[f"{name}/{way}"] = row
            print(f"{name:<30}{way:<18}{row['loops_seconds']:>10.3f}{batched:>12.3f}{row['ratio']:>8.3f}")
    ratio = found["samples, classes/forward"]["ratio"]
    print(f"allowed {ALLOWED}, samples and classes {ratio:.3f}: {'enough' if ratio <= ALLOWED else 'TOO SLOW'}")
    write_json(arguments.out, {
        "samples": SAMPLES, "channels": CHANNELS, "edge": EDGE, "classes": CLASSES, "largest_difference": apart,
        "repeats": arguments.repeats, "threads": torch.get_num_threads(), "machine": platform.machine(),
        "python": platform.python_version(), "versions": {"torch": version("torch")}, "results": found,
    })
    print(f"written: {arguments.out}")
    if ratio > ALLOWED:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
