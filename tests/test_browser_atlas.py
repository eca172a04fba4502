"""The atlas in a browser: in JupyterLab, as an exported page with nobody to ask, and as a page of its own (Voila).

What a click shows is checked against the arrays. Skipped where no Chromium is installed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from chromium import launched, needed, offline_page
from lab_page import end, free_port, ran, smoke_notebook
from notebook_tools import smoke_home, whole_series

from xmod_lab.maps import TRAINED
from xmod_lab.runs import Run, RunSpec
from xmod_lab.shipped import shipped
from xmod_lab.view.explorer import Explorer

pytestmark = needed
RUN = 500
"""seconds that notebook 80 may take, on a busy machine"""
SHOWN = "(root, [row, i]) => Array.from(root.view.latest.find(one => one.row === row && one.image === i).values)"


def values(view: Any, row: int = 0, image: int = 0) -> np.ndarray:
    """What a widget's picture shows."""
    return np.array(view.evaluate(SHOWN, [row, image]))


def click(view: Any, row: int, column: int, size: int) -> None:
    """A click on a pixel of the first image of a view whose images have `size` x `size` pixels."""
    canvas = view.locator('canvas[data-row="0"][data-image="0"]')
    box = canvas.bounding_box()
    canvas.click(position={"x": (column + 0.5) / size * box["width"], "y": (row + 0.5) / size * box["height"]})


def expect(view: Any, explorer: Explorer, image: str) -> None:
    """The view shows what the explorer has, up to half a step of 8 bits."""
    wanted = explorer.view.shown()[TRAINED][image].ravel()
    latest = time.monotonic() + 20
    while not np.allclose(values(view), wanted, atol=float(np.ptp(wanted)) / 255) and time.monotonic() < latest:
        time.sleep(0.1)
    assert values(view) == pytest.approx(wanted, abs=float(np.ptp(wanted)) / 255)


def test_a_reader_runs_the_atlas_in_jupyterlab(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = whole_series(tmp_path_factory)
    monkeypatch.setenv("XMOD_HOME", str(smoke_home(tmp_path_factory)))
    monkeypatch.setenv("XMOD_RUNS", str(out / "runs"))  # what the series trained is only read
    assert (out / "runs" / "smoke" / "brain_tumour" / "subregions").is_dir()
    with ran(smoke_notebook("80_attention_atlas.ipynb"), tmp_path, RUN, height=14000) as page:
        view = page.locator(".query-view[data-shown]").last
        view.wait_for()
        spec = RunSpec("bigl", "brain_tumour", "subregions", "smoke")
        explorer = Explorer({"BiGL": Run(spec, spec.folder)}, modality="T2", map="position")
        size = explorer.view.shape[1]
        click(view, 30, 20, size)
        explorer.set(query=(30, 20))
        expect(view, explorer, "T2")
        handle = page.locator(".widget-slider .noUi-handle").last
        handle.focus()
        page.keyboard.press("ArrowLeft")
        explorer.set(slice=explorer.at - 1)
        page.locator(".query-view h1", has_text=f"slice {explorer.at}").last.wait_for()
        expect(view, explorer, "T2")
        row, column = view.evaluate("root => root.view.state.query")
        view.press("ArrowRight")  # a widget's second view: a key is answered once
        step = size // explorer.view.maps["position"]["T2"].grid[1]  # from one position of the map to the next
        assert view.evaluate("root => root.view.state.query") == [row, column + step]
        view.press("x")  # JupyterLab would cut the cell
        assert view.is_visible()


def test_the_exported_atlas_answers_with_nobody_to_ask(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The calibration: the identity answers with the pixel's own position, the mirror with that of the other side."""
    out, _ = whole_series(tmp_path_factory)
    with launched() as browser, offline_page(browser, out / "80_attention_atlas.html") as page:
        frame = page.frame_locator('iframe[title="query view"]').first
        view = frame.locator(".query-view")
        frame.locator("canvas").first.wait_for()
        for name, column in (("identity", 1), ("mirror", 6)):
            frame.get_by_label("map", exact=True).select_option(name)
            click(view, 25, 11, 64)  # position (3, 1) of 8 x 8
            found = np.array(frame.locator("html").evaluate("() => Array.from(window.view.latest[0].values)"))
            assert np.flatnonzero(found).tolist() == [3 * 8 + column]


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 2):
        return True
    return False


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """`xmod-lab explore`, as a reader starts it."""
    port, log = free_port(), tmp_path / "voila.log"
    command = [sys.executable, "-m", "xmod_lab", "explore", "--no-browser", "--port", str(port)]
    with log.open("w") as stream:
        process = psutil.Popen(command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT,
                               env=os.environ | {"XMOD_RUNS": str(tmp_path / "runs")})  # fmt: skip
        try:
            latest = time.monotonic() + 90
            while not listens(port):
                assert process.poll() is None and time.monotonic() < latest, log.read_text()[-3000:]
                time.sleep(0.3)
            yield f"http://127.0.0.1:{port}"
        finally:
            alive = end(process)
        assert alive == [], "the server left processes behind"


def test_the_explorer_is_a_page_of_its_own(served: str) -> None:
    """With no run of the reader's own it shows what comes with the package."""
    runs = shipped()
    explorer = Explorer(runs)
    with launched() as browser:
        page = browser.new_page(viewport={"width": 1400, "height": 1600})
        page.set_default_timeout(120000)
        page.goto(served)
        view = page.locator(".query-view[data-shown]").first
        view.wait_for()
        click(view, 40, 33, explorer.view.shape[1])
        explorer.set(query=(40, 33))
        expect(view, explorer, next(iter(explorer.view.images)))
        page.get_by_text("what moves?").wait_for()
