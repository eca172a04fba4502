"""A method's maps as a view: which map lies on which image, where its slices lie, and in which units."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from tests.joint import built
from tests.tiny import make_tiny
from xmod_lab.data.batches import Slices
from xmod_lab.data.prepare import Prepared, prepare
from xmod_lab.data.volume import load_image
from xmod_lab.errors import LabError
from xmod_lab.evaluate.runs import test_volumes as volumes_of
from xmod_lab.maps import SHUFFLED, TRAINED, Map
from xmod_lab.methods.base import Method, Problem
from xmod_lab.view.atlas import case_view, in_units, looks_like, maps_of_case, panel_of, place_of

PROBLEM = Problem(("A", "B"), ("A", "B"), ("A", "B"), (), ("core", "rim"), 1, 32)


class Looking(Method):
    """Maps whose values tell of which slice, and of how large a batch, they are."""

    def __init__(self, add: float = 0.0) -> None:
        super().__init__(None, PROBLEM)
        self.weight, self.add = torch.nn.Parameter(torch.zeros(1)), add
        self.translations = [("A", "B"), ("B", "A")]

    def translate(self, image: torch.Tensor, source: str, target: str) -> torch.Tensor:
        return -0.5 * image

    def maps(self, batch: dict[str, Slices]) -> dict[str, Map]:
        ((m, s),) = batch.items()
        assert len(s.image) == 1 and s.label is not None
        other = "B" if m == "A" else "A"
        index = s.index.float() + self.add
        flat = index[:, None, None].expand(1, 32, 32)
        found = {
            f"position/real/{m}": Map("pairwise", torch.eye(16)[None], m, "x", grid=(4, 4)),
            f"position/{other}/{m}": Map("pairwise", torch.full((1, 16, 16), 1 / 16), m, "x", grid=(4, 4)),
            f"size/{m}": Map("mask", flat, m, "x"),
            f"difference/A-B/{m}-{other}": Map("mask", flat, f"{m}-{other}", "x"),
        }
        return found | ({f"core/{m}": Map("mask", flat, m, "x")} if (s.label == 1).any() else {})


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepared:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    return prepare(make_tiny(tmp_path, ("A", "B")), None, 32)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("position/real/T1", ("position", "T1")),
        ("position/T2/T1", ("position", "T1 as T2")),
        ("position/T1/T1", ("position", "T1")),
        ("gate/segmentation/2/T1", ("gate/segmentation/2", "T1")),
        ("critic/feature/T2/T1", ("critic/feature", "T1 as T2")),
        ("probability/T1", ("probability", "T1")),
        ("probability/T2", None),
        ("affinity_difference/3-4/ED/T1-T2", None),
    ],
)
def test_the_image_that_a_map_lies_on(name: str, found: tuple[str, str] | None) -> None:
    assert panel_of(name, "T1", ("T1", "T2")) == found


def test_the_view_of_a_volume(prepared: Prepared) -> None:
    case = next(volumes_of(prepared, "A"))
    view = case_view(Looking(), prepared, case, [3, 4], nulls={"untrained": Looking(10.0)}, back=True, note="tiny")
    assert list(view.images) == ["A", "A as B", "A as B and back"]
    assert view.images["A as B"] == pytest.approx(-0.5 * view.images["A"], abs=1e-5)
    assert view.images["A as B and back"] == pytest.approx(0.25 * view.images["A"], abs=1e-5)
    assert {name: set(by) for name, by in view.maps.items()}["position"] == {"A", "A as B"}
    assert view.maps["size"]["A"].values[:, 0, 0].tolist() == [3.0, 4.0]
    view.set(map="size", slice=1)
    assert view.shown()["untrained"]["A"].max() == 14.0
    shown = view.set(map="position").shown()
    assert list(shown) == [TRAINED, "untrained", SHUFFLED]
    assert "difference/A-B" not in view.maps
    labels = case.geometry.forward(case.truth, "nearest")
    assert (view.labels["A as B"] == labels[3:5]).all()


def test_what_a_slice_lacks_is_left_out_for_all(prepared: Prepared) -> None:
    case = next(volumes_of(prepared, "A"))
    labels = torch.from_numpy(case.geometry.forward(case.truth, "nearest").astype(np.int64))
    have = (labels == 1).any(2).any(1)
    assert have.any() and not have.all()
    slices = case.slices._replace(label=labels)

    def names(rows: torch.Tensor) -> set[str]:
        kept = rows.nonzero()[:, 0].tolist()
        some = Slices(slices.image[kept], labels[kept], slices.foreground[kept], ["p"] * len(kept), slices.index[kept])
        return set(maps_of_case(Looking(), some, "A"))

    assert "core" in names(have)
    assert "core" not in names(torch.ones_like(have))


def test_only_what_is_asked_for(prepared: Prepared) -> None:
    case = next(volumes_of(prepared, "A"))
    view = case_view(Looking(), prepared, case, select=("pos*",))
    assert list(view.maps) == ["position"]
    assert view.images["A"].shape[0] == 1
    with pytest.raises(LabError, match="no map of A matches gate"):
        case_view(Looking(), prepared, case, select=("gate*",))


def test_place_is_that_of_the_file(prepared: Prepared) -> None:
    """The voxel under a pixel holds the pixel's label; millimetres are the affine's."""
    case = next(volumes_of(prepared, "A"))
    labels = case.geometry.forward(case.truth, "nearest")
    at = int((labels == 1).sum((1, 2)).argmax())
    row, column = np.argwhere(labels[at] == 1)[0]
    place = place_of(prepared, case, [at])
    assert place.voxel is not None and place.mm is not None
    stored = load_image(prepared.data, case.patient, "A")
    native = stored.to_native(case.truth)
    voxel = (place.voxel @ [0, row, column, 1])[:3]
    assert native[tuple(np.rint(voxel).astype(int))] == 1
    assert place.mm @ [0, row, column, 1] == pytest.approx(stored.grid.affine @ [*voxel, 1])
    sides = nib.aff2axcodes(stored.grid.affine)
    assert len(sides) == 3


def test_ct_with_a_fixed_window_is_in_hounsfield_units(prepared: Prepared) -> None:
    image = np.array([[[-1.0, 0.0, 1.0]]], np.float32)
    modalities = dict(prepared.data.modalities)
    modalities["A"] = modalities["A"].model_copy(update={"kind": "CT"})
    data: Any = prepared.data.model_copy(update={"modalities": modalities})
    recipe = dataclasses.replace(prepared.recipe, ct_window=(-160.0, 240.0), scale="minmax")
    ct = dataclasses.replace(prepared, data=data, recipe=recipe)
    found, kind, unit = in_units(image, ct, "A")
    assert (found.ravel().tolist(), kind, unit) == ([-160.0, 40.0, 240.0], "CT", "HU")
    assert in_units(image, ct, "B")[2] == ""
    free = dataclasses.replace(ct, recipe=dataclasses.replace(ct.recipe, ct_window=None))
    assert in_units(image, free, "A")[2] == ""


@pytest.mark.parametrize("name", ["bigl", "sasan", "uagan", "ugatit", "csa", "ummkd", "targan", "sifa"])
def test_every_method_with_maps_has_a_view(name: str, prepared: Prepared) -> None:
    method = built(name)
    case = next(volumes_of(prepared, "A"))
    neighbours = method.problem.channels
    slices = case.slices._replace(image=case.slices.image.repeat(1, neighbours, 1, 1))
    view = case_view(method, prepared, dataclasses.replace(case, slices=slices))
    assert view.maps
    for known in view.maps:
        assert view.set(map=known).shown()[TRAINED]
    assert len(view.to_html()) > 1000


def test_cells_of_a_matrix_know_the_two_stacks_they_compare(prepared: Prepared) -> None:
    """Of CSA each row of an affinity is a channel of one group, each column one of the other; SASAN's cosines are of
    its own maps."""
    case = next(volumes_of(prepared, "A"))
    view = case_view(built("csa"), prepared, case)
    (rows, columns), = {view.behind[name] for name in view.maps if name.startswith("affinity/near")}
    assert (rows, columns) == ("features/5", "features/6")
    matrix = view.maps["affinity/near/background"]["A"].values[0]
    assert matrix.shape == tuple(view.maps[name]["A"].values.shape[1] for name in (rows, columns))
    method = built("sasan")
    slices = case.slices._replace(image=case.slices.image.repeat(1, method.problem.channels, 1, 1))
    behind = case_view(method, prepared, dataclasses.replace(case, slices=slices)).behind
    assert behind["gram"] == ("attention", "attention")


@pytest.mark.parametrize(("panel", "look"), [("CT", "CT"), ("MR as CT", "CT"), ("CT as MR and back", "CT")])
def test_a_panel_has_the_units_of_its_look(panel: str, look: str) -> None:
    assert looks_like(panel) == look


def test_slices_apart_lie_nowhere(prepared: Prepared) -> None:
    case = next(volumes_of(prepared, "A"))
    assert place_of(prepared, case, [2, 3]).mm is not None
    assert place_of(prepared, case, [2, 5]) == (None, None)
