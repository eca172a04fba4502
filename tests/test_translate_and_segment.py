"""Translate, then segment, in both directions: what the U-Net learns from, what it is shown, and derived slices."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.joint import JOINT, Kept, Watched, a_batch, built, one_step, poisoned, problem_of
from tests.tiny import make_tiny
from xmod_lab.data.batches import BatchSource
from xmod_lab.data.prepare import Prepared, prepare
from xmod_lab.errors import LabError
from xmod_lab.losses.segmentation import dice_cross_entropy
from xmod_lab.methods.base import Method
from xmod_lab.methods.translate_and_segment import TranslateAndSegment, TranslateAndSegmentConfig
from xmod_lab.methods.translated import derivation, translation
from xmod_lab.methods.unet import UNetBaseline, UNetConfig
from xmod_lab.runs import RunSpec, reads_of
from xmod_lab.train import fit

PROBLEM = problem_of("cyclegan_seg")


class Signs(Method):
    """Translates A to B by the sign, B to A by the half, and notes what it was asked."""

    def translate(self, image: Tensor, source: str, target: str) -> Tensor:
        return {"A->B": -image, "B->A": 0.5 * image}[f"{source}->{target}"]


def seg(direction: str = "source_to_target", **config: Any) -> Any:
    torch.manual_seed(0)
    config = {"width": 4, "dropout": 0.0} | config
    method = TranslateAndSegment(TranslateAndSegmentConfig(direction=direction, **config), PROBLEM)
    method.receive("cyclegan_adapting", Signs(UNetConfig(), PROBLEM))
    return method


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepared:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    return prepare(make_tiny(tmp_path, ("A", "B"), 8), None, 32)


@pytest.mark.parametrize(("direction", "sign"), [("source_to_target", -1), ("target_to_source", 1)])
def test_the_step_by_hand(direction: str, sign: int) -> None:
    method, batch = seg(direction), a_batch()
    losses = one_step(method, 0, Kept(), batch).losses
    with torch.no_grad():
        expected = dice_cross_entropy(method.network("A")(sign * batch["A"].image), batch["A"].label).item()
    assert losses == {"total": pytest.approx(expected, rel=1e-5), "segmentation/A": pytest.approx(expected, rel=1e-5)}


def test_derived_slices_are_taken_where_a_batch_has_them() -> None:
    method, batch = seg(), a_batch()
    there = batch | {"A->B": batch["A"]._replace(image=batch["A"].image.flip(3))}
    with torch.no_grad():
        expected = method.network("A")(there["A->B"].image)
        assert torch.equal(method.logits(there, "A"), expected)
        assert not torch.equal(method.logits(batch, "A"), expected)
    made = translation(Signs(UNetConfig(), PROBLEM).translate, batch, "A", "B")
    assert torch.equal(made, -batch["A"].image)


def test_the_loop_translates_every_slice_once(data: Prepared, tmp_path: Path) -> None:
    method = seg()
    fit(method, "cyclegan_seg", data, tmp_path / "run", steps=2, batch=4, seed=0, augment="none")
    (path,) = (tmp_path / "run" / "derived").iterdir()
    stored = np.load(path)
    assert path.name == "A_to_B.npy" and stored.shape == data.images["A"].shape
    assert np.allclose(stored, -np.asarray(data.images["A"], np.float32), atol=2e-3)
    batch = BatchSource(data, 4, 0, extra={"A->B": stored}).draw(0)
    apart = (batch["A->B"].image + batch["A"].image)[:, 0].abs()
    assert apart[batch["A"].foreground].median() < 0.02, "one draw for both"
    fit(seg("target_to_source"), "cyclegan_seg", data, tmp_path / "back", steps=1, batch=4, seed=0)
    assert not (tmp_path / "back" / "derived").exists()


def test_target_to_source_trains_source_only_bit_for_bit(data: Prepared, tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = UNetBaseline(UNetConfig(width=4), PROBLEM)
    fit(plain, "source_only", data, tmp_path / "plain", steps=3, batch=4, seed=0)
    for direction in ("target_to_source", "source_to_target"):
        method = seg(direction, dropout=0.5)
        fit(method, "cyclegan_seg", data, tmp_path / direction, steps=3, batch=4, seed=0)
        found = method.networks.state_dict()
        same = all(torch.equal(found[k], v) for k, v in plain.networks.state_dict().items())
        assert same == (direction == "target_to_source")


def test_what_is_segmented_through_a_translation() -> None:
    image = a_batch()["A"].image
    for direction, of_a, of_b in (("source_to_target", -1, 1), ("target_to_source", 1, 0.5)):
        method = seg(direction).eval()
        with torch.no_grad():
            assert torch.equal(method.segment(image, "A"), method.network("A")(of_a * image))
            assert torch.equal(method.segment(image, "B"), method.network("A")(of_b * image))
        with pytest.raises(LabError, match="not trained with 'C'"):
            method.segment(image, "C")


def test_only_the_u_net_learns_and_never_from_labels_of_the_target() -> None:
    found = []
    for batch in (a_batch(), poisoned(a_batch()), a_batch() | {"B": a_batch()["B"]._replace(label=None)}):
        method = built("cyclegan_seg")
        watched = Watched(method)
        found.append((one_step(method, 0, watched, batch).losses, method.state_dict()))
        assert watched.seen == [(("segmenter",), {"networks"})]
    for losses, after in found[1:]:
        assert losses == found[0][0] and all(torch.equal(v, found[0][1][k]) for k, v in after.items())


@pytest.mark.parametrize(
    ("direction", "residual", "factor"), [("source_to_target", "B/A", 2), ("target_to_source", "A/B", 0.5)]
)
def test_maps_by_hand(direction: str, residual: str, factor: float) -> None:
    method, batch = seg(direction).eval(), a_batch()
    found = method.maps(batch)
    with torch.no_grad():
        for m in "AB":
            p = method.segment(batch[m].image, m).softmax(1)
            assert torch.allclose(found[f"probability/{m}"].values, p, atol=1e-6)
    changed = batch[residual[-1]].image[:, 0].abs() * factor
    assert torch.allclose(found[f"residual/{residual}"].values, changed, atol=1e-6)
    assert len(found) == 5 and found[f"residual/{residual}"].layer == "made_tap"


def test_what_it_reads() -> None:
    spec = RunSpec("cyclegan_seg", "brain_tumour", "t1_to_t2", seed=1)
    (other,) = reads_of(spec).values()
    assert (other.method, other.seed, other.settings) == ("cyclegan_adapting", 1, ())
    with_ugatit = dataclasses.replace(spec, settings=(("translator", "ugatit"),))
    assert list(reads_of(with_ugatit)) == ["ugatit"]
    with pytest.raises(LabError, match="unet_joint does not translate.*known: .*cyclegan"):
        reads_of(dataclasses.replace(spec, settings=(("translator", "unet_joint"),)))


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(LabError, match="direction is 'both'.*known: source_to_target, target_to_source"):
        seg("both")
    with pytest.raises(LabError, match="individual is True"):
        seg(individual=True)
    with pytest.raises(LabError, match="one labelled modality to one without"):
        TranslateAndSegment(TranslateAndSegmentConfig(width=4), JOINT)
    alone = TranslateAndSegment(TranslateAndSegmentConfig(width=4), PROBLEM)
    with pytest.raises(LabError, match="the translator cyclegan_adapting is missing: TranslateAndSegment"):
        alone.segment(a_batch()["A"].image, "A")
    with pytest.raises(LabError, match="T1.T2 is several modalities in one image"):
        derivation(alone.translated, "T1+T2", "CT")
