"""What the query view shows, as numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xmod_lab.view.layers import Layer

if TYPE_CHECKING:
    import pandas as pd

    from xmod_lab.view.query_view import QueryView


def tabled(view: QueryView) -> pd.DataFrame:
    """`QueryView.table`."""
    import pandas as pd

    state, rows = view.state, []
    kind = view.kind(state.map)
    for model, by in view.shown().items():
        for image, values in by.items():
            layer = view.maps[state.map][image]
            labels = view.labels[image][state.slice] if image in view.labels else None
            own: dict[str, Any] = {"model": model, "image": image}
            if kind == "matrix":
                own |= {"mean": values.mean(), "least": values.min(), "largest": values.max()}
            elif kind == "positions":
                own |= _row(view, layer, values, labels)
            else:
                own |= _values(view, values, labels)
            rows.append(own)
    return pd.DataFrame(rows)


def shares_of(labels: np.ndarray, classes: int, grid: tuple[int, int]) -> np.ndarray:
    """Class indices (h, w) -> (classes + 1, u, v): how much of each cell is of each class, background first."""
    one_hot = (labels[None] == np.arange(classes + 1)[:, None, None]).astype(float)
    across = [_cells(edge, cells) for edge, cells in zip(labels.shape, grid, strict=True)]
    return np.asarray(across[0] @ one_hot @ across[1].T)


def _cells(edge: int, cells: int) -> np.ndarray:
    """(cells, edge) weights that average pixels over cells, whose borders may lie within a pixel; rows sum to 1."""
    ends = np.arange(cells + 1) * edge / cells
    low, high = np.maximum(ends[:-1, None], np.arange(edge)), np.minimum(ends[1:, None], np.arange(edge) + 1)
    return np.asarray(np.clip(high - low, 0, None) * cells / edge)


def _row(view: QueryView, layer: Layer, values: np.ndarray, labels: np.ndarray | None) -> dict[str, Any]:
    """Numbers of one row of positions (u, v)."""
    size = np.abs(values)
    share = size / (size.sum() or 1.0)
    row, column = np.unravel_index(int(size.argmax()), size.shape)
    _, height, width = view.shape
    found: dict[str, Any] = {"entropy": entropy(share)}
    middle = (int((row + 0.5) * height / size.shape[0]), int((column + 0.5) * width / size.shape[1]))
    found["strongest at"] = f"{middle}"
    found["strongest"] = float(values[row, column])
    if labels is not None and layer.grid:
        names = ("background", *view.classes)
        found = {"query in": names[labels[view.state.query]]} | found
        for name, cells in zip(names, shares_of(labels, len(view.classes), layer.grid), strict=True):
            if cells.any():
                found |= {f"mass on {name}": float((share * cells).sum()), f"chance of {name}": float(cells.mean())}
    return found


def entropy(share: np.ndarray) -> float:
    r""":math:`-\sum p \ln p / \ln N` of N shares that sum to 1: 0 if one has all, 1 if all have the same."""
    p = share.ravel()[share.ravel() > 0]
    return float(-(p * np.log(p)).sum() / np.log(share.size)) if share.size > 1 else 0.0


def _values(view: QueryView, values: np.ndarray, labels: np.ndarray | None) -> dict[str, Any]:
    """Numbers of one map (u, v) over the image: the value at the query, and means by class."""
    (row, column), (_, height, width) = view.state.query, view.shape
    at = (row * values.shape[0] // height, column * values.shape[1] // width)
    found: dict[str, Any] = {"at the query": float(values[at]), "mean": float(values.mean())}
    if labels is not None:
        shares = shares_of(labels, len(view.classes), (values.shape[0], values.shape[1]))
        for name, cells in zip(("background", *view.classes), shares, strict=True):
            if cells.any():
                found[f"mean in {name}"] = float((values * cells).sum() / cells.sum())
    return found
