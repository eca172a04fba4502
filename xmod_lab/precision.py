"""float32 or bf16: which of them pays on this machine, measured once and remembered.

CPUs with bfloat16 units train a U-Net two to three times faster under bf16 autocast; CPUs without them are slower under
it, and nothing but a measurement tells how much. The answer is kept per device, thread count and PyTorch version in
``cache/precision.json``.
"""

from __future__ import annotations

import functools
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmod_lab import files, paths
from xmod_lab.errors import LabError

if TYPE_CHECKING:
    import torch

WIDTH_SIZE = {"cpu": (16, 64), "cuda": (64, 128)}
"""Width and slice edge of the U-Net that is timed: lesson size on a CPU; on a GPU the papers', since a smaller one
mostly waits for kernels to be launched, in any precision."""
PAYS = 1.15
"""bf16 has to be this much faster: below it the loss of digits buys nothing."""


def choose(device: str | torch.device) -> str:
    """'bf16' if it trains a U-Net at least 1.15 times faster than float32 on `device`, else 'float32'."""
    return str(measured(device)["choice"])


def measured(device: str | torch.device) -> dict[str, Any]:
    """What was measured on `device`, measuring first if this machine has not been.

    Keys: choice ('float32' or 'bf16'), float32_ms, bf16_ms, channels_last_ms (milliseconds of one forward and backward
    pass; channels_last_ms is bf16 with that memory format), ratio = float32_ms / bf16_ms. Where the device cannot do
    bf16 the choice is float32, ratio is 0 and the times are absent. Processes that ask at once measure one at a time.
    """
    import torch

    device = torch.device(device)
    path, key = paths.cache_home() / "precision.json", _key(device)
    with files.locked(path):
        known = _read(path)
        if key not in known:
            known[key] = _measure(device)
            files.write_json(path, known)
    return dict(known[key])


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(files.read_json(path))
    except (OSError, TypeError, ValueError, LabError):  # absent or damaged: it is a cache, so it is measured again
        return {}


def _key(device: torch.device) -> str:
    import torch

    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} | torch {torch.__version__}"
    return f"{cpu_name()} | {torch.get_num_threads()} threads | torch {torch.__version__}"


@functools.cache
def cpu_name() -> str:
    """The processor's model name, as far as the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _measure(device: torch.device) -> dict[str, Any]:
    import torch

    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return {"choice": "float32", "ratio": 0.0}
    ways = {"float32_ms": (False, False), "bf16_ms": (True, False), "channels_last_ms": (True, True)}
    passes = {name: _pass(device, *way) for name, way in ways.items()}
    for run in passes.values():  # the first pass pays for kernel selection
        run()
    # The least of rounds in turn: a neighbour that takes the processor for a while slows all three alike.
    rounds = [{name: run() for name, run in passes.items()} for _ in range(3)]
    best = {name: min(times[name] for times in rounds) for name in passes}
    ratio = best["float32_ms"] / best["bf16_ms"]
    return {"choice": "bf16" if ratio >= PAYS else "float32", "ratio": round(ratio, 3)} | {
        name: round(value, 2) for name, value in best.items()
    }


def _pass(device: torch.device, bf16: bool, channels_last: bool) -> Callable[[], float]:
    """A function that passes 8 slices forward and backward through a U-Net and returns milliseconds."""
    import torch

    from xmod_lab.models.unet import UNet

    layout = torch.channels_last if channels_last else torch.contiguous_format
    with torch.random.fork_rng(devices=[]):  # a measurement must not shift the draws of the run that asks for it
        width, size = WIDTH_SIZE.get(device.type, WIDTH_SIZE["cpu"])
        network = UNet(1, 2, width).eval().to(device)  # eval: dropout would draw
        image = torch.randn(8, 1, size, size).to(device, memory_format=layout)
    network.to(memory_format=layout)  # type: ignore[call-overload]  # torch's own hints leave this form out

    def run() -> float:
        start = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            loss = network(image).float().square().mean()
        loss.backward()
        network.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - start) * 1000

    return run
