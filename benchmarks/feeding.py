"""What part of a lesson step is spent on feeding the batch.

Batches of 8 slices of three modalities at 64 and 96 pixels are drawn from phantoms on disk, with standard and with
strong augmentation, in turn with a forward and backward pass of the lesson's U-Net on the same batch. The table shows
medians and the median ratio; above 5 % the exit code is 1.

    python benchmarks/feeding.py [--repeats 60] [--out benchmarks/results/feeding.json]
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from xmod_lab.data.batches import BatchSource, Slices
from xmod_lab.data.manifest import dataset
from xmod_lab.data.phantoms import make
from xmod_lab.data.prepare import Prepared, prepare
from xmod_lab.files import write_json
from xmod_lab.models.unet import UNet
from xmod_lab.profiles import profile_of

ALLOWED = 0.05
BATCH, SUBJECTS = 8, 14


def learn(network: torch.nn.Module, batch: dict[str, Slices]) -> None:
    """Forward and backward of one lesson step: cross entropy on all slices, labels where there are any."""
    images = torch.cat([slices.image for slices in batch.values()])
    labels = [torch.zeros_like(s.index)[:, None, None].expand(s.foreground.shape) if s.label is None else s.label
              for s in batch.values()]
    network.zero_grad(set_to_none=True)
    torch.nn.functional.cross_entropy(network(images), torch.cat(labels)).backward()


def measure(prepared: Prepared, augment: str, repeats: int) -> dict[str, float]:
    """Median milliseconds of drawing and of learning, and the median ratio of the two, drawn and learnt in turn."""
    source = BatchSource(prepared, BATCH, 0, augment=augment)
    network = UNet(prepared.channels, prepared.n_classes, profile_of("lesson").width)
    drawn, learnt = [], []
    for step in range(repeats + 5):
        start = time.perf_counter()
        batch = source.draw(step)
        middle = time.perf_counter()
        learn(network, batch)
        drawn.append(middle - start)
        learnt.append(time.perf_counter() - middle)
    drawn, learnt = drawn[5:], learnt[5:]  # without the warm-up
    return {"draw_ms": 1e3 * statistics.median(drawn), "learn_ms": 1e3 * statistics.median(learnt),
            "ratio": statistics.median(d / t for d, t in zip(drawn, learnt, strict=True))}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--repeats", type=int, default=60)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "feeding.json")
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as home:
        os.environ["XMOD_HOME"] = home
        data = dataset("brain_tumour")
        make(data, subjects=SUBJECTS)
        print(f"{'pixels':>6} {'augmentation':<14}{'draw [ms]':>10}{'learn [ms]':>12}{'ratio':>8}")
        for size in (64, 96):
            prepared = prepare(data, None, size)
            for augment in ("standard", "strong"):
                found[f"{size}/{augment}"] = row = measure(prepared, augment, arguments.repeats)
                print(f"{size:>6} {augment:<14}{row['draw_ms']:>10.2f}{row['learn_ms']:>12.1f}{row['ratio']:>8.1%}")
    worst = max(row["ratio"] for row in found.values())
    print(f"allowed {ALLOWED:.0%}, worst {worst:.1%}: {'enough' if worst < ALLOWED else 'TOO SLOW'}")
    write_json(arguments.out, {
        "batch": BATCH, "modalities": len(prepared.modalities), "width": profile_of("lesson").width,
        "repeats": arguments.repeats, "threads": torch.get_num_threads(), "machine": platform.machine(),
        "python": platform.python_version(), "versions": {name: version(name) for name in ("torch", "numpy")},
        "results": found,
    })
    print(f"written: {arguments.out}")
    if worst >= ALLOWED:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
