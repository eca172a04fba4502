"""A tiny synthetic data set on disk, for tests of everything that reads volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn

from xmod_lab.data import manifest, volume
from xmod_lab.rng import numpy_rng

CONTRASTS = ((200.0, 500.0, 350.0), (500.0, 200.0, 300.0), (300.0, 350.0, 600.0), (400.0, 450.0, 200.0))
"""body, core and rim of the first, second ... modality"""


def make_tiny(folder: Path, modalities: tuple[str, ...] = ("A", "B"), patients: int = 12,
              shape: tuple[int, int, int] = (24, 20, 6), relation: str = "registered", *, key: str = "tiny",
              noise: float = 10.0, kinds: dict[str, str] | None = None, data_fields: dict[str, Any] | None = None,
              **task: Any) -> manifest.Dataset:
    """Write volumes of an ellipsoid body with a core (label 1) and a rim around it (label 2) to ``folder/data/key``.

    The test sets XMOD_HOME to `folder`. Independent data sets get patients of their own for each modality. Fields of
    the task (labelled, unlabelled, tested, draw ...) and of the data set (`data_fields`) may be given; the first
    modality is labelled, the others are not.
    """
    root = Path(folder) / "data" / key
    affine = np.diag([1.0, 1.5, 3.0, 1.0])
    for number in range(patients):
        for place, name in enumerate(modalities):
            if relation == "independent" and number % len(modalities) != place:
                continue
            patient = f"p{number:03d}" if relation != "independent" else f"{name.lower()}{number:03d}"
            image, label = phantom(number, CONTRASTS[place % len(CONTRASTS)], shape, noise, name)
            volume.save_nifti(root / patient / f"{name}.nii.gz", image, affine)
            volume.save_nifti(root / patient / f"{name}_seg.nii.gz", label, affine)
    return manifest.parse(tiny_manifest(modalities, relation, key, kinds or {}, data_fields or {}, task), "tiny")[key]


def phantom(number: int, contrast: tuple[float, float, float], shape: tuple[int, int, int], noise: float,
            name: str) -> tuple[np.ndarray, np.ndarray]:
    """Image int16 and label uint8; the label depends on `number` alone."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    centre = numpy_rng("tiny", number).uniform(-0.25, 0.25, 3)
    body = sum((a / s) ** 2 for a, s in zip(axes, (0.8, 0.9, 1.3), strict=True)) <= 1
    away = np.sqrt(sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True)))
    label = np.where(body & (away < 0.35), 1, np.where(body & (away < 0.5), 2, 0)).astype(np.uint8)
    image = np.zeros(shape)
    for where, value in ((body, contrast[0]), (label == 1, contrast[1]), (label == 2, contrast[2])):
        image[where] = value
    image += body * numpy_rng("tiny", number, name).normal(0, noise, shape)
    return np.rint(image).astype(np.int16), label


def tiny_manifest(modalities: tuple[str, ...], relation: str, key: str, kinds: dict[str, str],
                  data_fields: dict[str, Any], task: dict[str, Any]) -> str:
    entry = {
        "title": "Tiny", "licence": "none", "citation": "none", "homepage": "https://example.org", "relation": relation,
        "access": "registration", "steps": ["Written by a test."],
        "modalities": {m: {"kind": kinds.get(m, "MR"), "pattern": f"{{patient}}/{m}.nii.gz",
                           "label": {"pattern": f"{{patient}}/{m}_seg.nii.gz", "values": {1: "core", 2: "rim"}}}
                       for m in modalities},
        "tasks": {"both": {"title": "core and rim", "labelled": [modalities[0]], "unlabelled": list(modalities[1:]),
                           "tested": list(modalities), "classes": {"core": ["core"], "rim": ["rim"]},
                           "recipe": "bigl", **task}},
        **data_fields}
    return yaml.safe_dump({key: entry})


def exported(network: nn.Module, path: Path, size: int) -> None:
    """Write a network of slices (b, 1, size, size) as a reader brings it."""
    example = (torch.rand(2, 1, size, size),)
    program = torch.export.export(network.eval(), example, dynamic_shapes=({0: torch.export.Dim.AUTO},))
    torch.export.save(program, path)
