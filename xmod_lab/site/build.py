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
from xmod_lab.site import notebooks, pages, records, text
from xmod_lab.site.notebooks import Book

MARK = "site.json"
"""what a site was made of; a folder without it is never replaced"""


class Built(NamedTuple):
    home: Path
    notebooks: int
    failed: list[str]
    records: int


def newest() -> Path:
    """The series run that ended last. Raises LabError if there is none."""
    folder = paths.home() / "series"
    found = sorted(folder.glob("*/report.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        mend = "make one: xmod-lab series run, or name a folder with --run"
        raise LabError("no run of the series", where=folder, mend=mend)
    return found[-1].parent


def build(runs: Sequence[Path], results: Path, out: Path) -> Built:
    """Write the site to `out`, beside it first. A notebook that is in several of `runs` is taken from the last of them.

    Raises LabError for a folder that is no series run, missing results, or an `out` that is something else than a site.
    """
    if out.exists() and not (out / MARK).is_file():
        mend = "choose another folder with --out, or remove this one"
        raise LabError("there is something else than a site", where=out, mend=mend)
    root = paths.checkout()
    readme = (root / "README.md").read_text(encoding="utf-8") if root else ""
    books, names = _books(runs), records.names(results, readme)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".old-") as old, atomic_folder(out) as folder:
        _write(folder, books, names, results, readme)
        if out.exists():  # as late as may be: the new one takes its place in the next moment
            os.replace(out, Path(old) / "site")
    failed = [book.result.name for book in books if book.state == "fail"]
    return Built(out / "index.html", len(books), failed, len(names))


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


def _write(out: Path, books: list[Book], names: list[str], results: Path, readme: str) -> None:
    known = _addresses(out, books, names)

    def where(base: str) -> text.Where:
        """Addresses as written in a file of the project's folder `base`; its page lies in the folder of that name."""

        def one(url: str) -> str | None:
            path, mark, fragment = url.partition("#")
            found = known.get(posixpath.normpath(posixpath.join(base, path)))
            return found and posixpath.relpath(found, base or ".") + mark + fragment

        return one

    rendered = {b.result.name: notebooks.render(b, out, where("notebooks")) for b in books if b.nb is not None}
    cards = [pages.card(b, rendered[b.result.name][1] if b.nb is not None else [], out) for b in books]
    shown = [records.record(name, results, readme, where) for name in names]
    pages.write(out, cards, rendered, shown, records.pictures(readme, where("")))
    write_json(out / MARK, {"notebooks": [book.result.name for book in books], "results": names})


def _addresses(out: Path, books: list[Book], names: list[str]) -> dict[str, str]:
    """Files of the project -> their pages; the students' versions are copied as they are."""
    root = paths.checkout()
    found = {f"results/{name}.md": f"results/{name}.html" for name in names}
    for book in books:
        if book.nb is None:
            continue
        found[f"notebooks/{book.result.name}.ipynb"] = f"notebooks/{book.number}.html"
        exercise = f"notebooks/exercises/{book.result.name}.ipynb"
        if root and (root / exercise).is_file():
            (out / exercise).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / exercise, out / exercise)
            found[exercise] = exercise
    return found
