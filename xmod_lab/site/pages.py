"""The pages themselves: cards, stamps, neighbours and templates."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from xmod_lab import __version__, paths
from xmod_lab.site.notebooks import Book, Shown, thumbnail, write_picture
from xmod_lab.site.records import ReadmePicture, Record, short

COLLECTIONS = {"gallery": "Gallery", "atlas": "Atlas"}
"""page -> its name. A notebook whose name ends in one (70_translation_gallery) shows its figures and views there; a
page without notebooks is left out."""
ASSETS = ("style.css", "sort.js")


class Card(NamedTuple):
    """A notebook as pages speak of it; addresses are below the site's folder, empty where there is nothing. href: its
    page; lead: where its card leads, to the page or to the collection that shows it."""

    name: str
    number: str
    heading: str
    question: str
    state: str
    reasons: list[str]
    profile: str
    time: str
    href: str
    lead: str
    thumbnail: str
    size: tuple[int, int]
    stamp: list[str]


def card(book: Book, shown: list[Shown], out: Path, paged: bool) -> Card:
    """The card of `book`, with a small picture of the figure that has most to show: images have, curves have not.

    paged: whether it has a page of its own.
    """
    result, about, small, size = book.result, book.about, "", (0, 0)
    if drawn := [one for one in shown if not one.view]:
        most = max(drawn, key=lambda one: (one.figure, (out / one.file).stat().st_size))
        small = f"thumbnails/{book.number}.jpg"
        size = thumbnail(out / most.file, out / small)
    reasons = [reason for reason in (result.reason, *book.differing) if reason]
    href = f"notebooks/{book.number}.html" if paged else ""
    key = collection(result.name) if book.nb is not None else ""
    lead = href or (f"{key}.html#{book.number}" if key else "")
    took = f"{result.seconds:.0f} s" if result.seconds < 120 else f"{result.seconds / 60:.0f} min"
    versions = [f"{name} {number}" for name, number in about.get("versions", {}).items()]
    commit = f"commit {short(about['commit'])}" if about.get("commit") else "commit not recorded"
    date = f"run on {about['date'][:10]}" if about.get("date") else "date not recorded"
    stamp = [f"{about['profile']} profile", date, commit, *versions]
    return Card(result.name, book.number, book.heading, book.question, book.state, reasons, about["profile"],
                took if result.seconds else "", href, lead, small, size, stamp)  # fmt: skip


def write(
    out: Path, cards: list[Card], rendered: dict[str, tuple[str, list[Shown]]], suites: list[Record],
    pictures: list[ReadmePicture], brief: bool,
) -> None:  # fmt: skip
    """Write every page and what they share; of a copy no picture stays that no page shows.

    rendered: notebook -> its cells as HTML, and what it showed.
    """
    parts = {
        key: [(one, _chosen(rendered[one.name][1])) for one in cards if one.lead and collection(one.name) == key]
        for key in COLLECTIONS
    }
    links = {key: label for key, label in COLLECTIONS.items() if parts[key]}
    environment = _environment()

    def page(file: str, template: str, title: str, stamps: Iterable[list[str]], **more: Any) -> None:
        about = {"root": "../" * file.count("/"), "collections": links, "here": file, "before": None, "after": None,
                 "version": __version__, "brief": brief}  # fmt: skip
        stamps = [list(stamp) for stamp in dict.fromkeys(map(tuple, stamps))]
        text = environment.get_template(template).render(about | {"title": title, "stamps": stamps} | more)
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        (out / file).write_text(text, encoding="utf-8")

    readable = [one for one in cards if one.href]
    for place, one in enumerate(readable):
        before, after = _beside([(f"{c.number}.html", f"{c.number} {c.heading}") for c in readable], place)
        page(one.href, "notebook.html.j2", f"{one.number} {one.heading}", [one.stamp], card=one,
             body=rendered[one.name][0], before=before, after=after)  # fmt: skip
    for place, suite in enumerate(suites):
        before, after = _beside([(f"{s.name}.html", s.name) for s in suites], place)
        page(f"results/{suite.name}.html", "record.html.j2", suite.name, [suite.stamp], body=suite.body,
             before=before, after=after)  # fmt: skip
    for key, label in links.items():
        page(f"{key}.html", "collection.html.j2", label, [one.stamp for one, _ in parts[key]], parts=parts[key])
    if brief:
        paged, chosen = {one.name for one in readable}, [each for part in parts.values() for _, each in part]
        needed = {one.file for name, (_, drawn) in rendered.items() if name in paged for one in drawn}
        needed |= {one.file for each in chosen for one in each}
        for file in {one.file for _, drawn in rendered.values() for one in drawn if one.file} - needed:
            (out / file).unlink()
    shown = [(one, *_picture(one, out, brief)) for one in pictures]
    stamps = [one.stamp for one in cards]
    page("index.html", "home.html.j2", "xmod_lab", stamps, cards=cards, suites=suites, pictures=shown)
    for name in ASSETS:
        (out / name).write_bytes(resources.files("xmod_lab.site").joinpath("templates", name).read_bytes())


def collection(name: str) -> str:
    """The page of figures that a notebook is shown on, too; empty if on none."""
    return next((key for key in COLLECTIONS if name.endswith(f"_{key}")), "")


def _picture(one: ReadmePicture, out: Path, brief: bool) -> tuple[str, str, tuple[int, int]]:
    """Copy one of README's pictures; its address, that of a small copy, and the latter's size."""
    root = paths.checkout()
    assert root is not None, "README has pictures in a checkout alone"
    path = root / one.path
    file, small = f"pictures/{path.stem}{'.webp' if brief else path.suffix}", f"thumbnails/{path.stem}.jpg"
    write_picture(out / file, path.read_bytes())
    return file, small, thumbnail(out / file, out / small)


def _chosen(shown: list[Shown]) -> list[Shown]:
    """Figures and views; pictures of exercises and checks stay in the notebook."""
    return [one for one in shown if one.figure or one.view]


def _beside(pages: list[tuple[str, str]], place: int) -> list[dict[str, str] | None]:
    """Address and name of the pages before and after number `place`, None at the ends."""
    return [
        {"href": pages[n][0], "label": pages[n][1]} if 0 <= n < len(pages) else None for n in (place - 1, place + 1)
    ]


def _environment() -> Any:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("xmod_lab.site"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
