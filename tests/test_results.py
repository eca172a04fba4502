"""The recorded results: whole, with provenance, and what README says of them is what they hold."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from xmod_lab.bench.own_data import grid_of
from xmod_lab.bench.page import page, verdict_counts
from xmod_lab.bench.suites import suite
from xmod_lab.bench.tables import RUN, summary
from xmod_lab.data.manifest import dataset

CHECKOUT = Path(__file__).resolve().parents[1]
BESIDE = ("-patients", "-gates", "-distances", "-greys", "-registration")
RESULTS = sorted(p for p in (CHECKOUT / "results").glob("*.csv") if not p.stem.endswith(BESIDE))
README = (CHECKOUT / "results" / "README.md").read_text()
TABLES = re.findall(r"<!-- table: ([\w-]+) -->\n(.*?)\n?<!-- end -->", README, re.DOTALL)
CLAIMS = re.findall(r"<!-- claims: ([\w-]+) -->\n(.*?)\n?<!-- end -->", README, re.DOTALL)


@pytest.mark.parametrize("path", RESULTS, ids=lambda p: p.stem)
def test_a_record_names_every_run_of_its_suite(path: Path) -> None:
    rows = pd.read_csv(path)
    recorded = set(rows[RUN].itertuples(index=False, name=None))
    wanted = {(s.dataset, s.task_name, s.method, s.variant, s.fold, s.seed) for s in suite(path.stem)}
    assert recorded == wanted
    facts = json.loads(path.with_suffix(".json").read_text())
    assert facts["runs"] == len(wanted) and facts["versions"]["torch"] and facts["device"] and facts["commit"]
    if any(dataset(s.dataset).task(s.task_name).classes for s in suite(path.stem)):
        dice = rows["dice"][rows["tested"].notna()]  # a run that only translates has none
        assert len(dice) and dice.between(0, 1).all() and not dice.isna().any()


@pytest.mark.parametrize(("name", "table"), TABLES, ids=[name for name, _ in TABLES])
def test_readme_shows_the_recorded_numbers(name: str, table: str) -> None:
    assert table.strip() == summary(CHECKOUT / "results" / f"{name}.csv").strip()


@pytest.mark.parametrize(("name", "table"), CLAIMS, ids=[name for name, _ in CLAIMS])
def test_readme_shows_the_recorded_verdicts(name: str, table: str) -> None:
    assert table.strip() == verdict_counts(name, CHECKOUT / "results").strip()


@pytest.mark.parametrize("path", [p for p in RESULTS if grid_of(p.stem)], ids=lambda p: p.stem)
def test_a_page_follows_from_its_files(path: Path) -> None:
    assert path.with_suffix(".md").read_text() == page(path.stem, path.parent)
    rows = pd.read_csv(path.with_name(f"{path.stem}-patients.csv"))
    wanted = {(s.dataset, s.task_name, s.method, s.variant, s.fold, s.seed) for s in suite(path.stem)}
    named = ["dataset", "task", "method", "variant", "fold", "seed"]
    assert set(rows[named].itertuples(index=False, name=None)) == wanted


@pytest.mark.parametrize("folder", [".", "results"])
def test_every_link_of_a_readme_leads_somewhere(folder: str) -> None:
    home = CHECKOUT / folder
    links = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", (home / "README.md").read_text(encoding="utf-8"))
    assert len(links) > 15 and [link for link in links if not (home / link).exists()] == []


def test_readme_shows_every_record() -> None:
    assert {name for name, _ in [*TABLES, *CLAIMS]} == {path.stem for path in RESULTS}


def test_registration_of_the_phantom_heads_is_as_readme_says() -> None:
    found = pd.read_csv(CHECKOUT / "results" / "head_ct_mr-registration.csv")
    assert len(found) == found["patient"].nunique() == 24
    assert found["error_mm"].max() < 1 and found["error_degrees"].max() < 1
    mean, most = found.mean(numeric_only=True), found.max(numeric_only=True)
    assert f"{mean['error_mm']:.2f} mm and {mean['error_degrees']:.2f} degrees" in README
    assert f"at most {most['error_mm']:.2f} mm and {most['error_degrees']:.2f} degrees" in README
    assert f"as they lay {mean['before_mm']:.1f} mm and {mean['before_degrees']:.1f} degrees" in README
