"""Attention in numbers: between organs, how far, how sharply, how alike; pure functions of maps and labels.

Tables of them by patient, beside null models: `evaluate.attention_tables`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from xmod_lab.errors import LabError
from xmod_lab.evaluate.greys import REST
from xmod_lab.losses.affinity import class_masks
from xmod_lab.losses.attention import gram
from xmod_lab.maps import Map

OUTSIDE = "outside the body"


def attends(one: Map) -> bool:
    """Whether a map is `pairwise` and its rows are shares: none below 0, each row sums to 1 (within 0.001)."""
    if one.kind != "pairwise":
        return False
    values = one.values.float()
    return bool(values.min() >= 0 and ((values.sum(2) - 1).abs() < 1e-3).all())


def on_grid(one: Map) -> bool:
    """Whether a map has a grid, and its queries and its keys are all the grid's positions."""
    return one.grid is not None and one.values.shape[1] == one.values.shape[2] == one.grid[0] * one.grid[1]


def grid_of(one: Map) -> tuple[int, int]:
    """Rows and columns of the positions that look at each other. Raises LabError for a map of channels, classes or of
    other queries than keys (`on_grid`), and for one whose rows are no shares (`attends`)."""
    if one.grid is None or not on_grid(one):
        raise LabError("its queries and keys are not the positions of one grid", where=one.layer, mend="see Map.grid")
    if not attends(one):
        raise LabError("its rows are no shares, which sum to 1", where=one.layer)
    return one.grid


def organs_of(classes: Sequence[str]) -> tuple[str, ...]:
    """Names of what `organ_shares` tells apart: the classes, the rest of the body, and what is outside it."""
    return (*classes, REST, OUTSIDE)


def organ_shares(labels: Tensor, body: Tensor, classes: int, grid: tuple[int, int]) -> Tensor:
    """How much of the image over each position belongs to each organ: (n, classes + 2, N), 0 to 1, sums to 1.

    labels (n, h, w): class numbers from 1, 0 elsewhere; body (n, h, w): bool. A position stands for many pixels: their
    mean keeps a thin rim that the nearest pixel would lose. In the order of `organs_of`.
    """
    groups = torch.where(labels > 0, labels - 1, torch.where(body, classes, classes + 1)).long()
    return class_masks(groups, classes + 2, grid).flatten(2).double()


def organ_mass(attention: Tensor, shares: Tensor) -> Tensor:
    r"""Organ x organ table of attention (n, N, N), query by key, and `organ_shares` (n, g, N): (g, g), 0 to 1.

    .. math:: T_{ab} = \frac{\sum_{s,i} w_a(i) \sum_j A_{ij} w_b(j)}{\sum_{s,i} w_a(i)}

    over the positions i of all slices s: of what queries in a look at, the share that is b. Rows sum to 1; NaN for an
    organ that no slice has. Read it beside `organ_chance`: a large organ gets much of any attention.
    """
    w = shares.double()
    return (w @ attention.double() @ w.mT).sum(0) / w.sum((0, 2))[:, None]


def organ_chance(shares: Tensor) -> Tensor:
    """What `organ_mass` is of uniform attention, (n, g, N) -> (g, g): the share of keys that are b, mean over slices,
    each with the weight of its queries in a."""
    areas = shares.double().sum(2)
    return areas.mT @ (areas / shares.shape[2]) / areas.sum(0)[:, None]


def own_share(table: Tensor, shares: Tensor, organs: int) -> float:
    """Of what queries in any of the first `organs` organs look at, the share that is of the same organ, 0 to 1: the
    diagonal of a (g, g) table of `organ_mass` or `organ_chance` by area. NaN where no slice has any of them."""
    areas = shares.double().sum((0, 2))[:organs]
    found = torch.where(areas > 0, table.diagonal()[:organs], 0.0)
    return float((found * areas).sum() / areas.sum())


def row_entropy(rows: Tensor, places: Tensor | float | None = None) -> Tensor:
    r""":math:`-\sum_j a_j \ln a_j / \ln N` of rows that sum to 1, (..., N) -> (...): 0 where one key has all, 1 where
    all have the same (Clark et al., BlackboxNLP 2019, before division by ln N).

    places: how many of the N can have something, where it is not all of them. NaN for rows of NaN, and for one place.
    """
    p = rows.double()
    count = torch.as_tensor(p.shape[-1] if places is None else places, dtype=torch.double, device=p.device)
    return torch.where(count > 1, -torch.xlogy(p, p).sum(-1) / count.log(), torch.nan).clamp(0, 1)


def distances(grid: tuple[int, int], shape: tuple[int, int]) -> Tensor:
    """Distance in pixels between the middles of all positions of a grid over an image of `shape` (h, w): (N, N)."""
    axes = [(torch.arange(n, dtype=torch.double) + 0.5) * size / n for n, size in zip(grid, shape, strict=True)]
    places = torch.cartesian_prod(*axes)
    return torch.cdist(places, places, compute_mode="donot_use_mm_for_euclid_dist")


def mean_distance(attention: Tensor, grid: tuple[int, int], shape: tuple[int, int]) -> Tensor:
    """How far each query looks, in pixels of the image (h, w): (n, N, N) -> (n, N), 0 if at itself alone.
    The mean attention distance of Dosovitskiy et al., ICLR 2021."""
    return (attention.double() * distances(grid, shape).to(attention.device)).sum(2)


def over_body(values: Tensor, body: Tensor) -> Tensor:
    """Maps (n, K, h, w) as shares of the body's pixels, body (n, h, w) bool: (n, K, hw), each sums to 1.

    Magnitudes: of a signed map its size counts. NaN where a map has nothing in the body.
    """
    size = (values.abs() * body[:, None]).flatten(2).double()
    return size / size.sum(2, keepdim=True)


def spread(values: Tensor, body: Tensor) -> Tensor:
    """How evenly each of the maps (n, K, h, w) lies over the body: (n, K), `row_entropy` of `over_body` over ln of the
    body's pixels. 0: all in one pixel, 1: the same everywhere. It is over space, not over the K maps."""
    return row_entropy(over_body(values, body), body.sum((1, 2))[:, None])


def likeness(values: Tensor) -> Tensor:
    """How much maps (n, K, h, w) say the same: (n,), mean magnitude of the cosines of each with each other, 0 to 1.

    0: orthogonal, what SASAN's loss asks for (`losses.attention.gram`); 1: all alike, or negatives. NaN for one map.
    """
    count = values.shape[1]
    apart = ~torch.eye(count, dtype=torch.bool, device=values.device)
    return gram(values)[:, apart].abs().clamp(max=1).mean(1)
