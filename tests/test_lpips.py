"""LPIPS: computed with a network that a reader brings, a stand-in here; nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.test_translators import By
from tests.tiny import make_tiny
from xmod_lab.data.prepare import prepare
from xmod_lab.errors import LabError
from xmod_lab.evaluate import lpips_available, lpips_score
from xmod_lab.evaluate.runs import test_volumes as volumes_of
from xmod_lab.evaluate.translators import error_names, score_translator, true_slices


class Apart(torch.nn.Module):
    """Mean absolute difference of slope, (n, 3, h, w) twice -> (n, 1, 1, 1) as LPIPS's own network gives it."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return (x.diff(dim=-1) - y.diff(dim=-1)).abs().mean((1, 2, 3), keepdim=True)


def bring(network: torch.nn.Module, home: Path) -> None:
    pair = (torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64))
    sizes = {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    (home / "features").mkdir(exist_ok=True)
    program = torch.export.export(network.eval(), pair, dynamic_shapes=(sizes, sizes))
    torch.export.save(program, home / "features" / "lpips.pt2")


def test_any_number_and_size_of_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    assert not lpips_available()
    bring(Apart(), tmp_path)
    assert lpips_available()
    rng = np.random.default_rng(0)
    for shape in ((16, 24), (5, 16, 24)):
        one, other = rng.uniform(0, 1, (2, *shape))
        expected = 2 * np.abs(np.diff(one - other, axis=-1)).mean()  # [0, 1] is mapped to [-1, 1]
        assert lpips_score(one, other, (0, 1)) == pytest.approx(expected, rel=1e-5)
        assert lpips_score(one, one, (0, 1)) == 0
    with pytest.raises(LabError, match=r"LPIPS of 5 slices has the shape \(\)"):
        lpips_score(one, other, (0, 1), network=lambda x, y: (x - y).mean())


def test_translators_are_scored_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    prepared = prepare(make_tiny(tmp_path, patients=8, labelled=["A", "B"], unlabelled=[]), None, 32)
    dimmed = By(lambda image, *_: image / 2)
    dimmed.problem = dimmed.problem.__class__(**(dimmed.problem.__dict__ | {"modalities": ("A", "B")}))
    assert "lpips" not in score_translator(dimmed, prepared, "it").errors
    bring(Apart(), tmp_path)
    found = score_translator(dimmed, prepared, "it").errors
    rows = found.set_index(["method", "source", "target", "patient"])["lpips"].sort_index()
    for case in volumes_of(prepared, "A"):
        truth, image = true_slices(prepared, case, "B"), case.slices.image[:, 0].numpy()
        assert truth is not None
        for name, shown in (("it", image / 2), ("untranslated", image)):
            expected = np.abs(np.diff(shown - truth, axis=-1)).mean()
            assert rows[name, "A", "B", case.patient] == pytest.approx(expected, rel=1e-4)
    assert error_names(found, "it")["lpips/A->B"] == pytest.approx(rows["it", "A", "B"].mean())
