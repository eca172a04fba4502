"""Phantoms: frozen labels and images, training data apart from the truth, no threshold that finds a structure.

After a deliberate change run ``python tests/test_phantoms.py`` to write tests/expected/phantoms.json anew.
"""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from xmod_lab.data import phantoms
from xmod_lab.data.manifest import dataset
from xmod_lab.data.phantoms.common import Subject
from xmod_lab.data.volume import load_image, load_structures, patients
from xmod_lab.errors import LabError

FROZEN = Path(__file__).parent / "expected" / "phantoms.json"
BLOCK = (16, 16)


@functools.cache
def _subject(generator: str, index: int = 0) -> Subject:
    return phantoms.subject(generator, 0, index)


def _block_means(image: np.ndarray) -> list[float]:
    (x, y, z), (a, b) = image.shape, BLOCK
    blocks = image.astype(float).reshape(x // a, a, y // b, b, 2, z // 2).mean(axis=(1, 3, 5))
    return [round(float(v), 2) for v in blocks.ravel()]


def _portrait(made: Subject) -> dict[str, dict[str, object]]:
    """Hashes of the labels and block means of the images."""
    labels = {"images": made.labels, "truth": made.truth_labels}
    images = {"images": made.images, "truth": made.truth}
    return {
        "labels": {f"{part}/{name}": hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
                   for part, arrays in labels.items() for name, array in arrays.items()},
        "means": {f"{part}/{name}": _block_means(array)
                  for part, arrays in images.items() for name, array in arrays.items()},
    }


@pytest.mark.parametrize("generator", phantoms.GENERATORS)
def test_subject_is_frozen(generator):
    expected, found = json.loads(FROZEN.read_text())[generator], _portrait(_subject(generator))
    assert found["labels"] == expected["labels"]
    assert found["means"].keys() == expected["means"].keys()
    for name, means in found["means"].items():
        np.testing.assert_allclose(means, expected["means"][name], atol=1.0, err_msg=name)


@pytest.mark.parametrize("generator", phantoms.GENERATORS)
def test_arrays_are_what_the_manifest_says(generator):
    data, made = dataset(generator), _subject(generator)
    assert data.phantom["generator"] == generator
    assert set(made.images) | set(made.truth) == set(data.modalities)
    for name, image in {**made.truth, **made.images}.items():
        assert image.dtype == np.int16 and image.shape == made.space.shape, name
    for name, label in made.labels.items():
        modality = name or next(iter(data.modalities))
        assert set(np.unique(label)) == {0, *data.label_of(modality).values}, "a structure is missing"
        assert label.dtype == np.uint8 and label.shape == made.space.shape
    centre = made.space.affine @ [*(np.array(made.space.shape) - 1) / 2, 1]
    np.testing.assert_allclose(centre, [0, 0, 0, 1], atol=1e-9)


def test_stripped_brain_is_zero_outside_and_positive_inside():
    images = _subject("brain_tumour").images
    masks = [image != 0 for image in images.values()]
    assert all((mask == masks[0]).all() for mask in masks)
    assert 0.1 < masks[0].mean() < 0.5 and not masks[0][:8].any()
    assert (_subject("brain_tumour").labels[""][~masks[0]] == 0).all()


def test_contrast_agent_lights_up_the_enhancing_tumour_alone():
    made = _subject("brain_tumour")
    label, brain = made.labels[""], made.images["T1"] != 0
    ratio = {part: np.median(made.images["T1Gd"][where]) / np.median(made.images["T1"][where])
             for part, where in (("enhancing", label == 4), ("oedema", label == 2), ("healthy", brain & (label == 0)))}
    assert ratio["enhancing"] > 1.5 * max(ratio["oedema"], ratio["healthy"])
    assert abs(ratio["oedema"] / ratio["healthy"] - 1) < 0.3


def test_files_have_the_layout_and_their_subjects_do_not_depend_on_the_number(tmp_path, monkeypatch):
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    monkeypatch.delenv("XMOD_DATA", raising=False)
    data = dataset("whole_heart")
    folder = phantoms.make(data, subjects=2, jobs=2)
    assert folder == tmp_path / "data" / "whole_heart"
    assert patients(data, "CT") == ["wh000"] and patients(data, "MR") == ["wh001"]
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*.nii.gz")}
    assert files == {"images/wh000/CT.nii.gz", "images/wh000/seg.nii.gz", "images/wh001/MR.nii.gz",
                     "images/wh001/seg.nii.gz", "truth/wh000/MR.nii.gz", "truth/wh001/CT.nii.gz"}
    image = load_image(data, "wh000", "CT")
    np.testing.assert_array_equal(image.array, _subject("whole_heart").images["CT"])
    assert image.spacing == pytest.approx((1.7, 1.7, 5.5))
    assert set(load_structures(data, "wh000", "CT", image)) == {"AA", "LA", "LV", "MYO"}
    np.testing.assert_array_equal(phantoms.truth(data, "wh000", "CT").array, image.array)
    np.testing.assert_array_equal(phantoms.truth(data, "wh000", "MR").array, _subject("whole_heart").truth["MR"])
    stamp = (folder / "images" / "wh000" / "CT.nii.gz").stat().st_mtime_ns
    phantoms.make(data, subjects=2)
    assert (folder / "images" / "wh000" / "CT.nii.gz").stat().st_mtime_ns == stamp, "made what was there"
    assert not list(folder.rglob(".part-*"))


def test_an_interrupted_subject_leaves_no_folder(tmp_path, monkeypatch):
    from xmod_lab.data import volume

    def fails(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(volume, "save_nifti", fails)
    with pytest.raises(KeyboardInterrupt):
        phantoms.make(dataset("cardiac_mr"), tmp_path, subjects=1)
    assert not list(tmp_path.rglob("*.nii.gz")) and not list(tmp_path.rglob(".part-*"))
    assert not (tmp_path / "images" / "cm000").exists()


def test_true_images_equal_the_readable_ones_where_nothing_moved():
    made = _subject("cardiac_mr")
    assert "bSSFP" not in made.truth and set(made.truth) == {"LGE", "T2"}
    np.testing.assert_array_equal(made.truth_labels["LGE"], made.labels["bSSFP"])
    assert (made.labels["LGE"] != made.labels["bSSFP"]).any()


def test_recorded_motion_carries_the_true_mr_onto_the_displaced_one():
    from scipy.ndimage import map_coordinates

    made = _subject("head_ct_mr")
    motion = made.record["motion"]
    about = np.radians(motion["rotation_degrees"])
    (a, b, c), (d, e, f) = np.cos(about), np.sin(about)
    turn = (np.array([[c, -f, 0], [f, c, 0], [0, 0, 1]]) @ np.array([[b, 0, e], [0, 1, 0], [-e, 0, b]])
            @ np.array([[1, 0, 0], [0, a, -d], [0, d, a]]))
    affine, back = made.space.affine, np.linalg.inv(made.space.affine)
    voxels = np.stack(np.meshgrid(*(np.arange(n) for n in made.space.shape), indexing="ij")).reshape(3, -1)
    world = affine[:3, :3] @ voxels + affine[:3, 3:]
    there = turn @ world + np.array(motion["translation_mm"])[:, None]
    moved = back[:3, :3] @ there + back[:3, 3:]

    def seen(image: np.ndarray, order: int) -> np.ndarray:
        return map_coordinates(image.astype(float), moved, order=order, mode="nearest").reshape(image.shape)

    still = made.truth["MR"].astype(float)
    inside = (slice(16, -16), slice(16, -16), slice(5, -5))
    before = np.corrcoef(made.images["MR"][inside].ravel(), still[inside].ravel())[0, 1]
    after = np.corrcoef(seen(made.images["MR"], 1)[inside].ravel(), still[inside].ravel())[0, 1]
    assert after > 0.93 and after > before + 0.1
    brought, true = seen(made.labels["MR"], 0) == 2, made.truth_labels["MR"] == 2
    assert 2 * (brought & true).sum() / (brought.sum() + true.sum()) > 0.85
    np.testing.assert_array_equal(made.truth_labels["MR"], made.labels["CT"])


def _best_threshold(values: np.ndarray, inside: np.ndarray) -> float:
    """Highest Dice of {value > t} or {value < t} over all t."""
    order = np.argsort(values)
    below, size = np.cumsum(inside[order]), np.arange(1, len(values) + 1)
    total = below[-1]
    return float(max((2 * below / (size + total)).max(), (2 * (total - below) / (len(values) - size + total)).max()))


def test_best_threshold_of_a_known_case():
    values, inside = np.array([0.0, 1.0, 2.0, 3.0]), np.array([False, False, True, True])
    assert _best_threshold(values, inside) == 1.0
    assert _best_threshold(values, np.array([False, True, False, True])) == pytest.approx(0.8)


POOLED = {"brain_tumour": 5}
"""subjects that share one threshold: a single large tumour is bright enough in FLAIR, tumours in general are not"""


@pytest.mark.parametrize("generator", phantoms.GENERATORS)
def test_no_threshold_finds_a_structure(generator):
    from xmod_lab.data.recipes import foreground, recipe_of

    data, task = dataset(generator), dataset(generator).task()
    subjects = [_subject(generator, index) for index in range(POOLED.get(generator, 1))]
    for name, modality in data.modalities.items():
        raw, normal, values = [], [], []
        for made in subjects:
            image = made.truth[name] if name in made.truth else made.images[name]
            label = made.truth_labels.get(name, made.labels.get("", made.labels.get(name)))
            body = foreground(image.astype(np.float32), recipe_of(task), modality.kind)
            raw.append(image[body].astype(float))
            normal.append((raw[-1] - raw[-1].mean()) / raw[-1].std())
            values.append(label[body])
        for cls, members in task.classes.items():
            listed = [value for value, structure in data.label_of(name).values.items() if structure in members]
            inside = np.isin(np.concatenate(values), listed)
            for kind in (raw, normal):
                assert _best_threshold(np.concatenate(kind), inside) < 0.6, f"{cls} in {name}"


def test_bad_requests_are_named():
    with pytest.raises(LabError, match="no phantom generator 'brain'.*brain_tumour"):
        phantoms.subject("brain", 0, 0)
    with pytest.raises(LabError, match="'lgg' is not a phantom.*data fetch lgg"):
        phantoms.make(dataset("lgg"))
    with pytest.raises(LabError, match="no phantom generator 'nobody': abdomen.phantom"):
        phantoms.make(dataset("abdomen").model_copy(update={"phantom": {"generator": "nobody", "subjects": 1}}))


if __name__ == "__main__":
    FROZEN.parent.mkdir(exist_ok=True)
    lines = {name: _portrait(_subject(name)) for name in phantoms.GENERATORS}
    FROZEN.write_text(json.dumps(lines, sort_keys=True, separators=(",", ":")) + "\n")
