"""UAGAN's generator: parameters, who reads whom, and how a label survives instance normalisation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from xmod_lab.models.blocks import count_parameters
from xmod_lab.models.two_stream import STREAMS, AttentionalBlock, TwoStream
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
    torch.manual_seed(0)
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


def test_parts_of_one_batch_do_not_mix() -> None:
    """The centre sees both streams in one call: each sample still comes out as it does alone."""
    network = TwoStream(1, 2, 3, 4).eval()
    x, m = torch.randn(3, 1, 32, 32), torch.tensor([0, 2, 1])
    together = network(x, m)
    for i in range(3):
        alone = network(x[i : i + 1], m[i : i + 1])
        assert all(torch.allclose(together[s][i : i + 1], alone[s], atol=1e-5) for s in STREAMS)


def test_flags_change_only_their_part() -> None:
    full = set(TwoStream(1, 2, 3, 4).state_dict())
    assert full - set(TwoStream(1, 2, 3, 4, fuse=False).state_dict()) == {k for k in full if k.startswith("blocks.")}
    assert full - set(TwoStream(1, 2, 3, 4, gated=False).state_dict()) == {k for k in full if ".gate." in k}


def change_by_label(conditioning: str, seed: int) -> tuple[float, float]:
    """Root mean square by which the wanted modality moves the output's centre and its border, over its deviation."""
    torch.manual_seed(seed)
    network = TwoStream(1, 2, 3, 16, conditioning, bounded=False).eval()
    x = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        first, second = (network(x, torch.full((2,), m))["translation"] for m in (0, 1))
    change = (first - second).square()
    border = torch.ones(64, 64, dtype=torch.bool)
    border[2:-2, 2:-2] = False
    return tuple((part.mean().sqrt() / first.std()).item() for part in (change[..., 16:48, 16:48], change[..., border]))


@pytest.mark.parametrize("seed", [0, 1])
def test_film_tells_the_centre_and_planes_tell_the_border(seed: int) -> None:
    """At initialisation. Instance normalisation takes a plane's constant away; zero padding leaks it at the border."""
    centre, border = change_by_label("film", seed)
    assert centre > 0.5 and border < 2 * centre
    centre, border = change_by_label("plane", seed)
    assert centre < 0.15 and border > 4 * centre


def test_an_instance_norm_undoes_a_plane_but_not_film() -> None:
    """Right after the first convolution and normalisation: away from the border planes change nothing at all."""
    planes, film = (TwoStream(1, 2, 3, 8, c).encoders["translation"] for c in ("plane", "film"))
    x = torch.randn(1, 1, 128, 128)
    one, other = torch.zeros(1, 3, 128, 128), torch.zeros(1, 3, 128, 128)
    one[:, 0], other[:, 1] = 1, 1
    start = nn.Sequential(*list(planes.levels[0])[:2])
    change = (start(torch.cat([x, one], 1)) - start(torch.cat([x, other], 1))).square()
    assert change[..., 1:-1, 1:-1].mean() < 0.01 * torch.cat([change[..., 0, :], change[..., 0]]).mean()
    normed = nn.Sequential(*list(film.levels[0])[:2])(x)
    first, second = (film.films[0][0](normed, torch.tensor([m])) for m in (0, 1))
    assert (first - second).square()[..., 1:-1, 1:-1].mean() > 0.1


def test_gates_lie_between_zero_and_one_and_the_image_in_its_range() -> None:
    from xmod_lab.maps import record

    network = TwoStream(1, 2, 3, 4)
    with record(network, "*gate_tap") as seen:
        found = network(10 * torch.randn(2, 1, 32, 32), torch.tensor([0, 1]))
    assert len(seen) == 2 * LEVELS and all(g[0].min() > 0 and g[0].max() < 1 for g in seen.values())
    assert found["translation"].abs().max() <= 1
    torch.nn.init.constant_(network.decoders["translation"].head.bias, 9.0)
    assert network(torch.randn(1, 1, 32, 32), torch.tensor([0]))["translation"].min() > 0.9
    network.bounded = False
    assert network(torch.randn(1, 1, 32, 32), torch.tensor([0]))["translation"].max() > 2  # as the authors' head
    assert found["segmentation"].shape == (2, 2, 32, 32)


def test_only_the_streams_asked_for_are_decoded() -> None:
    network = TwoStream(1, 2, 3, 4).eval()
    x, m = torch.randn(1, 1, 32, 32), torch.tensor([1])
    alone = network(x, m, ("segmentation",))
    assert set(alone) == {"segmentation"}
    assert torch.equal(alone["segmentation"], network(x, m)["segmentation"])
