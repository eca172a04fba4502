"""What position attention costs in memory with its map and without.

Two slices of 256 channels and 64x64 positions, forward and backward: the map would be 64 MB a slice, and training keeps
more than one of its size. Each way runs in a process of its own. Extra memory is the peak of the process less what it
held before the pass, its input included, after a pass of 8x8 positions that sets everything up. "unpadded" leaves
queries and keys at an eighth of the channels: no fused kernel takes heads of two sizes, and PyTorch makes the map
without a word.

    python benchmarks/position_attention.py [--edge 64] [--out benchmarks/results/position_attention.json]
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import psutil
import torch
from torch import Tensor
from torch.nn import functional as F

from xmod_lab.device import pick
from xmod_lab.files import write_json
from xmod_lab.models import dual_attention
from xmod_lab.models.dual_attention import PositionAttention

ALLOWED = 100.0
"""MB of extra memory without the map, at most"""
SLICES, CHANNELS = 2, 256
WAYS = ("with the map", "without", "unpadded")
MB = 2**20


def unpadded(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """PyTorch's function on heads as they come."""
    q, k, v = (t[:, None] for t in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v, scale=1.0)[:, 0]


def one_way(way: str, edge: int) -> dict[str, float]:
    """Extra memory in MB and seconds of one forward and backward pass, in this process."""
    device = pick()
    torch.manual_seed(0)
    block = PositionAttention(CHANNELS).to(device)
    torch.nn.init.ones_(block.gamma)  # at 0 nothing would reach the values
    if way == "unpadded":
        dual_attention.attended = unpadded

    def run(x: Tensor) -> None:
        block(x, mapped=way == "with the map")[0].mean().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    small, x = (torch.randn(SLICES, CHANNELS, n, n, device=device, requires_grad=True) for n in (8, edge))
    run(small)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated() if device.type == "cuda" else psutil.Process().memory_info().rss
    start = time.perf_counter()
    run(x)
    seconds = time.perf_counter() - start
    if device.type == "cuda":
        return {"extra_mb": (torch.cuda.max_memory_allocated() - before) / MB, "seconds": seconds}
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"extra_mb": (peak - before) / MB, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--edge", type=int, default=64)
    parser.add_argument("--way", choices=WAYS, help="one way, in this process")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "position_attention.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.way:
        print(json.dumps(one_way(arguments.way, arguments.edge)))
        return
    found = {}
    for way in WAYS:
        command = [sys.executable, __file__, "--way", way, "--edge", str(arguments.edge)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found[way] = row = json.loads(done.stdout.splitlines()[-1])
        print(f"{way:<16}{row['extra_mb']:>8.0f} MB{row['seconds']:>8.2f} s", flush=True)
    extra = found["without"]["extra_mb"]
    enough = extra < ALLOWED or arguments.edge > 64
    print(f"allowed {ALLOWED:.0f} MB, without the map {extra:.0f}: {'enough' if enough else 'TOO MUCH'}")
    write_json(arguments.out, {
        "slices": SLICES, "channels": CHANNELS, "edge": arguments.edge, "threads": torch.get_num_threads(),
        "device": pick().type, "machine": platform.machine(), "python": platform.python_version(),
        "versions": {"torch": version("torch")}, "results": found,
    })  # fmt: skip
    print(f"written: {arguments.out}")
    if not enough:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
