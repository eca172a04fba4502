"""What maps say of patients, beside null models: of any method with `maps`.

A map looks like something before anything was learned. So each number stands beside that of the same network with the
weights it began with (Adebayo et al., NeurIPS 2018), and, where queries look at keys, beside that of the same rows
dealt to other queries of the slice: what is left then is no matter of who looks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from xmod_lab.data.prepare import Prepared
from xmod_lab.errors import LabError
from xmod_lab.evaluate.agreement import appearances, jensen_shannon
from xmod_lab.evaluate.attention import (
    attends,
    grid_of,
    likeness,
    mean_distance,
    on_grid,
    organ_chance,
    organ_mass,
    organ_shares,
    organs_of,
    over_body,
    own_share,
    row_entropy,
    spread,
)
from xmod_lab.evaluate.interventions import shuffled
from xmod_lab.evaluate.regions import inside_outside, volume_maps
from xmod_lab.evaluate.runs import fullest, structures_of, test_volumes
from xmod_lab.maps import SHUFFLED, TRAINED, UNTRAINED, Map

if TYPE_CHECKING:
    import pandas as pd

    from xmod_lab.methods.base import Method
    from xmod_lab.runs import Run

COLUMNS = ("patient", "modality", "map", "null", "measure", "value")
ORGANS = ("patient", "modality", "map", "null", "query", "key", "mass", "chance", "ratio")
Maps = Mapping[str, Map]


class Seen(NamedTuple):
    """The maps of a test volume's slices by one model, or by one whose queries were shuffled."""

    null: str
    maps: Maps
    before: Maps
    """the model's own: the same, unless they were shuffled"""
    labels: Tensor
    """class numbers (n, h, w)"""
    body: Tensor
    """bool (n, h, w)"""


def with_null(run: Run, prepared: Prepared) -> dict[str, Method]:
    """The trained method of a run and the same with the weights that its seed began with, on the CPU.

    Networks of other runs that it reads (`Method.reads`) are the trained ones in both.
    """
    from xmod_lab.runs import build

    return {TRAINED: run.method().eval(), UNTRAINED: build(run.spec, prepared).eval()}


def attention_table(
    models: Mapping[str, Method], prepared: Prepared, prefix: str = "", slices: int | None = None
) -> pd.DataFrame:
    """What the maps of `models` (`with_null`) say of each test patient: COLUMNS, one row a patient, map and measure.

    Maps are those whose name begins with `prefix` and that have an entry a slice; in `map` they are without the
    modality. slices: so many of each volume, those with most of the task's classes. `null` is the model's name, or
    SHUFFLED, of the first model's maps with their rows dealt to other queries. Of `pairwise` maps whose rows are shares
    (`attention.attends`):

    entropy             `row_entropy`, 0 to 1; of positions, mean over the body's queries
    distance            `mean_distance` in pixels, mean over the body's queries; of positions alone, as the next two
    same-organ mass     `own_share` of all classes, 0 to 1
    same-organ chance   what uniform attention has

    Of `mask` maps, and of each map of a `stack`, which stands behind its name:

    inside/outside <structure>   `regions.inside_outside` of magnitudes; where values of different slices do not
                                 compare, the mean of the slices' ratios
    entropy                      `spread` over the body's pixels, 0 to 1, mean over slices
    likeness                     of a stack as a whole: 0 orthogonal, 1 alike, mean over slices

    Of `pairwise` maps and stacks that a method makes of slices and of their translations, with the kind as `map`:

    Jensen-Shannon to <target>   mean `jensen_shannon` distance of rows, or of `over_body`: 0 alike, 1 nothing in common

    Rows whose value nobody knows (NaN) are left out. Raises LabError if no map begins with `prefix`.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for where, seen in _seen(models, prepared, prefix, slices):
        modality = where["modality"]
        for name, one in seen.maps.items():
            for part, measure, value in _measures(one, seen, prepared):
                shown = name.removesuffix(f"/{modality}") + part
                rows.append(where | {"map": shown, "measure": measure, "value": value})
        for target in prepared.modalities:
            for kind, (real, made) in appearances(seen.maps, modality, target).items():
                value = _apart(seen.before[real], seen.maps[made], seen.body)
                rows.append(where | {"map": kind, "measure": f"Jensen-Shannon to {target}", "value": value})
    return pd.DataFrame(rows, columns=list(COLUMNS)).dropna().reset_index(drop=True)


def organ_table(
    models: Mapping[str, Method], prepared: Prepared, prefix: str = "", slices: int | None = None
) -> pd.DataFrame:
    """Which organ looks at which, by the maps of positions of `models` (`with_null`): ORGANS, one row a test patient,
    map, organ of the query and organ of the key (`attention.organs_of`).

    mass     `organ_mass`, 0 to 1; the masses of a query sum to 1
    chance   `organ_chance`, what uniform attention has
    ratio    mass over chance: 1 says that it does not care. NaN where the patient has nothing of the key

    Organs of a query that the patient does not have are left out; prefix, slices and `null` as in `attention_table`.
    Raises LabError for a task without classes, and if no map has a grid (`maps.Map`).
    """
    import pandas as pd

    if not prepared.classes:
        raise LabError("the task has no classes, so no organs", where=prepared.task_name)
    names, rows = organs_of(prepared.classes), []
    for where, seen in _seen(models, prepared, prefix, slices):
        for name, one in seen.maps.items():
            if not (on_grid(one) and attends(one)):
                continue
            shares = organ_shares(seen.labels, seen.body, len(prepared.classes), grid_of(one))
            mass, chance = organ_mass(one.values, shares).numpy(), organ_chance(shares).numpy()
            shown = where | {"map": name.removesuffix(f"/{where['modality']}")}
            for (i, j), value in np.ndenumerate(mass):
                ratio = value / chance[i, j] if chance[i, j] else float("nan")
                organs = {"query": names[i], "key": names[j]}
                rows.append(shown | organs | {"mass": value, "chance": chance[i, j], "ratio": ratio})
    if not rows:
        raise LabError(f"no map that begins with {prefix!r} is of positions over a grid", where="organ_table")
    return pd.DataFrame(rows, columns=list(ORGANS)).dropna(subset="mass").reset_index(drop=True)


def beside_nulls(table: pd.DataFrame, value: str = "value") -> pd.DataFrame:
    """Means over patients of a table of this file, one row a modality, map and measure, or pair of organs: a column a
    null model and one of its sd (ddof 1) beside it, ``<null> sd``; and `patients`, how many have a value.

    value: which column, ``mass`` or ``ratio`` of `organ_table`. Raises LabError if there is none.
    """
    if value not in table.columns or value in ("patient", "null"):
        raise LabError(f"the table has no column {value!r} of values", mend=f"it has {', '.join(table.columns)}")
    by = [name for name in ("modality", "map", "measure", "query", "key") if name in table.columns]
    found = table[by].drop_duplicates().set_index(by)
    for null in sorted(table["null"].unique(), key=lambda name: name == SHUFFLED):  # the models first
        values = table[table["null"] == null].groupby(by, sort=False)[value]
        found[null], found[f"{null} sd"] = values.mean(), values.std()
    found["patients"] = table.dropna(subset=value).groupby(by, sort=False)["patient"].nunique()
    return found.reset_index()


def _seen(
    models: Mapping[str, Method], prepared: Prepared, prefix: str, slices: int | None
) -> Iterator[tuple[dict[str, str], Seen]]:
    """The maps of each test volume by each model, and those of the first one with shuffled queries."""
    found = False
    for modality in prepared.task.tested:
        for case in test_volumes(prepared, modality):
            kept = fullest(case, slices)
            labels = torch.from_numpy(case.geometry.forward(case.truth, "nearest")).long()[kept]
            body = case.slices.foreground[kept] | (labels > 0)
            for number, (null, method) in enumerate(models.items()):
                method.eval()
                maps = volume_maps(method, case, prefix, kept)
                found = found or bool(maps)
                where = {"patient": case.patient, "modality": modality}
                yield where | {"null": null}, Seen(null, maps, maps, labels, body)
                dealt = {
                    name: dataclasses.replace(one, values=shuffled(one.values))
                    for name, one in maps.items()
                    if number == 0 and attends(one)
                }
                yield where | {"null": SHUFFLED}, Seen(SHUFFLED, dealt, maps, labels, body)
    if not found:
        raise LabError(f"no map of {', '.join(models)} begins with {prefix!r}", where="maps")


def _measures(one: Map, seen: Seen, prepared: Prepared) -> Iterator[tuple[str, str, float]]:
    """What is behind the map's name, the measure and its value."""
    if one.kind == "pairwise":
        if attends(one):
            yield from (("", measure, value) for measure, value in _of_rows(one, seen, prepared).items())
        return
    stack = one.values if one.kind == "stack" else one.values[:, None]
    if one.kind == "stack" and stack.shape[1] > 1:
        yield "", "likeness", float(likeness(stack).mean())
    names = one.names or range(1, stack.shape[1] + 1)
    parts = [f" {name}" for name in names] if one.kind == "stack" else [""]
    for part, values, even in zip(parts, stack.unbind(1), spread(stack, seen.body).unbind(1), strict=True):
        yield part, "entropy", float(even.nanmean())
        for structure, members in structures_of(prepared).items():
            inside = torch.isin(seen.labels, torch.tensor(members))
            yield part, f"inside/outside {structure}", _ratio(values.abs(), inside, seen.body, one.comparable)


def _of_rows(one: Map, seen: Seen, prepared: Prepared) -> dict[str, float]:
    """Measures of a `pairwise` map whose rows are shares."""
    sharp, classes = row_entropy(one.values), len(prepared.classes)
    if not on_grid(one):
        return {"entropy": float(sharp.mean())}
    grid = grid_of(one)
    shares = organ_shares(seen.labels, seen.body, classes, grid)
    weights = 1 - shares[:, -1]  # the body's queries
    far = mean_distance(one.values, grid, (seen.body.shape[1], seen.body.shape[2]))
    found = {name: float((weights * v).sum() / weights.sum()) for name, v in (("entropy", sharp), ("distance", far))}
    mass, chance = organ_mass(one.values, shares), organ_chance(shares)
    own = {"mass": own_share(mass, shares, classes), "chance": own_share(chance, shares, classes)}
    return found | {f"same-organ {name}": value for name, value in own.items()}


def _ratio(values: Tensor, inside: Tensor, body: Tensor, comparable: bool) -> float:
    """`inside_outside` over all slices (n, h, w), or the mean of the slices' own."""
    parts = zip(*(x.split(len(x) if comparable else 1) for x in (values, inside, body)), strict=True)
    ratios = torch.tensor([inside_outside(*(x.numpy() for x in part)) for part in parts])
    return float(ratios.nanmean())


def _apart(real: Map, made: Map, body: Tensor) -> float:
    """Mean distance of the map of slices to that of their translations; NaN for what is neither rows nor a stack."""
    if attends(real) and attends(made):
        return float(jensen_shannon(real.values, made.values).mean())
    if real.kind == made.kind == "stack":
        return float(jensen_shannon(over_body(real.values, body), over_body(made.values, body)).nanmean())
    return float("nan")
