"""The dilated residual FCN: layer table, shapes, gradients, and what its normalisation knows."""

from __future__ import annotations

import pytest
import torch

from xmod_lab.models.fcn import (
    MULTIPLES,
    SharedFCN,
    group_widths,
    kernel_weights,
    normalisation_state,
    normalisation_weights,
)
from xmod_lab.models.norm import DomainNorm2d, of_domains


def table(channels: int, classes: int, stride: int = 8) -> tuple[int, int]:
    """Kernel and normalisation weights at width 64, added up group by group: (in, out) of each convolution."""
    w = [16 * m for m in MULTIPLES]
    pairs = [(w[0], w[0])] * 2 + [(w[0], w[1]), (w[1], w[1])]
    for i in range(2, 8):
        pairs += [(w[i - 1], w[i]), (w[i], w[i]), (w[i], w[i]), (w[i], w[i])]
    pairs += [(w[7], w[8]), (w[8], w[8])]
    kernels = 9 * channels * w[0] + sum(9 * a * b for a, b in pairs)
    kernels += 9 * w[8] * stride**3 * classes + 25 * stride * classes * classes
    norms = sum(2 * a for a, _ in pairs) + 2 * w[8] + 2 * stride**3 * classes
    return kernels, norms


def test_parameters_of_the_paper() -> None:
    network = SharedFCN(3, 5, 64)
    assert (kernel_weights(network), normalisation_weights(network)) == table(3, 5) == (39_302_456, 21_216)


def test_a_domain_more_costs_its_normalisation_alone() -> None:
    one, three = SharedFCN(1, 4, 16), SharedFCN(1, 4, 16, domains=3)
    assert kernel_weights(one) == kernel_weights(three)
    count = [sum(p.numel() for p in n.parameters()) for n in (one, three)]
    assert count[1] - count[0] == 2 * normalisation_weights(one)


@pytest.mark.parametrize(("stride", "phase", "size"), [(8, True, 64), (4, True, 48), (4, False, 32), (8, False, 64)])
def test_shapes(stride: int, phase: bool, size: int) -> None:
    network = SharedFCN(1, 3, 16, stride=stride, phase=phase)
    features = network.features(torch.randn(2, 1, size, size))
    widths = group_widths(16)
    assert [f.shape[1] for f in features.values()] == widths
    assert all(features[str(g)].shape[2:] == (size // stride, size // stride) for g in range(4, 10))
    assert network.classify(features).shape == (2, 3, size, size)


def test_every_kernel_gets_a_gradient() -> None:
    network = SharedFCN(1, 3, 16, stride=4)
    network(torch.randn(2, 1, 32, 32)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters() if p.ndim == 4)


def test_a_shortcut_pads_new_channels_with_zeros_on_both_sides() -> None:
    block = SharedFCN(1, 2, 64).groups["2"][0]
    for parameter in block.body.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(2, 16, 8, 8)
    out = block.eval()(x)
    assert torch.equal(out[:, 8:24], x) and not out[:, :8].any() and not out[:, 24:].any()


def test_group_eight_is_dilated() -> None:
    network = SharedFCN(1, 2, 16)
    convolutions = {g: [m for m in n.modules() if isinstance(m, torch.nn.Conv2d)] for g, n in network.groups.items()}
    dilations = {g: {m.dilation for m in layers} for g, layers in convolutions.items()}
    assert dilations.pop("8") == {(2, 2)} and set.union(*dilations.values()) == {(1, 1)}


def test_normalisation_state_names_the_four_statistics() -> None:
    layer = DomainNorm2d(2, 2)
    layer.norms[1].weight.data = torch.tensor([2.0, 3.0])
    layer.norms[1].running_var.copy_(torch.tensor([4.0, 9.0]))
    assert normalisation_state(layer, 1).tolist() == [[2.0, 3.0], [0.0, 0.0], [0.0, 0.0], [2.0, 3.0]]


def test_a_batch_of_two_modalities_needs_to_say_so() -> None:
    network = SharedFCN(1, 2, 16, domains=2)
    with pytest.raises(ValueError, match="of_domains"):
        network(torch.randn(2, 1, 32, 32))
    with of_domains(network, [(0, 1), (1, 1)]):
        assert network(torch.randn(2, 1, 32, 32)).shape == (2, 2, 32, 32)
