"""What `prepare` refuses rather than stacks, cuts short or takes from an old cache."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.tiny import make_tiny
from xmod_lab.data import manifest
from xmod_lab.data.prepare import prepare
from xmod_lab.errors import LabError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    return tmp_path


def test_registered_volumes_with_another_affine(home: Path) -> None:
    """Equal shapes are not enough: stacked, these channels would not lie on each other."""
    data = make_tiny(home, ("A", "B"), labelled=["A", "B"], unlabelled=[])
    for path in (home / "data" / "tiny").rglob("B.nii.gz"):
        picture = nib.load(path)
        moved = picture.affine.copy()
        moved[:3, 3] += 30
        nib.save(nib.Nifti1Image(np.asarray(picture.dataobj), moved), path)
    with pytest.raises(LabError, match="registered volumes differ: their affines"):
        prepare(data, None, 32)


def test_a_patients_name_that_the_index_cannot_hold(home: Path) -> None:
    data = make_tiny(home, ("A", "B"), labelled=["A", "B"], unlabelled=[])
    folder = home / "data" / "tiny"
    for old in list(folder.iterdir()):
        old.rename(folder / (old.name + "x" * 80))
    with pytest.raises(LabError, match="longer than 80 characters"):
        prepare(data, None, 32)


def test_the_modality_that_owns_the_crop_counts_in_the_cache(home: Path) -> None:
    """B is trained on and A, only tested, comes first and gives the box: another A, another key."""
    data = make_tiny(home, ("A", "B"), labelled=["B"], unlabelled=[], tested=["A", "B"])
    before = prepare(data, None, 32).key
    for path in (home / "data" / "tiny").rglob("A.nii.gz"):
        os.utime(path, ns=(1, 1))
    assert prepare(data, None, 32).key != before


@pytest.mark.parametrize("name", ["T1+c", "A->B", "T1.5", "with space", "end-"])
def test_modality_names_that_mean_something_else(name: str) -> None:
    text = f"""
one:
  title: t
  licence: l
  citation: c
  homepage: h
  access: registration
  steps: [none]
  relation: registered
  modalities: {{"{name}": {{kind: MR, pattern: "{{patient}}.nii.gz"}}}}
  tasks: {{a: {{title: t, unlabelled: ["{name}"], tested: ["{name}"], recipe: bigl}}}}
"""
    with pytest.raises(LabError, match="may hold letters, digits"):
        manifest.parse(text, "m")
