"""An executed notebook on the site: pictures and interactive views become files, cells become HTML.

Nothing of a notebook runs in the site's own pages. Tables are cleaned, and HTML that draws or computes (a script, a
canvas) is a page of its own in a frame that may ask for nothing.
"""

from __future__ import annotations

import base64
import binascii
import copy
import dataclasses
import functools
import io
import re
from pathlib import Path
from typing import Any, NamedTuple

from xmod_lab.errors import LabError
from xmod_lab.series import source
from xmod_lab.series.run import Result
from xmod_lab.site import text

THUMBNAIL = (640, 400)
_UNUSED = ("application/vnd.jupyter.widget-view+json", "application/javascript")
"""kinds of output that need a kernel or would run in the page; what stands beside them is shown"""
_LIVE = re.compile(r"<(?:script|iframe|canvas|svg|video|audio|img|object|embed)\b", re.I)
_STYLE = re.compile(r"<style\b.*?</style>", re.I | re.S)
_DOCTYPE = re.compile(r"\s*<!doctype[^>]*>", re.I)
_TAGS = {"a", "b", "br", "caption", "code", "div", "em", "h1", "h2", "h3", "h4", "hr", "i", "li", "ol", "p", "pre",
         "span", "strong", "sub", "sup", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul"}  # fmt: skip
_OFFLINE = (
    '<!DOCTYPE html><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="default-src data: blob: '
    "'unsafe-inline' 'unsafe-eval'; form-action 'none'\">\n"
)
"""begins every view: it may compute and draw, and reach nothing outside itself"""


class Shown(NamedTuple):
    """A picture or a view of a notebook: its file below the site's folder (none of a view that a copy leaves out), what
    it says, the cell that made it."""

    file: str
    caption: str
    cell: str
    view: bool
    figure: bool  # its cell is tagged figure
    size: tuple[int, int] | None


@dataclasses.dataclass(frozen=True)
class Book:
    """One notebook of a series run. about: the run's report; differing: its scores that were not as expected."""

    result: Result
    about: dict[str, Any]
    folder: Path
    differing: list[str]

    @property
    def number(self) -> str:
        return self.result.name.split("_")[0]

    @property
    def heading(self) -> str:
        """The title without its number."""
        return self.result.title.removeprefix(self.number).strip() or self.result.name

    @property
    def state(self) -> str:
        return "fail" if self.differing else self.result.status

    @functools.cached_property
    def nb(self) -> Any:
        """The executed notebook, or None if it left none that can be read."""
        from xmod_lab.series.light import nbformat

        path = self.folder / f"{self.result.name}.ipynb"
        try:
            return nbformat.read(path, as_version=4) if path.is_file() else None
        except Exception:  # stopped while it was written: the report says why
            return None

    @functools.cached_property
    def question(self) -> str:
        """The line in italics below the title."""
        first = self.nb.cells[0].source if self.nb and self.nb.cells else ""
        found = re.search(r"^\*([^*].*?)\*$", first, re.M | re.S)
        return " ".join(found[1].split()) if found else ""


def render(book: Book, out: Path, where: text.Where, brief: bool) -> tuple[str, list[Shown]]:
    """Write the notebook's pictures and views below `out`; its cells as HTML, and what it showed, in order.

    brief: write pictures in half the bytes (lossless WebP), and no views.
    """
    nb, shown = copy.deepcopy(book.nb), []
    for place, cell in enumerate(nb.cells, start=1):
        cell["id"] = f"cell-{place}"
        if cell.cell_type == "markdown":
            cell.source = text.html(cell.source, where)
        for n, output in enumerate(cell.get("outputs", []), start=1):
            for kind in _UNUSED:
                output.get("data", {}).pop(kind, None)
            one = _lifted(book, cell, output, f"{book.number}-{place:02d}-{n}", out, brief)
            shown += [one] if one else []
    for n, path in enumerate(sorted(book.folder.glob("*.html")), start=1):
        file = "" if brief else f"views/{book.number}-file-{n}.html"
        if file:
            _write_view(out / file, path.read_text(encoding="utf-8"))
        shown.append(Shown(file, path.stem.replace("_", " "), "", True, False, None))
    body, _ = _exporter().from_notebook_node(nb)
    return body, shown


def _lifted(book: Book, cell: Any, output: Any, name: str, out: Path, brief: bool) -> Shown | None:
    """Write what `output` shows to a file and note in its metadata where."""
    data, figure = output.get("data", {}), "figure" in source.tags(cell)
    if _LIVE.search(data.get("text/html", "")):
        file, said = "" if brief else f"views/{name}.html", data.get("text/plain", "")
        if file:
            _write_view(out / file, data["text/html"])
        output["data"] = {"text/html": ""}  # the template shows the frame
        caption = _caption(said, f"an interactive view of {book.result.title}")
        output.metadata |= {"view": file and f"../{file}", "caption": caption}
        return Shown(file, caption, cell["id"], True, figure, None)
    for kind, ending in (("image/png", "png"), ("image/jpeg", "jpg")):
        if kind in data:
            file, meta = f"pictures/{name}.{'webp' if brief else ending}", output.metadata.setdefault(kind, {})
            size = _write_picture(out / file, data[kind], book.result.name)
            said = str(meta.get("alt") or data.get("text/plain", ""))
            caption = _caption(said, f"a figure of {book.result.title}")
            data.pop("text/html", None)
            output.metadata |= {"file": f"../{file}", "caption": caption, "size": size}
            return Shown(file, caption, cell["id"], False, figure, size)
    return None


def _caption(said: str, otherwise: str) -> str:
    """What the notebook said of it, unless that is only how Python prints an object."""
    return otherwise if not said or said.startswith("<") else " ".join(said.split())


def _write_picture(path: Path, data: str, name: str) -> tuple[int, int]:
    from PIL import UnidentifiedImageError

    try:
        return write_picture(path, base64.b64decode(data))
    except (binascii.Error, UnidentifiedImageError) as error:
        raise LabError("a picture that cannot be read", where=name, mend="run the notebook again") from error


def write_picture(path: Path, raw: bytes) -> tuple[int, int]:
    """Write a picture's file as it is, or on white if `path` asks for WebP; its size."""
    from PIL import Image

    with Image.open(io.BytesIO(raw)) as opened:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".webp":
            _on_white(opened).save(path, lossless=True)
        else:
            path.write_bytes(raw)
        return opened.size


def _write_view(path: Path, html: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_OFFLINE + _DOCTYPE.sub("", html, count=1), encoding="utf-8")


def thumbnail(picture: Path, target: Path) -> tuple[int, int]:
    """Write `picture` small, on white, as JPEG; its size."""
    from PIL import Image

    with Image.open(picture) as opened:
        small = _on_white(opened)
    small.thumbnail(THUMBNAIL, Image.Resampling.LANCZOS)
    target.parent.mkdir(parents=True, exist_ok=True)
    small.save(target, quality=82, optimize=True)
    return small.size


def _on_white(picture: Any) -> Any:
    from PIL import Image

    whole = Image.new("RGBA", picture.size, "white")
    whole.alpha_composite(picture.convert("RGBA"))
    return whole.convert("RGB")


@functools.cache
def _exporter() -> Any:
    import jinja2
    import nbconvert

    return nbconvert.HTMLExporter(
        extra_loaders=[jinja2.PackageLoader("xmod_lab.site")],
        template_file="cells.html.j2",
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        sanitize_html=True,
        filters={"clean_html": _clean, "markdown2html": text.html},
        preprocessors=["nbconvert.preprocessors.CoalesceStreamsPreprocessor"],
    )


def _clean(html: str) -> str:
    """Tables and text without scripts, styles and anything that loads."""
    import bleach

    attributes = {"*": ["class"], "td": ["colspan", "rowspan"], "th": ["colspan", "rowspan", "scope"], "a": ["href"]}
    return str(bleach.clean(_STYLE.sub("", html), tags=_TAGS, attributes=attributes, strip=True))
