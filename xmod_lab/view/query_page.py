"""The query view as one page: markup, style, script and data in one file that asks nobody for anything."""

from __future__ import annotations

import html
from dataclasses import asdict
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from xmod_lab.maps import SHUFFLED
from xmod_lab.view.embed import embedded, packed, quantised, safe_json
from xmod_lab.view.layers import sides_of
from xmod_lab.view.query_state import COLOURS as TABLES
from xmod_lab.view.query_state import SCALES, percentiles_of, presets_of
from xmod_lab.view.style import COLOURS, colours_of

if TYPE_CHECKING:
    from xmod_lab.view.query_view import QueryView

SCRIPTS = ("data.js", "draw.js", "view.js", "controls.js")
"""what page and widget share"""


def page(view: QueryView) -> str:
    """The page as text. Names, classes, title and note are data: they can hold any letters and do nothing."""
    style, script = asset("page.css"), asset(*SCRIPTS, "main.js")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(view.title or 'query view')}</title>\n"
        f"<style>\nbody {{ margin: 0; }}\n{style}</style>\n</head>\n"
        f'<body>\n<main id="view" class="query-view"></main>\n'
        f'<script type="application/json" id="data">{safe_json(data_of(view))}</script>\n'
        f"<script>\n(() => {{\n{script}}})();\n</script>\n</body>\n</html>\n"
    )


def asset(*names: str) -> str:
    """Files of the page, one after the other."""
    folder = files("xmod_lab.view") / "page"
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in names)


def data_of(view: QueryView) -> dict[str, Any]:
    """What the script reads: see `page/data.js`."""
    names, colours = list(view.maps), colours_of(view.classes)
    return {
        "title": view.title,
        "note": view.note,
        "shape": view.shape,
        "state": asdict(view.state),
        "images": [_image(view, name) for name in view.images],
        "classes": [{"name": name, "colour": colour} for name, colour in colours.items()],
        "maps": names,
        "models": [
            {"name": model, "maps": [_over_images(view, maps.get(name)) for name in names]}
            for model, maps in view.models.items()
        ],
        "shuffledName": SHUFFLED,
        "permutations": {str(n): packed(order.astype("<u4")) for n, order in view.permutations.items()},
        "behind": view.behind,
        "place": {"mm": _listed(view.place.mm), "voxel": _listed(view.place.voxel)},
        "sides": sides_of(view.place),
        "scales": SCALES,
        "colours": {name: packed(_table(name)) for name in TABLES},
        "crosses": COLOURS[:2],
    }


def _over_images(view: QueryView, layers: Any) -> list[Any] | None:
    return layers and [embedded(layers[name]) if name in layers else None for name in view.images]


def _image(view: QueryView, name: str) -> dict[str, Any]:
    volume, unit = view.images[name], view.units.get(name, "")
    presets = [("percentiles 0.5 to 99.5", percentiles_of(view, name)), *presets_of(view, name).items()]
    labels = packed(view.labels[name]) if name in view.labels else None
    # 16 bits: a window of 80 HU out of 4000 has five steps of 8
    own = quantised(volume, 2, 16 if unit == "HU" else 8)
    return own | {"name": name, "unit": unit, "window": presets[0][1], "presets": presets, "labels": labels}


def _table(name: str) -> np.ndarray:
    """256 colours (256, 3) uint8."""
    from matplotlib import colormaps

    return np.rint(colormaps[name](np.arange(256))[:, :3] * 255).astype(np.uint8)


def _listed(matrix: np.ndarray | None) -> list[list[float]] | None:
    return None if matrix is None else [[float(v) for v in row] for row in np.asarray(matrix)]
