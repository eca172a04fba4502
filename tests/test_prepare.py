"""Prepared arrays: what is in them, what they depend on, and what they never touch."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import make_tiny

from xmod_lab.data import manifest
from xmod_lab.data import prepare as prep
from xmod_lab.data.volume import file_of, label_paths, load_image, patients, save_nifti
from xmod_lab.errors import LabError


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    return tmp_path


def test_arrays_and_rows(home: Path) -> None:
    data = make_tiny(home, patients=16)
    prepared = prep.prepare(data, None, 32)
    split = prepared.split
    assert not split.demonstration
    for modality in ("A", "B"):
        images, index = prepared.images[modality], prepared.index[modality]
        people = {*split.train[modality], *split.val[modality]}
        assert images.shape == (6 * len(people), 32, 32) and images.dtype == np.float16
        assert set(index["patient"]) == people  # nobody else's slices are even on disk
        assert images.min() >= -1 and images.max() <= 1
        assert not isinstance(images, np.ndarray) or not images.flags.writeable
        train, val = prepared.rows(modality, "train"), prepared.rows(modality, "val")
        assert set(index["patient"][train]) == set(split.train[modality])
        assert set(index["patient"][val]) == set(split.val[modality])
        assert len(val) == 6 * len(split.val[modality])
    assert list(prepared.labels) == ["A"]
    assert set(np.unique(prepared.labels["A"])) == {0, 1, 2}
    assert prepared.classes == ["core", "rim"] and prepared.n_classes == 3 and prepared.channels == 1
    assert prepared.labelled == ["A"] and prepared.modalities == ["A", "B"] and prepared.value_range == (-1, 1)


def test_little_foreground_is_left_out_of_training_only(home: Path) -> None:
    data = make_tiny(home, patients=16, overrides={"drop_below": 0.45})
    prepared = prep.prepare(data, None, 32)
    index = prepared.index["A"]
    train, val = prepared.rows("A", "train"), prepared.rows("A", "val")
    dropped = np.isin(index["patient"], prepared.split.train["A"]) & (index["foreground"] < 0.45)
    assert dropped.any() and not dropped[train].any()
    assert (index["foreground"][val] < 0.45).any()
    slices, geometry, _ = prep.test_slices(prepared, prepared.split.test[0], "B")
    assert len(slices.image) == geometry.slices == 6


def test_slices_lie_where_the_volume_says(home: Path) -> None:
    """Image, label and foreground of a row belong to the same place of the patient's volume."""
    data = make_tiny(home, patients=16, noise=0.0)
    prepared = prep.prepare(data, None, 40)
    labels, images = np.asarray(prepared.labels["A"]), np.asarray(prepared.images["A"])
    core, body = images[labels == 1], images[(labels == 0) & (np.asarray(prepared.foregrounds["A"]) == 1)]
    assert np.median(core) > np.median(body) + 0.1
    assert not (labels > 0)[np.asarray(prepared.foregrounds["A"]) == 0].any()


def test_test_slices_equal_what_training_would_see(home: Path) -> None:
    data = make_tiny(home, patients=16)
    prepared = prep.prepare(data, None, 32)
    patient = prepared.split.train["B"][0]
    slices, _, volume = prep.test_slices(prepared, patient, "B")
    rows = prepared.index["B"]["patient"] == patient
    assert torch.equal(slices.image[:, 0], torch.from_numpy(np.asarray(prepared.images["B"][rows], np.float32)))
    assert slices.label is None and slices.index.tolist() == list(range(6)) and set(slices.patient) == {patient}
    assert volume.spacing == (1.0, 1.5, 3.0)


def test_truth_is_on_the_canonical_grid(home: Path) -> None:
    data = make_tiny(home, patients=8, classes={"whole": ["core", "rim"]})
    prepared = prep.prepare(data, None, 32)
    patient = prepared.split.test[0]
    truth = prep.truth_labels(prepared, patient, "B")
    assert truth.shape == (24, 20, 6) and set(np.unique(truth)) == {0, 1}
    _, geometry, _ = prep.test_slices(prepared, patient, "B")
    small = geometry.forward(truth, "nearest")
    back = geometry.labels(np.stack([small == 0, small == 1], axis=1).astype(np.float32))
    assert 2 * (back & truth).sum() / (back.sum() + truth.sum()) > 0.97


@pytest.mark.parametrize("poison", [b"\x00" * 7, b"noise" * 4000, b"\x1f\x8b broken gzip"])
def test_labels_of_unlabelled_modalities_are_never_touched(home: Path, monkeypatch: pytest.MonkeyPatch,
                                                           poison: bytes) -> None:
    """Noise, a truncated file, even no file at all: the same key and the same bytes from an empty cache."""
    data = make_tiny(home, patients=16)
    first = prep.prepare(data, None, 32)
    monkeypatch.setenv("XMOD_DATA", str(home / "data"))
    monkeypatch.setenv("XMOD_HOME", str(home / "other"))  # an empty cache
    for number, path in enumerate(sorted(data.folder.glob("*/B_seg.nii.gz"))):
        if number % 4 == 3:
            path.unlink()
        else:
            path.write_bytes(poison)
    again = prep.prepare(data, None, 32)
    assert again.folder != first.folder and again.key == first.key and again.split == first.split
    for modality in ("A", "B"):
        assert (again.images[modality] == first.images[modality]).all()
        assert (again.index[modality] == first.index[modality]).all()
    assert (again.labels["A"] == first.labels["A"]).all()
    with pytest.raises(LabError, match="cannot be read as NIfTI|file is missing"):
        prep.truth_labels(again, again.split.test[0], "B")


def test_labels_of_a_labelled_modality_do_count(home: Path) -> None:
    data = make_tiny(home, patients=16)
    first = prep.prepare(data, None, 32)
    os.utime(label_paths(data, first.split.train["A"][0], "A")[0], ns=(1, 1))
    assert prep.prepare(data, None, 32).key != first.key


def test_labels_of_test_patients_are_not_read_either(home: Path) -> None:
    data = make_tiny(home, patients=16)
    patient = prep.prepare(data, None, 32).split.test[0]
    label_paths(data, patient, "A")[0].write_bytes(b"broken")
    prep.prepare(data, None, 24)


def test_the_cache_is_used_and_survives_an_interrupted_build(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_tiny(home, patients=16)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prep.np, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            prep.prepare(data, None, 32)
    assert not [p for p in (home / "cache" / "prepared").iterdir() if p.is_dir()]
    prep.prepare(data, None, 32)
    monkeypatch.setattr(prep, "_build", stop)
    prep.prepare(data, None, 32)  # from the cache


def test_two_at_once_build_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = make_tiny(home, patients=16)
    built = []
    build = prep._build

    def counted(*arguments: Any) -> None:
        built.append(1)
        build(*arguments)

    monkeypatch.setattr(prep, "_build", counted)
    with ThreadPoolExecutor(3) as pool:
        keys = {prepared.key for prepared in pool.map(lambda _: prep.prepare(data, None, 32), range(3))}
    assert len(keys) == 1 and len(built) == 1


def test_swap_keeps_the_patients_and_changes_the_labels(home: Path) -> None:
    """Target only is compared with source only: the same people train, validate and test, in the same modality."""
    data = make_tiny(home, patients=16)
    plain, swapped = prep.prepare(data, None, 32), prep.prepare(data, None, 32, swap=True)
    assert swapped.split == plain.split
    assert list(plain.labels) == ["A"] and list(swapped.labels) == ["B"]
    assert swapped.task.labelled == ["B"] and swapped.task.unlabelled == ["A"]
    assert (swapped.images["B"] == plain.images["B"]).all()
    joint = make_tiny(home, patients=16, key="joint", labelled=["A", "B"], unlabelled=[])
    with pytest.raises(LabError, match="has no unlabelled modality to train on"):
        prep.prepare(joint, None, 32, swap=True)


def test_subjects_limits_the_patients(home: Path) -> None:
    registered = make_tiny(home, patients=16)
    prepared = prep.prepare(registered, None, 32, subjects=8)
    people = {p for part in (prepared.split.train, prepared.split.val) for names in part.values() for p in names}
    assert people | set(prepared.split.test) == {f"p{i:03d}" for i in range(8)}
    assert prepared.available["A"] == [f"p{i:03d}" for i in range(8)]
    independent = make_tiny(home, patients=24, relation="independent", key="apart")
    prepared = prep.prepare(independent, None, 32, subjects=10)
    assert [len(names) for names in prepared.available.values()] == [5, 5]
    with pytest.raises(LabError, match="subjects must be at least 1"):
        prep.prepare(registered, None, 32, subjects=0)


def test_registered_modalities_share_their_crop(home: Path) -> None:
    data = make_tiny(home, patients=8, draw="paired", one_modality_per_patient=False)
    extra = home / "data" / "tiny" / "p000" / "B.nii.gz"
    image = load_image(data, "p000", "B")
    moved = np.where(np.arange(24)[:, None, None] < 6, 300, image.array)  # B alone shows something at the side
    save_nifti(extra, image.to_native(moved.astype(np.int16)), np.diag([1.0, 1.5, 3.0, 1.0]))
    prepared = prep.prepare(data, None, 32)
    boxes = [prep.test_slices(prepared, "p000", m)[1].box for m in ("A", "B")]
    assert boxes[0] == boxes[1]


def test_stack_and_neighbours_make_channels(home: Path) -> None:
    data = make_tiny(home, ("A", "B", "C"), patients=12, labelled=["A+C"], unlabelled=[], tested=["A+C"],
                     stack=["A", "C"], one_modality_per_patient=False, neighbours=3)
    prepared = prep.prepare(data, None, 24)
    assert prepared.channels == 6 and prepared.images["A+C"].shape[1:] == (24, 24, 2)
    slices, _, _ = prep.test_slices(prepared, prepared.split.test[0], "A+C")
    image = slices.image
    assert image.shape == (6, 6, 24, 24)
    for offset in (0, 3):  # a modality's three neighbours lie side by side, clamped at the ends
        assert torch.equal(image[1:, offset], image[:-1, offset + 1])
        assert torch.equal(image[:-1, offset + 2], image[1:, offset + 1])
        assert torch.equal(image[0, offset], image[0, offset + 1])
        assert torch.equal(image[-1, offset + 2], image[-1, offset + 1])
    assert not torch.equal(image[:, 1], image[:, 4])


def test_bad_input_is_named(home: Path) -> None:
    data = make_tiny(home, patients=16)
    prepared = prep.prepare(data, None, 32)
    patient = prepared.split.train["A"][0]
    image_path, label_path = data.folder / patient / "A.nii.gz", label_paths(data, patient, "A")[0]
    good = image_path.read_bytes()
    save_nifti(label_path, np.zeros((24, 20, 5), np.uint8), np.diag([1.0, 1.5, 3.0, 1.0]))
    with pytest.raises(LabError, match=r"label grid \(24, 20, 5\) differs from its image's \(24, 20, 6\)"):
        prep.prepare(data, None, 32)
    save_nifti(label_path, np.full((24, 20, 6), 7, np.uint8), np.diag([1.0, 1.5, 3.0, 1.0]))
    with pytest.raises(LabError, match="label value 7 is not in the manifest.*A_seg.nii.gz"):
        prep.prepare(data, None, 32)
    image_path.write_bytes(good[:200])
    with pytest.raises(LabError, match="cannot be read as NIfTI.*A.nii.gz"):
        prep.prepare(data, None, 32)
    save_nifti(image_path, np.full((24, 20, 6), np.nan, np.float32), np.diag([1.0, 1.5, 3.0, 1.0]))
    with pytest.raises(LabError, match="NaN or infinite"):
        prep.prepare(data, None, 32)
    save_nifti(image_path, np.full((24, 20, 6), 3, np.int16), np.diag([1.0, 1.5, 3.0, 1.0]))
    with pytest.raises(LabError, match="image is constant"):
        prep.prepare(data, None, 32)
    for path in data.folder.glob("*/B.nii.gz"):
        path.unlink()
    with pytest.raises(LabError, match="modality 'B' of data set 'tiny' has no files"):
        prep.prepare(data, None, 32)


REAL = ("lgg", "brats13", "open_ms", "tcga_lgg", "chaos_t2", "ct_abdomen")


@pytest.mark.parametrize("key", REAL)
def test_real_volumes(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = os.environ.get("XMOD_DATA")
    if not root or not (Path(root) / key).is_dir():
        pytest.skip(f"XMOD_DATA does not name a folder that holds {key}")
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    data = manifest.dataset(key)
    prepared = prep.prepare(data, None, 48, subjects=12 if key == "lgg" else 3)
    assert prepared.split.test and all(len(prepared.rows(m, "train")) > 5 for m in prepared.modalities)
    assert prepared.split.demonstration == (key != "lgg")
    for modality in prepared.modalities:
        body = np.asarray(prepared.foregrounds[modality])[prepared.rows(modality, "train")]
        assert 0.15 < body.mean() < 0.9
        inside = np.asarray(prepared.images[modality])[prepared.rows(modality, "train")][body > 0].astype(np.float32)
        assert inside.std() > 0.05 and np.isfinite(inside).all()
        assert set(np.unique(prepared.labels[modality])) <= set(range(prepared.n_classes))
        assert prepared.labels[modality].any()
    modality = prepared.task.tested[0]
    patient = next(p for p in prepared.split.test if p in prepared.available[modality])
    truth = prep.truth_labels(prepared, patient, modality)
    slices, geometry, volume = prep.test_slices(prepared, patient, modality)
    assert truth.shape == volume.array.shape and len(slices.image) == geometry.slices
    small = geometry.forward(truth, "nearest")
    onehot = np.stack([small == c for c in range(prepared.n_classes)], axis=1).astype(np.float32)
    back = geometry.labels(onehot) > 0
    assert 2 * (back & (truth > 0)).sum() / (back.sum() + (truth > 0).sum()) > 0.5  # 48 pixels: small lesions suffer


def test_brats13_uses_its_brain_mask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = os.environ.get("XMOD_DATA")
    if not root or not (Path(root) / "brats13").is_dir():
        pytest.skip("XMOD_DATA does not name a folder that holds brats13")
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    data = manifest.dataset("brats13")
    patient = patients(data, "FLAIR")[0]
    assert data.foreground and file_of(data, patient, data.foreground).is_file()
    prepared = prep.prepare(data, None, 48, subjects=2)
    slices, _, _ = prep.test_slices(prepared, patient, "FLAIR")
    assert (slices.image[:, 0][~slices.foreground] < 0.2).float().mean() > 0.99
    assert slices.image[0].unique().tolist() == [-1.0]  # the lowest slice holds no brain
