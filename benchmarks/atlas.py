"""What a click in the query view, a new slice in the explorer, and a page cost.

A click: in headless Chromium, from setting a query to the end of drawing, of a 32 x 32 map of noise over two images of
256 x 256 pixels with one more model: six maps are drawn. A slice: in the kernel, from `Explorer.set` to the text
that the widget sends, of the weights of BiGL that come with the package, all its maps, trained and untrained. A page:
bytes of one such map over one image, and of each further one; noise deflates least. Medians of the repeats.

    python benchmarks/atlas.py [--repeats 20] [--out benchmarks/results/atlas.json]
"""

from __future__ import annotations

import argparse
import platform
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xmod_lab.doctor import find_browser
from xmod_lab.files import write_json
from xmod_lab.shipped import shipped
from xmod_lab.view import query
from xmod_lab.view.embed import safe_json
from xmod_lab.view.explorer import Explorer
from xmod_lab.view.query_page import data_of

ALLOWED = {"click ms": 100.0, "slice ms": 300.0, "page MiB": 1.5, "further map MiB": 1.5}
"""at most, on two cores"""
CLICK = """async repeats => {
    const found = [];
    for (let i = 0; i < repeats; i++) {
        await new Promise(requestAnimationFrame);
        const start = performance.now();
        window.view.set({query: [(i * 37) % 256, (i * 91) % 256]});
        found.push(performance.now() - start);
    }
    return found;
}"""


def noise(seed: int) -> np.ndarray:
    """(1024, 1024) rows that sum to 1."""
    return np.random.default_rng(seed).dirichlet(np.ones(1024), 1024).astype(np.float32)


def clicks(repeats: int) -> list[float]:
    """Milliseconds of each click."""
    from playwright.sync_api import sync_playwright

    image = np.random.default_rng(0).normal(size=(256, 256))
    one, two = noise(0), noise(1)
    view = query({"a": {"x": one, "y": two}}, {"x": image, "y": -image}, nulls={"other": {"a": {"x": two, "y": one}}})
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "view.html"
        view.to_html(path)
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready=yes]")
        found: list[float] = page.evaluate(CLICK, repeats + 2)
        browser.close()
    return found[2:]


def slices(repeats: int) -> list[float]:
    """Milliseconds of each new slice."""
    explorer, found = Explorer(shipped()), []
    depth = explorer.case.geometry.slices
    for i in range(repeats + 2):
        start = time.perf_counter()
        explorer.set(slice=i % depth)
        safe_json(data_of(explorer.view))
        found.append(1000 * (time.perf_counter() - start))
    return found[2:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/atlas.json"))
    asked = parser.parse_args()
    image = np.random.default_rng(0).normal(size=(256, 256))
    sizes = [len(query({str(i): noise(i) for i in range(n)}, image).to_html()) / 2**20 for n in (1, 2)]
    measured = {
        "click ms": statistics.median(clicks(asked.repeats)),
        "slice ms": statistics.median(slices(asked.repeats)),
        "page MiB": sizes[0],
        "further map MiB": sizes[1] - sizes[0],
    }
    result: dict[str, Any] = {
        "measured": {name: round(value, 2) for name, value in measured.items()},
        "allowed": ALLOWED,
        "repeats": asked.repeats,
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "torch": version("torch"),
    }
    for name, value in measured.items():
        print(f"{name:16} {value:8.2f}   at most {ALLOWED[name]:g}{'' if value <= ALLOWED[name] else '   TOO MUCH'}")
    write_json(asked.out, result)


if __name__ == "__main__":
    main()
