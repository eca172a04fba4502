"""What results look like.

    style.py         one look for all figures, colours of classes, the line that says what a figure was made with
    slices.py        pictures: slices with contours, patients by modalities, prediction beside truth, recipe steps
    volumes.py       slices of stored volumes, before any preparation
    orthogonal.py    three planes through a point of a volume, with labels and prediction; its place in mm
    solid.py         labels as surfaces to turn (plotly); stills.py: still ones (matplotlib)
    volume_widget.py a volume to turn in a notebook: ipyniivue, or plotly
    plots.py         numbers: intensity histograms, cross-modality matrix, box plots over patients, loss curves
    figures.py       all of them under one name
    query_view.py    `query`: click a pixel, see its map; any maps over any images, as page, picture and table
    explorer.py      any finished run's maps of any test patient: choose, compare, change something inside

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
