"""The site in a headless browser, from disk and without a network: it opens, leads on, sorts, and complains of nothing.

Skipped where no Chromium is installed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import launched, needed
from conftest import CHECKOUT
from tiny_site import series_run

from xmod_lab.site.build import build

pytestmark = needed


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    (folder / "results").mkdir()
    for path in (CHECKOUT / "results").glob("csa-lesson*"):  # its tables are wide
        shutil.copy(path, folder / "results")
    return build([series_run(folder / "run")], folder / "results", folder / "site").home.parent


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as opened:
        yield opened


@pytest.fixture
def page(browser: Any, site: Path) -> Iterator[Any]:
    """The index, opened from disk; at the end nothing was asked of anybody, and the console is empty."""
    asked: list[str] = []
    complaints: list[str] = []
    context = browser.new_context(offline=True, viewport={"width": 1200, "height": 2400})
    context.set_default_timeout(20000)
    context.on("request", lambda request: asked.append(request.url))
    context.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    opened = context.new_page()
    opened.goto((site / "index.html").as_uri())
    yield opened
    context.close()
    assert [url for url in asked if not url.startswith((site.as_uri(), "data:"))] == []
    assert complaints == []


def _heading(page: Any) -> str:
    return str(page.locator("h1").first.inner_text())


def test_a_reader_walks_through_the_site(page: Any) -> None:
    page.locator(".cards a", has_text="First").click()
    assert _heading(page).startswith("01 First")
    page.locator("a[rel=next]").click()
    assert _heading(page) == "02 Second" and page.locator(".state").inner_text() == "FAIL"
    page.locator("main a", has_text="01").click()
    page.locator("a[rel=next]").click()
    page.locator("a[rel=next]").click()
    assert _heading(page) == "70 Tiny gallery"
    page.locator("a[rel=prev]").click()
    assert _heading(page) == "02 Second"
    page.locator("header a", has_text="Gallery").click()
    assert page.locator("figure").count() == 1
    page.locator("figcaption a", has_text="in the notebook").click()
    assert page.url.endswith("notebooks/70.html#cell-2")
    page.locator("header a.home").click()
    assert _heading(page) == "xmod_lab"


def test_every_picture_is_drawn(page: Any, site: Path) -> None:
    for name in ("index.html", "notebooks/01.html", "gallery.html"):
        page.goto((site / name).as_uri())
        pictures = page.locator("main img")
        assert pictures.count() > 0
        for n in range(pictures.count()):
            pictures.nth(n).scroll_into_view_if_needed()
            pictures.nth(n).evaluate("image => image.decode()")
            assert pictures.nth(n).evaluate("image => image.naturalWidth") > 0


def test_views_draw_in_their_frames(page: Any) -> None:
    page.locator("header a", has_text="Atlas").click()
    for n in range(2):
        frame = page.frame_locator("iframe").nth(n)
        frame.locator("canvas[width='300']").wait_for()


def test_a_head_sorts_its_table(page: Any) -> None:
    page.locator("#results ~ section a", has_text="csa-lesson").first.click()
    table, head = page.locator("table").first, page.locator("table").first.locator("th").nth(1)
    for n, way in enumerate(("ascending", "descending")):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == way
        values = [float(text.split()[0]) for text in table.locator("td:nth-child(2)").all_inner_texts()]
        assert len(values) > 2 and values == sorted(values, reverse=bool(n))


def test_pages_fit_a_phone_and_know_the_dark(page: Any, site: Path) -> None:
    page.set_viewport_size({"width": 360, "height": 800})
    grounds = set()
    for path in (*site.glob("*.html"), *site.glob("notebooks/*.html"), *site.glob("results/*.html")):
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path.name
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2
