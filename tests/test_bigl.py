"""BiGL's two stages by hand: what is trained by what, signs, ablations, paired synthesis, what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.joint import Kept, Watched, a_batch, built, one_step, problem_of, weights
from xmod_lab.errors import LabError
from xmod_lab.losses.consistency import output_consistency
from xmod_lab.losses.segmentation import cross_entropy, generalised_dice
from xmod_lab.methods import METHODS
from xmod_lab.methods.base import build_config
from xmod_lab.models.blocks import count_parameters
from xmod_lab.train import Update, enter

ABLATIONS = METHODS["bigl"].cls.ablations
KINDS = ("feature", "position", "channel")


def bigl(**config: Any) -> Any:
    return built("bigl", dropout=0.0, **config)


def batch_of(paired: bool = False) -> dict[str, Any]:
    batch = a_batch("AB", paired=paired)
    return batch | {"B": batch["B"]._replace(label=None)}


def segmentation(method: Any, update: Any = None, batch: Any = None) -> dict[str, float]:
    return one_step(method, 1, update, batch or batch_of()).losses


class All(Kept):
    """Keeps losses also of updates of several optimisers."""

    def __call__(self, loss: Tensor, *names: str) -> None:
        self.losses[" + ".join(names)] = loss


def test_the_first_stage_is_cyclegans() -> None:
    """The same losses and the same weights as CycleGAN itself makes of the batch; nothing else moves."""
    theirs = {"critic_layers": 4, "pool": 3, "identity_weight": 0.5, "reconstruction_weight": 2.0}
    method, batch, watched = bigl(**theirs), batch_of(), None
    cyclegan = built("cyclegan", **theirs)
    cyclegan.load_state_dict(method.translators["cyclegan"].state_dict())
    watched = Watched(method)
    losses = one_step(method, 0, watched, batch).losses
    alone = one_step(cyclegan, 0, None, batch).losses
    assert losses == {f"{k}/cyclegan": pytest.approx(v, rel=1e-5) for k, v in alone.items()}
    after = method.translators["cyclegan"].state_dict()
    assert all(torch.equal(v, after[k]) for k, v in cyclegan.state_dict().items())
    assert [names for names, _ in watched.seen] == [("cyclegan/critics",), ("cyclegan/generators",)]
    assert all(moved == {"translators"} for _, moved in watched.seen)
    assert all(torch.equal(v, cyclegan.extra_state()[k.split("/", 1)[1]]) for k, v in method.extra_state().items())
    again = bigl(**theirs)
    again.load_extra_state(method.extra_state())
    assert len(again.translators["cyclegan"].pools["A"].images) == 2


def test_the_second_stage_by_hand() -> None:
    method, batch, kept = bigl(), batch_of(), All()
    losses = segmentation(method, kept, batch)
    label = batch["A"].label
    with torch.no_grad():
        images = {"s": batch["A"].image, "st": method.translate(batch["A"].image, "A", "B"),
                  "t": batch["B"].image, "ts": method.translate(batch["B"].image, "B", "A")}  # fmt: skip
        seen = {k: method.segmenter(x, True) for k, x in images.items()}

        def told(kind: str, look: str, image: str) -> Tensor:
            u = getattr(seen[image], kind)
            u = u if kind == "feature" else u.shape[2] * u[:, None]
            return method.critics[f"{kind}/{look}"](u)

        expected = {
            name: (cross_entropy(seen[k].logits, label) + generalised_dice(seen[k].logits, label)).item()
            for name, k in (("segmentation", "s"), ("segmentation/translated", "st"))
        }
        apart = (seen["t"].logits.softmax(1) - seen["ts"].logits.softmax(1)).square().sum(1).mean().item()
        expected["output"] = 0.001 * apart
        for kind in KINDS:
            s_real, s_fake, t_real, t_fake = (
                told(kind, *where) for where in (("source", "s"), ("source", "ts"), ("target", "st"), ("target", "t"))
            )
            expected[kind] = -0.1 * (F.logsigmoid(s_fake).mean() + F.logsigmoid(t_fake).mean()).item()
            real = F.logsigmoid(s_real).mean() + F.logsigmoid(t_real).mean()
            fake = F.logsigmoid(-s_fake).mean() + F.logsigmoid(-t_fake).mean()
            expected[f"critic/{kind}"] = -(real + fake).item()
    found = {k: v for k, v in losses.items() if not k.startswith(("gamma", "accuracy"))}
    assert found == {k: pytest.approx(v, rel=1e-4, abs=1e-7) for k, v in expected.items()}
    whole = sum(v for k, v in expected.items() if not k.startswith("critic"))
    assert kept.losses["segmenter"].item() == pytest.approx(whole, rel=1e-4)
    assert kept.losses["critics"].item() == pytest.approx(sum(expected[f"critic/{k}"] for k in KINDS), rel=1e-4)
    assert losses["gamma/position"] == losses["gamma/channel"] == 0
    assert all(0 <= losses[f"accuracy/{k}"] <= 1 for k in KINDS)


def test_whom_each_update_moves_and_that_one_pass_serves_all_four_images() -> None:
    method, passes = bigl(), []
    method.segmenter.register_forward_hook(lambda _m, x, _o: passes.append(len(x[0])))
    watched = Watched(method, 1)
    before = weights(method)
    segmentation(method, watched)
    assert watched.seen == [(("segmenter",), {"segmenter"}), (("critics",), {"critics"})]
    assert passes == [8], "two slices of each modality, and their translations"
    moved = {k for k, v in method.named_parameters() if not torch.equal(v, before[k])}
    assert all(any(k.startswith(f"critics.{c}.") for k in moved) for c in method.critics) and len(method.critics) == 6


def test_derived_images_are_used_where_the_batch_has_them() -> None:
    method, batch = bigl(), batch_of()
    enter(method, method.stages()[1])
    made = {f"{s}->{t}": batch[s]._replace(image=method.translate(batch[s].image, s, t)) for s, t in ("AB", "BA")}
    assert segmentation(method, All(), batch) == segmentation(method, All(), batch | made)
    other = {k: s._replace(image=-s.image) for k, s in made.items()}
    assert segmentation(method, All(), batch | other) != segmentation(method, All(), batch | made)
    (_, second) = method.stages()
    assert torch.equal(second.derive["A->B"](batch["A"].image), made["A->B"].image)


@pytest.mark.parametrize("kind", KINDS)
def test_critics_learn_to_tell_and_the_segmenter_to_deceive(kind: str) -> None:
    """Steps of one side alone: D(labelled) comes to lie above D(unlabelled); by the segmenter's, D(unlabelled) rises,
    and with the printed sign of equations 6 and 8 it falls."""

    def scores(method: Any) -> tuple[float, float]:
        with torch.no_grad():
            image = batch["B"].image
            seen = method.see({"t": image, "st": method.translate(batch["A"].image, "A", "B")}, True)
            return tuple(method.scores(kind, "target", seen[k]).mean().item() for k in ("st", "t"))  # type: ignore

    batch = batch_of()

    def after(side: str, **config: Any) -> tuple[float, float]:
        method = bigl(critic_rate=5e-3, gtl_weight=100.0, **config)
        method.segmenter.attention.position.gamma.data.fill_(0.1)
        first = scores(method)
        update = Update(method.stages()[1].optimisers)
        for _ in range(10 if side == "critics" else 3):
            one_step(method, 1, lambda loss, name: update(loss, name) if name == side else None, batch)
        return tuple(a - b for a, b in zip(scores(method), first, strict=True))  # type: ignore[return-value]

    labelled, unlabelled = after("critics")
    assert labelled > unlabelled, "they are told apart"
    alone = {"align_features": kind == "feature", "align_attention": kind != "feature"}
    assert after("segmenter", **alone)[1] > 0
    assert after("segmenter", literal=True, **alone)[1] < 0


def test_as_printed_the_losses_have_the_other_sign() -> None:
    batch = batch_of()
    ours, printed = segmentation(bigl(), All(), batch), segmentation(bigl(literal=True), All(), batch)
    for kind in KINDS:
        assert printed[kind] == pytest.approx(-ours[kind], rel=1e-5)
        assert printed[f"critic/{kind}"] == ours[f"critic/{kind}"], "equations 7 and 9 are right as values to maximise"
    method = bigl()
    with torch.no_grad():
        logits = {m: method.segment(batch[m].image, m) for m in "AB"}
        back = method.segment(method.translate(batch["B"].image, "B", "A"), "A")
    assert printed["output"] == pytest.approx(0.001 * output_consistency(logits["B"], back, True).item(), rel=1e-4)
    label = batch["A"].label
    expected = cross_entropy(logits["A"], label) - generalised_dice(logits["A"], label, literal=True)
    assert printed["segmentation"] == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("name", ["way back 10", "identity", "shape", "CycleGAN's"])
def test_what_is_set_of_the_translators_is_in_their_loss(name: str) -> None:
    """Of the same networks and the same batch; a pool and larger patches show in later steps, and larger slices."""
    full, less, batch = bigl(), bigl(**ABLATIONS[name]), batch_of()
    less.translators.load_state_dict(full.translators.state_dict(), strict=False)
    before, after = (one_step(method, 0, None, batch).losses for method in (full, less))
    ratio = after["reconstruction/cyclegan"] / before["reconstruction/cyclegan"]
    assert ratio == pytest.approx(5 if name in ("way back 10", "CycleGAN's") else 1, rel=1e-3)
    assert ("identity/cyclegan" in after) == (name in ("identity", "CycleGAN's"))
    assert ("shape/cyclegan" in after) == (name == "shape")
    assert not {"identity/cyclegan", "shape/cyclegan"} & set(before)


@pytest.mark.parametrize("name", sorted(ABLATIONS))
def test_ablations_take_away_what_they_say(name: str) -> None:
    full, less = segmentation(bigl(), All()), segmentation(method := bigl(**ABLATIONS[name]), All())
    maps = {f"{tail}{kind}" for kind in KINDS[1:] for tail in ("", "critic/", "accuracy/")}
    features = {"feature", "critic/feature", "accuracy/feature"}
    blind = maps | {"gamma/position", "gamma/channel"}
    gone = {"output": maps | features, "feature": maps, "plain": blind, "no attention": blind,
            "source only": maps | features | {"segmentation/translated", "output"},
            "translations alone": {"segmentation"}}  # fmt: skip
    assert set(full) - set(less) == gone.get(name, set()) and set(less) <= set(full)
    ratio = float(name.split()[1]) / 0.1 if name.startswith("weight") else 1.0
    expected = {k: ratio * full[k] if k in KINDS else full[k] for k in less}
    unlike = {k for k in less if less[k] != pytest.approx(expected[k], rel=1e-4)}
    if name == "raw maps":  # accuracies may agree
        assert {"position", "critic/position", "channel", "critic/channel"} <= unlike <= maps
    elif name == "plain":
        assert {"segmentation", "segmentation/translated", "output"} <= unlike
        assert method.segmenter.attention is None and method.segmenter.features == 8 == 2 * method.config.width
        whole = bigl().segmenter
        block = count_parameters(whole.attention)
        assert count_parameters(method.segmenter) == count_parameters(whole) - block < count_parameters(whole)
    elif name == "shape":  # its U-Net is drawn between the translators and the segmenter
        assert bigl().translators["cyclegan"].shape is None is not method.translators["cyclegan"].shape
    elif name == "reconstructed":  # `tests/test_bigl_looks.py`
        assert "segmentation" in unlike and "segmentation/translated" not in unlike
    else:  # networks begin alike, gammas with 0: what stays is what it was
        assert not unlike
    if name == "output":
        assert list(method.stages()[1].optimisers) == ["segmenter"] and method.stages()[1].trained == ("segmenter",)


def test_without_aligned_maps_none_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xmod_lab.models.dual_attention.position_map", None)
    segmentation(bigl(align_attention=False))
    bigl().segment(batch_of()["B"].image, "B")
    with pytest.raises(TypeError):
        segmentation(bigl())


def paired_method(**config: Any) -> Any:
    torch.manual_seed(0)
    cls = METHODS["bigl"].cls
    problem = dataclasses.replace(problem_of("bigl"), paired=True)
    return cls(build_config(cls, {"width": 4, "synth": "paired"} | config), problem)


def test_paired_synthesis_is_pix2pix_each_way() -> None:
    method, batch = paired_method(), batch_of(paired=True)
    watched = Watched(method)
    losses = one_step(method, 0, watched, batch).losses
    assert {"pair/A->B", "pair/B->A"} <= set(losses)
    assert [names for names, _ in watched.seen] == [
        (f"{way}/{part}",) for way in ("A->B", "B->A") for part in ("critic", "generator")
    ]
    image = batch["B"].image
    method.eval()
    assert torch.equal(method.translate(image, "B", "A"), method.translators["B->A"].generator(image))
    with pytest.raises(LabError, match="not of the same patients"):
        one_step(method, 0, None, batch_of())
    with pytest.raises(LabError, match="paired synthesis learns from registered pairs"):
        bigl(synth="paired")
    with pytest.raises(LabError, match="without a shape term"):
        paired_method(shape_weight=1.0)


def test_labels_of_the_unlabelled_modality_are_never_read() -> None:
    found = []
    for label in (None, torch.randint(0, 3, (2, 32, 32))):
        batch = batch_of() | {"B": a_batch("B")["B"]._replace(label=label)}
        method = bigl(shape_weight=1.0)
        found.append([one_step(method, stage, None, batch).losses for stage in (0, 1)])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"synth": "spade"}, "synth is 'spade'"),
        ({"optimiser": "rmsprop"}, "optimiser is 'rmsprop'"),
        ({"map_scale": "N"}, "map_scale is 'N'"),
        ({"channel_mode": "cosine"}, "channel_mode is 'cosine'"),
        ({"dual_attention": False}, "a plain U-Net has no attention to align"),
        ({"learn_source": False, "learn_translated": False}, "nothing is learned from labels"),
        ({"reconstructed": True, "translation_share": 0.0}, "its translators do not train"),
        ({"attend": False}, "a block without attention has no attention to align"),
    ],
)
def test_what_means_nothing_is_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(LabError, match=message):
        bigl(**config)


def test_a_task_of_two_labelled_modalities_is_refused() -> None:
    with pytest.raises(LabError, match="adapts from one labelled modality to one without labels"):
        METHODS["bigl"].cls(build_config(METHODS["bigl"].cls, {"width": 4}), problem_of("cyclegan"))
