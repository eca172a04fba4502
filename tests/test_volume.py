"""NIfTI in and out: orientation, spacing, and an error for every kind of bad file."""

from __future__ import annotations

import errno
import itertools
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmod_lab.data.manifest import parse
from xmod_lab.data.schema import Dataset
from xmod_lab.data.volume import file_of, load_image, load_structures, load_volume, patients, save_nifti
from xmod_lab.errors import LabError
from xmod_lab.files import atomic_folder

ORIENTATIONS = ["".join(codes) for names in itertools.permutations(["RL", "AP", "SI"])
                for codes in itertools.product(*names)]  # fmt: skip


def affine_of(codes: str, spacing: tuple[float, float, float]) -> np.ndarray:
    """An affine whose axes have the given codes and the given spacing."""
    ras = nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(tuple(codes)), (1, 1, 1))
    return ras @ np.diag([*spacing, 1.0])


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return data_in(tmp_path)


def data_in(folder: Path, **changes: Any) -> Dataset:
    import yaml

    entry = {
        "title": "t", "licence": "l", "citation": "c", "homepage": "h", "access": "own", "location": str(folder),
        "relation": "registered", "modalities": {"T1": {"kind": "MR", "pattern": "{patient}/t1.nii.gz"}},
        "label": {"pattern": "{patient}/seg.nii.gz", "values": {1: "core", 4: "rim"}},
        "tasks": {"one": {"title": "t", "labelled": ["T1"], "tested": ["T1"], "recipe": "P1",
                          "classes": {"core": ["core"]}}},
    }  # fmt: skip
    return parse(yaml.safe_dump({"set": entry | changes}), "test", own=True)["set"]


def ramp(shape: tuple[int, ...] = (4, 5, 6)) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@given(codes=st.sampled_from(ORIENTATIONS), spacing=st.tuples(*[st.sampled_from([0.5, 1.0, 2.5])] * 3))
def test_every_orientation_comes_out_right_anterior_superior(
    codes: str, spacing: tuple[float, float, float], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("v") / "a.nii.gz"
    stored = ramp()
    save_nifti(path, stored, affine_of(codes, spacing))
    volume = load_volume(path)
    # independent reference: nibabel's own canonical reordering of the file
    reference = nib.as_closest_canonical(nib.load(path))
    np.testing.assert_array_equal(volume.array, np.asanyarray(reference.dataobj))
    np.testing.assert_allclose(volume.spacing, reference.header.get_zooms(), rtol=1e-6)
    np.testing.assert_array_equal(volume.to_native(volume.array), stored)


def test_axis_codes_of_the_manifest_replace_an_affine_that_says_nothing(tmp_path: Path) -> None:
    save_nifti(tmp_path / "a.nii.gz", ramp(), np.eye(4))
    volume = load_volume(tmp_path / "a.nii.gz", unit="voxel", orientation="LPS")
    np.testing.assert_array_equal(volume.array, ramp()[::-1, ::-1])
    assert volume.spacing == (1.0, 1.0, 1.0) and volume.unit == "voxel"
    np.testing.assert_array_equal(volume.to_native(volume.array), ramp())


def test_a_volume_without_known_voxel_size_has_spacing_one(tmp_path: Path) -> None:
    save_nifti(tmp_path / "a.nii.gz", ramp(), np.diag([2.0, 3.0, 4.0, 1.0]))
    assert load_volume(tmp_path / "a.nii.gz").spacing == (2.0, 3.0, 4.0)
    assert load_volume(tmp_path / "a.nii.gz", unit="voxel").spacing == (1.0, 1.0, 1.0)


def test_the_same_array_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_nifti(tmp_path / f"{name}.nii.gz", ramp(), np.eye(4))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"file is missing: .*a.nii.gz \(see `xmod-lab data info`"):
        load_volume(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("keep", [0, 10, 200, 0.5])
def test_a_truncated_file(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "a.nii.gz"
    save_nifti(path, np.random.default_rng(0).normal(size=(20, 20, 20)).astype(np.float32), np.eye(4))
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content) if isinstance(keep, float) else keep)])
    with pytest.raises(LabError, match=r"cannot be read as NIfTI \(\w+\), it is truncated or not an image: .*a.nii.gz"):
        load_volume(path)


def test_a_file_that_is_no_image_and_one_that_has_four_axes(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_text("<html>log in first</html>")
    with pytest.raises(LabError, match="truncated or not an image"):
        load_volume(tmp_path / "a.nii.gz")
    nib.save(nib.Nifti1Image(ramp((3, 3, 3, 2)), np.eye(4)), tmp_path / "b.nii.gz")
    with pytest.raises(LabError, match=r"expected a 3D volume, found shape \(3, 3, 3, 2\).*split it"):
        load_volume(tmp_path / "b.nii.gz")
    nib.save(nib.Nifti1Image(ramp((3, 3, 3, 1)), np.eye(4)), tmp_path / "c.nii.gz")
    assert load_volume(tmp_path / "c.nii.gz").array.shape == (3, 3, 3)


@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "image holds NaN or infinite values"), (np.inf, "image holds NaN or infinite values")],
)
def test_a_value_that_is_no_number(data: Dataset, value: float, message: str) -> None:
    array = ramp()
    array[1, 2, 3] = value
    save_nifti(data.folder / "p1/t1.nii.gz", array, np.eye(4))
    with pytest.raises(LabError, match=rf"{message}: .*p1/t1.nii.gz \(repair or leave out"):
        load_image(data, "p1", "T1")


def test_a_constant_image(data: Dataset) -> None:
    save_nifti(data.folder / "p1/t1.nii.gz", np.full((3, 3, 3), 7.0, np.float32), np.eye(4))
    with pytest.raises(LabError, match=r"image is constant \(7 everywhere\): .*p1/t1.nii.gz \(leave out"):
        load_image(data, "p1", "T1")


def labelled(data: Dataset, label: np.ndarray, affine: np.ndarray | None = None) -> dict[str, np.ndarray]:
    save_nifti(data.folder / "p1/t1.nii.gz", ramp(), np.eye(4))
    save_nifti(data.folder / "p1/seg.nii.gz", label, np.eye(4) if affine is None else affine)
    return load_structures(data, "p1", "T1", like=load_image(data, "p1", "T1"))


def test_structures_by_value(data: Dataset) -> None:
    label = np.zeros((4, 5, 6), np.uint8)
    label[0], label[1, :2] = 1, 4
    found = labelled(data, label)
    assert {name: int(mask.sum()) for name, mask in found.items()} == {"core": 30, "rim": 12}


def test_masks_stored_as_nearly_one_count(data: Dataset) -> None:
    label = np.zeros((4, 5, 6), np.float32)
    label[0] = 0.99999997
    assert labelled(data, label)["core"].sum() == 30


def test_an_unknown_label_value(data: Dataset) -> None:
    label = np.zeros((4, 5, 6), np.uint8)
    label[0], label[1] = 1, 3
    with pytest.raises(LabError, match=r"label value 3 is not in the manifest: .*seg.nii.gz \(it lists \[1, 4\];"):
        labelled(data, label)


def test_a_label_that_was_interpolated(data: Dataset) -> None:
    label = np.zeros((4, 5, 6), np.float32)
    label[0] = 0.5
    with pytest.raises(LabError, match=r"values that are not whole numbers: .*\(was it interpolated\? use nearest\)"):
        labelled(data, label)


def test_image_and_label_of_different_grids(data: Dataset) -> None:
    with pytest.raises(LabError, match=r"label grid \(4, 5, 7\) differs from its image's \(4, 5, 6\): .*seg.nii.gz"):
        labelled(data, np.zeros((4, 5, 7), np.uint8))
    with pytest.raises(LabError, match=r"differs from its image's \(4, 5, 6\) in the affine"):
        labelled(data, np.zeros((4, 5, 6), np.uint8), np.diag([2.0, 1, 1, 1]))


def test_a_modality_without_files(data: Dataset) -> None:
    with pytest.raises(LabError, match=r"modality 'T1' of data set 'set' has no files like \{patient\}/t1.nii.gz"):
        patients(data, "T1")


def test_patients_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    data = data_in(tmp_path, modalities={"T1": {"kind": "MR", "pattern": "image_{patient}.nii.gz"}})
    for number in (10, 9, 1):
        (tmp_path / f"image_{number}.nii.gz").touch()
    assert patients(data, "T1") == ["1", "9", "10"]


def test_what_is_being_written_is_no_patient(tmp_path: Path) -> None:
    """Another process makes phantoms just now; its folder is renamed when it is complete."""
    data = data_in(tmp_path, modalities={"T1": {"kind": "MR", "pattern": "{patient}/T1.nii.gz"}})
    for name in ("a", "b"):
        with atomic_folder(tmp_path / name) as temporary:
            (temporary / "T1.nii.gz").touch()
            assert len(list(tmp_path.glob("*/T1.nii.gz"))) == 1 + (name == "b")
            if name == "b":
                assert patients(data, "T1") == ["a"]
    assert patients(data, "T1") == ["a", "b"]


def test_a_pattern_with_the_patient_twice_and_a_star(tmp_path: Path) -> None:
    data = data_in(tmp_path, modalities={"T1": {"kind": "MR", "pattern": "*/{patient}/{patient}_t1.nii.gz"}})
    for name in ("HGG/a/a_t1.nii.gz", "LGG/b/b_t1.nii.gz", "LGG/c/d_t1.nii.gz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert patients(data, "T1") == ["a", "b"]
    assert file_of(data, "b", "*/{patient}/{patient}_t1.nii.gz") == tmp_path / "LGG/b/b_t1.nii.gz"
    with pytest.raises(LabError, match=r"0 files match \*/z/z_t1.nii.gz"):
        file_of(data, "z", "*/{patient}/{patient}_t1.nii.gz")


def test_a_pattern_without_patient_is_one_patient(tmp_path: Path) -> None:
    (tmp_path / "case").mkdir()
    for name in ("ct.nii.gz", "case/ct.nii.gz"):
        (tmp_path / name).touch()
    for pattern, name in (("ct.nii.gz", "set"), ("case/ct.nii.gz", "case")):
        data = data_in(tmp_path, modalities={"T1": {"kind": "CT", "pattern": pattern}})
        assert patients(data, "T1") == [name]
        assert file_of(data, name, pattern) == tmp_path / pattern
        with pytest.raises(LabError, match="patient 'other' has no file"):
            file_of(data, "other", pattern)


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_text("old")

    def full(*_: Any, **__: Any) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(nib.Nifti1Image, "to_bytes", full)
    with pytest.raises(LabError, match=r"the disk is full: .*a.nii.gz \(free some space"):
        save_nifti(path, ramp(), np.eye(4))
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.nii.gz"]
