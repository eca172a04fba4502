"""CycleGAN, and what U-GAT-IT has in common with it: the cycle put together by hand, no labels, the pool, the maps."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.joint import JOINT, Kept, Watched, a_batch, built, one_step, weights
from xmod_lab.checkpoint import load_extra, save_extra
from xmod_lab.errors import LabError
from xmod_lab.losses.segmentation import dice_cross_entropy
from xmod_lab.methods import METHODS
from xmod_lab.methods.base import build_config, exactly_two
from xmod_lab.methods.cyclegan import error_by_noise
from xmod_lab.models.blocks import count_parameters

BOTH = ("cyclegan", "ugatit")
WAYS = [("A", "B"), ("B", "A")]


class By(nn.Module):
    """A generator that calls a function, with the logits that U-GAT-IT asks for."""

    def __init__(self, fn: Any):
        super().__init__()
        self.fn, self.logit = fn, nn.Parameter(torch.zeros(1))

    def forward(self, image: Tensor) -> Tensor:
        return self.fn(image)

    def classified(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.fn(image), self.logit.expand(len(image), 2)


def with_generators(name: str, there: Any, back: Any) -> Any:
    """A method whose generators are `there` from A to B and `back`."""
    method = built(name)
    method.generators = nn.ModuleDict({"A->B": By(there), "B->A": By(back)})
    return method


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("modalities", ["A", "ABC"])
def test_one_and_three_modalities_are_refused(name: str, modalities: str) -> None:
    with pytest.raises(LabError, match=f"is of two modalities: the task has {', '.join(modalities)}"):
        built(name, modalities)


def test_two_modalities_are_not_refused() -> None:
    exactly_two(("CT", "MR"), "CycleGAN")


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize(("size", "channels"), [(48, 1), (48, 3), (64, 3), (128, 1)])
def test_sizes_and_neighbouring_slices_of_a_task_that_labels_one(name: str, size: int, channels: int) -> None:
    """Two slices of one modality, one of the other, labels of the first alone."""
    entry = METHODS[name]
    problem = dataclasses.replace(JOINT, labelled=("A",), unlabelled=("B",), size=size, channels=channels)
    method: Any = entry.cls(build_config(entry.cls, {"width": 4} | entry.overrides), problem)
    batch = {m: s._replace(image=s.image.expand(-1, channels, -1, -1)) for m, s in a_batch(size=size).items()}
    batch["B"] = batch["B"]._replace(label=None, image=batch["B"].image[:1])
    result = one_step(method, batch=batch)
    assert all(math.isfinite(v) for v in result.losses.values())
    assert all(image.shape == (3, channels, size, size) for image in result.images.values())
    assert sorted(method.translations) == WAYS
    for s, t in WAYS:
        made = method.translate(batch[s].image, s, t)
        assert made.shape == batch[s].image.shape and made.abs().max() <= 1
        assert method.translate(made, t, t) is made
    masks = [one.values for one in method.maps(batch).values() if one.kind == "mask"]
    assert masks and all(values.shape[1:] == (size, size) for values in masks)


@pytest.mark.parametrize("name", BOTH)
def test_no_labels_change_anything(name: str) -> None:
    """A step with labels, with none, and with those of another slice: the same losses, the same weights after it."""
    batch = a_batch()
    without = {m: s._replace(label=None) for m, s in batch.items()}
    other = {m: s._replace(label=2 - s.label, foreground=~s.foreground) for m, s in batch.items()}
    found = []
    for given in (batch, without, other):
        method = built(name)
        losses = one_step(method, batch=given).losses
        found.append((losses, method.state_dict()))
    for losses, state in found[1:]:
        assert losses == found[0][0] and all(torch.equal(v, found[0][1][k]) for k, v in state.items())


@pytest.mark.parametrize("name", BOTH)
def test_a_generator_that_changes_nothing_has_change_0(name: str) -> None:
    method = with_generators(name, nn.Identity(), nn.Identity())
    losses = method.training_step(a_batch(), None, Kept()).losses
    assert losses["change"] == losses["reconstruction"] == losses["identity"] == 0
    method = with_generators(name, lambda x: x + 0.5, lambda x: x - 0.25)
    losses = method.training_step(a_batch(), None, Kept()).losses
    weight = METHODS[name].cls.Config().identity_weight
    assert losses["change"] == pytest.approx(0.375, rel=1e-5)
    assert losses["reconstruction"] == pytest.approx(10 * 0.25, rel=1e-5)
    assert losses["identity"] == pytest.approx(weight * 0.375, rel=1e-5)


@pytest.mark.parametrize("name", BOTH)
def test_terms_add_up_and_each_side_moves_its_own_networks(name: str) -> None:
    method, kept, batch = built(name), Kept(), a_batch()
    losses = one_step(method, update=kept, batch=batch).losses
    of_critic = {k: v for k, v in losses.items() if k.startswith("critic")}
    terms = {k: v for k, v in losses.items() if k not in of_critic and k != "change"}
    assert kept.losses["critics"].item() == pytest.approx(sum(of_critic.values()), rel=1e-5)
    assert kept.losses["generators"].item() == pytest.approx(sum(terms.values()), rel=1e-5)
    watched, before = Watched(method), weights(method)
    one_step(method, update=watched, batch=batch)
    assert watched.seen == [(("critics",), {"critics"}), (("generators",), {"generators"})]
    kernels = [k for k, v in method.named_parameters() if v.ndim == 4]
    assert not [k for k in kernels if torch.equal(method.get_parameter(k), before[k])], "all kernels moved"


def test_cyclegan_by_hand() -> None:
    """Means over both directions of each term, with weights 1, 10 and 5; an empty pool gives what it gets."""
    method, batch = built("cyclegan"), a_batch()
    result = one_step(method, update=Kept(), batch=batch)
    x = {m: s.image for m, s in batch.items()}
    g, d = method.generators, method.critics
    to = {"B": g["A->B"](x["A"]), "A": g["B->A"](x["B"])}
    critic = sum(0.5 * (d[w](x[w[-1]]) - 1).square().mean() + 0.5 * d[w](to[w[-1]]).square().mean() for w in d)
    cycle = (g["B->A"](to["B"]) - x["A"]).abs().mean() + (g["A->B"](to["A"]) - x["B"]).abs().mean()
    own = (g["A->B"](x["B"]) - x["B"]).abs().mean() + (g["B->A"](x["A"]) - x["A"]).abs().mean()
    change = (to["B"] - x["A"]).abs().mean() + (to["A"] - x["B"]).abs().mean()
    expected = {
        "critic": critic / 2,
        "adversarial": sum((d[w](to[w[-1]]) - 1).square().mean() for w in d) / 2,
        "reconstruction": 10 * cycle / 2,
        "identity": 5 * own / 2,
        "change": change / 2,
    }
    assert result.losses == pytest.approx({k: v.item() for k, v in expected.items()}, rel=1e-4)
    assert torch.allclose(result.images["translated"], torch.cat([to["B"], to["A"]]), atol=1e-6)
    assert torch.equal(result.images["image"], torch.cat([x["A"], x["B"]]))


def test_what_is_ablated_is_gone() -> None:
    losses = {k: set(one_step(built("cyclegan", **v), update=Kept(), batch=a_batch()).losses)
              for k, v in ({"": {}} | METHODS["cyclegan"].cls.ablations).items()}  # fmt: skip
    assert losses[""] - losses["identity"] == {"identity"} and losses["pool"] == losses[""]


def test_the_critic_is_shown_what_the_pool_gives() -> None:
    """A pool of two is full after the first step; of the second's images each has its turn or waits, as drawn."""
    method = built("cyclegan", pool=2)
    one_step(method, update=Kept(), batch=a_batch())
    held = {m: pool.images.clone() for m, pool in method.pools.items()}
    batch = a_batch(seed=1)
    losses = [one_step(method, update=Kept(), batch=batch, seed=3).losses["critic"]]
    for m, images in held.items():
        method.pools[m].images = images
    torch.manual_seed(3)
    made = {t: method.translate(batch[s].image, s, t) for s, t in WAYS}
    shown = {t: method.pools[t].draw(made[t]) for _, t in WAYS}
    assert any(not torch.equal(shown[t], made[t]) for t in shown), "the draw says nothing"
    for images in (shown, made):
        terms = [0.5 * (method.critics[f"{s}->{t}"](batch[t].image) - 1).square().mean()
                 + 0.5 * method.critics[f"{s}->{t}"](images[t]).square().mean() for s, t in WAYS]  # fmt: skip
        losses.append(torch.stack(terms).mean().item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) and losses[0] != pytest.approx(losses[2], rel=1e-5)


@pytest.mark.parametrize("steps", [0, 1])
def test_the_pools_survive(tmp_path: Path, steps: int) -> None:
    method, again = built("cyclegan", pool=3), built("cyclegan", pool=3)
    for _ in range(steps):
        one_step(method, batch=a_batch())
    save_extra(tmp_path, 0, 1, method.extra_state())
    again.load_extra_state(load_extra(tmp_path, 0, 1))
    for m in "AB":
        assert torch.equal(again.pools[m].images, method.pools[m].images) and len(method.pools[m].images) == 2 * steps
    one_step(again, batch=a_batch(seed=1))
    assert len(again.pools["A"].images) == min(2 * steps + 2, 3)
    assert built("cyclegan", pool=0).extra_state() == {}


def test_the_authors_sizes_and_first_weights() -> None:
    official = METHODS["cyclegan"].cls.presets["official"]
    method = built("cyclegan", width=64, **official)
    assert [count_parameters(g) for g in method.generators.children()] == [11_365_633] * 2
    assert [count_parameters(d) for d in method.critics.children()] == [2_762_689] * 2
    spreads = [v.std().item() for v in method.parameters() if v.numel() > 10_000]
    assert spreads == pytest.approx([0.02] * 2 * (2 + 2 * 9 + 2 + 3), rel=0.05)
    assert all(v.abs().sum() == 0 for k, v in method.named_parameters() if k.endswith("bias"))
    ours = built("cyclegan", width=64)
    assert count_parameters(ours.critics["A->B"]) == 2_762_689
    assert ours.generators["A->B"].up[0][1].weight.std().item() == pytest.approx(0.02, rel=0.05)
    printed = built("cyclegan", **METHODS["cyclegan"].cls.presets["printed"])
    assert "identity" not in one_step(printed, update=Kept(), batch=a_batch()).losses


def test_error_by_noise() -> None:
    """Identity passes the noise on; one that hides its source at a hundredth of the contrast loses it at once."""
    image, mean = a_batch(each=4)["A"].image, math.sqrt(2 / math.pi)
    honest = with_generators("cyclegan", nn.Identity(), nn.Identity())
    hidden = with_generators("cyclegan", lambda x: 0.01 * x, lambda x: 100 * x)
    levels = [0.0, 0.01, 0.1]
    for method, gain in ((honest, 1), (hidden, 100)):
        found = error_by_noise(method, image, "A", "B", levels)
        assert found == pytest.approx([gain * level * mean for level in levels], rel=0.05, abs=1e-5)
        assert found[2] == pytest.approx(10 * found[1], rel=1e-3), "one noise for all levels"
        assert found == error_by_noise(method, image, "A", "B", levels)
    assert not any(p.grad is not None for p in honest.parameters())
    true = error_by_noise(hidden, image, "A", "B", levels, made=0.02 * image)
    assert true[0] == pytest.approx(image.abs().mean().item(), rel=1e-4), "what stands for the translation is taken"


def test_cyclegans_maps_by_hand() -> None:
    method, batch = built("cyclegan").eval(), a_batch()
    found, x = method.maps(batch), batch["A"].image
    with torch.no_grad():
        made = method.generators["A->B"](x)
        back = method.generators["B->A"](made)
        score = {"real": method.critics["B->A"](x), "B": method.critics["A->B"](made)}
    assert torch.allclose(found["residual/B/A"].values, (made - x).abs()[:, 0], atol=1e-6)
    assert torch.allclose(found["cycle_residual/B/A"].values, (back - x).abs()[:, 0], atol=1e-6)
    for name, values in score.items():
        enlarged = nn.functional.interpolate(values, (32, 32), mode="bilinear")[:, 0]
        assert torch.allclose(found[f"critic/{name}/A"].values, enlarged, atol=1e-6)
        assert found[f"critic/{name}/A"].layer == {"real": "critics.B->A", "B": "critics.A->B"}[name]
    assert len(found) == 8 and set(method.maps({"A": batch["A"]})) == {k for k in found if k.endswith("/A")}


@pytest.mark.parametrize("name", BOTH)
def test_the_shape_term_by_hand(name: str) -> None:
    """Of the labelled modality alone, half of it its images and half their translations; S and generators move."""
    entry, batch = METHODS[name], a_batch()
    batch["B"] = batch["B"]._replace(label=None)
    problem = dataclasses.replace(JOINT, labelled=("A",), unlabelled=("B",))

    def made(weight: float) -> Any:
        torch.manual_seed(0)
        values = {"width": 4, "shape_weight": weight} | entry.overrides
        return entry.cls(build_config(entry.cls, values), problem)

    method, calls = made(3.0), []
    method.shape.encoder.dropout.p = 0.0
    losses = one_step(method, update=lambda loss, *names: calls.append((names, loss.item())), batch=batch).losses
    with torch.no_grad():
        seen = [method.shape(x) for x in (batch["A"].image, method.translate(batch["A"].image, "A", "B"))]
    expected = 3 * sum(dice_cross_entropy(logits, batch["A"].label).item() for logits in seen) / 2
    assert losses["shape"] == pytest.approx(expected, rel=1e-4)
    plain = one_step(made(0.0), update=Kept(), batch=batch).losses
    assert {k: v for k, v in losses.items() if k != "shape"} == pytest.approx(plain, rel=1e-5)
    assert [names for names, _ in calls] == [("critics",), ("generators", "shape")]
    whole = sum(v for k, v in losses.items() if not k.startswith(("critic", "change")))
    assert calls[1][1] == pytest.approx(whole, rel=1e-5)
    watched = Watched(method)
    one_step(method, update=watched, batch=batch)
    assert [moved for _, moved in watched.seen] == [{"critics"}, {"generators", "shape"}]


def test_the_shape_term_reaches_the_generator_and_asks_for_labels() -> None:
    """With this term alone a translation changes; without labels there is nothing to learn it from."""
    quiet = {"identity_weight": 0.0, "reconstruction_weight": 0.0}
    method, batch = built("cyclegan", shape_weight=1.0, **quiet), a_batch()
    made = {w: method.translate(batch[w[0]].image, *w) for w in WAYS}
    term = method._shape_term(batch, made)
    for way in WAYS:
        slopes = torch.autograd.grad(term, list(method.generators["->".join(way)].parameters()), retain_graph=True)
        assert sum(slope.abs().sum() for slope in slopes) > 0
    unlabelled = dataclasses.replace(JOINT, labelled=(), unlabelled=("A", "B"))
    with pytest.raises(LabError, match="a shape term needs labels"):
        METHODS["cyclegan"].cls(build_config(METHODS["cyclegan"].cls, {"width": 4, "shape_weight": 1.0}), unlabelled)
