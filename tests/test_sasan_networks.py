"""SASAN's networks by the appendix, the normalisation, and equation 4."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from xmod_lab.losses.attention import gram, orthogonality
from xmod_lab.models.blocks import count_parameters
from xmod_lab.models.critic import PatchCritic
from xmod_lab.models.sasan import AttentionModule, SelfAttentiveNorm, Synthesis


def test_sizes_of_the_appendix() -> None:
    attention, synthesis = AttentionModule(3, 5), Synthesis(3)
    assert count_parameters(attention) == 2_427_925 and count_parameters(AttentionModule(3, 5, 16)) == 2_430_597
    assert count_parameters(synthesis) == 1_580_291 and count_parameters(synthesis.encoder) == 244_672
    assert [count_parameters(b) for b in synthesis.blocks] == [599_936, 502_208, 228_416]
    assert count_parameters(PatchCritic(3, 32, 3, extra=0)) == 167_649
    assert count_parameters(PatchCritic(5, 32, 3, extra=0, grow=False)) == 35_937
    assert count_parameters(PatchCritic(3, 64, 4, extra=0)) == 2_764_737, "the code's critic of images"


def test_shapes_of_the_appendix() -> None:
    x = torch.randn(1, 3, 256, 256)
    attention, synthesis = AttentionModule(3, 5, width=4), Synthesis(3, width=4)
    seen: list[tuple[int, ...]] = []
    for module in (attention.first, *attention.down, synthesis.encoder, *synthesis.blocks):
        module.register_forward_hook(lambda _m, _i, out: seen.append(tuple(out.shape[1:])))
    with torch.no_grad():
        maps, logits = attention(x)
        made = synthesis(x, maps)
        scores = PatchCritic(3, 4, 3, extra=0)(x)
    assert seen[:5] == [(4, 256, 256), (8, 128, 128), (8, 64, 64), (16, 32, 32), (32, 16, 16)]
    assert seen[5:] == [(16, 64, 64), (16, 64, 64), (8, 128, 128), (4, 256, 256)]
    assert maps.shape == (1, 8, 256, 256) and logits.shape == (1, 5, 256, 256)
    assert made.shape == x.shape and made.abs().max() < 1 and scores.shape == (1, 1, 31, 31)
    assert AttentionModule(1, 0, width=4)(x[:, :1])[1] is None


def test_constant_maps_normalise_like_instance_norm_with_scale_and_shift() -> None:
    torch.manual_seed(0)
    layer, x = SelfAttentiveNorm(6, 8), 3 * torch.randn(2, 6, 16, 16) + 1
    maps = torch.randn(2, 8, 1, 1).expand(-1, -1, 32, 32)
    with torch.no_grad():
        found = layer(x, maps)
        hidden = F.relu(layer.embed.weight.sum((2, 3)) @ maps[:, :, 0, 0].T + layer.embed.bias[:, None])
        gamma, beta = (layer.modulate.weight.sum((2, 3)) @ hidden + layer.modulate.bias[:, None]).T.chunk(2, 1)
        plain = F.instance_norm(x)
    expected = (1 + gamma)[..., None, None] * plain + beta[..., None, None]
    inner = (..., slice(2, -2), slice(2, -2))
    assert torch.allclose(found[inner], expected[inner], atol=1e-5)
    assert not torch.allclose(found, expected, atol=1e-3), "two convolutions see the zeros around the image"


def test_the_printed_normalisation_has_no_one() -> None:
    torch.manual_seed(0)
    layer, printed = SelfAttentiveNorm(3, 2), SelfAttentiveNorm(3, 2, shifted=False)
    printed.load_state_dict(layer.state_dict())
    x, maps = torch.randn(1, 3, 8, 8), torch.randn(1, 2, 8, 8)
    with torch.no_grad():
        assert torch.allclose(layer(x, maps) - printed(x, maps), F.instance_norm(x), atol=1e-5)


def test_maps_are_resized_by_nearest_neighbours() -> None:
    layer, x = SelfAttentiveNorm(3, 2), torch.randn(1, 3, 4, 4)
    maps = torch.randn(1, 2, 8, 8)
    with torch.no_grad():
        assert torch.equal(layer(x, maps), layer(x, maps[..., ::2, ::2]))


def test_without_modulation_the_generator_does_not_see_the_maps() -> None:
    generator = Synthesis(1, width=4)
    x, maps = torch.randn(1, 1, 32, 32), torch.randn(2, 1, 8, 32, 32)
    with torch.no_grad():
        assert not torch.allclose(generator(x, maps[0]), generator(x, maps[1]), atol=1e-3)
        for layer in generator.modules():
            if isinstance(layer, SelfAttentiveNorm):
                layer.modulate.weight.zero_(), layer.modulate.bias.zero_()
        assert torch.equal(generator(x, maps[0]), generator(x, maps[1]))


def test_orthogonality_of_disjoint_and_equal_maps() -> None:
    apart = torch.zeros(2, 4, 4, 4)
    for n in range(4):
        apart[:, n, n] = torch.tensor([0.5, -3.0])[:, None]  # neither size nor sign counts
    assert orthogonality(apart).item() == pytest.approx(0.0, abs=1e-6)
    one = torch.randn(1, 1, 4, 4)
    for n in (2, 8, 16):
        assert orthogonality(one.expand(3, n, 4, 4)).item() == pytest.approx(2.0, rel=1e-5)
    assert orthogonality(torch.cat([one, -one], 1)).item() == pytest.approx(2.0, rel=1e-5)


def test_orthogonality_by_hand() -> None:
    maps = torch.tensor([[[[3.0, 4.0]], [[1.0, 0.0]]]])  # cosine 3/5
    assert gram(maps)[0].tolist() == [pytest.approx([1.0, 0.6]), pytest.approx([0.6, 1.0])]
    assert orthogonality(maps).item() == pytest.approx(2 / 2 * 2 * 0.36)
    literal = ((25 - 1) ** 2 + 2 * 3**2 + 0) ** 0.5
    assert orthogonality(maps, literal=True).item() == pytest.approx(literal)
    assert orthogonality(torch.cat([maps, maps[:, :1].expand(-1, 2, -1, -1)])).item() == pytest.approx((0.72 + 2) / 2)


def test_recomputing_changes_memory_and_no_number() -> None:
    gradients, kept = [], []
    for recompute in (False, True):
        torch.manual_seed(0)
        generator, x, maps = Synthesis(1, width=4), torch.randn(1, 1, 32, 32), torch.randn(1, 8, 32, 32)
        held: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, h=held: h.append(t.numel()) or t, lambda t: t):
            loss = generator(x, maps, recompute).square().mean()
        kept.append(sum(held))
        gradients.append(torch.autograd.grad(loss, list(generator.parameters())))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert kept[1] < 0.6 * kept[0]
