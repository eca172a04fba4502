"""What a notebook shows, kept as files: figures as PNG and SVG, tables as CSV, Markdown and LaTeX.

`nb.export(folder)` switches it on, or the series runner with XMOD_EXPORT. Files are numbered in the order shown and
named after what the picture says, a table's caption (``frame.attrs["caption"]``, a Styler's own, or the line above one
in Markdown) or its columns. Of an interactive view its static twin is kept.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

DPI = 200
"""of both: a picture in an SVG has pixels, too"""
DIGITS = 6
"""significant digits of numbers in Markdown and LaTeX, as notebooks show them"""
SVG: Any = {"svg.fonttype": "none", "svg.hashsalt": "xmod_lab"}
"""text stays text, and the same figure has the same bytes"""


@dataclasses.dataclass
class _Kept:
    folder: Path
    shell: Any
    count: int = 0
    drawn: dict[str, tuple[str, Any]] = dataclasses.field(default_factory=dict)


_kept: _Kept | None = None


def export(folder: str | Path, shell: Any) -> None:
    """Keep what is shown from now on below `folder`; numbers begin again at 1. shell: IPython's, or None outside it."""
    global _kept
    if shell is not None and (_kept is None or _kept.shell is not shell):
        original = shell.display_formatter.format

        def format(thing: Any, *more: Any, **named: Any) -> Any:
            _look(thing)
            return original(thing, *more, **named)

        shell.display_formatter.format = format  # whatever is shown passes it, but for nb.show
        shell.events.register("post_run_cell", _cell_ended)
    _kept = _Kept(Path(folder), shell)


def figure(shown: Any, said: str) -> None:
    """Keep a figure that `nb.show` has shown."""
    if _kept is not None:
        _write(_name(said), shown)


def _name(said: str) -> str:
    from xmod_lab.evaluate.tables import slug

    assert _kept is not None
    _kept.count += 1
    return f"{_kept.count:02d}-{slug(said) or 'shown'}"


def _write(name: str, shown: Any) -> None:
    import matplotlib

    from xmod_lab.files import atomic_file

    assert _kept is not None
    about: dict[str, dict[str, Any]] = {"png": {}, "svg": {"Date": None}}
    how: dict[str, Any] = {"dpi": DPI, "bbox_inches": "tight", "facecolor": "white"}
    with matplotlib.rc_context(SVG):
        for kind, metadata in about.items():
            with atomic_file(_kept.folder / f"{name}.{kind}") as temporary:
                shown.savefig(temporary, format=kind, metadata=metadata, **how)


def _look(thing: Any) -> None:
    """Keep `thing` if it is a table or a figure. Packages that nobody has imported made none."""
    from xmod_lab.evaluate.tables import export_all, flat, from_markdown

    if _kept is None:
        return
    kind, tables = type(thing).__name__, []
    if kind == "Figure" and "matplotlib" in sys.modules and hasattr(thing, "savefig"):
        said = _title(thing)
        key = said or f"untitled {len(_kept.drawn)}"  # one with the same title in the same cell is it, drawn again
        _kept.drawn[key] = (_kept.drawn[key][0] if key in _kept.drawn else _name(said or "figure"), thing)
    elif kind == "DataFrame" and "pandas" in sys.modules:
        tables = [(str(thing.attrs.get("caption", "")), flat(thing))]
    elif kind == "Styler" and "pandas" in sys.modules:
        tables = [(str(thing.caption or ""), flat(thing.data))]
    elif kind == "Markdown":
        tables = from_markdown(thing.data or "")
    for caption, table in tables:
        name = _name(caption or " ".join(map(str, table.columns)))
        export_all(table, _kept.folder, name, caption, DIGITS)


def _title(shown: Any) -> str:
    """What stands over a figure, or over its first axes that have something there."""
    return shown.get_suptitle() or next(filter(None, (axes.get_title() for axes in shown.axes)), "")


def _cell_ended(*about: Any) -> None:
    """Write the figures that the cell has drawn: a live plot once, as it was at the end."""
    if _kept is not None:
        for name, shown in _kept.drawn.values():
            _write(name, shown)
        _kept.drawn.clear()
