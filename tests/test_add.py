"""Readers' own folders: every layout that is recognised, every reason to refuse one."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_folders import image, label, three, write

from xmod_lab import files
from xmod_lab.data.add import add
from xmod_lab.data.manifest import dataset, user_manifest
from xmod_lab.data.volume import load_image, load_structures, patients, save_nifti
from xmod_lab.errors import LabError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XMOD_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "home"


def test_a_folder_per_patient(tmp_path: Path) -> None:
    data, report = add(three(tmp_path / "My scans"))
    assert data.key == "my_scans" and data.folder == tmp_path / "My scans"
    assert {name: m.pattern for name, m in data.modalities.items()} == {
        "flair": "{patient}/flair.nii.gz", "t1": "{patient}/t1.nii.gz"}  # fmt: skip
    assert data.label is not None and data.label.values == {1: "label"}
    assert (data.relation, data.unit, data.demonstration) == ("registered", "mm", True)
    task = data.task()
    assert (task.labelled, task.classes, task.split.folds) == (["flair", "t1"], {"label": ["label"]}, 3)
    assert [patient.patient for patient in report.patients] == ["p0", "p1", "p2"]
    # it is a data set like any other, read where it lies
    again = dataset("my_scans")
    volume = load_image(again, "p1", "t1")
    np.testing.assert_array_equal(volume.array, image(1)[::-1, ::-1])
    assert load_structures(again, "p1", "t1", like=volume)["label"].sum() == 24
    assert str(tmp_path / "My scans") in user_manifest().read_text()


def test_the_layouts(tmp_path: Path) -> None:
    brats = write(tmp_path / "brats", a__a_t1=image(), a__a_seg=label(1, 2, 4), b__b_t1=image(), b__b_seg=label(1))
    data, _ = add(brats)
    assert data.modalities["t1"].pattern == "{patient}/{patient}_t1.nii.gz"
    assert data.label is not None and data.label.values == {1: "label_1", 2: "label_2", 4: "label_4"}

    flat = write(tmp_path / "flat", **{f"pat_{n}_{m}": image(n) for n in range(3) for m in ("t1", "t2")},
                 **{f"pat_{n}_seg": label(1) for n in range(3)})  # fmt: skip
    data, _ = add(flat)
    assert sorted(data.modalities) == ["t1", "t2"] and patients(data, "t1") == ["pat_0", "pat_1", "pat_2"]

    first = write(tmp_path / "first", **{f"image_{n}": image(n) for n in range(3)},
                  **{f"label_{n}": label(1, 2) for n in range(3)})  # fmt: skip
    data, _ = add(first)
    assert data.modalities["image"].pattern == "image_{patient}.nii.gz" and data.relation == "independent"

    own = write(tmp_path / "own", p__t1=image(), p__t1_label=label(1, 2), p__ct=image() - 1000, p__ct_label=label(1))
    data, _ = add(own)
    assert data.label is None and data.label_of("ct").values == {1: "label_1"}
    assert data.modalities["ct"].kind == "CT" and data.modalities["t1"].kind == "MR"


def test_a_modality_named_with_a_plus(tmp_path: Path) -> None:
    """A plus joins modalities in the manifest, so the name gets an underscore; the file keeps its own."""
    place = tmp_path / "plus"
    for n in range(3):
        for name, array in {"t1": image(n), "t1+c": image(n + 1), "seg": label(1)}.items():
            save_nifti(place / f"p{n}" / f"{name}.nii.gz", array, np.diag([-1.0, -1.0, 2.0, 1.0]))
    data, _ = add(place)
    assert sorted(data.modalities) == ["t1", "t1_c"] and data.modalities["t1_c"].pattern == "{patient}/t1+c.nii.gz"
    assert load_image(data, "p0", "t1_c").array.shape


def test_nnunet(tmp_path: Path) -> None:
    root = tmp_path / "Dataset001"
    for n in range(2):
        write(root / "imagesTr", **{f"case_{n}_0000": image(n), f"case_{n}_0001": image(n + 5)})
        write(root / "labelsTr", **{f"case_{n}": label(1, 2)})
    (root / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "liver": 1, "spleen": 2}})
    )
    data, _ = add(root, key="abdomens")
    assert {name: m.pattern for name, m in data.modalities.items()} == {
        "T1": "imagesTr/{patient}_0000.nii.gz", "T2": "imagesTr/{patient}_0001.nii.gz"}  # fmt: skip
    assert data.label is not None and data.label.values == {1: "liver", 2: "spleen"}
    assert patients(data, "T1") == ["case_0", "case_1"]


@pytest.mark.parametrize("names", [("MRI", "MRI"), ("T2 w", "T2-w"), ("MRI", "MRI ")])
def test_channels_of_one_name_are_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    write(tmp_path / "imagesTr", a_0000=image(), a_0001=image(1))
    write(tmp_path / "labelsTr", a=label(1))
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": dict(zip("01", names, strict=True))}))
    message = r"\*_0000.nii.gz and .*_0001.nii.gz are both called|two of the names MRI, MRI_ differ in signs only"
    with pytest.raises(LabError, match=message):
        add(tmp_path, key="twins")


def test_what_the_files_tell(tmp_path: Path) -> None:
    ct = write(tmp_path / "ct", p__scan=image() - 1000, p__seg=label(1))
    assert add(ct)[0].modalities["scan"].kind == "CT"
    assert add(ct, key="forced", kind="MR")[0].modalities["scan"].kind == "MR"
    assert add(ct, key="named", label="seg")[0].label is not None

    lost = tmp_path / "lost"
    save_nifti(lost / "p/t1.nii.gz", image(), np.eye(4))
    save_nifti(lost / "p/seg.nii.gz", label(1), np.eye(4))
    assert add(lost)[0].unit == "voxel"

    other = write(tmp_path / "other", p__t1=image(), p__t1_seg=label(1), p__t2=image(shape=(5, 6, 5)),
                  p__t2_seg=label(1, shape=(5, 6, 5)))  # fmt: skip
    assert add(other)[0].relation == "same_subject"

    many = tmp_path / "many"
    for n in range(8):
        write(many, **{f"p{n}__t1": image(n), f"p{n}__t2": image(n), f"p{n}__seg": label(1)})
    data, _ = add(many)
    assert not data.demonstration and data.task().one_modality_per_patient


def test_other_patients_in_the_layout_of_a_known_set(tmp_path: Path) -> None:
    for n in range(2):
        scans = {f"P{n}__{m}": image(n) for m in ("t1", "flair", "t1gd")}
        write(tmp_path / "more", **scans, **{f"P{n}__mask": label(1)})
    data, _ = add(tmp_path / "more", like="lgg")
    assert data.orientation == "LAS" and data.unit == "voxel" and sorted(data.tasks) == sorted(dataset("lgg").tasks)
    assert data.access == "own" and not data.files and patients(data, "FLAIR") == ["P0", "P1"]


def refused(folder: Path, message: str, **options: Any) -> None:
    with pytest.raises(LabError, match=message):
        add(folder, **options)
    assert not user_manifest().exists()


def test_bad_folders_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    refused(tmp_path / "gone", "the folder is missing")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", r"no NIfTI files in a layout that is known: .*empty \(see the layouts")
    refused(three(tmp_path / "lgg"), r"the key 'lgg' is taken \(choose another key, as with --key\)")
    refused(write(tmp_path / "a", p__t1=image()), r"no label file was found: .*\(name it with --label; .* are t1\)")
    refused(write(tmp_path / "b", p__seg=label(1)), "only label files were found, no image")
    two = write(tmp_path / "c", p__t1=image(), p__seg=label(1), p__mask=label(1))
    refused(two, r"several files may be the label: mask, seg: .*name one with --label")
    refused(two, r"no file is called 'gt': .*the names are mask, seg, t1", label="gt")
    refused(write(tmp_path / "d", p__t1=image(), p__seg=label()), "label files hold 0 values beside 0")
    refused(write(tmp_path / "e", p__t1=image(), p__seg=image()), "values that are not whole numbers: .*seg.nii.gz")
    refused(write(tmp_path / "f", scan=image()), "name has no '_' between patient and modality")
    write(tmp_path / "g/imagesTr", scan=image())
    refused(tmp_path / "g", "name does not end in a channel number")
    mixed = write(tmp_path / "h", p__p_t1=image(), q__t1=image())
    refused(mixed, r"t1.nii.gz is named unlike \{patient\}/\{patient\}_t1")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p1__t1": image() * np.nan}, "not added, image holds NaN or infinite values: .*p1/t1.nii.gz"),
        ({"p1__t1": image() * 0}, r"not added, image is constant \(0 everywhere\): .*p1/t1.nii.gz"),
        ({"p1__t1": image(shape=(5, 6, 7))}, r"not added, label grid \(5, 6, 4\) differs from its image's \(5, 6, 7\)"),
        ({"p1__mask": label(1, shape=(5, 6, 7))}, r"not added, label grid \(5, 6, 7\) differs from .* \(5, 6, 4\)"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, change: dict[str, np.ndarray], message: str) -> None:
    refused(write(three(tmp_path / "scans"), **change), message)


def test_truncated_and_missing_files_are_refused(tmp_path: Path) -> None:
    folder = three(tmp_path / "scans")
    whole = (folder / "p2/t1.nii.gz").read_bytes()
    (folder / "p2/t1.nii.gz").write_bytes(whole[:300])
    refused(folder, r"cannot be read as NIfTI .*truncated or not an image: .*p2/t1.nii.gz")
    (folder / "p2/t1.nii.gz").write_bytes(whole)
    (folder / "p2/mask.nii.gz").unlink()
    (folder / "p1/mask.nii.gz").unlink()
    refused(folder, r"not added, file is missing: .*p1/mask.nii.gz.*; 2 problems in all")


def test_a_full_disk_leaves_the_users_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(three(tmp_path / "scans"))
    before = user_manifest().read_bytes()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(LabError, match=r"the disk is full: .*user_manifest.yaml \(free some space"):
        add(tmp_path / "scans", key="again")
    assert user_manifest().read_bytes() == before
    assert [path.name for path in user_manifest().parent.iterdir() if path.name.startswith(".part")] == []
