"""SIFA's step put together by hand, whom each loss moves, the signs, the labels that nobody reads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.joint import Watched, a_batch, built, one_step
from xmod_lab.losses.segmentation import share_weighted_cross_entropy, squared_dice
from xmod_lab.methods.base import Clock
from xmod_lab.methods.sifa import pulled
from xmod_lab.train import Update, enter

Values = dict[str, float]


class Taken:
    """An `update` that changes nothing and keeps losses and gradients by the names of the call."""

    def __init__(self, method: Any):
        self.method, self.optimisers = method, method.stages()[0].optimisers
        self.losses: dict[tuple[str, ...], Tensor] = {}
        self.gradients: dict[str, Tensor | None] = {}

    def __call__(self, loss: Tensor, *names: str) -> None:
        self.losses[names] = loss
        moved = {p for name in names for g in self.optimisers[name].param_groups for p in g["params"]}
        weights = {name: p for name, p in self.method.named_parameters() if p in moved}
        found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True, retain_graph=True)
        self.gradients |= dict(zip(weights, found, strict=True))


def batch_of(each: int = 2, size: int = 32) -> dict[str, Any]:
    """Labels of A alone."""
    batch = a_batch("AB", each, size)
    return batch | {"B": batch["B"]._replace(label=None)}


def step(method: Any, batch: Any = None, progress: float = 0.5) -> tuple[Values, Taken]:
    enter(method, method.stages()[0])
    taken = Taken(method)
    torch.manual_seed(0)
    result = method.training_step(batch or batch_of(), Clock("adaptation", 0, progress), taken)
    return result.losses, taken


def score(found: Tensor, wanted: float) -> Tensor:
    return (found - wanted).square().mean()


def by_hand(method: Any, batch: Any) -> tuple[Values, Tensor, Tensor, Tensor]:
    """Terms, and equations 6, 7 and the critics' loss, every network called apart."""
    enter(method, method.stages()[0])
    x_s, x_t, label = batch["A"].image, batch["B"].image, batch["A"].label

    def encoded(image: Tensor, real: bool) -> Any:
        return method.encode(image, (len(image), 0) if real else (0, len(image)))

    made = method.generator(x_s)
    of_t, of_made = encoded(x_t, True), encoded(made, False)
    back, again = method.decoder(of_t[0], x_t), method.decoder(of_made[0], made)
    cycle = 10 * ((again - x_s).abs().mean() + (method.generator(back) - x_t).abs().mean())
    fools = {"B": score(method.target_critic(made), 1), "A": score(method.source_critic(back)[:, :1], 1)}
    values = {"adversarial": (fools["A"] + fools["B"]) / 2, "reconstruction": cycle / 2}
    segmentation, critics = 0.1 * (cycle + fools["A"]), torch.zeros(())
    for i, (level, m) in enumerate((("final", 0.1), ("early", 0.01))):
        head, critic = method.heads[level], method.mask_critics[level]
        real, fake = head(of_made[i]), head(of_t[i])
        values[f"segmentation/{level}"] = share_weighted_cross_entropy(real, label) + squared_dice(real, label)
        values[f"adversarial/{level}"] = score(critic(fake.softmax(1)), 1)
        segmentation = segmentation + (1, 0.1)[i] * values[f"segmentation/{level}"]
        segmentation = segmentation + m * values[f"adversarial/{level}"]
        real, fake = real.detach().softmax(1), fake.detach().softmax(1)
        values[f"critic/{level}"] = (score(critic(real), 1) + score(critic(fake), 0)) / 2
    values["adversarial/auxiliary"] = score(method.source_critic(back)[:, 1:], 1)
    back, again, shown = back.detach(), again.detach(), made.detach()
    told = [method.source_critic(image) for image in (x_s, back, again)]
    values["critic/B"] = (score(method.target_critic(x_t), 1) + score(method.target_critic(shown), 0)) / 2
    values["critic/A"] = (score(told[0][:, :1], 1) + score(told[1][:, :1], 0)) / 2
    values["critic/auxiliary"] = (score(told[2][:, 1:], 1) + score(told[1][:, 1:], 0)) / 2
    critics = torch.stack([v for name, v in values.items() if name.startswith("critic/")]).sum()
    values["critic"] = (values["critic/A"] + values["critic/B"]) / 2
    values["change"] = ((shown - x_s).abs().mean() + (back - x_t).abs().mean()) / 2
    segmentation = segmentation + 0.1 * values["adversarial/auxiliary"]
    return {k: v.item() for k, v in values.items()}, cycle + fools["A"] + fools["B"], segmentation, critics


def test_the_step_by_hand() -> None:
    """Losses, and the gradient of each network's weights: of equation 6 and of equation 7, none of the other's."""
    method, batch = built("sifa"), batch_of()
    found, taken = step(method, batch)
    values, translation, segmentation, critics = by_hand(method, batch)
    assert found == {name: pytest.approx(value, rel=1e-4, abs=1e-6) for name, value in values.items()}
    losses = dict.fromkeys(("generator", "decoder"), translation) | dict.fromkeys(("encoder", "heads"), segmentation)
    for network, part in method.named_children():
        if mine := dict(part.named_parameters()):
            loss = losses.get(network, critics)
            expected = torch.autograd.grad(loss, list(mine.values()), retain_graph=True)
            gradients = [taken.gradients[f"{network}.{name}"] for name in mine]
            assert all(g is not None for g in gradients)
            wanted, found_one = (torch.cat([g.flatten() for g in of]) for of in (expected, gradients))
            assert (found_one - wanted).norm() < 1e-3 * wanted.norm() > 0, network


def test_whom_each_update_moves() -> None:
    method = built("sifa")
    watched = Watched(method)
    one_step(method, 0, watched, batch_of())
    assert watched.seen == [
        (("translators", "segmenter"), {"generator", "decoder", "encoder", "heads"}),
        (("critics",), {"target_critic", "source_critic", "mask_critics"}),
    ]


def test_critics_reach_nobody_else_and_labels_do_not_reach_the_translators() -> None:
    method, batch = built("sifa"), batch_of()
    _, taken = step(method, batch)
    others = [p for name, p in method.named_parameters() if "critic" not in name]
    found = torch.autograd.grad(taken.losses[("critics",)], others, allow_unused=True)
    assert all(gradient is None for gradient in found), "critics see detached tensors"
    other = batch | {"A": batch["A"]._replace(label=torch.zeros_like(batch["A"].label))}
    _, without = step(built("sifa"), other)
    for name in taken.gradients:
        alike = torch.equal(taken.gradients[name], without.gradients[name])  # type: ignore[arg-type]
        if name.startswith(("generator.", "decoder.")):
            assert alike, name
        elif name == "heads.final.classify.weight":
            assert not alike


def test_each_network_passes_once_a_step() -> None:
    method, calls = built("sifa"), dict.fromkeys(("generator", "encoder", "decoder", "heads.final"), 0)
    for name in calls:
        def count(*_a: Any, name: str = name) -> None:
            calls[name] += 1

        method.get_submodule(name).register_forward_hook(count)
    one_step(method, 0, None, batch_of())
    assert calls == {"generator": 2, "encoder": 1, "decoder": 1, "heads.final": 1}, "the generator: of x_s and of x_ts"


def test_critics_learn_the_right_way_round_and_the_segmenter_answers() -> None:
    """One step of the critics alone raises what is real to them and lowers the rest; the segmenter raises its masks."""
    method, batch = built("sifa", pool=0), batch_of()
    enter(method, method.stages()[0])
    x = {m: batch[m].image for m in "AB"}

    def scores() -> dict[str, float]:
        with torch.no_grad():
            seen = method.look(x["A"], x["B"])
            pairs = {
                "target": (method.target_critic(x["B"]), method.target_critic(seen.to_target)),
                "source": (method.source_critic(x["A"])[:, :1], method.source_critic(seen.to_source)[:, :1]),
                "auxiliary": [method.source_critic(i)[:, 1] for i in (seen.source_again, seen.to_source)],
            }
            for i, (level, critic) in enumerate(method.mask_critics.items()):
                pairs[level] = critic(method.mask(seen.of_made[i])), critic(method.mask(seen.of_target[i]))
            return {name: (real.mean() - fake.mean()).item() for name, (real, fake) in pairs.items()}

    before, update = scores(), Update(method.stages()[0].optimisers)

    def critics_alone(loss: Tensor, *names: str) -> None:
        if names == ("critics",):
            update(loss, *names)

    for _ in range(3):
        method.training_step(batch, Clock("adaptation", 0, 0.5), critics_alone)
    after = scores()
    assert all(after[name] > before[name] for name in before), "real above generated"
    seen = method.look(x["A"], x["B"])
    fooled = score(method.mask_critics["final"](method.mask(seen.of_target[0])), 1)
    weight = method.heads["final"].classify.weight
    (gradient,) = torch.autograd.grad(fooled, [weight])
    with torch.no_grad():
        weight -= 0.01 * gradient / gradient.norm()
        masks = method.mask(method.look(x["A"], x["B"]).of_target[0])
        assert score(method.mask_critics["final"](masks), 1) < fooled


def test_labels_of_the_target_are_never_read() -> None:
    noise = torch.randint(0, 3, (2, 32, 32))
    found = [step(built("sifa"), batch_of() | {"B": a_batch()["B"]._replace(label=y)}) for y in (None, noise)]
    assert found[0][0] == found[1][0]
    for name, gradient in found[0][1].gradients.items():
        assert torch.equal(gradient, found[1][1].gradients[name])  # type: ignore[arg-type]


def test_two_losses_of_one_pass_stay_apart() -> None:
    a, b, x = (torch.nn.Parameter(torch.tensor([v])) for v in (2.0, 3.0, 5.0))
    both = pulled((a * b).sum(), [a], keep=True) + pulled((7 * a * b).sum(), [b, x])
    found = torch.autograd.grad(both, [a, b, x], allow_unused=True)
    assert [None if g is None else g.item() for g in found] == [3, 14, None]
