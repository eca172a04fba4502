"""SIFA's step put together by hand, whom each loss moves, its versions, ablations and maps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.joint import Watched, a_batch, built, one_step, problem_of
from xmod_lab.errors import LabError
from xmod_lab.losses.segmentation import share_weighted_cross_entropy, squared_dice
from xmod_lab.maps import class_entropy, over_image
from xmod_lab.methods import METHODS
from xmod_lab.methods.base import Clock
from xmod_lab.methods.sifa import SCHEDULES, SIFA, pulled
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
    losses = {"generator": translation, "decoder": translation, "encoder": segmentation, "heads": segmentation}
    for name, parameter in method.named_parameters():
        loss = losses.get(name.split(".")[0], critics)
        (expected,) = torch.autograd.grad(loss, [parameter], retain_graph=True, allow_unused=True)
        gradient = taken.gradients[name]
        assert gradient is not None and expected is not None, name
        assert torch.allclose(gradient, expected, rtol=1e-3, atol=1e-5 + 1e-4 * expected.abs().max().item()), name


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
                "auxiliary": (method.source_critic(seen.source_again)[:, 1], method.source_critic(seen.to_source)[:, 1]),
            }
            for i, (level, critic) in enumerate(method.mask_critics.items()):
                pairs[level] = critic(method.mask(seen.of_made[i])), critic(method.mask(seen.of_target[i]))
            return {name: (real.mean() - fake.mean()).item() for name, (real, fake) in pairs.items()}

    before, update = scores(), Update(method.stages()[0].optimisers)
    for _ in range(3):
        method.training_step(batch, Clock("a", 0, 0.5), lambda loss, *n: update(loss, *n) if n == ("critics",) else None)
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


def test_the_masks_weight_of_the_first_version_rises() -> None:
    """Of 20 epochs: none until the fourth, a third after the fifth, whole from the seventh on; the second has none."""

    def gradient(name: str, progress: float, **config: Any) -> Tensor:
        method = built(name, dropout=0.0, **config)
        found = step(method, progress=progress)[1].gradients["heads.final.classify.weight"]
        assert found is not None
        return found

    without = gradient("sifa_v1", 0.9, mask_weights=(0.0, 0.0))
    whole = gradient("sifa_v1", 0.35) - without
    assert whole.abs().max() > 1e-7
    for progress, share in ((0.0, 0), (0.2, 0), (0.25, 1 / 3), (0.3, 2 / 3), (1.0, 1)):
        assert torch.allclose(gradient("sifa_v1", progress) - without, share * whole, atol=1e-7), progress
    assert torch.equal(gradient("sifa", 0.0), gradient("sifa", 1.0))


def test_the_versions() -> None:
    first, second = built("sifa_v1"), built("sifa")
    assert list(first.heads) == list(first.mask_critics) == ["final"] and list(second.heads) == ["final", "early"]
    assert any(isinstance(m, torch.nn.Dropout) for m in first.modules())
    assert not any(isinstance(m, torch.nn.Dropout) for m in second.modules())
    rates = [SCHEDULES["stairs"](p) for p in (0.0, 0.09, 0.1, 0.95, 1.0)]
    assert rates == pytest.approx([1, 1, 0.9, 0.9**9, 0.9**9])
    assert first.stages()[0].schedules["segmenter"] is SCHEDULES["stairs"]
    losses, _ = step(first)
    assert not [name for name in losses if name.endswith("early")]


@pytest.mark.parametrize("name", sorted(SIFA.ablations))
def test_ablations_take_away_what_they_say(name: str) -> None:
    full, less = (set(step(built("sifa", **values))[0]) for values in ({}, SIFA.ablations[name]))
    masks = {f"{kind}/{level}" for kind in ("critic", "adversarial") for level in ("final", "early")}
    auxiliary = {"critic/auxiliary", "adversarial/auxiliary"}
    early = {f"{kind}/early" for kind in ("critic", "adversarial", "segmentation")}
    assert full - less == {"images": masks | auxiliary, "masks": masks, "auxiliary": auxiliary, "deep": early}[name]
    assert less <= full


@pytest.mark.parametrize("preset", sorted(SIFA.presets))
def test_presets_train(preset: str) -> None:
    losses = one_step(built("sifa", **SIFA.presets[preset]), 0, None, batch_of()).losses
    assert all(torch.isfinite(torch.tensor(list(losses.values()))))


def test_masks_are_probabilities_unless_official() -> None:
    logits = 3 * torch.randn(1, 3, 4, 4)
    assert torch.equal(built("sifa").mask(logits), logits.softmax(1))
    assert torch.equal(built("sifa", logits=True).mask(logits), logits)


def test_target_images_have_statistics_of_their_own() -> None:
    for own in (True, False):
        method, batch = built("sifa", own_statistics=own), batch_of()
        method.generator.register_forward_hook(lambda _m, _i, out: out + 1)  # translations unlike target images
        step(method, batch)
        real, made = method.encoder.first[1].norms
        assert bool(made.running_mean.any()) is own and real.num_batches_tracked == (1 if own else 2)
        before = method.encoder.first[1].norms[0].running_mean.clone()
        method.eval()
        method.segment(batch["B"].image, "B"), method.translate(batch["B"].image, "B", "A")
        assert torch.equal(before, real.running_mean)
        with torch.no_grad():
            real.running_mean += 10
            moved = {m: method.segment(batch[m].image, m) for m in "AB"}
            real.running_mean -= 10
            same = {m: torch.equal(moved[m], method.segment(batch[m].image, m)) for m in "AB"}
        assert same == {"A": own, "B": False}


def test_what_it_offers_is_put_together_of_its_networks() -> None:
    method, batch = built("sifa").eval(), batch_of()
    a, b = batch["A"].image, batch["B"].image
    with torch.no_grad():
        made = method.generator(a)
        assert torch.equal(method.translate(a, "A", "B"), made) and method.translate(a, "A", "A") is a
        code = method.encode(b, (2, 0))[0]
        assert torch.equal(method.translate(b, "B", "A"), method.decoder(code, b))
        assert torch.equal(method.segment(b, "B"), method.heads["final"](code))
        assert torch.equal(method.segment(a, "A"), method.heads["final"](method.encode(made, (0, 2))[0]))


def test_pools_are_kept() -> None:
    method = built("sifa", pool=3)
    one_step(method, 0, None, batch_of())
    one_step(method, 0, None, batch_of())
    state = method.extra_state()
    assert {name: len(v) for name, v in state.items()} == {"pool/A": 3, "pool/B": 3}
    other = built("sifa", pool=3)
    other.load_extra_state(state)
    assert all(torch.equal(v, state[name]) for name, v in other.extra_state().items())
    assert built("sifa", pool=0).extra_state() == {}


def test_two_losses_of_one_pass_stay_apart() -> None:
    a, b, x = (torch.nn.Parameter(torch.tensor([v])) for v in (2.0, 3.0, 5.0))
    both = pulled((a * b).sum(), [a], keep=True) + pulled((7 * a * b).sum(), [b, x])
    found = torch.autograd.grad(both, [a, b, x], allow_unused=True)
    assert [None if g is None else g.item() for g in found] == [3, 14, None]


@pytest.mark.parametrize(("size", "channels", "each"), [(48, 1, (2, 3)), (64, 3, (1, 2))])
def test_sizes_shares_and_neighbouring_slices(size: int, channels: int, each: tuple[int, int]) -> None:
    method = SIFA(SIFA.Config(width=8), problem_of("sifa", size=size, channels=channels))
    batch = {}
    for m, n in zip("AB", each, strict=True):
        slices = a_batch(m, n, size)[m]
        batch[m] = slices._replace(image=slices.image.repeat(1, channels, 1, 1))
    with torch.autocast("cpu", torch.bfloat16):
        losses = one_step(method, 0, None, batch).losses
    assert all(torch.isfinite(torch.tensor(list(losses.values()))))
    assert method.segment(batch["B"].image, "B").shape == (each[1], 3, size, size)
    assert method.translate(batch["B"].image, "B", "A").shape == batch["B"].image.shape


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(LabError, match="SIFA adapts from one labelled modality"):
        SIFA(SIFA.Config(), problem_of("cyclegan"))
    with pytest.raises(LabError, match="multiple of 8"):
        built("sifa", size=36, stride=8)
    for field, value in {"levels": 3, "stride": 2, "schedule": "late", "segmenter_schedule": "poly"}.items():
        with pytest.raises(LabError, match=f"{field} is .*known: "):
            built("sifa", **{field: value})


def test_maps_by_hand() -> None:
    method, batch = built("sifa").eval(), batch_of()
    found, a, b = method.maps(batch), batch["A"].image, batch["B"].image
    with torch.no_grad():
        made, back = method.translate(a, "A", "B"), method.translate(b, "B", "A")
        again = method.translate(made, "B", "A")
        logits = method.segmentations(b, "B")
        expected = {
            "style/B/A": (made - a)[:, 0],
            "style/A/B": (back - b)[:, 0],
            "added/B/A": made.atanh()[:, 0] - a[:, 0],
            "residual/A/B": (back - b).abs()[:, 0],
            "cycle_residual/B/A": (again - a).abs()[:, 0],
            "entropy/B": class_entropy(logits[0]),
            "entropy_early/B": class_entropy(logits[1]),
            "critic/B/A": over_image(method.target_critic(made), a)[:, 0],
            "critic/real/A": over_image(method.source_critic(a), a)[:, 0],
            "critic_auxiliary/A/B": over_image(method.source_critic(back), b)[:, 1],
            "critic_mask/B": over_image(method.mask_critics["final"](logits[0].softmax(1)), b)[:, 0],
        }
    for name, values in expected.items():
        assert found[name].kind == "mask" and torch.allclose(found[name].values, values, atol=1e-4), name
    assert found["style/B/A"].span == (-2, 2) and found["probability/B"].names == ("background", "core", "rim")
    assert (found["style/B/A"].values < 0).any() and (found["style/B/A"].values > 0).any(), "signed"
    assert set(METHODS["sifa"].cls.paper_names.values()) >= {"generator", "encoder", "decoder", "heads"}
    assert not [name for name in built("sifa_v1").eval().maps(batch) if "early" in name]
