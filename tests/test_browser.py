"""JupyterLab in a headless browser: a reader opens a notebook, runs it, and sees a picture and a slider.

Skipped where no Chromium is installed.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from chromium import needed
from lab_page import KERNEL, ran, smoke_notebook

pytestmark = needed
RUN = 180
"""seconds that the notebook may take to run, on a busy machine"""

TINY = """\
import matplotlib.pyplot as plt
plt.plot([0, 1], [0, 1])
plt.show()
---
import ipywidgets
level = ipywidgets.IntSlider(value=3, min=0, max=9, description="level")
level
---
print("the last cell", "ran")
"""


@pytest.mark.parametrize("name", ["tiny", "00_start_here.ipynb"])
def test_a_reader_runs_a_notebook_in_jupyterlab(name: str, tmp_path: Path) -> None:
    if name == "tiny":
        cells = [nbformat.v4.new_code_cell(cell.strip()) for cell in TINY.split("---\n")]
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": KERNEL})
    else:
        notebook = smoke_notebook(name)
    with ran(notebook, tmp_path, RUN) as page:
        picture = page.locator('.jp-OutputArea-output img[src^="data:image/png"]').first
        picture.wait_for()
        assert picture.evaluate("image => image.naturalWidth") > 100
        if name == "tiny":
            handle = page.locator(".widget-slider .noUi-handle").first
            handle.focus()
            page.keyboard.press("ArrowRight")
            page.locator(".widget-readout", has_text="4").wait_for()
            page.get_by_text("the last cell ran", exact=True).wait_for()
