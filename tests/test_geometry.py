"""Volume to slices and back: orientation, exact weights, round trips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmod_lab.data.geometry import SliceGeometry, from_planes, geometry_of, to_planes
from xmod_lab.data.recipes import RECIPES, Recipe
from xmod_lab.data.volume import load_volume, save_nifti

PLANES = ("axial", "coronal", "sagittal")


def whole(plane: str, shape: tuple[int, int, int], size: int) -> SliceGeometry:
    recipe = Recipe("x", plane=plane, crop="none")  # type: ignore[arg-type]
    return geometry_of(shape, (1.0, 1.0, 1.0), np.ones(shape, bool), recipe, size)


@pytest.mark.parametrize(("plane", "top", "left"), [("axial", "anterior", "right"), ("coronal", "superior", "right"),
                                                    ("sagittal", "superior", "anterior")])
def test_slices_stand_as_a_radiologist_reads_them(plane: str, top: str, left: str) -> None:
    x, y, z = np.meshgrid(*(np.arange(n) for n in (5, 6, 7)), indexing="ij")
    along = {"right": x, "anterior": y, "superior": z}
    assert (np.diff(to_planes(along[top], plane), axis=1) == -1).all()  # type: ignore[arg-type]
    assert (np.diff(to_planes(along[left], plane), axis=2) == -1).all()  # type: ignore[arg-type]


@given(st.sampled_from(PLANES), st.tuples(*[st.integers(1, 6)] * 3))
def test_planes_undo(plane: str, shape: tuple[int, int, int]) -> None:
    array = np.arange(np.prod(shape)).reshape(shape)
    assert (from_planes(to_planes(array, plane), plane) == array).all()  # type: ignore[arg-type]
    lead = np.stack([array, -array])
    both = np.stack([to_planes(a, plane) for a in lead])  # type: ignore[arg-type]
    assert (from_planes(both, plane) == lead).all()  # type: ignore[arg-type]


@given(st.sampled_from(PLANES), st.tuples(*[st.integers(2, 12)] * 3), st.integers(2, 20), st.floats(-3, 3),
       st.floats(-3, 3), st.floats(2, 15))
def test_resampling_is_exact_on_constants_and_nearest_gives_only_known_values(
        plane: str, shape: tuple[int, int, int], size: int, top: float, left: float, side: float) -> None:
    geometry = SliceGeometry(plane, shape, (top, top + side, left, left + side), size)  # type: ignore[arg-type]
    flat = geometry.forward(np.full(shape, 3.0), "linear", fill=3.0)
    np.testing.assert_allclose(flat, 3, atol=1e-5)
    assert flat.shape == (geometry.slices, size, size)
    labels = np.random.default_rng(0).integers(1, 4, shape).astype(np.uint8)
    found = geometry.forward(labels, "nearest")
    assert found.dtype == np.uint8
    assert set(np.unique(found)) <= {0, 1, 2, 3}
    back = geometry.backward(np.full((geometry.slices, 2, size, size), 5.0), fill=-1.0)
    assert back.shape == (2, *shape)
    assert np.isin(np.round(back, 4), (-1, 5)).all()  # nothing is blended with what lies outside


@given(st.tuples(st.integers(4, 12), st.integers(4, 12), st.integers(1, 4)), st.integers(4, 24), st.floats(-2, 2),
       st.floats(-2, 2))
def test_outside_the_box_is_background(shape: tuple[int, int, int], size: int, top: float, left: float) -> None:
    geometry = SliceGeometry("axial", shape, (top, top + 5, left, left + 6), size)
    probabilities = np.zeros((shape[2], 3, size, size), np.float32)
    probabilities[:, 2] = 1
    found = to_planes(geometry.labels(probabilities), "axial")
    # distance of each pixel's centre to the middle of the box; a centre right on its edge may go either way
    down = np.abs(np.arange(shape[1]) + 0.5 - top - 2.5) - 2.5
    across = np.abs(np.arange(shape[0]) + 0.5 - left - 3) - 3
    edge = np.maximum(down[:, None], across[None])
    assert (found[:, edge < -1e-6] == 2).all() and (found[:, edge > 1e-6] == 0).all()
    assert (geometry.labels(probabilities) == geometry.backward(probabilities).argmax(axis=0)).all()


def test_enlarging_agrees_with_scipy() -> None:
    from scipy.ndimage import map_coordinates

    array = np.random.default_rng(0).normal(size=(9, 7, 2)).astype(np.float32)
    geometry = SliceGeometry("axial", (9, 7, 2), (1.0, 6.0, 2.0, 7.0), 20)
    rows, columns = 1.0 + (np.arange(20) + 0.5) / 4 - 0.5, 2.0 + (np.arange(20) + 0.5) / 4 - 0.5
    grid = np.meshgrid(rows, columns, indexing="ij")
    expected = np.stack([map_coordinates(plane, grid, order=1) for plane in to_planes(array, "axial")])
    np.testing.assert_allclose(geometry.forward(array), expected, atol=1e-5)


def test_shrinking_does_not_alias() -> None:
    """A chequerboard of single pixels must turn grey; sampling it would keep black or white."""
    board = (np.indices((64, 64, 1)).sum(axis=0) % 2).astype(np.float32)
    inner = whole("axial", (64, 64, 1), 16).forward(board, fill=0.5)[:, 1:-1, 1:-1]
    np.testing.assert_allclose(inner, 0.5, atol=0.02)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("crop", ["none", "foreground"])
def test_ellipsoid_survives_the_round_trip_from_200_to_128(plane: str, crop: str) -> None:
    shape = {"axial": (200, 190, 12), "coronal": (200, 12, 190), "sagittal": (12, 190, 200)}[plane]
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    body = sum((a / 0.9) ** 2 for a in axes) <= 1
    lesion = sum(((a - 0.1) / s) ** 2 for a, s in zip(axes, (0.3, 0.25, 0.4), strict=True)) <= 1
    recipe = Recipe("x", plane=plane, crop=crop)  # type: ignore[arg-type]
    geometry = geometry_of(shape, (1.0, 1.0, 1.0), body, recipe, 128)
    small = geometry.forward(lesion.astype(np.uint8), "nearest")
    back = geometry.labels(np.stack([small == 0, small == 1], axis=1).astype(np.float32))
    assert dice(back == 1, lesion) > 0.97


@pytest.mark.parametrize("depth", range(1, 41))
def test_every_slice_comes_back_once_and_in_place(depth: int) -> None:
    geometry = whole("axial", (6, 6, depth), 8)
    numbers = np.broadcast_to(np.arange(1, depth + 1, dtype=np.float32), (6, 6, depth))
    planes = geometry.forward(numbers.copy())
    for batch in (1, 3, 8, 128):
        chunks = [planes[i:i + batch] for i in range(0, depth, batch)]
        joined = np.concatenate(chunks)[:, None]
        np.testing.assert_allclose(geometry.backward(joined)[0], numbers, atol=1e-4)


def test_a_canonical_volume_goes_back_to_its_stored_axes(tmp_path: Path) -> None:
    """From a file in LPS order through slices to the file's own grid."""
    stored = np.zeros((12, 14, 5), np.int16)
    stored[2:6, 3:9, 1:3] = 1
    save_nifti(tmp_path / "a.nii.gz", stored, np.diag([-1.0, -2.0, 3.0, 1.0]))
    volume = load_volume(tmp_path / "a.nii.gz")
    assert volume.spacing == (1.0, 2.0, 3.0)
    geometry = geometry_of(volume.array.shape, volume.spacing, volume.array > 0, Recipe("x", crop="none"), 28)
    small = geometry.forward(volume.array, "nearest")
    back = geometry.labels(np.stack([small == 0, small == 1], axis=1).astype(np.float32))
    assert (volume.to_native(back) == stored).all()


def test_boxes_are_square_in_millimetres() -> None:
    body = np.zeros((40, 40, 3), bool)
    body[10:20, 5:25] = True  # x 10 voxels of 2 mm, y 20 voxels of 0.5 mm
    geometry = geometry_of(body.shape, (2.0, 0.5, 3.0), body, Recipe("x", margin=0.0), 32)
    top, bottom, left, right = geometry.box
    assert (bottom - top) * 0.5 == pytest.approx(20) and (right - left) * 2.0 == pytest.approx(20)
    assert geometry.forward(body.astype(np.uint8), "nearest").sum() == 3 * 32 * 16  # 20 mm wide, 10 mm high of 20
    assert (top + bottom) / 2 == 40 - 15 and (left + right) / 2 == 40 - 15  # rows and columns run against y and x


def test_centre_crop_is_never_larger_than_the_volume() -> None:
    small = geometry_of((60, 64, 3), (1, 1, 1), np.ones((60, 64, 3), bool), RECIPES["P3"], 32)
    assert small.box == (0, 64, -2, 62)
    large = geometry_of((300, 300, 3), (1, 1, 1), np.ones((300, 300, 3), bool), RECIPES["P3"], 32)
    assert large.box == (38, 262, 38, 262)


def test_shapes_are_checked() -> None:
    geometry = whole("axial", (6, 6, 3), 8)
    with pytest.raises(ValueError, match=r"expected shape \(6, 6, 3\)"):
        geometry.forward(np.zeros((6, 6, 4)))
    with pytest.raises(ValueError, match=r"expected \(3, C, 8, 8\)"):
        geometry.backward(np.zeros((2, 1, 8, 8)))


@given(st.sampled_from(PLANES), st.tuples(*[st.integers(8, 14)] * 3), st.integers(12, 24), st.floats(-2, 2),
       st.floats(-2, 2), st.floats(5, 12))
def test_the_matrix_to_voxels_says_where_a_pixel_lies(plane: str, shape: tuple[int, int, int], size: int, top: float,
                                                      left: float, side: float) -> None:
    """Slices of the volumes x, y and z hold the coordinates that the matrix gives, away from the border;
    finer than the volume, as a kernel that smooths is exact to a tenth of a voxel only."""
    geometry = SliceGeometry(plane, shape, (top, top + side, left, left + side), size)  # type: ignore[arg-type]
    found = [geometry.forward(axis.astype(np.float32)) for axis in np.indices(shape)]
    at = np.stack([*np.indices((geometry.slices, size, size)), np.ones((geometry.slices, size, size))])
    x, y, z, one = np.tensordot(geometry.to_voxel, at, 1)
    assert (one == 1).all()
    across = [axis for axis in range(3) if np.ptp((x, y, z)[axis][0]) > 0]
    inside = np.all([((x, y, z)[a] > 0) & ((x, y, z)[a] < shape[a] - 1) for a in across], 0)
    for place, values in zip((x, y, z), found, strict=True):
        np.testing.assert_allclose(values[inside], place[inside], atol=1e-3)
