"""Recording and replacing features by name, and what a Map accepts."""

from __future__ import annotations

import pytest
import torch

from xmod_lab.errors import LabError
from xmod_lab.maps import Map, class_entropy, record, replace
from xmod_lab.models.unet import UNet


def test_record_reads_the_named_taps_and_leaves_no_hook() -> None:
    net, x = UNet(1, 2, 4).eval(), torch.randn(1, 1, 32, 32)
    with record(net, "encoder.taps.*") as seen:
        net(x)
        net(x)
    assert sorted(seen) == [f"encoder.taps.{i}" for i in range(4)]
    assert [len(calls) for calls in seen.values()] == [2] * 4
    assert torch.equal(seen["encoder.taps.1"][0], net.encoder.levels[1](net.encoder.pool(net.encoder.levels[0](x))))
    net(x)
    assert len(seen["encoder.taps.0"]) == 2
    assert all(not module._forward_hooks for module in net.modules())


def test_replace_changes_the_output_only_inside_the_block() -> None:
    net, x = UNet(1, 2, 4).eval(), torch.randn(1, 1, 32, 32)
    before = net(x)
    with replace(net, "encoder.taps.0", torch.zeros_like):
        assert not torch.allclose(net(x), before)
    assert torch.equal(net(x), before)


def test_hooks_go_when_the_block_fails() -> None:
    net = UNet(1, 2, 4)
    with pytest.raises(RuntimeError), record(net, "centre_tap"):
        raise RuntimeError
    assert not net.centre_tap._forward_hooks


def test_a_pattern_without_match_lists_the_taps() -> None:
    with (
        pytest.raises(LabError, match=r"no module matches 'encoder.gate'.*encoder.taps.0"),
        record(UNet(1, 2, 4), "encoder.gate"),
    ):
        pass


@pytest.mark.parametrize(("kind", "shape"), [("stack", (1, 4, 4)), ("pairwise", (4, 4)), ("mask", (1, 1, 4, 4))])
def test_a_map_of_the_wrong_rank_is_refused(kind: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(LabError, match=f"a {kind} map has"):
        Map(kind, torch.zeros(shape), "T1", "somewhere")  # type: ignore[arg-type]


def test_entropy_of_one_class_even_classes_and_the_hand() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0], [100.0, 0.0, 0.0], [0.0, 0.0, -1e4]]).T[None, :, :, None]
    expected = torch.tensor([1.0, 0.0, torch.log(torch.tensor(2.0)) / torch.log(torch.tensor(3.0))])
    assert torch.allclose(class_entropy(logits)[0, :, 0], expected)


def test_a_grid_is_of_the_positions_of_a_pairwise_map() -> None:
    assert Map("pairwise", torch.zeros(1, 6, 6), "T1", "somewhere", grid=(2, 3)).grid == (2, 3)
    with pytest.raises(LabError, match=r"a pairwise map of 1x6x6 has no grid \(2, 2\)"):
        Map("pairwise", torch.zeros(1, 6, 6), "T1", "somewhere", grid=(2, 2))
    with pytest.raises(LabError, match="a stack map of 1x2x3x3 has no grid"):
        Map("stack", torch.zeros(1, 2, 3, 3), "T1", "somewhere", grid=(1, 2))
