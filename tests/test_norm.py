"""A normalisation a domain: what one of them learns leaves the others as they were."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from xmod_lab.models.norm import DomainNorm2d, of_domains


def test_updating_one_domain_leaves_the_other_bit_identical() -> None:
    layer = DomainNorm2d(4, 2)
    optimiser = torch.optim.SGD(layer.parameters(), 0.1)
    before = {k: v.clone() for k, v in layer.norms[1].state_dict().items()}
    with of_domains(layer, [(0, 6)]):
        out = layer(torch.randn(6, 4, 5, 5) * 3 + 2)
    (out.square().mean() + out.sum()).backward()
    optimiser.step()
    assert all(torch.equal(value, layer.norms[1].state_dict()[k]) for k, value in before.items())
    assert not torch.equal(layer.norms[0].running_mean, before["running_mean"])
    assert not torch.equal(layer.norms[0].bias, before["bias"])


def test_one_batch_of_two_domains_equals_two_passes() -> None:
    torch.manual_seed(0)
    together, apart = DomainNorm2d(3, 2), DomainNorm2d(3, 2)
    apart.load_state_dict(together.state_dict())
    a, b = torch.randn(4, 3, 5, 5) * 2 + 1, torch.randn(2, 3, 5, 5) - 4
    with of_domains(together, [(0, 4), (1, 2)]):
        both = together(torch.cat([a, b]))
    with of_domains(apart, [(0, 4)]):
        first = apart(a)
    with of_domains(apart, [(1, 2)]):
        second = apart(b)
    assert torch.equal(both, torch.cat([first, second]))
    for x, y in zip(together.state_dict().values(), apart.state_dict().values(), strict=True):
        assert torch.equal(x, y)


def test_training_centres_each_domain_on_its_own_mean() -> None:
    layer = DomainNorm2d(1, 2)
    x = torch.cat([torch.randn(8, 1, 9, 9) + 10, 5 * torch.randn(8, 1, 9, 9) - 10])
    with of_domains(layer, [(0, 8), (1, 8)]):
        out = layer(x)
    for part in out.split(8):
        assert part.mean().abs() < 1e-3 and abs(part.std().item() - 1) < 1e-2


def test_one_domain_needs_no_parts_and_equals_batch_normalisation() -> None:
    layer, plain = DomainNorm2d(2, 1), nn.BatchNorm2d(2, 1e-3, 0.1)
    x = torch.randn(3, 2, 4, 4)
    assert torch.equal(layer(x), plain(x))


@pytest.mark.parametrize("parts", [[], [(0, 2)], [(0, 2), (1, 2)]])
def test_parts_that_do_not_cover_the_batch_are_refused(parts: list[tuple[int, int]]) -> None:
    layer = DomainNorm2d(2, 2)
    with of_domains(layer, parts), pytest.raises(ValueError, match="do not cover a batch of 3"):
        layer(torch.randn(3, 2, 4, 4))


def test_parts_hold_inside_the_block_only() -> None:
    network = nn.Sequential(DomainNorm2d(2, 2), DomainNorm2d(2, 2))
    with pytest.raises(RuntimeError), of_domains(network, [(1, 3)]):
        assert [layer.parts for layer in network] == [[(1, 3)], [(1, 3)]]
        raise RuntimeError
    assert [layer.parts for layer in network] == [(), ()]
