"""StarGAN, and what CSGAN and ReMIC have in common with it: losses put together by hand, what its planes can do."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from tests.joint import JOINT, Kept, Watched, a_batch, built, one_step
from xmod_lab.errors import LabError
from xmod_lab.methods import METHODS
from xmod_lab.methods.base import build_config, half
from xmod_lab.train import Update

TRANSLATORS = ("stargan", "csgan", "remic", "targan")


@pytest.mark.parametrize("name", TRANSLATORS)
def test_a_batch_without_target_area_trains(name: str) -> None:
    method = built(name, "ABC")
    batch = {m: s._replace(label=torch.zeros_like(s.label)) for m, s in a_batch("ABC").items()}
    for number in range(len(method.stages())):
        losses = one_step(method, number, batch=batch).losses
        assert all(torch.tensor(v).isfinite() for v in losses.values())
    assert all(p.isfinite().all() for p in method.parameters())
    assert all(one.values.isfinite().all() for one in method.eval().maps(batch).values())


@pytest.mark.parametrize("name", TRANSLATORS)
@pytest.mark.parametrize("size", [48, 128])
def test_other_sizes_and_neighbouring_slices(name: str, size: int) -> None:
    """One slice of each of two modalities, with its two neighbours."""
    entry = METHODS[name]
    problem = dataclasses.replace(JOINT, size=size, channels=3)
    method: Any = entry.cls(build_config(entry.cls, {"width": 4} | entry.overrides), problem)
    batch = {m: s._replace(image=s.image.expand(-1, 3, -1, -1)) for m, s in a_batch(each=1, size=size).items()}
    for number in range(len(method.stages())):
        one_step(method, number, batch=batch)
    method.eval()
    for source, target in (("A", "B"), ("B", "A"), ("A", "A")):
        found = method.translate(batch[source].image, source, target)
        assert found.shape == (1, 3, size, size) and found.abs().max() <= 1
    masks = [one.values for one in method.maps(batch).values() if one.kind == "mask"]
    assert masks and all(values.shape[-2:] == (size, size) for values in masks)


@pytest.mark.parametrize("name", TRANSLATORS)
def test_one_modality_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="translates between modalities: the task has A only"):
        built(name, "A")


@pytest.mark.parametrize("name", TRANSLATORS)
def test_terms_add_up_and_change_is_that_of_the_moved(name: str) -> None:
    method, kept, stage = built(name, "ABC"), Kept(), 1 if name == "csgan" else 0
    result = one_step(method, stage, kept)
    makers = "generators" if name == "csgan" else "generator"
    critics = "critics" if name in ("csgan", "remic") else "critic"
    of_critic = {k: v for k, v in result.losses.items() if k.startswith("critic")}
    terms = {k: v for k, v in result.losses.items() if k not in of_critic and k != "change"}
    assert kept.losses[makers].item() == pytest.approx(sum(terms.values()), rel=1e-5)
    assert kept.losses[critics].item() == pytest.approx(sum(of_critic.values()), rel=1e-5)
    if name in ("csgan", "remic"):  # in the others some slices stay what they are
        apart = (result.images["translated"] - result.images["image"]).abs()
        assert result.losses["change"] == pytest.approx(apart.mean().item(), rel=1e-5)


def test_stargan_by_hand() -> None:
    """Both losses from the networks alone, with the step's own draws: a permutation, then places between images."""
    method, kept, batch = built("stargan", "ABC", n_critic=1), Kept(), a_batch("ABC")
    result = one_step(method, update=kept, batch=batch)
    torch.manual_seed(0)
    x, own = torch.cat([s.image for s in batch.values()]), torch.tensor([0, 0, 1, 1, 2, 2])
    wanted = own[torch.randperm(6)]
    share = torch.rand(6).view(6, 1, 1, 1)
    made = method.generator(x, wanted)
    (real, classes), (fake, fake_classes) = method.critic(x), method.critic(made)
    between = (share * x + (1 - share) * made.detach()).requires_grad_(True)
    (slope,) = torch.autograd.grad(method.critic(between)[0].sum(), between, create_graph=True)
    penalty = (slope.square().sum((1, 2, 3)).sqrt() - 1).square().mean()
    critic = fake.mean() - real.mean() + 10 * penalty - classes.log_softmax(1)[range(6), own].mean()
    assert kept.losses["critic"].item() == pytest.approx(critic.item(), rel=1e-4)
    told = fake_classes.log_softmax(1)[range(6), wanted].mean()
    generator = -fake.mean() - told + 10 * (method.generator(made, own) - x).abs().mean()
    assert kept.losses["generator"].item() == pytest.approx(generator.item(), rel=1e-4)
    moved = wanted != own
    assert result.losses["change"] == pytest.approx((made - x)[moved].abs().mean().item(), rel=1e-5)


@pytest.mark.parametrize("times", [1, 5])
def test_stargans_critic_has_its_updates_before_the_generators(times: int) -> None:
    method = built("stargan", "ABC", n_critic=times)
    watched, wanted = Watched(method), []
    method.generator.register_forward_hook(lambda _m, inputs, _o: wanted.append(tuple(inputs[1].tolist())))
    one_step(method, update=watched)
    assert watched.seen == [(("critic",), {"critic"})] * times + [(("generator",), {"generator"})]
    own = (0, 0, 1, 1, 2, 2)
    assert len(wanted) == times + 1 and wanted[-1] == own and all(tuple(sorted(w)) == own for w in wanted)
    assert times == 1 or len(set(wanted[:-1])) > 1, "aims are drawn anew for each update of the critic"


@pytest.mark.parametrize(("padding", "heard"), [("zeros", True), ("reflect", False)])
def test_planes_are_heard_by_their_zero_padding_alone(padding: str, heard: bool) -> None:
    changes = {}
    for conditioning in ("plane", "film"):
        method = built("stargan", "ABC", padding=padding, conditioning=conditioning).eval()
        image = a_batch()["A"].image
        with torch.no_grad():
            first, second = (method.translate(image, "A", target) for target in "BC")
        changes[conditioning] = float((first - second).square().mean().sqrt() / first.std())
    assert changes["plane"] > 0.1 if heard else changes["plane"] < 1e-3
    assert changes["film"] > 0.1, "heard whatever the padding"


def test_stargans_labels_are_not_asked_for() -> None:
    batch = a_batch("ABC")
    bare = {m: s._replace(label=None) for m, s in batch.items()}
    assert one_step(built("stargan", "ABC"), batch=batch).losses == one_step(built("stargan", "ABC"), batch=bare).losses


def test_half_of_the_steps_at_the_full_rate() -> None:
    assert [half(t) for t in (0, 0.5, 0.75, 1)] == pytest.approx([1, 1, 0.505, 0.01])


def test_in_bf16_what_follows_an_update_sees_what_it_did() -> None:
    """Autocast keeps its copies of weights for a whole step, unless an update throws them away."""
    torch.manual_seed(0)
    layer, image = nn.Conv2d(1, 1, 1), torch.randn(2, 1, 4, 4)
    update = Update({"it": torch.optim.SGD(layer.parameters(), 1.0)})
    with torch.autocast("cpu", torch.bfloat16):
        update(layer(image).float().square().mean(), "it")
        inside = layer(image)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(inside, layer(image))
