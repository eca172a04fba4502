"""Markdown to HTML for the site: all text is escaped, equations are MathML, links go to pages that the site has."""

from __future__ import annotations

import re
from collections.abc import Callable

import mistune

from xmod_lab.series.page import with_mathml

Where = Callable[[str], str | None]
"""relative address in the project -> address on the site, or None if the site has no such page"""
SHORT = 24
"""characters of a table's cell that is not broken into lines"""
_ELSEWHERE = ("#", "http://", "https://", "mailto:")
_EQUATION = "\ue000{}\ue001"  # private characters: they stand for an equation while its surroundings are escaped


class _Renderer(mistune.HTMLRenderer):
    def __init__(self, where: Where):
        super().__init__(escape=True)
        self._where = where

    def link(self, text: str, url: str, title: str | None = None) -> str:
        found = url if url.startswith(_ELSEWHERE) else self._where(url)
        return super().link(text, found, title) if found else text

    def image(self, text: str, url: str, title: str | None = None) -> str:
        found = self._where(url)  # a picture from elsewhere would ask the network
        return super().image(text, found, title) if found else mistune.escape(text)

    def table_cell(self, text: str, align: str | None = None, head: bool = False) -> str:
        name = "th" if head else "td"
        short = ' class="short"' if len(text) <= SHORT else ""  # numbers stay on one line
        return f"<{name}{short}>{text}</{name}>\n"

    def table(self, text: str) -> str:
        return f'<div class="scroll"><table>\n{text}</table></div>\n'


def html(markdown: str, where: Where = lambda url: None) -> str:
    """`markdown` as HTML. A link that leads to no page of the site stays as its text."""
    equations: list[str] = []

    def keep(mathml: str) -> str:
        equations.append(mathml)
        return _EQUATION.format(len(equations) - 1)

    text = with_mathml(re.sub("[\ue000\ue001]", "", markdown), keep)
    body = mistune.create_markdown(renderer=_Renderer(where), plugins=["table", "strikethrough"])(text)
    return re.sub(_EQUATION.format("(\\d+)"), lambda match: equations[int(match[1])], str(body))
