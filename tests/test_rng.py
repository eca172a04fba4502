"""Named random streams: stable, distinct, independent of what was drawn before."""

from __future__ import annotations

import hashlib

import torch
from hypothesis import given
from hypothesis import strategies as st

from xmod_lab.rng import numpy_rng, seed_of, torch_rng

PART = st.one_of(st.integers(-(10**9), 10**9), st.text(max_size=8))


def test_seed_is_the_hash_of_the_typed_parts() -> None:
    """Written out once by hand, so that a change of the naming (which would change every run) is noticed."""
    raw = (3).to_bytes(4, "little") + b"i42" + (5).to_bytes(4, "little") + b"sdraw"
    expected = int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "little") >> 1
    assert seed_of(42, "draw") == expected
    assert 0 <= expected < 2**63


def test_parts_do_not_run_together() -> None:
    names: list[tuple[int | str, ...]] = [("ab", "c"), ("a", "bc"), ("abc",), (1,), ("1",), (1, 1), (11,)]
    assert len({seed_of(*name) for name in names}) == 7


@given(st.lists(PART, max_size=4), st.lists(PART, max_size=4))
def test_equal_seeds_mean_equal_names(first: list[int | str], second: list[int | str]) -> None:
    assert (seed_of(*first) == seed_of(*second)) == (first == second)


def test_streams_repeat_and_do_not_share_state() -> None:
    before = numpy_rng(0, "a", 5).random(3)
    numpy_rng(0, "b").random(100)
    assert (numpy_rng(0, "a", 5).random(3) == before).all()
    assert (numpy_rng(0, "a", 6).random(3) != before).all()
    again = torch.rand(3, generator=torch_rng(0, "a", 5))
    torch.rand(100)
    assert torch.equal(torch.rand(3, generator=torch_rng(0, "a", 5)), again)
