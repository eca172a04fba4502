"""What comes through a translation: of systems that adapt by images, how much of each structure's change of grey.

A segmenter that finds nothing does not say whether its translator failed. The greys of structures do, against the true
image (`evaluate.greys`), also where a run is too short for the segmenter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from xmod_lab.bench.correction import corrected
from xmod_lab.bench.patients import system
from xmod_lab.bench.systems import TRANSLATORS, UNADAPTED
from xmod_lab.bench.translators import Shown
from xmod_lab.bench.verdicts import complete, interval_of, judged_by, seen_as
from xmod_lab.data.manifest import dataset
from xmod_lab.evaluate.greys import share_of_change, share_table, structure_greys
from xmod_lab.runs import Run, prepared_of, reads_of

if TYPE_CHECKING:
    import pandas as pd

ABOUT = (
    "share of the change of grey that the true image asks for and a translation makes: 0 of a copy, 1 all of it, below "
    "0 the other way, above 1 too far. Of all structures mean ± sd over patients, of each one over all patients "
    "together"
)


def grey_rows(runs: Iterable[Run]) -> pd.DataFrame:
    """`structure_greys` of every run that translates, and of translators that runs read: dataset, task, system, fold
    and seed are added. Empty where nobody translates or nobody knows the truth."""
    import pandas as pd

    found: dict[str, pd.DataFrame] = {}
    for run in runs:
        for one in (run, *(Run(spec, spec.folder) for spec in reads_of(run.spec).values())):
            if str(one.spec) in found or system(one.spec) in UNADAPTED:  # nobody looks at what those translate
                continue
            rows, spec = structure_greys(one.method().eval(), prepared_of(one.spec)), one.spec
            found[str(spec)] = rows.assign(
                dataset=spec.dataset, task=spec.task_name, system=system(spec), fold=spec.fold, seed=spec.seed
            )
    parts = [rows for rows in found.values() if len(rows)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def patient_shares(greys: pd.DataFrame) -> pd.Series:
    """`share_of_change` by system, fold, patient and seed."""
    import pandas as pd

    keys = ["system", "fold", "patient", "seed"]
    each = {key: share_of_change(part) for key, part in greys.groupby(keys, sort=False)}
    return pd.Series(each, dtype=float).rename_axis(keys)


def grey_tables(greys: pd.DataFrame, key: str, name: str, place: Callable[[str], int]) -> list[Shown]:
    """The table of one data set and task, from its modality with labels to the one without, systems in the order of
    `place`; none where `greys` (`grey_rows`) have nothing of it."""
    rows, source, target = _across(greys, key, name)
    if not len(rows):
        return []
    names = sorted(dict.fromkeys(rows["system"]), key=place)
    parts = {name: rows[rows["system"] == name] for name in names}
    patients = patient_shares(rows).groupby(level=["system", "fold", "patient"]).mean()
    spread = patients.groupby(level="system").agg(["mean", "std"])
    table = share_table(parts, "structure").droplevel(1).reindex(names)[list(dict.fromkeys(rows["structure"]))]
    table = table.map(lambda share: "" if share != share else f"{share:.2f}")
    table.insert(0, "all", [f"{spread.loc[n, 'mean']:.2f} ± {spread.loc[n, 'std']:.2f}" for n in names])
    title = f"{source} to {target}: {ABOUT}"
    return [Shown(title, table.rename_axis("system").rename_axis(None, axis=1).reset_index(), True, target)]


def _across(greys: pd.DataFrame, key: str, name: str) -> tuple[pd.DataFrame, str, str]:
    """The rows of one data set and task from its modality with labels to the one without, and these two."""
    task = dataset(key).task(name)
    if not len(greys):
        return greys, "", ""
    (source,), (target,) = task.labelled, task.unlabelled
    here = (greys["dataset"] == key) & (greys["task"] == name)
    return greys[here & (greys["source"] == source) & (greys["target"] == target)], source, target


def grey_verdicts(greys: pd.DataFrame, *, real: bool) -> pd.DataFrame:
    """B10: BiGL's translators, from the modality with labels to the one without, come nearer to the change of grey that
    is asked for, a share of 1, than with one setting as CycleGAN has it. A line each of TRANSLATORS that `greys`
    (`grey_rows`) have.

    By patient. No segmenter is asked, so no health limit counts: if neither is better than a copy, nothing is told. Nor
    by one seed: patients of one translator are alike, two trainings of it may not be.
    """
    import pandas as pd

    found = []
    for key, name in dict.fromkeys(zip(greys["dataset"], greys["task"], strict=True)):
        rows, _, target = _across(greys, key, name)
        wide = patient_shares(rows).unstack("system")
        for other in [one for one in TRANSLATORS if {one, "bigl"} <= set(wide)]:
            difference = (wide[other] - 1).abs() - (wide["bigl"] - 1).abs()
            better = "bigl" if difference.mean() > 0 else other
            seeds = complete(difference).shape[1]
            reason = "one translator of each setting" if seeds < 2 else ""
            if not interval_of(wide[better])[1] > 0:
                reason = f"{better}: no better than a copy"
            found.append(
                {
                    "claim": "B10",
                    "data set": f"{key}/{name}",
                    "tested on": target,
                    "metric": "share of the change of grey, nearer to 1 by",
                    "comparison": f"bigl - {other}",
                    "published": "",
                }
                | judged_by(difference, 1, reason, seen_as(real, False))
            )
    return corrected(pd.DataFrame(found))
