"""Score a trained method on the test patients: slices -> volume -> metrics on the native grid -> a table and its means."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from xmod_lab.data.prepare import Prepared, test_slices, truth_labels
from xmod_lab.evaluate.masks import score_labels
from xmod_lab.files import atomic_file, write_json

if TYPE_CHECKING:
    import pandas as pd

    from xmod_lab.methods.base import Method

EXAMPLES = 4
"""test slices a modality kept in the run folder"""


@torch.no_grad()
def predict_volume(
    method: Method, prepared: Prepared, patient: str, modality: str, network: str | None = None, batch: int = 32
) -> np.ndarray:
    """Class indices (x, y, z) of one test patient on the volume's own grid, every slice predicted exactly once.

    network: the modality whose network segments, for methods that have several; default the tested one. Probabilities,
    not labels, are brought back to the grid before the argmax.
    """
    device = next(method.parameters()).device
    slices, geometry, _ = test_slices(prepared, patient, modality)
    parts = []
    for image in slices.image.split(batch):
        logits = method.segment(image.to(device), network or modality)  # type: ignore[operator]
        parts.append(logits.float().softmax(1).cpu().numpy())
    return geometry.backward(np.concatenate(parts)).argmax(0).astype(np.uint8)


def structures_of(prepared: Prepared) -> dict[str, list[int]]:
    """Class indices of every class and region that the task scores."""
    index = {name: [i] for i, name in enumerate(prepared.classes, start=1)}
    regions = {name: [i for member in group for i in index[member]] for name, group in prepared.task.regions.items()}
    return index | regions


def score_rows(method: Method, prepared: Prepared) -> Iterator[dict[str, Any]]:
    """A row a test patient, tested modality, network and structure.

    Where a method has a network a modality, each of them segments every tested modality (the cross-modality matrix).
    """
    segmenters = getattr(method, "segmenters", ())
    for modality in prepared.task.tested:
        for patient in tested_patients(prepared, modality):
            truth = truth_labels(prepared, patient, modality)
            spacing = test_slices(prepared, patient, modality)[2].spacing
            for network in segmenters or (modality,):
                predicted = predict_volume(method, prepared, patient, modality, network)
                for row in score_labels(predicted, truth, structures_of(prepared), spacing):
                    yield {"patient": patient, "modality": modality, "network": network} | row


def tested_patients(prepared: Prepared, modality: str) -> list[str]:
    """The test patients that have a file of `modality`."""
    return [patient for patient in prepared.split.test if patient in prepared.available[modality]]


def score_names(table: pd.DataFrame) -> dict[str, float]:
    """Means over patients: ``dice/T2/WT``, and ``dice/T1->T2/WT`` where the network of T1 segments T2; likewise hd95_max,
    assd_pooled and the count of `missing` structures."""
    found: dict[str, float] = {}
    for (modality, network, structure), rows in table.groupby(["modality", "network", "structure"], sort=True):
        where = modality if network == modality else f"{network}->{modality}"
        for metric in ("dice", "hd95_max", "assd_pooled"):
            found[f"{metric}/{where}/{structure}"] = float(rows[metric].mean())
        found[f"missing/{where}/{structure}"] = float(rows["missing"].sum())
    return found


def score_run(method: Method, prepared: Prepared, folder: Path, facts: dict[str, Any]) -> None:
    """Write scores.csv, examples.npz and, last, scores.json with `facts` beside the means."""
    import pandas as pd

    method.eval()
    if callable(getattr(method, "segment", None)):
        table = pd.DataFrame(list(score_rows(method, prepared)))
        with atomic_file(folder / "scores.csv") as temporary:
            table.to_csv(temporary, index=False)
        with atomic_file(folder / "examples.npz") as temporary, open(temporary, "wb") as stream:
            np.savez_compressed(stream, **_examples(method, prepared))
        facts = facts | {"unit": prepared.data.unit, "patients": len(prepared.split.test), "means": score_names(table)}
    write_json(folder / "scores.json", facts)


@torch.no_grad()
def _examples(method: Method, prepared: Prepared) -> dict[str, np.ndarray]:
    """For the first test patients of each modality, the slice with most of the structures in it, as the network saw it."""
    found: dict[str, np.ndarray] = {}
    device = next(method.parameters()).device
    for modality in prepared.task.tested:
        images, truths, predictions, names = [], [], [], []
        for patient in tested_patients(prepared, modality)[:EXAMPLES]:
            slices, geometry, _ = test_slices(prepared, patient, modality)
            truth = geometry.forward(truth_labels(prepared, patient, modality).astype(np.float32), "nearest", 0.0)
            row = int((truth > 0).sum((1, 2)).argmax())
            logits = method.segment(slices.image[row : row + 1].to(device), modality_network(method, modality))  # type: ignore[operator]
            images.append(slices.image[row, slices.image.shape[1] // 2].numpy().astype(np.float16))
            truths.append(truth[row].astype(np.uint8))
            predictions.append(logits.argmax(1)[0].cpu().numpy().astype(np.uint8))
            names.append(patient)
        if names:
            found |= {f"{modality}/image": np.stack(images), f"{modality}/truth": np.stack(truths),
                      f"{modality}/prediction": np.stack(predictions), f"{modality}/patient": np.array(names)}
    return found


def modality_network(method: Method, modality: str) -> str:
    """The network that a method would use on `modality`: its own where it has one, else its first."""
    segmenters = getattr(method, "segmenters", ())
    return modality if modality in segmenters or not segmenters else segmenters[0]
