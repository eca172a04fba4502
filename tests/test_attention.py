"""Measures of attention by hand, on grids of 2x2 and 4x4 positions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from xmod_lab.errors import LabError
from xmod_lab.evaluate.attention import (
    OUTSIDE,
    attends,
    distances,
    grid_of,
    likeness,
    mean_distance,
    organ_chance,
    organ_mass,
    organ_shares,
    organs_of,
    over_body,
    own_share,
    row_entropy,
    spread,
)
from xmod_lab.evaluate.greys import REST
from xmod_lab.maps import Map

QUARTERS = torch.tensor([[[1, 1, 2, 2], [1, 1, 2, 2], [0, 0, 0, 0], [0, 0, 0, 0]]])
"""labels of 4x4 pixels: an organ each in the two upper quarters"""
BODY = torch.tensor([[[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]]]).bool()
"""the lower right quarter is air"""


def sharing() -> Tensor:
    return organ_shares(QUARTERS, BODY, 2, (2, 2))


def test_shares_of_positions() -> None:
    """Pure on a grid of 2x2, each quarter an organ; on one of 1x1 all have a quarter; a rim keeps its area."""
    assert organs_of(("liver", "spleen")) == ("liver", "spleen", REST, OUTSIDE)
    assert torch.equal(sharing()[0], torch.eye(4, dtype=torch.double))
    assert organ_shares(QUARTERS, BODY, 2, (1, 1)).flatten().tolist() == [0.25] * 4
    thin = torch.zeros(1, 4, 4, dtype=torch.long)
    thin[0, 1, 1] = 1
    assert organ_shares(thin, torch.ones(1, 4, 4).bool(), 1, (2, 2))[0].tolist() == [
        [0.25, 0, 0, 0], [0.75, 1, 1, 1], [0, 0, 0, 0]]  # fmt: skip
    outside = organ_shares(thin, torch.zeros(1, 4, 4).bool(), 1, (2, 2))[0]
    assert outside[0, 0] == 0.25 and outside[1].sum() == 0, "what has a label is in the body"


def test_organ_table_by_hand() -> None:
    attention = torch.tensor([[[0.5, 0.25, 0.25, 0.0], [0.0, 1.0, 0.0, 0.0],
                               [0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.25, 0.25]]])  # fmt: skip
    assert torch.allclose(organ_mass(attention, sharing()), attention[0].double()), "pure positions are their organs"
    shares = torch.tensor([[[1.0, 0.5, 0.0, 0.0], [0.0, 0.5, 1.0, 1.0]]])
    table = organ_mass(attention, shares)
    first = (0.5 + 0.5 * 0.25 + 0.5 * (0 + 0.5 * 1)) / 1.5  # queries 0 and half of 1, keys 0 and half of 1
    assert table[0].tolist() == pytest.approx([first, 1 - first])
    second = (0.5 * 0.5 + (0.1 + 0.5 * 0.2) + (0.25 + 0.5 * 0.25)) / 2.5
    assert table[1].tolist() == pytest.approx([second, 1 - second])
    assert organ_chance(shares).flatten().tolist() == pytest.approx([0.375, 0.625] * 2)
    assert own_share(table, shares, 1) == pytest.approx(first)
    assert own_share(table, shares, 2) == pytest.approx((1.5 * first + 2.5 * (1 - second)) / 4)


def test_queries_of_all_slices_count_by_area() -> None:
    """Two slices, the organ is in one of them whole, in the other a quarter."""
    shares = torch.tensor([[[1.0, 1, 1, 1]], [[1.0, 0, 0, 0]]]).double()
    shares = torch.cat([shares, 1 - shares], 1)
    chance = organ_chance(shares)
    assert chance[0].tolist() == pytest.approx([(4 * 1 + 1 * 0.25) / 5, 0.75 / 5])
    assert chance[1].tolist() == pytest.approx([0.25, 0.75])


@given(seed=st.integers(0, 1000), grid=st.tuples(st.integers(1, 5), st.integers(1, 5)), organs=st.integers(1, 3))
def test_what_holds_for_any_attention(seed: int, grid: tuple[int, int], organs: int) -> None:
    """Rows of the table sum to 1; uniform attention has what chance has; no order of positions matters."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, organs + 1, (2, 7, 6), generator=random)
    shares = organ_shares(labels, torch.rand(2, 7, 6, generator=random) < 0.5, organs, grid)
    n = grid[0] * grid[1]
    assert torch.allclose(shares.sum(1), torch.ones(2, n).double())
    attention = torch.rand(2, n, n, generator=random).softmax(2)
    table, there = organ_mass(attention, shares), shares.sum((0, 2)) > 0
    assert torch.allclose(table[there].sum(1), torch.ones(int(there.sum())).double(), atol=1e-6)
    assert torch.isnan(table[~there]).all() and (table[there] > -1e-9).all()
    uniform = organ_mass(torch.full((2, n, n), 1 / n, dtype=torch.double), shares)
    assert torch.allclose(uniform, organ_chance(shares), rtol=1e-12, equal_nan=True)
    order = torch.randperm(n, generator=random)
    moved = organ_mass(attention[:, order][:, :, order], shares[:, :, order])
    assert torch.allclose(moved, table, equal_nan=True)
    entropy = row_entropy(attention)
    assert torch.isnan(entropy).all() if n == 1 else ((entropy >= 0) & (entropy <= 1)).all()
    far = mean_distance(attention, grid, (7, 6))
    assert (far >= 0).all() and far.max() <= distances(grid, (7, 6)).max() + 1e-6


def test_identity_and_uniform_attention() -> None:
    one, even = torch.eye(4)[None], torch.full((1, 4, 4), 0.25)
    assert own_share(organ_mass(one, sharing()), sharing(), 2) == 1
    tables = organ_mass(even, sharing()), organ_chance(sharing())
    assert [own_share(table, sharing(), 2) for table in tables] == [0.25, 0.25]
    assert row_entropy(one).tolist() == [[0] * 4] and row_entropy(even).tolist() == [pytest.approx([1.0] * 4)]
    assert mean_distance(one, (2, 2), (8, 8)).tolist() == [[0] * 4]
    assert mean_distance(even, (2, 2), (8, 8))[0].tolist() == pytest.approx([(4 + 4 + 4 * math.sqrt(2)) / 4] * 4)
    assert math.isnan(own_share(organ_chance(sharing()[:, 2:]), torch.zeros(1, 2, 4), 1)), "nobody has the organ"


def test_distances_of_a_long_grid() -> None:
    """4x2 positions over 8x8 pixels: 2 pixels apart down, 4 across, row by row."""
    found = distances((4, 2), (8, 8))
    assert found[0].tolist() == pytest.approx([0, 4, 2, math.hypot(2, 4), 4, math.hypot(4, 4), 6, math.hypot(6, 4)])
    assert torch.equal(found, found.T)


def test_entropy_by_hand() -> None:
    rows = torch.tensor([[0.5, 0.5, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    assert row_entropy(rows).tolist() == [0.5, 0.0]
    assert row_entropy(rows, 2).tolist() == [1.0, 0.0], "of two places that can have something"
    assert torch.isnan(row_entropy(torch.full((1, 3), torch.nan))).all()


def test_spread_over_the_body() -> None:
    """Air does not count, nor the sign; one that has nothing in the body has no spread."""
    values = torch.zeros(1, 4, 4, 4)
    values[0, 0], values[0, 1, 0, 0], values[0, 2, 0, :2] = -3.0, 5.0, torch.tensor([1.0, -1.0])
    values[0, 3, 3, 3] = 1.0
    values[0, 1, 3, 3] = 100.0  # air
    assert spread(values, BODY)[0, :3].tolist() == pytest.approx([1, 0, math.log(2) / math.log(12)])
    assert torch.isnan(spread(values, BODY)[0, 3])
    assert over_body(values, BODY)[0, :3].sum(1).tolist() == pytest.approx([1, 1, 1])


def test_likeness_of_maps() -> None:
    apart = torch.eye(4).reshape(1, 4, 2, 2)
    assert likeness(apart).tolist() == [0]
    assert likeness(torch.stack([apart[:, 0], -2 * apart[:, 0]], 1)).tolist() == [1], "a map and its negative are alike"
    half = torch.tensor([[[[1.0, 0.0]], [[1.0, 1.0]]]])
    assert likeness(half).tolist() == pytest.approx([math.sqrt(0.5)])
    assert torch.isnan(likeness(half[:, :1])).all()


def test_maps_that_are_not_of_positions_are_refused() -> None:
    even = torch.full((1, 4, 4), 0.25)
    assert grid_of(Map("pairwise", even, "A", "map", grid=(2, 2))) == (2, 2)
    with pytest.raises(LabError, match=r"not the positions of one grid: map \(see Map.grid\)"):
        grid_of(Map("pairwise", even, "A", "map"))
    with pytest.raises(LabError, match="not the positions of one grid"):
        grid_of(Map("pairwise", torch.full((1, 4, 2), 0.5), "A", "map", grid=(2, 2)))
    with pytest.raises(LabError, match="no shares, which sum to 1"):
        grid_of(Map("pairwise", 2 * even, "A", "map", grid=(2, 2)))
    assert not attends(Map("stack", even[None], "A", "map")) and not attends(Map("pairwise", even - 0.5, "A", "map"))
