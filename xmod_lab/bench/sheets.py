"""The tables that come with the package, as CSV: the papers' numbers, their claims, and the comparisons these need."""

from __future__ import annotations

import csv
from pathlib import Path

FOLDER = Path(__file__).parent / "data"


def read(name: str) -> list[dict[str, str]]:
    """The rows of ``data/<name>.csv`` by column, as text."""
    with open(FOLDER / f"{name}.csv", encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, strict=True))
