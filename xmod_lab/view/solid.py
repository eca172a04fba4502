"""Labels as surfaces that a reader can turn (plotly), truth beside prediction under one camera, and a page of its own.

The still twin is `stills.surface_views`, which needs no browser.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from xmod_lab.data.geometry import AXES
from xmod_lab.data.volume import Volume
from xmod_lab.errors import LabError
from xmod_lab.view.frame import Frame, Place, Point, canonical, canonical_point, frame_of, in_mm
from xmod_lab.view.meshes import Mesh, Steps, around, mesh_of, steps_for
from xmod_lab.view.orthogonal import class_names, grey_window, presence
from xmod_lab.view.planes import PLANES, centre_of
from xmod_lab.view.style import colours_of

VERTICES = 30_000
"""of all surfaces of a figure: 32 bytes each in its JSON"""
PIXELS = 64
"""along the longer side of an image plane in space, whose JSON has 17 bytes a pixel"""
CLEAR = 0.35
"""opacity of what lies around another structure"""
MARGIN = 12.0
"""mm shown around all that is labelled"""
LIGHT = {"ambient": 0.5, "diffuse": 0.7, "specular": 0.1, "roughness": 0.8}
LAMP = {"x": -1000, "y": 1000, "z": -1000}
"""in the picture's own coordinates, which plotly does not say: it stays above the reader's left shoulder"""
ZOOM = 1.2
"""of plotly's own size of a scene, with parallel rays"""
EYE = {"x": -0.9, "y": 1.2, "z": 0.6}
"""from the left, the front and a little above"""
SIDES = {"x": "right", "y": "front", "z": "head"}

LINKED = """
const graph = document.getElementById('{plot_id}');
let following = false;
function follow(change) {
  if (following || !graph._fullLayout.scene2) return;
  for (const [from, to] of [['scene', 'scene2'], ['scene2', 'scene']]) {
    const update = {};
    for (const what of ['.camera', '.aspectratio']) if (change[from + what]) update[to + what] = change[from + what];
    if (!Object.keys(update).length) continue;
    following = true;
    Plotly.relayout(graph, update).finally(() => { following = false; });
    return;
  }
}
graph.on('plotly_relayouting', follow);
graph.on('plotly_relayout', follow);
"""
"""what turns one scene with the other one; plotly itself has no axes in space that match"""


class Solids(NamedTuple):
    """The surfaces of a figure, by side (truth, prediction) and structure, and how they were made."""

    sides: dict[str, dict[str, Mesh | None]]
    """None where a structure is absent"""
    clear: set[str]
    """structures that lie around others"""
    steps: dict[str, Steps]
    """voxels merged along each axis, by structure"""
    smooth: bool
    frame: Frame
    masks: list[np.ndarray]
    """labels of each side on canonical axes"""

    @property
    def note(self) -> str:
        """How exact the surfaces are, in words."""
        names: dict[Steps, list[str]] = {}
        for name, steps in self.steps.items():
            if max(steps) > 1:
                names.setdefault(steps, []).append(name.replace("_", " "))
        said = [f"{', '.join(which)}: {' × '.join(map(str, steps))} voxels merged" for steps, which in names.items()]
        return "; ".join([*said, "smoothed, by at most half a voxel" if self.smooth else "not smoothed"])

    def named(self, name: str) -> str:
        """A structure's name for a legend."""
        state = {side: meshes[name] is not None for side, meshes in self.sides.items()}
        return presence(name, state.get("truth"), state.get("prediction"))


def solids_of(
    labels: np.ndarray | None, place: Place, classes: Sequence[str], prediction: np.ndarray | None, *, smooth: bool,
    most: int,
) -> Solids:
    """The surfaces of all classes. Raises LabError as `frame_of` and `class_names` do, and where nothing is given."""
    given = {side: m for side, m in (("truth", labels), ("prediction", prediction)) if m is not None}
    if not given:
        raise LabError("neither labels nor a prediction", mend="give class indices (x, y, z)")
    frame = frame_of(next(iter(given.values())).shape, place)
    turned = {side: canonical(frame, m) for side, m in given.items()}
    names = class_names(classes, *turned.values())
    masks = {side: {n: m == k for k, n in enumerate(names, start=1)} for side, m in turned.items()}
    steps = steps_for({name: [of[name] for of in masks.values()] for name in names}, frame.spacing, most)
    sides = {side: {n: mesh_of(m, frame.affine, steps=steps[n], smooth=smooth) for n, m in of.items()}
             for side, of in masks.items()}  # fmt: skip
    clear = set().union(*(around(of) for of in masks.values()))
    return Solids(sides, clear, steps, smooth, frame, list(turned.values()))


def surfaces(
    labels: np.ndarray | None,
    place: Place | None = None,
    classes: Sequence[str] = (),
    *,
    prediction: np.ndarray | None = None,
    image: Volume | np.ndarray | None = None,
    kind: str = "MR",
    at: Sequence[int] | None = None,
    window: tuple[float, float] | str | None = None,
    smooth: bool = True,
    most: int = VERTICES,
    title: str = "",
) -> Any:
    """A plotly Figure of each class' surface in mm; a click in the legend hides a structure, on both sides.

    labels, prediction: class indices (x, y, z) of one grid; with both, two scenes stand side by side, whose cameras
    `surfaces_page` links. place: a `Volume` on that grid, voxel sizes in mm of canonical arrays, or an affine; an
    `image` that is a Volume says it, too. image: adds its three planes through the voxel `at` (by default the labelled
    one nearest to the centre of all labelled ones), the axial one shown, the others by a click in the legend; `kind`
    and `window` as in `orthogonal`. smooth, most: see `meshes` and `steps_for`; the figure says what was done.

    A structure that is absent stands in the legend as such. What lies around another one is drawn clear. Raises
    LabError as `orthogonal` does.
    """
    import plotly.graph_objects as go

    if isinstance(image, Volume):
        place, image = place if place is not None else image, image.array
    if place is None:
        raise LabError("nothing says where the array lies", mend="give voxel sizes in mm, an affine or a Volume")
    solids = solids_of(labels, place, classes, prediction, smooth=smooth, most=most)
    frame, figure = solids.frame, go.Figure()
    colours = colours_of(list(next(iter(solids.sides.values()))))
    ranks, named = {name: rank for rank, name in enumerate(colours, start=1)}, set[str]()
    for number, (side, meshes) in enumerate(solids.sides.items()):
        for name, mesh in meshes.items():
            if mesh is None:
                continue
            figure.add_trace(go.Mesh3d(
                **_points(mesh.points), **_faces(mesh), color=colours[name],
                opacity=CLEAR if name in solids.clear else 1.0, name=_plain(solids.named(name)), legendrank=ranks[name],
                legendgroup=f"class {ranks[name]}", showlegend=name not in named, scene=_scene(number), lighting=LIGHT,
                lightposition=LAMP, hovertemplate=_plain(f"{name}, {side}") + "<extra></extra>",
            ))  # fmt: skip
            named.add(name)
    for name in colours:
        if name not in named:  # nothing to draw, but a word in the legend
            figure.add_trace(go.Scatter3d(
                x=[None], y=[None], z=[None], mode="markers", marker={"color": colours[name], "symbol": "square"},
                name=_plain(solids.named(name)), legendrank=ranks[name],
            ))  # fmt: skip
    leading = next((m for m in solids.masks if m.any()), solids.masks[0])
    point = centre_of(leading, frame.spacing) if at is None else canonical_point(frame, at)
    box = _box(solids, point)
    notes = [solids.note]
    if image is not None:
        array = canonical(frame, image)
        low, high = grey_window(array, kind, leading, window)
        for number in range(len(solids.sides)):
            for plane in PLANES:
                figure.add_trace(_plane(array, frame, plane, point, box, (low, high), _scene(number), not number))
        notes.append(f"grey {low:.4g} to {high:.4g}{' HU' if kind == 'CT' else ''}")
    _lay_out(figure, solids, box, title, "; ".join(notes))
    return figure


def _box(solids: Solids, at: Point) -> np.ndarray:
    """First and last voxel (2, 3) of what is shown: all that is labelled and the voxel `at` with MARGIN around them."""
    shape = np.array(solids.masks[0].shape)
    labelled = [np.argwhere(mask > 0) for mask in solids.masks]
    if not any(map(len, labelled)):
        return np.array([shape * 0, shape - 1])
    places, more = np.concatenate([*labelled, [at]]), np.ceil(MARGIN / np.array(solids.frame.spacing)).astype(int)
    return np.array([np.maximum(places.min(0) - more, 0), np.minimum(places.max(0) + more, shape - 1)])


def _scene(number: int) -> str:
    return f"scene{number + 1}" if number else "scene"


def _plain(text: str) -> str:
    """Text that plotly shall not read as markup."""
    return html.escape(text, quote=False)


def _points(points: np.ndarray) -> dict[str, np.ndarray]:
    return {axis: np.ascontiguousarray(points[..., k], np.float32) for k, axis in enumerate("xyz")}


def _faces(mesh: Mesh) -> dict[str, np.ndarray]:
    kind = np.uint16 if len(mesh.points) < 2**16 else np.uint32
    return {name: np.ascontiguousarray(mesh.faces[:, k], kind) for k, name in enumerate("ijk")}


def _plane(
    array: np.ndarray, frame: Frame, plane: str, at: Point, box: np.ndarray, window: tuple[float, float], scene: str,
    named: bool,
) -> Any:
    """One plane of the image inside `box` as a grey surface of at most PIXELS a side; what is not finite is black."""
    import plotly.graph_objects as go

    across, row, column = AXES[plane]
    counts = [min(box[1, a] - box[0, a] + 1, PIXELS) for a in (row, column)]
    rows, columns = (np.linspace(box[0, a], box[1, a], n).round().astype(int)
                     for a, n in zip((row, column), counts, strict=True))  # fmt: skip
    index = np.zeros((len(rows), len(columns), 3), int)
    index[..., across], index[..., row], index[..., column] = at[across], rows[:, None], columns[None]
    values, (low, high) = array[tuple(np.moveaxis(index, -1, 0))].astype(float), window
    grey = np.clip((np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / (high - low), 0, 1)
    return go.Surface(
        **_points(in_mm(frame, index)), surfacecolor=(255 * grey).round().astype(np.uint8), cmin=0, cmax=255,
        colorscale=[[0, "#000000"], [1, "#ffffff"]], showscale=False, name=f"{plane} plane", scene=scene,
        legendgroup=f"plane {plane}", showlegend=named, visible=True if plane == "axial" else "legendonly",
        hoverinfo="skip", contours={a: {"highlight": False} for a in "xyz"},
        lighting={"ambient": 1.0, "diffuse": 0.0, "specular": 0.0},
    )  # fmt: skip


def _lay_out(figure: Any, solids: Solids, box: np.ndarray, title: str, note: str) -> None:
    corners = [[box[x, 0] + x - 0.5, box[y, 1] + y - 0.5, box[z, 2] + z - 0.5]
               for x in (0, 1) for y in (0, 1) for z in (0, 1)]  # fmt: skip
    ends = in_mm(solids.frame, np.array(corners))
    extents = np.ptp(ends, axis=0)
    sides = dict(zip("xyz", (ZOOM * extents / np.prod(extents) ** (1 / 3)).tolist(), strict=True))
    axes = {
        f"{axis}axis": {"title": {"text": f"{axis}, to the {SIDES[axis]} [{solids.frame.unit}]", "font": {"size": 11}},
                        "range": [float(ends[:, k].min()), float(ends[:, k].max())]}
        for k, axis in enumerate("xyz")
    }  # fmt: skip
    count, notes = len(solids.sides), []
    for number, side in enumerate(solids.sides):
        place = {"x": [number / count, (number + 1) / count], "y": [0.0, 1.0]}
        figure.update_layout({_scene(number): {
            "domain": place, "aspectmode": "manual", "aspectratio": sides, **axes,
            "camera": {"eye": EYE, "projection": {"type": "orthographic"}},
        }})  # fmt: skip
        notes.append({"text": side, "x": (number + 0.5) / count, "y": 1.0, "xref": "paper", "yref": "paper",
                      "showarrow": False, "yanchor": "bottom"})  # fmt: skip
    figure.update_layout(
        title={"text": _plain(title), "x": 0.5, "font": {"size": 15},
               "subtitle": {"text": _plain(note), "font": {"size": 11, "color": "#555555"}}},
        annotations=notes, paper_bgcolor="white", margin={"l": 0, "r": 0, "t": 100, "b": 60}, height=560,
        legend={"itemsizing": "constant", "orientation": "h", "x": 0.5, "xanchor": "center", "y": 0, "yanchor": "top"},
    )  # fmt: skip


def surfaces_page(figure: Any) -> str:
    """The figure as one HTML page that asks nobody for anything (4.8 MB of it plotly); two scenes turn together."""
    return str(figure.to_html(include_plotlyjs=True, full_html=True, post_script=LINKED, div_id="surfaces",
                              config={"displaylogo": False, "responsive": True}))  # fmt: skip
