"""Wasserstein losses by sign, and the gradient penalty where the gradient is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from xmod_lab.losses.adversarial import gradient_penalty, wasserstein_critic, wasserstein_generator
from xmod_lab.models.critic import StarCritic


def test_signs() -> None:
    real = torch.tensor([1.0, 3.0], requires_grad=True)
    fake = torch.tensor([0.0, 2.0], requires_grad=True)
    loss = wasserstein_critic(real, fake)
    assert loss.item() == -1.0
    up, down = torch.autograd.grad(loss, (real, fake))
    assert (up < 0).all() and (down > 0).all()  # a descent step raises scores of real images, lowers those of others
    (wish,) = torch.autograd.grad(wasserstein_generator(fake), fake)
    assert (wish < 0).all()  # and the generator raises its own


@pytest.mark.parametrize(("slope", "expected"), [(0.5, (0.5 * 16**0.5 - 1) ** 2), (0.25, 0.0), (0.0, 1.0)])
def test_penalty_of_a_linear_critic(slope: float, expected: float) -> None:
    """D(x) = slope * sum(x) over 16 pixels has gradient norm 4 slope everywhere."""
    images = torch.randn(3, 1, 4, 4), torch.randn(3, 1, 4, 4)
    found = gradient_penalty(lambda x: slope * x.sum((1, 2, 3)), *images)
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_gradient_of_the_penalty() -> None:
    """D(x) = a x: the penalty is (|a| - 1)^2, and its gradient in a, a second derivative of D, 2 (|a| - 1) a / |a|."""
    a = torch.tensor([2.0, -1.0, 2.0, 4.0], requires_grad=True)
    loss = gradient_penalty(lambda x: x.flatten(1) @ a, torch.randn(3, 1, 2, 2), torch.randn(3, 1, 2, 2))
    assert loss.item() == pytest.approx((5 - 1) ** 2, rel=1e-5)
    assert torch.autograd.grad(loss, a)[0].tolist() == pytest.approx([2 * 4 * v / 5 for v in (2, -1, 2, 4)], rel=1e-5)


def test_gradient_of_the_penalty_by_differences() -> None:
    """A critic with a bend: the slope in one weight against a central difference of the penalty."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Softplus(), nn.Linear(3, 1)).double()
    images = [torch.randn(2, 1, 2, 2).double() for _ in range(2)]
    share = torch.tensor([0.3, 0.8])

    def penalty() -> Tensor:
        return gradient_penalty(lambda x: layers(x.double()), *images, share)

    weight = layers[1].weight
    (slope,) = torch.autograd.grad(penalty(), weight)
    for i, j in ((0, 0), (2, 3)):
        around = []
        for step in (1e-3, -1e-3):
            with torch.no_grad():
                weight[i, j] += step
            around.append(penalty().item())
            with torch.no_grad():
                weight[i, j] -= step
        assert slope[i, j].item() == pytest.approx((around[0] - around[1]) / 2e-3, rel=1e-2, abs=1e-4)


def test_penalty_is_taken_between_the_images() -> None:
    """D(x) = sum(x^2) / 2 has the image itself as gradient: share 1 is the real one, 0 the generated one."""
    real, fake = torch.full((1, 1, 2, 2), 2.0), torch.zeros(1, 1, 2, 2)
    for share, norm in ((1.0, 4.0), (0.0, 0.0), (0.5, 2.0)):
        found = gradient_penalty(lambda x: x.square().sum((1, 2, 3)) / 2, real, fake, torch.tensor([share]))
        assert found.item() == pytest.approx((norm - 1) ** 2)


def test_penalty_reaches_the_critic_and_not_the_generator() -> None:
    critic = StarCritic(1, 2, 16, 4, 2)
    made = torch.randn(2, 1, 16, 16, requires_grad=True)
    loss = gradient_penalty(lambda x: critic(x)[0], torch.randn(2, 1, 16, 16), made)
    weights = [p for p in critic.parameters() if p.ndim == 4]
    found = torch.autograd.grad(loss, [*weights, made], allow_unused=True)
    assert found[-1] is None
    assert all(g is not None and g.abs().sum() > 0 for g in found[: len(weights) - 1])  # all but the modality head


def test_penalty_lowers_the_slope() -> None:
    layer = nn.Linear(4, 1, bias=False)
    nn.init.constant_(layer.weight, 2.0)
    optimiser = torch.optim.SGD(layer.parameters(), 0.02)

    def step() -> Tensor:
        loss = gradient_penalty(lambda x: layer(x.flatten(1)), torch.randn(4, 1, 2, 2), torch.randn(4, 1, 2, 2))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        return loss

    first = step()
    for _ in range(300):
        last = step()
    assert last < 0.05 < first and layer.weight.norm().item() == pytest.approx(1, abs=0.1)


def test_critic_shapes_and_parameters() -> None:
    scores, classes = StarCritic(1, 3, 48, 8)(torch.randn(2, 1, 48, 48))
    assert scores.shape == (2, 1, 3, 3) and classes.shape == (2, 3)
    official = StarCritic(1, 3, 128, 64, 6)
    widths = (1, 64, 128, 256, 512, 1024, 2048)
    by_hand = sum(16 * a * b + b for a, b in zip(widths, widths[1:], strict=False))
    by_hand += 9 * 2048 + 4 * 2048 * 3
    assert sum(p.numel() for p in official.parameters()) == by_hand == 44_743_616


def test_the_critics_signal_neither_fades_nor_grows() -> None:
    """He weights: the scores of unit noise keep about its size, where PyTorch's default leaves a hundredth."""
    torch.manual_seed(0)
    trunk = StarCritic(1, 3, 64, 16).trunk(torch.randn(8, 1, 64, 64))
    assert 0.3 < trunk.square().mean().sqrt() < 3
