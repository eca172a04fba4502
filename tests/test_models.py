"""U-Net: parameter counts of the layer table, shapes, gradients, dropout on the skip copy only."""

from __future__ import annotations

import pytest
import torch

from xmod_lab.models.blocks import DoubleConv, count_parameters
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
