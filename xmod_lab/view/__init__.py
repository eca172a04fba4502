"""What results look like.

    style.py       one look for all figures, colours of classes, the line that says what a figure was made with
    slices.py      pictures: slices with contours, patients by modalities, prediction beside truth, recipe steps
    volumes.py     slices of stored volumes, before any preparation
    plots.py       numbers: intensity histograms, cross-modality matrix, box plots over patients, loss curves
    figures.py     all of them under one name
    query_view.py  `query`: click a pixel, see its map; any maps over any images, as page, picture and table

Every function of figures.py returns a matplotlib Figure and computes nothing that a table would not also hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xmod_lab.view.query_view import query as query


def __getattr__(name: str) -> Any:
    """`query`, when it is asked for: it brings PyTorch."""
    if name == "query":
        from xmod_lab.view.query_view import query

        return query
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
