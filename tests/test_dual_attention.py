"""Dual attention: the fused kernel is taken and agrees with the map, what maps are, and the layer table's sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from xmod_lab.maps import record, replace
from xmod_lab.models import dual_attention
from xmod_lab.models.blocks import count_parameters
from xmod_lab.models.dual_attention import ChannelAttention, DualAttention, PositionAttention, attended, channel_map

FUSED = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
"""kernels that hold no map; with these alone allowed, falling back to the map is an error"""
MODES = ("paper", "released", "stabilised")


def position(channels: int = 16, gamma: float = 0.7) -> PositionAttention:
    torch.manual_seed(0)
    block = PositionAttention(channels)
    torch.nn.init.constant_(block.gamma, gamma)
    return block


def image(channels: int = 16, edge: int = 6, seed: int = 1) -> torch.Tensor:
    return torch.randn(2, channels, edge, edge, generator=torch.Generator().manual_seed(seed))


def gradients(block: PositionAttention, x: torch.Tensor, mapped: bool) -> tuple[torch.Tensor, list[torch.Tensor]]:
    x = x.clone().requires_grad_()
    out, _ = block(x, mapped)
    weight = torch.linspace(-1, 1, out.numel()).view_as(out)
    return out.detach(), list(torch.autograd.grad((out * weight).sum(), [x, *block.parameters()]))


@pytest.mark.parametrize("channels", [4, 16, 24])
def test_the_fused_kernel_gives_what_the_map_gives(channels: int) -> None:
    block, x = position(channels), image(channels)
    (a, ours), (b, theirs) = gradients(block, x, False), gradients(block, x, True)
    assert torch.allclose(a, b, atol=1e-5)
    assert len(ours) == 8 and all(g.abs().sum() > 0 for g in theirs[:3]), "queries learn"
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.allclose(mine, other, atol=1e-5 * max(1.0, other.abs().max().item()))


@pytest.mark.parametrize("channels", [8, 16])
def test_the_fused_kernel_is_really_taken(channels: int) -> None:
    """Where falling back is forbidden it runs, there and back; and the profiler sees the kernel by name."""
    block, x = position(channels), image(channels).requires_grad_()
    with sdpa_kernel(FUSED), torch.profiler.profile() as seen:
        block(x)[0].sum().backward()
    names = {event.key for event in seen.key_averages()}
    assert {n for n in names if "flash_attention" in n or "efficient_attention" in n}
    assert not [n for n in names if "softmax" in n or n == "aten::_scaled_dot_product_attention_math"]
    with torch.profiler.profile() as seen:
        block(x)
    assert [e.key for e in seen.key_averages() if "flash_attention" in e.key], "also where it is left the choice"
    with torch.profiler.profile() as seen:
        block(x, mapped=True)
    assert "aten::softmax" in {event.key for event in seen.key_averages()}


@pytest.mark.filterwarnings("ignore:Flash attention")
def test_unlike_heads_fall_back_without_a_word() -> None:
    """What the filling up with zeros is for: the same numbers, and no kernel that takes them."""
    q, k, v = torch.randn(2, 1, 9, 2), torch.randn(2, 1, 9, 2), torch.randn(2, 1, 9, 16)
    plain = torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=1.0)[:, 0]
    assert torch.allclose(attended(q[:, 0], k[:, 0], v[:, 0]), plain, atol=1e-5)
    with sdpa_kernel(FUSED), pytest.raises(RuntimeError, match=r"(?i)no (available|viable)"):
        torch.nn.functional.scaled_dot_product_attention(q, k, v, scale=1.0)


def test_products_are_not_divided_by_the_root_of_the_channels() -> None:
    q, k, v = torch.randn(1, 5, 4), torch.randn(1, 5, 4), torch.randn(1, 5, 8)
    assert torch.allclose(attended(q, k, v), (q @ k.mT).softmax(2) @ v, atol=1e-5)


def test_the_map_is_made_for_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    block, x = position(), image()
    assert block(x)[1] is None
    out, attention = block(x, mapped=True)
    assert attention is not None and attention.shape == (2, 36, 36)
    with record(block, "map") as seen:
        watched, _ = block(x)
    assert torch.equal(seen["map"][0], attention) and torch.equal(watched, out)
    with replace(block, "map", lambda a: torch.eye(36).expand_as(a)):
        alone = block(x)[0]
    own = block.value(x.movedim(1, 3)).movedim(3, 1)
    assert torch.allclose(alone, x + block.gamma * own, atol=1e-5), "each position for itself"
    monkeypatch.setattr(dual_attention, "position_map", None)
    assert torch.allclose(block(x)[0], out, atol=1e-5), "without being asked no map is made"


@pytest.mark.parametrize("mode", MODES)
def test_blocks_are_the_identity_at_first_and_rows_sum_to_one(mode: Any) -> None:
    x = image()
    for block in (PositionAttention(16), ChannelAttention(mode)):
        assert block.gamma.item() == 0
        out, attention = block(x, True) if isinstance(block, PositionAttention) else block(x)
        assert torch.equal(out, x)
        assert attention.min() >= 0 and torch.allclose(attention.sum(2), torch.ones(attention.shape[:2]), atol=1e-5)
    assert torch.equal(PositionAttention(16)(x)[0], x)


def test_moving_pixels_moves_the_map() -> None:
    """Positions have no place of their own: a permutation of the pixels permutes rows, columns and the output."""
    block, x = position(), image()
    order = torch.randperm(36, generator=torch.Generator().manual_seed(2))
    moved = x.flatten(2)[:, :, order].view_as(x)
    (out, a), (out_moved, b) = block(x, True), block(moved, True)
    assert torch.allclose(b, a[:, order][:, :, order], atol=1e-6)
    assert torch.allclose(out_moved.flatten(2), out.flatten(2)[:, :, order], atol=1e-5)
    channels = ChannelAttention()(x)[1]
    assert torch.allclose(ChannelAttention()(moved)[1], channels, atol=1e-4), "channels do not care"


def test_what_channels_look_at() -> None:
    """In the paper's form at themselves alone; in the released one never at themselves; stabilised at all of them."""
    x = torch.randn(1, 64, 16, 16, generator=torch.Generator().manual_seed(3))
    own = {mode: channel_map(x, mode).diagonal(dim1=1, dim2=2) for mode in MODES[:2]}  # type: ignore[arg-type]
    assert own["paper"].min() > 0.999
    assert own["released"].max() < 1e-6
    row = channel_map(x, "stabilised", 1.0)
    assert row.max() < 0.05 and row.argmax(2)[0].tolist() == list(range(64))
    sharp = channel_map(x, "stabilised", 100.0).diagonal(dim1=1, dim2=2)
    assert sharp.min() > 0.999, "the temperature says how sharply"
    energy = x.flatten(2) @ x.flatten(2).mT
    by_hand = (-energy).softmax(2)  # a constant a row changes no softmax
    assert torch.allclose(channel_map(x, "released"), by_hand, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_energies_keep_their_digits_under_autocast(mode: Any) -> None:
    block, x = ChannelAttention(mode), 4 * torch.randn(1, 8, 32, 32)
    plain, places = block(x)[1], position(8)(x, True)[1]
    with torch.autocast("cpu", torch.bfloat16):
        under, at = block(x)[1], position(8)(x, True)[1]
    assert under.dtype == torch.float32 and torch.equal(under, plain)
    assert at is not None and at.dtype == torch.float32 and torch.equal(at, places)
    assert torch.allclose(at.sum(2), torch.ones(1, 1024), atol=1e-5), "rows of bfloat16 would miss 1 by a hundredth"


def test_the_fused_kernel_keeps_its_digits_under_autocast() -> None:
    """Energies of bfloat16 would be off by whole units here; what is mixed by them is of bfloat16's three digits."""
    block, x = position(64), 8 * torch.randn(1, 64, 16, 16)
    with torch.no_grad():
        plain = block(x)[0] - x
        with torch.autocast("cpu", torch.bfloat16):
            under = block(x)[0] - x
    assert (under - plain).norm() < 0.008 * plain.norm()


def test_sizes_of_the_table() -> None:
    """DANet's head of 19 classes, 23.95 million with batch norms and three classifiers; BiGL's block at width 32."""
    assert count_parameters(PositionAttention(512)) == 328_321 and count_parameters(PositionAttention(256)) == 82_241
    assert [count_parameters(ChannelAttention(m)) for m in MODES] == [1, 1, 2]
    head = DualAttention(2048, 512)
    whole = count_parameters(head) - count_parameters(head.back) + 4 * 2 * 512 + 3 * (512 * 19 + 19)
    assert round(whole / 1e6, 2) == 23.95
    block = DualAttention(512, 128)
    assert count_parameters(block.before) == 2 * 9 * 512 * 128  # 1.18 million
    rest = count_parameters(block) - count_parameters(block.before)
    assert rest == 2 * 9 * 128 * 128 + count_parameters(PositionAttention(128)) + 1 + 128 * 512 + 512  # 0.38 million


@pytest.mark.parametrize("form", ["paper", "released"])
def test_the_block(form: Any) -> None:
    torch.manual_seed(0)
    block, x = DualAttention(16, 8, form, "stabilised"), image()
    found = block(x)
    inner = 16 if form == "paper" else 8
    assert found.out.shape == x.shape and found.feature.shape == (2, inner, 6, 6)
    assert found.position is None and found.channel.shape == (2, inner, inner)
    mapped = block(x, True)
    assert mapped.position is not None and mapped.position.shape == (2, 36, 36)
    assert torch.allclose(mapped.out, found.out, atol=1e-5)
    if form == "paper":
        assert torch.equal(found.out, 2 * x), "equation 3: both branches add x"
    else:
        a, b = (after(before(x)) for before, after in zip(block.before, block.after, strict=True))
        assert torch.allclose(found.feature, a + b, atol=1e-5) and torch.allclose(found.out, x + block.back(a + b))
    (found.out.square().mean() + mapped.position.square().sum()).backward()
    silent = {n for n, p in block.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    # values and the temperature wait for gamma to leave 0; the softmax of a row does not see its query's product with
    # the keys' bias
    late = {"position.value.weight", "position.value.bias", "position.key.bias", "channel.temperature"}
    assert silent <= late


@pytest.mark.parametrize("form", ["paper", "released"])
def test_the_block_without_attention(form: Any) -> None:
    """It is what the block with its convolutions is while both gammas are 0, and has all its other weights."""
    torch.manual_seed(0)
    whole, x = DualAttention(16, 8, form), image()
    after = torch.rand(1)
    torch.manual_seed(0)
    less = DualAttention(16, 8, form, attend=False)
    assert torch.rand(1) == after, "what is drawn next begins alike"
    gone = {key for key in whole.state_dict() if key.startswith(("position.", "channel."))}
    assert set(whole.state_dict()) == set(less.state_dict()) | gone and not gone & set(less.state_dict())
    assert all(torch.equal(v, whole.state_dict()[k]) for k, v in less.state_dict().items())
    inner = 16 if form == "paper" else 8
    assert count_parameters(whole) - count_parameters(less) == count_parameters(PositionAttention(inner)) + 1
    found, same = less(x, True), whole(x)
    assert found.position is None and found.channel is None
    assert torch.equal(found.out, same.out) and torch.equal(found.feature, same.feature)
    whole.position.gamma.data.fill_(0.5)
    assert not torch.allclose(whole(x).feature, found.feature, atol=1e-3)
