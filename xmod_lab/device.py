"""Device, processes and what the environment says of itself."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from typing import Any

import torch

from xmod_lab import paths
from xmod_lab.errors import LabError


def pick(name: str = "auto") -> torch.device:
    """auto: this process's GPU if there is one, else the CPU. Raises LabError if a GPU is asked for and absent."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):
        if not torch.cuda.is_available():
            raise LabError(
                "a GPU was asked for and none is there",
                where=name,
                mend="use --device cpu, or install a CUDA build with `make lab TORCH=cu128`",
            )
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) if name == "cuda" else int(name.split(":")[1]))
    return torch.device(name)


def rank() -> int:
    """This process's number under torchrun, else 0."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def world() -> int:
    """How many processes train together."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def launched() -> bool:
    """Whether torchrun started this process together with others."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def first_says(value: bool) -> bool:
    """The first process's `value`, in all of them."""
    if not torch.distributed.is_initialized():
        return value
    where = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    answer = torch.tensor([int(value)], device=where)
    torch.distributed.broadcast(answer, 0)
    return bool(answer.item())


def mean_of(value: torch.Tensor) -> torch.Tensor:
    """Mean of `value` over the processes, in all of them: what a decision must rest on that all have to share."""
    if world() == 1:
        return value
    total = value.detach().clone()
    torch.distributed.all_reduce(total)
    return total / world()


def join_group(device: torch.device) -> None:
    """Enter the process group that torchrun prepared; nothing to do for a single process."""
    if launched() and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
        if device.type == "cuda":
            torch.cuda.set_device(device)


def barrier() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.barrier()


def leave_group() -> None:
    """Wait for the others, then leave: gloo without a last barrier failed one time in ten."""
    if torch.distributed.is_initialized():
        barrier()
        torch.distributed.destroy_process_group()


def commit() -> str | None:
    """The checkout's git commit, with '+' if files differ from it; None outside a checkout."""
    root = paths.checkout()
    if root is None:
        return None
    try:
        head = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
        dirty = subprocess.run(
            ["git", "-C", str(root), "status", "--porcelain", "--untracked-files=no"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if head.returncode:
        return None
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")


def describe(device: torch.device) -> dict[str, Any]:
    """Versions, device, threads and commit, as stored with each run."""
    names = ("torch", "numpy", "scipy", "nibabel", "monai")
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "absent"
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "versions": versions,
        "device": gpu or "CPU",
        "threads": torch.get_num_threads(),
        "processes": world(),
        "commit": commit(),
    }
