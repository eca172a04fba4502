"""Recorded suites (results/) and README's pictures, as the site shows them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from xmod_lab.files import read_json
from xmod_lab.site import text

_TABLE = re.compile(r"<!-- (?:claims|table): ([\w-]+) -->")
_OWN_LINK = re.compile(r":?\s*\[[\w-]+\.md\]\([^)]*\)\s*$")
_PICTURE = re.compile(r"^!\[([^\]]*)\]\(([^)\s]+)\)\n(?:\n\*([^*]+)\*\n)?", re.M)


class Record(NamedTuple):
    """A recorded suite: what README says of it, its page, what became of its claims (HTML each), and its stamp."""

    name: str
    about: str
    body: str
    claims: str
    stamp: list[str]


def abouts(folder: Path) -> dict[str, str]:
    """Suite -> the paragraph above its table in the README of `folder`, in that order."""
    readme = folder / "README.md"
    paragraphs = re.split("\n\n+", readme.read_text(encoding="utf-8")) if readme.is_file() else []
    tables = ((above, _TABLE.match(below)) for above, below in itertools.pairwise(paragraphs))
    return {found[1]: _OWN_LINK.sub(".", above) for above, found in tables if found}


def names(folder: Path) -> list[str]:
    """Suites recorded in `folder`, in README's order, others after them. Raises LabError if there is none."""
    from xmod_lab.bench import page

    order = {name: place for place, name in enumerate(abouts(folder))}
    return sorted(page.names(folder), key=lambda name: order.get(name, len(order)))


def record(name: str, folder: Path, where: Callable[..., text.Where]) -> Record:
    """Suite `name` of `folder`. One without a page of its own (U-Net baselines) shows the table of its runs.

    where: where addresses lead that are written in a file of the project's folder of that name, and on which page.
    """
    from xmod_lab.bench.own_data import grid_of
    from xmod_lab.bench.page import verdict_counts

    about = text.html(abouts(folder).get(name, ""), where("results", ""))
    claims = text.html(verdict_counts(name, folder)) if grid_of(name) else ""
    shown = body(name, folder, where("results"))
    return Record(name, about, shown, claims, stamp(read_json(folder / f"{name}.json"), name))


def body(name: str, folder: Path, where: text.Where) -> str:
    """What the page of suite `name` says, as HTML."""
    from xmod_lab.bench.tables import summary

    page = folder / f"{name}.md"
    if page.is_file():
        return text.html(page.read_text(encoding="utf-8"), where)
    return text.html(f"# {name}\n\n{abouts(folder).get(name, '')}\n\n{summary(folder / f'{name}.csv')}")


def stamp(facts: dict[str, Any], name: str) -> list[str]:
    """Profile, number of runs, device, commits and versions of a record."""
    from xmod_lab.bench.suites import suite

    profiles = ", ".join(dict.fromkeys(spec.profile for spec in suite(name)))
    versions = [f"{package} {', '.join(found)}" for package, found in facts["versions"].items()]
    commits = ", ".join(map(short, facts["commit"]))
    made = f"{facts['runs']} runs on {', '.join(facts['device'])}"
    return [f"{profiles} profile", made, f"commit {commits}", f"Python {', '.join(facts['python'])}", *versions]


def short(commit: str) -> str:
    """A commit as people read it; "+" says that files differed from it."""
    return commit[:10] + "+" * commit.endswith("+")


class ReadmePicture(NamedTuple):
    path: str  # as README has it
    alt: str
    caption: str  # HTML


def pictures(readme: str, where: text.Where) -> list[ReadmePicture]:
    """README's pictures in order, each with the line in italics below it, if it has one."""
    return [
        ReadmePicture(match[2], match[1], text.html(match[3], where) if match[3] else "")
        for match in _PICTURE.finditer(readme)
    ]
