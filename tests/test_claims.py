"""Verdicts on claims and the papers' tables, on numbers written by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from xmod_lab.bench import command_of, page, tables
from xmod_lab.bench.adaptation import place_of
from xmod_lab.bench.claim import Claim
from xmod_lab.bench.claims import ABOUT, CLAIMS, RULES, SAYS
from xmod_lab.bench.own_data import grid_of
from xmod_lab.bench.patients import METRICS, TRANSLATED, by_patient, paper_table, system
from xmod_lab.bench.suites import WEIGHTED, suite, suites
from xmod_lab.bench.systems import MEAN, NOT_ADAPTED
from xmod_lab.bench.verdicts import gate_verdicts, untrained, verdicts
from xmod_lab.files import write_json
from xmod_lab.methods import METHODS
from xmod_lab.methods.base import offers
from xmod_lab.runs import RunSpec


def rows_of(values: dict[str, list[float]], *, structures: tuple[str, ...] = ("a",), seed: int = 0,
            metric: str = "dice") -> pd.DataFrame:
    """Rows of the given Dice by system and patient; other metrics are 0.5."""
    found = []
    for name, numbers in values.items():
        for i, value in enumerate(numbers):
            for structure in structures:
                named = {"dataset": "d", "task": "t", "method": name, "variant": "default", "system": name,
                         "fold": i % 2, "seed": seed, "patient": f"p{i}", "modality": "M", "structure": structure}
                found.append(named | dict.fromkeys(METRICS, 0.5) | {metric: value, "everything": 0.1})
    return pd.DataFrame(found)


A = [0.5, 0.6, 0.7, 0.6, 0.5, 0.6]


def verdict(values: dict[str, list[float]], sign: int = 1, sick: dict[str, str] | None = None, real: bool = False,
            metric: str = "dice") -> pd.Series:
    claim = Claim("X", "new", "old", "M", metric, float(sign), "d", "t")
    return verdicts([claim], rows_of(values, metric=metric), sick or {}, real=real).iloc[0]


def test_a_gain_of_every_patient_is_seen_and_on_patients_reproduced() -> None:
    values = {"old": A, "new": [a + 0.1 for a in A]}
    found = verdict(values)
    assert (found["verdict"], found["n"], found["difference"]) == ("direction seen", 6, "+10.00")
    assert verdict(values, real=True)["verdict"] == "reproduced"
    assert verdict(values, sign=-1)["verdict"] == "not seen"


def test_a_mixed_difference_cannot_be_told() -> None:
    found = verdict({"old": A, "new": [a + d for a, d in zip(A, [0.1, -0.1] * 3, strict=True)]})
    assert found["verdict"] == "cannot tell"
    low, high = map(float, found["interval"].split(" to "))
    assert low < 0 < high


def test_a_system_that_did_not_train_decides_nothing() -> None:
    found = verdict({"old": A, "new": [a + 0.1 for a in A]}, sick={"d/t/old": "loss is not finite"})
    assert found["verdict"] == "cannot tell" and "loss is not finite" in found["reason"]
    assert verdict({"new": A})["verdict"] == "not run"


def test_trainings_that_disagree_decide_nothing() -> None:
    """Every patient gains 0.3, 0.3 and -0.3 by seed: his mean gains for sure, another training may not."""
    claim = Claim("X", "new", "old", "M", dataset="d", task="t")
    old = [0.4 + 0.01 * i for i in range(12)]

    def found(gains: list[float]) -> pd.Series:
        rows = [rows_of({"old": old, "new": [o + g for o in old]}, seed=s) for s, g in enumerate(gains)]
        return verdicts([claim], pd.concat(rows), {}, real=False).iloc[0]

    mixed, alike = found([0.3, 0.3, -0.3]), found([0.1, 0.12, 0.08])
    assert (mixed["verdict"], mixed["difference"], mixed["n"]) == ("cannot tell", "+10.00", 12)
    assert mixed["interval"].startswith("-") and mixed["p"] == alike["p"]
    assert (alike["verdict"], alike["difference"]) == ("direction seen", "+10.00")


def test_five_patients_decide_nothing() -> None:
    found = verdict({"old": A[:5], "new": [a + 0.1 for a in A[:5]]})
    assert found["verdict"] == "cannot tell" and found["reason"] == "5 patients are too few"


def test_folds_that_disagree_decide_nothing() -> None:
    """Six patients a fold gain 0.2 in one fold and lose 0.02 in the other: the interval alone would decide."""
    gains = [0.2, -0.02] * 6
    old = [0.5 + 0.01 * (i // 2) for i in range(12)]
    found = verdict({"old": old, "new": [o + g for o, g in zip(old, gains, strict=True)]})
    assert found["verdict"] == "cannot tell" and found["reason"] == "folds disagree: +20.00, -2.00"
    assert found["interval"].startswith("+")
    gains = [0.2, 0.02] * 6
    assert verdict({"old": old, "new": [o + g for o, g in zip(old, gains, strict=True)]})["verdict"] == "direction seen"


def test_the_difference_without_sick_folds_is_shown_and_decides_nothing() -> None:
    rows = rows_of({"old": [0.5] * 8, "new": [0.7, 0.6] * 4})
    claim = Claim("X", "new", "old", "M", dataset="d", task="t")
    found = verdicts([claim], rows, {"d/t/new": "fold 0: ill"}, real=False, sick_folds={"d/t/new": {0}}).iloc[0]
    assert found["verdict"] == "cannot tell" and found["healthy folds"] == "+10.00, +10.00 to +10.00, n 4"


def test_a_p_that_correction_keeps_above_the_level_is_named() -> None:
    """Six patients reach 0.03: one comparison can be decided after correction, two cannot."""
    claim = Claim("X", "new", "old", "M", dataset="d", task="t")
    rows = rows_of({"old": A, "new": [a + 0.1 for a in A]})
    assert verdicts([claim], rows, {}, real=False)[["p", "p_holm"]].to_numpy().tolist() == [["0.031", "0.031"]]
    both = verdicts([claim, claim], rows, {}, real=False)
    assert both["p_holm"].tolist() == ["cannot reach 0.05"] * 2
    apart = verdicts([claim, dataclasses.replace(claim, key="Y")], rows, {}, real=False)
    assert apart["p_holm"].tolist() == ["0.031"] * 2  # each claim is corrected by itself
    many = rows_of({"old": A * 2, "new": [a + 0.1 for a in A * 2]}).assign(modality="N")
    mixed = verdicts([claim, dataclasses.replace(claim, modality="N")] * 2, pd.concat([rows, many]), {}, real=False)
    assert mixed["p_holm"].tolist() == ["cannot reach 0.05", "0.002", "cannot reach 0.05", "0.002"]  # by its own n


def test_patients_of_other_data_reproduce_nothing() -> None:
    claim = Claim("X", "new", "old", "M", dataset="d", task="t", same_data=False)
    rows = rows_of({"old": A, "new": [a + 0.1 for a in A]})
    assert verdicts([claim], rows, {}, real=True)["verdict"].tolist() == ["direction seen on patients"]


def test_gates_are_compared_with_those_of_the_untrained_network() -> None:
    rows = pd.DataFrame([
        {"dataset": "d", "task": "t", "fold": 0, "seed": 0, "patient": f"p{i}", "modality": m,
         "map": f"gate/{stream}/{level}", "ratio": 1.2 if level == 0 else 0.9, "untrained": 1.0 + 0.01 * i}
        for i in range(6) for m in "AB" for stream in ("segmentation", "translation") for level in (0, 1)
    ])
    found = gate_verdicts(rows, {}, real=False)
    assert found["verdict"].tolist() == ["direction seen", "not seen"] and found["n"].tolist() == [6, 6]
    assert found["difference"][0] == "+0.175"
    for sick in ({"d/t/uagan": "ill"}, {"d/t/uagan/A": "in A no better than a trivial answer"}):
        assert gate_verdicts(rows, sick, real=False)["verdict"].tolist() == ["cannot tell"] * 2
    translators = {f"d/t/uagan/{to}A": "no better than the untranslated image" for to in ("to ", "FD to ", "mae to ")}
    assert gate_verdicts(rows, translators, real=False).equals(found), "its gates are the segmenter's"


def test_distances_keep_their_unit() -> None:
    found = verdict({"old": [4.0] * 6, "new": [3.0] * 6}, sign=-1, metric="assd_pooled")
    assert (found["difference"], found["verdict"]) == ("-1.00", "direction seen")


def test_an_unfinished_grid_is_judged_by_the_seeds_that_all_folds_have() -> None:
    values = {"old": A, "new": [a + 0.1 + 0.01 * i for i, a in enumerate(A)]}
    more = rows_of({"old": A, "new": A}, seed=1)
    claim = Claim("X", "new", "old", "M", "dice", 1.0, "d", "t")
    first, second = rows_of(values), more[more["fold"] == 1]
    (found,) = verdicts([claim], pd.concat([first, second]), {}, real=False).to_dict("records")
    assert (found["seeds"], found["n"], found["verdict"]) == (1, 6, "direction seen"), "fold 0 has no second seed"
    assert found["difference"] == "+12.50"
    (found,) = verdicts([claim], pd.concat([first[first["fold"] == 0], second]), {}, real=False).to_dict("records")
    assert (found["verdict"], found["reason"]) == ("not run", "no seed that both have in every fold")


def test_structures_and_seeds_are_averaged_before_patients_count() -> None:
    rows = pd.concat([rows_of({"s": [0.2, 0.4]}, structures=("a",)), rows_of({"s": [0.6, 0.8]}, structures=("b",)),
                      rows_of({"s": [0.5, 0.5]}, structures=("a",), seed=1)])
    values = by_patient(rows)
    assert len(values) == 2
    assert values["dice"].tolist() == pytest.approx([(0.4 + 0.5) / 2, (0.6 + 0.5) / 2])


def test_one_of_three_trainings_that_fails_does_not_count_as_trained() -> None:
    """Over the trivial answer of 0.1 by 0.3, 0.3 and -0.3."""
    rows = [rows_of({"s": [0.1 + gain] * 12}, seed=seed) for seed, gain in enumerate((0.3, 0.3, -0.3))]
    assert set(untrained(pd.concat(rows), {})) == {"d/t/s/M"} and not untrained(pd.concat(rows[:2]), {})


def test_trivial_answers_do_not_count_as_trained() -> None:
    rows = rows_of({"empty": [0.0] * 6, "full": [0.1] * 6, "good": A, "sick": A})
    found = untrained(rows, {"d/t/sick": "the critic gave up"})
    assert set(found) == {"d/t/empty/M", "d/t/full/M", "d/t/sick"}
    assert verdict({"old": [0.1] * 6, "new": A}, sick=found | {"d/t/old/M": "it fills"})["verdict"] == "cannot tell"


def test_a_system_that_fails_in_one_modality_still_counts_in_another() -> None:
    sick = {"d/t/old/other": "it failed there"}
    assert verdict({"old": A, "new": [a + 0.1 for a in A]}, sick=sick)["verdict"] == "direction seen"


def test_the_paper_table_by_hand() -> None:
    rows = rows_of({"s": [0.2, 0.4, 0.6, 0.8]})  # folds 0, 1, 0, 1
    over_patients = paper_table(rows, ["dice"]).loc[0, "M Dice"]
    assert over_patients == f"50.0 ± {np.std([20, 40, 60, 80], ddof=1):.1f}"
    over_folds = paper_table(rows, ["dice"], over="fold").loc[0, "M Dice"]
    assert over_folds == f"50.0 ± {np.std([40, 60], ddof=1):.1f}"


def test_names_of_systems() -> None:
    assert system(RunSpec("unet_joint", "lgg", settings=WEIGHTED)) == "unet_joint"
    assert system(RunSpec("uagan", "lgg", settings=(("gated", False),))) == "uagan (atten)"
    assert system(RunSpec("csa", "lgg", settings=(("rate", 0.1),))) == "csa (rate=0.1)"
    assert system(RunSpec("uagan", "lgg", settings=(("gated", "False"),))) == "uagan (atten)"  # as a run folder has it
    far = RunSpec("csa", "lgg", settings=(("pairs", ("far",)),))
    assert system(far) == "csa (far)" and far.variant == "default,pairs=far"
    assert command_of(far, "cpu")[-2:] == ["--set", "pairs=far"]


@pytest.mark.parametrize("grid", list(CLAIMS))
def test_every_claim_is_answered_by_its_grid(grid: str) -> None:
    """No claim compares systems, modalities or tasks that its suite never trains."""
    from xmod_lab.data.manifest import dataset

    specs = suite(f"{grid}-long" if grid in ("adaptation-bar", "shown") else f"{grid}-lesson")
    run = {tuple(place_of(s).split("/", 2)) for s in specs}
    run |= {  # the scorer on what a translator makes of the other modality, and on the image as it is
        (s.dataset, s.task_name, name)
        for s in specs
        if "translate" in offers(METHODS[s.method].cls)
        for name in (f"scorer ({system(s)})", NOT_ADAPTED)
    }
    for claim in CLAIMS[grid]:
        assert {(claim.dataset, claim.task, name) for name in claim.systems} <= run
        translated = claim.metric in TRANSLATED
        assert claim.modality in [*dataset(claim.dataset).tasks[claim.task].tested, *[MEAN] * translated]
        assert translated or claim.metric in METRICS


def test_suites_name_each_run_once() -> None:
    for name in suites():
        specs = suite(name)
        assert len({s.folder for s in specs}) == len(specs)


def test_the_papers_table_gives_the_direction() -> None:
    claim = Claim("x", "new", "old", "M", dataset="d", task="t", published=-0.3)
    assert claim.direction == -1 and dataclasses.replace(claim, published=0.3).direction == 1
    assert dataclasses.replace(claim, published=None).direction == 1
    assert dataclasses.replace(claim, published=None, metric="fd").direction == -1
    rows = rows_of({"old": [a + 0.1 for a in A], "new": A})
    assert verdicts([claim], rows, {}, real=False)["verdict"].tolist() == ["direction seen"]


BOTH_TABLES = {
    *(f"U{i}" for i in range(1, 7)), *(f"B{i}" for i in range(1, 7)), *(f"C{i}" for i in range(1, 6)), "K1", "A1",
    *(f"S{i}" for i in range(1, 6)), *(f"T{i}" for i in range(1, 6)),
}  # fmt: skip
"""the claims of the papers that a small benchmark can test"""
OF_THE_LAB = {"literal", "B0", "B7", "B8", "B9", "B10"}


def test_every_claim_is_put_in_words_and_has_comparisons() -> None:
    compared = {claim.key for claims in CLAIMS.values() for claim in claims}
    assert BOTH_TABLES | OF_THE_LAB | {"C0"} == set(SAYS)
    assert {key for key, about in ABOUT.items() if about.paper == "own"} == OF_THE_LAB
    assert {key for key, about in ABOUT.items() if about.rule in ("gates", "greys")} == set(SAYS) - compared


def test_every_claim_names_its_source_and_size() -> None:
    for key, about in ABOUT.items():
        assert about.direction and about.data and (about.paper == "own" or (about.table and about.published)), key
    assert {key for key, about in ABOUT.items() if about.untested} == {"T1", "S4", "B3", "B4"}
    for key, about in ABOUT.items():  # what its line says is not tested, and nothing else
        assert (f"({about.untested} is not tested)" in about.direction) == bool(about.untested), key


def test_rules_of_claims_are_those_of_their_comparisons() -> None:
    assert {about.rule for about in ABOUT.values()} == set(RULES)
    for key, about in ABOUT.items():
        own = [claim for claims in CLAIMS.values() for claim in claims if claim.key == key]
        assert {claim.least for claim in own} <= ({25.0} if about.rule == "paired, at least 25" else {0.0}), key
        assert any(claim.less for claim in own) == (about.rule == "paired, of differences"), key


def test_a_page_says_what_its_files_hold(tmp_path: Path) -> None:
    name = "csa-lesson"
    rng = np.random.default_rng(0)
    rows = []
    for spec in suite(name):
        for m in ("bSSFP", "LGE") if spec.dataset == "cardiac_mr" else ("CT", "MR"):
            for i in range(6):
                for structure in ("LV", "MYO"):
                    named = {"dataset": spec.dataset, "task": spec.task_name, "method": spec.method, "fold": 0,
                             "variant": "default", "system": system(spec), "seed": 0, "patient": f"p{i}",
                             "modality": m, "structure": structure}
                    better = 0.2 if spec.method == "csa" else 0.0
                    dice = 0.5 + better + 0.01 * rng.random()
                    rows.append(named | dict.fromkeys(METRICS, 0.5) | {"everything": 0.1, "dice": dice})
    pd.DataFrame(rows).to_csv(tmp_path / f"{name}-patients.csv", index=False)
    sick = str(next(s for s in suite(name) if s.method == "ummkd"))
    write_json(tmp_path / f"{name}.json", {"runs": 12, "training_seconds": 5, "problems": {sick: "divergence is 3"}})
    text = page.page(name, tmp_path)
    claims = [line for line in text.splitlines() if line.startswith("| C1") and "| Dice |" in line]
    assert len(claims) == 8 and all("direction seen" in line for line in claims)
    assert "| ummkd † |" in text and "| csa |" in text
    assert "cannot tell. fold 0, seed 0: divergence is 3" in text
    assert all("cannot tell" in line for line in text.splitlines() if line.startswith("| K1") and "cardiac_mr" in line)


def test_other_suites_have_no_page() -> None:
    assert grid_of("lesson") == "" and grid_of("csa-lesson") == "csa"
    assert grid_of("joint-real-study") == "joint-real"
    assert callable(tables.record)
