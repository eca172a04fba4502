"""Every map says where it was taken: at modules that give tensors, so that they can be recorded and replaced."""

from __future__ import annotations

import contextlib

import pytest

from tests.joint import a_batch, built
from xmod_lab.maps import record
from xmod_lab.methods import METHODS


@pytest.mark.parametrize("name", METHODS)
def test_layers_of_maps_name_modules_that_give_tensors(name: str) -> None:
    """Each module that a layer names gives a tensor while the maps are made: containers and tuples cannot be replaced.
    Of the ablations, too, which have other networks."""
    for config in ({}, *METHODS[name].cls.ablations.values()):
        size = 64 if "low_resolution" in config else 32
        method, batch = built(name, size=size, **config).eval(), a_batch(size=size)
        layers = {one.layer for one in method.maps(batch).values()}
        with contextlib.ExitStack() as stack:
            seen = {layer: stack.enter_context(record(method, layer)) for layer in layers}
            method.maps(batch)
        silent = [f"{layer}: {place}" for layer, calls in seen.items() for place, found in calls.items() if not found]
        assert not silent, silent
