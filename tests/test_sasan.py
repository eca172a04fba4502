"""SASAN's training steps by hand, its set-ups, ablations and maps."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from tests.joint import JOINT, Kept, Watched, a_batch, one_step, weights
from xmod_lab.errors import LabError
from xmod_lab.losses.attention import gram, orthogonality
from xmod_lab.losses.segmentation import balanced_cross_entropy, soft_dice
from xmod_lab.losses.similarity import structural_similarity
from xmod_lab.methods import METHODS
from xmod_lab.methods.base import build_config
from xmod_lab.models.blocks import count_parameters
from xmod_lab.models.sasan import Synthesis


def sasan(labelled: str = "A", paired: bool = False, size: int = 32, **config: Any) -> Any:
    """At width 8, of A and B, always the same weights."""
    names = tuple(labelled)
    classes = JOINT.classes if labelled else ()
    problem = dataclasses.replace(
        JOINT, labelled=names, unlabelled=tuple(m for m in "AB" if m not in names), classes=classes, paired=paired,
        size=size,
    )  # fmt: skip
    torch.manual_seed(0)
    entry = METHODS["sasan"]
    return entry.cls(build_config(entry.cls, {"width": 8} | entry.overrides | config), problem)


def batch_of(labelled: str = "A", size: int = 32, paired: bool = False) -> dict[str, Any]:
    batch = a_batch("AB", size=size, paired=paired)
    return {m: s if m in labelled else s._replace(label=None) for m, s in batch.items()}


def test_the_papers_profile_has_the_papers_width() -> None:
    method = sasan(width=64, wide_critics=False)
    assert count_parameters(method.generators["A->B"]) == count_parameters(Synthesis(1))
    assert method.critics["A"].trunk[0].out_channels == 32 == method.seg_critic.trunk[2].out_channels
    assert sasan(width=64).critics["A"].trunk[0].out_channels == 64, "as in the code"


def test_balanced_cross_entropy_by_hand() -> None:
    logits, labels = torch.randn(1, 3, 2, 2), torch.tensor([[[0, 0], [0, 1]]])
    each = F.cross_entropy(logits, labels, reduction="none")
    weight = torch.where(labels == 0, 1 / 4, 3 / 4)
    assert balanced_cross_entropy(logits, labels).item() == pytest.approx(((weight * each).sum() / weight.sum()).item())
    alone = torch.randn(1, 3, 2, 2, requires_grad=True)
    balanced_cross_entropy(alone, torch.zeros_like(labels)).backward()
    assert alone.grad is not None and not alone.grad.any(), "a batch of background alone teaches nothing"


def supervised(method: Any, logits: torch.Tensor, label: torch.Tensor) -> float:
    return (balanced_cross_entropy(logits, label) + 0.2 * soft_dice(logits, label)).item()


def test_the_attention_stage_by_hand() -> None:
    method, batch = sasan(), batch_of()
    losses = one_step(method, 0, Kept(), batch).losses
    maps, logits = method.attention["A"](batch["A"].image)
    assert losses["segmentation/A"] == pytest.approx(supervised(method, logits, batch["A"].label), rel=1e-5)
    assert losses["orthogonality/A"] == pytest.approx(orthogonality(maps).item(), rel=1e-5)
    watched = Watched(method, 0)
    one_step(method, 0, watched, batch)
    assert [names for names, _ in watched.seen] == [("attention",)] and watched.seen[0][1] == {"attention"}


def test_the_cycle_by_hand() -> None:
    method, batch = sasan(), batch_of()
    kept = Kept()
    losses = one_step(method, 1, kept, batch).losses
    x = {m: batch[m].image for m in "AB"}
    with torch.no_grad():
        real = {m: method.attention[m](x[m]) for m in "AB"}
        made = {t: method.generators[f"{s}->{t}"](x[s], real[s][0]) for s, t in ("AB", "BA")}
        same = {t: method.generators[f"{s}->{t}"](x[t], real[t][0]) for s, t in ("AB", "BA")}
        fake = {m: method.attention[m](made[m]) for m in "AB"}
        back = {s: method.generators[f"{t}->{s}"](made[t], fake[t][0]) for s, t in ("AB", "BA")}

        def score(critic: Any, image: torch.Tensor, wanted: float) -> float:
            return (critic(image) - wanted).square().mean().item()

        critics, seg = method.critics, method.seg_critic
        judged = torch.cat([fake["A"][1].softmax(1), real["B"][1].softmax(1)])
        told = sum(0.5 * score(critics[m], x[m], 1) + 0.5 * score(critics[m], made[m], 0) for m in "AB") / 2
        pseudo = fake["A"][1].argmax(1)
        label = batch["A"].label
        expected = {
            "critic": told,
            "critic/segmentation": 0.5 * score(seg, real["A"][1].softmax(1), 1) + 0.5 * score(seg, judged, 0),
            "adversarial": 2 * sum(score(critics[m], made[m], 1) for m in "AB") / 2,
            "adversarial/segmentation": 2 * score(seg, judged, 1),
            "reconstruction": 10 * sum((back[m] - x[m]).abs().mean().item() for m in "AB") / 2,
            "similarity": 10 * sum(1 - structural_similarity(back[m], x[m]).item() for m in "AB") / 2,
            "identity": 2.5 * sum((same[m] - x[m]).abs().mean().item() for m in "AB") / 2,
            "orthogonality": sum(orthogonality(real[m][0]).item() for m in "AB") / 2,
            "auxiliary": 2.5
            * (supervised(method, fake["B"][1], label) + supervised(method, real["B"][1], pseudo))
            / 2,
            "change": sum((made[t] - x[s]).abs().mean().item() for s, t in ("AB", "BA")) / 2,
        }
    assert losses == {name: pytest.approx(value, rel=1e-4, abs=1e-6) for name, value in expected.items()}
    whole = sum(v for name, v in expected.items() if not name.startswith(("critic", "change")))
    assert kept.losses["generators"].item() == pytest.approx(whole, rel=1e-4)
    assert kept.losses["critics"].item() == pytest.approx(told + expected["critic/segmentation"], rel=1e-4)


def test_whom_each_update_moves() -> None:
    method, batch = sasan(), batch_of()
    before = weights(method)
    watched = Watched(method, 1)
    one_step(method, 1, watched, batch)
    assert watched.seen[0] == (("critics",), {"critics", "seg_critic"})
    assert watched.seen[1] == (("generators",), {"generators", "attention"})
    after = weights(method)
    moved = {name for name in after if not torch.equal(after[name], before[name])}
    assert not any(name.startswith("attention.A.") for name in moved), "the first stage's module stays as it is"
    assert any(name.startswith("attention.B.") for name in moved)
    free, learned = sasan(frozen=False), batch_of()
    before = weights(free)
    one_step(free, 1, None, learned)
    assert any(not torch.equal(v, before[k]) for k, v in weights(free).items() if k.startswith("attention.A."))


@pytest.mark.parametrize("name", sorted(METHODS["sasan"].cls.ablations))
def test_ablations_take_away_what_they_say(name: str) -> None:
    values = METHODS["sasan"].cls.ablations[name]
    batch = batch_of(size=64)
    full, less = (set(one_step(sasan(size=64, **v), -1, Kept(), batch).losses) for v in ({}, values))
    gone = {"seg": {"critic/segmentation", "adversarial/segmentation"}, "aux": {"auxiliary"}}
    assert full - less == gone.get(name, set())
    if name == "reg":
        assert one_step(sasan(**values), 1, Kept(), batch_of()).losses["orthogonality"] == 0
    if name == "aux":
        method = sasan(**values)
        assert len(method.stages()) == 1 and "attention.A" in method.stages()[0].trained, "no stage learns from labels"
    if name == "16 maps":
        assert sasan(**values).maps(batch_of())["attention/A/A"].values.shape[1] == 16


@pytest.mark.parametrize("preset", ["official", "printed"])
def test_presets_train(preset: str) -> None:
    method = sasan(**METHODS["sasan"].cls.presets[preset])
    stages = method.stages()
    assert [s.name for s in stages] == (["cycle"] if preset == "printed" else ["attention", "cycle"])
    for stage in range(len(stages)):
        losses = one_step(method, stage, None, batch_of()).losses
        assert all(torch.isfinite(torch.tensor(list(losses.values()))))
    assert ("agreement" in losses) == (preset == "official")


def test_labels_of_the_unlabelled_modality_are_never_read() -> None:
    noise = torch.randint(0, 3, (2, 32, 32))
    found = []
    for label in (None, noise):
        batch = batch_of() | {"B": a_batch("B")["B"]._replace(label=label)}
        found.append(one_step(sasan(), 1, Kept(), batch).losses)
    assert found[0] == found[1]


def test_with_both_labelled_true_labels_take_the_place_of_pseudo_labels() -> None:
    method, batch = sasan("AB"), a_batch("AB")
    losses = one_step(method, 1, Kept(), batch).losses
    with torch.no_grad():
        made = {t: method.translate(batch[s].image, s, t) for s, t in ("AB", "BA")}
        seen = {m: method.attention[m](made[m])[1] for m in "AB"}
    expected = 2.5 * sum(supervised(method, seen[t], batch[s].label) for s, t in ("AB", "BA")) / 2
    assert losses["auxiliary"] == pytest.approx(expected, rel=1e-4)


def test_paired_without_labels() -> None:
    method, batch = sasan("", paired=True), batch_of("", paired=True)
    assert [s.name for s in method.stages()] == ["cycle"] and method.seg_critic is None
    losses = one_step(method, 0, Kept(), batch).losses
    made = method.translate(batch["A"].image, "A", "B"), method.translate(batch["B"].image, "B", "A")
    expected = 10 * ((made[0] - batch["B"].image).abs().mean() + (made[1] - batch["A"].image).abs().mean()) / 2
    assert losses["pair"] == pytest.approx(expected.item(), rel=1e-4)
    assert not {"auxiliary", "critic/segmentation"} & set(losses)
    with pytest.raises(LabError, match="not of the same patients"):
        one_step(method, 0, Kept(), batch_of(""))
    with pytest.raises(LabError, match="without labels"):
        method.segment(batch["A"].image, "A")


def test_low_resolution_translates_half_the_size() -> None:
    method, image = sasan(size=64, low_resolution=True), a_batch("A", size=64)["A"].image
    sizes = []
    method.generators["A->B"].register_forward_hook(lambda _m, _i, out: sizes.append(out.shape[-1]))
    assert method.translate(image, "A", "B").shape == image.shape and sizes == [32]
    assert method.segment(image, "A").shape == (2, 3, 64, 64)
    label = torch.zeros(1, 64, 64, dtype=torch.long)
    label[0, 2:4, 2:4], label[0, 11, 11], label[0, 20, 20:22], label[0, 21, 20] = 1, 2, 1, 1
    batch = a_batch("A", size=64) | {"A": a_batch("A", size=64)["A"]._replace(label=label)}
    small = method._label(batch, "A")[0]
    assert small[1, 1] == small[10, 10] == 1 and small.sum() == 2, "of four pixels the most frequent class"
    for size, why in ((32, "64 pixels at least"), (48, "multiple of 32")):
        with pytest.raises(LabError, match=why):
            sasan(size=size, low_resolution=True)


def test_three_modalities_are_refused() -> None:
    problem = dataclasses.replace(JOINT, modalities=("A", "B", "C"))
    with pytest.raises(LabError, match="two modalities"):
        METHODS["sasan"].cls(build_config(METHODS["sasan"].cls, {"width": 8}), problem)


def test_maps_by_hand() -> None:
    method, batch = sasan().eval(), batch_of()
    found, x = method.maps(batch), batch["A"].image
    with torch.no_grad():
        maps, logits = method.attention["A"](x)
        made = method.translate(x, "A", "B")
        seen, _ = method.attention["B"](made)
        norm = method.generators["A->B"].blocks[2].norms[0]
        gamma, beta = norm.modulate(F.relu(norm.embed(maps))).chunk(2, 1)
    assert torch.allclose(found["attention/A/A"].values, maps, atol=1e-5)
    assert torch.allclose(found["attention/B/A"].values, seen, atol=1e-5)
    assert torch.allclose(found["gram/A/A"].values, gram(maps), atol=1e-5)
    assert torch.allclose(found["segmentation/A/A"].values, logits.softmax(1), atol=1e-5)
    at = found["gamma/B/A"].names.index("1/1 first")
    assert found["beta/B/A"].values.shape[1] == 8, "of every normalisation layer"
    assert torch.allclose(found["gamma/B/A"].values[:, at], gamma.abs().mean(1), atol=1e-5)
    assert torch.allclose(found["beta/B/A"].values[:, at], beta.mean(1), atol=1e-5)
    assert torch.allclose(found["residual/B/A"].values, (made - x).abs()[:, 0], atol=1e-5)
    assert {name.split("/")[-1] for name in found} == {"A", "B"}
