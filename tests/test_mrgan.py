"""MR-GAN and DC2Anet: both updates put together by hand, what each moves, pools that survive, slopes of each loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.joint import JOINT, PAIRED_TASK, Kept, Watched, a_batch, built, one_step
from tests.pairs import WAYS, WEIGHTS, terms_of
from tests.tiny import make_tiny
from xmod_lab.data.prepare import Prepared, prepare
from xmod_lab.errors import LabError
from xmod_lab.losses.similarity import dissimilarity, gradient_difference
from xmod_lab.methods import METHODS
from xmod_lab.methods.base import StepResult, build_config
from xmod_lab.methods.mrgan import MRGAN
from xmod_lab.models.blocks import count_parameters
from xmod_lab.train import fit


@pytest.mark.parametrize(("name", "critic"), [("mrgan", 2_765_505), ("dc2anet", 2_774_786)])
def test_parameters_of_the_cards(name: str, critic: int) -> None:
    cls = METHODS[name].cls
    method: Any = cls(build_config(cls, {"width": 64} | cls.presets["official"]), JOINT)
    assert {count_parameters(network) for network in method.generators.values()} == {11_376_129}
    assert {count_parameters(network) for network in method.critics.values()} == {critic}
    assert set(method.generators) == set(method.critics) == set(WAYS)


def test_mrgan_by_hand() -> None:
    method, kept, batch = built("mrgan"), Kept(), a_batch(paired=True)
    losses = one_step(method, update=kept, batch=batch).losses
    terms, critic = terms_of(method, {m: s.image for m, s in batch.items()}, "pair")
    names = ("adversarial", "reconstruction", "pair")
    expected = {name: WEIGHTS[name] * terms[name] for name in names} | {"critic": critic, "change": terms["change"]}
    assert losses == pytest.approx(expected, rel=1e-4)
    assert kept.losses["critics"].item() == pytest.approx(critic, rel=1e-4)
    assert kept.losses["generators"].item() == pytest.approx(sum(expected[name] for name in names), rel=1e-4)


def test_the_sum_moves_a_generator_as_its_own_loss_does() -> None:
    """Twice the mean of both directions has the slope of one direction's adversarial loss and L1, and both cycles."""
    method, batch, kept = built("mrgan"), a_batch(paired=True), Kept()
    one_step(method, update=kept, batch=batch)
    kernel = method.generators["A->B"].down[0].weight
    (found,) = torch.autograd.grad(2 * kept.losses["generators"], kernel)
    x, y, g, f = batch["A"].image, batch["B"].image, method.generators["A->B"], method.generators["B->A"]
    own = -method.critics["A->B"](torch.cat([x, g(x)], 1)).sigmoid().log().mean() + 100 * (g(x) - y).abs().mean()
    cycles = (f(g(x)) - x).abs().mean() + (g(f(y)) - y).abs().mean()
    (expected,) = torch.autograd.grad(own + 10 * cycles, kernel)
    assert torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_least_squares_by_hand() -> None:
    method, batch = built("mrgan", adversarial="least_squares"), a_batch(paired=True)
    losses = one_step(method, update=Kept(), batch=batch).losses
    x, expected = {m: s.image for m, s in batch.items()}, 0.0
    for way in WAYS:
        s = way[0]
        expected += (method.critics[way](torch.cat([x[s], method.generators[way](x[s])], 1)) - 1).square().mean().item()
    assert losses["adversarial"] == pytest.approx(expected / 2, rel=1e-4)


def test_each_update_moves_its_own() -> None:
    watched = Watched(method := built("mrgan"))
    one_step(method, update=watched, batch=a_batch(paired=True))
    assert watched.seen == [(("critics",), {"critics"}), (("generators",), {"generators"})]


def test_critics_are_shown_earlier_pairs() -> None:
    method, shown = built("mrgan", pool=2), []
    method.critics["A->B"].register_forward_hook(lambda _m, inputs, _o: shown.append(inputs[0].detach()))
    batches = [a_batch(paired=True, seed=seed) for seed in range(4)]
    for seed, batch in enumerate(batches):
        one_step(method, update=Kept(), batch=batch, seed=seed)
    critics, generators = shown[0::2], shown[1::2]
    for real, batch in zip(critics, batches, strict=True):
        assert torch.equal(real[:2], torch.cat([batch["A"].image, batch["B"].image], 1))
    now = [torch.equal(seen[2:], made) for seen, made in zip(critics, generators, strict=True)]
    assert now[0] and not all(now)
    earlier = [pair for seen in critics[1:] for pair in seen[2:]]
    assert all(any(torch.equal(pair, made) for step in generators for made in step) for pair in earlier)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    home = tmp_path_factory.mktemp("pairs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMOD_HOME", str(home))
        yield prepare(make_tiny(home, ("A", "B"), 8, labelled=["A", "B"], unlabelled=[], **PAIRED_TASK), None, 32)


@pytest.mark.parametrize("name", ["mrgan", "dc2anet"])
def test_full_pools_survive_a_stop_and_matter(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def run(folder: Path, until: int | None) -> dict[str, Tensor]:
        def on_step(step: int, _result: StepResult) -> None:
            if step == until:
                raise KeyboardInterrupt

        method = built(name, pool=3, blocks=1)
        fit(method, name, prepared, folder, steps=8, batch=4, seed=0, checkpoint_every=2, on_step=on_step)
        return load_file(folder / "checkpoint.safetensors")

    whole = run(tmp_path / "whole", None)
    found = {}
    for place in ("kept", "forgotten"):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / place, 5)
        if place == "forgotten":
            monkeypatch.setattr(MRGAN, "load_extra_state", lambda *_: None)
        found[place] = run(tmp_path / place, None)
    assert all(torch.equal(whole[k], found["kept"][k]) for k in whole)
    assert not all(torch.equal(whole[k], found["forgotten"][k]) for k in whole)


def test_without_a_pool_there_is_nothing_to_keep() -> None:
    method = built("mrgan", pool=0)
    one_step(method, batch=a_batch(paired=True))
    assert method.extra_state() == {}


def test_a_pool_that_the_checkpoint_lacks_is_said() -> None:
    with pytest.raises(LabError, match="no pool of .*train anew"):
        built("mrgan", pool=2).load_extra_state({"pair/A/B": torch.zeros(0)})


@pytest.mark.parametrize("name", ["mrgan", "dc2anet"])
def test_maps_by_hand(name: str) -> None:
    method, batch = built(name).eval(), a_batch(paired=True)
    found, x, y = method.maps(batch), batch["A"].image, batch["B"].image
    g, f = method.generators["A->B"], method.generators["B->A"]
    made = g(x).detach().requires_grad_(True)
    with torch.no_grad():
        assert torch.allclose(found["cycle_residual/B/A"].values, (f(made) - x).abs()[:, 0], atol=1e-5)
        assert torch.allclose(found["pair_residual/B/A"].values, (made - y).abs()[:, 0], atol=1e-5)
        assert torch.allclose(found["pair_residual/A/B"].values, (f(y) - x).abs()[:, 0], atol=1e-5)
    assert torch.allclose(found["pull/pair/B/A"].values, torch.tensor(100.0), rtol=1e-4), "the same everywhere"
    losses = {"reconstruction": 10 * (f(made) - x).abs().mean()}
    extra = {"pull/gradient_difference/B/A", "pull/similarity/B/A", "pull/adversarial/single/B/A"}
    assert extra <= set(found) if name == "dc2anet" else not extra & set(found)
    if name == "dc2anet":
        losses |= {"gradient_difference": 100 * gradient_difference(made, y), "similarity": dissimilarity(made, y)}
        losses["adversarial/single"] = -method.critics["A->B"](made, "single").sigmoid().log().mean()
    for loss, value in losses.items():
        (slope,) = torch.autograd.grad(value, made)
        expected = slope.abs()[:, 0] * made.numel()
        assert torch.allclose(found[f"pull/{loss}/B/A"].values, expected, rtol=1e-3, atol=1e-4), loss
    assert all(p.grad is None for p in method.parameters())
    alone = method.maps(a_batch())
    gone = {key for key in found if key.split("/")[0] == "pair_residual" or key.startswith("critic/real")}
    gone |= {key for key in found if key.split("/")[:2][-1] in ("pair", "gradient_difference", "similarity")}
    assert set(found) - set(alone) == gone, "no truth without pairs"
    assert all(key.endswith("/B") for key in method.maps({"B": batch["B"]}))


def test_they_go_both_ways() -> None:
    method, image = built("mrgan").eval(), a_batch()["A"].image
    assert method.translations == [("A", "B"), ("B", "A")]
    assert torch.equal(method.translate(image, "B", "A"), method.generators["B->A"](image))
    assert torch.equal(method.translate(image, "A", "A"), image)


@pytest.mark.parametrize(
    ("name", "config", "said"),
    [
        ("mrgan", {"adversarial": "hinge"}, "known: cross_entropy, least_squares"),
        ("dc2anet", {"similarity": "cosine"}, "known: difference, logarithm"),
        ("mrgan", {"size": 16}, "MRGAN needs slices of 32 pixels, these have 16"),
        ("dc2anet", {"size": 34}, "DC2Anet needs slices of a multiple of 4 pixels"),
    ],
)
def test_config_errors(name: str, config: dict[str, Any], said: str) -> None:
    with pytest.raises(LabError, match=said):
        built(name, **config)


@pytest.mark.parametrize("name", ["pix2pix", "mrgan", "dc2anet"])
@pytest.mark.parametrize("size", [48, 128])
def test_other_sizes_and_neighbouring_slices(name: str, size: int) -> None:
    """One slice of each of two modalities, with its two neighbours."""
    entry, problem = METHODS[name], dataclasses.replace(JOINT, size=size, channels=3)
    method: Any = entry.cls(build_config(entry.cls, {"width": 4} | entry.overrides), problem)
    slices = a_batch(each=1, size=size, paired=True).items()
    batch = {m: s._replace(image=s.image.expand(-1, 3, -1, -1), label=None) for m, s in slices}
    one_step(method, batch=batch)
    method.eval()
    for source, target in method.translations:
        found = method.translate(batch[source].image, source, target)
        assert found.shape == (1, 3, size, size) and found.abs().max() <= 1
    masks = [one.values for one in method.maps(batch).values() if one.kind == "mask"]
    assert masks and all(values.shape == (1, size, size) for values in masks)
