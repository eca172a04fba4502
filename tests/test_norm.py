"""Normalisation by domain: the domains do not touch each other, and one batch is as good as two."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from xmod_lab.models.norm import DomainNorm2d, of_domains


def state_of(layer: DomainNorm2d, domain: int) -> dict[str, Tensor]:
    """Parameters and buffers of one domain, copied."""
    return {key: value.clone() for key, value in layer.norms[domain].state_dict().items()}


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture
def layer() -> DomainNorm2d:
    torch.manual_seed(0)
    found = DomainNorm2d(3, 2)
    for norm in found.norms:
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
    return found


def test_by_hand() -> None:
    """Values 1 and 3: mean 2, variance 1; the running variance takes the unbiased 2 at a tenth."""
    layer = DomainNorm2d(1, 2)
    with of_domains(layer, [(1, 2)]):
        found = layer(torch.tensor([1.0, 3.0]).view(2, 1, 1, 1))
    assert found.flatten().tolist() == pytest.approx([-(1.001**-0.5), 1.001**-0.5])
    norm = layer.norms[1]
    assert norm.running_mean.item() == pytest.approx(0.2) and norm.running_var.item() == pytest.approx(0.9 + 0.2)


def test_the_defaults_are_those_of_the_tensorflow_codes(layer: DomainNorm2d) -> None:
    assert all(norm.eps == 1e-3 and norm.momentum == 0.1 for norm in layer.norms)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_training_domain_0_leaves_domain_1_bit_identical(layer: DomainNorm2d, decay: float) -> None:
    """Parameters, running statistics and the count of batches; also where the loss is of both, but one is updated."""
    own, other = state_of(layer, 0), state_of(layer, 1)
    optimiser = torch.optim.Adam(layer.norms[0].parameters(), 0.1, weight_decay=decay)
    for _ in range(3):
        with of_domains(layer, [(0, 4)]):
            layer(5 + 2 * torch.randn(4, 3, 6, 6)).square().sum().backward()
        optimiser.step()
    assert equal(other, state_of(layer, 1))
    assert not any(torch.equal(value, state_of(layer, 0)[key]) for key, value in own.items())
    assert all(p.grad is None for p in layer.norms[1].parameters())


@pytest.mark.parametrize("training", [True, False])
def test_concatenated_equals_separate_passes(layer: DomainNorm2d, training: bool) -> None:
    """Outputs, gradients and running statistics, parts of unlike sizes and in any order of the domains."""
    apart, together = layer.train(training), copy.deepcopy(layer)
    x = [(i + torch.randn(n, 3, 5, 7)).requires_grad_() for i, n in enumerate((2, 3, 4))]
    parts = [(1, 2), (0, 3), (1, 4)]
    separate = []
    for piece, part in zip(x, parts, strict=True):
        with of_domains(apart, [part]):
            separate.append(apart(piece))
    with of_domains(together, parts):
        joined = together(torch.cat(x))
    assert torch.equal(joined, torch.cat(separate))
    assert all(equal(state_of(apart, d), state_of(together, d)) for d in (0, 1))
    weight = torch.randn_like(joined)
    first = torch.autograd.grad((torch.cat(separate) * weight).sum(), x)
    second = torch.autograd.grad((joined * weight).sum(), x)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(first, second, strict=True))


def test_in_evaluation_each_domain_uses_its_own_statistics(layer: DomainNorm2d) -> None:
    layer.norms[1].running_mean.fill_(5.0)
    x = torch.randn(2, 3, 4, 4)
    layer.eval()
    found = {}
    for domain in (0, 1):
        with of_domains(layer, [(domain, 2)]):
            found[domain] = layer(x)
        norm = layer.norms[domain]
        mean, var, weight, bias = (
            v.detach()[None, :, None, None] for v in (norm.running_mean, norm.running_var, norm.weight, norm.bias)
        )
        assert torch.allclose(found[domain], (x - mean) / (var + 1e-3).sqrt() * weight + bias, atol=1e-6)
    assert not torch.allclose(found[0], found[1])


@pytest.mark.parametrize("parts", [(), [(0, 3)], [(0, 2), (1, 3)], [(0, 5)]])
def test_wrong_parts_are_refused(layer: DomainNorm2d, parts: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="do not cover a batch of 4"), of_domains(layer, parts):
        layer(torch.randn(4, 3, 2, 2))


def test_an_unknown_domain_is_refused(layer: DomainNorm2d) -> None:
    with pytest.raises(IndexError), of_domains(layer, [(2, 4)]):
        layer(torch.randn(4, 3, 2, 2))


def test_parts_are_as_before_when_the_block_ends_or_fails(layer: DomainNorm2d) -> None:
    network = nn.Sequential(layer, DomainNorm2d(3, 2))
    with of_domains(network, [(0, 1)]):
        with pytest.raises(RuntimeError), of_domains(network, [(1, 4)]):
            assert all(m.parts == [(1, 4)] for m in network)
            raise RuntimeError
        assert all(m.parts == [(0, 1)] for m in network)
    assert all(m.parts == () for m in network)


def test_one_domain_is_plain_batch_normalisation_and_needs_no_parts() -> None:
    layer, plain, x = DomainNorm2d(3, 1), nn.BatchNorm2d(3, 1e-3, 0.1), torch.randn(4, 3, 5, 5)
    assert torch.equal(layer(x), plain(x))
    assert torch.equal(layer.norms[0].running_var, plain.running_var)
