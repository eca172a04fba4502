"""Surfaces in mm: closed, as large as by hand, cheap; plotly's figure, its page, and the still twin."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from test_view import pixels, texts

from xmod_lab.errors import LabError
from xmod_lab.view import figures, style
from xmod_lab.view.meshes import Mesh, around, mesh_of, steps_for, volume_of
from xmod_lab.view.solid import LINKED
from xmod_lab.view.stills import PIXELS, VIEWS, _turn, rendered

pytestmark = pytest.mark.usefixtures("figure_style")

SIZES = (1.5, 2.0, 5.5)
EVIL = "</script><script>document.title = 'reached'</script>"


def cube(count: int = 5, shape: tuple[int, int, int] = (12, 12, 12), start: int = 3) -> np.ndarray:
    found = np.zeros(shape, bool)
    found[start : start + count, start : start + count, start : start + count] = True
    return found


def ball(radius: float, size: int = 32) -> np.ndarray:
    places = np.indices((size,) * 3) - (size - 1) / 2
    return np.asarray(np.sqrt((places**2).sum(0)) < radius)


def meshed(mask: np.ndarray, affine: np.ndarray | None = None, **how: Any) -> Mesh:
    found = mesh_of(mask, np.eye(4) if affine is None else affine, **how)
    assert found is not None
    return found


def area(mesh: Mesh) -> float:
    a, b, c = (mesh.points[mesh.faces[:, k]].astype(float) for k in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def is_closed(mesh: Mesh) -> bool:
    """Every edge is run along once in each direction: no hole, and all faces turn the same way."""
    edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]]).tolist()
    return len({tuple(e) for e in edges}) == len(edges) and {tuple(e) for e in edges} == {(b, a) for a, b in edges}


def test_a_box_of_voxels_has_the_area_and_extent_computed_by_hand() -> None:
    """Six faces between the outermost voxels' centres, twelve edges cut at half a voxel, eight corners."""
    n, affine = 5, np.diag([*SIZES, 1.0])
    affine[:3, 3] = 10, -20, 30
    mesh = meshed(cube(n), affine, smooth=False)
    a, b, c = SIZES
    faces = 2 * (n - 1) ** 2 * (a * b + b * c + c * a)
    edges = 4 * (n - 1) * sum(x * np.hypot(y, z) / 2 for x, y, z in ((a, b, c), (b, c, a), (c, a, b)))
    corners = np.sqrt((a * b) ** 2 + (b * c) ** 2 + (c * a) ** 2)  # eight triangles with legs of half a voxel
    assert area(mesh) == pytest.approx(faces + edges + corners, rel=1e-5)
    assert mesh.points.min(0) == pytest.approx(np.array([10, -20, 30]) + 2.5 * np.array(SIZES), abs=1e-4)
    assert np.ptp(mesh.points, axis=0) == pytest.approx(n * np.array(SIZES), abs=1e-4), "outer faces of the voxels"
    assert is_closed(mesh) and 0.9 * n**3 * a * b * c < volume_of(*mesh) < n**3 * a * b * c


def test_surfaces_lie_where_a_turned_affine_puts_them() -> None:
    affine = np.array([[0.9, -0.5, 0, 7], [0.5, 0.9, 0, 8], [0, 0, 3, 9], [0, 0, 0, 1]])
    mesh = meshed(cube(), affine, smooth=False)
    middle = affine[:3, :3] @ (5, 5, 5) + affine[:3, 3]
    assert (mesh.points.min(0) + mesh.points.max(0)) / 2 == pytest.approx(middle, abs=1e-4)
    assert volume_of(*mesh) > 0


def test_smoothing_moves_no_vertex_by_more_than_half_a_voxel_and_keeps_the_volume() -> None:
    mask = ball(9)
    rough, smooth = (meshed(mask, np.diag([*SIZES, 1.0]), smooth=s) for s in (False, True))
    moved = np.abs(rough.points - smooth.points) / SIZES
    assert 0.05 < moved.max() <= 0.5 + 1e-5 and area(smooth) < area(rough) and is_closed(smooth)
    assert volume_of(*smooth) == pytest.approx(mask.sum() * np.prod(SIZES), rel=0.03)


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("steps", [(1, 1, 1), (2, 2, 1), (3, 3, 2)])
def test_a_label_at_the_border_is_closed(smooth: bool, steps: tuple[int, int, int]) -> None:
    mask = np.ones((7, 8, 5), bool)
    mask[3, 3, 3] = False  # and a hole inside
    assert is_closed(meshed(mask, smooth=smooth, steps=steps))
    assert mesh_of(mask & False, np.eye(4)) is None
    assert is_closed(meshed(cube(1), smooth=smooth, steps=steps)), "a single voxel"


def test_merged_voxels_keep_place_and_volume_of_a_ball_and_of_a_thin_shell() -> None:
    for mask in (ball(12), ball(12) & ~ball(10.5)):
        mesh = meshed(mask, steps=(3, 3, 3))
        assert volume_of(*mesh) == pytest.approx(mask.sum(), rel=0.08)
        assert (mesh.points.min(0) + mesh.points.max(0)) / 2 == pytest.approx((15.5,) * 3, abs=0.6)


def test_large_structures_are_merged_and_small_ones_are_not() -> None:
    structures = {"large": [ball(14), ball(13)], "small": [ball(3), ball(3)], "none": [ball(0), ball(0)]}
    found = steps_for(structures, (1, 1, 1), 3000)
    assert list(found) == ["large", "small", "none"]
    assert found["small"] == found["none"] == (1, 1, 1) and found["large"] == (2, 2, 2)
    assert steps_for({"a": [ball(14)]}, (1, 1, 5), 2500)["a"] == (2, 2, 1), "the finest axes first"


def test_what_lies_around_another_structure_is_known() -> None:
    assert around({"shell": ball(12) & ~ball(8), "core": ball(8), "beside": np.roll(ball(3), 14, 0)}) == {"shell"}


@pytest.mark.parametrize("noisy", [False, True])
def test_a_figure_of_128_cubed_stays_small(noisy: bool) -> None:
    places = np.indices((128,) * 3, dtype=np.float32) - 63.5
    away = np.sqrt((places**2).sum(0))
    label = np.digitize(-away, [-60, -40, -15]).astype(np.uint8)
    found = np.random.default_rng(0).integers(0, 4, label.shape).astype(np.uint8) if noisy else label
    figure = figures.surfaces(label, (1, 1, 1), ["a", "b", "c"], prediction=found, image=away)
    assert len(figure.to_json()) < 1.5e6
    assert "voxels merged" in figure.layout.title.subtitle.text


def volumes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    label = np.zeros((20, 24, 8), np.uint8)
    label[4:14, 6:16, 1:7] = 1
    label[7:11, 9:13, 3:5] = 2
    found = np.where(label == 1, 1, 0).astype(np.uint8)
    return np.random.default_rng(0).uniform(0, 900, label.shape), label, found


def test_the_plotly_figure_has_a_legend_entry_a_structure_for_both_sides() -> None:
    image, label, found = volumes()
    image[0, 0, 0] = np.nan
    figure = figures.surfaces(label, SIZES, ["rim", "core", "void"], prediction=found, image=image, title="p1")
    meshes = [trace for trace in figure.data if trace.type == "mesh3d"]
    assert [(m.name, m.scene, m.showlegend, m.opacity) for m in meshes] == [
        ("rim", "scene", True, 0.35), ("core (missed)", "scene", True, 1.0), ("rim", "scene2", False, 0.35),
    ]  # fmt: skip
    assert [m.color for m in meshes] == [style.COLOURS[0], style.COLOURS[1], style.COLOURS[0]]
    assert meshes[0].legendgroup == meshes[2].legendgroup != meshes[1].legendgroup
    assert [t.name for t in figure.data if t.type == "scatter3d"] == ["void (absent)"]
    planes = [t for t in figure.data if t.type == "surface"]
    assert len(planes) == 6 and [t.visible for t in planes[:3]] == [True, "legendonly", "legendonly"]
    assert all(np.isfinite(t[axis]).all() for t in planes for axis in ("x", "y", "z", "surfacecolor"))
    axial = np.asarray(planes[0].z)
    assert np.ptp(axial) == 0 and axial[0, 0] in np.arange(8, dtype=np.float32) * SIZES[2]
    assert figure.layout.scene.camera == figure.layout.scene2.camera and "grey" in figure.layout.title.subtitle.text
    assert "graph.on('plotly_relayout'" in LINKED and "following" in figures.surfaces_page(figure)


def test_no_label_at_all_is_a_figure_and_nothing_given_an_error() -> None:
    image, label, _ = volumes()
    figure = figures.surfaces(label * 0, SIZES, ["a"], image=image)
    assert [t.name for t in figure.data][0] == "a (absent)" and "scene2" not in figure.to_json()
    assert "a (absent)" in texts(figures.surface_views(label * 0, SIZES, ["a"]))
    with pytest.raises(LabError, match="neither labels"):
        figures.surfaces(None, SIZES)
    with pytest.raises(LabError, match="nothing says where"):
        figures.surfaces(label, None)
    with pytest.raises(LabError, match="different grids"):
        figures.surfaces(label, SIZES, prediction=label[1:])


def test_names_from_data_are_text() -> None:
    _, label, _ = volumes()
    figure = figures.surfaces(label, SIZES, [EVIL, "<b>b</b>"], title=EVIL)
    said = [t.name for t in figure.data] + [t.hovertemplate.split("<extra>")[0] for t in figure.data]
    assert "<" not in json.dumps(said)
    page = figures.surfaces_page(figure)
    assert EVIL not in page and "<script>document" not in page and "&lt;b&gt;" in page.replace("\\u0026", "&")


def test_the_still_twin_shows_each_structure_from_where_it_says() -> None:
    label = np.zeros((20, 20, 20), np.uint8)
    label[2:6, 8:12, 8:12], label[14:18, 8:12, 8:12] = 1, 2  # the patient's left, right
    figure = figures.surface_views(label, (1, 1, 1), ["left_one", "right_one"], prediction=label * 0, title="two")
    assert [a.get_title() for a in figure.axes[:4]] == list(VIEWS) and pixels(figure).std() > 5
    front = np.asarray(figure.axes[0].images[0].get_array())
    halves = front[:, : PIXELS // 2], front[:, PIXELS // 2 :]
    for half, colour in zip(halves, (style.COLOURS[1], style.COLOURS[0]), strict=True):  # the right one on the left
        hue = half[half.min(-1) < 0.95]
        ratio = hue.mean(0) / hue.mean(0).max()
        assert ratio == pytest.approx(np.array(to_rgb(colour)) / max(to_rgb(colour)), abs=0.05)
    assert {t.get_text() for t in figure.axes[0].texts} == {"truth", "R", "L", "S", "I"}
    side = np.asarray(figure.axes[1].images[0].get_array())
    hue = side[side.min(-1) < 0.95]
    assert hue.mean(0).argmax() == np.argmax(to_rgb(style.COLOURS[0])), "from the left, the left one hides the other"
    assert np.asarray(figure.axes[4].images[0].get_array()).min() == 1 and "left one (missed)" in texts(figure)


def test_no_pixel_is_left_out() -> None:
    mesh = meshed(ball(10))
    centre = np.full(3, 15.5)
    for view in VIEWS.values():
        turn = _turn(*view)
        assert turn @ turn.T == pytest.approx(np.eye(3), abs=1e-9)
        picture = rendered([(mesh, "#000000", 1.0)], turn, centre, 12.0)
        rows, columns = np.indices((PIXELS, PIXELS)) - (PIXELS - 1) / 2
        inside = np.hypot(rows, columns) < 9.2 / 12 * PIXELS / 2
        assert picture[inside].max() < 0.01 and picture[np.hypot(rows, columns) > 10.8 / 12 * PIXELS / 2].min() == 1
