"""The detached segmenter: what it learns from, whose labels, and what it does with the other modality."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.joint import JOINT, Kept, Watched, a_batch, one_step
from xmod_lab.errors import LabError
from xmod_lab.losses.segmentation import dice_cross_entropy
from xmod_lab.methods import METHODS
from xmod_lab.methods.base import Method, build_config
from xmod_lab.methods.detached import TEACHER, Detached, DetachedConfig
from xmod_lab.runs import RunSpec, reads_of

PROBLEM = dataclasses.replace(JOINT, labelled=("B",), unlabelled=("A",))


class Negative(Method):
    """Translates by the sign, and calls what is bright the core."""

    def translate(self, image: Tensor, source: str, target: str) -> Tensor:
        assert (source, target) == ("A", "B")
        return -image

    def segment(self, image: Tensor, modality: str) -> Tensor:
        assert modality == "B"
        return torch.cat([-image[:, :1], image[:, :1], torch.full_like(image[:, :1], -9)], 1)


class AllRim(Negative):
    def segment(self, image: Tensor, modality: str) -> Tensor:
        none = torch.zeros_like(image[:, :1])
        return torch.cat([none, none, none + 1], 1)


def detached(labels: str = "detached", problem: Any = PROBLEM) -> Any:
    torch.manual_seed(0)
    method = Detached(DetachedConfig(width=4, dropout=0.0, labels=labels), problem)
    method.receive("sasan", Negative(None, problem))
    method.receive(TEACHER, AllRim(None, problem))
    return method


def batch_of(labelled: str = "B") -> dict[str, Any]:
    return {m: s if m in labelled else s._replace(label=None) for m, s in a_batch("AB").items()}


@pytest.mark.parametrize(("labels", "expected"), [("detached", "rim"), ("own", "bright")])
def test_the_step_by_hand(labels: str, expected: str) -> None:
    method, batch = detached(labels), batch_of()
    losses = one_step(method, 0, Kept(), batch).losses
    net, made = method.network("B"), -batch["A"].image
    pseudo = torch.full_like(batch["B"].label, 2) if expected == "rim" else (made[:, 0] > 0).long()
    with torch.no_grad():
        real = dice_cross_entropy(net(batch["B"].image), batch["B"].label).item()
        fake = dice_cross_entropy(net(made), pseudo).item()
    assert losses["segmentation/B"] == pytest.approx(real, rel=1e-5)
    assert losses["translated"] == pytest.approx(fake, rel=1e-5)
    assert losses["total"] == pytest.approx((real + fake) / 2, rel=1e-5)


def test_true_labels_are_those_of_the_image_that_was_translated() -> None:
    joint = dataclasses.replace(JOINT, labelled=("B", "A"), unlabelled=())
    method, batch = detached("true", joint), a_batch("AB")
    batch["A"] = batch["A"]._replace(label=1 - batch["A"].label.clamp_max(1))
    losses = one_step(method, 0, Kept(), batch).losses
    with torch.no_grad():
        fake = dice_cross_entropy(method.network("B")(-batch["A"].image), batch["A"].label).item()
    assert method.home == "B" and losses["translated"] == pytest.approx(fake, rel=1e-5)
    with pytest.raises(LabError, match="A has no labels here"):
        detached("true")


def test_only_the_u_net_learns() -> None:
    method = detached("own")
    watched = Watched(method)
    one_step(method, 0, watched, batch_of())
    assert watched.seen == [(("segmenter",), {"networks"})]


def test_labels_of_the_unlabelled_modality_are_never_read() -> None:
    found = []
    for label in (None, torch.randint(0, 3, (2, 32, 32))):
        batch = batch_of() | {"A": a_batch("A")["A"]._replace(label=label)}
        found.append(one_step(detached(), 0, Kept(), batch).losses)
    assert found[0] == found[1]


def test_the_other_modality_is_segmented_through_its_translation() -> None:
    method, image = detached().eval(), a_batch("A")["A"].image
    with torch.no_grad():
        assert torch.equal(method.segment(image, "A"), method.network("B")(-image))
        assert torch.equal(method.segment(image, "B"), method.network("B")(image))
    with pytest.raises(LabError, match="not trained with 'C'"):
        method.segment(image, "C")


def test_maps_of_the_other_modality_are_of_its_translation() -> None:
    method = detached().eval()
    batch = {m: s._replace(label=None) for m, s in a_batch("AB").items()}
    expected = method.network("B")(-batch["A"].image).softmax(1)
    assert torch.equal(method.maps(batch)["probability/A"].values, expected)


def test_what_it_reads() -> None:
    spec = RunSpec("detached", "whole_heart", "sasan_mr_to_ct", seed=1)
    assert list(reads_of(spec)) == ["sasan", TEACHER]
    assert {other.seed for other in reads_of(spec).values()} == {1}
    own = dataclasses.replace(spec, settings=(("labels", "own"),))
    assert list(reads_of(own)) == ["sasan"]
    bad = {"translator": "unet_joint"}, {"translator": "stargan", "labels": "own"}
    for values, why in zip(bad, ("does not translate", "no segmenter of its own"), strict=True):
        with pytest.raises(LabError, match=why):
            reads_of(dataclasses.replace(spec, settings=tuple(values.items())))


def test_a_missing_translator_is_named() -> None:
    method = METHODS["detached"].cls(build_config(Detached, {"width": 4}), PROBLEM)
    with pytest.raises(LabError, match="the translator sasan is missing"):
        method.translated(a_batch("A")["A"].image)
