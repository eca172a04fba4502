"""RIRE's header and voxel file, written small and read back."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmod_lab.data.convert import convert
from xmod_lab.data.convert.rire import TOWARDS, read_header, read_image
from xmod_lab.data.volume import load_volume
from xmod_lab.errors import LabError


def quiet(_: str) -> None:
    pass


HEADER = """Group length := 116
Modality := {modality}
Manufacturer := Siemens
Comments := only for this project

Group length := 60
Slice thickness := 4.000000

Group length := 99
Study := {study}
Series := {series}
Acquisition := {acquisition}
Patient orientation := {orientation}

Group length := 300
Image dimensions := 3
Rows := 3
Columns := 5
Slices := 2
Pixel size := 1.250000 : 1.250000
Bits allocated := 16
Pixel representation := 1
"""


def write_rire(folder: Path, *, study: int = 1, series: int = 1, acquisition: int = 1, orientation: str = "L : P : H",
               voxels: np.ndarray | None = None) -> None:  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    text = HEADER.format(modality="CT", study=study, series=series, acquisition=acquisition, orientation=orientation)
    (folder / "header.ascii").write_text(text)
    (np.arange(1, 31) if voxels is None else voxels).astype(">i2").tofile(folder / "image.bin")


def test_rire_example_of_its_own_documentation(tmp_path: Path) -> None:
    """3 rows, 5 columns, 2 slices holding 1 to 30: 5 ends the first row, 16 begins the second slice."""
    write_rire(tmp_path)
    array, affine = read_image(tmp_path / "header.ascii")
    assert array.shape == (5, 3, 2) and array.dtype == np.int16
    assert (array[4, 0, 0], array[0, 1, 0], array[0, 0, 1], array[4, 2, 1]) == (5, 6, 16, 30)
    np.testing.assert_array_equal(np.diag(affine), [-1.25, -1.25, 4.0, 1.0])
    assert nib.aff2axcodes(affine) == ("L", "P", "S")
    assert read_header(tmp_path / "header.ascii")["slice thickness"] == "4.000000"


def test_rire_negative_values_are_big_endian(tmp_path: Path) -> None:
    write_rire(tmp_path, voxels=np.full(30, -1024))
    assert (tmp_path / "image.bin").read_bytes()[:2] == b"\xfc\x00"
    assert (read_image(tmp_path / "header.ascii")[0] == -1024).all()


@given(letters=st.permutations(["LR", "PA", "HF"]).flatmap(lambda axes: st.tuples(*map(st.sampled_from, axes))))
def test_rire_orientations(letters: tuple[str, str, str], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("rire")
    write_rire(folder, orientation=" : ".join(letters))
    _, affine = read_image(folder / "header.ascii")
    names = {"H": "S", "F": "I"}
    assert nib.aff2axcodes(affine) == tuple(names.get(letter, letter) for letter in letters)
    np.testing.assert_allclose(affine[:3, 2], np.multiply(TOWARDS[letters[2]], 4.0))


def test_rire_folder(tmp_path: Path) -> None:
    for place, study, series, acquisition in (
        ("patient_001/ct", 1, 1, 1), ("patient_001/mr_T1", 3, 1, 1), ("patient_001/mr_T2", 3, 3, 1),
        ("patient_001/mr_T1_rectified", 4, 1, 1), ("patient_001/mr_T1_reverse", 3, 1, 2),
        ("patient_109/mr_MP-RAGE", 5, 1, 1),
    ):  # fmt: skip
        write_rire(tmp_path / "raw" / place, study=study, series=series, acquisition=acquisition)
    assert convert("rire", tmp_path / "raw", tmp_path / "out", say=quiet) == 2
    found = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.nii.gz"))
    assert found == ["patient_001/ct.nii.gz", "patient_001/mr_t1.nii.gz", "patient_001/mr_t1_rectified.nii.gz",
                     "patient_001/mr_t2.nii.gz", "patient_109/mr_mp_rage.nii.gz"]  # fmt: skip
    assert load_volume(tmp_path / "out/patient_001/ct.nii.gz").spacing == (1.25, 1.25, 4.0)


def test_rire_files_that_are_wrong(tmp_path: Path) -> None:
    place = tmp_path / "patient_001/ct"
    write_rire(place, voxels=np.arange(29))
    with pytest.raises(LabError, match=r"holds 58 bytes, its header asks for 60: .*image.bin"):
        read_image(place / "header.ascii")
    (place / "image.bin").rename(place / "image.bin.Z")
    with pytest.raises(LabError, match=r"image.bin is missing: .*\(run `gzip -d image.bin.Z` there\)"):
        read_image(place / "header.ascii")
    write_rire(place, orientation="L : P : X")
    with pytest.raises(LabError, match="has an unknown letter"):
        read_image(place / "header.ascii")
    write_rire(place, orientation="L : P")
    with pytest.raises(LabError, match="header field 'patient orientation' needs 3 values divided by ':'"):
        read_image(place / "header.ascii")
    write_rire(place, study=9)
    with pytest.raises(LabError, match="study '9', series '1' stands for no image of RIRE"):
        convert("rire", tmp_path, tmp_path / "out", say=quiet)
    (place / "header.ascii").write_text("nothing of it")
    with pytest.raises(LabError, match="holds no line `Keyword := value`"):
        read_header(place / "header.ascii")
    (place / "header.ascii").unlink()
    with pytest.raises(LabError, match="no header.ascii below this folder"):
        convert("rire", tmp_path, tmp_path / "out", say=quiet)


@given(text=st.text(alphabet=st.characters(codec="ascii"), max_size=200))
def test_any_text_gives_fields_or_a_clear_error(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("rire") / "header.ascii"
    path.write_text(text)
    try:
        fields = read_header(path)
    except LabError:
        return
    assert all(key == key.lower() and value == value.strip() for key, value in fields.items())
    with pytest.raises(LabError):
        read_image(path)
