"""Arrays as text in a page: quantised to 8 or 16 bits, deflated, base64. `view/page/data.js` reads them."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np

from xmod_lab.view.layers import Layer

KEYS = 64
"""strongest keys of each query that are kept of maps with more than MOST positions"""
MOST = 32 * 32


def packed(array: np.ndarray) -> str:
    """The bytes of an array in C order, deflated (zlib), in base64."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(array).tobytes(), 6)).decode("ascii")


def quantised(values: np.ndarray, axes: int, bits: int = 8) -> dict[str, Any]:
    """Values as integers of so many bits between the least and the largest of each block, the last `axes` axes.

    The error is at most half a step, (largest - least) / (2^bits - 1) / 2, of the block. Keys: shape, bits, ends (least
    and largest of each block, float32) and data.
    """
    blocks = np.asarray(values, np.float32).reshape(-1, int(np.prod(values.shape[-axes:])))
    low, high = blocks.min(1), blocks.max(1)
    steps = (1 << bits) - 1
    spread = np.where(high > low, high - low, 1).astype(np.float64)
    kind = np.uint8 if bits == 8 else np.dtype("<u2")
    whole = np.rint((blocks.astype(np.float64) - low[:, None]) / spread[:, None] * steps).astype(kind)
    ends = np.stack([low, high], 1).astype("<f4")
    return {"shape": list(values.shape), "bits": bits, "ends": packed(ends), "data": packed(whole)}


def embedded(layer: Layer) -> dict[str, Any]:
    """A layer for the page. Of pairwise maps each query has a scale of its own: next to one sharp row, all others
    would have no steps left. More than MOST positions: the KEYS largest of each query; others are shown as 0."""
    own: dict[str, Any] = {"kind": layer.kind, "names": list(layer.names), "unit": layer.unit}
    own |= {"signed": layer.signed, "grid": list(layer.grid) if layer.grid else None}
    if layer.kind == "positions" and layer.values.shape[-1] > MOST:
        found = strongest(layer.values)
        kept = np.take_along_axis(layer.values, found, -1)
        most = np.abs(kept).max(-1, keepdims=True)
        own["keys"] = packed(found.astype("<u2" if layer.values.shape[-1] <= 1 << 16 else "<u4"))
        own["strongest"] = KEYS
        # the ends of a block hold 0, too: what is left out is drawn as 0, and has to mean it
        return own | _between(kept, np.minimum(kept.min(-1), 0), np.maximum(most[..., 0], 0), layer.values.shape)
    return own | quantised(layer.values, {"positions": 1, "matrix": 1, "stack": 2, "mask": 2}[layer.kind])


def strongest(values: np.ndarray) -> np.ndarray:
    """(..., N) -> indices (..., KEYS) of the largest magnitudes, in ascending order of their place."""
    found = np.argpartition(-np.abs(values), KEYS - 1, axis=-1)[..., :KEYS]
    return np.asarray(np.sort(found, -1))


def _between(values: np.ndarray, low: np.ndarray, high: np.ndarray, shape: tuple[int, ...]) -> dict[str, Any]:
    spread = np.where(high > low, high - low, 1)[..., None]
    whole = np.rint((values - low[..., None]) / spread * 255).astype(np.uint8)
    ends = np.stack([low.ravel(), high.ravel()], 1).astype("<f4")
    return {"shape": list(shape), "bits": 8, "ends": packed(ends), "data": packed(whole)}


def safe_json(value: Any) -> str:
    """JSON that can stand inside a script element: nothing in it ends the element or starts a comment."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
