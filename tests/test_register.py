"""Registration: a known motion comes back, in one convention, whatever the number of threads; or an error says why."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.registering import as_phantom, both, pairs_at_home, true_motion
from xmod_lab.data.manifest import Dataset
from xmod_lab.data.register import body_points, register, registration_error, rigid_of
from xmod_lab.data.registered import known_motion, registered
from xmod_lab.data.volume import load_image, load_volume
from xmod_lab.errors import LabError
from xmod_lab.rng import numpy_rng


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dataset]:
    yield from pairs_at_home(tmp_path_factory.mktemp("home"))


# --- motions


def test_motions_by_hand() -> None:
    quarter = rigid_of((0, 0, 90), (1, 2, 3))
    assert quarter(np.array([[10.0, 0, 0]]))[0] == pytest.approx([1, 12, 3])
    assert quarter.inverse()(quarter(np.array([[4.0, 5, 6]])))[0] == pytest.approx([4, 5, 6])
    assert rigid_of((10, -20, 30), (0, 0, 0)).degrees == pytest.approx((10, -20, 30))
    at_once = rigid_of((10, -20, 30), (0, 0, 0)).rotation
    one, two, three = (rigid_of(t, (0, 0, 0)).rotation for t in ((10, 0, 0), (0, -20, 0), (0, 0, 30)))
    assert at_once == pytest.approx(three @ two @ one)


def test_the_error_of_a_registration_by_hand() -> None:
    points = np.array([[10.0, 0, 0], [-10, 0, 0], [0, 0, 50]])
    still, aside = rigid_of((0, 0, 0), (0, 0, 0)), rigid_of((0, 0, 0), (3, 4, 0))
    assert registration_error(aside, still, points) == pytest.approx((5, 0))
    turned = rigid_of((0, 0, 2), (0, 0, 0))
    chord = 2 * 10 * np.sin(np.radians(1))
    assert registration_error(turned, still, points) == pytest.approx((chord * 2 / 3, 2))
    assert registration_error(turned, turned, points) == pytest.approx((0, 0), abs=1e-5)


# --- finding them


@pytest.mark.parametrize("number", [0, 1])
def test_a_known_motion_comes_back(data: Dataset, number: int) -> None:
    patient = f"p{number:03d}"
    fixed, moving = both(data, patient)
    found = register(fixed, moving, ("CT", "MR"))
    true, points = true_motion(data, patient), body_points(fixed, "CT")
    distance, angle = registration_error(found.motion, true, points)
    assert distance < 1 and angle < 1
    assert registration_error(rigid_of((0, 0, 0), (0, 0, 0)), true, points)[0] > 6, "there was something to find"
    assert found.information[1] > found.information[0] + 0.05
    assert found.image.grid.same_as(fixed.grid) and found.image.array.shape == found.cover.shape == fixed.array.shape


def test_the_image_lands_where_the_truth_lies(data: Dataset) -> None:
    found = registered(data, "p000", "MR", "CT")
    truth = load_volume(data.folder / "truth" / "p000" / "MR.nii.gz").array.astype(float)
    raw = load_image(data, "p000", "MR").array
    assert np.corrcoef(found.image.array[found.cover], truth[found.cover])[0, 1] > 0.98
    assert found.image.array.min() >= raw.min() and found.image.array.max() <= raw.max(), "splines do not overshoot"
    outside = found.image.array[~found.cover]
    assert outside.size and np.unique(outside).size == 1 and abs(outside[0]) < 8, "filled with the image's own air"


def test_the_other_way_round_is_the_inverse(data: Dataset) -> None:
    fixed, moving = both(data)
    there, back = register(fixed, moving, ("CT", "MR")), register(moving, fixed, ("MR", "CT"))
    assert max(registration_error(back.motion.inverse(), there.motion, body_points(fixed, "CT"))) < 1
    assert back.image.grid.same_as(moving.grid)
    phantom = as_phantom(data)
    assert known_motion(phantom, "p000", "CT", "MR").degrees == pytest.approx(  # type: ignore[union-attr]
        true_motion(data, "p000").inverse().degrees)


def test_threads_change_nothing(data: Dataset) -> None:
    import SimpleITK as sitk

    fixed, moving = both(data)
    before, motions = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads(), []
    try:
        for threads in (1, 4):
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
            motions.append(register(fixed, moving, ("CT", "MR")))
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
    one, four = motions
    assert np.array_equal(one.motion.rotation, four.motion.rotation)
    assert np.array_equal(one.motion.translation, four.motion.translation)
    assert np.array_equal(one.image.array, four.image.array) and np.array_equal(one.cover, four.cover)


def test_a_stored_order_of_axes_does_not_matter(data: Dataset, tmp_path: Path) -> None:
    """The same CT with axes stored left, posterior, and slices first."""
    import nibabel as nib

    fixed, moving = both(data)
    stored = nib.load(fixed.path)
    turned = stored.as_reoriented(nib.orientations.axcodes2ornt("SLP"))
    nib.save(turned, tmp_path / "turned.nii.gz")
    other = dataclasses.replace(load_volume(tmp_path / "turned.nii.gz"))
    other = dataclasses.replace(other, array=other.array.astype(np.float32))
    one, two = (register(image, moving, ("CT", "MR")) for image in (fixed, other))
    assert one.motion.rotation == pytest.approx(two.motion.rotation) and two.image.grid.same_as(other.grid)
    assert one.image.array == pytest.approx(two.image.array, abs=1e-2)


def test_files_whose_frames_lie_far_apart(data: Dataset) -> None:
    """Each scanner has an origin of its own: as the files say the images do not meet at all."""
    fixed, moving = both(data)
    far = np.array([900.0, -400.0, 1200.0])
    affine = moving.grid.affine.copy()
    affine[:3, 3] += far
    away = dataclasses.replace(moving, grid=dataclasses.replace(moving.grid, affine=affine))
    found = register(fixed, away, ("CT", "MR")).motion
    expected = true_motion(data, "p000")
    expected = expected._replace(translation=expected.translation + far)
    distance, angle = registration_error(found, expected, body_points(fixed, "CT"))
    assert distance < 1 and angle < 1


# --- what cannot be believed


def test_noise_is_refused(data: Dataset) -> None:
    fixed, moving = both(data)
    noise = dataclasses.replace(moving, array=numpy_rng("noise").normal(100, 20, moving.array.shape).astype(np.float32))
    with pytest.raises(LabError, match="cannot be believed: mutual information .* has no peak.*: pairs, p000"):
        register(fixed, noise, ("CT", "MR"), "pairs, p000")


def test_images_that_do_not_meet_are_refused(data: Dataset) -> None:
    """Of the MR a slab alone, thin and thinner."""
    fixed, moving = both(data)
    for slices, message in ((slice(9, 15), "the images share .*% of the body only"), (slice(9, 12), "minimum of four")):
        array = np.ascontiguousarray(moving.array[:, :, slices])
        affine = moving.grid.affine.copy()
        affine[2, 3] += slices.start * affine[2, 2]
        grid = dataclasses.replace(moving.grid, shape=array.shape, affine=affine)
        with pytest.raises(LabError, match=message):
            register(fixed, dataclasses.replace(moving, array=array, grid=grid), ("CT", "MR"))


def test_a_sheared_affine_and_voxels_without_size(data: Dataset) -> None:
    fixed, moving = both(data)
    affine = fixed.grid.affine.copy()
    affine[0, 1] += 1.5
    sheared = dataclasses.replace(fixed, grid=dataclasses.replace(fixed.grid, affine=affine))
    with pytest.raises(LabError, match="the affine shears"):
        register(sheared, moving, ("CT", "MR"))
    with pytest.raises(LabError, match="needs voxel sizes in mm"):
        register(dataclasses.replace(fixed, unit="voxel"), moving, ("CT", "MR"))


def test_without_simpleitk_it_says_what_to_install(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(LabError, match=r'needs SimpleITK.*pip install "xmod-lab\[registration\]"'):
        register(*both(data), ("CT", "MR"))
