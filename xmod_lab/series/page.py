"""HTML that needs no network: each executed notebook as one file, and an index with times, scores and pictures."""

from __future__ import annotations

import base64
import copy
import functools
import html
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xmod_lab.errors import LabError
from xmod_lab.files import write_text
from xmod_lab.series import expected
from xmod_lab.series.run import Result

_WIDGET = "application/vnd.jupyter.widget-view+json"
_TEMPLATE = """{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
"""
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1a1a1a }
ul { list-style: none; padding: 0; display: grid;
  grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1rem }
li { border: 1px solid #ccc; border-left: .5rem solid #767676; border-radius: .4rem; padding: .8rem; overflow: hidden }
li.pass { border-left-color: #1b7f3b } li.fail { border-left-color: #b3261e }
h2 { font-size: 1.05rem; margin: 0 0 .3rem } img { max-width: 100%; display: block; margin: .5rem 0 }
table { font-size: .85rem; border-collapse: collapse } td { padding: 0 .6rem 0 0; overflow-wrap: anywhere }
.reason { color: #b3261e; overflow-wrap: anywhere } .meta { color: #555; font-size: .9rem }
"""

# Code spans and fences are matched first, so that a dollar sign in them stays what it is.
_CODE_OR_MATH = re.compile(
    r"```.*?```|`[^`\n]*`|\$\$(.+?)\$\$|(?<![\\$\w])\$(?!\s)([^$\n]+?)(?<!\s)\$(?!\w)", re.DOTALL
)


def with_mathml(markdown: str, put: Callable[[str], str] = lambda mathml: mathml) -> str:
    """Markdown with its TeX (``$...$``, ``$$...$$``) turned into MathML, which browsers set without a script.

    put: what to write in place of each equation, given its MathML.
    """
    from latex2mathml.converter import convert

    def one(match: re.Match[str]) -> str:
        tex = " ".join((match[1] or match[2] or "").split())
        # The converter escapes signs of formulas, but not what stands in \text{...}.
        tex = re.sub(r"(?<=\\text\{)[^{}]*", lambda inside: html.escape(inside[0], quote=False), tex)
        tex = tex.replace("<", r"\lt ").replace(">", r"\gt ")
        return put(convert(tex, display="block" if match[1] else "inline")) if tex else match[0]

    return _CODE_OR_MATH.sub(one, markdown)


@functools.cache
def _exporter() -> Any:
    import jinja2
    import nbconvert

    exporter = nbconvert.HTMLExporter(
        extra_loaders=[jinja2.DictLoader({"offline.html.j2": _TEMPLATE})],
        template_file="offline.html.j2",
        embed_images=True,
    )
    return exporter


def notebook_page(notebook: Path, target: Path) -> None:
    """Write the executed `notebook` as one HTML file. Widgets give way to their static twins; pictures are embedded.

    Equations become MathML, so that the page asks for nothing. Raises LabError for no notebook.
    """
    from xmod_lab.series.light import nbformat

    try:
        nb = nbformat.read(notebook, as_version=4)
    except Exception as error:
        raise LabError("no executed notebook", where=notebook.name, mend="run it first") from error
    nb = copy.deepcopy(nb)
    nb.metadata.pop("widgets", None)
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            if _WIDGET in output.get("data", {}):
                output.data.pop(_WIDGET)
        if cell.cell_type == "markdown":
            cell.source = with_mathml(cell.source)
    nb.metadata["title"] = notebook.stem
    body, _ = _exporter().from_notebook_node(nb)
    write_text(target, body)


def first_picture(notebook: Path, width: int = 480) -> str | None:
    """The first PNG of an executed notebook, made small, as a data address; None if there is none."""
    from PIL import Image

    from xmod_lab.series.light import nbformat

    if not notebook.is_file():
        return None
    for cell in nbformat.read(notebook, as_version=4).cells:
        for output in cell.get("outputs", []):
            if data := output.get("data", {}).get("image/png"):
                picture = Image.open(io.BytesIO(base64.b64decode(data)))
                picture.thumbnail((width, width))
                stream = io.BytesIO()
                picture.save(stream, format="png", optimize=True)
                return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
    return None


def pages(out: Path, results: list[Result], about: dict[str, Any], differences: list[str]) -> Path:
    """Write a page for each notebook that left something, and index.html. Returns the index."""
    cards = []
    for result in results:
        executed = out / result.name / f"{result.name}.ipynb"
        if executed.is_file():
            notebook_page(executed, out / f"{result.name}.html")
        cards.append(_card(result, executed, [line for line in differences if line.startswith(f"{result.name} ")]))
    passed = sum(result.status == "pass" for result in results)
    data = about.get("dataset") or "each notebook's own data set"
    head = f"{passed} of {len(results)} passed, {about['profile']} profile, {data}, {about['seconds']:.0f} s"
    index = out / "index.html"
    write_text(
        index,
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>xmod_lab series</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>xmod_lab series</h1><p>{html.escape(head)}</p><ul>{''.join(cards)}</ul></body></html>\n",
    )
    return index


def _card(result: Result, executed: Path, differing: list[str]) -> str:
    title = html.escape(result.title)
    if executed.is_file():
        title = f'<a href="{html.escape(result.name)}.html">{title}</a>'
    status = "fail" if differing else result.status
    picture = first_picture(executed)
    image = f'<img src="{picture}" alt="first figure of {html.escape(result.name)}">' if picture else ""
    numbers = [(html.escape(name), expected.shown(row["value"], 4)) for name, row in result.scores.items()]
    scores = "".join(f"<tr><td>{name}</td><td>{number}</td></tr>" for name, number in numbers)
    reason = "".join(f'<p class="reason">{html.escape(text)}</p>' for text in [result.reason, *differing] if text)
    slow = ", over its budget" if result.slow else ""
    table = f"<table>{scores}</table>"
    return (
        f'<li class="{status.replace(" ", "-")}"><h2>{title}</h2>'
        f'<div class="meta">{status.upper()}, {result.seconds:.1f} s{slow}</div>{image}{reason}{table}</li>'
    )
