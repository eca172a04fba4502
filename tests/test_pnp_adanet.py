"""PnP-AdaNet: stages, what each update moves, losses put together by hand, signs, batch statistics, maps."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.joint import JOINT, Kept, Watched, a_batch, built, one_step, problem_of, weights
from xmod_lab.errors import LabError
from xmod_lab.losses.segmentation import dice_cross_entropy
from xmod_lab.maps import over_image
from xmod_lab.methods import METHODS
from xmod_lab.methods.base import Clock, build_config
from xmod_lab.methods.pnp_adanet import PnPAdaNet
from xmod_lab.models.pnp import level_stack
from xmod_lab.train import Update, enter

SEGMENTATION, CRITICS, ADAPTATION = range(3)
OFFICIAL: dict[str, Any] = PnPAdaNet.presets["official"] | {"n_critic": 2, "more_critic": 4, "width": 8}


def ready(**config: Any) -> Any:
    """A method after one step of each of the first two stages."""
    method = built("pnp_adanet", **config)
    for stage in range(len(method.stages()) - 1):
        one_step(method, stage, batch=a_batch())
    return method


def test_what_each_stage_moves() -> None:
    method, batch = built("pnp_adanet"), a_batch()
    expected = [
        [(("segmenter",), {"segmenter"})],
        [(("critics",), {"critics"})],
        [(("critics",), {"critics"})] * 5 + [(("adapter",), {"adapter"})],
    ]
    for stage, calls in enumerate(expected):
        if stage == CRITICS:
            method._plug_in()  # its copy is no update
        watched = Watched(method, stage)
        one_step(method, stage, update=watched, batch=batch)
        assert watched.seen == calls
    assert [s.name for s in method.stages()] == ["segmentation", "critics", "adaptation"]


def test_the_warm_up_leaves_the_critic_of_masks_alone() -> None:
    method = built("pnp_adanet")
    one_step(method, SEGMENTATION, batch=a_batch())
    before = weights(method)
    one_step(method, CRITICS, batch=a_batch())
    moved = {".".join(k.split(".")[:2]) for k, v in weights(method).items() if not torch.equal(v, before[k])}
    assert {k for k in moved if not k.startswith("adapter")} == {"critics.features"}


def test_the_source_path_stays_bit_identical() -> None:
    """Weights, statistics and what comes of source images, after many steps of both later stages."""
    for config in ({}, {"running_statistics": True}, PnPAdaNet.ablations["clip"], {"depth": 9}):
        method, batch = built("pnp_adanet", **config), a_batch()
        one_step(method, SEGMENTATION, batch=batch)
        before = {k: v.clone() for k, v in method.segmenter.state_dict().items()}
        logits = method.eval().segment(batch["A"].image, "A")
        for stage in (CRITICS, ADAPTATION, ADAPTATION):
            one_step(method, stage, batch=batch)
        assert all(torch.equal(v, before[k]) for k, v in method.segmenter.state_dict().items())
        assert torch.equal(method.eval().segment(batch["A"].image, "A"), logits)
        assert not torch.equal(method.segment(batch["A"].image, "B"), logits), "the target's path did move"


def test_plugged_layers_begin_as_a_copy_once() -> None:
    method, x = built("pnp_adanet"), a_batch()["B"].image
    one_step(method, SEGMENTATION, batch=a_batch())
    assert torch.equal(method.eval().segment(x, "B"), method.segment(x, "A")), "before it is plugged in"
    assert not torch.equal(method.adapter["2"][0].body[0][0].weight, method.segmenter.groups["2"][0].body[0][0].weight)
    method._plug_in()
    assert method.plugged == 1 and torch.equal(method.segment(x, "B"), method.segment(x, "A"))
    one_step(method, ADAPTATION, batch=a_batch())
    moved = weights(method)
    one_step(method, CRITICS, batch=a_batch())
    assert all(torch.equal(v, moved[k]) for k, v in weights(method).items() if k.startswith("adapter")), "not again"


def mean_score(critic: nn.Module, x: Tensor) -> Tensor:
    return critic(x).mean()


def test_a_step_by_hand() -> None:
    """Both critics' gaps with weights 1 and 0.3, and the plugged layers' part against the same critics."""
    method, batch, kept = ready(), a_batch(seed=3), Kept()
    stage = method.stages()[ADAPTATION]
    enter(method, stage)
    losses = method.training_step(batch, Clock("adaptation", 0, 0.5), kept).losses
    real, fake = method.segmenter.see(batch["A"].image), method.see(batch["B"].image, "B")
    shown = {"features": (level_stack(real), level_stack(fake))}
    shown["mask"] = (real.logits.softmax(1), fake.logits.softmax(1))
    method.critics.eval()  # the singular vectors stay where they are
    total = torch.zeros(())
    for name, weight in (("features", 1.0), ("mask", 0.3)):
        s, t = shown[name]
        gap = weight * (mean_score(method.critics[name], t) - mean_score(method.critics[name], s))
        assert losses[f"critic/{name}"] == pytest.approx(gap.item(), rel=1e-2, abs=1e-4)
        total = total + gap
    assert kept.losses["critics"].item() == pytest.approx(total.item(), rel=1e-2, abs=1e-4)
    fooled = -mean_score(method.critics["features"], shown["features"][1])
    fooled = fooled - 0.3 * mean_score(method.critics["mask"], shown["mask"][1])
    assert kept.losses["adapter"].item() == pytest.approx(fooled.item(), rel=1e-4)
    assert 0 < losses["entropy/B"] < 1 and kept.losses["adapter"].requires_grad


def test_segmentation_step_by_hand() -> None:
    method, batch, kept = built("pnp_adanet"), a_batch(), Kept()
    one_step(method, SEGMENTATION, update=kept, batch=batch)
    expected = dice_cross_entropy(method.segmenter(batch["A"].image), batch["A"].label)
    assert kept.losses["segmenter"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_signs() -> None:
    """Critics learn to score the source above the target; the plugged layers to be scored higher. Not the reverse."""
    method, batch = ready(critic_rate=3e-3), a_batch(seed=1)
    update = Update(method.stages()[CRITICS].optimisers)
    gaps = [one_step(method, CRITICS, update=update, batch=batch).losses["critic/features"] for _ in range(60)]
    assert gaps[-1] < min(gaps[0], 0) - 0.05
    kept = Kept()
    one_step(method, ADAPTATION, update=kept, batch=batch)
    parameters = list(method.adapter.parameters())
    slopes = torch.autograd.grad(kept.losses["adapter"], parameters)
    length = torch.stack([v.norm() for v in slopes]).norm()

    def score_after(step: float) -> float:
        with torch.no_grad():
            for p, v in zip(parameters, slopes, strict=True):
                p -= step * v / length
            return mean_score(method.critics["features"], level_stack(method.see(batch["B"].image, "B"))).item()

    before, there, back = score_after(0.0), score_after(0.01), score_after(-0.02)
    assert there > before > back


def test_the_critics_see_detached_tensors() -> None:
    method, kept = ready(), Kept()
    one_step(method, ADAPTATION, update=kept, batch=a_batch())
    found = torch.autograd.grad(kept.losses["critics"], list(method.adapter.parameters()), allow_unused=True)
    assert not [g for g in found if g is not None]


def test_without_critics_only_statistics_adapt() -> None:
    """The control: weights of the plugged layers stay a copy, bit for bit; their running statistics become B's."""
    method = built("pnp_adanet", **PnPAdaNet.ablations["statistics"])
    assert [s.name for s in method.stages()] == ["segmentation", "adaptation"]
    one_step(method, 0, batch=a_batch())
    for _ in range(3):
        one_step(method, 1, batch=a_batch(seed=1))
    own = nn.ModuleDict({g: method.segmenter.groups[g] for g in method.adapter})
    assert all(torch.equal(p, q) for p, q in zip(method.adapter.parameters(), own.parameters(), strict=True))
    means = [k for k in own.state_dict() if k.endswith("running_mean")]
    assert means and not [k for k in means if torch.equal(own.state_dict()[k], method.adapter.state_dict()[k])]


@pytest.mark.parametrize("running", [False, True])
def test_which_statistics_the_critics_see(running: bool) -> None:
    method, batch = ready(running_statistics=running), a_batch(seed=2)
    enter(method, method.stages()[ADAPTATION])
    shown: list[Tensor] = []
    method.critics["mask"].register_forward_hook(lambda _m, given, _o: shown.append(given[0]))
    state = {k: v.clone() for k, v in method.state_dict().items()}
    method.training_step(batch, Clock("adaptation", 0, 0.0), Kept())
    assert method.adapter.training
    method.load_state_dict(state)
    of_batch = method.segment(batch["B"].image, "B").softmax(1)
    method.load_state_dict(state)
    method.adapter.eval()
    of_run = method.segment(batch["B"].image, "B").softmax(1)
    assert torch.allclose(shown[1], of_run if running else of_batch, atol=1e-6)
    assert torch.allclose(shown[-1], of_batch, atol=1e-6) and not torch.allclose(of_run, of_batch, atol=1e-3)


def test_the_official_step() -> None:
    """More turns as training goes on, kernels clipped after each of them, losses a five-hundredth."""
    method = ready(**OFFICIAL)
    assert [method.turns(t) for t in (0.0, 0.5, 1.0)] == [2, 4, 6]
    watched = Watched(method, ADAPTATION)
    losses = one_step(method, ADAPTATION, update=watched, batch=a_batch()).losses
    assert [names for names, _ in watched.seen] == [("critics",)] * 4 + [("adapter",)]
    assert all(p.abs().max() <= 0.03 for p in method.critics.parameters() if p.ndim > 1)
    assert max(p.abs().max() for p in method.critics.parameters() if p.ndim == 1) > 0.5, "kernels alone"
    kept = Kept()
    losses = one_step(method, ADAPTATION, update=kept, batch=a_batch()).losses
    parts = losses["adversarial/features"] + losses["adversarial/mask"]
    assert kept.losses["adapter"].item() == pytest.approx(0.002 * parts, rel=1e-5)
    assert {type(o).__name__ for o in method.stages()[ADAPTATION].optimisers.values()} == {"RMSprop"}
    assert not [k for k in method.critics.state_dict() if "running" in k], "critics have the batch's statistics only"


def test_maps_by_hand() -> None:
    method, batch = ready().eval(), a_batch()
    found = method.maps(batch)
    with torch.no_grad():
        seen = {m: method.see(batch[m].image, m) for m in "AB"}
        before = method.segmenter.see(batch["B"].image)
    image = batch["B"].image
    assert torch.allclose(found["features/B"].values, over_image(seen["B"].features["6"], image))
    assert torch.allclose(found["unplugged/B"].values, over_image(before.features["6"], image))
    assert not torch.allclose(found["features/B"].values, found["unplugged/B"].values) and "unplugged/A" not in found
    level = over_image(seen["A"].features["6"].abs().mean(1, keepdim=True), image)[:, 0]
    assert torch.allclose(found["levels/A"].values[:, 1], level)
    scores = method.critics["features"](level_stack(seen["A"]))
    assert torch.allclose(found["critic/features/A"].values, over_image(scores, image)[:, 0], atol=1e-5)
    assert found["features/A"].layer == "segmenter.taps.6"
    assert not [k for k in built("pnp_adanet", **OFFICIAL).eval().maps(batch) if k.startswith("critic")]


def test_what_it_refuses() -> None:
    cls = METHODS["pnp_adanet"].cls
    for problem, why in (
        (JOINT, "adapts from one labelled modality"),
        (dataclasses.replace(problem_of("pnp_adanet"), size=30), "a multiple of 4"),
    ):
        with pytest.raises(LabError, match=why):
            cls(build_config(cls, {"width": 8}), problem)
    for field, value in (("depth", 0), ("depth", 10), ("stride", 2), ("optimiser", "sgd")):
        with pytest.raises(LabError, match=f"{field} is .*known: "):
            built("pnp_adanet", **{field: value})
    with pytest.raises(LabError, match="cannot be shuffled into 4x4 pixels.*a width of 8"):
        built("pnp_adanet", planes=True)
