"""Dice by look: what is shown is what the names say, and scores are those of whole volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from tests.joint import built
from tests.tiny import make_tiny
from xmod_lab.data.prepare import Prepared, prepare
from xmod_lab.evaluate import runs
from xmod_lab.evaluate.looks import COLUMNS, LOOKS, blurred, look_gains, look_table, looks_of, one_curve
from xmod_lab.methods.base import Method, Problem
from xmod_lab.models.bigl import Sight

PROBLEM = Problem(("A", "B"), ("A", "B"), ("A",), ("B",), ("core", "rim"), 1, 32)


class Bright(Method):
    """Takes what lies above 0 for the core; its translations are turned around, and lose greys on each way."""

    def __init__(self) -> None:
        super().__init__(None, PROBLEM)
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.translations = [("A", "B"), ("B", "A")]
        self.shown: list[Tensor] = []

    def translate(self, image: Tensor, source: str, target: str) -> Tensor:
        assert {source, target} == {"A", "B"}
        return -0.5 * image - 0.25

    def see(self, images: dict[str, Tensor], mapped: bool = False) -> dict[str, Sight]:
        self.shown += images.values()
        return {n: Sight(self.segment(x, ""), x, None, None) for n, x in images.items()}

    def segment(self, image: Tensor, modality: str) -> Tensor:
        return torch.cat([torch.zeros_like(image), 9 * image, torch.full_like(image, -9.0)], 1)


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepared:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    return prepare(make_tiny(tmp_path, ("A", "B")), None, 32)


def test_each_look_is_shown_and_scored(prepared: Prepared) -> None:
    method: Any = Bright()
    table = look_table(method, prepared)
    structures = prepared.task.reported or prepared.classes
    assert tuple(table) == COLUMNS and set(table["structure"]) == set(structures)
    assert len(table) == 2 * len(prepared.split.test) * len(LOOKS) * len(structures)
    case = next(runs.test_volumes(prepared, "A"))
    x = case.slices.image
    back, detail = 0.25 * x - 0.125, x - blurred(x)
    body = case.slices.foreground
    curve = one_curve(x, back, body)
    expected = (x, blurred(x), blurred(x) + 0.25 * detail, back + 0.75 * detail, curve, back, -0.5 * x - 0.25)
    for look, shown, image in zip(LOOKS, method.shown, expected, strict=False):
        assert torch.allclose(shown, image, atol=1e-5), look
    assert (curve - back)[:, 0][body].abs().mean() < 0.02 < 0.1 < (x - back)[:, 0][body].abs().mean()
    own = table[(table["patient"] == case.patient) & (table["modality"] == "A") & (table["structure"] == "core")]
    predicted, truth = runs.predict_volume(method, case) == 1, case.truth == 1
    dice = 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum())
    scores = own.set_index("look")
    assert list(scores.index) == list(LOOKS) and 0 < dice == pytest.approx(scores["dice"]["real"])
    assert scores["dice"]["real"] != scores["dice"]["reconstructed"]
    assert scores["change"]["real"] == 0
    assert scores["change"]["reconstructed"] == pytest.approx((back - x)[:, 0][body].abs().mean().item(), rel=1e-4)


def test_detail_and_greys_are_of_one_image_or_the_other(prepared: Prepared) -> None:
    """Greys and detail of an image are the image: the four looks of real and made ones are two of each."""
    case = next(runs.test_volumes(prepared, "B"))
    looks = looks_of(Bright(), case)  # type: ignore[arg-type]
    assert tuple(looks) == LOOKS
    assert torch.allclose(looks["made detail"] + looks["made greys"], looks["real"] + looks["reconstructed"], atol=1e-5)
    for look, greys in (("made detail", "real"), ("made greys", "reconstructed")):
        near, far = ((blurred(looks[look]) - blurred(looks[o])).abs().mean() for o in ("real", "reconstructed"))
        assert (near < far) == (greys == "real")


def test_the_segmenter_gets_the_look_itself(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also that of a run which is shown reconstructions at the test."""
    method = built("bigl", reconstructed=True).eval()
    passes: list[Tensor] = []
    method.segmenter.register_forward_hook(lambda _m, x, _o: passes.append(x[0]))
    monkeypatch.setattr(type(method), "as_seen", None)
    look_table(method, prepared)
    assert torch.equal(passes[0], next(runs.test_volumes(prepared, "A")).slices.image)
    assert np.all([len(image) <= 32 for image in passes])


def test_one_curve_changes_greys_alike_wherever_they_are() -> None:
    """By hand: half of the body is 0 and becomes 0.3 and 0.5, half is 1 and becomes -1: a place alone is not
    followed."""
    image, other, body = torch.zeros(1, 1, 8, 16), torch.zeros(1, 1, 8, 16), torch.ones(1, 8, 16, dtype=torch.bool)
    image[..., 8:], other[..., 8:] = 1.0, -1.0
    other[:, :, ::2, :8], other[:, :, 1::2, :8] = 0.3, 0.5
    body[:, 0] = False
    changed = one_curve(image, other, body)
    assert torch.equal(changed[:, :, 0], image[:, :, 0]) and torch.allclose(changed[:, :, 1:, 8:], torch.tensor(-1.0))
    inside = changed[:, :, 1:, :8]
    assert inside.std() < 1e-6 and 0.3 < inside.mean() < 0.5


def test_gains_are_paired_by_patient() -> None:
    rows = [("p", "T2", "real", "WT", 0.2), ("q", "T2", "real", "WT", 0.8), ("p", "T2", "blurred", "WT", 0.4),
            ("q", "T2", "blurred", "WT", 0.9), ("p", "T1", "real", "WT", 0.5)]  # fmt: skip
    table = pd.DataFrame([(*row, 1.0, 0.5, 0.1) for row in rows], columns=list(COLUMNS))
    found = look_gains(table.sample(frac=1, random_state=0))
    more = pd.concat([table, table.assign(structure="TC")]).sort_values("look", kind="stable")
    assert list(look_gains(more).index.get_level_values(1)) == ["WT", "WT", "TC", "TC", "WT", "TC"]
    blurred_row = found.loc[("T2", "WT", "blurred")]
    assert blurred_row["dice"] == pytest.approx(0.65) and blurred_row["gain"] == pytest.approx(0.15)
    assert blurred_row["sd"] == pytest.approx(np.std([0.2, 0.1], ddof=1)) and blurred_row["above"] == 2
    assert found.loc[("T2", "WT", "real"), ["gain", "above"]].tolist() == [0, 0]
    assert found.loc[("T1", "WT", "real"), "sensitivity"] == 1.0
