"""TarGAN: its losses by hand, what reaches which network, and what it does with slices that lack the target area."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.joint import Kept, a_batch, built
from xmod_lab.errors import LabError
from xmod_lab.losses.translation import crossing_loss, cut_out, shape_loss, slot_loss, unit
from xmod_lab.methods.base import Clock
from xmod_lab.methods.targan import TarGAN
from xmod_lab.models.averaged import averaged
from xmod_lab.models.blocks import count_parameters
from xmod_lab.models.critic import StarCritic
from xmod_lab.models.targan import ShapeController, TargetAware
from xmod_lab.train import Update, enter

CLOCK = Clock("translation", 0, 0.0)


def step(method: Any, batch: Any, update: Any = lambda *_a: None) -> dict[str, float]:
    torch.manual_seed(7)
    return method.training_step(batch, CLOCK, update).losses


def wide(batch: dict[str, Any]) -> dict[str, Any]:
    """The batch with a body that is larger than the target area."""
    return {m: s._replace(foreground=torch.ones_like(s.foreground)) for m, s in batch.items()}


@pytest.mark.parametrize("name", ["targan", "stargan", "csgan", "remic"])
def test_slices_of_a_size_that_does_not_come_back_are_refused_by_name(name: str) -> None:
    with pytest.raises(LabError, match="multiple of"):
        built(name, size=50)


@pytest.mark.parametrize("name", ["targan", "stargan"])
def test_a_critic_with_too_many_layers_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="6 layers needs slices of a multiple of 64 pixels, these have 48"):
        built(name, size=48, critic_layers=6)


def test_parameters_are_the_authors() -> None:
    assert count_parameters(TargetAware(1, 3)) == 33_750_656
    assert count_parameters(TargetAware(1, 3, area=False)) == 32_954_048
    assert count_parameters(ShapeController(1)) == 1_942_289
    assert count_parameters(StarCritic(1, 6, 256, 64, 6)) == 44_915_648


def test_shapes_of_the_authors_critic() -> None:
    patches, slots = StarCritic(1, 6, 256, 4, 6)(torch.zeros(2, 1, 256, 256))
    assert patches.shape == (2, 1, 4, 4) and slots.shape == (2, 6)


@pytest.mark.parametrize(("conditioning", "padding", "least", "most"), [
    ("plane", "zeros", 0.3, 3.0), ("plane", "reflect", 0.0, 1e-3), ("film", "zeros", 0.3, 3.0),
    ("film", "reflect", 0.3, 3.0)])  # fmt: skip
def test_the_wanted_modality_shows_unless_padding_hides_it(
    conditioning: str, padding: Any, least: float, most: float
) -> None:
    """Change of the output in its own standard deviations when another modality is asked for, before training."""
    torch.manual_seed(0)
    generator = TargetAware(1, 3, 16, conditioning, padding)
    image = torch.rand(2, 1, 64, 64) * 2 - 1
    first, second = (generator(image, torch.full((2,), m))["image"] for m in (0, 2))
    assert least <= ((first - second).std() / first.std()).item() < most


def test_in_a_test_the_target_stream_is_not_used() -> None:
    method, image = built("targan").eval(), a_batch()["A"].image
    before = method.translate(image, "A", "B")
    for part in ("encoders", "decoders", "heads"):
        for parameter in getattr(method.averaged.module, part)["area"].parameters():
            nn.init.normal_(parameter)
    assert torch.equal(method.translate(image, "A", "B"), before) and before.abs().max() < 1
    assert built("targan", area=False).translate(image, "A", "B").shape == image.shape


def test_slots_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3), 0.0, 0.0]])  # probabilities 1/2, 3/4, 1/2, 1/2; exclusive 1/6, 3/6, ...
    assert slot_loss(logits, torch.tensor([1])).item() == pytest.approx(3 * math.log(2) + math.log(4 / 3))
    assert slot_loss(logits, torch.tensor([0])).item() == pytest.approx(3 * math.log(2) + math.log(4))
    assert slot_loss(logits, torch.tensor([1]), exclusive=True).item() == pytest.approx(math.log(2))
    assert slot_loss(torch.zeros(5, 6), torch.zeros(5, dtype=torch.long)).item() == pytest.approx(6 * math.log(2))
    assert slot_loss(torch.zeros(0, 6), torch.zeros(0, dtype=torch.long)).item() == 0


def test_crossing_by_hand() -> None:
    """Inside one of two pixels: |0.75 - 0.5| / 2 there; outside |0 - 0.5| / 2."""
    whole = torch.tensor([0.5, 0.9]).view(1, 1, 1, 2)
    mask = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    area = torch.zeros(1, 1, 1, 2)
    assert crossing_loss(whole, area, mask).item() == pytest.approx((0.25 + 0.5) / 2)
    assert crossing_loss(whole, cut_out(whole, mask), mask).item() == 0
    assert crossing_loss(whole, whole * mask, mask, raw=True).item() == 0
    assert crossing_loss(whole, whole * mask, mask).item() == 0.25  # grey, as printed, is not what is wanted


def test_crossing_pulls_the_area_to_black_outside_and_as_printed_to_grey() -> None:
    mask, whole = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    for raw, value, sign in ((False, -0.5, 1), (True, -0.5, -1)):
        area = torch.full((1, 1, 2, 2), value, requires_grad=True)
        (slope,) = torch.autograd.grad(crossing_loss(whole, area, mask, raw), area)
        assert (slope.sign() == sign).all()


def test_shape_and_cut_by_hand() -> None:
    assert shape_loss(torch.full((1, 1, 1, 2), 0.5), torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)).item() == 0.25
    image, mask = torch.tensor([0.3, 0.3]).view(1, 1, 1, 2), torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    assert cut_out(image, mask).flatten().tolist() == pytest.approx([0.3, -1])
    assert torch.allclose(unit(cut_out(image, mask)), unit(image) * mask)


def test_the_step_adds_the_papers_terms() -> None:
    """Each term put together again from the networks, which have not moved; both updates get the sum of theirs."""
    method, batch, kept = built("targan").eval(), wide(a_batch()), Kept()
    losses = step(method, batch, kept)
    torch.manual_seed(7)
    x = torch.cat([batch[m].image for m in "AB"])
    y = torch.cat([batch[m].label > 0 for m in "AB"])[:, None].float()
    own = torch.tensor([0, 0, 1, 1])
    wanted = own[torch.randperm(4)]
    r = torch.where(y > 0, x, -1.0)
    fake = method.generator(x, wanted, r)
    share = torch.rand(4).view(4, 1, 1, 1)  # one draw for both streams
    back = method.generator(fake["image"], own, fake["area"])
    body, seen = torch.cat([batch[m].foreground for m in "AB"])[:, None].float(), set()
    assert body.sum() > y.sum()
    for stream, real, mask, tail in (("image", x, body, ""), ("area", r, y, "/area")):
        between = (share * real + (1 - share) * fake[stream].detach()).requires_grad_(True)
        (slope,) = torch.autograd.grad(method.critics[stream](between)[0].sum(), between)
        scores, slots = method.critics[stream](fake[stream])
        real_scores, real_slots = method.critics[stream](real)
        expected = {
            "critic": scores.mean() - real_scores.mean(),
            "critic_penalty": 10 * (slope.square().sum((1, 2, 3)).sqrt() - 1).square().mean(),
            "critic_modality": slot_loss(real_slots, own),
            "critic_origin": 0.01 * slot_loss(slots, own + 2),
            "adversarial": -scores.mean(),
            "modality": slot_loss(slots, wanted),
            "reconstruction": 10 * (back[stream] - real).abs().mean(),
            "shape": (method.shape(fake[stream]) - mask).square().mean(),
        }
        for name, value in expected.items():
            assert losses[name + tail] == pytest.approx(value.item(), rel=1e-3, abs=1e-6), name + tail
            seen.add(name + tail)
    crossing = ((fake["image"] + 1) / 2 * y - (fake["area"] + 1) / 2).abs().mean()
    assert losses["crossing"] == pytest.approx(50 * crossing.item(), rel=1e-4)
    assert seen | {"crossing", "change"} == set(losses)
    critics = [name for name in seen if name.startswith("critic")]
    assert kept.losses["critic"].item() == pytest.approx(sum(losses[name] for name in critics), rel=1e-5)
    rest = sum(losses[name] for name in (seen - set(critics)) | {"crossing"})
    assert kept.losses["generator"].item() == pytest.approx(rest, rel=1e-5)


def test_every_ablation_drops_its_terms() -> None:
    whole = {*step(built("targan"), a_batch())}
    area = {name for name in whole if name.endswith("/area")} | {"crossing"}
    shape = {"shape", "shape/area"}
    expected = {"STC": area | shape, "SC": shape | {"crossing"}, "TC": area, "C": {"crossing"}, "S": shape}
    for name, gone in expected.items():
        assert whole - {*step(built("targan", **TarGAN.ablations[name]), a_batch())} == gone, name
    assert step(built("targan", **TarGAN.ablations["untraceable"]), a_batch())["critic_origin"] == 0


def moved(method: Any, batch: Any) -> set[str]:
    """The parts whose weights a step changes."""
    enter(method, method.stages()[0])
    before = {k: v.clone() for k, v in method.state_dict().items()}
    step(method, batch, Update(method.stages()[0].optimisers))
    changed = [k for k, v in method.state_dict().items() if not torch.equal(v, before[k])]
    return {".".join(k.split(".")[:2]) if k.startswith("critics") else k.split(".")[0] for k in changed}


def test_slices_without_the_target_area_train() -> None:
    """With none in the batch the critic of the area is silent; with one it sees that slice alone."""
    everything = {"generator", "averaged", "shape", "critics.image", "critics.area"}
    assert moved(built("targan"), a_batch()) == everything
    none = {m: s._replace(label=torch.zeros_like(s.label)) for m, s in a_batch().items()}  # type: ignore[arg-type]
    losses = step(built("targan"), none)
    assert "critic/area" not in losses and "adversarial/area" not in losses and losses["crossing"] > 0
    assert moved(built("targan"), none) == everything - {"critics.area"}
    one = a_batch()
    one["A"] = none["A"]
    one["B"] = one["B"]._replace(label=torch.cat([one["B"].label[:1], none["B"].label[:1]]))
    seen: list[int] = []
    method = built("targan")
    method.critics["area"].register_forward_hook(lambda _m, inputs, _o: seen.append(len(inputs[0])))
    losses = step(method, one)
    assert seen == [2, 1, 1] and all(math.isfinite(v) for v in losses.values())  # real and fake, between, fake


def test_one_update_moves_generator_and_shape_controller() -> None:
    calls: list[tuple[str, ...]] = []
    step(built("targan"), a_batch(), lambda _loss, *names: calls.append(names))
    assert calls == [("critic",), ("generator",)]
    method = built("targan")
    generating = {p for g in method.stages()[0].optimisers["generator"].param_groups for p in g["params"]}
    assert generating == {*method.generator.parameters(), *method.shape.parameters()}


def test_recomputing_changes_memory_and_no_number() -> None:
    gradients, kept = [], []
    for recompute in (False, True):
        method = built("targan")
        assert not method.generator.recompute and built("targan", size=192).generator.recompute
        method.generator.recompute = recompute
        held: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, h=held: h.append(t.numel()) or t, lambda t: t):
            update = Kept()
            step(method, a_batch(), update)
        kept.append(sum(held))
        gradients.append(torch.autograd.grad(update.losses["generator"], list(method.generator.parameters())))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert kept[1] < 0.8 * kept[0]


def test_averaged_weights_against_a_loop() -> None:
    torch.manual_seed(0)
    network = nn.Linear(2, 1)
    mean, reference = averaged(network, 0.5), None
    for k in range(12):
        with torch.no_grad():
            network.weight += torch.randn(1, 2)
        mean.update_parameters(network)
        decay = min(0.5, (1 + k) / (10 + k))
        now = network.weight.detach().clone()
        reference = now if reference is None else decay * reference + (1 - decay) * now
    assert torch.allclose(mean.module.weight, reference) and not torch.allclose(mean.module.weight, network.weight)
    assert not any(p.requires_grad for p in mean.parameters())


def test_a_translation_comes_from_the_averaged_weights() -> None:
    method, image = built("targan").eval(), a_batch()["A"].image
    expected: Tensor = method.averaged.module(image, torch.ones(2, dtype=torch.long))["image"]
    nn.init.zeros_(method.generator.heads["image"].weight)
    assert torch.equal(method.translate(image, "A", "B"), expected) and expected.abs().sum() > 0


def test_maps_say_what_they_are_made_of() -> None:
    method, batch = built("targan").eval(), a_batch()
    found = method.maps(batch)
    inside = batch["A"].label > 0
    cut, area, crossing = (found[f"{kind}/B/A"].values for kind in ("cut", "area", "crossing"))
    assert torch.allclose(crossing, (cut - area).abs(), atol=1e-6) and (cut[~inside] == 0).all()
    translated = unit(method.translate(batch["A"].image, "A", "B"))[:, 0]
    assert torch.allclose(cut[inside], translated[inside], atol=1e-5)
    slots, real = found["slots/A"].values, method.critics["image"](batch["A"].image)[1].sigmoid()
    assert slots.shape == (2, 2, 4) and torch.allclose(slots[:, 0], real)
