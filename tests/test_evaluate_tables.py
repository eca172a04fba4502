"""Summaries of rows: averages in the right order, counts beside the means, formats."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from xmod_lab.errors import LabError
from xmod_lab.evaluate import export, patient_values, summarise, to_latex, to_markdown
from xmod_lab.evaluate.tables import MEAN, cell, metrics_of


def rows_of(**values: list[float]) -> pd.DataFrame:
    """structure -> Dice by patient, one method and modality."""
    return pd.DataFrame([
        {"method": "unet", "modality": "T2", "patient": f"p{i}", "structure": name, "region": name == "WT",
         "dice": value, "missing": float(value == 0)}
        for name, column in values.items() for i, value in enumerate(column)])


def line(table: pd.DataFrame, structure: str, metric: str = "dice") -> pd.Series:
    return table[(table["structure"] == structure) & (table["metric"] == metric)].iloc[0]


def test_mean_over_patients_then_structures_by_hand():
    table = summarise(rows_of(LV=[0.9, 0.7, 0.8], RV=[0.6, 0.0, 0.3]))
    lv, rv, mean = line(table, "LV"), line(table, "RV"), line(table, MEAN)
    assert lv["mean"] == pytest.approx(0.8) and lv["sd"] == pytest.approx(0.1)
    assert (lv["n"], lv["missed"], lv["nan"]) == (3, 0, 0)
    assert rv["mean"] == pytest.approx(0.3) and rv["missed"] == 1
    assert mean["mean"] == pytest.approx(0.55) and mean["missed"] == 1
    assert mean["sd"] == pytest.approx(np.std([0.75, 0.35, 0.55], ddof=1))
    assert set(table["method"]) == {"unet"} and set(table["modality"]) == {"T2"}


def test_ddof_is_stated_and_used():
    table = summarise(rows_of(LV=[0.9, 0.7, 0.8]), ddof=0)
    assert line(table, "LV")["sd"] == pytest.approx(math.sqrt(0.02 / 3))
    assert set(table["ddof"]) == {0}
    assert "ddof 0" in to_markdown(table)
    assert MEAN not in set(table["structure"])  # one structure is its own mean


def test_regions_stay_out_of_the_mean_over_structures():
    assert line(summarise(rows_of(ED=[0.4], ET=[0.6], WT=[0.95])), MEAN)["mean"] == pytest.approx(0.5)


def test_seeds_are_averaged_within_a_patient_first():
    """Three seeds of two patients are two replicates, not six."""
    runs = [[0.2, 0.8], [0.4, 0.6], [0.3, 0.7]]
    rows = pd.concat([rows_of(LV=values).assign(seed=seed) for seed, values in enumerate(runs)])
    lv = line(summarise(rows), "LV")
    assert lv["n"] == 2 and lv["mean"] == pytest.approx(0.5) and lv["sd"] == pytest.approx(np.std([0.3, 0.7], ddof=1))
    assert list(patient_values(rows)["seeds"]) == [3, 3]


def test_values_that_are_absent_are_counted_never_zero():
    table = summarise(rows_of(LV=[math.nan, math.nan], RV=[0.4, math.nan]))
    lv, rv = line(table, "LV"), line(table, "RV")
    assert math.isnan(lv["mean"]) and (lv["n"], lv["nan"]) == (0, 2)
    assert rv["mean"] == 0.4 and (rv["n"], rv["nan"]) == (1, 1)
    assert math.isnan(line(table, MEAN)["mean"])
    assert "– (n=0, 2 without a value)" in to_markdown(table)


def test_groups_are_kept_apart():
    rows = pd.concat([rows_of(LV=[0.5, 0.6]), rows_of(LV=[0.7, 0.8]).assign(modality="T1"),
                      rows_of(LV=[0.1, 0.2]).assign(method="csa")])
    table = summarise(rows)
    assert list(table["mean"].round(3)) == [0.55, 0.75, 0.15]


def test_translation_rows_need_no_structure():
    rows = pd.DataFrame({"patient": ["a", "b"], "method": "cyclegan", "mae": [0.1, 0.3], "ssim": [0.8, 0.9]})
    assert metrics_of(rows) == ["mae", "ssim"]
    table = summarise(rows)
    assert list(table["mean"]) == pytest.approx([0.2, 0.85])
    assert "0.850 ± 0.071 (n=2)" in to_markdown(table)


def test_slices_are_refused():
    rows = pd.concat([rows_of(LV=[0.5]), rows_of(LV=[0.6])])
    with pytest.raises(LabError, match="several rows for method unet.*patient p0.*slices are not patients"):
        summarise(rows)
    with pytest.raises(LabError, match="no column 'hd'"):
        summarise(rows_of(LV=[0.5]), ["hd"])


def test_cells():
    assert cell(0.824, 0.051, 8, 1) == "0.82 ± 0.05 (n=8, 1 missed)"
    assert cell(0.824, math.nan, 1) == "0.82 (n=1)"
    assert cell(math.nan, math.nan, 0, 2, 3) == "– (n=0, 2 missed, 3 without a value)"


def test_formats(tmp_path):
    table = summarise(rows_of(LV_1=[0.9, 0.7]))
    markdown = to_markdown(table).splitlines()
    assert markdown[0] == "| method | modality | structure | dice |"
    assert markdown[2] == "| unet | T2 | LV_1 | 0.80 ± 0.14 (n=2) |"
    assert r"unet & T2 & LV\_1 & 0.80 $\pm$ 0.14 (n=2) \\" in to_latex(table)
    assert "| a\\|b |" in to_markdown(pd.DataFrame({"x": ["a|b"]}))
    for suffix in (".csv", ".md", ".tex"):
        assert export(table, tmp_path / f"table{suffix}").stat().st_size > 20
    back = pd.read_csv(tmp_path / "table.csv")
    assert back["mean"].iloc[0] == table["mean"].iloc[0]
    with pytest.raises(LabError, match=r"no table format '.xlsx'.*use one of .csv, .md, .tex"):
        export(table, tmp_path / "table.xlsx")
