"""What comes through a translation, on greys written by hand, and of a run's own translator."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from xmod_lab import runs
from xmod_lab.bench import page
from xmod_lab.bench.adaptation import row_of
from xmod_lab.bench.claims import SAYS
from xmod_lab.bench.systems import TRANSLATORS
from xmod_lab.bench.through import grey_rows, grey_tables, grey_verdicts, patient_shares
from xmod_lab.bench.variants import variants

PLACE = {"dataset": "brain_tumour", "task": "subregions", "fold": 0, "seed": 0}


def greys(shares: dict[str, float], patients: int = 12, **more: object) -> pd.DataFrame:
    """Of each system a translation from T1 (0 everywhere) to T2 (1 in ED, -1 elsewhere) that makes the given share; of
    every third patient a little more."""
    return pd.DataFrame(
        PLACE
        | {"system": name, "patient": f"p{i}", "source": "T1", "target": "T2", "structure": structure}
        | {"given": 0.0, "made": truth * (share + 0.02 * (i % 3 == 0)), "truth": truth}
        | more
        for name, share in shares.items()
        for i in range(patients)
        for structure, truth in (("ED", 1.0), ("rest of the body", -1.0))
    )


def test_shares_are_by_patient_and_seed_and_the_table_takes_the_mean_over_seeds() -> None:
    both = pd.concat([greys({"bigl": 0.5}), greys({"bigl": 0.7}, seed=1)])
    found = patient_shares(both)
    assert len(found) == 24
    assert found["bigl", 0, "p0", 0] == pytest.approx(0.52)
    assert found["bigl", 0, "p0", 1] == pytest.approx(0.72)
    assert found["bigl", 0, "p1", 1] == pytest.approx(0.7)
    (shown,) = grey_tables(both, "brain_tumour", "subregions", row_of)
    assert list(shown.table["all"]) == ["0.61 ± 0.01"]  # four patients of 0.62, eight of 0.60, not 24 values


def test_table_is_of_one_direction_and_task_in_the_order_of_the_page() -> None:
    rows = pd.concat([greys({"bigl": 0.5, "sifa": -0.25}, 2), greys({"sifa": 9.0}, 2, source="T2", target="T1"),
                      greys({"bigl": 0.0}, 2, task="subregions_black")])  # fmt: skip
    (shown,) = grey_tables(rows, "brain_tumour", "subregions", row_of)
    assert shown.title.startswith("T1 to T2")
    assert list(shown.table["system"]) == ["sifa", "bigl"]
    assert list(shown.table) == ["system", "all", "ED", "rest of the body"]
    assert list(shown.table["all"]) == ["-0.24 ± 0.01", "0.51 ± 0.01"]  # p0 has 0.02 more than p1
    assert list(shown.table["ED"]) == ["-0.24", "0.51"]
    assert grey_tables(rows, "whole_heart", "mr_to_ct", row_of) == []
    assert grey_tables(pd.DataFrame(), "brain_tumour", "uagan", row_of) == []  # a task without an unlabelled modality


def test_a_structure_whose_grey_need_not_change_has_no_share() -> None:
    rows = greys({"bigl": 0.5}, 2)
    rows.loc[rows["structure"] == "ED", ["made", "truth"]] = 0.0
    (shown,) = grey_tables(rows, "brain_tumour", "subregions", row_of)
    assert shown.table.loc[0, "ED"] == ""
    assert shown.table.loc[0, "rest of the body"] == "0.51"


def test_comparison_of_settings_is_seen_not_seen_or_left_open() -> None:
    other = TRANSLATORS[0]

    def told(ours: float, theirs: float) -> pd.Series:
        both = [greys({"bigl": ours, other: theirs, "sifa": 0.3}, seed=seed) for seed in (0, 1)]
        (line,) = grey_verdicts(pd.concat(both), real=False).to_dict("records")
        return pd.Series(line)

    assert told(0.8, 0.1)["verdict"] == "direction seen"
    assert told(0.8, 0.1)["difference"] == "+0.70"
    assert told(0.1, 0.8)["verdict"] == "not seen"
    assert told(0.5, 0.5)["verdict"] == "cannot tell"
    assert told(1.1, 1.6)["verdict"] == "direction seen", "too far is no better than too little"
    assert told(0.8, 1.0)["verdict"] == "not seen"
    lost = told(-0.2, -0.6)
    assert (lost["verdict"], lost["reason"]) == ("cannot tell", "bigl: no better than a copy")
    clear = {"bigl": 1.0, other: 0.0}
    twice = pd.concat([greys(clear), greys(clear, seed=1)])
    assert set(grey_verdicts(twice, real=True)["verdict"]) == {"direction seen on patients"}
    assert set(grey_verdicts(greys(clear), real=False)["reason"]) == {"one translator of each setting"}
    one_more = pd.concat([greys(clear), greys({"bigl": 0.9}, seed=1)])
    (alone,) = grey_verdicts(one_more, real=False).to_dict("records")
    assert (alone["seeds"], alone["reason"], alone["difference"]) == (1, "one translator of each setting", "+0.99")
    few = pd.concat([greys(clear, 5), greys(clear, 5, seed=1)])
    assert set(grey_verdicts(few, real=False)["verdict"]) == {"cannot tell"}
    assert len(grey_verdicts(greys({"bigl": 1.0, "sifa": 0.0}), real=False)) == 0
    assert "B10" in SAYS


def test_no_record_no_greys(tmp_path: Path) -> None:
    assert len(page.read_greys("adaptation-lesson", tmp_path)) == 0


def test_rows_are_of_runs_that_translate_and_of_what_they_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from xmod_lab.bench import through

    place = ("brain_tumour", "subregions", "smoke")
    asked = []

    class Method:
        def eval(self) -> Method:
            return self

    def table(*_: object) -> pd.DataFrame:
        return greys({"x": 0.5}, 1).drop(columns=[*PLACE, "system"])

    monkeypatch.setattr(runs.Run, "method", lambda self: asked.append(self.spec.method) or Method())
    monkeypatch.setattr(through, "prepared_of", lambda spec: None)
    monkeypatch.setattr(through, "structure_greys", table)
    named = (("bigl", 0), ("cyclegan_seg", 0), ("cyclegan_seg", 1))
    specs = [runs.RunSpec(method, *place, seed=seed) for method, seed in named]
    specs += variants("bigl", ("source only",), *place)  # whose translations nobody looks at
    found = grey_rows(runs.Run(spec, spec.folder) for spec in specs)
    assert asked == ["bigl", "cyclegan_seg", "cyclegan_adapting", "cyclegan_seg", "cyclegan_adapting"]
    assert set(found["system"]) == {"bigl", "cyclegan_seg", "cyclegan_adapting"}
    assert set(found["seed"]) == {0, 1}
    assert list(found.columns[-5:]) == ["dataset", "task", "system", "fold", "seed"]
