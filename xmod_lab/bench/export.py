"""Every table of the recorded suites as files for papers and slides: CSV, Markdown, LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xmod_lab.bench.own_data import grid_of
from xmod_lab.bench.page import counts_of, recorded, tables_by_place
from xmod_lab.bench.page import names as recorded_names
from xmod_lab.bench.tables import summary_table
from xmod_lab.errors import LabError
from xmod_lab.evaluate.tables import WRITERS, export_all, slug

if TYPE_CHECKING:
    import pandas as pd


def tables(name: str, folder: Path) -> list[tuple[str, pd.DataFrame]]:
    """Title and table of all that is shown of a recorded suite: its page's tables, claims and their verdicts counted;
    of one without a page the summary of its runs."""
    if not grid_of(name):
        title = f"{name}: Dice, mean over structures; mean ± sd over seeds and folds"
        return [(title, summary_table(folder / f"{name}.csv"))]
    found = recorded(name, folder)
    shown = [
        (f"{place}: {one.title}", one.table)
        for place, each in tables_by_place(name, folder, found).items()
        for one in each
    ]
    return [*shown, (f"{name}: claims", found.claims.fillna("")), (f"{name}: verdicts", counts_of(found.claims))]


def export_suites(out: Path, folder: Path, names: Sequence[str] = ()) -> dict[str, int]:
    """Write the tables of the suites `names` (all if empty) recorded in `folder` as ``<out>/<suite>/<nn>-<title>`` with
    the endings .csv, .md and .tex; how many each has. Such files of an earlier export are removed.

    Raises LabError for a suite that is not recorded.
    """
    known = recorded_names(folder)
    for name in names:
        if name not in known:
            raise LabError(f"suite {name!r} is not recorded", where=folder, mend=f"there are {', '.join(known)}")
    found = {}
    for name in names or known:
        shown = tables(name, folder)
        for suffix in WRITERS:
            for old in (out / name).glob(f"[0-9][0-9]-*{suffix}"):
                old.unlink()
        for number, (title, table) in enumerate(shown, start=1):
            export_all(table, out / name, f"{number:02d}-{slug(title.removeprefix(f'{name}: '))}", title)
        found[name] = len(shown)
    return found
