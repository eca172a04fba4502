"""Registration: a known motion comes back, in one convention, the same on any number of threads, and is kept."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from pydantic import ValidationError
from typer.testing import CliRunner

from xmod_lab.data import manifest, phantoms, slicing
from xmod_lab.data import registered as kept
from xmod_lab.data.batches import BatchSource
from xmod_lab.data.cli import app
from xmod_lab.data.manifest import Dataset, dataset
from xmod_lab.data.prepare import Prepared, prepare
from xmod_lab.data.prepare import test_slices as slices_of
from xmod_lab.data.recipes import recipe_of
from xmod_lab.data.register import Rigid, body_points, register, registration_error, rigid_of
from xmod_lab.data.volume import Volume, load_image, load_volume, save_nifti
from xmod_lab.errors import LabError
from xmod_lab.evaluate.runs import test_volumes as volumes_of
from xmod_lab.evaluate.translators import true_slices, true_volume
from xmod_lab.files import write_json, write_text
from xmod_lab.rng import numpy_rng

FIXED, MOVING = ((44, 48, 20), (4.0, 4.0, 6.0)), ((40, 44, 24), (4.5, 4.5, 5.0))
"""grids of CT and MR: shape and spacing (mm), both about the scanner's middle"""
SHIFT = (5.0, -6.0, 4.0)
TURNS = ((6.0, -4.0, 7.0), (-5.0, 3.0, 2.0), (2.0, 6.0, -6.0), (4.0, -2.0, -3.0), (-3.0, -5.0, 5.0), (1.0, 2.0, 6.0))


def affine_of(shape: tuple[int, ...], spacing: tuple[float, ...]) -> np.ndarray:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * s for n, s in zip(shape, spacing, strict=True)]
    return affine


def head(points: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3) mm -> HU and MR signal of a head that looks different from every side."""
    squeeze = 1 + 0.05 * numpy_rng("head", number).uniform(-1, 1, 3)

    def inside(centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
        """0 to 1, the border 4 mm wide."""
        away = np.sqrt((((points * squeeze - centre) / radii) ** 2).sum(1))
        return np.clip(0.5 + (1 - away) * min(radii) / 4, 0, 1)

    hu, signal = np.full(len(points), -1000.0), np.zeros(len(points))
    for where, new_hu, new_signal in (
        (inside((0, 0, 0), (70, 84, 62)), 30.0, 420.0),
        (inside((0, 0, 2), (62, 76, 54)), 1000.0, 40.0),
        (inside((0, 0, 2), (54, 68, 47)), 35.0, 300.0),
        (inside((16, 14, 8), (10, 26, 12)), 5.0, 90.0),
        (inside((-20, 6, 2), (8, 20, 16)), 8.0, 110.0),
        (inside((6, -40, -16), (26, 16, 14)), 45.0, 520.0),
        (inside((0, 66, -22), (16, 18, 14)), -900.0, 5.0),
    ):
        hu, signal = hu + where * (new_hu - hu), signal + where * (new_signal - signal)
    return hu, signal


def write_pair(root: Path, number: int, motion: Rigid) -> None:
    patient = f"p{number:03d}"
    rng = numpy_rng("pair", number)
    for name, (shape, spacing), moved in (("CT", FIXED, False), ("MR", MOVING, True), ("truth", FIXED, False)):
        affine = affine_of(shape, spacing)
        points = np.argwhere(np.ones(shape, bool)) @ affine[:3, :3].T + affine[:3, 3]
        values = head(motion.inverse()(points) if moved else points, number)[name != "CT"].reshape(shape)
        noisy = np.rint(values + rng.normal(0, 8, shape)).astype(np.int16)
        place = root / "truth" / patient / "MR.nii.gz" if name == "truth" else root / patient / f"{name}.nii.gz"
        save_nifti(place, noisy, affine)
    told = {"rotation_degrees": motion.degrees, "translation_mm": motion.translation.tolist()}
    write_json(root / "truth" / patient / "motion.json", told)


def entry(key: str = "pairs", data_fields: dict[str, Any] | None = None, **task: Any) -> dict[str, Any]:
    plain = {
        "title": "Pairs", "licence": "none", "citation": "none", "homepage": "https://example.org",
        "access": "registration", "steps": ["Written by a test."], "relation": "same_subject",
        "modalities": {m: {"kind": m, "pattern": f"{{patient}}/{m}.nii.gz"} for m in ("CT", "MR")},
        "tasks": {"registered": {
            "title": "brought together", "unlabelled": ["CT", "MR"], "tested": ["CT", "MR"], "draw": "paired",
            "one_modality_per_patient": False, "recipe": "rire", "overrides": {"register": "CT"}, **task}},
    }  # fmt: skip
    return {key: plain | (data_fields or {})}


def parsed(**fields: Any) -> Dataset:
    return manifest.parse(yaml.safe_dump(entry(**fields)), "test")["pairs"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dataset]:
    """Six pairs with known motions."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMOD_HOME", str(home))
        for number, turn in enumerate(TURNS):
            write_pair(home / "data" / "pairs", number, rigid_of(turn, np.array(SHIFT) * (-1) ** number))
        write_text(home / "data" / "user_manifest.yaml", yaml.safe_dump(entry()))
        yield dataset("pairs")


@pytest.fixture(scope="module")
def prepared(data: Dataset) -> Prepared:
    return prepare(data, "registered", 32)


def as_phantom(data: Dataset) -> Dataset:
    return data.model_copy(update={"access": "phantom"})


def both(data: Dataset, patient: str = "p000") -> tuple[Volume, Volume]:
    return load_image(data, patient, "CT"), load_image(data, patient, "MR")


def true_motion(data: Dataset, patient: str) -> Rigid:
    found = kept.known_motion(as_phantom(data), patient, "MR", "CT")
    assert found is not None
    return found


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
    found = kept.registered(data, "p000", "MR", "CT")
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
    assert kept.known_motion(phantom, "p000", "CT", "MR").degrees == pytest.approx(  # type: ignore[union-attr]
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


# --- kept


def test_what_was_found_is_kept(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    first = kept.registered(data, "p001", "MR", "CT")
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    again = kept.registered(data, "p001", "MR", "CT")
    assert np.array_equal(first.image.array, again.image.array) and first.about == again.about
    assert again.image.grid.same_as(load_image(data, "p001", "CT").grid)
    assert again.motion.rotation == pytest.approx(rigid_of(*(
        again.about[k] for k in ("rotation_degrees", "translation_mm"))).rotation)


def test_another_file_is_registered_anew(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    calls = []

    def seen(fixed: Volume, moving: Volume, kinds: tuple[str, str], where: str) -> Any:
        calls.append(where)
        return register(fixed, moving, kinds, where)

    monkeypatch.setattr(kept, "register", seen)
    root = tmp_path / "data" / "pairs"
    write_pair(root, 0, rigid_of(TURNS[0], SHIFT))
    own = parsed()
    kept.registered(own, "p000", "MR", "CT")
    write_pair(root, 0, rigid_of(TURNS[1], SHIFT))
    moved = kept.registered(own, "p000", "MR", "CT")
    assert calls == ["pairs, p000, MR to CT"] * 2
    assert registration_error(moved.motion, rigid_of(TURNS[1], SHIFT), np.zeros((1, 3)))[1] < 1
    (root / "p000" / "MR.nii.gz").unlink()
    with pytest.raises(LabError, match="file is missing: .*MR.nii.gz"):
        kept.registered(own, "p000", "MR", "CT")


# --- in a task


def test_pairs_are_drawn_from_registered_slices(data: Dataset, prepared: Prepared) -> None:
    batch = BatchSource(prepared, 8, 0, augment="none").draw(0)
    ct, mr = batch["CT"], batch["MR"]
    assert ct.patient == mr.patient and torch.equal(ct.index, mr.index) and ct.label is None
    assert torch.equal(ct.foreground, mr.foreground), "one body, where both images show something"
    assert prepared.images["CT"].shape == prepared.images["MR"].shape
    registered, plain = (
        slices_of(one, prepared.split.test[0], "MR")[0].image
        for one in (prepared, prepare(parsed(draw="unpaired", overrides={}), None, 32))
    )
    assert registered.shape != plain.shape, "without registration it lies on a grid of its own"


def test_slices_that_the_moving_image_hardly_shows_do_not_train(data: Dataset, prepared: Prepared) -> None:
    cover = kept.registered(data, "p000", "MR", "CT").cover
    slices, geometry, _ = slices_of(prepared, "p000", "CT")
    inside = slices.foreground.numpy()
    shown = geometry.forward(cover, "nearest")
    assert not (inside & ~shown).any()
    own = slicing.body_of(data, prepared.recipe, "p000", "CT", load_image(data, "p000", "CT"))
    body = geometry.forward(own, "nearest")
    part = (body & shown).sum((1, 2)) / np.maximum(body.sum((1, 2)), 1)
    assert (inside.any((1, 2)) == ((part >= slicing.COVERED) & body.any((1, 2)))).all()


def test_the_truth_lies_on_the_fixed_grid(data: Dataset, prepared: Prepared) -> None:
    """Of phantoms the image that truth/ holds, of real data the registered one; the fixed image is its own truth."""
    case, back = (next(volumes_of(prepared, m)) for m in ("CT", "MR"))
    real = true_slices(prepared, case, "MR")
    assert np.array_equal(real, slices_of(prepared, case.patient, "MR")[0].image[:, 0].numpy())
    assert np.array_equal(true_slices(prepared, back, "CT"), slices_of(prepared, back.patient, "CT")[0].image[:, 0])
    phantom = dataclasses.replace(prepared, data=as_phantom(data))
    still = true_slices(phantom, case, "MR")
    assert still is not None and not np.array_equal(still, real)
    assert np.corrcoef(still.ravel(), real.ravel())[0, 1] > 0.9
    volume = true_volume(phantom.data, case.patient, "CT", "MR", "CT")
    assert volume is not None and volume.path.parent.parent.name == "truth"
    assert true_volume(phantom.data, case.patient, "MR", "CT") is None, "without registration nobody knows"
    assert true_volume(phantom.data, case.patient, "CT", "CT", "MR") is None, "nor what lies where the MR went"


def test_a_patient_without_the_fixed_image_is_left_out(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6):
        for name in ("CT", "MR"):
            target = tmp_path / "data" / "pairs" / f"p{number:03d}" / f"{name}.nii.gz"
            if (number, name) != (3, "CT"):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.symlink_to(data.folder / target.parent.name / target.name)
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    from xmod_lab.data.prepare import dealt

    parts = dealt(parsed(), "registered")
    assert "p003" not in [*parts.test, *parts.train["CT"], *parts.train["MR"], *parts.val["CT"], *parts.val["MR"]]


def test_what_was_prepared_before_there_was_registration_stays_good(data: Dataset, prepared: Prepared) -> None:
    plain = prepare(parsed(draw="unpaired", overrides={}), None, 32)
    made_from = json.loads((plain.folder / "made_from.json").read_text())
    assert "register" not in made_from["recipe"] and "rules" not in made_from["recipe"]
    assert json.loads((prepared.folder / "made_from.json").read_text())["recipe"]["register"] == "CT"


@pytest.mark.parametrize(("changes", "message"), [
    ({"overrides": {"register": "PET"}}, "unknown modality 'PET', known are"),
    ({"overrides": {}}, "paired needs relation 'registered', not 'same_subject', or overrides that register"),
    ({"data_fields": {"relation": "registered"}}, "needs relation 'same_subject', not 'registered'"),
    ({"data_fields": {"unit": "voxel"}}, "needs files that tell where they lie"),
    ({"data_fields": {"orientation": "LAS"}}, "needs files that tell where they lie"),
    ({"data_fields": {"label": {"pattern": "{patient}/seg.nii.gz", "values": {1: "skull"}}}, "labelled": ["CT"],
      "unlabelled": ["MR"], "classes": {"skull": ["skull"]}}, "a task without classes: labels are not moved"),
])  # fmt: skip
def test_tasks_that_cannot_register(changes: dict[str, Any], message: str) -> None:
    with pytest.raises((LabError, ValidationError), match=message):
        parsed(**changes)


def test_the_recipes_field_is_checked(data: Dataset) -> None:
    task = data.task("registered")
    assert recipe_of(task).register == "CT"
    with pytest.raises(LabError, match="recipe field 'register' cannot be 3"):
        recipe_of(task.model_copy(update={"overrides": {"register": 3}}))


# --- the command


def test_the_command_prints_a_row_a_patient(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "found.csv"
    done = CliRunner().invoke(app, ["register", "pairs", "--out", str(out)])
    assert done.exit_code == 0, done.output
    rows = pd.read_csv(out)
    assert list(rows["patient"]) == [f"p{n:03d}" for n in range(6)] and "error_mm" not in rows
    true = true_motion(data, "p002")
    assert rows.loc[2, ["turn_x", "turn_y", "turn_z"]].tolist() == pytest.approx(true.degrees, abs=1)
    assert rows.loc[2, ["shift_x", "shift_y", "shift_z"]].tolist() == pytest.approx(true.translation, abs=1)
    found = pd.DataFrame(kept.registrations(as_phantom(data), data.task("registered")))
    assert found["error_mm"].max() < 1 and found["error_degrees"].max() < 1
    with pytest.raises(LabError, match=r"does not register.*choose one of registered"):
        list(kept.registrations(data, parsed(draw="unpaired", overrides={}).task()))


# --- the real phantom


def test_two_heads_of_the_phantom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    data = dataset("head_ct_mr")
    phantoms.make(data, subjects=2, progress=False)
    rows = pd.DataFrame(kept.registrations(data, data.task("registered")))
    assert len(rows) == 2 and rows["error_mm"].max() < 1 and rows["error_degrees"].max() < 1
