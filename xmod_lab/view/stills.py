"""The still twin of `solid.surfaces`: the same meshes, drawn with matplotlib from four sides, without a browser."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from xmod_lab.view.frame import ENDS, Place, in_mm
from xmod_lab.view.meshes import Mesh
from xmod_lab.view.slices import _grid, _legend, _row_name
from xmod_lab.view.solid import CLEAR, VERTICES, Solids, solids_of
from xmod_lab.view.style import colours_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VIEWS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "from the front": ((0, -1, 0), (0, 0, 1)),
    "from the left": ((1, 0, 0), (0, 0, 1)),
    "from the feet": ((0, 0, 1), (0, 1, 0)),
    "from the left front": ((0.56, -0.75, -0.37), (0, 0, 1)),
}
"""where the reader looks, and what is up, in RAS; from the feet is how axial slices are read"""
PIXELS = 200
"""along the longer side of a picture"""
FINER = 2
"""drawn so many times finer, then averaged: smooth edges"""
AMBIENT = 0.4
"""share of light that comes from everywhere"""
LAMP = np.array([-0.4, -0.5, -0.77])
"""direction of the lamp: left, above, towards the reader"""


def surface_views(
    labels: np.ndarray | None,
    place: Place,
    classes: Sequence[str] = (),
    *,
    prediction: np.ndarray | None = None,
    smooth: bool = True,
    most: int = VERTICES,
    title: str = "",
) -> Figure:
    """A row for the truth and one for the prediction, a column a view; parallel rays, all pictures on one scale.

    Arguments as in `surfaces`. Letters say where the edges of a picture lie in the patient. A structure that lies
    around another one is drawn clear, one that is absent stands in the legend as such.
    """
    solids = solids_of(labels, place, classes, prediction, smooth=smooth, most=most)
    names = list(next(iter(solids.sides.values())))
    figure, axes = _grid(len(solids.sides), len(VIEWS), title, extra=0.45)
    colours = colours_of(names)
    centre, reach = _reach(solids)
    for row, (side, meshes) in enumerate(solids.sides.items()):
        _row_name(axes[row, 0], side)
        for axis, (view, (ahead, up)) in zip(axes[row], VIEWS.items(), strict=True):
            turn = _turn(ahead, up)
            found = [(mesh, colours[n], CLEAR if n in solids.clear else 1.0) for n, mesh in meshes.items() if mesh]
            axis.imshow(rendered(found, turn, centre, reach), interpolation="bilinear")
            _letters(axis, turn)
            if row == 0:
                axis.set_title(view, fontsize=9)
    _legend(figure, {solids.named(name): colours[name] for name in names})
    note = f"pictures are {2 * reach:.0f} {solids.frame.unit} wide; {solids.note}"
    figure.text(0.0, -0.01, textwrap.fill(note, 70), ha="left", va="top", fontsize=7.5, color="0.35", gid="note")
    return figure


def _reach(solids: Solids) -> tuple[np.ndarray, float]:
    """Middle (3,) of all surfaces in mm, and half of the side of a square that holds them in every view; of the grid
    where there are none."""
    found = [mesh.points for meshes in solids.sides.values() for mesh in meshes.values() if mesh]
    points = np.concatenate(found or [in_mm(solids.frame, np.array([[0, 0, 0], solids.masks[0].shape]) - 0.5)])
    centre = (points.min(0) + points.max(0)) / 2
    turns = np.concatenate([_turn(*view)[:2] for view in VIEWS.values()])
    return centre, 1.08 * float(np.abs((points - centre) @ turns.T).max())  # room for letters


def _turn(ahead: Sequence[float], up: Sequence[float]) -> np.ndarray:
    """Rows (3, 3): to the right of the picture, downwards, and away from the reader, in RAS."""
    away = np.array(ahead, float) / np.linalg.norm(ahead)
    right = np.cross(away, up)
    right /= np.linalg.norm(right)
    return np.array([right, np.cross(away, right), away])


def rendered(
    meshes: Sequence[tuple[Mesh, str, float]], turn: np.ndarray, centre: np.ndarray, reach: float
) -> np.ndarray:
    """A picture (PIXELS, PIXELS, 3) in [0, 1] on white of meshes with colour and opacity, seen along parallel rays.

    turn: as `_turn` has it. centre, reach: middle and half of the side of what is seen, in the meshes' unit. Of each
    mesh the front is drawn, lit from above the reader's left shoulder; far ones first.
    """
    from matplotlib.colors import to_rgb

    size = PIXELS * FINER
    layers = [_front(mesh, turn, centre, reach, size) for mesh, _, _ in meshes]
    picture = np.ones((size * size, 3))
    if layers:
        depths = np.stack([depth for depth, _ in layers])
        order = (-depths).argsort(0)  # what is nowhere is infinitely far
        for rank in range(len(layers)):
            for number, (_, colour, opacity) in enumerate(meshes):
                here = (order[rank] == number) & np.isfinite(depths[number])
                lit = layers[number][1][here, None] * np.array(to_rgb(colour))
                picture[here] = opacity * lit + (1 - opacity) * picture[here]
    return picture.reshape(PIXELS, FINER, PIXELS, FINER, 3).mean((1, 3))


def _front(
    mesh: Mesh, turn: np.ndarray, centre: np.ndarray, reach: float, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of each of size x size pixels how far the mesh's front is, infinite where it is not, and how bright.

    Triangles that face the reader are sampled so densely that no pixel is left out.
    """
    places = (mesh.points.astype(float) - centre) @ turn.T
    places[:, :2] = (places[:, :2] / reach + 1) * size / 2
    corners = places[mesh.faces]
    normals = np.zeros_like(places)
    for k in range(3):  # of a vertex: the sum over its triangles, larger ones counting more
        solid = mesh.points[mesh.faces].astype(float)
        np.add.at(normals, mesh.faces[:, k], np.cross(solid[:, 1] - solid[:, 0], solid[:, 2] - solid[:, 0]) @ turn.T)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    one, other = (corners[:, k, :2] - corners[:, 0, :2] for k in (1, 2))
    facing = one[:, 0] * other[:, 1] < one[:, 1] * other[:, 0]  # rows run downwards, so turns are mirrored
    corners, bent = corners[facing], normals[mesh.faces[facing]]
    edges = np.linalg.norm(corners[:, :, :2] - np.roll(corners[:, :, :2], 1, axis=1), axis=2).max(1)
    steps = np.ceil(edges).astype(int) + 1
    depth, light = np.full(size * size, np.inf), np.zeros(size * size)
    for n in np.unique(steps):
        i, j = np.array([(i, j) for i in range(n + 1) for j in range(n + 1 - i)]).T
        weights = np.stack([i, j, n - i - j], 1) / n
        seen = np.einsum("sk,mkd->msd", weights, corners[steps == n]).reshape(-1, 3)
        shade = np.einsum("sk,mkd->msd", weights, bent[steps == n]).reshape(-1, 3)
        column, line = seen[:, :2].astype(int).T
        inside = (column >= 0) & (column < size) & (line >= 0) & (line < size)
        where, far = (line * size + column)[inside], seen[inside, 2]
        order = np.argsort(-far, kind="stable")  # of several in one pixel the nearest is written last
        where, far, shade = where[order], far[order], shade[inside][order]
        bright = AMBIENT + (1 - AMBIENT) * np.clip(shade @ LAMP / np.linalg.norm(shade, axis=1).clip(1e-12), 0, 1)
        nearest = np.full(size * size, np.inf)
        nearest[where] = far
        lit = np.zeros(size * size)
        lit[where] = bright
        closer = nearest < depth
        depth[closer], light[closer] = nearest[closer], lit[closer]
    return depth, light


def _letters(axis: Axes, turn: np.ndarray) -> None:
    """What lies beyond the edges, where one of the patient's axes runs nearly along the picture's."""
    edges = ((0.04, 0.5, 0, -1, "left", "center"), (0.96, 0.5, 0, 1, "right", "center"),
             (0.5, 0.99, 1, -1, "center", "top"), (0.5, 0.01, 1, 1, "center", "bottom"))  # fmt: skip
    for x, y, along, sign, across, down in edges:
        strongest = int(np.abs(turn[along]).argmax())
        if abs(turn[along, strongest]) > 0.95:
            letter = ENDS[strongest][int(sign * turn[along, strongest] > 0)]
            axis.text(x, y, letter, ha=across, va=down, fontsize=8.5, color="0.4", transform=axis.transAxes)
