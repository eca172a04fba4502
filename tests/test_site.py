"""The static site: whole, offline, escaped, the same bytes twice, and never half written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import CHECKOUT
from notebook_tools import cell, whole_series
from PIL import Image
from tiny_site import ABOUT, EVIL, Page, problems, ran, series_run
from typer.testing import CliRunner

from xmod_lab import cli
from xmod_lab.errors import LabError
from xmod_lab.series import report
from xmod_lab.series.run import Result
from xmod_lab.site import build as builder
from xmod_lab.site import pages, text

RESULTS = CHECKOUT / "results"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return series_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite with claims and one without a page: reading all takes seconds."""
    folder = tmp_path_factory.mktemp("results")
    for path in [*RESULTS.glob("paired-lesson*"), *RESULTS.glob("baselines-real-lesson.*")]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="module")
def site(run: Path, few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "site"
    assert builder.build([run], few, out)[:4] == (out / "index.html", 5, ["02_second"], 2)
    return out


def test_every_address_resolves_and_nothing_is_asked_of_the_network(site: Path) -> None:
    assert problems(site) == []
    assert "https://example.org/paper" in Page(site / "notebooks" / "01.html").leads, "a citation is one"


def test_the_checks_of_addresses_find_what_they_should(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(
        '<a href="gone.html">a</a><a href="#gone">b</a><img src="http://x.org/a.png"><a href="../index.html">c</a>'
        '<link href="//x.org/s.css"><a href="https://x.org">fine</a><i id="here"></i><a href="index.html#here">fine</a>'
    )
    (tmp_path / "style.css").write_text("@import 'x'; b { background: url(http://x.org) }")
    assert len(problems(tmp_path)) == 7


def test_the_site_of_the_whole_series_and_all_records(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    folder, said = whole_series(tmp_path_factory)
    assert said["code"] == 0
    builder.build([folder], RESULTS, tmp_path / "site")
    assert problems(tmp_path / "site") == []
    index = Page(tmp_path / "site" / "index.html")
    numbers = sorted(path.stem.split("_")[0] for path in folder.glob("*/[0-9]*_*.ipynb"))
    found = [address for address in dict.fromkeys(index.leads) if address.startswith("notebooks/")]
    assert found == [f"notebooks/{number}.html" for number in numbers]
    assert {f"results/{path.stem}.html" for path in RESULTS.glob("*-*.md")} <= set(index.leads)
    assert (tmp_path / "site" / "index.html").stat().st_size < 300_000
    exercises = Page(tmp_path / "site" / "notebooks" / "00.html").leads
    assert "exercises/00_start_here.ipynb" in exercises and "gallery.html" in index.leads


def test_cards_say_state_profile_time_and_question(site: Path) -> None:
    index = (site / "index.html").read_text()
    cards = index[index.index('class="cards"') : index.index('id="pictures"')].split("<li ")[1:]
    assert [card.split('"')[1] for card in cards] == ["pass", "fail", "not-run", "pass", "pass"]
    first, second, absent, *_ = cards
    assert "What does a pixel see?" in first and "smoke profile, 3 s" in first and 'src="thumbnails/01.jpg"' in first
    assert "FAIL" in second and "it fell &lt;script&gt;" in second and 'href="notebooks/02.html"' in second
    assert "NOT RUN" in absent and "needs gpu" in absent and "href" not in absent
    assert index.count("<img") == index.count('loading="lazy"') > 5
    assert Image.open(site / "thumbnails" / "01.jpg").size == (640, 213), "the figure, not the first picture"


def test_what_comes_from_data_is_escaped(site: Path) -> None:
    first = (site / "notebooks" / "01.html").read_text()
    for page in site.glob("*.html"):
        assert EVIL not in page.read_text()
    assert EVIL not in first and "javascript:" not in first and "onclick" not in first and "color: red" not in first
    assert first.count("<math") == 3 and "<code>$HOME</code>" in first and "&lt;b&gt;" in first
    assert "whole" in first and "half" not in first, "what was overwritten on the terminal is gone"
    assert "<td>1</td>" in first.replace(' class="short"', "") and "<th" in first


def test_links_between_notebooks_lead_to_pages(site: Path) -> None:
    first = Page(site / "notebooks" / "01.html")
    assert "02.html#cell-1" in first.leads and not [a for a in first.leads if "gone" in a]
    assert [a for a in first.leads if a.endswith(".html") and "/" not in a] == ["02.html"]
    assert "none" in (site / "notebooks" / "01.html").read_text(), "a link that leads nowhere stays as its text"
    beside = [address for address in Page(site / "notebooks" / "70.html").leads if address in ("02.html", "80.html")]
    assert beside == ["02.html", "80.html"], "before and after; 03 left no page"


def test_gallery_and_atlas_show_figures_and_views_by_tag_and_file(site: Path) -> None:
    gallery, atlas = (site / "gallery.html").read_text(), (site / "atlas.html").read_text()
    assert "all translations" in gallery and "of a check" not in gallery and "notebooks/70.html#cell-2" in gallery
    assert "queries of every layer" in atlas and "affinity of a slice" in atlas and atlas.count("<iframe") == 2
    assert atlas.count('sandbox="allow-scripts allow-downloads"') == 2
    for view in (site / "views").iterdir():
        assert view.read_text().startswith("<!DOCTYPE html>") and "Content-Security-Policy" in view.read_text()[:200]
    assert 'sandbox="allow-scripts allow-downloads"' in (site / "notebooks" / "80.html").read_text()


def test_a_page_without_notebooks_is_left_out(run: Path, few: Path, tmp_path: Path) -> None:
    alone = tmp_path / "run"
    results = [ran(alone, "01_first", [cell("# 01 First, again", markdown=True)])]
    report.write(alone, results, [], {"profile": "lesson", "seconds": 1})
    builder.build([run, alone], few, tmp_path / "both")
    assert "lesson profile" in (tmp_path / "both" / "notebooks" / "01.html").read_text(), "of the last run that has it"
    assert (tmp_path / "both" / "atlas.html").is_file()
    builder.build([alone], few, tmp_path / "site")
    assert not (tmp_path / "site" / "atlas.html").exists() and problems(tmp_path / "site") == []
    index = (tmp_path / "site" / "index.html").read_text()
    assert "Atlas" not in index and "Gallery" not in index
    assert "commit not recorded" in index and "date not recorded" in index and "lesson profile" in index


def test_pages_are_stamped(site: Path) -> None:
    for name in ("index.html", "notebooks/01.html", "gallery.html"):
        page = (site / name).read_text()
        assert "smoke profile · run on 2024-02-03 · commit 0123456789+ · " in page and "torch" in page
    facts = json.loads((RESULTS / "paired-lesson.json").read_text())
    suite = (site / "results" / "paired-lesson.html").read_text()
    assert facts["commit"][0][:10] in suite and f"{facts['runs']} runs on CPU" in suite and "lesson profile" in suite


def test_results_hold_their_tables(site: Path) -> None:
    index, page = (site / "index.html").read_text(), (site / "results" / "paired-lesson.html").read_text()
    assert (site / "results" / "paired-lesson.csv").read_bytes() == (RESULTS / "paired-lesson.csv").read_bytes()
    assert 'href="paired-lesson.csv"' in page
    assert "direction seen" in index and "SASAN, paired, behind Pix2Pix" in index
    assert page.count('<div class="scroll"><table>') == page.count("<table>") > 2
    plain = "results/baselines-real-lesson.html"
    assert "flair_alone" in (site / plain).read_text(), "a suite without a page shows its table"
    assert index.index(plain) < index.index("results/paired-lesson.html"), "README's order"


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_building_again_gives_the_same_bytes(run: Path, few: Path, site: Path, tmp_path: Path) -> None:
    out = tmp_path / "site"
    shutil.copytree(site, out)
    (out / "old.html").write_text("of an older site")
    builder.build([run], few, out)
    assert _bytes(out) == _bytes(site)
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_a_half_built_site_never_lies_under_the_name(
    run: Path, few: Path, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "site"
    shutil.copytree(site, out)

    def stops(*words: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pages, "write", stops)
    for place in (out, tmp_path / "new"):
        with pytest.raises(KeyboardInterrupt):
            builder.build([run], few, place)
    assert _bytes(out) == _bytes(site)
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_errors_are_one_line(run: Path, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    with pytest.raises(LabError, match="no run of the series: .*series .*xmod-lab series run, or name .* --run"):
        builder.newest()
    (tmp_path / "mine").mkdir()
    for runs, results, out, message in [
        ([tmp_path], few, "a", "no report: report.json"),
        ([run], tmp_path, "a", "no recorded results: .*--results"),
        ([run], few, "mine", "there is something else than a site: .*mine .*--out"),
    ]:
        with pytest.raises(LabError, match=message):
            builder.build(runs, results, tmp_path / out)
    report.write(tmp_path, [Result("01_a", "01 A", "pass"), Result("01_b", "01 B", "pass")], [], ABOUT)
    with pytest.raises(LabError, match="two notebooks with one number: 01_a, 01_b"):
        builder.build([tmp_path], few, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_the_command_takes_the_newest_run(
    run: Path, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    shutil.copytree(run, tmp_path / "series" / "one")
    done = CliRunner().invoke(cli.app, ["site", "--results", str(few), "--out", str(tmp_path / "site")])
    assert done.exit_code == 0 and "5 notebooks, failed: 02_second; 2 recorded suites" in done.output
    assert (tmp_path / "site" / "index.html").is_file()


def test_a_broken_picture_is_named(few: Path, tmp_path: Path) -> None:
    series_run(tmp_path / "run")
    path = tmp_path / "run" / "70_tiny_gallery" / "70_tiny_gallery.ipynb"
    path.write_text(path.read_text().replace("iVBOR", "AAAAA"))
    with pytest.raises(LabError, match="a picture that cannot be read: 70_tiny_gallery"):
        builder.build([tmp_path / "run"], few, tmp_path / "site")


def test_markdown_keeps_equations_and_loses_what_is_not_text() -> None:
    source = "$$\na_1\n$$\n<b onclick=x>bold</b> \ue0007\ue001 [x](y.md)"
    shown = text.html(source, {"y.md": "y.html"}.get)
    assert 'display="block"' in shown and "&lt;b onclick=x&gt;" in shown and '<a href="y.html">x</a>' in shown
