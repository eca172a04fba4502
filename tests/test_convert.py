"""Converters of TIFF slices (lgg), 4D NIfTI (msd) and MetaImage (brats2015), each on small files of its format."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from xmod_lab.data.convert import convert
from xmod_lab.data.volume import load_volume, save_nifti
from xmod_lab.errors import LabError

RNG = np.random.default_rng(0)


def quiet(_: str) -> None:
    pass


def write_lgg(folder: Path, count: int = 12, *, without: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Slices 1..count of a patient; channels in `without` repeat the FLAIR. Returns (slice, row, column, channel)."""
    image = RNG.integers(0, 256, (count, 6, 5, 3)).astype(np.uint8)
    for channel in without:
        image[..., channel] = image[..., 1]
    mask = (RNG.random((count, 6, 5)) > 0.7).astype(np.uint8) * 255
    folder.mkdir(parents=True)
    for k in range(count):
        Image.fromarray(image[k]).save(folder / f"{folder.name}_{k + 1}.tif")
        Image.fromarray(mask[k]).save(folder / f"{folder.name}_{k + 1}_mask.tif")
    return image, mask


def test_lgg(tmp_path: Path) -> None:
    image, mask = write_lgg(tmp_path / "kaggle_3m/TCGA_CS_1_2")
    write_lgg(tmp_path / "kaggle_3m/TCGA_CS_3_4", without=(0, 2))
    lines: list[str] = []
    assert convert("lgg", tmp_path, tmp_path / "out", say=lines.append) == 2
    for channel, name in enumerate(("t1", "flair", "t1gd")):
        array = np.asanyarray(nib.load(tmp_path / f"out/TCGA_CS_1_2/{name}.nii.gz").dataobj)
        assert array.dtype == np.uint8 and array.shape == (5, 6, 12)
        for x, row, k in ((0, 0, 0), (4, 5, 11), (2, 3, 9)):  # slice 10 comes after 9, not after 1
            assert array[x, 5 - row, k] == image[k, row, x, channel]
    stored = np.asanyarray(nib.load(tmp_path / "out/TCGA_CS_1_2/mask.nii.gz").dataobj)
    np.testing.assert_array_equal(stored, (mask[:, ::-1] > 0).transpose(2, 1, 0))
    assert sorted(p.name for p in (tmp_path / "out/TCGA_CS_3_4").iterdir()) == ["flair.nii.gz", "mask.nii.gz"]
    assert lines[1] == "lgg: TCGA_CS_3_4, 12 slices; left out as copies of the FLAIR: t1, t1gd"


def test_lgg_comes_out_as_the_manifest_describes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The upper edge of a slice, where the face is, ends up anterior."""
    from xmod_lab.data.check import verify
    from xmod_lab.data.manifest import dataset
    from xmod_lab.data.volume import load_image

    image, _ = write_lgg(tmp_path / "kaggle_3m/TCGA_CS_1_2")
    convert("lgg", tmp_path / "kaggle_3m", tmp_path / "data/lgg", say=quiet)
    monkeypatch.setenv("XMOD_DATA", str(tmp_path / "data"))
    array = load_image(dataset("lgg"), "TCGA_CS_1_2", "FLAIR").array  # right, anterior, superior
    np.testing.assert_array_equal(array[::-1, -1, 3], image[3, 0, :, 1])
    assert verify(dataset("lgg")).all_problems == []


def test_lgg_files_that_are_wrong(tmp_path: Path) -> None:
    write_lgg(tmp_path / "raw/P_1", 3)
    (tmp_path / "raw/P_1/P_1_2.tif").rename(tmp_path / "keep.tif")
    with pytest.raises(LabError, match=r"slices \[1, 3\] are not numbered without a gap: .*P_1"):
        convert("lgg", tmp_path / "raw", tmp_path / "out", say=quiet)
    (tmp_path / "raw/P_1/P_1_2.tif").write_bytes((tmp_path / "keep.tif").read_bytes()[:30])
    with pytest.raises(LabError, match=r"cannot be read as a TIFF .*P_1_2.tif"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own, about the broken tags
        convert("lgg", tmp_path / "raw", tmp_path / "out", say=quiet)
    Image.fromarray(np.zeros((6, 5), np.uint8)).save(tmp_path / "raw/P_1/P_1_2.tif")
    with pytest.raises(LabError, match=r"expected 8 bit with 3 channels, found uint8 \(6, 5, 1\)"):
        convert("lgg", tmp_path / "raw", tmp_path / "out", say=quiet)
    Image.fromarray(np.zeros((6, 4, 3), np.uint8)).save(tmp_path / "raw/P_1/P_1_2.tif")
    with pytest.raises(LabError, match=r"slice or mask is \(6, 4\) and \(6, 5\), the first slice \(6, 5\)"):
        convert("lgg", tmp_path / "raw", tmp_path / "out", say=quiet)
    (tmp_path / "raw/P_1/P_1_2_mask.tif").unlink()
    with pytest.raises(LabError, match=r"file is missing: .*P_1_2_mask.tif"):
        convert("lgg", tmp_path / "raw", tmp_path / "out", say=quiet)
    assert not (tmp_path / "out").exists()


def write_msd(root: Path, channels: int = 4) -> np.ndarray:
    for name in ("imagesTr", "labelsTr"):
        (root / name).mkdir(parents=True)
    image = RNG.normal(size=(4, 5, 6, channels)).astype(np.float32)
    affine = np.diag([-1.0, -1, 1, 1])
    nib.save(nib.Nifti1Image(image, affine), root / "imagesTr/BRATS_001.nii.gz")
    save_nifti(root / "labelsTr/BRATS_001.nii.gz", RNG.integers(0, 4, (4, 5, 6)).astype(np.uint8), affine)
    modality = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
    (root / "dataset.json").write_text(json.dumps({"modality": modality}))
    (root / "imagesTr/._BRATS_001.nii.gz").write_text("shadow file")
    return image


def test_msd_is_split(tmp_path: Path) -> None:
    image = write_msd(tmp_path / "raw/Task01_BrainTumour")
    assert convert("msd", tmp_path / "raw", tmp_path / "out", say=quiet) == 1
    for channel, name in enumerate(("flair", "t1", "t1gd", "t2")):
        stored = nib.load(tmp_path / f"out/BRATS_001/{name}.nii.gz")
        np.testing.assert_array_equal(np.asanyarray(stored.dataobj), image[..., channel])
        np.testing.assert_array_equal(stored.affine, np.diag([-1.0, -1, 1, 1]))
    seg, flair = (load_volume(tmp_path / f"out/BRATS_001/{name}.nii.gz") for name in ("seg", "flair"))
    assert seg.grid.same_as(flair.grid)
    reference = nib.load(tmp_path / "raw/Task01_BrainTumour/labelsTr/BRATS_001.nii.gz")
    np.testing.assert_array_equal(seg.to_native(seg.array), np.asanyarray(reference.dataobj))


def test_msd_of_another_shape(tmp_path: Path) -> None:
    write_msd(tmp_path / "raw", channels=3)
    with pytest.raises(LabError, match=r"expected \(4, 5, 6\) with 4 channels, found \(4, 5, 6, 3\)"):
        convert("msd", tmp_path / "raw", tmp_path / "out", say=quiet)
    (tmp_path / "raw/dataset.json").write_text(json.dumps({"modality": {"0": "CT"}}))
    with pytest.raises(LabError, match=r"unknown modality 'ct': .*dataset.json \(only Task01"):
        convert("msd", tmp_path / "raw", tmp_path / "out", say=quiet)


def test_brats2015(tmp_path: Path) -> None:
    sitk = pytest.importorskip("SimpleITK", reason="needs SimpleITK")
    array = RNG.integers(0, 5, (4, 5, 6)).astype(np.int16)  # slices, rows, columns
    place = tmp_path / "raw/HGG/brats_2013_pat0001_1"
    for name in ("O.MR_Flair", "O.MR_T1", "O.MR_T1c", "O.MR_T2", "OT"):
        image = sitk.GetImageFromArray(array)
        image.SetSpacing((1.0, 2.0, 3.0))
        image.SetOrigin((4.0, 5.0, 6.0))
        (place / f"VSD.Brain.XX.{name}.54").mkdir(parents=True)
        sitk.WriteImage(image, str(place / f"VSD.Brain.XX.{name}.54/VSD.Brain.XX.{name}.54.mha"))
    assert convert("brats2015", tmp_path / "raw", tmp_path / "out", say=quiet) == 1
    stored = nib.load(tmp_path / "out/brats_2013_pat0001_1/t1gd.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(stored.dataobj), array.transpose(2, 1, 0))
    np.testing.assert_allclose(stored.affine, [[-1, 0, 0, -4], [0, -2, 0, -5], [0, 0, 3, 6], [0, 0, 0, 1]])
    assert (tmp_path / "out/brats_2013_pat0001_1/seg.nii.gz").is_file()


def test_names_and_folders_that_are_unknown(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no converter 'nrrd'"):
        convert("nrrd", tmp_path, tmp_path / "out")
    with pytest.raises(LabError, match="the folder to convert is missing"):
        convert("lgg", tmp_path / "gone", tmp_path / "out")
    for name, message in (("lgg", r"no \*_mask.tif"), ("msd", "no imagesTr"), ("brats2015", r"no \*.MR_T1")):
        with pytest.raises(LabError, match=message):
            convert(name, tmp_path, tmp_path / "out")
