"""The copy of a site's main pages that a repository keeps: home, gallery, atlas, recorded suites and the notebooks that
gather the evidence, with pictures of phantoms only, and small."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from xmod_lab.data.manifest import load_manifest
from xmod_lab.errors import LabError
from xmod_lab.series import source
from xmod_lab.site.notebooks import Book

EVIDENCE = ("90", "91", "92")
"""notebooks whose own pages are part of it"""
MOST = 6_000_000
"""bytes of the whole folder"""
QUALITY = 80
WIDTHS = (10_000, 1000, 700)
"""pixels that a picture may be wide, tried in this order while the folder is too large"""
_REAL = re.compile(r"^data +(\S+) \(real\)", re.M)  # what nb.start prints


def has_page(book: Book) -> bool:
    return book.nb is not None and book.number in EVIDENCE


def check_phantoms(books: Iterable[Book]) -> None:
    """Raise LabError for a notebook that ran on anything but phantoms: its pictures may show patients."""
    known = load_manifest()
    phantoms = {key for key, entry in known.items() if entry.access == "phantom"}
    for book in books:
        if real := sorted(data_of(book, known) - phantoms):
            mend = "run the series on its own data sets, or build the whole site without --main"
            raise LabError(f"{book.result.name} is of {', '.join(real)}: the copy shows phantoms only", mend=mend)


def data_of(book: Book, known: Collection[str]) -> set[str]:
    """The data sets that a notebook ran with: by the run's report, its needs, its parameters and what it printed.

    known: all that there are; another one counts only as the parameter `dataset`.
    """
    if book.nb is None:  # it left no pictures
        return set()
    given: dict[str, Any] = {n: one.default for n, one in source.parameters_of(book.nb, book.result.name).items()}
    given |= dict(book.about.get("parameters") or {}) | {"run": book.about.get("dataset")}
    given |= book.nb.metadata.get("papermill", {}).get("parameters", {})
    found = {value for value in given.values() if isinstance(value, str) and value in known}
    found.add(str(given.get("dataset") or ""))
    needs = book.nb.metadata.get("xmod", {}).get("needs", [])
    found |= {need.removeprefix("data:") for need in needs if need.startswith("data:")}
    printed = [output.get("text", "") for cell in book.nb.cells for output in cell.get("outputs", [])]
    return (found | {key for text in printed for key in _REAL.findall(text)}) - {""}


def shrink(folder: Path) -> None:
    """Make the pictures of a copy smaller until it holds no more than MOST bytes. Raises LabError if nothing helps."""
    from PIL import Image

    for width in WIDTHS:
        if size(folder) <= MOST:
            return
        for path in sorted(folder.rglob("*.webp")):
            with Image.open(path) as opened:
                picture = opened.convert("RGB")
            picture.thumbnail((width, 10 * width), Image.Resampling.LANCZOS)
            picture.save(path, quality=QUALITY, method=6)
    if size(folder) > MOST:
        raise LabError(f"{size(folder) / 1e6:.1f} MB, more than {MOST / 1e6:g}", where=folder.name,
                       mend="show fewer figures, or build the whole site without --main")  # fmt: skip


def size(folder: Path) -> int:
    """Bytes of all its files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
