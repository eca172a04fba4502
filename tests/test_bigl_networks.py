"""BiGL's networks: where the attention sits, the sizes of the card, and what its critics can see."""

from __future__ import annotations

import pytest
import torch

from tests.joint import a_batch, built, one_step
from xmod_lab.errors import LabError
from xmod_lab.methods import METHODS
from xmod_lab.models.bigl import DualAttentionUNet, FeatureCritic, RowCritic, levels_for, map_critic, shown
from xmod_lab.models.blocks import count_parameters
from xmod_lab.models.unet import UNet


@pytest.mark.parametrize(
    ("size", "levels", "edge"), [(32, 1, 16), (48, 2, 12), (64, 2, 16), (96, 3, 12), (128, 3, 16), (192, 4, 12)]
)
def test_the_attention_has_12x12_positions_at_least(size: int, levels: int, edge: int) -> None:
    assert levels_for(size) == levels
    net = DualAttentionUNet(1, 3, size, 4).eval()
    assert net.positions == edge**2
    seen = net(torch.randn(1, 1, size, size), True)
    assert seen.logits.shape == (1, 3, size, size) and seen.position.shape == (1, edge**2, edge**2)
    assert seen.feature.shape == (1, 16, edge, edge) and seen.channel.shape == (1, 16, 16)


@pytest.mark.parametrize("size", [16, 20, 33])
def test_slices_too_small_for_it_are_refused(size: int) -> None:
    with pytest.raises(LabError, match=f"attention needs 12x12 positions, slices of {size} pixels"):
        levels_for(size)


def test_sizes_of_the_card() -> None:
    """At width 32 and 192 pixels: the U-Net's 7.76 million, the block's 1.18 and 0.38, the critics' 0.7 and 0.025."""
    net = DualAttentionUNet(1, 2, 192, 32)
    assert count_parameters(net) - count_parameters(net.attention) == count_parameters(UNet(1, 2, 32)) == 7_759_554
    assert net.attention.inner == 128 and round(count_parameters(net.attention.before) / 1e6, 2) == 1.18
    rest = count_parameters(net.attention) - count_parameters(net.attention.before)
    assert rest == 2 * 9 * 128**2 + 20_641 + 1 + 128 * 512 + 512
    assert count_parameters(FeatureCritic(128, 128)) == 24_833
    assert count_parameters(map_critic(144, 32)) == count_parameters(map_critic(128, 32)) == 693_217
    printed = built("bigl", size=192, width=32, **METHODS["bigl"].cls.presets["printed"])
    assert count_parameters(printed.critics["position/source"]) == 693_217
    (group,) = printed.stages()[1].optimisers["segmenter"].param_groups
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (5e-3, 0.9, 5e-4)
    assert printed.stages()[1].schedules["segmenter"](0.5) == pytest.approx(0.5**0.75)
    assert "critics" not in printed.stages()[1].schedules, "their rate stays"


def test_raw_maps_hardly_reach_a_critic() -> None:
    """What a critic says of maps of 1/N differs by far less than of those times N; a log tells still more."""
    method = built("bigl")
    spread = {}
    with torch.no_grad():
        at = method.see({"t": a_batch("B")["B"].image}, True)["t"].position
        for scale in ("raw", "mean 1", "log"):
            hidden = method.critics["position/source"].trunk[0](shown(at, scale))
            spread[scale] = hidden.std((0, 2, 3)).mean().item()
    assert spread["mean 1"] == pytest.approx(256 * spread["raw"], rel=1e-3)
    assert shown(at, "mean 1").mean().item() == pytest.approx(1, rel=1e-4)
    assert torch.allclose(shown(at, "log").exp(), shown(at, "mean 1"), rtol=1e-3, atol=1e-3)


def test_rows_are_judged_without_their_order() -> None:
    critic, maps = RowCritic(9, 8), torch.rand(2, 1, 5, 9)
    assert torch.equal(critic(maps[..., torch.randperm(9)]), critic(maps)) and critic(maps).shape == (2, 1, 5, 1)
    method = built("bigl", map_critic="rows")
    losses = one_step(method, 1, None, a_batch()).losses
    assert all(torch.tensor(v).isfinite() for v in losses.values()) and "critic/channel" in losses
