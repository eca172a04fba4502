"""DC2Anet: two updates put together by hand, heads that rest, memories of Adam, its further losses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.joint import a_batch, built, one_step
from tests.pairs import WAYS, WEIGHTS, terms_of
from xmod_lab.errors import LabError
from xmod_lab.losses.similarity import dissimilarity, feature_difference, structural_similarity
from xmod_lab.methods import METHODS
from xmod_lab.models.blocks import count_parameters
from xmod_lab.models.critic import HybridCritic
from xmod_lab.train import Update, enter


class AllKept:
    """An `update` that changes nothing and keeps names and losses in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[tuple[str, ...], Tensor]] = []

    def __call__(self, loss: Tensor, *names: str) -> None:
        self.calls.append((names, loss))


def test_the_hybrid_critic_shares_its_middle() -> None:
    critic = HybridCritic(1)
    assert count_parameters(critic.middle) == 2_755_200
    critic, images = HybridCritic(1, 4), {"pair": torch.randn(2, 2, 64, 64), "single": torch.randn(2, 1, 64, 64)}
    for kind, image in images.items():
        names, parameters = zip(*critic.named_parameters(), strict=True)
        scores = critic(image, kind)
        slopes = torch.autograd.grad(scores.square().sum(), parameters, allow_unused=True)
        reached = {name for name, slope in zip(names, slopes, strict=True) if slope is not None}
        other = {"pair": "single", "single": "pair"}[kind]
        assert scores.shape == (2, 1, 3, 3) and reached == {name for name in names if other not in name}


def test_dc2anets_two_updates_by_hand() -> None:
    method, kept, batch = built("dc2anet"), AllKept(), a_batch(paired=True)
    losses = one_step(method, update=kept, batch=batch).losses
    x = {m: s.image for m, s in batch.items()}
    terms, critic = terms_of(method, x, "pair")
    alone, critic_alone = terms_of(method, x, "single")
    first = {name: weight * terms[name] for name, weight in WEIGHTS.items()}
    second = {f"{name}/single": WEIGHTS[name] * alone[name] for name in ("adversarial", "reconstruction")}
    critics = {"critic": critic, "critic/single": critic_alone}
    assert losses == pytest.approx(first | second | critics | {"change": terms["change"]}, rel=1e-4)
    assert [names for names, _ in kept.calls] == [
        ("critics", "pair"), ("generators",), ("critics", "single"), ("generators",)
    ]  # fmt: skip
    totals = [critic, sum(first.values()), critic_alone, sum(second.values())]
    assert [loss.item() for _, loss in kept.calls] == pytest.approx(totals, rel=1e-4)


def test_a_head_rests_while_the_other_is_taught() -> None:
    method = built("dc2anet")
    update, moved = Update(method.stages()[0].optimisers), []

    def watching(loss: Tensor, *names: str) -> None:
        before = {k: v.detach().clone() for k, v in method.named_parameters()}
        update(loss, *names)
        now = {k for k, v in method.named_parameters() if not torch.equal(v, before[k])}
        moved.append({(".".join(k.split(".")[2:4]) if k.startswith("critics") else "generators") for k in now})

    one_step(method, update=watching, batch=a_batch(paired=True))
    middle = {"middle.0", "middle.1", "middle.3", "middle.4", "middle.6", "middle.7"}
    heads = [{f"first.{kind}", f"last.{kind}"} for kind in ("pair", "single")]
    trained = [part - middle for part in moved]
    assert trained == [heads[0], {"generators"}, heads[1], {"generators"}]
    assert all(moved[i] & middle for i in (0, 2)), "what they share is taught twice"


def test_one_memory_or_two() -> None:
    batch, states = a_batch(paired=True), []
    for shared in (True, False):
        method = built("dc2anet", shared_adam=shared)
        update = Update(method.stages()[0].optimisers)
        one_step(method, update=update, batch=batch)
        steps = {n: {int(s["step"]) for s in o.state_dict()["state"].values()} for n, o in update.optimisers.items()}
        states.append(steps)
    assert states[0] == {"generators": {2}, "critics": {2}, "pair": {1}, "single": {1}}
    assert states[1] == dict.fromkeys((*states[0], "generators/single", "critics/single"), {1})


@pytest.mark.parametrize(
    ("ablation", "gone"),
    [
        ("cycle", {"reconstruction", "reconstruction/single"}),
        ("gradient", {"gradient_difference"}),
        ("similarity", {"similarity"}),
        ("unsupervised", {"critic/single", "adversarial/single", "reconstruction/single"}),
    ],
)
def test_ablations_of_dc2anet(ablation: str, gone: set[str]) -> None:
    whole, without = (
        one_step(built("dc2anet", **values), batch=a_batch(paired=True)).losses
        for values in ({}, METHODS["dc2anet"].cls.ablations[ablation])
    )
    assert set(whole) - set(without) == gone
    if ablation == "unsupervised":
        method = built("dc2anet", unsupervised=False)
        assert list(method.critics["A->B"].last) == ["pair"] and len(method.pools) == 2
        assert not any("single" in name for name in method.stages()[0].optimisers)


def test_similarity_by_hand_and_where_it_is_opposite() -> None:
    x = torch.rand(2, 1, 16, 16) * 2 - 1
    y = (x + 0.3 * torch.randn(x.shape)).clamp(-1, 1)
    s = structural_similarity(x, y, clamped=False)
    assert dissimilarity(x, y).item() == pytest.approx(1 - s.item(), abs=1e-6)
    assert dissimilarity(x, y, logarithm=True).item() == pytest.approx(-s.log().item(), abs=1e-5)
    assert dissimilarity(x, x).item() == pytest.approx(0, abs=1e-5)
    assert dissimilarity(x, -x).item() > 1 and dissimilarity(x, -x, logarithm=True).item() == pytest.approx(
        9.21, abs=0.01
    )
    for logarithm in (False, True):
        z = (-x).requires_grad_(True)
        (slope,) = torch.autograd.grad(dissimilarity(z, x, logarithm), z)
        assert slope.isfinite().all() and bool(slope.abs().sum()) is not logarithm
    losses = one_step(
        built("dc2anet", similarity="logarithm", similarity_weight=0.05), batch=a_batch(paired=True)
    ).losses
    assert 0 < losses["similarity"] <= 0.05 * 9.22


def test_a_perceptual_loss_by_hand() -> None:
    a, b = [torch.zeros(1, 2, 4, 4), torch.ones(1, 1, 2, 2)], [torch.full((1, 2, 4, 4), 3.0), torch.zeros(1, 1, 2, 2)]
    assert feature_difference(a, b).item() == 2.0
    method, batch = built("dc2anet", perceptual_weight=2.0), a_batch(paired=True)
    before = {k: v.clone() for k, v in method.encoder.state_dict().items()}
    kept = AllKept()
    losses = one_step(method, update=kept, batch=batch).losses
    expected = 0.0
    for way in WAYS:
        seen, wanted = (
            method.encoder(image)[0] for image in (method.generators[way](batch[way[0]].image), batch[way[-1]].image)
        )
        assert len(seen) == 4
        expected += sum((p - q).abs().mean().item() for p, q in zip(seen, wanted, strict=True)) / 4
    assert losses["perceptual"] == pytest.approx(2 * expected / 2, rel=1e-4) and "perceptual/single" not in losses
    enter(method, method.stages()[0])
    one_step(method, batch=batch)
    assert all(torch.equal(v, before[k]) for k, v in method.encoder.state_dict().items()), "it stays as it was drawn"
    assert not any(p.requires_grad for p in method.encoder.parameters())
    with pytest.raises(LabError, match="multiple of 16 pixels, these have 40"):
        built("dc2anet", size=40, perceptual_weight=1.0)
