"""UAGAN's generator and Multi-V4: parameters, who reads whom, and how a label survives instance normalisation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from xmod_lab.models.blocks import count_parameters
from xmod_lab.models.multi_stream import MultiStream
from xmod_lab.models.two_stream import AttentionalBlock, TwoStream
from xmod_lab.models.unet import LEVELS, level_widths


def double(a: int, b: int) -> int:
    return 9 * a * b + b + 9 * b * b + b


def decoder(width: int, out: int) -> int:
    return sum(8 * n * n + n + double(2 * n, n) for n in level_widths(width)[:LEVELS]) + width * out + out


def test_parameters_of_the_authors_form() -> None:
    w = level_widths(64)
    encoders = sum(double(a, b) for c in (1, 4) for a, b in zip([c, *w[:3]], w[:4], strict=True))
    blocks = 2 * sum(2 * (9 * n * n + n) for n in w[:4])
    by_hand = encoders + double(w[3], w[4]) + decoder(64, 2) + decoder(64, 1) + blocks
    assert count_parameters(TwoStream(1, 2, 3, 64, "plane")) == by_hand == 60_442_755


@pytest.mark.parametrize(("share", "expected"), [(3, 57_696_390), (4, 64_776_966)])
def test_parameters_of_multi_v4(share: int, expected: int) -> None:
    w = [1, *level_widths(64)]
    levels = [double(w[i], w[i + 1]) for i in range(5)]
    by_hand = 3 * (sum(levels[:share]) + decoder(64, 2)) + sum(levels[share:])
    found = count_parameters(MultiStream(("a", "b", "c"), 1, 2, 64, share))
    assert found == by_hand
    assert found == pytest.approx(expected, rel=1e-3)


def test_the_attentional_block_by_hand() -> None:
    """With zero kernels the gate is sigmoid(bias) and phi of a constant is zero after normalisation: O = F."""
    block = AttentionalBlock(2)
    own, other = torch.randn(1, 2, 6, 6), torch.randn(1, 2, 6, 6)
    gate = torch.sigmoid(block.gate(other))
    assert torch.allclose(block(own, other), own + gate * block.reduce(other))
    torch.nn.init.zeros_(block.reduce[0].weight)
    assert torch.allclose(block(own, other), own, atol=1e-4)


def test_ungated_blocks_add_everything() -> None:
    block = AttentionalBlock(2, gated=False)
    own, other = torch.randn(1, 2, 6, 6), torch.randn(1, 2, 6, 6)
    assert torch.equal(block(own, other), own + block.reduce(other))
    assert not [name for name, _ in block.named_parameters() if "gate" in name]


def reached(network: TwoStream, stream: str) -> set[str]:
    """Names of the parts that the output of one stream depends on."""
    loss = network(torch.randn(2, 1, 32, 32), torch.tensor([0, 1]))[stream].square().mean()
    names = [n for n, _ in network.named_parameters()]
    gradients = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    return {".".join(n.split(".")[:2]) for n, g in zip(names, gradients, strict=True) if g is not None and g.any()}


@pytest.mark.parametrize("stream", ["segmentation", "translation"])
@pytest.mark.parametrize("conditioning", ["film", "plane"])
def test_either_loss_reaches_both_encoders(stream: str, conditioning: str) -> None:
    found = reached(TwoStream(1, 2, 3, 4, conditioning), stream)
    assert {"encoders.segmentation", "encoders.translation", f"decoders.{stream}", f"blocks.{stream}"} <= found
    other = {"segmentation": "translation", "translation": "segmentation"}[stream]
    assert f"decoders.{other}" not in found and f"blocks.{other}" not in found


def test_without_fusion_the_streams_share_the_centre_alone() -> None:
    network = TwoStream(1, 2, 3, 4, fuse=False).eval()
    centre = {"centre.0", "centre.3"}
    assert reached(network, "segmentation") == centre | {"encoders.segmentation", "decoders.segmentation"}
    x = torch.randn(1, 1, 32, 32)
    first, second = (network(x, torch.tensor([m]))["segmentation"] for m in (0, 2))
    assert torch.equal(first, second)  # the wanted modality cannot matter
    fused = TwoStream(1, 2, 3, 4).eval()
    assert not torch.equal(*(fused(x, torch.tensor([m]))["segmentation"] for m in (0, 2)))


def test_flags_change_only_their_part() -> None:
    full = set(TwoStream(1, 2, 3, 4).state_dict())
    assert full - set(TwoStream(1, 2, 3, 4, fuse=False).state_dict()) == {k for k in full if k.startswith("blocks.")}
    assert full - set(TwoStream(1, 2, 3, 4, gated=False).state_dict()) == {k for k in full if ".gate." in k}


def change_by_label(conditioning: str) -> tuple[float, float]:
    """How far the wanted modality moves the output's centre and its border, over the output's deviation."""
    torch.manual_seed(0)
    network = TwoStream(1, 2, 3, 16, conditioning, bounded=False).eval()
    x = torch.randn(4, 1, 64, 64)
    with torch.no_grad():
        first, second = (network(x, torch.full((4,), m))["translation"] for m in (0, 1))
    change = (first - second).abs() / first.std()
    border = torch.ones(64, 64, dtype=torch.bool)
    border[2:-2, 2:-2] = False
    return change[..., 24:40, 24:40].mean().item(), change[..., border].mean().item()


def test_film_tells_the_centre_and_planes_tell_the_border_more() -> None:
    centre, _ = change_by_label("film")
    assert centre > 0.1
    weak, border = change_by_label("plane")
    assert weak < centre / 3 and border > weak


def test_gates_lie_between_zero_and_one_and_the_image_in_its_range() -> None:
    from xmod_lab.maps import record

    network = TwoStream(1, 2, 3, 4)
    with record(network, "*gate_tap") as seen:
        found = network(10 * torch.randn(2, 1, 32, 32), torch.tensor([0, 1]))
    assert len(seen) == 2 * LEVELS and all(g[0].min() > 0 and g[0].max() < 1 for g in seen.values())
    assert found["translation"].abs().max() <= 1
    assert found["segmentation"].shape == (2, 2, 32, 32)


def test_only_the_streams_asked_for_are_decoded() -> None:
    network = TwoStream(1, 2, 3, 4).eval()
    x, m = torch.randn(1, 1, 32, 32), torch.tensor([1])
    alone = network(x, m, ("segmentation",))
    assert set(alone) == {"segmentation"}
    assert torch.equal(alone["segmentation"], network(x, m)["segmentation"])


def test_multi_v4_shares_from_the_level_said() -> None:
    network = MultiStream(("a", "b"), 1, 2, 4, share_from=3)

    def used(stream: str) -> set[str]:
        loss = network(torch.randn(1, 1, 32, 32), stream).square().mean()
        names = [n for n, _ in network.named_parameters()]
        gradients: tuple[Tensor | None, ...] = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
        return {n for n, g in zip(names, gradients, strict=True) if g is not None}

    both = used("a") & used("b")
    assert {n.split(".")[0] for n in both} == {"shared", "centre"}
    assert {n.split(".")[1] for n in used("a") - both} == {"a"}
