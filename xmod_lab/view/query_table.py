"""What the query view shows, as numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from xmod_lab.evaluate.attention import row_entropy
from xmod_lab.losses.affinity import class_masks
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
    return np.asarray(class_masks(torch.from_numpy(labels.astype(np.int64))[None], classes + 1, grid)[0].numpy())


def _row(view: QueryView, layer: Layer, values: np.ndarray, labels: np.ndarray | None) -> dict[str, Any]:
    """Numbers of one row of positions (u, v)."""
    size = np.abs(values)
    share = size / (size.sum() or 1.0)
    row, column = np.unravel_index(int(size.argmax()), size.shape)
    _, height, width = view.shape
    found: dict[str, Any] = {"entropy": row_entropy(torch.from_numpy(share.ravel())).item()}
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
