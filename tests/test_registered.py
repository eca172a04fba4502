"""Registered images are kept, and a task that registers has pairs, a truth and a command that lists the motions."""

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
from pydantic import ValidationError
from typer.testing import CliRunner

from tests.registering import SHIFT, TURNS, as_phantom, pairs_at_home, parsed, true_motion, write_pair
from xmod_lab.data import phantoms, slicing
from xmod_lab.data import registered as kept
from xmod_lab.data.batches import BatchSource
from xmod_lab.data.cli import app
from xmod_lab.data.manifest import Dataset, dataset
from xmod_lab.data.prepare import Prepared, dealt, prepare
from xmod_lab.data.prepare import test_slices as slices_of
from xmod_lab.data.recipes import recipe_of
from xmod_lab.data.register import register, registration_error, rigid_of
from xmod_lab.data.volume import Volume, load_image
from xmod_lab.errors import LabError
from xmod_lab.evaluate.runs import test_volumes as volumes_of
from xmod_lab.evaluate.translators import true_slices, true_volume


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dataset]:
    yield from pairs_at_home(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def prepared(data: Dataset) -> Prepared:
    return prepare(data, "registered", 32)


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
