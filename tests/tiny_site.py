"""A series run of tiny notebooks that never ran, and what the pages of a site must keep to."""

from __future__ import annotations

import base64
import io
import re
import urllib.parse
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_output
from notebook_tools import cell, write
from PIL import Image

from xmod_lab.series import report
from xmod_lab.series.run import Result

EVIL = "<script>document.title = 'evil'</script>"
ABOUT = {"profile": "smoke", "seconds": 9.0, "date": "2024-02-03T04:05:06Z", "commit": "0123456789abcdef0123+"}
VIEW = "<canvas></canvas><script>document.querySelector('canvas').width = 300; document.title = 'drawn'</script>"
TEXT = f"""# 01 First {EVIL}

*What does a pixel
see?*

**Needs** [02](02_second.ipynb#cell-1), [none](04_gone.ipynb), [a paper](https://example.org/paper) and {EVIL}.
$a < b$ and $\\text{{{EVIL}}}$ but `$HOME`. [evil](javascript:alert(1)) ![away](https://example.org/a.png)

| loss | value |
|---|---|
| $|x|$ | 1 |
"""


def png(size: tuple[int, int] = (40, 20), grey: int = 200) -> str:
    stream = io.BytesIO()
    Image.new("RGB", size, (grey, grey, grey)).save(stream, format="png")
    return base64.b64encode(stream.getvalue()).decode("ascii")


def picture(alt: str, **more: Any) -> Any:
    data = {"image/png": png(**more), "text/plain": alt}
    return new_output("display_data", data, metadata={"image/png": {"alt": alt}})


def shown(html: str, said: str = "") -> Any:
    return new_output("execute_result", {"text/html": html, "text/plain": said})


def ran(folder: Path, name: str, cells: list[Any], status: str = "pass", reason: str = "") -> Result:
    """Write an executed notebook below the run's `folder`."""
    write(folder / name / f"{name}.ipynb", cells)
    title = cells[0].source.splitlines()[0].removeprefix("# ")
    return Result(name, title, status, reason, seconds=3.4, budget=60.0)


def code(source: str, *tags: str, outputs: list[Any]) -> Any:
    made = cell(source, *tags)
    made.outputs = [nbformat.from_dict(output) for output in outputs]
    return made


def series_run(folder: Path) -> Path:
    """A run with a failed notebook, one that did not run, a gallery and an atlas, full of what must be escaped."""
    frame = "<style>td { color: red }</style><table><tr><th>n</th></tr><tr><td onclick='x()'>1</td></tr></table>"
    fallen = [cell("# 02 Second\n\nSee [01](01_first.ipynb).", markdown=True)]
    text = new_output("stream", name="stdout", text=f"\rhalf\rwhole\n\x1b[31m{EVIL}\x1b[0m")
    results = [
        ran(folder, "01_first", [
            cell(TEXT, "title", markdown=True),
            code("x = '<b>'", "code", outputs=[text, shown(frame, "table"), picture(EVIL)]),
            code("y = 1", "figure", outputs=[picture("a figure", size=(900, 300))]),
        ]),
        ran(folder, "02_second", fallen, "fail", f"it fell {EVIL}"),
        Result("03_absent", "03 Absent", "not run", "needs gpu"),
        ran(folder, "70_tiny_gallery", [
            cell("# 70 Tiny gallery", markdown=True),
            code("show(a)", "figure", outputs=[picture("all translations")]),
            code("show(b)", "check", outputs=[picture("of a check")]),
        ]),
        ran(folder, "80_tiny_atlas", [
            cell("# 80 Tiny atlas", markdown=True),
            code("view", "code", outputs=[shown(VIEW, "queries of every layer")]),
        ]),
    ]  # fmt: skip
    (folder / "80_tiny_atlas" / "affinity_of_a_slice.html").write_text(f"<!doctype html><title>whole</title>{VIEW}")
    report.write(folder, results, [], ABOUT)
    return folder


class Page(HTMLParser):
    """What a page names (ids), what it loads and where it leads."""

    def __init__(self, path: Path):
        super().__init__()
        self.ids: set[str] = set()
        self.loads: list[str] = []
        self.leads: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        assert not [name for name in found if name.startswith("on")], f"<{tag}> carries a handler"
        self.ids |= {found["id"]} if found.get("id") else set()
        self.leads += [found["href"] or ""] if tag == "a" and "href" in found else []
        self.loads += [found[name] or "" for name in ("src", "srcset", "data", "poster") if name in found]
        self.loads += [found["href"] or ""] if tag != "a" and "href" in found else []


def problems(site: Path) -> list[str]:
    """Every link, picture or style of a site that leads nowhere, and everything that a page would ask the network."""
    read = {path.resolve(): Page(path) for path in site.rglob("*.html")}
    found = []
    for path, page in read.items():
        name = path.relative_to(site.resolve())
        for address in [*page.loads, *page.leads]:
            parts = urllib.parse.urlsplit(address)
            if parts.scheme in ("http", "https") and address in page.leads and address not in page.loads:
                continue  # a citation
            if parts.scheme == "data":
                continue
            target = (path.parent / urllib.parse.unquote(parts.path)).resolve() if parts.path else path
            inside = target.is_relative_to(site.resolve()) and target.is_file()
            if parts.scheme or parts.netloc or not inside:
                found.append(f"{name}: {address}")
            elif parts.fragment and parts.fragment not in read[target].ids:
                found.append(f"{name}: {address} has no such place")
    for path in site.rglob("*.css"):
        found += [f"{path.name}: {hit}" for hit in re.findall(r"url\([^)]*\)|@import[^;]*", path.read_text())]
    return found
