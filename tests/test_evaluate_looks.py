"""Dice by look: what is shown is what the names say, and scores are those of whole volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.tiny import make_tiny
from xmod_lab.data.prepare import prepare
from xmod_lab.evaluate import runs
from xmod_lab.evaluate.looks import BLUR, COLUMNS, LOOKS, blurred, grain, look_table
from xmod_lab.methods.base import Method, Problem
from xmod_lab.models.bigl import Sight

PROBLEM = Problem(("A", "B"), ("A", "B"), ("A",), ("B",), ("core", "rim"), 1, 32)


class Bright(Method):
    """Takes what lies above 0 for the core; its translations are upside down, darker each time by 0.25."""

    def __init__(self) -> None:
        super().__init__(None, PROBLEM)
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.translations = [("A", "B"), ("B", "A")]
        self.shown: list[Tensor] = []

    def translate(self, image: Tensor, source: str, target: str) -> Tensor:
        assert {source, target} == {"A", "B"}
        return -image - 0.25

    def see(self, images: dict[str, Tensor], mapped: bool = False) -> dict[str, Sight]:
        self.shown += images.values()
        return {n: Sight(self.segment(x, ""), x, None, None) for n, x in images.items()}

    def segment(self, image: Tensor, modality: str) -> Tensor:
        return torch.cat([torch.zeros_like(image), 9 * image, torch.full_like(image, -9.0)], 1)


def test_each_look_is_shown_and_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    prepared = prepare(make_tiny(tmp_path, ("A", "B")), None, 32)
    method: Any = Bright()
    table = look_table(method, prepared)
    structures = prepared.task.reported or prepared.classes
    assert tuple(table) == COLUMNS and set(table["structure"]) == set(structures)
    assert len(table) == 2 * len(prepared.split.test) * 4 * len(structures)
    case = next(runs.test_volumes(prepared, "A"))
    x = case.slices.image
    for shown, expected in zip(method.shown, (x, blurred(x), x + 0.25 - 0.25, -x - 0.25), strict=False):
        assert torch.allclose(shown, expected, atol=1e-6)
    own = table[(table["patient"] == case.patient) & (table["modality"] == "A") & (table["structure"] == "core")]
    predicted, truth = runs.predict_volume(method, case) == 1, case.truth == 1
    dice = 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum())
    scores = own.set_index("look")["dice"]
    assert list(scores.index) == list(LOOKS)
    assert scores["real"] == scores["reconstructed"] == pytest.approx(dice) and 0 < dice != scores["translated"]
    assert own.set_index("look")["grain"]["blurred"] < own.set_index("look")["grain"]["real"]


def test_grain_is_what_a_blur_takes_away() -> None:
    """Of a checkerboard of +-1 all of it, of a plane nothing; the background does not count."""
    rows, columns = np.mgrid[:32, :32]
    board = torch.from_numpy(((-1.0) ** (rows + columns)).astype(np.float32))[None, None]
    body = torch.zeros(1, 32, 32, dtype=torch.bool)
    body[:, 8:24, 8:24] = True
    response = float(np.exp(-((BLUR * np.pi) ** 2)))  # the Gaussian's at the highest frequency, along both axes
    assert grain(board, body) == pytest.approx(1 - response, abs=0.02)
    assert grain(torch.full((1, 1, 32, 32), 0.3), body) == pytest.approx(0, abs=1e-6)
    noisy = torch.where(body[:, None], torch.zeros(()), board)
    body[:, 8:24, 8:24] = False
    body[:, 14:18, 14:18] = True
    assert grain(noisy, body) == pytest.approx(0, abs=1e-4)
