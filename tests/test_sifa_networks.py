"""SIFA's networks by the authors' sizes, the encoder's two sets of statistics, and its losses of segmentation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from tests.joint import problem_of
from xmod_lab.losses.segmentation import share_weighted_cross_entropy, squared_dice
from xmod_lab.methods import METHODS
from xmod_lab.methods.base import build_config
from xmod_lab.models.blocks import count_parameters
from xmod_lab.models.critic import PatchCritic
from xmod_lab.models.norm import DomainNorm2d, of_domains
from xmod_lab.models.sifa import Block, ClassHead, SharedEncoder, SourceDecoder, StyleGenerator, _by_instance


def official(name: str, preset: str) -> Any:
    """At the authors' size and with their five classes, without numbers in the weights."""
    entry = METHODS[name]
    values = {"width": 64} | entry.overrides | entry.cls.presets[preset]
    with torch.device("meta"):
        return entry.cls(build_config(entry.cls, values), problem_of(name, size=256, classes=("a", "b", "c", "d")))


def test_the_authors_sizes() -> None:
    """Millions: 2.85, 27.52, 1.90, 0.005, 2.76, 2.77 and two of 2.77; 43.35 in all."""
    method = official("sifa", "official")
    sizes = {name: count_parameters(part) for name, part in method.named_children() if name != "read"}
    assert sizes == {
        "generator": 2_849_537, "encoder": 27_517_424, "decoder": 1_902_848, "heads": 2 * 2_560,
        "target_critic": 2_763_520, "source_critic": 2_771_712, "mask_critics": 2 * 2_767_616,
    }  # fmt: skip
    assert count_parameters(method) == sum(sizes.values()) == 43_345_393
    first = official("sifa_v1", "official_v1")
    assert count_parameters(first) == 43_345_393 - 2_560 - 2_767_616, "one head and one critic of masks less"
    assert first.config.dropout == 0.25 and first.config.segmenter_rate == 1e-3 and first.config.ramp
    path = method.encoder, method.heads["final"]
    assert round(sum(count_parameters(part) for part in path) / 1e6, 1) == 27.5, "what segments target images"


def test_counts_do_not_depend_on_how_sizes_are_doubled() -> None:
    for transposed in (False, True):
        assert count_parameters(StyleGenerator(1, transposed=transposed)) == 2_849_537
        assert count_parameters(SourceDecoder(512, 1, transposed=transposed)) == 1_902_848


@pytest.mark.parametrize(("size", "stride", "at"), [(48, 4, 12), (64, 4, 16), (64, 8, 8), (128, 4, 32), (256, 8, 32)])
def test_shapes(size: int, stride: int, at: int) -> None:
    x = torch.randn(2, 3, size, size)
    encoder = SharedEncoder(3, 4, stride).eval()
    with torch.no_grad(), of_domains(encoder, [(0, 2)]):
        final, early = encoder(x)
        image = SourceDecoder(encoder.features, 3, 4, stride)(final, x)
        logits = ClassHead(encoder.features, 5, stride)(early)
        made = StyleGenerator(3, 4, 2)(x)
    assert final.shape == early.shape == (2, encoder.features, at, at)
    assert image.shape == made.shape == x.shape and logits.shape == (2, 5, size, size)
    assert image.abs().max() <= 1 and made.abs().max() <= 1


def test_a_translation_is_the_image_and_what_is_added() -> None:
    generator, x = StyleGenerator(1, 4, 1), torch.randn(1, 1, 16, 16)
    nn.init.zeros_(generator.body[-1].weight)
    nn.init.constant_(generator.body[-1].bias, 0.5)
    assert torch.allclose(generator(x), torch.tanh(x + 0.5))


def test_new_channels_of_a_short_way_are_zeros_on_both_sides() -> None:
    block, x = Block(2, 6, _by_instance), torch.randn(1, 2, 4, 4)
    nn.init.zeros_(block.body[-1].weight)
    found = block(x)
    assert torch.equal(found[:, 2:4], x.relu()) and not found[:, :2].any() and not found[:, 4:].any()


def test_two_domains_share_scale_and_shift_and_no_statistics() -> None:
    torch.manual_seed(0)
    layer, x = DomainNorm2d(3, 2, shared=True), torch.randn(6, 3, 4, 4)
    x[4:] += 5
    assert count_parameters(layer) == 6
    with of_domains(layer, [(0, 4), (1, 2)]):
        found = layer(x)
    apart = torch.cat([nn.functional.batch_norm(part, None, None, training=True, eps=1e-3) for part in x.split([4, 2])])
    assert torch.allclose(found, apart, atol=1e-5)
    assert layer.norms[1].running_mean.min() > 0.4 > layer.norms[0].running_mean.max()
    (gradient,) = torch.autograd.grad(found.square().sum(), [layer.norms[0].weight])
    assert torch.allclose(gradient, 2 * found.square().sum((0, 2, 3)), rtol=1e-4), "of both domains' slices"


def test_a_critic_with_two_scores_and_wide_borders() -> None:
    x = torch.randn(2, 1, 64, 64)
    assert PatchCritic(1, 4, heads=2)(x).shape == (2, 2, 6, 6)
    assert PatchCritic(1, 4, padding=2)(x).shape == (2, 1, 11, 11)
    assert not any("bias" in name for name, _ in PatchCritic(1, 4, bias=False).named_parameters())


def test_share_weighted_cross_entropy_by_hand() -> None:
    """Three pixels of class 0 and one of class 1: weights 1/4 and 3/4, divided by the pixels and not by the weights."""
    p = torch.tensor([[0.9, 0.6, 0.5, 0.8], [0.1, 0.4, 0.5, 0.2]])
    logits, labels = p.log().view(1, 2, 2, 2), torch.tensor([[[0, 0], [0, 1]]])
    expected = -(0.25 * math.log(0.9 * 0.6 * 0.5) + 0.75 * math.log(0.2)) / 4
    assert share_weighted_cross_entropy(logits, labels).item() == pytest.approx(expected, rel=1e-5)
    assert share_weighted_cross_entropy(logits, labels, 0.3).item() == pytest.approx(
        -(0.25 * math.log(0.9 * 0.6 * 0.5) + 0.75 * math.log(0.3)) / 4, rel=1e-5
    )


@pytest.mark.parametrize("floor", [0.0, 0.005])
def test_below_the_floor_a_pixel_teaches_nothing(floor: float) -> None:
    p = torch.tensor([1 - 1e-6, 1e-6]).log().view(1, 2, 1, 1).expand(1, 2, 1, 2).clone().requires_grad_(True)
    share_weighted_cross_entropy(p, torch.tensor([[[1, 0]]]), floor).backward()
    assert p.grad is not None and bool(p.grad[0, :, 0, 0].any()) is (floor == 0)


def test_squared_dice_by_hand() -> None:
    """Two pixels, of class 0 and of class 1; the third class is absent and counts as it does in the code."""
    p = torch.tensor([[0.7, 0.2], [0.2, 0.7], [0.1, 0.1]])
    logits, labels = p.log().view(1, 3, 1, 2), torch.tensor([[[0, 1]]])
    each = 2 * 0.7 / (0.49 + 0.04 + 1)
    assert squared_dice(logits, labels).item() == pytest.approx(1 - 2 * each / 3, rel=1e-5)
    sure = 50 * nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    assert squared_dice(sure[:, :2], labels).item() == pytest.approx(0, abs=1e-6)
    assert squared_dice(sure, labels).item() == pytest.approx(1 / 3, abs=1e-6)
