"""Greys of structures before, after and in truth; the share of the change that was asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from tests.tiny import make_tiny
from xmod_lab.data.prepare import prepare
from xmod_lab.evaluate.greys import COLUMNS, REST, share_of_change, share_table, structure_greys
from xmod_lab.methods.base import Method, Problem


class Brighter(Method):
    """Adds a quarter of the range's half to everything."""

    def translate(self, image: Tensor, source: str, target: str) -> Tensor:
        return image + 0.25


def brighter(neighbours: int) -> Method:
    method = Brighter(None, Problem(("A", "B"), ("A", "B"), ("A",), ("B",), ("core", "rim"), neighbours, 32))
    method.weight = torch.nn.Parameter(torch.zeros(1))
    return method


@pytest.mark.parametrize("neighbours", [1, 3])
def test_what_is_given_made_and_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, neighbours: int) -> None:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    prepared = prepare(make_tiny(tmp_path, ("A", "B"), neighbours=neighbours), None, 32)
    table = structure_greys(brighter(neighbours), prepared)
    assert tuple(table) == COLUMNS and len(table) == 2 * len(prepared.split.test) * 3
    assert set(table["structure"]) == {"core", "rim", REST}
    assert table["made"].to_numpy() == pytest.approx(table["given"].to_numpy() + 0.25, abs=1e-5)
    there, back = (part.set_index(["patient", "structure"]).sort_index() for _, part in table.groupby("source"))
    assert there["truth"].to_numpy() == pytest.approx(back["given"].to_numpy(), abs=2e-3)  # registered: the own image
    means = there.groupby("structure")["given"].mean()
    assert means["core"] > means["rim"] > means[REST]  # A's contrast
    means = back.groupby("structure")["given"].mean()
    assert means[REST] > means["rim"] > means["core"]  # and B's


def test_nobody_knows_the_truth_of_other_subjects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    prepared = prepare(make_tiny(tmp_path, ("A", "B"), relation="independent"), None, 32)
    table = structure_greys(brighter(1), prepared)
    assert len(table) == 0 and tuple(table) == COLUMNS and np.isnan(share_of_change(table))


def test_the_share_by_hand() -> None:
    rows = pd.DataFrame({"given": [0.0, 0.5], "truth": [1.0, 0.0]})
    for made, share in (([0.0, 0.5], 0), ([1.0, 0.0], 1), ([0.5, 0.25], 0.5), ([-1.0, 1.0], -1), ([0.5, 0.5], 0.4)):
        assert share_of_change(rows.assign(made=made)) == pytest.approx(share)
    assert np.isnan(share_of_change(pd.DataFrame({"given": [0.5], "made": [0.1], "truth": [0.5]})))
    assert np.isnan(share_of_change(pd.DataFrame({"given": [0.5], "made": [0.1], "truth": [0.505]})))


def test_shares_by_system_and_way() -> None:
    rows = pd.DataFrame({"source": ["A", "A", "B"], "target": ["B", "B", "A"], "structure": ["core", "rim", "core"],
                         "given": 0.0, "made": [1.0, 0.5, 0.0], "truth": 1.0})  # fmt: skip
    found = share_table({"one": rows, "two": rows.assign(made=1.0)})
    assert list(found.columns) == ["A to B", "B to A"] and found.loc["one"].tolist() == [0.75, 0.0]
    apart = share_table({"one": rows, "two": rows.assign(made=1.0)}, "structure")
    assert apart.loc[("one", "A to B")].to_dict() == {"core": 1.0, "rim": 0.5}
    assert np.isnan(apart.loc[("one", "B to A"), "rim"])
    assert len(share_table({"one": rows[:0]})) == 0
