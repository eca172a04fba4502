"""Wasserstein losses by sign, and the gradient penalty where the gradient is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from xmod_lab.losses.adversarial import (
    gradient_penalty,
    least_squares_critic,
    least_squares_generator,
    wasserstein_critic,
    wasserstein_generator,
)
from xmod_lab.models.blocks import count_parameters
from xmod_lab.models.critic import MultiScaleCritic, PatchCritic, StarCritic


def test_signs() -> None:
    real = torch.tensor([1.0, 3.0], requires_grad=True)
    fake = torch.tensor([0.0, 2.0], requires_grad=True)
    loss = wasserstein_critic(real, fake)
    assert loss.item() == -1.0
    up, down = torch.autograd.grad(loss, (real, fake))
    assert (up < 0).all() and (down > 0).all()  # a descent step raises scores of real images, lowers those of others
    (wish,) = torch.autograd.grad(wasserstein_generator(fake), fake)
    assert (wish < 0).all()  # and the generator raises its own


def test_least_squares_by_hand() -> None:
    """(0.5^2 + 2^2) / 2 of the real, (1 + 9) / 2 of the made ones; a critic that says one half of all has 0.25."""
    real, fake = torch.tensor([1.5, 3.0]), torch.tensor([[1.0], [-3.0]])
    assert least_squares_critic(real, fake).item() == 0.5 * (4.25 / 2 + 10 / 2)
    assert least_squares_generator(fake).item() == (0 + 16) / 2
    undecided = torch.full((3,), 0.5)
    assert least_squares_critic(undecided, undecided).item() == 0.25
    assert least_squares_critic(torch.ones(2), torch.zeros(2)).item() == least_squares_generator(torch.ones(2)) == 0


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


def test_patch_critics_of_the_cards() -> None:
    assert [count_parameters(PatchCritic(c)) for c in (3, 1)] == [2_764_737, 2_762_689]
    assert PatchCritic(1, 4)(torch.randn(2, 1, 256, 256)).shape == (2, 1, 30, 30)
    assert count_parameters(MultiScaleCritic(1)) == 8_265_027


@pytest.mark.parametrize("layers", [2, 3])
def test_a_patch_score_sees_34_or_70_pixels(layers: int) -> None:
    """The gradient of the middle score in the image, with the norms, which look at everything, taken out."""
    critic = PatchCritic(1, 4, layers)
    for name, module in critic.trunk.named_children():
        if isinstance(module, nn.InstanceNorm2d):
            setattr(critic.trunk, name, nn.Identity())
    image = torch.randn(1, 1, 128, 128, requires_grad=True)
    scores = critic(image)
    (found,) = torch.autograd.grad(scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2], image)
    rows = (found[0, 0].abs().sum(1) > 0).nonzero()
    assert int(rows.max() - rows.min()) + 1 == {2: 34, 3: 70}[layers]


@pytest.mark.parametrize("size", [32, 48, 64, 128])
def test_critics_take_all_sizes(size: int) -> None:
    image = torch.randn(2, 3, size, size)
    assert PatchCritic(3, 4)(image).shape == (2, 1, size // 8 - 2, size // 8 - 2)
    edges = [-(-size // 2**i) for i in range(3)]
    assert [s.shape for s in MultiScaleCritic(3, 4, 3, 3)(image)] == [(2, 1, e // 8, e // 8) for e in edges]


def test_each_scale_judges_half_the_image_before() -> None:
    critic, image = MultiScaleCritic(1, 4, 3, 2), torch.randn(1, 1, 32, 32)
    halves = [image, critic.halve(image), critic.halve(critic.halve(image))]
    for found, part, expected in zip(critic(image), critic.critics.children(), halves, strict=True):
        assert torch.equal(found, part(expected))
    assert torch.allclose(critic.halve(torch.ones(1, 1, 8, 8)), torch.ones(1, 1, 4, 4)), "its border is no darker"


def test_a_narrow_multi_scale_critic_tells_images_apart_at_first() -> None:
    """He weights: scores of unit noise vary by about one, where a standard deviation of 0.02 leaves next to nothing."""
    torch.manual_seed(0)
    fine = MultiScaleCritic(1, 8, 1, 4)(torch.randn(8, 1, 64, 64))[0]
    assert 0.3 < fine.std() < 3
