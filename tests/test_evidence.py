"""All recorded suites together: verdicts of claims follow from their comparisons, and README's table from them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from xmod_lab.bench import evidence, overview
from xmod_lab.bench.claims import ABOUT, CLAIMS
from xmod_lab.bench.correction import UNREACHABLE
from xmod_lab.bench.own_data import PAPERS_OWN, at_papers
from xmod_lab.bench.page import page
from xmod_lab.bench.patients import system
from xmod_lab.bench.suites import GRIDS, parts, suite, suites
from xmod_lab.data.manifest import dataset
from xmod_lab.errors import LabError
from xmod_lab.evaluate.tables import to_markdown
from xmod_lab.view.evidence import cost, forest

CHECKOUT = Path(__file__).resolve().parents[1]
HOME = evidence.home()
SEEN, ON_PATIENTS = "direction seen", "direction seen on patients"


@pytest.mark.parametrize(
    ("each", "verdict", "why"),
    [
        ([(SEEN, ""), (SEEN, "")], SEEN, "every comparison"),
        ([(ON_PATIENTS, "")], ON_PATIENTS, "every comparison"),
        ([(SEEN, ""), ("cannot tell", "did not train")], "cannot tell", "did not train (1)"),
        ([(SEEN, ""), ("not seen", ""), ("cannot tell", "x")], "not seen",
         "1 of 3 comparisons go the other way, after correction"),
        ([("cannot tell", "a"), ("cannot tell", "b"), ("cannot tell", "b")], "cannot tell", "b (2), a (1)"),
        ([("not run", "csa")], "not run", "no recorded suite compares it there"),
        ([("not run", "csa"), (SEEN, "")], SEEN, "every comparison"),
        ([], "not run", "no recorded suite compares it there"),
    ],
)
def test_a_claim_is_as_good_as_its_weakest_comparison(each: list[tuple[str, str]], verdict: str, why: str) -> None:
    assert evidence.judged([v for v, _ in each], [kind for _, kind in each], ["0.01"] * len(each)) == (verdict, why)


def test_what_correction_does_not_keep_turns_no_claim() -> None:
    verdicts, kinds = [SEEN, "not seen", "cannot tell"], ["", "", "x"]
    found = evidence.judged(verdicts, kinds, ["0.01", "0.06", ""])
    assert found == ("cannot tell", "the other way, but not after correction (1), x (1)")
    found = evidence.judged(verdicts, kinds, ["0.01", UNREACHABLE, ""])
    assert found == ("cannot tell", "the other way, with too few patients for correction (1), x (1)")
    assert evidence.judged([SEEN, SEEN], ["", ""], ["0.2", UNREACHABLE])[0] == SEEN, "all of them need none"


def test_of_two_records_of_a_comparison_the_better_counts() -> None:
    same = dict(zip(("on", "claim", "data set", "tested on", "metric", "comparison"), "abcdef", strict=True))
    sizes = [("lesson", 1), ("long", 1), ("lesson", 3), ("smoke", 3)]
    more = {"p": "0.02", "n": 12}
    table = pd.DataFrame([same | more | {"profile": profile, "seeds": seeds} for profile, seeds in sizes])
    assert evidence.best(table)["profile"].tolist() == ["lesson"] and evidence.best(table)["seeds"].tolist() == [3]
    assert evidence.best(table.head(2))["profile"].tolist() == ["long"]
    two = evidence.best(pd.concat([table, table.assign(metric="HD", p="0.03")], ignore_index=True))
    assert two["p_holm"].tolist() == ["0.04", "0.04"], "corrected for the two that count, not for eight"
    six = evidence.best(pd.concat([table, table.assign(metric="HD")], ignore_index=True).assign(n=6, p="0.04"))
    assert six["p_holm"].tolist() == [UNREACHABLE] * 2, "least p of six patients is 0.03125"


@pytest.mark.parametrize(
    ("reason", "comparison", "kind"),
    [
        ("", "a - b", "the interval includes zero"),
        ("", "a - b ≥ 25", "the interval includes 25"),
        ("uagan: did not train in fold 1", "", "did not train"),
        ("csgan: to CT no better than the untranslated image", "", "no better than a trivial answer"),
        ("3 patients are too few", "", "too few patients"),
        ("folds disagree: +1.00, -2.00", "", "folds disagree"),
        ("the ratio itself is not above 1", "", "the ratio itself is not above 1"),
    ],
)
def test_reasons_have_kinds(reason: str, comparison: str, kind: str) -> None:
    assert evidence.kind_of(reason, comparison) == kind


def test_counts_and_seeds_as_text() -> None:
    assert evidence.counted(pd.Series([SEEN, "cannot tell", SEEN])) == "2 seen, 1 cannot tell"
    assert evidence.seeds_of(pd.Series([3, 1, 3])) == "1 to 3" and evidence.seeds_of(pd.Series([1, 1])) == "1"
    assert evidence.seeds_of(pd.Series([], dtype=int)) == "" and evidence.seeds_of(pd.Series([0, 1])) == "1"


def test_numbers_of_comparisons_are_those_of_their_text() -> None:
    table = evidence.comparisons(HOME)
    assert set(table["on"]) == {"phantoms", "patients"} and len(table) > 200
    run = table[table["verdict"] != "not run"]
    assert run["effect"].notna().all() and (run["low"] <= run["effect"]).all() and (run["effect"] <= run["high"]).all()
    first = run[(run["suite"] == "paired-lesson") & (run["metric"] == "psnr")].iloc[0]
    assert first["difference"] == f"{first['effect']:+.2f}"
    assert first["interval"] == f"{first['low']:+.2f} to {first['high']:+.2f}"
    told = run[run["verdict"] == "cannot tell"]
    assert told["why"].ne("").all() and run[run["verdict"] != "cannot tell"]["why"].eq("").all()


def test_every_claim_has_an_answer_with_its_reason_and_seeds() -> None:
    found = evidence.answers(HOME).set_index("claim")
    assert list(found.index) == list(ABOUT)
    for where in evidence.WHERE:
        assert found[f"{where}: why"].ne("").all()
        run = found[found[where] != "not run"]
        assert run[f"{where}: seeds"].ne("").all() and run[f"{where}: comparisons"].ne("").all()
    assert (found["phantoms"] != "not run").all()
    assert not found[f"{evidence.OWN}: why"].str.contains("no task of").loc[["U6", "B10", "S1"]].any()


def test_who_records_the_papers_own_data_fills_their_column(tmp_path: Path) -> None:
    """The rows of a recorded phantom under the name of what it stands for."""
    rows = pd.read_csv(HOME / "csa-lesson-patients.csv").query("dataset == 'whole_heart'")
    own = PAPERS_OWN["whole_heart", "joint"]
    name = f"{own.dataset}-paper"
    rows.assign(dataset=own.dataset, task=own.task).to_csv(tmp_path / f"{name}-patients.csv", index=False)
    facts = json.loads((HOME / "csa-lesson.json").read_text(encoding="utf-8"))
    (tmp_path / f"{name}.json").write_text(json.dumps(facts | {"problems": {}}), encoding="utf-8")
    table = evidence.comparisons(tmp_path)
    run = table[table["n"] > 0]
    assert set(table["on"]) == {evidence.OWN} and set(run["data set"]) == {f"{own.dataset}/{own.task}"}
    assert (table.loc[table["n"] == 0, "verdict"] == "not run").all(), "other tasks of this data set"
    assert {"reproduced", "cannot tell"} <= set(table["verdict"])
    found = evidence.answers(tmp_path).set_index("claim")
    assert found.loc["C1", evidence.OWN] != "not run" and found.loc["U1", evidence.OWN] == "not run"
    assert "| reproduced |" in page(name, tmp_path)


def test_readme_shows_one_claim_a_paper_as_recorded() -> None:
    readme = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"<!-- headlines -->\n(.*?)\n<!-- end -->", readme, re.DOTALL)
    assert shown and shown[1].strip() == to_markdown(evidence.headlines(HOME)).strip()
    assert readme[: shown.start()].count("\n") < 30, "within one screen"


def test_a_folder_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no recorded results"):
        evidence.recorded_suites(tmp_path)


def test_lesson_and_study_are_all_grids_and_paper_is_of_the_papers_data() -> None:
    for size in ("lesson", "study"):
        every = suite(size)
        assert len(every) == len(set(every)) and {spec.profile for spec in every} == {size}
        assert set(every) == {spec for name in parts(size) for spec in suite(name)}
        assert parts(size) == [f"{grid}-{size}" for grid in GRIDS] and set(parts(size)) <= set(suites())
    papers = suite("paper")
    assert set(papers) == {spec for name in parts("paper") for spec in suite(name)} and "mmwhs-paper" in parts("paper")
    assert {(s.dataset, s.task_name) for s in papers} == {(p.dataset, p.task) for p in PAPERS_OWN.values()}
    for spec in papers:
        entry = dataset(spec.dataset)
        assert entry.access != "phantom" and spec.fold < entry.task(spec.task_name).split.folds


@pytest.mark.parametrize("grid", sorted({"csa", "uagan", "translation", "paired", "adaptation", "adaptation-heart"}))
def test_claims_on_the_papers_data_are_of_runs_of_that_suite(grid: str) -> None:
    runs = suite("paper")
    claims = at_papers(CLAIMS[grid])
    assert claims
    for claim in claims:
        here = [spec for spec in runs if (spec.dataset, spec.task_name) == (claim.dataset, claim.task)]
        names = {system(spec) for spec in here}
        asked = [s for s in claim.systems if not s.startswith(("target_only (all", "scorer"))]
        assert set(asked) <= names, claim
        assert claim.modality in (*dataset(claim.dataset).task(claim.task).tested, "mean")


def test_system_rows_hold_each_run_once_and_say_who_trained() -> None:
    rows = overview.system_rows(HOME)
    keys = ["dataset", "task", "system", "variant", "fold", "seed", "profile", "translates", "patient", "modality"]
    keys += ["structure", "method"]
    assert not rows.duplicated(keys).any()
    mixed = rows[(rows["dataset"] == "brain_tumour") & (rows["task"] == "uagan")]
    assert mixed["profile"].nunique() == 2, "a longer run of the same system"
    means = overview.means(mixed).query("profile == 'lesson'").set_index(["modality", "system"])
    with pytest.raises(LabError, match="profiles"):
        overview.ranked(mixed, ["uagan", "unet_joint", "multi_v4"])
    assert "uagan †" in overview.ranked(mixed.query("profile == 'lesson'"), ["uagan", "unet_joint", "multi_v4"]).ranks
    assert not means.loc[("FLAIR", "uagan"), "trained"], "its critic broke a limit in a fold"
    plain = means.loc[("FLAIR", "unet_individual")]
    assert plain["trained"] and plain["patients"] == 18
    own = rows[(rows["suite"] == "uagan-lesson") & (rows["system"] == "uagan") & (rows["modality"] == "FLAIR")]
    by_hand = own.groupby(["fold", "patient"])["dice"].mean().mean()
    assert means.loc[("FLAIR", "uagan"), "mean"] == pytest.approx(by_hand)


def test_means_have_the_spread_of_patients_and_that_of_seeds() -> None:
    """Two folds of two patients, two seeds: a fold's patients are others, a seed's are the same."""
    place = {"dataset": "d", "task": "t", "profile": "lesson", "system": "s", "trained": True, "modality": "M"}
    rows = [place | {"fold": fold, "seed": seed, "patient": f"p{fold}{i}", "structure": "a", "dice": dice + 0.2 * seed}
            for fold, dices in enumerate([(0.1, 0.3), (0.5, 0.7)]) for i, dice in enumerate(dices) for seed in (0, 1)]
    (found,) = overview.means(pd.DataFrame(rows)).to_dict("records")
    assert (found["patients"], found["seeds"], found["mean"]) == (4, 2, pytest.approx(0.5))
    assert found["sd"] == pytest.approx(np.std([0.2, 0.4, 0.6, 0.8], ddof=1))
    assert found["seed_sd"] == pytest.approx(np.std([0.4, 0.6], ddof=1))
    (one,) = overview.means(pd.DataFrame(rows).query("seed == 0")).to_dict("records")
    assert one["seeds"] == 1 and np.isnan(one["seed_sd"])


def test_costs_count_what_a_system_reads() -> None:
    found = overview.costs(HOME).set_index(["suite", "task", "system"])
    alone = found.loc[("sasan-lesson", "sasan_mr_to_ct", "cyclegan")]
    taught = found.loc[("sasan-lesson", "sasan_mr_to_ct", "detached (cyclegan)")]
    assert taught["seconds"] > alone["seconds"] and taught["parameters"] > alone["parameters"]
    assert taught["without"] == ""
    assert found.loc[("adaptation-lesson", "subregions", "cyclegan_seg"), "without"] == "cyclegan_adapting"


def test_pictures_hold_every_row() -> None:
    table = evidence.comparisons(HOME)
    part = table[table["claim"].isin(["U1", "S1"]) & (table["on"] == "phantoms")].assign(group=lambda t: t["claim"])
    axis = forest(part).axes[0]
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert sorted(labels) == sorted(part["comparison"])
    before, after = (min(forest(part.assign(group=head)).axes[0].get_yticks()) for head in ("one line", "two\nlines"))
    assert after > before, "a heading of two lines lies above the rows"
    systems = pd.DataFrame({"system": ["a", "b"], "dice": [0.2, 0.9], "trained": [True, False], "seconds": [10, 90],
                            "parameters": [1e5, 1e6]})  # fmt: skip
    legend = cost(systems).axes[-1].get_legend()
    assert legend is not None and [text.get_text() for text in legend.get_texts()] == ["1  b", "2  a"]
