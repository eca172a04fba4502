"""Claims of translators on rows written by hand: verdicts, who trained, the recorded page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from xmod_lab.bench import page
from xmod_lab.bench.claim import Claim
from xmod_lab.bench.claims import CLAIMS
from xmod_lab.bench.own_data import grid_of
from xmod_lab.bench.patients import METRICS, PLAIN, RUN, TRANSLATED, by_patient, system
from xmod_lab.bench.published import difference
from xmod_lab.bench.suites import suite
from xmod_lab.bench.systems import MEAN
from xmod_lab.bench.tables import about_translators
from xmod_lab.bench.translators import FLOOR, Shown
from xmod_lab.bench.verdicts import untrained, verdicts
from xmod_lab.data.manifest import dataset
from xmod_lab.evaluate.scored import SCORER
from xmod_lab.files import write_json
from xmod_lab.runs import RunSpec, reads_of

TARGETS = ("CT", "T1w", "T2w")


def row(name: str, patient: str, modality: str, fold: int = 0, **values: float) -> dict[str, Any]:
    named = dict(zip(RUN, ("abdomen", "liver", name, "default", name, fold, 0), strict=True))
    return named | {"patient": patient, "modality": modality, "structure": "liver"} | values


def translated(scores: dict[str, float], untranslated: float = 0.2, metric: str = "s_score") -> list[dict[str, Any]]:
    """Three patients of each modality, others in each, translated to the two other ones by each system."""
    found = []
    for name, score in scores.items():
        for source in TARGETS:
            for i in range(3):
                for target in TARGETS:
                    if target != source:
                        better = 0.01 * i
                        values = dict.fromkeys(TRANSLATED, 0.5) | {"s_score": 0.5 + better} | {metric: score + better}
                        plain = dict.fromkeys(PLAIN.values(), 0.4)
                        plain |= {"untranslated": untranslated, "fd_untranslated": 0.9}
                        found.append(row(name, f"{source}{i}", target, **values, **plain))
    return found


def segmented(scores: dict[str, float]) -> list[dict[str, Any]]:
    return [
        row(name, f"{m}{i}", m, fold, **dict.fromkeys(METRICS, 0.5) | {"dice": score + 0.01 * i, "everything": 0.1})
        for name, score in scores.items() for m in TARGETS for fold in (0, 1) for i in range(3)
    ]


def verdict(rows: list[dict[str, Any]], modality: str, metric: str = "s_score", sign: int = 1,
            problems: dict[str, str] | None = None) -> pd.Series:
    claim = Claim("T", "new", "old", modality, metric, float(sign), "abdomen", "liver")
    table = pd.DataFrame(rows)
    return verdicts([claim], table, untrained(table, problems or {}), real=False).iloc[0]


def test_six_patients_are_translated_to_a_target() -> None:
    found = verdict(translated({"old": 0.5, "new": 0.6}), "CT")
    assert (found["n"], found["difference"], found["verdict"]) == (6, "+10.00", "direction seen")
    assert verdict(translated({"old": 0.6, "new": 0.5}), "CT")["verdict"] == "not seen"


def test_the_mean_over_targets_is_a_patients_own() -> None:
    rows = translated({"old": 0.5, "new": 0.6})
    for entry in rows:
        if entry["system"] == "new" and entry["modality"] == "CT":
            entry["s_score"] += 0.3
    found = verdict(rows, MEAN)
    assert found["n"] == 9 and found["difference"] == "+20.00"  # six of nine patients gain 0.15 more
    values = by_patient(pd.DataFrame(rows)).query("modality == @MEAN and system == 'new' and patient == 'T1w0'")
    assert values["s_score"].item() == pytest.approx((0.9 + 0.6) / 2)


def test_distances_and_errors_keep_their_unit() -> None:
    found = verdict(translated({"old": 0.05, "new": 0.0432}, metric="fd"), "T2w", "fd", -1)
    assert (found["difference"], found["verdict"]) == ("-0.0068", "direction seen")
    assert found["metric"] == "FD[random encoder]"


def test_a_translator_no_better_than_the_untranslated_image_did_not_train() -> None:
    rows = translated({"old": 0.2, "new": 0.6}, untranslated=0.21)
    found = verdict(rows, "CT")
    assert found["verdict"] == "cannot tell"
    assert found["reason"] == "old: to CT no better than the untranslated image"
    assert verdict(rows, MEAN)["verdict"] == "cannot tell"
    fine = translated({"old": 0.5, "new": 0.6})
    assert untrained(pd.DataFrame(fine), {}) == {}
    assert verdict(fine, "CT", problems={"abdomen/liver/new": "it copies"})["reason"] == "new: it copies"


def test_errors_are_looked_at_where_a_claim_asks() -> None:
    rows = pd.DataFrame(translated({"old": 0.5, "new": 0.05}, metric="mae"))
    assert untrained(rows, {}) == {}
    assert set(untrained(rows, {}, {"mae"})) == {f"abdomen/liver/old/mae to {m}" for m in (*TARGETS, MEAN)}


def test_what_claims_of_translators_need_is_scored() -> None:
    without = {grid for grid in CLAIMS if grid.startswith("adaptation")}
    without |= {"shown", "csa", "csa-ablations", "uagan", "joint-real"}
    assert {grid for grid, claims in CLAIMS.items() if not about_translators(claims)} == without


def test_each_score_has_its_own_trivial_answer() -> None:
    """The old one fools no scorer, but its distance is below the untranslated image's."""
    rows = translated({"old": 0.05, "new": 0.04}, metric="fd")
    for entry in rows:
        if entry["system"] == "old":
            entry["s_score"] = entry["untranslated"]
    assert verdict(rows, "CT", "fd", -1)["verdict"] == "direction seen"
    assert verdict(rows, "CT")["reason"] == "old: to CT no better than the untranslated image"
    for entry in rows:
        entry["fd_untranslated"] = 0.02
    assert verdict(rows, "CT", "fd", -1)["reason"] == "new: FD to CT no better than the untranslated image"


def test_an_enriched_segmenter_rests_on_its_translator() -> None:
    rows = segmented({"enriched (new)": 0.7, "single": 0.6}) + translated({"new": 0.6})
    claim = Claim("T4", "enriched (new)", "single", "CT", "dice", 1.0, "abdomen", "liver")

    def found(**problems: str) -> pd.Series:
        given = {f"abdomen/liver/{name}": text for name, text in problems.items()}
        table = pd.DataFrame(rows)
        return verdicts([claim], table, untrained(table, given), real=False, sick_folds={k: {1} for k in given}).iloc[0]

    assert found()["verdict"] == "direction seen"
    sick = found(new="it copies")
    assert (sick["verdict"], sick["reason"]) == ("cannot tell", "new: did not train in fold 1")
    assert sick["healthy folds"].endswith("n 3")
    for entry in rows:
        if entry["system"] == "new" and entry["modality"] == "T1w":
            entry["untranslated"] = 0.9
    assert found()["reason"] == "new: to T1w no better than the untranslated image"


def test_a_difference_of_differences() -> None:
    rows = translated({"a": 0.7, "b": 0.4, "c": 0.6, "d": 0.5})
    claim = Claim("T5", "a", "b", "CT", "s_score", None, "abdomen", "liver", less=("c", "d"))
    table = pd.DataFrame(rows)
    one = verdicts([claim], table, untrained(table, {}), real=False).iloc[0]
    assert (one["comparison"], one["difference"], one["verdict"]) == ("(a - b) - (c - d)", "+20.00", "direction seen")
    sick = verdicts([claim], table, {"abdomen/liver/d": "it copies"}, real=False).iloc[0]
    assert sick["reason"] == "d: it copies"
    without = table[table["system"] != "d"]
    assert verdicts([claim], without, {}, real=False).iloc[0]["verdict"] == "not run"


def test_systems_are_compared_on_the_seeds_that_both_have() -> None:
    rows = translated({"old": 0.5, "new": 0.6}) + [
        entry | {"seed": 1} for entry in translated({"old": 0.9})]
    assert verdict(rows, "CT")["difference"] == "+10.00"


def test_a_scorer_that_did_not_train_in_a_target_judges_nothing_there() -> None:
    rows = translated({"old": 0.5, "new": 0.6})
    bad = segmented({SCORER: 0.6})
    for entry in bad:
        if entry["modality"] == "CT":
            entry["dice"] = 0.1
    assert verdict(rows + bad, "CT")["reason"].startswith("the scorer: in CT no better than a trivial answer")
    assert verdict(rows + bad, "T1w")["verdict"] == "direction seen"
    assert verdict(rows + bad, MEAN)["verdict"] == "cannot tell"


def test_folds_whose_scorer_did_not_train_are_left_out_of_healthy_folds() -> None:
    rows = translated({"old": 0.5, "new": 0.6}) + [
        entry | {"fold": 1, "patient": f"{entry['patient']}b"} for entry in translated({"old": 0.5, "new": 0.7})]
    claim = Claim("T", "new", "old", "CT", "s_score", 1.0, "abdomen", "liver")
    judge = f"abdomen/liver/{SCORER}"
    found = verdicts([claim], pd.DataFrame(rows), {judge: "fold 1: ill"}, real=False, sick_folds={judge: {1}}).iloc[0]
    assert (found["n"], found["reason"]) == (12, "the scorer: did not train in fold 1")
    assert found["healthy folds"] == "+10.00, +10.00 to +10.00, n 6"


def test_a_method_that_segments_and_translates_is_judged_as_what_the_claim_takes_it_for() -> None:
    """A segmenter that failed is no worse a translator, and the other way round."""
    rows = translated({"old": 0.5, "new": 0.6}) + segmented({"old": 0.05, "new": 0.6})
    assert set(untrained(pd.DataFrame(rows), {})) == {f"abdomen/liver/old/{m}" for m in TARGETS}
    assert verdict(rows, "CT")["verdict"] == "direction seen"
    assert verdict(rows, "CT", "dice")["verdict"] == "cannot tell"


def test_a_dagger_is_of_what_the_table_takes_a_system_for() -> None:
    sick = {"abdomen/liver/csgan/CT": "", "abdomen/liver/remic/to CT": "", "abdomen/liver/targan": "ill"}
    tables = [Shown("", pd.DataFrame(), way) for way in (True, False)]
    tables.append(Shown("", pd.DataFrame(), modality="MR"))
    marks = {one: [page._marked(f"abdomen/liver/{one}", sick, table) for table in tables]
             for one in ("csgan", "remic", "targan", "targan (C)")}
    assert marks == {"csgan": ["csgan", "csgan †", "csgan"], "remic": ["remic †", "remic", "remic"],
                     "targan": ["targan †"] * 3, "targan (C)": ["targan (C)"] * 3}


def test_two_folds_segment_six_patients_of_a_modality() -> None:
    found = verdict(segmented({"old": 0.5, "new": 0.6}), "CT", "dice")
    assert (found["n"], found["difference"], found["verdict"]) == (6, "+10.00", "direction seen")


def test_published_differences() -> None:
    """By hand, and the side that each claim takes."""
    assert difference("targan", "targan", "remic", "T2w", "s_score") == 0.05
    assert difference("targan", "targan", "csgan", "T2w", "fd") == -0.2388
    assert difference("targan", "targan (S)", "targan (C)", MEAN, "s_score") == 11.62
    signs = {"T1": {1}, "T2": {-1}, "T3": {1}, "T4": {1, -1}, "T5": {1}}
    for grid in ("translation", "translation-real"):
        for claim in CLAIMS[grid]:
            assert claim.direction in signs[claim.key] and (claim.published is None) == (
                grid == "translation-real" or claim.key == "T5")
    assert {claim.key for claim in CLAIMS["translation"]} == set(signs)


def test_suites_of_translators() -> None:
    specs = suite("translation-lesson")
    assert {(s.profile, s.dataset, s.task_name) for s in specs} == {("lesson", "abdomen", "liver")}
    names = [system(s) for s in specs if s.fold == 1]
    assert names == [SCORER, "targan", "stargan", "csgan", "remic", "single", "enriched (targan)", "enriched (stargan)"]
    extra = {system(s) for s in specs if s.fold == 0} - set(names)
    assert extra == {f"targan ({n})" for n in ("STC", "SC", "TC", "C", "S", "untraceable", "untraceable, S")}
    assert {s.fold for s in specs} == {0, 1}
    for spec in specs:  # what a run reads is in the suite, before it
        assert all(other in specs[: specs.index(spec)] for other in reads_of(spec).values())
    study = suite("translation-study")
    assert {s.seed for s in study if system(s) == "csgan"} == {0, 1, 2}
    assert {s.seed for s in study if "(" in system(s) and s.method == "targan"} == {0}
    assert [system(s) for s in suite("translation-real-lesson")] == [SCORER, "targan", "stargan"]
    assert grid_of("translation-real-study") == "translation-real"


def test_names_of_enriched_runs() -> None:
    assert system(RunSpec("enriched", "abdomen")) == "enriched (targan)"
    named = RunSpec("enriched", "abdomen", settings=(("segmenter", "dynunet"), ("translator", "none")))
    assert system(named) == "single (segmenter=dynunet)"


def recorded_suite(folder: Path, name: str) -> None:
    """Files of a suite as `record` leaves them: TarGAN is better by 0.1, its ablations worse by that."""
    rows: list[dict[str, Any]] = []
    distances: list[dict[str, Any]] = []
    for spec in suite(name):
        tested = dataset(spec.dataset).task(spec.task_name).tested
        called = system(spec)
        better = 0.1 * (called in ("targan", "enriched (targan)")) - 0.1 * called.startswith("targan (")
        named = dict(zip(RUN, (spec.dataset, spec.task_name, spec.method, spec.variant, called, spec.fold, spec.seed),
                         strict=True))
        parts = translated({called: 0.5 + better}) if spec.method not in (SCORER, "enriched") else []
        if spec.method in (SCORER, "enriched", "csgan", "remic"):
            parts += [r for r in segmented({called: 0.6 + better}) if r["fold"] == 0]
        for entry in parts:
            entry["modality"] = tested[TARGETS.index(entry["modality"])]
            entry["patient"] += f"fold{spec.fold}"
        rows += [entry | named for entry in parts]
        for which in (called, "untranslated") if "s_score" in parts[0] else ():
            for target in tested:
                numbers = {f"{d}[{e}]": 0.1 for d in ("FD", "KD") for e in ("random encoder", "scorer encoder 2")}
                distances.append({"source": "mean", "target": target, "system": which, "fold": spec.fold, "seed": 0}
                                 | numbers | {f"{n} floor": 0.05 for n in numbers} | {"n_real": 90.0})
    pd.DataFrame(rows).to_csv(folder / f"{name}-patients.csv", index=False)
    pd.DataFrame(distances).to_csv(folder / f"{name}-distances.csv", index=False)
    write_json(folder / f"{name}.json", {"runs": 23, "training_seconds": 5, "problems": {}})


def cells(text: str, first: str) -> list[list[str]]:
    lines = [[part.strip() for part in line.strip("|").split(" | ")] for line in text.splitlines()]
    return [line for line in lines if line[0] == first]


def test_a_page_of_translators_from_its_files(tmp_path: Path) -> None:
    recorded_suite(tmp_path, "translation-lesson")
    text = page.page("translation-lesson", tmp_path)
    one, errors, two, three = (text.index(t) for t in ("Table 1:", "Errors against", "Table 2:", "Table 3:"))
    assert one < errors < two < three
    for name, number in (("targan", "61.0 ± 0.8"), ("untranslated", "20.0 ± 0.0"), ("real", "61.0 ± 0.9"),
                         (FLOOR, "0.05 ± 0")):
        assert number in cells(text[one:errors], name)[0], name
    assert "0.400 ± 0.000" in cells(text[errors:two], "untranslated")[0]
    assert "targan (C)" not in text[one:three] and "41.0 ± 0.9" in cells(text[three:], "targan (C)")[0]
    for name in ("single", "enriched (stargan)", "enriched (targan)", "csgan", "remic"):
        assert len(cells(text[two:three], name)) == 1
    claims = {key: [line[-2] for line in cells(text, key)] for key in ("T1", "T2", "T3", "T4", "T5")}
    assert claims["T1"] == ["direction seen"] * 9 and claims["T2"] == ["cannot tell"] * 9
    assert claims["T3"] == ["direction seen"] * 3 + ["cannot tell"]  # two ablations alike
    assert claims["T4"] == ["direction seen"] * 3 + ["cannot tell"] * 3
    assert claims["T5"] == ["cannot tell", "direction seen"]
    assert "All of them, by these limits." in text and "`random encoder`" in text and "nan" not in text


def test_a_page_of_real_translators(tmp_path: Path) -> None:
    recorded_suite(tmp_path, "translation-real-lesson")
    text = page.page("translation-real-lesson", tmp_path)
    assert "Errors against the truth" in text and "Table 2" not in text and "Table 3" not in text
    found = cells(text, "T1")
    assert len(found) == 3 and all("direction seen on patients" in line for line in found)
