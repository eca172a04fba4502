"""Build the static site of series runs and recorded suites. It works from disk and behind any server, asks for nothing
from the network, and has the same bytes whenever it is built from the same files."""

from __future__ import annotations

import os
import posixpath
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from xmod_lab import paths
from xmod_lab.errors import LabError
from xmod_lab.files import atomic_folder, write_json
from xmod_lab.series import report
from xmod_lab.site import main, notebooks, pages, records, text
from xmod_lab.site.notebooks import Book

MARK = "site.json"
"""what a site was made of; a folder without it is never replaced"""


class Built(NamedTuple):
    home: Path
    notebooks: int
    failed: list[str]
    records: int
    size: int
    """bytes of all its files"""


def newest() -> Path:
    """The series run that ended last. Raises LabError if there is none."""
    folder = paths.home() / "series"
    found = sorted(folder.glob("*/report.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        mend = "make one: xmod-lab series run, or name a folder with --run"
        raise LabError("no run of the series", where=folder, mend=mend)
    return found[-1].parent


def build(runs: Sequence[Path], results: Path, out: Path, *, brief: bool = False) -> Built:
    """Write the site to `out`, beside it first. A notebook that is in several of `runs` is taken from the last of them.

    brief: only the main pages, small and without interactive views (`site.main`).
    Raises LabError for a folder that is no series run, missing results, or an `out` that is something else than a site;
    for a copy also if a run is of other data than phantoms, or if it cannot be made small.
    """
    if out.exists() and not (out / MARK).is_file():
        mend = "choose another folder with --out, or remove this one"
        raise LabError("there is something else than a site", where=out, mend=mend)
    root = paths.checkout()
    readme = (root / "README.md").read_text(encoding="utf-8") if root else ""
    books, names = _books(runs), records.names(results)
    if brief:
        main.check_phantoms(books)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".old-") as old, atomic_folder(out) as folder:
        _write(folder, books, names, results, readme, brief)
        if brief:
            main.shrink(folder)
        if out.exists():  # as late as may be: the new one takes its place in the next moment
            os.replace(out, Path(old) / "site")
    failed = [book.result.name for book in books if book.state == "fail"]
    return Built(out / "index.html", len(books), failed, len(names), main.size(out))


def _books(runs: Sequence[Path]) -> list[Book]:
    found = {}
    for run in runs:
        about, results = report.read(run)
        for result in results:
            differing = [line for line in about.get("differences", []) if line.startswith(f"{result.name} ")]
            found[result.name] = Book(result, about, run / result.name, differing)
    books = [found[name] for name in sorted(found)]
    for one, other in zip(books, books[1:], strict=False):
        if one.number == other.number:
            both = f"{one.result.name}, {other.result.name}"
            raise LabError("two notebooks with one number", where=both, mend="give one of them another")
    return books


def _write(out: Path, books: list[Book], names: list[str], results: Path, readme: str, brief: bool) -> None:
    paged = [book for book in books if book.nb is not None and (main.has_page(book) or not brief)]
    known = _addresses(out, paged, names)

    def where(base: str, at: str | None = None) -> text.Where:
        """Addresses as written in a file of the project's folder `base`, on a page in the folder `at` (if not that)."""

        def one(url: str) -> str | None:
            path, mark, fragment = url.partition("#")
            found = known.get(posixpath.normpath(posixpath.join(base, path)))
            return found and posixpath.relpath(found, (base if at is None else at) or ".") + mark + fragment

        return one

    rendered = {b.result.name: notebooks.render(b, out, where("notebooks"), brief) for b in books if b.nb is not None}
    cards = [pages.card(b, rendered.get(b.result.name, ("", []))[1], out, b in paged) for b in books]
    suites = [records.record(name, results, where) for name in names]
    pages.write(out, cards, rendered, suites, records.pictures(readme, where("")), brief)
    for name in names:
        shutil.copyfile(results / f"{name}.csv", out / "results" / f"{name}.csv")
    write_json(out / MARK, {"notebooks": [book.result.name for book in books], "results": names})


def _addresses(out: Path, books: list[Book], names: list[str]) -> dict[str, str]:
    """Files of the project -> their pages; the students' versions are copied as they are."""
    root = paths.checkout()
    found = {f"results/{name}.md": f"results/{name}.html" for name in names}
    for book in books:
        found[f"notebooks/{book.result.name}.ipynb"] = f"notebooks/{book.number}.html"
        exercise = f"notebooks/exercises/{book.result.name}.ipynb"
        if root and (root / exercise).is_file():
            (out / exercise).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / exercise, out / exercise)
            found[exercise] = exercise
    return found
