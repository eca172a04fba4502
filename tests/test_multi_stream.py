"""Multi-V4: parameters by adding up, what is shared, and that a stream learns alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.joint import a_batch, built
from xmod_lab.errors import LabError
from xmod_lab.losses.segmentation import cross_entropy
from xmod_lab.models.blocks import count_parameters
from xmod_lab.models.multi_stream import MultiStream
from xmod_lab.models.unet import LEVELS, UNet, level_widths


def double(a: int, b: int) -> int:
    return 9 * a * b + b + 9 * b * b + b


@pytest.mark.parametrize(("share", "expected"), [(3, 57_696_390), (4, 64_776_326)])
def test_parameters_with_three_modalities(share: int, expected: int) -> None:
    w = [1, *level_widths(64)]
    levels = [double(w[i], w[i + 1]) for i in range(5)]  # four levels and the centre
    decoder = sum(8 * n * n + n + double(2 * n, n) for n in w[1 : LEVELS + 1]) + 2 * 64 + 2
    by_hand = 3 * (sum(levels[:share]) + decoder) + sum(levels[share:])
    assert count_parameters(MultiStream(("a", "b", "c"), 1, 2, 64, share)) == by_hand == expected


def test_one_stream_is_a_unet() -> None:
    assert count_parameters(MultiStream(("a",), 1, 2, 8, 3)) == count_parameters(UNet(1, 2, 8))


def used(network: MultiStream, stream: str) -> set[str]:
    """Names of the parameters that one stream's logits depend on."""
    loss = network(torch.randn(1, 1, 32, 32), stream).square().mean()
    names = [n for n, _ in network.named_parameters()]
    gradients: tuple[Tensor | None, ...] = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    return {n for n, g in zip(names, gradients, strict=True) if g is not None}


@pytest.mark.parametrize(("share", "expected"), [(2, {"shared", "centre"}), (3, {"shared", "centre"}), (4, {"centre"})])
def test_streams_share_from_the_level_said(share: int, expected: set[str]) -> None:
    network = MultiStream(("a", "b"), 1, 2, 4, share)
    both = used(network, "a") & used(network, "b")
    assert {n.split(".")[0] for n in both} == expected
    assert {n.split(".")[1] for n in used(network, "a") - both} == {"a"}
    assert len(network.shared) == LEVELS - share


def test_a_step_on_one_modality_leaves_the_others_stream() -> None:
    method, batch = built("multi_v4").train(), a_batch()
    optimiser = torch.optim.SGD(method.parameters(), 0.1)
    before = {k: v.clone() for k, v in method.state_dict().items()}
    cross_entropy(method.segment(batch["A"].image, "A"), batch["A"].label, None).backward()
    optimiser.step()
    changed = {k for k, v in method.state_dict().items() if not torch.equal(v, before[k])}
    assert not [k for k in changed if ".own.B." in k or ".decoders.B." in k]
    for part in (".own.A.", ".decoders.A.", ".shared.", ".centre."):
        assert any(part in k for k in changed), part


def test_shapes_and_unknown_modality() -> None:
    method = built("multi_v4").eval()
    assert method.segment(torch.randn(2, 1, 32, 48), "B").shape == (2, 3, 32, 48)
    with pytest.raises(LabError, match="not trained with 'CT'.*it knows A, B"):
        method.segment(torch.randn(1, 1, 32, 32), "CT")


def test_the_level_of_sharing_is_a_config_field() -> None:
    assert count_parameters(built("multi_v4", share_from=4)) > count_parameters(built("multi_v4"))
