"""Where voxels lie: flipped, permuted and turned grids, volumes, and what is refused."""

from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from xmod_lab.data.volume import Grid, Volume, load_volume, save_nifti
from xmod_lab.errors import LabError
from xmod_lab.view.frame import canonical, canonical_point, frame_of, given_point, in_mm, point_text

SHAPE = (5, 6, 7)
AXES = [(order, signs) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)]


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    """Any order and direction of axes, voxels of 0.5 to 6 mm, turned by up to 25 degrees, anywhere."""
    order, signs = draw(st.sampled_from(AXES))
    sizes = draw(st.tuples(*[st.floats(0.5, 6.0)] * 3))
    about = draw(st.sampled_from([(1, 0, 0), (0, 0, 1), (0.58, 0.58, 0.58), (0, -0.71, 0.71)]))
    turn = Rotation.from_rotvec(np.radians(draw(st.floats(0, 25))) * np.array(about)).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = turn @ (np.eye(3)[:, list(order)] * signs * sizes)
    affine[:3, 3] = draw(st.tuples(*[st.floats(-200, 200)] * 3))
    return affine


@given(affines(), st.tuples(*(st.integers(0, n - 1) for n in SHAPE)))
def test_a_voxel_keeps_its_value_and_its_place(affine: np.ndarray, at: tuple[int, int, int]) -> None:
    array = np.arange(np.prod(SHAPE)).reshape(SHAPE)
    frame = frame_of(SHAPE, affine)
    point = canonical_point(frame, at)
    assert canonical(frame, array)[point] == array[at] and given_point(frame, point) == at
    assert in_mm(frame, np.array(point)) == pytest.approx(affine[:3, :3] @ at + affine[:3, 3], abs=1e-6)
    assert (np.diag(frame.affine)[:3] > 0).all() and np.linalg.det(frame.affine) > 0
    assert frame.tilt <= 26


@given(affines())
def test_the_text_says_on_which_side_a_voxel_lies(affine: np.ndarray) -> None:
    text = point_text(frame_of(SHAPE, affine), canonical_point(frame_of(SHAPE, affine), (1, 2, 3)))
    x, y, z = np.round(affine[:3, :3] @ (1, 2, 3) + affine[:3, 3], 1)
    assert text.startswith("voxel (1, 2, 3), ")
    for value, letters in ((x, "LR"), (y, "PA"), (z, "IS")):
        assert f"{abs(value):.1f} mm {letters[int(value >= 0)]}" in text or abs(value) < 0.11


def test_a_volume_is_placed_by_its_file(tmp_path: Path) -> None:
    affine = np.array([[0, -2.0, 0, 30], [-1.0, 0, 0, 20], [0, 0, 5.0, -10], [0, 0, 0, 1]])
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    save_nifti(tmp_path / "x.nii.gz", array, affine)
    volume = load_volume(tmp_path / "x.nii.gz")
    frame = frame_of(volume.array.shape, volume)
    stored = frame_of(array.shape, affine)
    np.testing.assert_allclose(frame.affine, stored.affine)
    np.testing.assert_array_equal(canonical(frame, volume.array), canonical(stored, array))
    assert frame.spacing == volume.spacing == (2, 1, 5) and frame.tilt == pytest.approx(0)
    with pytest.raises(LabError, match="differ"):
        frame_of((3, 3, 3), volume)


def test_an_affine_that_the_manifest_overrules_is_not_believed() -> None:
    order = np.array([[1.0, 1.0], [0.0, 1.0], [2.0, 1.0]])
    for affine in (np.eye(4), np.zeros((4, 4))):
        volume = Volume(np.zeros((3, 2, 4)), (1.0, 1.0, 2.0), "mm", Grid((2, 3, 4), affine, order), Path("x"))
        frame = frame_of((3, 2, 4), volume)
        assert not frame.known and frame.spacing == (1, 1, 2)
        assert point_text(frame, (1, 0, 1)) == "voxel (1, 0, 1), (1.0, 0.0, 2.0) mm from the first one"
    lost = Volume(np.zeros((2, 2, 2)), (1.0, 1.0, 1.0), "voxel", Grid((2, 2, 2), np.eye(4), order), Path("x"))
    assert point_text(frame_of((2, 2, 2), lost), (0, 0, 1)) == "voxel (0, 0, 1), voxel size unknown"


def test_a_turned_grid_says_so() -> None:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("z", 12, degrees=True).as_matrix()
    frame = frame_of(SHAPE, affine)
    assert frame.tilt == pytest.approx(12) and "grid turned by 12°" in point_text(frame, (0, 0, 0))


@pytest.mark.parametrize(
    ("shape", "place", "match"),
    [
        ((4, 4), (1, 1, 1), "3D"),
        ((4, 4, 4), (1, 0, 1), "positive"),
        ((4, 4, 4), (1, np.nan, 1), "positive"),
        ((4, 4, 4), np.diag([1.0, 0, 1, 1]), "singular"),
        ((4, 4, 4), np.full((4, 4), np.nan), "singular"),
        ((4, 4, 4), (1, 1), "voxel sizes or a 4 x 4"),
    ],
)
def test_places_that_make_no_sense_are_refused(shape: tuple[int, ...], place: np.ndarray, match: str) -> None:
    with pytest.raises(LabError, match=match):
        frame_of(shape, place)
    frame = frame_of((4, 4, 4), (1, 1, 1))
    with pytest.raises(LabError, match="different grids"):
        canonical(frame, np.zeros((4, 4, 5)))
    with pytest.raises(LabError, match="outside"):
        canonical_point(frame, (0, 0, 4))
