"""PnP-AdaNet's networks: sizes of the paper, groups that are exchanged, what the critics are shown."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from tests.joint import problem_of
from xmod_lab.methods.base import build_config
from xmod_lab.methods.pnp_adanet import PnPAdaNet
from xmod_lab.models.blocks import count_parameters
from xmod_lab.models.pnp import LEVELS, MaskCritic, PlaneCritic, PluggedFCN, level_stack, plane_stack


def kernels(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters() if p.ndim > 1)


def test_sizes_of_the_paper() -> None:
    """39.30 million: trunk 27.50, head 11.80; the plugged groups 5.09; critics 21.7 and 1.10."""
    network = PluggedFCN(3, 5)
    plugged, features, mask = network.front(6), PlaneCritic(32, 64, 256), MaskCritic(5, 64, 256)
    assert kernels(network) == 39_302_456 and kernels(network.head) == 512 * 2560 * 9 + 40 * 5 * 25
    assert kernels(network.groups) == 27_500_976 and kernels(plugged) == 5_087_664
    assert (kernels(features), kernels(mask)) == (21_729_280, 1_098_448)
    assert [sum(isinstance(m, nn.Conv2d) for m in network.front(d).modules()) for d in (4, 6, 9)] == [13, 21, 31]


def test_the_authors_networks_at_a_small_size() -> None:
    problem = dataclasses.replace(problem_of("pnp_adanet"), size=128, channels=3, classes=tuple("abcd"))
    method: Any = PnPAdaNet(build_config(PnPAdaNet, PnPAdaNet.presets["official"] | {"width": 64}), problem)
    assert method.critics["features"].trunk[0].body[0][0].in_channels == 32
    assert method.segmenter.head[0].out_channels == 2560 and "3" in method.segmenter.pools
    assert count_parameters(method.adapter) == count_parameters(nn.ModuleList(method.segmenter.groups.values())[:6])


def test_blocks_are_post_activated_and_shortcuts_have_no_parameters() -> None:
    network = PluggedFCN(1, 2, 8, stride=4).eval()
    block = network.groups["3"][0]
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.zeros_(module.weight)
    x = torch.randn(1, 8, 4, 4)
    expected = nn.functional.leaky_relu(torch.cat([x, torch.zeros(1, 0, 4, 4)], 1), 0.2)
    assert block.padding[4:] == (0, 0) and torch.equal(block(x), expected)
    dilated = {n.split(".")[0] for n, m in network.groups.named_modules() if getattr(m, "dilation", 1) == (2, 2)}
    assert dilated == {"8"} and not [m for m in network.head if isinstance(m, nn.BatchNorm2d | nn.LeakyReLU)]


@pytest.mark.parametrize("depth", [1, 4, 6, 9])
def test_plugged_groups_and_no_others_are_exchanged(depth: int) -> None:
    network, x = PluggedFCN(1, 3, 8, 0.0, stride=4).eval(), torch.randn(2, 1, 32, 32)
    plugged = network.front(depth)
    same, own = network.see(x, dict(plugged.items())), network.see(x)
    assert torch.equal(same.logits, own.logits) and torch.equal(own.logits, network(x)), "a copy changes nothing"
    for group in plugged.values():
        nn.init.zeros_(next(p for p in group.parameters() if p.ndim == 4))
    other = network.see(x, dict(plugged.items()))
    assert not torch.equal(other.features["1"], own.features["1"])
    features = {g: f for g, f in other.features.items() if int(g) > depth}
    for group, values in features.items():
        before = other.features[str(int(group) - 1)]
        before = network.pools[str(int(group) - 1)](before) if str(int(group) - 1) in network.pools else before
        assert torch.equal(values, network.groups[group](before)), "later groups are the network's own"


def test_planes_by_hand() -> None:
    """Group 4 three times, then 6, 7 and 9 in pixels, the logits, and the number of the likeliest class."""
    network, x = PluggedFCN(1, 3, 16, 0.0, stride=4).eval(), torch.randn(2, 1, 32, 32)
    seen = network.see(x)
    found = plane_stack(seen)
    assert found.shape == (2, 6 + 4 + 8 + 8 + 3 + 1, 32, 32)
    first = seen.features["4"][:, :16].reshape(2, 4, 4, 8, 8).permute(0, 3, 1, 4, 2).reshape(2, 32, 32)
    assert all(torch.equal(found[:, i], first) for i in (0, 2, 4))
    assert torch.equal(found[:, 26:29], seen.logits) and torch.equal(found[:, 29], seen.logits.argmax(1).float())


def test_levels_by_hand() -> None:
    network, x = PluggedFCN(1, 3, 8, 0.0, stride=4).eval(), torch.randn(2, 1, 32, 32)
    seen = network.see(x)
    found = level_stack(seen)
    features = torch.cat([seen.features[g] for g in LEVELS], 1)
    assert torch.equal(found[:, :-3], features) and found.shape[2:] == (8, 8)
    p = seen.logits.softmax(1).reshape(2, 3, 8, 4, 8, 4).mean((3, 5))
    assert torch.allclose(found[:, -3:], p, atol=1e-6)
