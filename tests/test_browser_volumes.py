"""Volumes in a headless browser: plotly's surfaces from a file without a network, niivue in JupyterLab.

Skipped where no Chromium is installed, and where it draws without WebGL. Graphics are computed by the processor.
"""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from chromium import BROWSER, FLAGS, needed
from lab_page import KERNEL, TOKEN, jupyterlab
from matplotlib.colors import to_rgb
from PIL import Image

from xmod_lab.view import figures, style

pytestmark = needed
RUN = 180
"""seconds that the cell may take, on a busy machine"""

GRAPHICS = [flag for flag in FLAGS if flag != "--disable-gpu"] + [
    "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]  # fmt: skip
HAS = "kind => document.createElement('canvas').getContext(kind) !== null"
EVIL = "</script><script>document.title = 'reached'</script>"

CELL = """\
import numpy as np
from xmod_lab.view.figures import volume_widget
label = np.zeros((32, 32, 12), np.uint8)
label[6:26, 6:26, 2:10] = 1
label[12:20, 12:20, 4:8] = 2
image = np.random.default_rng(0).uniform(0, 900, label.shape)
volume_widget(image, (2, 2, 5), label, np.roll(label, 3, 0), ["rim", "core"], how="niivue", title=EVIL)
"""


def coloured(picture: bytes, colour: str) -> int:
    """How many pixels have the hue of `colour`, whatever their brightness."""
    pixels = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"), float) / 255
    wanted = np.array(to_rgb(colour))
    strength = pixels.max(-1)
    alike = np.abs(pixels / np.maximum(strength, 1e-3)[..., None] - wanted / wanted.max()).max(-1) < 0.12
    return int((alike & (strength > 0.35)).sum())


def _needs(page: Any, kind: str) -> None:
    if not page.evaluate(HAS, kind):
        pytest.skip(f"this Chromium draws without {kind}")


def test_plotly_surfaces_hide_by_a_click_and_turn_together_without_a_network(tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    label = np.zeros((24, 24, 12), np.uint8)
    label[2:9, 4:20, 2:10], label[13:22, 4:20, 2:10] = 1, 2
    figure = figures.surfaces(label, (2, 2, 4), ["left_one", EVIL], prediction=label, title=EVIL)
    (tmp_path / "page.html").write_text(figures.surfaces_page(figure), encoding="utf-8")
    complaints: list[str] = []
    requests: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, headless=True, args=GRAPHICS)
        try:
            page = browser.new_context(offline=True, viewport={"width": 1000, "height": 600}).new_page()
            page.on("request", lambda request: requests.append(request.url))
            page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.set_default_timeout(60000)
            page.goto((tmp_path / "page.html").as_uri())
            _needs(page, "webgl")
            page.locator(".legend .traces").nth(1).wait_for()
            assert page.locator(".legendtext").all_text_contents() == ["left one", EVIL]
            first, second = style.COLOURS[:2]
            drawn = page.screenshot()
            assert min(coloured(drawn, first), coloured(drawn, second)) > 2000
            page.locator(".legendtoggle").first.click()
            page.wait_for_function("surfaces._fullData[0].visible === 'legendonly'")
            assert page.evaluate("surfaces._fullData.map(trace => trace.visible)") == ["legendonly", True] * 2
            hidden = page.screenshot()
            assert coloured(hidden, first) < 1000 < 2000 < coloured(hidden, second)
            before = page.evaluate("surfaces._fullLayout.scene2.camera.eye")
            page.mouse.move(250, 300)
            page.mouse.down()
            page.mouse.move(330, 330, steps=3)
            page.mouse.up()
            page.wait_for_function(
                "before => { const [a, b] = ['scene', 'scene2'].map(name => surfaces._fullLayout[name].camera.eye);"
                " return Math.abs(b.x - before.x) > 0.05 && Math.abs(a.x - b.x) + Math.abs(a.y - b.y) < 1e-6; }",
                arg=before,
            )
            assert page.title() != "reached"
        finally:
            browser.close()
    assert complaints == [] and all(url.startswith(("file:", "data:", "blob:")) for url in requests)


def test_niivue_shows_image_and_labels_injupyterlab(tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    folder = tmp_path / "lab"
    folder.mkdir()
    cell = nbformat.v4.new_code_cell(CELL.replace("EVIL", repr(EVIL)))
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": KERNEL}), folder / "page.ipynb")
    complaints: list[str] = []
    with jupyterlab(folder) as address, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(tmp_path / "profile"), executable_path=BROWSER, headless=True, args=GRAPHICS,
            viewport={"width": 1300, "height": 1000},
        )  # fmt: skip
        try:
            page = context.new_page()
            page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.set_default_timeout(30000)
            page.goto(f"{address}/lab/tree/page.ipynb?token={TOKEN}")
            _needs(page, "webgl2")
            page.locator(".jp-NotebookPanel .jp-Cell").first.wait_for()
            page.locator("#jp-main-statusbar", has_text="| Idle").wait_for()
            page.locator(".lm-MenuBar-itemLabel", has_text="Run").first.click()
            page.locator(".lm-Menu-itemLabel", has_text="Run All Cells").first.click()
            canvas = page.locator(".jp-OutputArea-output canvas").first
            canvas.wait_for(timeout=RUN * 1000)
            end = time.monotonic() + 60
            while min(coloured(canvas.screenshot(), colour) for colour in style.COLOURS[:2]) < 100:
                assert time.monotonic() < end, "no label was drawn"
                page.wait_for_timeout(300)
            shown = canvas.screenshot()
            slider = page.locator(".widget-slider .noUi-handle").nth(1)
            for _ in range(9):  # the truth's opacity, 0.45, down to nothing
                slider.press("ArrowLeft")
            while coloured(canvas.screenshot(), style.COLOURS[0]) > 0.7 * coloured(shown, style.COLOURS[0]):
                assert time.monotonic() < end, "the slider hides nothing"
                page.wait_for_timeout(300)
            assert "reached" not in page.title()
        finally:
            context.close()
    assert complaints == []
