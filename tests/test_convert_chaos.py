"""DICOM series with PNG labels, written small with pydicom and Pillow and read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from xmod_lab.data.convert import convert
from xmod_lab.data.convert.chaos import read_pair
from xmod_lab.data.convert.dicom import read_series
from xmod_lab.data.volume import load_volume
from xmod_lab.errors import LabError

RNG = np.random.default_rng(0)


def quiet(_: str) -> None:
    pass


def write_dicom(path: Path, pixels: np.ndarray, position: list[float], number: int, *,
                orientation: tuple[float, ...] = (1, 0, 0, 0, 1, 0), spacing: tuple[float, float] = (1.5, 1.25),
                slope: float = 1, intercept: float = 0, series: str = "1.2.3.4") -> None:  # fmt: skip
    """One slice, uncompressed; `pixels` (rows, columns) uint16, `spacing` between rows and between columns."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, f"{series}.{number}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image: Any = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPClassUID, image.SOPInstanceUID, image.SeriesInstanceUID = CTImageStorage, f"{series}.{number}", series
    image.StudyInstanceUID, image.Modality, image.InstanceNumber = "1.2.3", "CT", number
    image.Rows, image.Columns = pixels.shape
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 16, 15, 0
    image.PixelSpacing, image.SliceThickness = list(spacing), 3.0
    image.ImageOrientationPatient, image.ImagePositionPatient = list(orientation), list(position)
    image.RescaleSlope, image.RescaleIntercept = slope, intercept
    image.PixelData = pixels.astype("<u2").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(path, enforce_file_format=True)


def write_series(folder: Path, volume: np.ndarray, *, step: float = 4.0, backwards: bool = False, **more: Any) -> None:
    """`volume` (slices, rows, columns), slice k at z = k * step; `backwards` numbers the files from the top down."""
    count = len(volume)
    for k, pixels in enumerate(volume):
        name = count - k if backwards else k + 1
        write_dicom(folder / f"IMG-{name:05d}.dcm", pixels, [-10.0, -20.0, k * step], name, **more)


def write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


# --------------------------------------------------------------------------------------------------- DICOM


@pytest.mark.parametrize("backwards", [False, True])
def test_a_series_in_the_order_of_its_positions(tmp_path: Path, backwards: bool) -> None:
    volume = RNG.integers(0, 900, (4, 5, 6)).astype(np.uint16)
    write_series(tmp_path, volume, backwards=backwards, slope=2, intercept=-1024)
    array, affine, order = read_series(sorted(tmp_path.glob("*.dcm")))
    np.testing.assert_array_equal(array, volume.transpose(2, 1, 0).astype(int) * 2 - 1024)
    assert array.dtype == np.int16
    # DICOM x and y point to Left and Posterior: the first voxel at (-10, -20, 0) is at RAS (10, 20, 0)
    np.testing.assert_allclose(affine, [[-1.25, 0, 0, 10], [0, -1.5, 0, 20], [0, 0, 4, 0], [0, 0, 0, 1]])
    assert order == sorted(tmp_path.glob("*.dcm"), reverse=backwards)


@pytest.mark.parametrize(
    "orientation", [(1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1), (0.8, 0.6, 0, -0.6, 0.8, 0)]
)
def test_geometry_agrees_with_simpleitk(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    sitk = pytest.importorskip("SimpleITK", reason="needs SimpleITK")
    normal = np.cross(orientation[:3], orientation[3:])
    for k in range(3):
        position = list(np.array([5.0, -7.0, 11.0]) + 2.5 * k * normal)
        pixels = RNG.integers(0, 900, (4, 6)).astype(np.uint16)
        write_dicom(tmp_path / f"{9 - k}.dcm", pixels, position, k + 1, orientation=orientation, intercept=-100)
    array, affine, _ = read_series(sorted(tmp_path.glob("*.dcm")))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    np.testing.assert_array_equal(array, sitk.GetArrayFromImage(image).transpose(2, 1, 0))
    for index in ((0, 0, 0), (5, 3, 2), (1, 2, 0)):
        left, posterior, superior = image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose(affine @ [*index, 1], [-left, -posterior, superior, 1], atol=1e-5)


def test_broken_series(tmp_path: Path) -> None:
    volume = RNG.integers(0, 900, (5, 4, 4)).astype(np.uint16)
    write_series(tmp_path / "gap", volume)
    (tmp_path / "gap/IMG-00003.dcm").unlink()
    with pytest.raises(LabError, match=r"slices lie 4.00 to 8.00 mm apart, so one is missing or there twice: .*gap"):
        read_series(sorted((tmp_path / "gap").glob("*")))
    write_series(tmp_path / "twice", volume)
    write_dicom(tmp_path / "twice/x.dcm", volume[0], [-10.0, -20.0, 0.0], 9)
    with pytest.raises(LabError, match="slices lie 0.00 to 4.00 mm apart"):
        read_series(sorted((tmp_path / "twice").glob("*")))
    write_series(tmp_path / "odd", volume)
    write_dicom(tmp_path / "odd/x.dcm", volume[0][:3], [-10.0, -20.0, 20.0], 9)
    with pytest.raises(LabError, match=r"slice of another size or direction than the first: .*x.dcm"):
        read_series(sorted((tmp_path / "odd").glob("*")))
    write_series(tmp_path / "short", volume)
    place = tmp_path / "short/IMG-00002.dcm"
    place.write_bytes(place.read_bytes()[:-7])
    with pytest.raises(LabError, match=r"the pixels cannot be decoded|cannot be read as a DICOM image"):
        read_series(sorted((tmp_path / "short").glob("*")))
    place.write_text("no DICOM")
    with pytest.raises(LabError, match=r"cannot be read as a DICOM image .*IMG-00002.dcm"):
        read_series(sorted((tmp_path / "short").glob("*")))


# --------------------------------------------------------------------------------------------------- CHAOS


def chaos(root: Path, *, backwards: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A training set of one MR and one CT subject; returns volume and label (slices, rows, columns) of the T2."""
    volume = RNG.integers(1, 900, (3, 6, 5)).astype(np.uint16)
    label = RNG.integers(0, 5, (3, 6, 5))
    grey = np.array([0, 63, 126, 189, 252])[label]
    for sequence, phases in (("T2SPIR", [""]), ("T1DUAL", ["InPhase", "OutPhase"])):
        place = root / "Train_Sets/MR/7" / sequence
        for phase in phases:
            write_series(place / "DICOM_anon" / phase, volume, backwards=backwards)
        for k in range(3):
            write_png(place / "Ground" / f"IMG-{3 - k if backwards else k + 1:05d}.png", grey[k])
    ct = root / "Train_Sets/CT/12"
    write_series(ct / "DICOM_anon", volume, intercept=-1000)
    for k in range(3):
        write_png(ct / "Ground" / f"liver_GT_{k:03d}.png", (label[k] == 1) * 255)
    return volume, label


@pytest.mark.parametrize("backwards", [False, True])
def test_chaos(tmp_path: Path, backwards: bool) -> None:
    volume, label = chaos(tmp_path / "raw", backwards=backwards)
    assert convert("chaos", tmp_path / "raw", tmp_path / "out", say=quiet) == 2
    assert sorted(p.name for p in (tmp_path / "out/MR_7").iterdir()) == [
        "t1.nii.gz", "t1_label.nii.gz", "t2.nii.gz", "t2_label.nii.gz"]  # fmt: skip
    image, seg = load_volume(tmp_path / "out/MR_7/t2.nii.gz"), load_volume(tmp_path / "out/MR_7/t2_label.nii.gz")
    assert image.grid.same_as(seg.grid) and image.spacing == (1.25, 1.5, 4.0)
    np.testing.assert_array_equal(image.array, volume.transpose(2, 1, 0)[::-1, ::-1])  # LPS files, canonical RAS array
    np.testing.assert_array_equal(seg.array, label.transpose(2, 1, 0)[::-1, ::-1])
    ct = load_volume(tmp_path / "out/CT_12/ct.nii.gz")
    np.testing.assert_array_equal(ct.array, volume.transpose(2, 1, 0)[::-1, ::-1].astype(int) - 1000)
    liver = load_volume(tmp_path / "out/CT_12/ct_label.nii.gz")
    np.testing.assert_array_equal(liver.array, (label == 1).transpose(2, 1, 0)[::-1, ::-1])
    assert convert("chaos", tmp_path / "raw", tmp_path / "out", say=quiet) == 0  # what is there is left alone


def test_chaos_t2_alone(tmp_path: Path) -> None:
    volume, _ = chaos(tmp_path / "raw")
    assert convert("chaos_t2", tmp_path / "raw", tmp_path / "out", say=quiet) == 1
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["image_7.nii.gz", "label_7.nii.gz"]
    np.testing.assert_array_equal(
        nib.load(tmp_path / "out/image_7.nii.gz").get_fdata(), volume.transpose(2, 1, 0))  # fmt: skip


def test_chaos_that_is_incomplete_leaves_nothing(tmp_path: Path) -> None:
    chaos(tmp_path / "raw")
    place = tmp_path / "raw/Train_Sets/MR/7/T2SPIR"
    write_png(place / "Ground/IMG-00002.png", np.full((6, 5), 100))
    with pytest.raises(LabError, match=r"grey value 100 stands for no organ: .*IMG-00002.png \(CHAOS uses about 63"):
        convert("chaos", tmp_path / "raw", tmp_path / "out", say=quiet)
    (place / "Ground/IMG-00002.png").unlink()
    with pytest.raises(LabError, match="3 DICOM files and 2 PNG labels"):
        read_pair(place, ct=False)
    (place / "Ground/IMG-00002.png").write_text("no png")
    with pytest.raises(LabError, match=r"cannot be read as a PNG .*IMG-00002.png"):
        read_pair(place, ct=False)
    write_png(place / "Ground/IMG-00002.png", np.zeros((6, 5)))
    for png in (place / "Ground").iterdir():
        write_png(png, np.zeros((4, 4)))
    with pytest.raises(LabError, match=r"label grid \(4, 4, 3\) differs from its image's \(5, 6, 3\)"):
        read_pair(place, ct=False)
    assert not (tmp_path / "out/MR_7").exists()
    with pytest.raises(LabError, match="no CHAOS training set below this folder"):
        convert("chaos", place, tmp_path / "out", say=quiet)
