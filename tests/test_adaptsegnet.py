"""AdaptSegNet: its step by hand, the control without a gradient, critics of the right sign, maps."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.joint import JOINT, Kept, Watched, a_batch, built, one_step, poisoned, problem_of, weights
from tests.tiny import make_tiny
from xmod_lab.data.prepare import prepare
from xmod_lab.errors import LabError
from xmod_lab.losses.adversarial import cross_entropy_critic, cross_entropy_generator
from xmod_lab.losses.segmentation import cross_entropy, dice_cross_entropy
from xmod_lab.methods import METHODS
from xmod_lab.methods.unet import SCHEDULES, UNetBaseline, UNetConfig
from xmod_lab.models.adaptsegnet import OutputCritic, TwoLevelUNet
from xmod_lab.models.blocks import count_parameters
from xmod_lab.models.unet import UNet
from xmod_lab.train import fit

ABLATIONS = METHODS["adaptsegnet"].cls.ablations
PRESETS = METHODS["adaptsegnet"].cls.presets


def adaptsegnet(**config: Any) -> Any:
    return built("adaptsegnet", **({"dropout": 0.0} | config))


def test_networks_have_the_sizes_of_the_card() -> None:
    for classes, count in ((19, 2_781_121), (5, 2_766_785)):
        assert count_parameters(OutputCritic(classes, 64, 5)) == count
    assert count_parameters(TwoLevelUNet(1, 2, 64)) == 31_030_658 + 258
    printed = built("adaptsegnet", size=64, **PRESETS["printed"] | {"width": 64}).critics["main"]
    assert count_parameters(printed) == count_parameters(OutputCritic(3, 64, 5))
    assert OutputCritic(3, 8)(torch.rand(2, 3, 64, 64)).shape == (2, 1, 4, 4)
    assert OutputCritic(3, 8, 5)(torch.rand(2, 3, 64, 64)).shape == (2, 1, 2, 2)
    assert not [m for m in printed.modules() if "Norm" in type(m).__name__]


def test_the_main_head_is_the_u_nets_and_the_lower_one_sees_half_the_size() -> None:
    torch.manual_seed(0)
    plain = UNet(1, 3, 4)
    torch.manual_seed(0)
    both, x = TwoLevelUNet(1, 3, 4).eval(), torch.randn(2, 1, 32, 32)
    found = both.levels(x)
    assert torch.equal(found["main"], plain.eval()(x)) and torch.equal(found["main"], both(x))
    skips, centre = both.encoder(x)
    before = both.decoder.features(both.centre(centre), skips)[-2]
    assert before.shape == (2, 8, 16, 16)
    expected = F.interpolate(both.lower(before), (32, 32), mode="bilinear")
    assert torch.allclose(found["lower"], expected, atol=1e-6)


def least_squares(scores: Tensor, wanted: float) -> Tensor:
    return (scores - wanted).square().mean()


@pytest.mark.parametrize("adversarial", ["cross_entropy", "least_squares"])
@pytest.mark.parametrize("dice", [True, False])
def test_the_step_by_hand(adversarial: str, dice: bool) -> None:
    method, batch = adaptsegnet(adversarial=adversarial, dice=dice, adversarial_weight=0.5), a_batch()
    kept = Kept()
    losses = one_step(method, 0, kept, batch).losses
    with torch.no_grad():
        known, other = (method.segmenter.levels(batch[m].image) for m in "AB")
        segmentation = dice_cross_entropy if dice else cross_entropy
        expected = {
            "segmentation": segmentation(known["main"], batch["A"].label),
            "segmentation/lower": 0.1 * segmentation(known["lower"], batch["A"].label),
        }
        for level, weight in (("main", 0.5), ("lower", 1e-2)):
            ours, theirs = (method.critics[level](of[level].softmax(1)) for of in (known, other))
            if adversarial == "cross_entropy":
                fooled, told = cross_entropy_generator(theirs), cross_entropy_critic(ours, theirs)
            else:
                fooled = least_squares(theirs, 1)
                told = 0.5 * least_squares(ours, 1) + 0.5 * least_squares(theirs, 0)
            expected |= {f"adversarial/{level}": weight * fooled, f"critic/{level}": told}
    assert {k: v for k, v in losses.items() if not k.startswith("entropy")} == {
        name: pytest.approx(value.item(), rel=1e-4) for name, value in expected.items()
    }
    for name, parts in (("segmenter", ("segmentation", "adversarial")), ("critics", ("critic",))):
        whole = sum(v.item() for k, v in expected.items() if k.startswith(parts))
        assert kept.losses[name].item() == pytest.approx(whole, rel=1e-4)
    p = other["main"].softmax(1)
    entropy = -(p * p.log()).sum(1).mean() / torch.tensor(3.0).log()
    assert losses["entropy/B"] == pytest.approx(entropy.item(), rel=1e-4)


@pytest.mark.parametrize("multi_level", [True, False])
def test_whom_each_update_moves(multi_level: bool) -> None:
    method, batch = adaptsegnet(multi_level=multi_level), a_batch()
    before, watched = weights(method), Watched(method)
    one_step(method, 0, watched, batch)
    assert watched.seen == [(("segmenter",), {"segmenter"}), (("critics",), {"critics"})]
    assert not [k for k, v in weights(method).items() if v.ndim == 4 and torch.equal(v, before[k])], "all kernels moved"
    assert list(method.critics) == (["main", "lower"] if multi_level else ["main"])
    assert not [p for p in method.parameters() if p.grad is not None]


def test_critics_are_shown_probabilities_without_a_way_back() -> None:
    method, shown = adaptsegnet(), []
    method.critics["main"].register_forward_pre_hook(lambda _m, args: shown.append(args[0]))
    one_step(method, 0, Kept(), a_batch())
    fooled, told = shown
    assert fooled.requires_grad and not told.requires_grad and len(told) == 4
    assert all(torch.allclose(p.sum(1), torch.ones(len(p), 32, 32), atol=1e-5) for p in shown)


@pytest.mark.parametrize("adversarial", ["cross_entropy", "least_squares"])
def test_critic_and_segmenter_pull_in_opposite_directions(adversarial: str) -> None:
    """The critic learns to say more of the source than of the target. Of the segmenter's loss only the adversarial term
    hangs on the target's image: down its slope the critic says more of it. Wrong signs would fail either."""
    method, batch, kept = adaptsegnet(multi_level=False, adversarial=adversarial, critic_rate=1e-2), a_batch(), Kept()
    batch["B"] = batch["B"]._replace(image=batch["B"].image * 0.1 + batch["B"].label[:, None])
    critic, update = method.critics["main"], Watched(method).update

    def score(m: str, more: float | Tensor = 0.0) -> float:
        with torch.no_grad():
            return critic(method.levels(batch[m].image + more)["main"].softmax(1)).mean().item()

    def critics_only(loss: Tensor, *names: str) -> None:
        if names == ("critics",):
            update(loss, *names)

    for _ in range(20):
        one_step(method, 0, critics_only, batch)
    assert score("B") + 0.1 < score("A")
    critic.patches.bias.data -= 3  # below 1, which is source to least squares
    image = batch["B"].image.requires_grad_(True)
    one_step(method, 0, kept, batch)
    (slope,) = torch.autograd.grad(kept.losses["segmenter"], image)
    down = 0.01 * slope / slope.abs().max()
    assert score("B", -down) > score("B") > score("B", down)


def test_only_the_target_feels_the_critics() -> None:
    """The adversarial terms hang on the target's images; those of the source reach the segmenter by their labels."""
    losses = {}
    for what in ("as it is", "other source", "other target"):
        batch = a_batch()
        m = {"other source": "A", "other target": "B"}.get(what)
        if m:
            batch[m] = batch[m]._replace(image=-batch[m].image)
        losses[what] = one_step(adaptsegnet(), 0, Kept(), batch).losses
    whole, source, target = losses.values()
    for level in ("main", "lower"):
        assert whole[f"adversarial/{level}"] == source[f"adversarial/{level}"] != target[f"adversarial/{level}"]
    assert whole["segmentation"] == target["segmentation"] != source["segmentation"]


def test_without_a_gradient_one_level_is_source_only_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dropout included; and with a gradient it is not."""
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    data = prepare(make_tiny(tmp_path, ("A", "B"), 8), None, 32)
    torch.manual_seed(0)
    plain = UNetBaseline(UNetConfig(width=4), problem_of("adaptsegnet"))
    fit(plain, "source_only", data, tmp_path / "plain", steps=5, batch=4, seed=0)
    expected = plain.networks["all"].state_dict()
    for name in ("single level, no gradient", "single level"):
        method = built("adaptsegnet", **ABLATIONS[name])
        fit(method, "adaptsegnet", data, tmp_path / name, steps=5, batch=4, seed=0)
        found = method.segmenter.state_dict()
        assert all(torch.equal(found[k], v) for k, v in expected.items()) == (name != "single level")


def test_without_a_gradient_two_levels_are_plain_training_with_two_heads() -> None:
    method, kept = adaptsegnet(**ABLATIONS["no gradient"]), Kept()
    losses = one_step(method, 0, kept, a_batch()).losses
    assert not [k for k in losses if k.startswith("adversarial")] and {"critic/main", "critic/lower"} <= set(losses)
    plain = losses["segmentation"] + losses["segmentation/lower"]
    assert kept.losses["segmenter"].item() == pytest.approx(plain, rel=1e-6)
    before = weights(method)
    one_step(method, 0, None, a_batch())
    moved = {k.split(".")[0] for k, v in weights(method).items() if not torch.equal(v, before[k])}
    assert moved == {"segmenter", "critics"}, "the critics still learn"


def test_labels_of_the_target_are_never_read() -> None:
    found = []
    for batch in (a_batch(), poisoned(a_batch()), a_batch() | {"B": a_batch()["B"]._replace(label=None)}):
        method = adaptsegnet()
        found.append((one_step(method, 0, None, batch).losses, weights(method)))
    for losses, after in found[1:]:
        assert losses == found[0][0] and all(torch.equal(v, found[0][1][k]) for k, v in after.items())


def test_unlike_shares_of_a_batch() -> None:
    batch = a_batch() | {"B": a_batch("B", 3)["B"]}
    losses = one_step(adaptsegnet(), 0, None, batch).losses
    assert all(torch.tensor(v).isfinite() for v in losses.values())


def test_presets_have_the_papers_optimisers_and_schedules() -> None:
    stages = {name: adaptsegnet(**PRESETS.get(name, {}), size=64).stages()[0] for name in ("default", *PRESETS)}
    for name, end in {"default": 0.1**0.9, "printed": 0.01, "official": 0.4**0.9}.items():
        falling = stages[name].schedules
        assert falling["segmenter"](1.0) == falling["critics"](1.0) == pytest.approx(end)
        group = stages[name].optimisers["segmenter"].param_groups[0]
        assert isinstance(stages[name].optimisers["segmenter"], torch.optim.SGD) == (name != "default")
        if name != "default":
            assert (group["lr"], group["momentum"], group["weight_decay"]) == (2.5e-4, 0.9, 5e-4)
            assert stages[name].optimisers["critics"].param_groups[0]["lr"] == 1e-4
    assert stages["default"].schedules["segmenter"](0.3) == SCHEDULES["poly"](0.3)
    config = adaptsegnet().config
    assert (config.adversarial_weight, config.lower_adversarial_weight, config.lower_weight) == (5e-2, 1e-2, 0.1)
    for preset in PRESETS.values():
        assert (preset["adversarial_weight"], preset["lower_adversarial_weight"]) == (1e-3, 2e-4)


def test_maps_by_hand() -> None:
    method, batch = adaptsegnet().eval(), a_batch()
    found = method.maps(batch)
    with torch.no_grad():
        logits = method.segmenter.levels(batch["B"].image)
        scores = method.critics["lower"](logits["lower"].softmax(1))
    assert torch.allclose(found["probability/B"].values, logits["main"].softmax(1), atol=1e-6)
    enlarged = F.interpolate(scores.sigmoid(), (32, 32), mode="bilinear")[:, 0]
    assert torch.allclose(found["critic/lower/B"].values, enlarged, atol=1e-6)
    assert found["critic/main/A"].span == (0.0, 1.0) and len(found) == 8
    squares = adaptsegnet(**ABLATIONS["single level, least squares"]).maps(batch)
    assert squares["critic/main/A"].span is None and not [key for key in squares if "lower" in key]


def test_what_it_cannot_do_is_refused() -> None:
    for change, said in (
        ({"labelled": ("A", "B"), "unlabelled": ()}, "one labelled modality to one without"),
        ({"labelled": ("A",), "unlabelled": ("B",), "size": 40}, "multiple of 16"),
        ({"labelled": ("A",), "unlabelled": ("B",), "size": 16}, "5 layers leave nothing of 16 pixels"),
    ):
        with pytest.raises(LabError, match=said):
            METHODS["adaptsegnet"].cls(
                METHODS["adaptsegnet"].cls.Config(width=4, critic_layers=5), dataclasses.replace(JOINT, **change)
            )
    with pytest.raises(LabError, match="adversarial is 'hinge'.*known: cross_entropy"):
        adaptsegnet(adversarial="hinge")
