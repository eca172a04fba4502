"""Folders of NIfTI masks against a folder of truth or a data set: what is matched, and each refusal's message."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from xmod_lab.data.manifest import Dataset, dataset
from xmod_lab.data.volume import load_image, load_structures, patients, save_nifti
from xmod_lab.errors import LabError
from xmod_lab.evaluate import evaluate_folder, score_labels, score_mask
from xmod_lab.evaluate.folder import find_masks

SHAPE = (8, 9, 6)
AFFINE = np.diag([-1.0, -1.0, 2.5, 1.0])  # LPS: reading turns two axes


def labels(seed: int, top: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.integers(1, top + 1, SHAPE) * (rng.random(SHAPE) < 0.3)).astype(np.uint8)


def write(folder: Path, **volumes: np.ndarray) -> Path:
    for name, array in volumes.items():
        save_nifti(folder / f"{name}.nii.gz", array, AFFINE)
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return (write(tmp_path / "pred", ann=labels(0), ben=labels(1)),
            write(tmp_path / "true", ann=labels(2), ben=labels(3)))


def test_folder_against_folder(folders):
    rows = evaluate_folder(*folders, missing="nan")
    assert list(zip(rows["patient"], rows["structure"], strict=True)) == [
        ("ann", "1"), ("ann", "2"), ("ben", "1"), ("ben", "2")]
    expected = score_labels(labels(0), labels(2), {"1": [1], "2": [2]}, (1, 1, 2.5), missing="nan")
    for name, value in expected[1].items():
        assert rows.iloc[1][name] == pytest.approx(value), name
    assert set(rows["unit"]) == {"mm"} and not rows["region"].any()


def test_the_command_line_passes_every_rule_on(folders, tmp_path):
    from typer.testing import CliRunner

    from xmod_lab.cli import app

    empty = write(tmp_path / "empty", ann=np.zeros(SHAPE, np.uint8), ben=labels(1))
    rules = ["--missing", "cap", "--cap", "7.5", "--out", str(tmp_path / "rows.csv")]
    done = CliRunner().invoke(app, ["evaluate", "--predictions", str(empty), "--truth", str(folders[1]), *rules])
    assert done.exit_code == 0, done.output
    rows = pd.read_csv(tmp_path / "rows.csv")
    assert (rows[rows["patient"] == "ann"]["hd"] == 7.5).all() and (rows["hd"] <= 7.5).all()


def test_named_classes_and_unions(folders):
    rows = evaluate_folder(*folders, classes={"core": [1], "whole": [1, 2]}, modality="T2")
    assert list(rows["structure"]) == ["core", "whole"] * 2 and set(rows["modality"]) == {"T2"}
    assert rows.iloc[1]["dice"] == score_mask(labels(0) > 0, labels(2) > 0, (1, 1, 2.5))["dice"]


def test_a_folder_a_patient_with_one_map_or_a_mask_a_structure(folders, tmp_path):
    expected = evaluate_folder(*folders)
    one = tmp_path / "one"
    for seed, patient in enumerate(["ann", "ben"]):
        write(one / patient, anything=labels(seed))
    pd.testing.assert_frame_equal(evaluate_folder(one, folders[1]), expected)
    many = tmp_path / "many"
    for seed, patient in enumerate(["ann", "ben"]):
        nearly_one = np.float32(0.99999997)  # some tools store masks so
        write(many / patient, **{"1": (labels(seed) == 1).astype(np.uint8), "2": (labels(seed) == 2) * nearly_one})
    pd.testing.assert_frame_equal(evaluate_folder(many, folders[1]), expected)


def test_a_single_mask_is_the_structure_it_is_named_for(tmp_path):
    """Where the truth has a mask a structure, a lone spleen.nii.gz is a spleen, and the liver was missed."""
    liver, spleen = labels(0) == 1, labels(0) == 2
    truth, found = tmp_path / "truth", tmp_path / "found"
    write(truth / "ann", liver=liver.astype(np.uint8), spleen=spleen.astype(np.uint8))
    write(found / "ann", spleen=spleen.astype(np.uint8))
    rows = evaluate_folder(found, truth).set_index("structure")
    assert rows.loc["spleen", "dice"] == 1 and rows.loc["spleen", "missing"] == 0
    assert rows.loc["liver", "dice"] == 0 and rows.loc["liver", "missing"] == 1


def test_out_by_suffix(folders, tmp_path):
    rows = evaluate_folder(*folders, out=tmp_path / "rows.csv")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "rows.csv", dtype={"structure": str}, keep_default_na=False,
                                              na_values=["nan"]), rows, check_dtype=False)
    evaluate_folder(*folders, out=tmp_path / "table.md")
    assert "(n=2)" in (tmp_path / "table.md").read_text()


def broken(tmp_path: Path, case: str) -> None:
    """Spoil the pair of folders in one way."""
    pred, true = tmp_path / "pred", tmp_path / "true"
    if case == "no folder":
        pred.rename(tmp_path / "elsewhere")
    elif case == "no files":
        for path in pred.iterdir():
            path.unlink()
    elif case == "no truth":
        (true / "ben.nii.gz").unlink()
    elif case == "no prediction":
        (pred / "ben.nii.gz").unlink()
    elif case == "shape":
        write(pred, ben=labels(1)[:-1])
    elif case == "affine":
        save_nifti(pred / "ben.nii.gz", labels(1), np.diag([1.0, 1.0, 2.5, 1.0]))
    elif case == "value":
        write(pred, ben=labels(1) * 4)
    elif case == "fraction":
        write(pred, ben=labels(1) * np.float32(0.3))
    elif case == "truncated":
        content = (pred / "ben.nii.gz").read_bytes()
        (pred / "ben.nii.gz").write_bytes(content[: len(content) // 2])
    elif case == "twice":
        write(pred / "ben", mask=labels(1))
    elif case == "structure":
        (pred / "ben.nii.gz").unlink()
        write(pred / "ben", liver=labels(1), spleen=labels(1))
    elif case == "empty":
        write(true, ann=labels(2) * 0, ben=labels(3) * 0)


@pytest.mark.parametrize(("case", "message"), [
    ("no folder", r"no such folder: .*pred"),
    ("no files", r"no NIfTI masks: .*pred \(expected <patient>.nii.gz or <patient>/\*.nii.gz\)"),
    ("no truth", r"no true mask for patient 'ben': .*pred/ben.nii.gz"),
    ("no prediction", r"no prediction for patient 'ben': .*\(write an empty mask where nothing was found"),
    ("shape", r"grid \(7, 9, 6\) differs from its truth's \(8, 9, 6\): .*ben.nii.gz"),
    ("affine", r"grid \(8, 9, 6\) differs from its truth's \(8, 9, 6\) in the affine: .*pred/ben.nii.gz"),
    ("value", r"label value 4 is unknown: .*pred/ben.nii.gz \(known are 1 1, 2 2\)"),
    ("fraction", r"mask holds values that are not whole numbers: .*pred/ben.nii.gz"),
    ("truncated", r"cannot be read as NIfTI .*pred/ben.nii.gz \(fetch or copy it again\)"),
    ("twice", r"patient 'ben' has two entries"),
    ("structure", r"no structure 'liver': .*\(known are 1, 2\)"),
    ("empty", r"every true mask is empty"),
])
def test_refusals(folders, tmp_path, case, message):
    broken(tmp_path, case)
    with pytest.raises(LabError, match=message):
        evaluate_folder(*folders)


def test_needs_exactly_one_truth(folders):
    with pytest.raises(LabError, match="either a folder of true masks or a data set"):
        evaluate_folder(folders[0])


def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **change: object) -> Dataset:
    """A data set with values 1, 2, 4 (as BraTS has them), two patients, and a union of two classes."""
    monkeypatch.setenv("XMOD_DATA", str(tmp_path / "data"))
    fields: dict = {
        "key": "toy", "title": "t", "licence": "l", "citation": "c", "homepage": "h", "access": "phantom",
        "phantom": {"n": 2}, "relation": "registered",
        "modalities": {"T1": {"kind": "MR", "pattern": "{patient}/t1.nii.gz"}},
        "label": {"pattern": "{patient}/seg.nii.gz", "values": {1: "NCR", 2: "ED", 4: "ET"}},
        "tasks": {"multi": {"title": "m", "labelled": ["T1"], "tested": ["T1"], "recipe": "r", "default": True,
                            "classes": {"NCR": ["NCR"], "ED": ["ED"], "ET": ["ET"]}, "regions": {"TC": ["NCR", "ET"]}},
                  "whole": {"title": "w", "labelled": ["T1"], "tested": ["T1"], "recipe": "r",
                            "classes": {"WT": ["NCR", "ED", "ET"]}}}}
    for seed, patient in enumerate(["ann", "ben"]):
        write(tmp_path / "data" / "toy" / patient, t1=labels(seed).astype(np.float32), seg=stored(labels(seed, 3)))
    return Dataset(**(fields | change))


def stored(classes: np.ndarray) -> np.ndarray:
    return np.array([0, 1, 2, 4], dtype=np.uint8)[classes]


def test_against_a_data_set(tmp_path, monkeypatch):
    data = toy(tmp_path, monkeypatch)
    pred = write(tmp_path / "pred", ann=labels(7, 3))  # patients may be a part of the data set
    rows = evaluate_folder(pred, data=data)
    assert list(rows["structure"]) == ["NCR", "ED", "ET", "TC"] and list(rows["region"]) == [False] * 3 + [True]
    groups = {"NCR": [1], "ED": [2], "ET": [3], "TC": [1, 3]}
    expected = score_labels(labels(7, 3), labels(0, 3), groups, (1, 1, 2.5))
    assert list(rows["dice"]) == [row["dice"] for row in expected]
    assert list(rows["hd"]) == pytest.approx([row["hd"] for row in expected])
    assert set(rows["modality"]) == {"T1"}


def test_stored_values_and_another_task(tmp_path, monkeypatch):
    data = toy(tmp_path, monkeypatch)
    perfect = write(tmp_path / "pred", ann=stored(labels(0, 3)))
    assert (evaluate_folder(perfect, data=data, stored_values=True)["dice"] == 1).all()
    assert (evaluate_folder(perfect, data=data, task="whole", stored_values=True)["dice"] == 1).all()
    with pytest.raises(LabError, match=r"label value 4 is unknown: .*\(known are 1 NCR, 2 ED, 3 ET\)"):
        evaluate_folder(perfect, data=data)
    whole = write(tmp_path / "whole", ann=(labels(0, 3) > 0).astype(np.uint8))
    assert list(evaluate_folder(whole, data=data, task="whole")["dice"]) == [1]


def test_lost_voxel_size_counts_voxels(tmp_path, monkeypatch):
    data = toy(tmp_path, monkeypatch, unit="voxel")
    rows = evaluate_folder(write(tmp_path / "pred", ann=labels(7, 3)), data=data)
    expected = score_labels(labels(7, 3), labels(0, 3), {"NCR": [1]}, (1, 1, 1))[0]
    assert set(rows["unit"]) == {"voxel"} and rows.iloc[0]["assd_pooled"] == pytest.approx(expected["assd_pooled"])


def test_data_set_refusals(tmp_path, monkeypatch):
    data = toy(tmp_path, monkeypatch)
    pred = write(tmp_path / "pred", carl=labels(7, 3))
    with pytest.raises(LabError, match=r"data set 'toy' has no patient 'carl' with T1.*patients are named like 'ann'"):
        evaluate_folder(pred, data=data)
    with pytest.raises(LabError, match="data set 'toy' has no modality 'CT'.*it has T1"):
        evaluate_folder(pred, data=data, modality="CT")
    other = write(tmp_path / "other", ann=labels(7, 3)[:, :-1])
    with pytest.raises(LabError, match=r"grid \(8, 8, 6\) differs from its truth's \(8, 9, 6\).*grid of seg.nii.gz"):
        evaluate_folder(other, data=data)
    masks = toy(tmp_path, monkeypatch, label={"masks": dict.fromkeys(("NCR", "ED", "ET"), "{patient}/seg.nii.gz")})
    with pytest.raises(LabError, match="keeps one mask a structure and has no label values"):
        evaluate_folder(write(tmp_path / "third", ann=labels(7, 3)), data=masks, stored_values=True)


def test_hidden_files_are_not_patients(folders):
    (folders[0] / ".part-x.nii.gz").write_bytes(b"")
    assert list(find_masks(folders[0])) == ["ann", "ben"]


@pytest.mark.skipif(not os.environ.get("XMOD_DATA"), reason="real volumes absent: XMOD_DATA names no folder")
def test_real_masks_score_perfectly_against_themselves(tmp_path):
    data = dataset("lgg")
    if not data.folder.is_dir():
        pytest.skip(f"XMOD_DATA has no folder {data.key}")
    task = data.task()
    modality, name = task.tested[0], next(iter(task.classes))
    patient = patients(data, modality)[0]
    like = load_image(data, patient, modality)
    mask = load_structures(data, patient, modality, like)[task.classes[name][0]]
    save_nifti(tmp_path / f"{patient}.nii.gz", like.to_native(mask.astype(np.uint8)), like.grid.affine)
    rows = evaluate_folder(tmp_path, data=data)
    assert rows.iloc[0]["dice"] == 1 and rows.iloc[0]["hd"] == 0 and rows.iloc[0]["unit"] == data.unit
