"""What methods share that learn from registered pairs: two modalities, and batches that hold them slice by slice."""

from __future__ import annotations

import torch
from torch import Tensor

from xmod_lab.errors import LabError
from xmod_lab.methods.base import Batch, Problem, exactly_two, index_of


def two_of(problem: Problem, method: str) -> tuple[str, str]:
    """The source and the target, first and second of exactly two modalities. Raises LabError for fewer or more."""
    exactly_two(problem.modalities, method)
    return problem.modalities[0], problem.modalities[1]


def paired(batch: Batch, source: str, target: str) -> tuple[Tensor, Tensor] | None:
    """Images (b, k, h, w) of the slices that both modalities of a batch have; None if they are not the same slices.

    Of shares that differ by one the last slice of the larger one is left out.
    """
    if source not in batch or target not in batch:
        return None
    a, b = batch[source], batch[target]
    n = min(len(a.image), len(b.image))
    same = a.patient[:n] == b.patient[:n] and torch.equal(a.index[:n], b.index[:n])
    return (a.image[:n], b.image[:n]) if same else None


def pairs(batch: Batch, source: str, target: str, method: str) -> tuple[Tensor, Tensor]:
    """`paired`, for training. Raises LabError for a batch of unlike slices: nothing could be learnt from those."""
    found = paired(batch, source, target)
    if found is None:
        raise LabError(
            f"the slices of {source} and {target} are not of the same patients",
            where=method,
            mend="take a task of registered images with `draw: paired`",
        )
    return found


def check_way(source: str, target: str, known: list[tuple[str, str]]) -> None:
    """Raise LabError for a modality that is in none of the `known` translations, or for a way that none of them goes.

    From a modality to itself is no translation, and no error.
    """
    modalities = tuple(dict.fromkeys(m for way in known for m in way))
    for modality in (source, target):
        index_of(modality, modalities)
    if source != target and (source, target) not in known:
        ways = ", ".join(f"{s} to {t}" for s, t in known)
        raise LabError(f"does not translate {source} to {target}", mend=f"it learns {ways} only")
