"""Score a trained method on the test patients: slices -> volume -> metrics on the native grid -> table and means."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from xmod_lab.data.batches import Slices
from xmod_lab.data.geometry import SliceGeometry
from xmod_lab.data.prepare import Prepared, test_slices, truth_labels
from xmod_lab.data.volume import patients
from xmod_lab.evaluate.masks import capped_assd, score_labels
from xmod_lab.files import atomic_file, write_json

if TYPE_CHECKING:
    import pandas as pd

    from xmod_lab.methods.base import Method

EXAMPLES = 4
"""test slices a modality kept in the run folder"""


@dataclass(frozen=True)
class Case:
    """One test volume: its slices as a network sees them, how they were cut, and the truth on the volume's own grid."""

    patient: str
    modality: str
    slices: Slices
    geometry: SliceGeometry
    spacing: tuple[float, float, float]
    truth: np.ndarray
    """class index (x, y, z)"""


def test_volumes(prepared: Prepared, modality: str) -> Iterator[Case]:
    """The test patients' volumes of `modality`, read one at a time."""
    have = set(patients(prepared.data, modality.split("+")[0]))
    for patient in prepared.split.test:
        if patient in have:
            slices, geometry, volume = test_slices(prepared, patient, modality)
            if prepared.classes:
                truth = truth_labels(prepared, patient, modality)
            else:  # a task that only translates
                truth = np.zeros(volume.array.shape, np.uint8)
            yield Case(patient, modality, slices, geometry, volume.spacing, truth)


def slices_at(slices: Slices, kept: torch.Tensor) -> Slices:
    """Some of the slices by their number in the batch (n,), without labels."""
    names = [slices.patient[i] for i in kept.tolist()]
    return Slices(slices.image[kept], None, slices.foreground[kept], names, slices.index[kept])


def fullest(case: Case, count: int | None) -> torch.Tensor:
    """Numbers (n,) of the `count` slices with most of the task's classes, without any with most of the body, in their
    order; all of them for None."""
    area = (case.geometry.forward(case.truth, "nearest") > 0).sum((1, 2))
    area = area if area.any() else case.slices.foreground.numpy().sum((1, 2))
    return torch.from_numpy(np.sort(np.argsort(area, kind="stable")[-(count or len(area)) :]))


def predict_volume(method: Method, case: Case, network: str | None = None, batch: int = 32) -> np.ndarray:
    """Class indices (x, y, z) uint8 on the volume's own grid, every slice predicted exactly once.

    network: the modality whose network segments, for methods that have several; default the tested one. Probabilities,
    not labels, are brought back to the grid before the argmax.
    """
    return labels_of(method, case, lambda image: method.segment(image, network or case.modality), batch=batch)  # type: ignore[operator]


def labels_of(
    method: Method,
    case: Case,
    logits_of: Callable[[torch.Tensor], torch.Tensor],
    image: torch.Tensor | None = None,
    batch: int = 32,
) -> np.ndarray:
    """`predict_volume` by another function of slices (b, k, S, S), or of other slices of the case than its own."""
    return case.geometry.labels(probabilities_of(method, case, logits_of, image, batch))


@torch.no_grad()
def probabilities_of(
    method: Method,
    case: Case,
    logits_of: Callable[[torch.Tensor], torch.Tensor],
    image: torch.Tensor | None = None,
    batch: int = 32,
) -> np.ndarray:
    """Class probabilities (D, c, S, S) float32 of what `labels_of` brings back to the grid."""
    device = next(method.parameters()).device
    images = (case.slices.image if image is None else image).split(batch)
    parts = [logits_of(part.to(device)).float().softmax(1).cpu().numpy() for part in images]
    return np.concatenate(parts)


def structures_of(prepared: Prepared) -> dict[str, list[int]]:
    """Class indices of every class and region that the task scores."""
    index = {name: [i] for i, name in enumerate(prepared.classes, start=1)}
    regions = {name: [i for member in group for i in index[member]] for name, group in prepared.task.regions.items()}
    return index | regions


def networks_for(method: Method, modality: str) -> tuple[str, ...]:
    """The networks that segment `modality`: all of a method that has several (the cross-modality matrix)."""
    return tuple(getattr(method, "segmenters", ())) or (modality,)


def network_for(method: Method, modality: str) -> str:
    """The one that shows how `modality` is segmented: its own, or else the first."""
    networks = networks_for(method, modality)
    return modality if modality in networks else networks[0]


def score_names(table: pd.DataFrame) -> dict[str, float]:
    """Means over patients: ``dice/T2/WT``, and ``dice/T1->T2/WT`` where the network of T1 segments T2.

    Likewise hd95_max, assd_pooled, assd_cap50 (`masks.capped_assd`) and the count of `missing` structures.
    """
    found: dict[str, float] = {}
    for (modality, network, structure), rows in table.groupby(["modality", "network", "structure"], sort=True):
        where = modality if network == modality else f"{network}->{modality}"
        for metric in ("dice", "hd95_max", "assd_pooled", "assd_cap50"):
            found[f"{metric}/{where}/{structure}"] = float(rows[metric].mean())
        found[f"missing/{where}/{structure}"] = float(rows["missing"].sum())
    return found


def score_run(method: Method, prepared: Prepared, folder: Path, facts: dict[str, Any], name: str = "method") -> None:
    """Write scores.csv and examples.npz of a method that segments, errors.csv of one that translates where the truth
    is known (`name` is what its rows call it), and, last, scores.json with `facts` beside the means. In a task without
    classes nothing segments."""
    from xmod_lab.evaluate.translators import error_names, score_translator

    method.eval()
    means: dict[str, float] = {}
    if prepared.classes and callable(getattr(method, "segment", None)):
        table = _score_segmenter(method, prepared, folder)
        means |= score_names(table)
    errors = score_translator(method, prepared, name).errors
    if len(errors):
        _write_csv(errors, folder / "errors.csv")
        means |= error_names(errors, name)
    about = {"unit": prepared.data.unit, "patients": len(prepared.split.test), "means": means}
    write_json(folder / "scores.json", facts | about)


def _score_segmenter(method: Method, prepared: Prepared, folder: Path) -> pd.DataFrame:
    import pandas as pd

    rows: list[dict[str, Any]] = []
    examples: dict[str, list[Any]] = {}
    for modality in prepared.task.tested:
        for number, case in enumerate(test_volumes(prepared, modality)):
            for network in networks_for(method, modality):
                predicted = predict_volume(method, case, network)
                scored = score_labels(predicted, case.truth, structures_of(prepared), case.spacing)
                whose = {"patient": case.patient, "modality": modality, "network": network}
                for row in scored:
                    region = row["structure"] in prepared.task.regions
                    rows.append(whose | {"region": region} | row | {"assd_cap50": capped_assd(row)})
            if number < EXAMPLES:
                for name, value in _example(method, case).items():
                    examples.setdefault(f"{modality}/{name}", []).append(value)
    table = pd.DataFrame(rows)
    _write_csv(table, folder / "scores.csv")
    with atomic_file(folder / "examples.npz") as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(
            stream, allow_pickle=False, **{name: np.stack(values) for name, values in examples.items()}
        )
    return table


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    with atomic_file(path) as temporary:
        table.to_csv(temporary, index=False)


@torch.no_grad()
def _example(method: Method, case: Case) -> dict[str, Any]:
    """The slice with most of the structures in it, as the network saw it, with truth and prediction (S, S)."""
    truth = case.geometry.forward(case.truth, "nearest")
    row = int((truth > 0).sum((1, 2)).argmax())
    image = case.slices.image[row : row + 1].to(next(method.parameters()).device)
    logits = method.segment(image, network_for(method, case.modality))  # type: ignore[operator]
    return {
        "image": case.slices.image[row, image.shape[1] // 2].numpy().astype(np.float16),
        "truth": truth[row].astype(np.uint8),
        "prediction": logits.argmax(1)[0].cpu().numpy().astype(np.uint8),
        "patient": np.array(case.patient),
    }
