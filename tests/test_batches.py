"""Batches: whose slices, how many, drawn again the same; every case of the contract."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import make_tiny

from xmod_lab.data.batches import BatchSource, Slices
from xmod_lab.data.manifest import Dataset
from xmod_lab.data.prepare import Prepared, prepare
from xmod_lab.errors import LabError

THREE = ("A", "B", "C")
WRITTEN: dict[str, Dataset] = {}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("batches")


@pytest.fixture
def made(home: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Prepare a tiny data set; each key is written once."""
    monkeypatch.setenv("XMOD_HOME", str(home))

    def make(key: str, *args: Any, swap: bool = False, **fields: Any) -> Prepared:
        if key not in WRITTEN:
            WRITTEN[key] = make_tiny(home, *args, key=key, **fields)
        return prepare(WRITTEN[key], None, 32, swap=swap)

    return make


def same(first: dict[str, Slices], second: dict[str, Slices]) -> bool:
    if first.keys() != second.keys():
        return False
    for name in first:
        for a, b in zip(first[name], second[name], strict=True):
            if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
                if a.shape != b.shape or not torch.equal(a, b):
                    return False
            elif a != b:
                return False
    return True


def test_shapes_and_types(made: Any) -> None:
    batch = BatchSource(made("plain", THREE, patients=24), 7, 0).draw(0)
    assert list(batch) == ["A", "B", "C"]
    for name, slices in batch.items():
        count = len(slices.patient)
        assert slices.image.shape == (count, 1, 32, 32) and slices.image.dtype == torch.float32
        assert slices.foreground.shape == (count, 32, 32) and slices.foreground.dtype == torch.bool
        assert slices.index.shape == (count,) and slices.index.dtype == torch.int64
        assert (slices.label is None) == (name != "A")
    label = batch["A"].label
    assert label is not None and label.shape == (len(batch["A"].patient), 32, 32) and label.dtype == torch.int64


@pytest.mark.parametrize("size", [3, 4, 5, 6, 8])
@pytest.mark.parametrize(("rank", "world"), [(0, 1), (1, 2)])
def test_shares_add_up_and_rotate(made: Any, size: int, rank: int, world: int) -> None:
    source = BatchSource(made("plain", THREE, patients=24), size, 0, rank=rank, world=world)
    total: Counter[str] = Counter()
    for step in range(9):
        shares = source.shares(step)
        assert sum(shares.values()) == size and max(shares.values()) - min(shares.values()) <= 1
        assert {m: len(s.patient) for m, s in source.draw(step).items()} == shares
        total.update(shares)
    assert set(total.values()) == {3 * size}  # over three steps in turn every modality has its equal part


def test_an_unpaired_batch_never_holds_a_patient_twice(made: Any) -> None:
    """One modality per patient, all modalities of a patient, and different subjects."""
    for prepared in (made("plain", THREE, patients=24),
                     made("all", THREE, patients=12, one_modality_per_patient=False),
                     made("apart", ("A", "B"), patients=24, relation="independent")):
        assert not prepared.split.demonstration
        source = BatchSource(prepared, 9, 0)
        for step in range(30):
            drawn = [set(slices.patient) for slices in source.draw(step).values()]
            assert sum(map(len, drawn)) == len(set.union(*drawn))


def test_all_patients_and_slices_come_up(made: Any) -> None:
    """Also where patients are dealt anew for each batch: everyone appears in every modality in the long run."""
    prepared = made("all", THREE, patients=12, one_modality_per_patient=False)
    source = BatchSource(prepared, 9, 0, augment="none")
    seen: dict[str, set[tuple[str, int]]] = {m: set() for m in THREE}
    for step in range(150):
        for m, slices in source.draw(step).items():
            seen[m] |= set(zip(slices.patient, slices.index.tolist(), strict=True))
    for m in THREE:
        rows = prepared.index[m][prepared.rows(m, "train")]
        assert seen[m] == set(zip(rows["patient"].tolist(), rows["slice"].tolist(), strict=True))


def test_draws_depend_on_their_name_alone(made: Any) -> None:
    prepared = made("plain", THREE, patients=24)
    source = BatchSource(prepared, 6, 3)
    first = source.draw(17)
    for step in range(5):
        source.draw(step)
    torch.rand(10)
    assert same(source.draw(17), first)
    assert same(BatchSource(prepared, 6, 3).draw(17), first)
    assert not same(source.draw(18), first)
    assert not same(BatchSource(prepared, 6, 4).draw(17), first)
    assert not same(BatchSource(prepared, 6, 3, rank=1, world=2).draw(17), first)


def test_augmentations_share_the_draw_of_slices(made: Any) -> None:
    prepared = made("plain", THREE, patients=24)
    none, standard, strong = (BatchSource(prepared, 6, 0, augment=a).draw(2) for a in ("none", "standard", "strong"))
    for m in THREE:
        assert none[m].patient == standard[m].patient == strong[m].patient
        assert not torch.equal(none[m].image, standard[m].image)
        assert torch.equal(standard[m].foreground, strong[m].foreground)  # the same movement
    assert torch.equal(standard["A"].label, strong["A"].label)  # type: ignore[arg-type]


def test_without_augmentation_a_batch_holds_the_stored_slices(made: Any) -> None:
    prepared = made("plain", THREE, patients=24)
    slices = BatchSource(prepared, 6, 0, augment="none").draw(0)["A"]
    index = prepared.index["A"]
    for i, (patient, number) in enumerate(zip(slices.patient, slices.index.tolist(), strict=True)):
        row = int(np.flatnonzero((index["patient"] == patient) & (index["slice"] == number))[0])
        assert np.array_equal(slices.image[i, 0].numpy(), prepared.images["A"][row].astype(np.float32))
        assert slices.label is not None and np.array_equal(slices.label[i].numpy(), prepared.labels["A"][row])


def test_paired_batches_are_registered_slices_moved_alike(made: Any) -> None:
    prepared = made("paired", ("A", "B"), patients=12, draw="paired", one_modality_per_patient=False, noise=0.0)
    for augment in ("none", "standard"):
        source = BatchSource(prepared, 8, 0, augment=augment)
        for step in range(5):
            batch = source.draw(step)
            assert batch["A"].patient == batch["B"].patient
            assert torch.equal(batch["A"].index, batch["B"].index)
            assert torch.equal(batch["A"].foreground, batch["B"].foreground)
    odd = BatchSource(prepared, 7, 0).draw(0)
    few = min(len(s.patient) for s in odd.values())
    assert odd["A"].patient[:few] == odd["B"].patient[:few]
    assert torch.equal(odd["A"].foreground[:few], odd["B"].foreground[:few])


def test_a_demonstration_may_reuse_patients(made: Any) -> None:
    prepared = made("few", THREE, patients=2, labelled=list(THREE), unlabelled=[])
    assert prepared.split.demonstration
    batch = BatchSource(prepared, 6, 0).draw(0)
    assert {len(s.patient) for s in batch.values()} == {2}
    assert len({p for s in batch.values() for p in s.patient}) == 1


def test_neighbours_stop_at_the_ends_of_the_volume(made: Any) -> None:
    prepared = made("three", ("A", "B"), patients=16, neighbours=3)
    source = BatchSource(prepared, 4, 0, augment="none")
    index = prepared.index["A"]
    rows = np.flatnonzero(index["patient"] == index["patient"][0])
    image = source.at("A", rows).image
    assert image.shape == (6, 3, 32, 32)
    middle = image[:, 1]
    assert torch.equal(image[:, 0], middle[[0, 0, 1, 2, 3, 4]])
    assert torch.equal(image[:, 2], middle[[1, 2, 3, 4, 5, 5]])
    assert BatchSource(prepared, 4, 0).draw(0)["A"].image.shape == (2, 3, 32, 32)


def test_stacked_modalities_are_channels(made: Any) -> None:
    prepared = made("stack", THREE, patients=12, labelled=["A+C"], unlabelled=[], tested=["A+C"], stack=["A", "C"],
                    one_modality_per_patient=False)
    batch = BatchSource(prepared, 4, 0).draw(0)
    assert batch["A+C"].image.shape == (4, 2, 32, 32) and prepared.channels == 2


def test_derived_images_share_their_source_s_draw_and_movement(made: Any) -> None:
    prepared = made("plain", THREE, patients=24)
    copy = np.array(prepared.images["A"])
    source = BatchSource(prepared, 6, 0, augment="strong", extra={"A->B": copy})
    batch = source.draw(4)
    assert list(batch) == ["A", "A->B", "B", "C"]
    assert torch.equal(batch["A->B"].image, batch["A"].image)
    assert torch.equal(batch["A->B"].label, batch["A"].label)  # type: ignore[arg-type]
    without = BatchSource(prepared, 6, 0, augment="strong").draw(4)
    assert same({m: batch[m] for m in THREE}, without)  # derived images change nothing else
    with pytest.raises(LabError, match="derived images 'A->B' are not parallel to the rows of 'A'"):
        BatchSource(prepared, 6, 0, extra={"A->B": copy[:-1]})


def test_validation_covers_every_slice_once_without_augmentation(made: Any) -> None:
    prepared = made("plain", THREE, patients=24)
    source = BatchSource(prepared, 4, 0)
    seen: dict[str, list[tuple[str, int]]] = {m: [] for m in THREE}
    for batch in source.validation():
        for m, slices in batch.items():
            seen[m] += zip(slices.patient, slices.index.tolist(), strict=True)
    for m in THREE:
        rows = prepared.index[m][prepared.rows(m, "val")]
        assert seen[m] == list(zip(rows["patient"].tolist(), rows["slice"].tolist(), strict=True))
    assert all(same(a, b) for a, b in zip(source.validation(), source.validation(), strict=True))
    few = [len(s.patient) for batch in source.validation(3) for s in batch.values()]
    spread = {m: [p for b in source.validation(3) if m in b for p in b[m].patient] for m in THREE}
    assert sum(few) == 9 and all(len(set(names)) == len({p for p, _ in seen[m]}) for m, names in spread.items())


def test_swapped_labels_reach_the_batch(made: Any) -> None:
    batch = BatchSource(made("plain", THREE, patients=24, swap=True), 6, 0).draw(0)
    assert batch["A"].label is None and batch["B"].label is not None and batch["C"].label is not None


def test_a_subset_of_modalities(made: Any) -> None:
    batch = BatchSource(made("plain", THREE, patients=24), 6, 0, modalities=["B"]).draw(0)
    assert list(batch) == ["B"] and len(batch["B"].patient) == 6


def test_errors(made: Any) -> None:
    prepared = made("plain", THREE, patients=24)
    with pytest.raises(LabError, match="batch size 2 does not reach for 3 modalities"):
        BatchSource(prepared, 2, 0)
    with pytest.raises(LabError, match="modality 'Z' is not among the prepared ones.*A, B, C"):
        BatchSource(prepared, 6, 0, modalities=["Z"])
    with pytest.raises(LabError, match="no augmentation 'wild'"):
        BatchSource(prepared, 6, 0, augment="wild")
    paired = made("nothing_shared", ("A", "B"), patients=16, draw="paired", one_modality_per_patient=False)
    paired.index["B"]["patient"] = "x" + paired.index["B"]["patient"][0]
    paired.split.train["B"][:] = sorted(set(paired.index["B"]["patient"]))
    with pytest.raises(LabError, match="no slice is there in all of A, B"):
        BatchSource(paired, 6, 0)
