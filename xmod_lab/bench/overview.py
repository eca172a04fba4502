"""What every recorded system scored, patient by patient, in which order they come, and what they cost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from xmod_lab.bench.adaptation import place_of
from xmod_lab.bench.evidence import records
from xmod_lab.bench.patients import RUN, by_patient
from xmod_lab.bench.suites import suite
from xmod_lab.errors import LabError
from xmod_lab.evaluate.ranking import ranking

if TYPE_CHECKING:
    import pandas as pd

    from xmod_lab.evaluate.ranking import Ranking
    from xmod_lab.runs import RunSpec

PLACE = ["dataset", "task", "system"]


def system_rows(folder: Path) -> pd.DataFrame:
    """The patients' rows of all recorded suites (`patients.rows_of` and `translator_rows`), each run once.

    With `suite`, `on`, `profile`, `translates` (rows of a run as a translator) and `trained`: whether the system counts
    as trained in the tested modality, as what the row is of.
    """
    import pandas as pd

    parts = []
    for name, record in records(folder).items():
        sizes = {spec.profile for spec in suite(name)}
        rows = record.rows.assign(suite=name, on="patients" if record.real else "phantoms", profile=", ".join(sizes))
        place = rows[PLACE].agg("/".join, axis=1)
        sick = set(record.sick)
        rows["translates"] = rows["dice"].isna()
        to = rows["translates"].map({True: "to ", False: ""}) + rows["modality"]
        rows["trained"] = [not {p, f"{p}/{m}"} & sick for p, m in zip(place, to, strict=True)]
        parts.append(rows)
    table = pd.concat(parts, ignore_index=True)
    return table.drop_duplicates([*RUN, "profile", "translates", "patient", "modality", "structure"], ignore_index=True)


def means(rows: pd.DataFrame, metric: str = "dice") -> pd.DataFrame:
    """A system's mean and sd over patients (structures and seeds averaged first), and over `seeds` the sd of its means
    (`seed_sd`, NaN of one), by data set, task, profile and modality: runs of another size are other networks."""
    import pandas as pd

    given = rows[rows[metric].notna()]
    parts = [by_patient(part, by_seed=True).assign(profile=size) for size, part in given.groupby("profile", sort=False)]
    values = pd.concat(parts, ignore_index=True)
    keys = [*PLACE[:2], "profile", "modality", "system"]
    patients = values.groupby([*keys, "fold", "patient"], sort=False)[metric].mean()
    found = patients.groupby(level=keys, sort=False).agg(["mean", "std", "size"])
    seeds = values.groupby([*keys, "seed"], sort=False)[metric].mean().groupby(level=keys, sort=False)
    found = found.join(seeds.agg(seeds="size", seed_sd="std")).reset_index()
    trained = given.groupby(keys, sort=False)["trained"].all().reset_index()
    return found.rename(columns={"std": "sd", "size": "patients"}).merge(trained, on=keys)


def ranked(rows: pd.DataFrame, systems: list[str], metric: str = "dice", *, lower: bool = False) -> Ranking:
    """Ranks of `systems` over the patients of one task; a patient's modalities are averaged. Systems that did not train
    in one of them are marked. Raises LabError for rows of several profiles: their networks do not compare."""
    if (sizes := rows["profile"].nunique()) != 1:
        raise LabError(f"rows of {sizes} profiles cannot be ranked", mend="choose one suite")
    rows = rows[rows["system"].isin(systems) & rows[metric].notna()]
    values = by_patient(rows)
    wide = values.pivot_table(index=["fold", "patient"], columns="system", values=metric)
    found = ranking(wide[[name for name in systems if name in wide]], lower=lower)
    trained = rows.groupby("system")["trained"].all()
    return found._replace(ranks=found.ranks.rename(lambda name: name if trained[name] else f"{name} †"))


def costs(folder: Path) -> pd.DataFrame:
    """One row a suite and system: seconds of training (mean over its runs) and weights of all its networks.

    Both are with the runs that it reads (a translator, a scorer); `without` names those whose seconds the suite's
    record does not have.
    """
    import pandas as pd

    from xmod_lab.bench.tables import RUN as NAMED
    from xmod_lab.runs import reads_of

    found = []
    for name in records(folder):
        took = pd.read_csv(folder / f"{name}.csv").drop_duplicates(NAMED).set_index(NAMED)["seconds"].to_dict()
        systems: dict[tuple[str, ...], list[list[RunSpec]]] = {}
        for spec in suite(name):
            whole = [spec, *reads_of(spec).values()]
            systems.setdefault(tuple(place_of(spec).split("/", 2)), []).append(whole)
        for place, each in systems.items():
            seconds = [took.get(_named(spec)) for whole in each for spec in whole]
            absent = [spec.method for spec in each[0] if _named(spec) not in took]
            row = dict(zip(PLACE, place, strict=True)) | {"suite": name, "without": ", ".join(absent)}
            row |= {"seconds": sum(s for s in seconds if s is not None) / len(each)}
            found.append(row | {"parameters": sum(map(weights, each[0]))})
    return pd.DataFrame(found)


def _named(spec: RunSpec) -> tuple[str, str, str, str, int, int]:
    return spec.dataset, spec.task_name, spec.method, spec.variant, spec.fold, spec.seed


def weights(spec: RunSpec) -> int:
    """Weights of all networks of a run, critics included, without those of other runs that it reads."""
    from xmod_lab.catalogue import problem_of
    from xmod_lab.methods import method_entry
    from xmod_lab.models.blocks import count_parameters
    from xmod_lab.profiles import profile_of
    from xmod_lab.runs import config_of

    problem = problem_of(spec.dataset, spec.task_name, profile_of(spec.profile).size)
    return count_parameters(method_entry(spec.method).cls(config_of(spec), problem))
