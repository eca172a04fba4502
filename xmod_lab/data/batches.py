"""Batches of slices by modality, drawn by name: step and rank say what a batch holds, not what was drawn before."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from xmod_lab.data.augment import Draw, augmented, draw_augmentation
from xmod_lab.errors import LabError
from xmod_lab.rng import numpy_rng, torch_rng

if TYPE_CHECKING:
    from xmod_lab.data.prepare import Prepared


class Slices(NamedTuple):
    """Slices of one modality."""

    image: torch.Tensor
    """float32 (b, k, h, w) in the task's range; k = stacked modalities x neighbours, each modality's side by side"""
    label: torch.Tensor | None
    """int64 (b, h, w) of the middle slice; None where the task does not let training read it"""
    foreground: torch.Tensor
    """bool (b, h, w) of the middle slice"""
    patient: list[str]
    index: torch.Tensor  # type: ignore[assignment]  # tuple.index is never wanted here
    """int64 (b,) slice number in the volume"""


def neighbour_rows(rows: np.ndarray, first: np.ndarray, last: np.ndarray, neighbours: int) -> np.ndarray:
    """(n,) rows -> (n, neighbours) rows around each; at the volume's ends the outermost slice is repeated."""
    offsets = np.arange(neighbours) - neighbours // 2
    return np.clip(rows[:, None] + offsets, first[:, None], last[:, None])


def as_channels(picked: np.ndarray) -> torch.Tensor:
    """(b, neighbours, h, w[, stack]) -> float32 (b, stack * neighbours, h, w)."""
    if picked.ndim == 5:
        picked = np.moveaxis(picked, -1, 1)
        picked = picked.reshape(picked.shape[0], -1, *picked.shape[3:])
    return torch.from_numpy(np.ascontiguousarray(picked, dtype=np.float32))


class BatchSource:
    """Batches of a prepared task.

    `batch_size` is the total over the modalities, of one process; shares differ by at most one and rotate with the
    step. Unpaired batches never hold one patient in two modalities (unless the split is a demonstration and cannot do
    otherwise); paired ones hold the same registered slices of the same patients, augmented alike. `extra` are derived
    images such as ``"T1->T2"``, stored as `Prepared.images` are, rows parallel to those of the modality before the
    arrow: they appear beside it, with its draw and its augmentation.
    """

    def __init__(self, prepared: Prepared, batch_size: int, seed: int, *, augment: str = "standard", rank: int = 0,
                 world: int = 1, modalities: list[str] | None = None, extra: dict[str, np.ndarray] | None = None):
        self.prepared, self.batch_size, self.seed = prepared, batch_size, seed
        self.augment, self.rank, self.world = augment, rank, world
        self.modalities = list(modalities or prepared.modalities)
        self.extra = dict(extra or {})
        self._check()
        self._train = {m: prepared.rows(m, "train") for m in self.modalities}
        self._bounds = {m: _patient_bounds(prepared.index[m]["patient"]) for m in self.modalities}
        self._paired = prepared.task.draw == "paired" and len(self.modalities) > 1
        if self._paired:
            self._train = self._common(self._train)
        self._by_patient = {m: _grouped(rows, prepared.index[m]["patient"]) for m, rows in self._train.items()}
        self._disjoint = prepared.data.relation == "independent" or self._no_shared_patient()

    def _check(self) -> None:
        if unknown := [m for m in self.modalities if m not in self.prepared.images]:
            raise LabError(f"modality {unknown[0]!r} is not among the prepared ones",
                           mend=f"they are {', '.join(self.prepared.modalities)}")
        if self.batch_size < len(self.modalities):
            raise LabError(f"batch size {self.batch_size} does not reach for {len(self.modalities)} modalities",
                           mend="raise it to one slice of each at least")
        if self.augment not in ("standard", "none", "strong"):
            raise LabError(f"no augmentation {self.augment!r}", mend="it is standard, none or strong")
        for name, array in self.extra.items():
            source = name.split("->")[0]
            if source not in self.modalities or len(array) != len(self.prepared.images[source]):
                raise LabError(f"derived images {name!r} are not parallel to the rows of {source!r}",
                               mend="derive them again")

    def _no_shared_patient(self) -> bool:
        names = [p for groups in self._by_patient.values() for p in groups]
        return len(names) == len(set(names))

    def _common(self, rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Rows of the slices that every modality has, in one order."""
        by_slice = {}
        for m, numbers in rows.items():
            index = self.prepared.index[m][numbers]
            keys = zip(index["patient"].tolist(), index["slice"].tolist(), strict=True)
            by_slice[m] = dict(zip(keys, numbers.tolist(), strict=True))
        shared = sorted(set.intersection(*(set(found) for found in by_slice.values())))
        if not shared:
            raise LabError("no slice is there in all of " + ", ".join(rows), where=f"data set {self.prepared.data.key}",
                           mend="set one_modality_per_patient: false, or draw: unpaired")
        return {m: np.array([found[key] for key in shared]) for m, found in by_slice.items()}

    def shares(self, step: int) -> dict[str, int]:
        """How many slices of each modality step `step` holds."""
        count = len(self.modalities)
        base, more = divmod(self.batch_size, count)
        turn = step * self.world + self.rank
        return {m: base + ((i - turn * more) % count < more) for i, m in enumerate(self.modalities)}

    def _picked(self, step: int) -> dict[str, np.ndarray]:
        shares = self.shares(step)
        if self._paired:
            pool = self._train[self.modalities[0]]
            order = numpy_rng(self.seed, "draw", step, self.rank)
            chosen = order.choice(len(pool), max(shares.values()), replace=len(pool) < max(shares.values()))
            return {m: self._train[m][chosen[:n]] for m, n in shares.items()}
        pools = self._train if self._disjoint else self._dealt(step)
        picked = {}
        for m, n in shares.items():
            rng = numpy_rng(self.seed, "draw", step, self.rank, m)
            picked[m] = rng.choice(pools[m], n, replace=len(pools[m]) < n)
        return picked

    def _dealt(self, step: int) -> dict[str, np.ndarray]:
        """Deal the patients to the modalities for this batch; the modality with fewest choices takes one first."""
        rng = numpy_rng(self.seed, "patients", step, self.rank)
        everyone = sorted({p for groups in self._by_patient.values() for p in groups})
        order = [everyone[i] for i in rng.permutation(len(everyone))]
        owned: dict[str, list[str]] = {m: [] for m in self.modalities}
        for m in sorted(self.modalities, key=lambda m: len(self._by_patient[m])):
            first = next((p for p in order if p in self._by_patient[m]), None)
            if first is not None:
                order.remove(first)
                owned[m].append(first)
        for patient in order:
            choices = [m for m in self.modalities if patient in self._by_patient[m]]
            owned[min(choices, key=lambda m: len(owned[m]))].append(patient)
        if empty := [m for m in self.modalities if not owned[m]]:
            if not self.prepared.split.demonstration:
                raise LabError(f"too few patients for an unpaired batch with {empty[0]!r}",
                               where=f"data set {self.prepared.data.key}", mend="use more patients")
            for m in empty:  # a demonstration may reuse patients
                owned[m] = list(self._by_patient[m])
        return {m: np.concatenate([self._by_patient[m][p] for p in names]) for m, names in owned.items()}

    def draw(self, step: int) -> dict[str, Slices]:
        """The batch of `step`, augmented, on the CPU: a dict from modality (and derived name) to its slices."""
        picked = self._picked(step)
        shared = self._augmentation(max(map(len, picked.values())), step, "all") if self._paired else None
        batch: dict[str, Slices] = {}
        for m, rows in picked.items():
            draw = shared.first(len(rows)) if shared is not None else self._augmentation(len(rows), step, m)
            batch |= self._slices(m, rows, draw)
        return batch

    def _augmentation(self, count: int, step: int, name: str) -> Draw | None:
        if self.augment == "none":
            return None
        generator = torch_rng(self.seed, "augment", step, self.rank, name)
        return draw_augmentation(count, generator, flips=self.prepared.recipe.flips, strong=self.augment == "strong")

    def _slices(self, modality: str, rows: np.ndarray, draw: Draw | None) -> dict[str, Slices]:
        prepared = self.prepared
        first, last = (bound[rows] for bound in self._bounds[modality])
        around = neighbour_rows(rows, first, last, prepared.task.neighbours)
        images = {modality: prepared.images[modality]}
        images |= {name: array for name, array in self.extra.items() if name.split("->")[0] == modality}
        labels = prepared.labels.get(modality)
        label = None if labels is None else torch.from_numpy(labels[rows].astype(np.int64))
        body = torch.from_numpy(prepared.foregrounds[modality][rows].astype(bool))
        meta = prepared.index[modality][rows]
        names, index = [str(p) for p in meta["patient"]], torch.from_numpy(meta["slice"].astype(np.int64))
        batch, outside = {}, prepared.recipe.outside
        for name, array in images.items():
            image = as_channels(np.asarray(array[around]))
            if draw is None:
                batch[name] = Slices(image, label, body, names, index)
            else:
                batch[name] = Slices(*augmented(image, label, body, draw, prepared.value_range, outside), names, index)
        return batch

    def at(self, modality: str, rows: np.ndarray) -> Slices:
        """The slices of given rows of `modality`, not augmented."""
        return self._slices(modality, np.asarray(rows), None)[modality]

    def validation(self, limit: int | None = None) -> Iterator[dict[str, Slices]]:
        """The slices of the validation patients, in order, not augmented; a modality that has run out is left out.

        `limit` takes only so many of each modality, evenly spaced over patients and slices.
        """
        rows = {m: self.prepared.rows(m, "val") for m in self.modalities}
        if self._paired and all(len(r) for r in rows.values()):
            rows = self._common(rows)
        if limit is not None:
            rows = {m: r[np.linspace(0, len(r) - 1, min(limit, len(r))).astype(int)] for m, r in rows.items()}
        share = math.ceil(self.batch_size / len(self.modalities))
        for start in range(0, max(map(len, rows.values())), share):
            batch: dict[str, Slices] = {}
            for m in self.modalities:
                if start < len(rows[m]):
                    batch |= self._slices(m, rows[m][start:start + share], None)
            yield batch


def _patient_bounds(names: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last row of the patient that each row belongs to (a patient's rows are consecutive)."""
    starts = np.flatnonzero(np.r_[True, names[1:] != names[:-1]])
    lengths = np.diff(np.r_[starts, len(names)])
    return np.repeat(starts, lengths), np.repeat(starts + lengths - 1, lengths)


def _grouped(rows: np.ndarray, names: np.ndarray) -> dict[str, np.ndarray]:
    return {str(p): rows[names[rows] == p] for p in np.unique(names[rows])}
