"""Pix2Pix: its U-Net's layers and skips, losses put together by hand, pairs asked for; cross-entropy of critics."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.joint import JOINT, PAIRED, PAIRED_TASK, Kept, Watched, a_batch, built, one_step
from tests.tiny import make_tiny
from xmod_lab.bench import health
from xmod_lab.data import manifest
from xmod_lab.data.prepare import prepare
from xmod_lab.errors import LabError
from xmod_lab.evaluate.translators import translations_of
from xmod_lab.files import write_json
from xmod_lab.losses.adversarial import cross_entropy_critic, cross_entropy_generator
from xmod_lab.maps import record, replace
from xmod_lab.methods import METHODS
from xmod_lab.methods.base import Problem, build_config
from xmod_lab.models.blocks import count_parameters
from xmod_lab.models.critic import PatchCritic
from xmod_lab.models.pix2pix import UNetGenerator, levels_of
from xmod_lab.runs import Run, RunSpec
from xmod_lab.train import fit


def test_parameters_of_the_card() -> None:
    assert [count_parameters(UNetGenerator(k, k, 8, batch=True)) for k in (3, 1)] == [54_413_955, 54_407_809]
    assert [count_parameters(PatchCritic(2 * k, batch=True)) for k in (3, 1)] == [2_768_705, 2_764_609]
    official = METHODS["pix2pix"].cls.presets["official"]
    method = METHODS["pix2pix"].cls(
        build_config(METHODS["pix2pix"].cls, {"width": 64} | official), dataclasses.replace(JOINT, size=256)
    )
    assert count_parameters(method) == 54_407_809 + 2_764_609


@pytest.mark.parametrize(("size", "levels"), [(32, 5), (48, 4), (64, 6), (96, 5), (128, 7), (256, 8), (512, 8)])
def test_it_goes_down_as_far_as_the_size_lets_it(size: int, levels: int) -> None:
    assert levels_of(size) == levels
    net = UNetGenerator(3, 1, levels, 1)
    with record(net, "taps.*") as seen:
        found = net(torch.randn(2, 3, size, size))
    assert found.shape == (2, 1, size, size) and found.abs().max() <= 1
    edges = [size // 2 ** (i + 1) for i in range(levels)]
    assert [tuple(calls[0].shape[1:]) for calls in seen.values()] == [
        (min(2**i, 8), edge, edge) for i, edge in enumerate(edges)
    ]


def test_dropout_stands_where_eightfold_layers_meet() -> None:
    def places(levels: int) -> list[float]:
        return [part[3].p for part in UNetGenerator(1, 1, levels, 1).up[:-1]]

    assert places(8) == [0, 0.5, 0.5, 0.5, 0, 0, 0] and places(6) == [0, 0.5, 0, 0, 0] and places(4) == [0, 0, 0]
    net, image = UNetGenerator(1, 1, 6, 4), torch.randn(2, 1, 64, 64)
    assert not torch.equal(net(image), net(image))
    net.eval()
    assert torch.equal(net(image), net(image))


def test_a_skip_replaced_does_not_reach_what_is_deeper() -> None:
    net, image = UNetGenerator(1, 1, 5, 4).eval(), torch.randn(2, 1, 32, 32)
    with record(net, "down.*") as before:
        whole = net(image)
    for place in range(5):
        with replace(net, f"taps.{place}", torch.zeros_like), record(net, "down.*") as after:
            assert not torch.allclose(net(image), whole, atol=1e-4), place
        assert all(torch.equal(before[name][0], after[name][0]) for name in before)


@pytest.mark.parametrize("norm", ["instance", "batch"])
def test_at_test_a_slice_is_translated_for_itself(norm: str) -> None:
    method, batch = built("pix2pix", norm=norm), a_batch(each=4, paired=True)
    one_step(method, batch=batch)
    kinds = {type(m) for m in method.modules() if "Norm" in type(m).__name__}
    assert kinds == {nn.InstanceNorm2d if norm == "instance" else nn.BatchNorm2d}
    image = batch["A"].image
    method.eval()
    assert torch.allclose(method.translate(image, "A", "B")[:1], method.translate(image[:1], "A", "B"), atol=1e-5)


def test_cross_entropy_of_critics() -> None:
    """Against PyTorch's own of logits; a critic that knows nothing has ln 2."""
    real, fake = torch.randn(2, 1, 3, 3), 5 * torch.randn(2, 1, 3, 3)
    ones, zeros = torch.ones_like(real), torch.zeros_like(real)
    with_logits = F.binary_cross_entropy_with_logits
    expected = 0.5 * (with_logits(real, ones) + with_logits(fake, zeros))
    assert cross_entropy_critic(real, fake).item() == pytest.approx(expected.item(), rel=1e-5)
    assert cross_entropy_generator(fake).item() == pytest.approx(with_logits(fake, ones).item(), rel=1e-5)
    assert cross_entropy_critic(zeros, zeros).item() == pytest.approx(math.log(2))
    assert cross_entropy_generator(zeros).item() == pytest.approx(math.log(2))
    assert cross_entropy_critic(1e4 * ones, -1e4 * ones).item() == 0.0, "and no overflow"


def test_pix2pix_by_hand() -> None:
    method, kept, batch = built("pix2pix", dropout=0.0), Kept(), a_batch(paired=True)
    result = one_step(method, update=kept, batch=batch)
    x, y = batch["A"].image, batch["B"].image
    made = method.generator(x)
    real, fake = method.critic(torch.cat([x, y], 1)), method.critic(torch.cat([x, made], 1))
    critic = -(0.5 * real.sigmoid().log().mean() + 0.5 * (1 - fake.sigmoid()).log().mean())
    assert kept.losses["critic"].item() == result.losses["critic"] == pytest.approx(critic.item(), rel=1e-4)
    adversarial, pair = -fake.sigmoid().log().mean(), 100 * (made - y).abs().mean()
    assert result.losses["adversarial"] == pytest.approx(adversarial.item(), rel=1e-4)
    assert result.losses["pair"] == pytest.approx(pair.item(), rel=1e-4)
    assert kept.losses["generator"].item() == pytest.approx((adversarial + pair).item(), rel=1e-4)
    assert result.losses["change"] == pytest.approx((made - x).abs().mean().item(), rel=1e-4)
    assert torch.allclose(result.images["translated"], made, atol=1e-6) and torch.equal(result.images["truth"], y)


def test_the_critic_moves_first_and_each_update_moves_its_own() -> None:
    method = built("pix2pix")
    watched = Watched(method)
    one_step(method, update=watched, batch=a_batch(paired=True))
    assert watched.seen == [(("critic",), {"critic"}), (("generator",), {"generator"})]


def test_without_the_critic_it_is_a_regression() -> None:
    alone = METHODS["pix2pix"].cls.ablations["adversarial"]
    kept = Kept()
    losses = one_step(built("pix2pix", **alone), update=kept, batch=a_batch(paired=True)).losses
    assert losses["adversarial"] == 0 and kept.losses["generator"].item() == pytest.approx(losses["pair"], rel=1e-6)


@pytest.mark.parametrize("name", PAIRED)
def test_labels_are_not_asked_for_and_a_slice_without_partner_is_left_out(name: str) -> None:
    batch = a_batch(paired=True)
    uneven = {"A": batch["A"], "B": a_batch(each=3, paired=True)["B"]}
    uneven["B"] = uneven["B"]._replace(image=torch.cat([batch["B"].image, uneven["B"].image[2:]]), label=None)
    assert one_step(built(name), batch=uneven).losses == one_step(built(name), batch=batch).losses


@pytest.mark.parametrize("name", PAIRED)
def test_slices_of_unlike_patients_or_places_are_refused(name: str) -> None:
    pair = a_batch(paired=True)
    for batch in (a_batch(), pair | {"B": pair["B"]._replace(index=torch.tensor([1, 0]))}):
        with pytest.raises(LabError, match=r"slices of A and B are not of the same patients.*draw: paired"):
            one_step(built(name), batch=batch)


@pytest.mark.parametrize("name", PAIRED)
@pytest.mark.parametrize("modalities", ["A", "ABC"])
def test_other_than_two_modalities_are_refused(name: str, modalities: str) -> None:
    with pytest.raises(LabError, match=f"is of two modalities: the task has {', '.join(modalities)}"):
        built(name, modalities)


@pytest.mark.parametrize(
    ("config", "said"),
    [({"norm": "layer"}, "known: instance, batch"), ({"critic_layers": 4}, "needs slices of 48 pixels, these have 32")],
)
def test_config_errors(config: dict[str, Any], said: str) -> None:
    with pytest.raises(LabError, match=said):
        built("pix2pix", **config)
    with pytest.raises(LabError, match="multiple of 16 pixels, these have 40"):
        built("pix2pix", size=40)


def test_it_goes_one_way() -> None:
    method, image = built("pix2pix").eval(), a_batch()["A"].image
    assert method.translations == [("A", "B")]
    assert torch.equal(method.translate(image, "A", "B"), method.generator(image))
    assert torch.equal(method.translate(image, "B", "B"), image)
    with pytest.raises(LabError, match="does not translate B to A.*it learns A to B only"):
        method.translate(image, "B", "A")


def test_maps_by_hand() -> None:
    method, batch = built("pix2pix").eval(), a_batch(paired=True)
    found, x, y = method.maps(batch), batch["A"].image, batch["B"].image
    with torch.no_grad():
        made = method.generator(x)
        features = []
        for down in method.generator.down:
            features.append(down(features[-1] if features else x))
        features[2] = torch.zeros_like(features[2])
        h: Tensor = features.pop()
        for up in method.generator.up[:-1]:
            h = torch.cat([features.pop(), up(h)], 1)
        without = method.generator.up[-1](h)
        scores = method.critic(torch.cat([x, made], 1))
    skips = found["skips/B/A"]
    assert skips.names == ("skip of 16 px", "skip of 8 px", "skip of 4 px", "skip of 2 px", "centre of 1 px")
    assert torch.allclose(skips.values[:, 2], (without - made).abs()[:, 0], atol=1e-6)
    assert torch.allclose(found["pair_residual/B/A"].values, (made - y).abs()[:, 0], atol=1e-6)
    assert torch.allclose(found["residual/B/A"].values, (made - x).abs()[:, 0], atol=1e-6)
    assert found["critic/B/A"].values.mean().item() == pytest.approx(scores.mean().item(), abs=1e-5)
    assert set(found) - set(method.maps(a_batch())) == {"pair_residual/B/A", "critic/real/A"}, "no truth without pairs"
    assert method.maps({"B": batch["B"]}) == {}


@pytest.mark.parametrize("name", PAIRED)
def test_a_task_without_classes(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registered images and no label: trained, offered to the tables, and held to the limits of a run's log."""
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    task: dict[str, Any] = {"labelled": [], "unlabelled": ["A", "B"], "classes": {}, "recipe": "rire"}
    tiny = make_tiny(tmp_path, ("A", "B"), 6, (12, 12, 4), **task, **PAIRED_TASK)
    data, entry = prepare(tiny, None, 32), METHODS[name]
    problem = Problem(("A", "B"), ("A", "B"), (), ("A", "B"), (), data.channels, 32)
    method = entry.cls(build_config(entry.cls, {"width": 4} | entry.overrides), problem)
    spec = RunSpec(name, "tiny", "both")
    run = Run(spec, tmp_path / "run")
    fit(method, name, data, run.folder, steps=3, batch=5, seed=0)
    assert translations_of(method, data) == [("A", "B"), ("B", "A")][: 1 if name == "pix2pix" else 2]
    write_json(run.folder / "config.json", {"config": dataclasses.asdict(method.config)})  # type: ignore[call-overload]
    monkeypatch.setattr(manifest, "dataset", lambda key: tiny)
    assert all(text.startswith("reconstruction") for text in health.problems(run)), "which takes more than three steps"
