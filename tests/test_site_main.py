"""The copy of the site's main pages: phantoms only, small, whole without the notebooks' pages, never out of date."""

from __future__ import annotations

import base64
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import CHECKOUT
from nbformat.v4 import new_output
from notebook_tools import cell, tiny, write
from PIL import Image
from tiny_site import ABOUT, VIEW, Page, code, picture, problems, ran, series_run, shown
from typer.testing import CliRunner

from xmod_lab import cli
from xmod_lab.errors import LabError
from xmod_lab.series import report
from xmod_lab.series.run import Result
from xmod_lab.site import build as builder
from xmod_lab.site import main, records, text

RESULTS = CHECKOUT / "results"
DOCS = CHECKOUT / "docs" / "site"
README = (CHECKOUT / "README.md").read_text(encoding="utf-8")


def evidence(folder: Path, noise: str = "") -> Path:
    """A run of one notebook that has a page of its own in the copy; noise: a picture that is hard to compress."""
    drawn = [new_output("display_data", {"image/png": noise, "text/plain": "noise"})] if noise else []
    links = "# 90 Evidence\n\n*Which hold?* [01](01_first.ipynb), [70](70_tiny_gallery.ipynb), [itself](90_tiny.ipynb)"
    frame = shown("<table><tr><td>12</td></tr></table>")
    outputs = [picture("a forest", size=(300, 200)), shown(VIEW, "all effects"), frame, *drawn]
    result = ran(folder, "90_tiny", [cell(links, markdown=True), code("forest()", "figure", outputs=outputs)])
    report.write(folder, [result], [], ABOUT)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [series_run(folder / "one"), evidence(folder / "two")]


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite with a page and one without."""
    folder = tmp_path_factory.mktemp("results")
    for path in [*RESULTS.glob("paired-lesson*"), *RESULTS.glob("baselines-real-lesson.*")]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def site(runs: list[Path], few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "site"
    built = builder.build(runs, few, out, brief=True)
    assert (built.notebooks, built.records, built.size) == (6, 2, main.size(out))
    return out


def stale(site: Path, results: Path) -> list[str]:
    """Pages of recorded suites that are absent from `site`, too many, or say something else than the records do now."""
    plain = re.compile("</?a\\b[^>]*>")  # which pages there are to lead to is another matter
    names = records.names(results)
    pages = {path.stem: plain.sub("", path.read_text(encoding="utf-8")) for path in (site / "results").glob("*.html")}
    found = sorted(set(pages) ^ set(names))
    for name in sorted(set(pages) & set(names)):
        own, csv = plain.sub("", records.body(name, results, lambda url: None)), f"{name}.csv"
        if own not in pages[name] or (site / "results" / csv).read_bytes() != (results / csv).read_bytes():
            found.append(name)
    return found


def test_only_the_main_pages_are_there_and_every_address_resolves(site: Path) -> None:
    pages = {str(path.relative_to(site)) for path in site.rglob("*.html")}
    suites = {"results/paired-lesson.html", "results/baselines-real-lesson.html"}
    assert pages == {"index.html", "gallery.html", "atlas.html", "notebooks/90.html", *suites}
    assert problems(site) == [] and not (site / "views").exists() and not (site / "notebooks" / "exercises").exists()


def test_pictures_of_other_pages_are_left_out_and_the_rest_is_whole(site: Path, runs: list[Path]) -> None:
    drawn = {path.name for path in (site / "pictures").iterdir()}
    own = {f"{Path(one.path).stem}.webp" for one in records.pictures(README, lambda url: None)}
    assert drawn == {"70-02-1.webp", "90-02-1.webp", *own} and own
    for name in ("phantoms", "matrix"):
        first = Image.open(CHECKOUT / "docs" / "pictures" / f"{name}.png").convert("RGB")
        copied = Image.open(site / "pictures" / f"{name}.webp").convert("RGB")
        assert np.array_equal(np.asarray(first), np.asarray(copied)), "lossless"


def test_cards_lead_where_there_is_something(site: Path) -> None:
    index = (site / "index.html").read_text()
    leads = Page(site / "index.html").leads
    assert "notebooks/90.html" in leads and "gallery.html#70" in leads and "atlas.html#80" in leads
    assert not [lead for lead in leads if lead.startswith("notebooks/") and lead != "notebooks/90.html"]
    assert "<code>notebooks/01_first.ipynb</code>" in index and 'src="thumbnails/01.jpg"' in index
    assert "A copy of the main pages" in index and "<code>make site</code>" in index


def test_views_are_named_and_left_out(site: Path) -> None:
    page = (site / "notebooks" / "90.html").read_text()
    assert "Left out of this copy: all effects" in page and "12</td>" in page and "<canvas" not in page
    assert 'href="../gallery.html' not in page.split("<main", 1)[1], "a link to a notebook without a page is its text"
    atlas = (site / "atlas.html").read_text()
    assert "A copy of the main pages" in atlas and "<iframe" not in atlas + page


def test_the_same_run_gives_the_same_bytes(runs: list[Path], few: Path, site: Path, tmp_path: Path) -> None:
    builder.build(runs, few, tmp_path / "site", brief=True)
    again, first = ({str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
                    for folder in (tmp_path / "site", site))  # fmt: skip
    assert again == first


def test_pictures_shrink_until_the_folder_is_small_enough(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (700, 1400, 3), np.uint8)).save(stream, format="png")
    run = evidence(tmp_path / "run", base64.b64encode(stream.getvalue()).decode())
    whole = builder.build([run], few, tmp_path / "site", brief=True).size
    for most in (whole - 500_000, whole - 2_000_000):
        monkeypatch.setattr(main, "MOST", most)
        assert builder.build([run], few, tmp_path / "site", brief=True).size <= most
        assert problems(tmp_path / "site") == []
    monkeypatch.setattr(main, "MOST", 10_000)
    with pytest.raises(LabError, match=r"more than 0.01: .*fewer figures"):
        builder.build([run], few, tmp_path / "other", brief=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "site"]


@pytest.mark.parametrize("where", ["report", "parameters", "default", "task", "needs", "printed", "unknown"])
def test_a_run_of_patients_is_refused(where: str, few: Path, tmp_path: Path) -> None:
    about = ABOUT | ({"dataset": "lgg"} if where == "report" else {})
    default = {"default": 'dataset: str = "lgg"', "task": 'other: str = "lgg"', "unknown": 'dataset: str = "mine"'}
    declared = default.get(where, 'dataset: str = "brain_tumour"')
    said = "data     lgg (real), folder data/lgg\n" if where == "printed" else "data     abdomen (phantom, drawn)\n"
    cells = [cell("# 01 A", markdown=True), cell(declared, "parameters")]
    cells.append(code("start()", outputs=[new_output("stream", name="stdout", text=f"device   cpu\n{said}")]))
    path = write(tmp_path / "run" / "01_a" / "01_a.ipynb", cells, needs=["data:lgg"] if where == "needs" else [])
    if where == "parameters":
        given = '"papermill": {"parameters": {"dataset": "lgg"}}, "xmod": {'
        path.write_text(path.read_text().replace('"xmod": {', given))
    report.write(tmp_path / "run", [Result("01_a", "01 A", "pass")], [], about)
    with pytest.raises(LabError, match="01_a is of (lgg|mine): the copy shows phantoms only"):
        builder.build([tmp_path / "run"], few, tmp_path / "site", brief=True)
    assert not (tmp_path / "site").exists()
    builder.build([tmp_path / "run"], few, tmp_path / "site")


def test_notebooks_on_phantoms_and_without_data_are_shown(tmp_path: Path) -> None:
    for name, declared in [("01_a", 'dataset: str = "brain_tumour"'), ("02_b", "dataset: str | None = None")]:
        tiny(tmp_path / "run" / name / f"{name}.ipynb", parameters=declared)
    report.write(tmp_path / "run", [Result("01_a", "01 A", "pass"), Result("02_b", "02 B", "pass")], [], ABOUT)
    main.check_phantoms(builder._books([tmp_path / "run"]))


def test_the_command_says_how_large_it_is(runs: list[Path], few: Path, tmp_path: Path) -> None:
    words = ["site", "--main", "--results", str(few), "--out", str(tmp_path / "site")]
    done = CliRunner().invoke(cli.app, [*words, *(word for run in runs for word in ("--run", str(run)))])
    assert done.exit_code == 0 and re.search(r"6 notebooks.*2 recorded suites; \d\.\d MB", done.output)
    assert not (tmp_path / "site" / "notebooks" / "01.html").exists()


def test_the_search_for_stale_pages_finds_what_it_should(site: Path, few: Path, tmp_path: Path) -> None:
    assert stale(site, few) == []
    shutil.copytree(few, tmp_path / "results")
    page = tmp_path / "results" / "paired-lesson.md"
    page.write_text(page.read_text().replace("-2.34", "-2.35"))
    assert stale(site, tmp_path / "results") == ["paired-lesson"]
    shutil.copy(RESULTS / "csa-lesson.json", tmp_path / "results")
    shutil.copy(RESULTS / "csa-lesson.csv", tmp_path / "results")
    assert stale(site, tmp_path / "results") == ["csa-lesson", "paired-lesson"]
    text_of = text.html("[a](b.md) **c**", {"b.md": "b.html"}.get)
    assert '<a href="b.html">a</a>' in text_of


def test_the_copy_in_docs_is_current() -> None:
    assert problems(DOCS) == [] and stale(DOCS, RESULTS) == [] and main.size(DOCS) <= main.MOST
