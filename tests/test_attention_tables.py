"""Tables of maps by patient: of maps that are known, of real methods, and beside their null models."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tests.joint import JOINT, built, task_of
from tests.tiny import make_tiny
from xmod_lab.data import manifest
from xmod_lab.data.prepare import Prepared, prepare
from xmod_lab.errors import LabError
from xmod_lab.evaluate.agreement import appearances
from xmod_lab.evaluate.attention import OUTSIDE
from xmod_lab.evaluate.attention_tables import (
    COLUMNS,
    ORGANS,
    SHUFFLED,
    TRAINED,
    UNTRAINED,
    attention_table,
    beside_nulls,
    organ_table,
    with_null,
)
from xmod_lab.evaluate.greys import REST
from xmod_lab.maps import Map
from xmod_lab.methods.base import Method
from xmod_lab.runs import RunSpec, ensure_run

NAMES = ("core", "rim", REST, OUTSIDE)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    home = tmp_path_factory.mktemp("attention")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMOD_HOME", str(home))
        yield prepare(make_tiny(home, ("A", "B"), 12, **task_of("bigl"), noise=0.0), None, 32)


class Known(Method):
    """Positions that look at themselves (or wherever `turned` says), and a stack of two maps: where the picture is
    bright, and one that is the same everywhere."""

    def __init__(self, edge: int = 4, turned: int = 0):
        super().__init__(None, JOINT)
        self.weight, self.edge, self.turned = torch.nn.Parameter(torch.zeros(1)), edge, turned

    def maps(self, batch: Any) -> dict[str, Map]:
        ((m, slices),) = batch.items()
        b, n = len(slices.image), self.edge**2
        own = torch.eye(n).expand(b, n, n)
        made = own.roll(self.turned, 1)
        bright = (slices.image > 0.3).float()
        return {
            f"position/real/{m}": Map("pairwise", own, m, "layer", grid=(self.edge, self.edge)),
            f"position/{'B' if m == 'A' else 'A'}/{m}": Map("pairwise", made, m, "layer", grid=(self.edge, self.edge)),
            f"pair/{m}": Map("stack", torch.cat([bright, torch.ones_like(bright)], 1), m, "layer", names=("a", "b")),
            f"mask/{m}": Map("mask", bright[:, 0] + 1, m, "layer"),
            f"whole/{m}": Map("pairwise", torch.eye(3)[None], m, "layer"),
            f"signed/{m}": Map("pairwise", -own, m, "layer"),
        }


def test_organs_of_positions_that_look_at_themselves(prepared: Prepared) -> None:
    """At the size of the pixels all positions are pure: every organ sees itself alone."""
    table = organ_table({TRAINED: Known(32)}, prepared, "position/real", slices=1)
    assert tuple(table.columns) == ORGANS and set(table["map"]) == {"position/real"}
    own = table[(table["query"] == table["key"]) & (table["null"] == TRAINED)]
    assert (own["mass"] == 1).all() and own["ratio"].to_numpy() == pytest.approx((1 / own["chance"]).to_numpy())
    keys = ["patient", "modality", "null", "query"]
    assert table.groupby(keys)[["mass", "chance"]].sum().to_numpy() == pytest.approx(1.0)
    dealt = table[table["null"] == SHUFFLED]
    core = dealt[(dealt["query"] == "core") & (dealt["key"] == "core")]
    assert (core["mass"] < 0.5).all(), "rows of others look elsewhere"
    assert set(table["query"]) == set(NAMES)


def test_measures_of_what_is_known(prepared: Prepared) -> None:
    table = attention_table({TRAINED: Known(4, turned=1)}, prepared)
    assert tuple(table.columns) == COLUMNS and set(table["null"]) == {TRAINED, SHUFFLED}
    values = table.groupby(["null", "map", "measure"])["value"].agg(["min", "max"])
    own = values.loc[TRAINED]
    assert own.loc[("position/real", "entropy")].tolist() == [0, 0]
    assert own.loc[("position/real", "distance")].tolist() == [0, 0]
    mass, chance = own.loc[("position/real", "same-organ mass")], own.loc[("position/real", "same-organ chance")]
    assert mass["min"] > chance["max"] > 0, "mixed positions look at their own mixture"
    assert own.loc[("position", "Jensen-Shannon to B")].tolist() == [1, 1], "turned by one position"
    assert own.loc[("pair b", "entropy")].tolist() == pytest.approx([1, 1])
    assert own.loc[("pair b", "inside/outside core")].tolist() == pytest.approx([1, 1])
    assert own.loc[("pair a", "entropy"), "max"] < 1 and own.loc[("pair", "likeness"), "max"] < 1
    assert own.loc[("mask", "inside/outside rim"), "min"] > 0
    assert not {"whole", "signed"} & set(table["map"]), "one matrix for all slices, and rows that are no shares"
    shuffled = set(values.loc[SHUFFLED].index.get_level_values("map"))
    assert shuffled == {"position", "position/real", "position/A", "position/B"}
    assert values.loc[(SHUFFLED, "position/real", "distance"), "min"] > 4
    bright = table[(table["map"] == "pair a") & (table["measure"] == "inside/outside core")]
    assert bright.groupby("modality")["value"].mean()["A"] > 2, "A's core is bright"
    assert (table.groupby(list(COLUMNS[:5])).size() == 1).all(), "one row a patient, map, null and measure"


def test_a_batch_is_no_matter(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    from xmod_lab.evaluate import regions

    model = built("bigl")
    whole = attention_table({TRAINED: model}, prepared, "position/", slices=5)
    plain = regions.volume_maps
    monkeypatch.setattr("xmod_lab.evaluate.attention_tables.volume_maps", lambda *a: plain(*a, batch=2))
    parts = attention_table({TRAINED: model}, prepared, "position/", slices=5)
    pd.testing.assert_frame_equal(whole, parts, rtol=1e-4)


def test_what_does_not_compare_is_taken_slice_by_slice() -> None:
    from xmod_lab.evaluate.attention_tables import _ratio

    values = torch.tensor([[[2.0, 1.0]], [[100.0, 100.0]]])
    inside, body = torch.tensor([[[True, False]]] * 2), torch.ones(2, 1, 2).bool()
    assert _ratio(values, inside, body, True) == pytest.approx(51 / 50.5)
    assert _ratio(values, inside, body, False) == pytest.approx((2 + 1) / 2)
    assert _ratio(values[:1], ~body[:1], body[:1], True) != 0 and math.isnan(_ratio(values, ~body, body, False))


@pytest.mark.parametrize(
    ("name", "maps"),
    [
        ("bigl", {"position", "channel", "position/real", "channel/real", "saliency/real", "probability/real core"}),
        ("sasan", {"attention", "attention/A", "attention/A 1", "residual/B"}),
        ("uagan", {"gate/segmentation/0", "passed/translation/3"}),
        ("ugatit", {"cam/B", "critic_cam/real"}),
        ("csa", {"probability", "probability rim"}),
        ("pix2pix", {"skips/B", "residual/B"}),
    ],
)
def test_any_method_with_maps(prepared: Prepared, name: str, maps: set[str]) -> None:
    table = attention_table({TRAINED: built(name), UNTRAINED: built(name)}, prepared, slices=2)
    assert maps <= set(table["map"]) and np.isfinite(table["value"]).all()
    nulls = (table[table["null"] == null].drop(columns="null") for null in (TRAINED, UNTRAINED))
    pd.testing.assert_frame_equal(*(rows.reset_index(drop=True) for rows in nulls))
    bounded = table[table["measure"].str.contains("entropy|likeness|mass|chance|Jensen")]["value"]
    assert bounded.between(-1e-9, 1 + 1e-9).all()
    assert (SHUFFLED in set(table["null"])) is (name == "bigl")


def test_the_null_models_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights as before its first step, and a summary with a column each."""
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    data = make_tiny(tmp_path, ("A", "B"), 12, **task_of("bigl"))
    monkeypatch.setattr(manifest, "dataset", lambda key: data)
    monkeypatch.setattr("xmod_lab.profiles.PROFILES", _short())
    run = ensure_run(RunSpec("bigl", "tiny", seed=3), progress=False)
    from xmod_lab.runs import prepared_of

    prepared = prepared_of(run.spec)
    models, again = with_null(run, prepared), with_null(run, prepared)
    before, after = (models[null].state_dict() for null in (UNTRAINED, TRAINED))
    assert all(torch.equal(v, again[UNTRAINED].state_dict()[k]) for k, v in before.items())
    assert not torch.equal(before["segmenter.decoder.head.weight"], after["segmenter.decoder.head.weight"])
    table = beside_nulls(attention_table(models, prepared, "position/", slices=2))
    nulls = [column for null in (TRAINED, UNTRAINED, SHUFFLED) for column in (null, f"{null} sd")]
    assert list(table.columns) == ["modality", "map", "measure", *nulls, "patients"]
    assert (table["patients"] == len(prepared.split.test)).all()
    assert len(table) == len(table[["modality", "map", "measure"]].drop_duplicates())
    organs = beside_nulls(organ_table(models, prepared, slices=2), "ratio")
    assert {"query", "key", TRAINED, UNTRAINED, SHUFFLED} <= set(organs.columns)


def _short() -> dict[str, Any]:
    import dataclasses

    from xmod_lab.profiles import PROFILES

    return {name: dataclasses.replace(one, size=32, steps=2, width=4, batch=4) for name, one in PROFILES.items()}


def test_summary_by_hand() -> None:
    where = {"modality": "A", "map": "position", "measure": "entropy"}
    values = ((TRAINED, "p", 0.2), (TRAINED, "q", 0.4), (SHUFFLED, "p", 0.5), (SHUFFLED, "q", 0.5))
    rows = [where | {"patient": patient, "null": null, "value": value} for null, patient, value in values]
    rows.append(where | {"patient": "p", "null": TRAINED, "value": 3.0, "measure": "distance"})
    table = beside_nulls(pd.DataFrame(rows)).set_index("measure")
    assert table.loc["entropy", [TRAINED, SHUFFLED, "patients"]].tolist() == pytest.approx([0.3, 0.5, 2])
    assert table.loc["entropy", f"{TRAINED} sd"] == pytest.approx(math.sqrt(0.02))
    assert table.loc["entropy", f"{SHUFFLED} sd"] == 0
    assert table.loc["distance", TRAINED] == 3 and np.isnan(table.loc["distance", SHUFFLED])
    with pytest.raises(LabError, match="no column 'mass' of values"):
        beside_nulls(pd.DataFrame(rows), "mass")


def test_maps_of_two_appearances() -> None:
    names = ["position/real/A", "position/B/A", "attention/A/A", "attention/B/A", "gamma/B/A", "critic/x/real/A",
             "critic/x/B/A"]  # fmt: skip
    assert appearances(names, "A", "B") == {
        "position": ("position/real/A", "position/B/A"), "attention": ("attention/A/A", "attention/B/A"),
        "critic/x": ("critic/x/real/A", "critic/x/B/A")}  # fmt: skip
    assert appearances(names, "B", "A") == {} == appearances(names, "A", "A")


def test_what_cannot_be_told_is_refused(prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LabError, match="no map that begins with 'channel/' is of positions over a grid"):
        organ_table({TRAINED: built("bigl")}, prepared, "channel/", slices=1)
    for table in (attention_table, organ_table):
        with pytest.raises(LabError, match="no map of trained begins with 'affinity/'"):
            table({TRAINED: built("bigl")}, prepared, "affinity/", slices=1)
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    unlabelled = prepare(make_tiny(tmp_path, ("A", "B"), 8, labelled=[], unlabelled=["A", "B"], classes={}), None, 32)
    with pytest.raises(LabError, match="the task has no classes, so no organs"):
        organ_table({TRAINED: Known()}, unlabelled)
    found = set(attention_table({TRAINED: Known()}, unlabelled, "position/real")["measure"])
    assert found == {"entropy", "distance"}
