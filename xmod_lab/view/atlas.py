"""A trained method's maps of one patient as a query view: the slice as it is, translated, and on its way back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch

from xmod_lab.data.batches import Slices
from xmod_lab.data.prepare import Prepared, test_slices
from xmod_lab.errors import LabError
from xmod_lab.evaluate.interventions import intervened
from xmod_lab.evaluate.runs import Case, fullest, slices_at
from xmod_lab.maps import TRAINED, Map
from xmod_lab.view.layers import Place
from xmod_lab.view.query_view import QueryView, query

if TYPE_CHECKING:
    from xmod_lab.methods.base import Method


def panel_of(name: str, modality: str, modalities: Sequence[str]) -> tuple[str, str] | None:
    """A map's name without what it is of, and the image that it lies on: ``position/T2/T1`` of a slice of T1 is
    ``position`` on ``T1 as T2``, ``position/real/T1`` and ``gate/1/T1`` lie on ``T1``. None if it is of another
    modality, or of a difference between two."""
    *kind, of = name.split("/")
    if of != modality:
        return None
    look = kind[-1] if len(kind) > 1 and kind[-1] in (*modalities, "real") else ""
    kind = kind[:-1] if look else kind
    return "/".join(kind), modality if look in ("", "real", modality) else f"{modality} as {look}"


def images_of_case(
    method: Method, prepared: Prepared, slices: Slices, modality: str, back: bool
) -> dict[str, np.ndarray]:
    """Slices (D, h, w) of the middle channel by panel: as they are, as each target, and from there back."""
    from xmod_lab.evaluate.translators import translations_of

    def middle(image: torch.Tensor) -> np.ndarray:
        return np.asarray(image[:, image.shape[1] // 2].float().cpu().numpy())

    found, pairs = {modality: middle(slices.image)}, translations_of(method, prepared)
    device = next(method.parameters()).device
    for target in [t for s, t in pairs if s == modality]:
        made = method.translate(slices.image.to(device), modality, target)  # type: ignore[operator]
        found[f"{modality} as {target}"] = middle(made)
        if back and (target, modality) in pairs:
            returned = method.translate(made, target, modality)  # type: ignore[operator]
            found[f"{modality} as {target} and back"] = middle(returned)
    return found


def maps_of_case(
    method: Method, slices: Slices, modality: str, select: Sequence[str] = ("*",)
) -> dict[str, dict[str, Map]]:
    """Maps of the slices by name and panel (`panel_of`), those whose whole name matches a pattern of `select`.

    Each slice goes through alone: some maps are means over a batch. What one of them lacks, as a class that it does not
    hold, is left out for all.
    """
    each: list[dict[str, Map]] = []
    known = method.problem.modalities
    for i in range(len(slices.image)):
        own = slices_at(slices, torch.tensor([i]))._replace(label=None if slices.label is None else slices.label[[i]])
        found = method.maps({modality: own})  # type: ignore[operator]
        each.append({name: one for name, one in found.items() if any(fnmatchcase(name, p) for p in select)})
    joined: dict[str, dict[str, Map]] = {}
    for name, first in each[0].items():
        placed = panel_of(name, modality, known)
        if placed is None or not all(name in one for one in each):
            continue
        values = torch.cat([one[name].values.float().cpu() for one in each])
        kind, panel = placed
        joined.setdefault(kind, {})[panel] = Map(
            first.kind, values, modality, first.layer, first.span, first.comparable, first.names, first.grid,
            tuple(of[0] for one in first.behind if (of := panel_of(one, modality, known))),
        )  # fmt: skip
    return joined


def labelled_slices(case: Case, at: Sequence[int]) -> Slices:
    """Slices of a test volume with its labels: some maps are of a class."""
    kept = torch.tensor(list(at))
    labels = torch.from_numpy(case.geometry.forward(case.truth, "nearest").astype(np.int64))
    return slices_at(case.slices, kept)._replace(label=labels[kept])


@dataclass(frozen=True)
class Changed:
    """A method with something changed inside, as a model to show beside it: see `interventions.intervened`."""

    method: Method
    layer: str
    how: str
    index: int | None = None


@torch.no_grad()
def case_view(
    method: Method,
    prepared: Prepared,
    case: Case,
    at: Sequence[int] | None = None,
    *,
    select: Sequence[str] = ("*",),
    nulls: Mapping[str, Method | Changed] | None = None,
    back: bool = False,
    title: str = "",
    note: str = "",
) -> QueryView:
    """The view of a test volume's slices `at` (default: the one with most of the labelled structures).

    select: patterns of maps' names as `maps` gives them. nulls: by name, other weights of the same method, such as
    untrained ones or another moment of training, or the method with something changed inside. back: with the way back
    of each translation.

    Raises LabError if the method has no such map of this modality.
    """
    at = fullest(case, 1).tolist() if at is None else list(at)
    device = next(method.parameters()).device
    slices = labelled_slices(case, at)
    assert slices.label is not None
    labels = slices.label.numpy()
    slices = slices._replace(image=slices.image.to(device), label=slices.label.to(device))
    images = images_of_case(method.eval(), prepared, slices, case.modality, back)
    found = {TRAINED: maps_of_case(method, slices, case.modality, select)}
    if not found[TRAINED]:
        raise LabError(f"no map of {case.modality} matches {', '.join(select)}", where=type(method).__name__)
    for name, one in (nulls or {}).items():
        if isinstance(one, Changed):
            with intervened(one.method, one.layer, one.how, one.index):
                found[name] = maps_of_case(one.method.eval(), slices, case.modality, select)
        else:
            found[name] = maps_of_case(one.eval(), slices, case.modality, select)
    models = {
        model: {k: kept for k, by in maps.items() if (kept := {p: one for p, one in by.items() if p in images})}
        for model, maps in found.items()
    }
    shown = {panel: in_units(image, prepared, looks_like(panel)) for panel, image in images.items()}
    maps = models.pop(TRAINED)
    pairs = {
        name: (stacks[0], stacks[1])
        for name, by in maps.items()
        if len(stacks := next(iter(by.values())).behind) == 2 and {*stacks} <= set(maps)
    }
    return query(
        maps, {panel: image for panel, (image, _, _) in shown.items()}, labels if labels.any() else None,
        classes=prepared.classes, nulls=models, kinds={panel: kind for panel, (_, kind, _) in shown.items()},
        units={panel: unit for panel, (_, _, unit) in shown.items()}, place=place_of(prepared, case, at), behind=pairs,
        title=title, note=note,
    )  # fmt: skip


def looks_like(panel: str) -> str:
    """The modality in whose look a panel is: of ``CT``, ``MR as CT`` and ``CT as MR and back`` it is CT."""
    return panel.split(" as ")[0 if panel.endswith(" and back") else -1]


def in_units(image: np.ndarray, prepared: Prepared, modality: str) -> tuple[np.ndarray, str, str]:
    """A normalised image of `modality`, its kind and its unit. CT is in HU where the recipe's window is a fixed one:
    values beyond it are lost and stand at its ends. MR stays as networks see it."""
    recipe, known = prepared.recipe, prepared.data.modalities
    kind = known[modality].kind if modality in known else ""
    if kind != "CT" or recipe.ct_window is None or recipe.scale != "minmax":
        return image, kind, ""
    (low, high), (least, most) = recipe.ct_window, recipe.value_range
    return low + (image - least) / (most - least) * (high - low), kind, "HU"


def place_of(prepared: Prepared, case: Case, at: Sequence[int]) -> Place:
    """Where the slices `at` of a case lie: voxels of the file as stored, and millimetres by the file's affine. Nowhere
    if they do not follow each other: one matrix cannot say it."""
    import nibabel as nib

    if any(b - a != 1 for a, b in pairwise(at)):
        return Place()
    _, _, volume = test_slices(prepared, case.patient, case.modality)
    grid = volume.grid
    to_stored = nib.orientations.inv_ornt_aff(grid.orientation, grid.shape)
    first = np.eye(4)
    first[0, 3] = at[0]
    voxel = to_stored @ case.geometry.to_voxel @ first
    return Place(grid.affine @ voxel if volume.unit == "mm" else None, voxel)
