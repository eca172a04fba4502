"""All recorded suites together: verdicts of claims follow from their comparisons, and README's table from them."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from xmod_lab.bench import evidence, overview
from xmod_lab.bench.claims import ABOUT, CLAIMS
from xmod_lab.bench.own_data import PAPERS_OWN, at_papers
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
        ([(SEEN, ""), ("not seen", ""), ("cannot tell", "x")], "not seen", "1 of 3 comparisons go the other way"),
        ([("cannot tell", "a"), ("cannot tell", "b"), ("cannot tell", "b")], "cannot tell", "b (2), a (1)"),
        ([("not run", "csa")], "not run", "no recorded suite compares it there"),
        ([("not run", "csa"), (SEEN, "")], SEEN, "every comparison"),
        ([], "not run", "no recorded suite compares it there"),
    ],
)
def test_a_claim_is_as_good_as_its_weakest_comparison(each: list[tuple[str, str]], verdict: str, why: str) -> None:
    assert evidence.judged([v for v, _ in each], [kind for _, kind in each]) == (verdict, why)


@pytest.mark.parametrize(
    ("reason", "comparison", "kind"),
    [
        ("", "a - b", "the interval includes zero"),
        ("", "a - b ≥ 25", "the interval includes 25"),
        ("uagan: did not train in fold 1", "", "did not train"),
        ("csgan: to CT no better than the untranslated image", "", "did not train"),
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
    assert evidence.seeds_of(pd.Series([], dtype=int)) == ""


def test_numbers_of_comparisons_are_those_of_their_text() -> None:
    table = evidence.comparisons(HOME)
    assert set(table["on"]) == {"phantoms", "patients"} and len(table) > 200
    run = table[table["verdict"] != "not run"]
    assert run["effect"].notna().all() and (run["low"] <= run["effect"]).all() and (run["effect"] <= run["high"]).all()
    first = run[(run["suite"] == "paired-lesson") & (run["metric"] == "psnr")].iloc[0]
    assert first["difference"] == f"{first['effect']:+.2f}"
    assert first["interval"] == f"{first['low']:+.2f} to {first['high']:+.2f}"
    assert not run["verdict"].eq("reproduced").any(), "that takes the papers' own data"
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
    assert (found[evidence.OWN] == "not run").all(), "nobody has recorded the papers' own data yet"


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
    systems = pd.DataFrame({"system": ["a", "b"], "dice": [0.2, 0.9], "trained": [True, False], "seconds": [10, 90],
                            "parameters": [1e5, 1e6]})  # fmt: skip
    legend = cost(systems).axes[-1].get_legend()
    assert legend is not None and [text.get_text() for text in legend.get_texts()] == ["1  b", "2  a"]
