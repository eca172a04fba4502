"""Random streams that are named, not shared: every draw comes from (seed, role, step, rank, ...).

A stream depends on its name alone, never on how many numbers another part of the program drew before. So methods that
are compared see the same data in the same order, and a resumed run continues exactly where it stopped.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_of(*parts: int | str) -> int:
    """A stable seed in [0, 2**63) for the name `parts`; the same on every machine and Python version.

    ``1`` and ``"1"`` are different parts, and so are ``("ab", "c")`` and ``("a", "bc")``.
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        if isinstance(part, str):
            data = b"s" + part.encode("utf-8")
        else:
            data = b"i" + str(int(part)).encode("ascii")
        digest.update(len(data).to_bytes(4, "little") + data)
    return int.from_bytes(digest.digest(), "little") >> 1


def numpy_rng(*parts: int | str) -> np.random.Generator:
    """NumPy's default generator (PCG64), seeded with the name `parts`."""
    return np.random.default_rng(seed_of(*parts))


def torch_rng(*parts: int | str) -> torch.Generator:
    """PyTorch's CPU generator, seeded with the name `parts`. Draw there and move: devices differ in their numbers."""
    import torch

    return torch.Generator().manual_seed(seed_of(*parts))
