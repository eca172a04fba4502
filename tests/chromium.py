"""The browser of tests that need one, and pages in it that can ask nobody."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xmod_lab.doctor import find_browser

BROWSER = find_browser()
needed = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed (apt-get install chromium)")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip


@contextlib.contextmanager
def launched() -> Iterator[Any]:
    """The browser, headless. One at a time in a process: Playwright's synchronous API nests in no other."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, headless=True, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def offline_page(browser: Any, path: Path, **more: Any) -> Iterator[Any]:
    """A file opened from disk, with every request to anywhere else aborted. Fails if the page asked or complained."""
    asked: list[str] = []
    complaints: list[str] = []
    context = browser.new_context(**more)
    context.route(
        lambda url: not url.startswith(("file:", "data:", "blob:")),
        lambda route: (asked.append(route.request.url), route.abort()),
    )
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.set_default_timeout(20000)
    try:
        page.goto(path.as_uri())
        yield page
    finally:
        context.close()
    assert asked == [], "the page asked somebody else"
    assert complaints == []
