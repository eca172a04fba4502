"""CSGAN: a model for each two modalities, its three stages, losses put together by hand, the mean of its segmenters."""

from __future__ import annotations

import pytest
import torch

from tests.joint import Kept, a_batch, built, changed, one_step, weights
from xmod_lab.losses.segmentation import dice_cross_entropy
from xmod_lab.methods import METHODS
from xmod_lab.train import clock_at, enter, stage_ends


def test_csgan_has_a_model_for_each_two_modalities() -> None:
    method = built("csgan", "ABC")
    ways = {"A->B", "B->A", "A->C", "C->A", "B->C", "C->B"}
    for networks in (method.generators, method.critics, method.networks):
        assert set(networks) == ways
    image = a_batch()["A"].image
    assert torch.equal(method.translate(image, "A", "C"), method.generators["A->C"](image))
    assert torch.equal(method.translate(image, "A", "A"), image)


@pytest.mark.parametrize(("stage", "moved"), [(0, {"networks"}), (1, {"generators", "critics"}), (2, {"networks"})])
def test_csgans_stages_train_their_own_networks(stage: int, moved: set[str]) -> None:
    method = built("csgan", "ABC")
    before = weights(method)
    one_step(method, stage)
    assert changed(method, before) == moved
    stages = method.stages()
    assert stages[0].optimisers["segmenters"] is stages[2].optimisers["segmenters"], "it goes on as it was"


def test_csgans_stages_fill_a_run() -> None:
    stages = built("csgan").stages()
    assert stage_ends(stages, 700) == [140, 560, 700] and stage_ends(stages, 2000) == [400, 1600, 2000]
    names = [clock_at(stages, 700, s)[1].stage for s in (0, 139, 140, 559, 560, 699)]
    assert names == ["segmentation"] * 2 + ["translation"] * 2 + ["refinement"] * 2


def test_csgans_translation_by_hand() -> None:
    """Two modalities: means over both directions of each term, with their weights 1, 10 and 1."""
    method, kept, batch = built("csgan"), Kept(), a_batch()
    losses = one_step(method, 1, kept, batch).losses
    x, y = {m: s.image for m, s in batch.items()}, {m: s.label for m, s in batch.items()}
    g, d, s = method.generators, method.critics, method.networks
    to = {"B": g["A->B"](x["A"]), "A": g["B->A"](x["B"])}
    critic = sum(0.5 * (d[w](x[w[-1]]) - 1).square().mean() + 0.5 * d[w](to[w[-1]]).square().mean() for w in d)
    assert losses["critic"] == pytest.approx(critic.item() / 2, rel=1e-5)
    adversarial = sum((d[w](to[w[-1]]) - 1).square().mean() for w in d)
    cycle = (g["B->A"](to["B"]) - x["A"]).abs().mean() + (g["A->B"](to["A"]) - x["B"]).abs().mean()
    shape = dice_cross_entropy(s["A->B"](to["B"]), y["A"]) + dice_cross_entropy(s["B->A"](to["A"]), y["B"])
    expected = {"adversarial": adversarial / 2, "reconstruction": 10 * cycle / 2, "shape": shape / 2}
    for name, value in expected.items():
        assert losses[name] == pytest.approx(value.item(), rel=1e-4), name


def test_csgans_shape_reaches_the_generators_only() -> None:
    method, batch = built("csgan").eval(), a_batch()
    without = METHODS["csgan"].cls.ablations["shape"]
    losses = [one_step(built("csgan", **values), 1, Kept(), batch).losses for values in ({}, without)]
    assert set(losses[0]) - set(losses[1]) == {"shape"}
    enter(method, method.stages()[1])
    made = method.translate(batch["A"].image, "A", "B")
    loss = dice_cross_entropy(method.networks["A->B"](made), batch["A"].label)
    kernels = [p for p in method.generators["A->B"].parameters() if p.ndim == 4]
    assert all(g.abs().sum() > 0 for g in torch.autograd.grad(loss, kernels))
    assert not any(p.requires_grad for p in method.networks.parameters()), "and not the segmenters, which are frozen"


def test_csgans_segmenters_by_hand() -> None:
    method, batch = built("csgan", dropout=0.0), a_batch()
    first, last = (one_step(method, stage, Kept(), batch).losses for stage in (0, 2))
    real = {w[-1]: dice_cross_entropy(method.networks[w](batch[w[-1]].image), batch[w[-1]].label).item()
            for w in method.networks}  # fmt: skip
    for m in "AB":
        assert first[f"segmentation/{m}"] == last[f"segmentation/{m}"] == pytest.approx(real[m], rel=1e-5)
    made = [dice_cross_entropy(method.networks[w](method.generators[w](batch[w[0]].image)), batch[w[0]].label).item()
            for w in method.networks]  # fmt: skip
    assert first["total"] == pytest.approx(sum(real.values()) / 2, rel=1e-5) and "synthetic" not in first
    assert last["synthetic"] == pytest.approx(0.5 * sum(made) / 2, rel=1e-5)
    assert last["total"] == pytest.approx(first["total"] + last["synthetic"], rel=1e-5)


def test_csgan_segments_with_the_mean_of_a_modalitys_segmenters() -> None:
    method, image = built("csgan", "ABC").eval(), a_batch()["A"].image
    with torch.no_grad():
        found = method.segment(image, "A")
        mean = (method.networks["B->A"](image).softmax(1) + method.networks["C->A"](image).softmax(1)) / 2
    assert torch.allclose(found.exp(), mean, atol=1e-6) and torch.allclose(found.softmax(1), mean, atol=1e-6)
    assert torch.allclose(found, mean.log(), atol=1e-4)


def test_csgans_maps_by_hand() -> None:
    method, batch = built("csgan").eval(), a_batch()
    found, x = method.maps(batch), a_batch()["A"].image
    with torch.no_grad():
        made = method.translate(x, "A", "B")
        seen, real = method.networks["A->B"](made).softmax(1), method.networks["B->A"](x).softmax(1)
    assert torch.allclose(found["probability/B/A"].values, seen, atol=1e-6)
    right = torch.stack([(seen[:, k] * (batch["A"].label == k)) for k in range(3)]).sum(0)
    assert torch.allclose(found["error/B/A"].values, 1 - right, atol=1e-6)
    assert torch.allclose(found["disagreement/B/A"].values, (seen - real).abs().sum(1) / 2, atol=1e-6)
    assert torch.allclose(found["residual/B/A"].values, (made - x).abs()[:, 0], atol=1e-6)
