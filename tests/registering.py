"""Small CT and MR of heads that lie off each other by a known motion, and a data set of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from xmod_lab.data import manifest, registered
from xmod_lab.data.manifest import Dataset, dataset
from xmod_lab.data.register import Rigid, rigid_of
from xmod_lab.data.volume import Volume, load_image, save_nifti
from xmod_lab.files import write_json, write_text
from xmod_lab.rng import numpy_rng

FIXED, MOVING = ((44, 48, 20), (4.0, 4.0, 6.0)), ((40, 44, 24), (4.5, 4.5, 5.0))
"""grids of CT and MR: shape and spacing (mm), both about the scanner's middle"""
SHIFT = (5.0, -6.0, 4.0)
TURNS = ((6.0, -4.0, 7.0), (-5.0, 3.0, 2.0), (2.0, 6.0, -6.0), (4.0, -2.0, -3.0), (-3.0, -5.0, 5.0), (1.0, 2.0, 6.0))


def affine_of(shape: tuple[int, ...], spacing: tuple[float, ...]) -> np.ndarray:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = [-(n - 1) / 2 * s for n, s in zip(shape, spacing, strict=True)]
    return affine


def head(points: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, 3) mm -> HU and MR signal of a head that looks different from every side."""
    squeeze = 1 + 0.05 * numpy_rng("head", number).uniform(-1, 1, 3)

    def inside(centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
        """0 to 1, the border 4 mm wide."""
        away = np.sqrt((((points * squeeze - centre) / radii) ** 2).sum(1))
        return np.clip(0.5 + (1 - away) * min(radii) / 4, 0, 1)

    hu, signal = np.full(len(points), -1000.0), np.zeros(len(points))
    for where, new_hu, new_signal in (
        (inside((0, 0, 0), (70, 84, 62)), 30.0, 420.0),
        (inside((0, 0, 2), (62, 76, 54)), 1000.0, 40.0),
        (inside((0, 0, 2), (54, 68, 47)), 35.0, 300.0),
        (inside((16, 14, 8), (10, 26, 12)), 5.0, 90.0),
        (inside((-20, 6, 2), (8, 20, 16)), 8.0, 110.0),
        (inside((6, -40, -16), (26, 16, 14)), 45.0, 520.0),
        (inside((0, 66, -22), (16, 18, 14)), -900.0, 5.0),
    ):
        hu, signal = hu + where * (new_hu - hu), signal + where * (new_signal - signal)
    return hu, signal


def write_pair(root: Path, number: int, motion: Rigid) -> None:
    patient = f"p{number:03d}"
    rng = numpy_rng("pair", number)
    for name, (shape, spacing), moved in (("CT", FIXED, False), ("MR", MOVING, True), ("truth", FIXED, False)):
        affine = affine_of(shape, spacing)
        points = np.argwhere(np.ones(shape, bool)) @ affine[:3, :3].T + affine[:3, 3]
        values = head(motion.inverse()(points) if moved else points, number)[name != "CT"].reshape(shape)
        noisy = np.rint(values + rng.normal(0, 8, shape)).astype(np.int16)
        place = root / "truth" / patient / "MR.nii.gz" if name == "truth" else root / patient / f"{name}.nii.gz"
        save_nifti(place, noisy, affine)
    told = {"rotation_degrees": motion.degrees, "translation_mm": motion.translation.tolist()}
    write_json(root / "truth" / patient / "motion.json", told)


def entry(key: str = "pairs", data_fields: dict[str, Any] | None = None, **task: Any) -> dict[str, Any]:
    plain = {
        "title": "Pairs", "licence": "none", "citation": "none", "homepage": "https://example.org",
        "access": "registration", "steps": ["Written by a test."], "relation": "same_subject",
        "modalities": {m: {"kind": m, "pattern": f"{{patient}}/{m}.nii.gz"} for m in ("CT", "MR")},
        "tasks": {"registered": {
            "title": "brought together", "unlabelled": ["CT", "MR"], "tested": ["CT", "MR"], "draw": "paired",
            "one_modality_per_patient": False, "recipe": "rire", "overrides": {"register": "CT"}, **task}},
    }  # fmt: skip
    return {key: plain | (data_fields or {})}


def parsed(**fields: Any) -> Dataset:
    return manifest.parse(yaml.safe_dump(entry(**fields)), "test")["pairs"]


def make_pairs(home: Path) -> Dataset:
    """A patient for each of TURNS below `home`, which the test sets as XMOD_HOME, and in the user's manifest."""
    for number, turn in enumerate(TURNS):
        write_pair(home / "data" / "pairs", number, rigid_of(turn, np.array(SHIFT) * (-1) ** number))
    write_text(home / "data" / "user_manifest.yaml", yaml.safe_dump(entry()))
    return dataset("pairs")


def as_phantom(data: Dataset) -> Dataset:
    return data.model_copy(update={"access": "phantom"})


def both(data: Dataset, patient: str = "p000") -> tuple[Volume, Volume]:
    return load_image(data, patient, "CT"), load_image(data, patient, "MR")


def true_motion(data: Dataset, patient: str) -> Rigid:
    found = registered.known_motion(as_phantom(data), patient, "MR", "CT")
    assert found is not None
    return found


def pairs_at_home(home: Path) -> Iterator[Dataset]:
    """`make_pairs` in `home`, which is the lab's while a fixture yields from this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMOD_HOME", str(home))
        yield make_pairs(home)
