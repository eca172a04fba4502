"""Claims and tables of adaptation on rows written by hand: every verdict, bounds, published numbers, the page."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from xmod_lab.bench import page
from xmod_lab.bench.adaptation import THICK, WEIGHTS, adaptation_tables, beside, from_sasan, place_of, sized
from xmod_lab.bench.claim import DISTANCES, Claim
from xmod_lab.bench.claims import CLAIMS
from xmod_lab.bench.patients import METRICS, RUN
from xmod_lab.bench.published import difference
from xmod_lab.bench.systems import AT_TEST, CONTROL, STACKED
from xmod_lab.bench.verdicts import untrained, verdicts
from xmod_lab.data.manifest import dataset
from xmod_lab.files import write_json
from xmod_lab.runs import RunSpec

GRIDS = tuple(f"adaptation{part}" for part in ("", "-heart", "-bar", "-ablations", "-translators", "-real"))
EACH = [pytest.param(claim, id=f"{claim.key}-{claim.method}-{claim.other}-{claim.metric}-{claim.modality}")
        for grid in GRIDS for claim in CLAIMS[grid]]  # fmt: skip
PLACE = ("brain_tumour", "subregions")
FEATURE = "bigl (feature)"
WAVE = (0.0, 0.01, 0.02)


def rows_of(scores: dict[str, float], modality: str = "T2", place: tuple[str, str] = PLACE, metric: str = "dice",
            structures: tuple[str, ...] = (), folds: int = 1, patients: int = 12) -> pd.DataFrame:
    """Rows of the given score by system in one modality, other metrics 0.5; a third of the patients a little better."""
    found = []
    for name, score in scores.items():
        for i in range(patients):
            for structure in structures or dataset(place[0]).task(place[1]).structures:
                run = dict(zip(RUN, (*place, name, "default", name, i * folds // patients, 0), strict=True))
                values = dict.fromkeys(METRICS, 0.5) | {metric: score + WAVE[i % 3]}
                own = {"patient": f"p{i}", "modality": modality, "structure": structure, "everything": 0.1}
                found.append(run | own | values)
    return pd.DataFrame(found)


def answer(claim: Claim, rows: pd.DataFrame, problems: dict[str, str] | None = None) -> pd.Series:
    return verdicts([claim], rows, untrained(rows, problems or {}), real=claim.dataset == "lgg").iloc[0]


def of_claim(claim: Claim, method: float, other: float) -> pd.DataFrame:
    """Rows that answer `claim`; the heart has three patients in each of two folds."""
    heart = claim.dataset == "whole_heart"
    return rows_of({claim.other: other, claim.method: method}, claim.modality, (claim.dataset, claim.task),
                   claim.metric, folds=2 if heart else 1, patients=6 if heart else 12)  # fmt: skip


@pytest.mark.parametrize("claim", EACH)
def test_every_claim_can_be_seen_not_seen_and_left_open(claim: Claim) -> None:
    high, low = (9.0, 3.0) if claim.metric in DISTANCES else (0.8, 0.2)
    ends = (high, low) if claim.direction > 0 else (low, high)
    seen = answer(claim, of_claim(claim, *ends))
    assert seen["verdict"] == ("direction seen on patients" if claim.dataset == "lgg" else "direction seen")
    assert answer(claim, of_claim(claim, *ends[::-1]))["verdict"] == "not seen"
    rows = of_claim(claim, high, high)
    wiggle = np.where(rows["patient"].str[1:].astype(int) % 2, 0.1, -0.1) * (rows["system"] == claim.method)
    even = rows.assign(**{claim.metric: rows[claim.metric] + wiggle})
    assert answer(dataclasses.replace(claim, least=0.0), even)["verdict"] == "cannot tell"
    assert answer(claim, of_claim(claim, *ends), {f"{claim.dataset}/{claim.task}/{claim.method}": "ill"})[
        "verdict"] == "cannot tell"  # fmt: skip


B0 = CLAIMS["adaptation"][0]


@pytest.mark.parametrize(("bigl", "verdict"), [(0.40, "direction seen"), (0.20, "not seen"), (0.301, "cannot tell")])
def test_the_least_difference_decides(bigl: float, verdict: str) -> None:
    """15, 35 and just over 25 points above a lower bound of 0.05; by sign alone all three would be seen."""
    rows = rows_of({"source_only": 0.05, "bigl": bigl})
    noise = np.where(rows["patient"].str[1:].astype(int) % 2, 0.05, -0.05) * (rows["system"] == "bigl")
    rows = rows.assign(dice=rows["dice"] + noise)
    found = answer(B0, rows)
    assert (found["verdict"], found["comparison"]) == (verdict, "bigl - source_only ≥ 25")
    assert float(found["difference"]) == pytest.approx(100 * (bigl - 0.05), abs=0.01)
    assert answer(dataclasses.replace(B0, least=0.0), rows)["verdict"] == "direction seen"
    assert (float(found["p"]) < 0.05) == (verdict != "cannot tell")


def test_folds_must_lie_on_one_side_of_the_least_difference() -> None:
    rows = rows_of({"source_only": 0.05, "bigl": 0.0}, folds=2)
    gain = np.where(rows["fold"] == 0, 0.9, 0.28) * (rows["system"] == "bigl")
    assert answer(B0, rows.assign(dice=rows["dice"] + gain))["verdict"] == "cannot tell"
    found = answer(B0, rows.assign(dice=rows["dice"] + np.where(gain > 0.5, 0.9, gain * 2)))
    assert found["verdict"] == "direction seen"


def test_a_trivial_answer_misses_the_bar_if_it_trained() -> None:
    """All background, of which no interval says anything, and little more than all foreground; not one that is ill."""
    place = "brain_tumour/subregions"
    for bigl in (0.0, 0.08):
        rows = rows_of({"source_only": 0.05, "bigl": bigl})
        assert f"{place}/bigl/T2" in untrained(rows, {})
        found = answer(B0, rows)
        assert found["verdict"] == "not seen"
        assert found["reason"] == "bigl: in T2 no better than a trivial answer, which misses the bar"
        without = answer(dataclasses.replace(B0, least=0.0), rows)  # as all claims without a bar
        assert (without["verdict"], without["reason"]) == ("cannot tell", found["reason"].removesuffix(
            ", which misses the bar"))  # fmt: skip
        for name in ("bigl", "source_only"):
            ill = answer(B0, rows, {f"{place}/{name}": "the loss is not finite"})
            assert (ill["verdict"], ill["reason"]) == ("cannot tell", f"{name}: the loss is not finite")
    high = rows_of({"source_only": 0.05, "bigl": 0.5}).assign(everything=0.9)  # above the bar, below all foreground
    found = answer(B0, high)
    assert (found["verdict"], found["reason"]) == ("cannot tell", "bigl: in T2 no better than a trivial answer")


def test_a_lower_bound_may_fail_where_it_has_no_labels_and_only_there() -> None:
    claim = CLAIMS["adaptation"][1]
    assert (claim.method, claim.other) == ("adaptsegnet", "source_only")
    away = rows_of({"source_only": 0.02, "adaptsegnet": 0.5})
    good = pd.concat([away, rows_of({"source_only": 0.8}, "T1")])
    assert set(untrained(good, {})) == {"brain_tumour/subregions/source_only/T2"}
    assert answer(claim, good)["verdict"] == "direction seen"
    bad = pd.concat([away, rows_of({"source_only": 0.02}, "T1")])
    assert answer(claim, bad)["reason"] == "source_only: in T1 no better than a trivial answer"
    ill = answer(claim, good, {"brain_tumour/subregions/source_only": "the loss is not finite"})
    assert ill["verdict"] == "cannot tell"
    other = rows_of({"source_only": 0.5, "adaptsegnet": 0.02})  # one that shall adapt must learn the target
    assert answer(claim, other)["reason"] == "adaptsegnet: in T2 no better than a trivial answer"


def test_the_control_is_a_lower_bound() -> None:
    (claim,) = [c for c in CLAIMS["adaptation-ablations"] if c.other == CONTROL]
    assert answer(claim, rows_of({CONTROL: 0.02, "adaptsegnet": 0.5}))["verdict"] == "direction seen"


def test_one_structure_may_go_another_way_than_the_mean() -> None:
    mean, et = [c for c in CLAIMS["adaptation-ablations"] if (c.key, c.other) == ("B3", FEATURE)]
    assert (mean.direction, et.direction, et.structure) == (-1, 1, "ET")
    rows = rows_of({FEATURE: 9.0, "bigl": 5.0}, metric="hd95_max")
    rows.loc[(rows["structure"] == "ET") & (rows["system"] == "bigl"), "hd95_max"] += 6
    found = verdicts([mean, et], rows, {}, real=False)
    assert found["verdict"].tolist() == ["direction seen"] * 2
    assert found["difference"].tolist() == ["-2.00", "+2.00"] and found["tested on"].tolist() == ["T2", "T2 ET"]


def test_published_differences() -> None:
    assert difference("bigl", FEATURE, "bigl (output)", "T2", "dice") == 5.81  # 5.82 of averages, as printed
    assert difference("bigl", "bigl", FEATURE, "T2", "dice") == 4.31
    assert difference("bigl", "bigl", FEATURE, "T2", "hd95_max", "ET") == 0.90
    assert difference("bigl", "bigl", "sifa", "CT", "assd_pooled") == pytest.approx(-0.85, abs=0.006)
    assert difference("bigl", "target_only", "bigl", "T2", "dice") is None
    for weight in ("bigl (weight 0.02)", "bigl (weight 0.5)"):  # "0.1 is best"
        dice, distance = (difference("bigl", "bigl", weight, "T2", metric) for metric in ("dice", "hd95_max"))
        assert dice is not None and distance is not None and dice > 0 > distance
    both = [*CLAIMS["adaptation"], *CLAIMS["adaptation-heart"]]
    signs = {claim.key: {c.direction for c in both if c.key == claim.key} for claim in both}
    assert signs == {"B0": {1}, "B1": {1}, "B6": {1, -1}, "B7": {1}}
    bar, shown = [(c.method, c.other, c.modality, c.least) for c in CLAIMS["adaptation-bar"]], "bigl (reconstructed)"
    assert bar == [*[(m, "source_only", "T2", 25.0) for m in ("bigl", shown)], (shown, "bigl", "T2", 0.0)]
    assert all(c.published is None for grid in GRIDS for c in CLAIMS[grid] if c.key == "B7")


def test_the_bound_of_all_modalities_stands_beside_what_it_bounds() -> None:
    stack = RunSpec("unet_joint", "brain_tumour", "subregions_all")
    assert place_of(stack) == f"brain_tumour/subregions/{STACKED}"
    assert place_of(RunSpec("target_only", "brain_tumour", "subregions")) == "brain_tumour/subregions/target_only"
    theirs = rows_of({"unet_joint": 0.8}, "T1+T1Gd+T2+FLAIR", (PLACE[0], stack.task_name))
    rows = pd.concat([rows_of({"bigl": 0.5}), theirs], ignore_index=True)
    moved = beside(rows)
    assert set(moved["task"]) == {"subregions"} and set(moved["system"]) == {"bigl", STACKED}
    assert set(moved["modality"]) == {"T2"} and "unet_joint" in set(rows["system"])
    (claim,) = [c for c in CLAIMS["adaptation"] if c.method == STACKED]
    assert answer(claim, moved)["verdict"] == "direction seen" and answer(claim, rows)["verdict"] == "not run"


def test_the_table_of_the_brain() -> None:
    """Dice 0.7, 0.4 and 0.1 of WT, TC and ET: 40 on average; no class that is not reported."""
    rows = pd.concat([rows_of({"target_only": 0.8, "bigl": 0.6, "source_only": 0.05}),
                      rows_of({"source_only": 0.8, "bigl": 0.8}, "T1")])  # fmt: skip
    own = {"WT": 0.7, "TC": 0.4, "ET": 0.1}
    rows = rows.assign(dice=rows["dice"].where(rows["system"] != "bigl", rows["structure"].map(own)))
    (shown,) = adaptation_tables(rows.sample(frac=1, random_state=0), pd.DataFrame())
    table = shown.table.set_index("system")
    assert list(table.index) == ["source_only on T1", "source_only", "bigl", "target_only"] and shown.modality == "T2"
    assert [c for c in table if c.endswith("Dice")] == ["WT Dice", "TC Dice", "ET Dice", "mean Dice"]
    assert table.loc["bigl", "mean Dice"] == "40.0 ± 0.0" and table.loc["source_only on T1", "WT Dice"] == "81.0 ± 0.9"
    published = table["published Dice (WT, TC, ET; mean)"]
    assert published["bigl"] == "80.4, 74.8, 53.7; 69.6" and published["target_only"] == ""
    assert table.loc["bigl", "published HD95 (WT, TC, ET; mean)"].endswith("; 16.3")


def test_the_table_of_the_heart_takes_the_translators_from_sasans_suite() -> None:
    place, old = ("whole_heart", "mr_to_ct"), ("whole_heart", "sasan_mr_to_ct")
    rows = rows_of({"bigl": 0.6, AT_TEST: 0.4}, "CT", place, folds=2, patients=6)
    theirs = rows_of({"scorer (ugatit)": 0.7, "sasan": 0.1, "source_only": 0.0}, "CT", old, folds=2, patients=6)
    ill = {"/".join((*old, one)): "ill" for one in ("sasan/CT", "source_only")}
    assert set(from_sasan(theirs, ill, (0,))[0]["fold"]) == {0}
    taken, sick = from_sasan(theirs, ill, (0, 1))
    assert sick == {"/".join((*place, f"sasan{THICK}", "CT")): "ill"}
    table = adaptation_tables(rows, taken)[0].table.set_index("system")
    assert list(table.index) == [f"scorer (ugatit){THICK}", f"sasan{THICK}", AT_TEST, "bigl"]
    assert table.loc[AT_TEST, "published ASSD (AA, LA, LV, MYO; mean)"] == "11.5, 13.6, 9.2, 8.8; 10.8"
    assert not [c for c in table if "HD95" in c]


def test_the_table_of_patients_has_no_published_numbers() -> None:
    rows = rows_of({"bigl": 0.6}, "FLAIR", ("lgg", "t1gd_to_flair"))
    (shown,) = adaptation_tables(rows, pd.DataFrame())
    assert list(shown.table) == ["system", "lesion Dice", "lesion HD95", "lesion missed"]


def test_a_page_from_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "suite", lambda name: [])
    scores = {"source_only": 0.05, "adaptsegnet": 0.3, "cycada": 0.4, "sifa": 0.5, "bigl": 0.6, "target_only": 0.8}
    heart = ("whole_heart", "mr_to_ct")
    rows = pd.concat([
        rows_of(scores), rows_of(dict.fromkeys(scores, 0.8), "T1"),
        rows_of({"unet_joint": 0.9}, "T1+T1Gd+T2+FLAIR", (PLACE[0], "subregions_all")),
    ])  # fmt: skip
    rows.to_csv(tmp_path / "adaptation-lesson-patients.csv", index=False)
    hearts = rows_of({"sifa": 0.5, "bigl": 0.6}, "CT", heart, folds=2, patients=6)
    hearts.to_csv(tmp_path / "adaptation-heart-lesson-patients.csv", index=False)
    facts: dict[str, Any] = {"runs": 9, "read": 2, "training_seconds": 5, "problems": {}}
    assert WEIGHTS not in sized(pd.DataFrame({"system": ["bigl"]}), "d/t", {})
    facts["weights"] = {f"brain_tumour/subregions/{name}": [n, 2 * n] for name, n in (("bigl", 1400), ("sifa", 9600))}
    write_json(tmp_path / "adaptation-lesson.json", facts | {"unseen": {"brain_tumour/subregions": ["ET in T1"]}})
    write_json(tmp_path / "adaptation-heart-lesson.json", facts)
    alone = page.page("adaptation-heart-lesson", tmp_path)
    theirs = rows_of({"scorer (ugatit)": 0.7}, "CT", ("whole_heart", "sasan_mr_to_ct"), folds=2, patients=6)
    theirs.to_csv(tmp_path / "sasan-lesson-patients.csv", index=False)
    write_json(tmp_path / "sasan-lesson.json", facts)
    text = page.page("adaptation-heart-lesson", tmp_path)
    assert f"scorer (ugatit){THICK}" in text and "[sasan-lesson.md](sasan-lesson.md)" in text and THICK not in alone
    assert "nan" not in text and "have all steps each" not in text and text.count("\n| B6 |") == 4
    text = page.page("adaptation-lesson", tmp_path)
    assert "No plain U-Net with labels finds ET in T1" in text and "2 CycleGANs" in text and "nan" not in text
    assert f"| system | {WEIGHTS} | WT Dice" in text and "| bigl | 1, 3 |" in text and "| sifa | 10, 19 |" in text
    assert "BiGL's U-Net is halved twice" in text and "| cycada |  |" in text
    assert "three slices deep" not in text and "sasan-lesson.md" not in text
    assert "subregions_all" not in text and f"| {STACKED} |" in text and "| source_only † |" in text
    claims = [line for line in text.splitlines() if line.startswith(("| B0", "| B1"))]
    assert len(claims) == 7 and all("direction seen" in line for line in claims)
    counts = page.verdict_counts("adaptation-lesson", tmp_path)
    assert "| B1 | no adaptation below AdaptSegNet" in counts
