"""Ratios of a map inside and outside a structure, by hand and for UAGAN's gates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.tiny import make_tiny
from xmod_lab.data.prepare import prepare
from xmod_lab.data.volume import load_volume
from xmod_lab.evaluate.regions import correlation, everything_rows, inside_outside, map_correlations, map_ratios
from xmod_lab.maps import Map
from xmod_lab.methods.base import Method, Problem
from xmod_lab.methods.uagan import UAGAN, UAGANConfig


def test_by_hand() -> None:
    values = np.array([[[4.0, 2.0, 2.0, 9.0]]])
    inside = np.array([[[True, False, False, False]]])
    body = np.array([[[True, True, True, False]]])  # the last pixel is air: it does not count
    assert inside_outside(values, inside, body) == 2.0
    assert inside_outside(np.ones_like(values), inside, body) == 1.0


@pytest.mark.parametrize("case", ["nothing inside", "all inside", "dark outside"])
def test_what_has_no_ratio(case: str) -> None:
    inside = np.zeros((1, 2, 2), bool) if case == "nothing inside" else np.eye(2, dtype=bool)[None]
    body = inside.copy() if case == "all inside" else np.ones((1, 2, 2), bool)
    values = np.where(inside, 1.0, 0.0) if case == "dark outside" else np.ones((1, 2, 2))
    assert np.isnan(inside_outside(values, inside, body))


def test_correlation_by_hand() -> None:
    mask = np.array([0.0, 0.0, 1.0, 1.0])
    assert correlation(7 + 3 * mask, mask) == pytest.approx(1.0) and correlation(-mask, mask) == pytest.approx(-1.0)
    assert correlation(np.array([0.0, 1.0, 0.0, 1.0]), mask) == pytest.approx(0.0)
    assert np.isnan(correlation(np.ones(4), mask)) and np.isnan(correlation(mask, np.zeros(4)))


def test_maps_that_know_a_structure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    prepared = prepare(make_tiny(tmp_path, ("A", "B"), noise=0.0), None, 32)

    class Bright(Method):
        """Map 0 is where A is bright, which in A's contrast is the core; map 1 its negative; map 2 constant."""

        def maps(self, batch: dict[str, object]) -> dict[str, Map]:
            (name,) = batch
            bright = (batch[name].image > 0.3).float()
            return {f"attention/{name}/{name}": Map("stack", torch.cat([bright, -bright, 0 * bright], 1), name, "x")}

    method = Bright(None, Problem(("A", "B"), ("A", "B"), ("A",), ("B",), ("core", "rim"), 1, 32))
    method.weight = torch.nn.Parameter(torch.zeros(1))
    table = map_correlations(method, prepared, "attention/", batch=4)
    assert len(table) == 2 * len(prepared.split.test) * 3 * 2
    core = table[(table["modality"] == "A") & (table["structure"] == "core")]
    assert (core.loc[core["map"] == 0, "correlation"] > 0.5).all()
    assert core.loc[core["map"] == 1, "correlation"].to_numpy() == pytest.approx(
        -core.loc[core["map"] == 0, "correlation"].to_numpy())  # fmt: skip
    assert core.loc[core["map"] == 2, "correlation"].isna().all()
    assert (table.loc[(table["modality"] == "B") & (table["structure"] == "core"), "correlation"].dropna() < 0.5).all()


def test_gates_of_uagan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    data = make_tiny(tmp_path, ("A", "B"), labelled=["A", "B"], unlabelled=[])
    prepared = prepare(data, None, 32)
    torch.manual_seed(0)
    method = UAGAN(UAGANConfig(width=4), Problem(("A", "B"), ("A", "B"), ("A", "B"), (), ("core", "rim"), 1, 32))
    table = map_ratios(method, prepared, "gate/", batch=4)
    assert len(table) == 2 * len(prepared.split.test) * 8
    assert set(table["map"]) == {f"gate/{s}/{i}" for s in ("segmentation", "translation") for i in range(4)}
    assert table["ratio"].between(0.5, 2).all()  # untrained gates: about one half everywhere
    for block in method.generator.blocks.values():
        for layer in block:
            torch.nn.init.zeros_(layer.gate.weight)
            torch.nn.init.zeros_(layer.gate.bias)
    assert map_ratios(method, prepared, "gate/")["ratio"].to_numpy() == pytest.approx(1.0)


def test_everything_is_the_dice_of_the_whole_foreground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    data = make_tiny(tmp_path, ("A", "B"), labelled=["A", "B"], unlabelled=[])
    prepared = prepare(data, None, 32)
    rows = everything_rows(prepared).set_index(["patient", "modality", "structure"])["everything"]
    patient = prepared.split.test[0]
    label = load_volume(tmp_path / "data" / "tiny" / patient / "A_seg.nii.gz").array
    image = load_volume(tmp_path / "data" / "tiny" / patient / "A.nii.gz").array
    core, body = int((label == 1).sum()), int((image > 0).sum())
    assert rows[(patient, "A", "core")] == pytest.approx(2 * core / (core + body), rel=0.15)  # another grid
    assert len(rows) == 2 * len(prepared.split.test) * 2 and rows.between(0.01, 0.5).all()
