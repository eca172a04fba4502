"""U-Net, residual generator, content and style: parameter counts of the layer tables, shapes, gradients, padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from xmod_lab.maps import record
from xmod_lab.models.blocks import DoubleConv, count_parameters
from xmod_lab.models.content_style import ContentEncoder, ContentSegmenter, StyleDecoder, StyleEncoder, adapted
from xmod_lab.models.resnet import ResNetGenerator
from xmod_lab.models.unet import UNet, level_widths


@pytest.mark.parametrize(
    ("width", "classes", "expected"),
    [(64, 2, 31_030_658), (64, 5, 31_030_658 + 3 * 65), (32, 2, 7_759_554), (16, 3, 1_940_851)],
)
def test_parameter_count(width: int, classes: int, expected: int) -> None:
    """The card's 31,030,658 at width 64; the others by adding up the layer table here, by hand."""
    widths = level_widths(width)

    def double(a: int, b: int) -> int:
        return 9 * a * b + b + 9 * b * b + b

    table = double(1, widths[0]) + sum(double(widths[i], widths[i + 1]) for i in range(4))
    table += sum(4 * 2 * n * n + n + double(2 * n, n) for n in widths[:4]) + width * classes + classes
    assert count_parameters(UNet(1, classes, width)) == table
    assert table == expected


@pytest.mark.parametrize(("channels", "classes", "size"), [(1, 2, 32), (3, 5, 64), (1, 4, 48)])
def test_shapes(channels: int, classes: int, size: int) -> None:
    net = UNet(channels, classes, 4)
    assert net(torch.randn(2, channels, size, size)).shape == (2, classes, size, size)
    skips, coarse = net.encoder(torch.randn(2, channels, size, size))
    assert [tuple(s.shape[1:]) for s in skips] == [(4 * 2**i, size // 2**i, size // 2**i) for i in range(4)]
    assert coarse.shape == (2, 32, size // 16, size // 16)


def test_a_wrong_shape_is_refused_in_the_tests() -> None:
    with pytest.raises(Exception, match="(?s)x|shape"):
        UNet(1, 2, 4)(torch.randn(1, 16, 16))


def test_every_parameter_gets_a_gradient() -> None:
    net = UNet(1, 3, 4)
    net(torch.randn(2, 1, 32, 32)).square().mean().backward()
    silent = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # a bias before an instance norm without affine is removed by it: its gradient is zero up to rounding
    assert all(name.endswith("bias") for name in silent)


def test_dropout_acts_on_the_skip_copy_and_not_on_the_centre() -> None:
    net = UNet(1, 2, 4).train()
    x = torch.randn(1, 1, 32, 32)
    (first, a), (second, b) = net.encoder(x), net.encoder(x)
    assert torch.equal(a, b)
    assert all(torch.equal(p, q) for p, q in zip(first[:3], second[:3], strict=True))
    assert not torch.equal(first[3], second[3])
    net.eval()
    assert torch.equal(net(x), net(x))


def test_instance_norm_has_no_state() -> None:
    """No running statistics, no affine: a slice's result must not depend on what else is in the batch."""
    block = DoubleConv(1, 4).train()
    assert not list(block.buffers())
    x = torch.randn(3, 1, 8, 8)
    assert torch.allclose(block(x)[:1], block(x[:1]), atol=1e-6)


CYCLE = {"padding": "reflect", "affine": False, "strided": 3}


@pytest.mark.parametrize(
    ("channels", "options", "expected"),
    [
        (3, {"modalities": 5}, 8_430_528),
        (3, {"modalities": 3}, 8_424_256),
        (3, {"blocks": 9} | CYCLE, 11_378_179),
        (1, {"blocks": 9} | CYCLE, 11_365_633),
        (1, {"blocks": 6} | CYCLE, 7_825_153),
    ],
)
def test_residual_generators_of_the_cards(channels: int, options: dict[str, Any], expected: int) -> None:
    assert count_parameters(ResNetGenerator(channels, channels, **options)) == expected


@pytest.mark.parametrize("size", [32, 48, 64, 128])
def test_residual_generator_keeps_the_size_and_its_tap_has_a_quarter(size: int) -> None:
    for options in ({"modalities": 2}, {"modalities": 2, "film": True, "transposed": False}, CYCLE):
        net = ResNetGenerator(3, 1, width=4, **options)
        wanted = torch.tensor([0, 1]) if "modalities" in options else None
        with record(net, "bottleneck") as seen:
            found = net(torch.randn(2, 3, size, size), wanted)
        assert found.shape == (2, 1, size, size) and found.abs().max() <= 1
        assert seen["bottleneck"][0].shape == (2, 16, size // 4, size // 4) and not list(net.buffers())


@pytest.mark.parametrize(("padding", "visible"), [("zeros", True), ("reflect", False)])
def test_planes_are_visible_by_the_zeros_at_the_border_alone(padding: Any, visible: bool) -> None:
    """Relative change of the output when the other modality is wanted; instance norm removes a constant plane."""
    torch.manual_seed(0)
    net, image = ResNetGenerator(1, 1, 2, width=8, padding=padding), torch.randn(2, 1, 32, 32)
    first, second = (net(image, torch.full((2,), wanted)).detach() for wanted in (0, 1))
    change = float((first - second).square().mean().sqrt() / first.std())
    assert change > 0.1 if visible else change < 1e-3


def test_transposed_convolutions_begin_with_a_checkerboard_and_neighbours_do_not() -> None:
    """Of a blank image, inside, every pixel is alike but for the place in the pattern of four."""
    torch.manual_seed(0)
    uneven = {}
    for transposed in (True, False):
        net = ResNetGenerator(1, 1, width=8, padding="reflect", transposed=transposed)
        inside = torch.cat([net(torch.full((1, 1, 64, 64), 0.3) + 0.01 * torch.randn(1, 1, 64, 64)) for _ in range(8)])
        inside = inside[:, 0, 16:48, 16:48].detach()
        by_place = inside.unfold(1, 4, 4).unfold(2, 4, 4).mean((0, 1, 2))
        uneven[transposed] = float(by_place.std() / inside.std())
    assert uneven[True] > 3 * uneven[False]


def test_content_and_style_of_the_card() -> None:
    decoder = StyleDecoder(1)
    assert count_parameters(ContentEncoder(1)) == 5_379_584
    assert count_parameters(StyleEncoder(1)) == 2_758_664
    assert count_parameters(decoder.mlp) == 1_120_768
    assert count_parameters(decoder) - count_parameters(decoder.mlp) == 5_748_353


@pytest.mark.parametrize("size", [32, 48, 64, 128])
def test_content_and_style_shapes(size: int) -> None:
    image = torch.randn(2, 3, size, size)
    content, style = ContentEncoder(3, 4, 2)(image), StyleEncoder(3, 4)(image)
    assert content.shape == (2, 16, size // 4, size // 4) and style.shape == (2, 8)
    assert StyleDecoder(3, 4, 2)(content, style).shape == image.shape
    assert ContentSegmenter(5, 4)(content).shape == (2, 5, size, size)


def test_adaptive_normalisation_by_hand() -> None:
    """Values 0 and 2 have mean 1 and standard deviation 1: 3 (x - 1) + 10 is 7 and 13."""
    style = torch.tensor([[[3.0], [10.0]]])
    assert adapted(torch.tensor([[[[0.0, 2.0]]]]), style).flatten().tolist() == pytest.approx([7, 13], abs=1e-4)


def test_an_image_depends_on_its_own_style() -> None:
    torch.manual_seed(0)
    decoder, content, style = StyleDecoder(1, 4), torch.randn(1, 16, 8, 8).expand(2, -1, -1, -1), torch.randn(2, 8)
    both = decoder(content, style)
    assert torch.allclose(both[1:], decoder(content[1:], style[1:]), atol=1e-5)
    assert (both[0] - both[1]).abs().mean() > 0.05


def test_styles_of_unlike_images_differ_at_first_and_contents_norms_have_no_state() -> None:
    torch.manual_seed(0)
    dark, bright = torch.full((1, 1, 64, 64), -0.5), torch.full((1, 1, 64, 64), 0.8)
    encoder = StyleEncoder(1, 8)
    assert (encoder(dark) - encoder(bright)).norm() > 0.3
    assert not list(ContentEncoder(1, 4).buffers())
