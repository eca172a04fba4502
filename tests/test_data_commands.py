"""`xmod-lab data`: verify finds what is wrong, info tells all, and what cannot be done says why."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from small_folders import image, label, three, write
from typer.testing import CliRunner

from xmod_lab.data.add import add
from xmod_lab.data.check import verify
from xmod_lab.data.cli import app
from xmod_lab.data.manifest import dataset, lock_hash
from xmod_lab.errors import LabError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XMOD_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "home"


def test_verify_names_every_problem(tmp_path: Path) -> None:
    folder = three(tmp_path / "scans")
    data, _ = add(folder)
    assert verify(data).all_problems == []
    write(folder, p0__mask=label(1, 7), p1__t1=image() * 0, p2__flair=image(shape=(5, 6, 5)))
    lines = verify(data).all_problems
    assert [line.split(":")[0] for line in lines] == [
        "label value 7 is not in the manifest",
        "image is constant (0 everywhere)",
        "label grid (5, 6, 4) differs from its image's (5, 6, 5)",
        "t1 grid (5, 6, 4) differs from flair.nii.gz's (5, 6, 5)",
    ]  # fmt: skip
    for path in folder.rglob("t1.nii.gz"):
        path.unlink()
    assert any("modality 't1' of data set 'scans' has no files" in line for line in verify(data).all_problems)
    for path in folder.rglob("*.nii.gz"):
        path.unlink()
    with pytest.raises(LabError, match=r"data set 'scans' has no files: .*is the disk mounted\?"):
        verify(data)


def test_verify_compares_checksums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("liver", "spleen", "kidney_left", "kidney_right"):
        write(tmp_path / "home/data/ct_abdomen", **{part: label(1)})
    write(tmp_path / "home/data/ct_abdomen", ct=image())
    assert verify(dataset("ct_abdomen")).all_problems == []
    place = tmp_path / "home/data/ct_abdomen/ct.nii.gz"
    lock_hash("ct_abdomen", "ct.nii.gz", "ab" * 32, place.stat().st_size)
    assert "checksum differs" in verify(dataset("ct_abdomen")).all_problems[0]
    lock_hash("ct_abdomen", "ct.nii.gz", "ab" * 32, 5)
    assert "bytes instead of 5" in verify(dataset("ct_abdomen")).all_problems[0]
    (tmp_path / "home/data/ct_abdomen/liver.nii.gz").unlink()
    assert any("file is missing" in line and "xmod-lab data fetch ct_abdomen" in line
               for line in verify(dataset("ct_abdomen")).all_problems)  # fmt: skip


def test_verify_looks_at_the_foreground(tmp_path: Path) -> None:
    place = tmp_path / "home/data/brats13"
    names = ("Flair_subtrMeanDivStd", "T1c_subtrMeanDivStd")
    for patient in ("brats_2013_pat0001_1",):
        write(place / patient, **{name: image() for name in names}, OTMultiClass=label(1), brainmask=label(1))
    problems = verify(dataset("brats13")).all_problems
    assert len(problems) == 12 and all("file is missing" in line for line in problems)  # three patients are not there
    write(place / "brats_2013_pat0001_1", brainmask=label(1, shape=(5, 6, 5)))
    assert "foreground grid (5, 6, 5) differs" in verify(dataset("brats13")).all_problems[-1]




def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output + (str(result.exception) if isinstance(result.exception, LabError) else "")


def test_the_commands(tmp_path: Path) -> None:
    code, text = run("add", str(three(tmp_path / "scans")))
    assert code == 0 and "patients: 3, checksums compared: 0, problems: 0" in text and "{patient}/mask.nii.gz" in text
    code, text = run("list")
    assert code == 0 and "scans" in text and "registration" in text and "CC-BY-NC-SA" in text
    code, text = run("verify", "scans")
    assert code == 0 and "5x6x4" in text and "label 24" in text
    write(tmp_path / "scans", p0__mask=label(9))
    code, text = run("verify", "scans")
    assert code == 1 and "label value 9 is not in the manifest" in text and "problems: 1" in text


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("lgg", ["1. Log in at kaggle.com", "voxels, since the voxel size was lost", "{patient}/mask.nii.gz",
                 "whole_lesion (default)", "P1", "LAS (the files do not say)", "Buda"]),
        ("ct_abdomen", ["(not manual)", "5 files to fetch, hash known of 0", "one mask a structure", "no score"]),
        ("brats2019", ["whole_tumour", "T1+T1Gd+T2+FLAIR", "1 necrosis, 2 oedema, 4 enhancing"]),
        ("rire", ["none", "CC-BY 3.0 US", "same subject"]),
        ("abdomen_real", ["joined of chaos_t2, ct_abdomen", "xmod-lab data fetch abdomen_real"]),
    ],
)  # fmt: skip
def test_info_tells_all(key: str, parts: list[str]) -> None:
    code, text = run("info", key)
    assert code == 0
    for part in parts:
        assert part in text


def test_commands_that_cannot_do_what_is_asked(tmp_path: Path) -> None:
    assert "no data set 'nothing'" in run("info", "nothing")[1]
    assert "'lgg' is real data and cannot be made" in run("make", "lgg")[1]
    assert "lists the steps to obtain it" in run("make", "lgg")[1]
    assert "'brats2019' needs no conversion" in run("convert", "brats2019", str(tmp_path))[1]
    assert "no *_mask.tif below this folder" in run("convert", "lgg", str(tmp_path))[1]
    assert "is behind a registration" in run("fetch", "lgg")[1]
    code, text = run("verify", "chaos")
    assert code == 1 and "data set 'chaos' has no files" in text and "xmod-lab data fetch chaos" in text


def test_the_data_commands_import_nothing_heavy() -> None:
    heavy = ["monai", "scipy", "seaborn", "torch", "nibabel", "pydicom", "pooch", "pandas"]
    modules = ", ".join(f"xmod_lab.data.{name}" for name in ("cli", "manifest", "fetch", "check", "add"))
    code = f"import sys, {modules}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
