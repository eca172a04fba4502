"""A suite patient by patient, and the papers' tables from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from xmod_lab.bench.suites import WEIGHTED, suite
from xmod_lab.methods import METHODS
from xmod_lab.runs import Run, RunSpec, text_of

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("dice", "precision", "sensitivity", "specificity", "hd", "hd95_max", "assd_pooled", "missing")
NAMES = {"dice": "Dice", "hd": "HD", "hd95_max": "HD95", "assd_pooled": "ASSD", "missing": "missed"}
RUN = ("dataset", "task", "method", "variant", "system", "fold", "seed")


def system(spec: RunSpec) -> str:
    """How tables call a run: the method, and its ablation in brackets where it is one."""
    given = {key: text_of(value) for key, value in spec.settings}
    if not given or given == {key: text_of(value) for key, value in WEIGHTED}:
        return spec.method
    for name, fields in METHODS[spec.method].cls.ablations.items():
        if given == {key: text_of(value) for key, value in fields.items()}:
            return f"{spec.method} ({name})"
    return f"{spec.method} ({spec.variant.removeprefix('default,')})"


def patient_rows(name: str) -> pd.DataFrame:
    """`rows_of` the finished runs of a suite, with `everything` (`evaluate.regions.everything_rows`)."""
    import pandas as pd

    from xmod_lab.evaluate.regions import everything_rows
    from xmod_lab.runs import prepared_of

    runs = [run for spec in suite(name) if (run := Run(spec, spec.folder)).complete]
    places = {(run.spec.dataset, run.spec.task_name, run.spec.fold): run.spec for run in runs}
    trivial = [
        everything_rows(prepared_of(spec)).assign(dataset=key, task=task, fold=fold)
        for (key, task, fold), spec in places.items()
    ]
    rows = rows_of(runs)
    return rows.merge(pd.concat(trivial), how="left", validate="many_to_one") if trivial else rows


def rows_of(runs: Iterable[Run]) -> pd.DataFrame:
    """One row a run, test patient, tested modality and structure, segmented by the modality's own network."""
    import pandas as pd

    parts = []
    for run in runs:
        if not (run.folder / "scores.csv").is_file():  # it only translates
            continue
        spec, rows = run.spec, run.table()
        rows = rows[(rows["network"] == rows["modality"]) & ~rows["region"]]
        named = (spec.dataset, spec.task_name, spec.method, spec.variant, system(spec), spec.fold, spec.seed)
        kept = rows[["patient", "modality", "structure", *METRICS]]
        parts.append(pd.DataFrame([named] * len(kept), columns=list(RUN), index=kept.index).join(kept))
    columns = [*RUN, "patient", "modality", "structure", *METRICS]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def gate_rows(name: str) -> pd.DataFrame:
    """UAGAN's gates, inside over outside the structure (`evaluate.regions.map_ratios`), of every finished default run.

    One row a run, test patient, modality and gate: `ratio`, and `untrained`, that of the same network before training.
    """
    import pandas as pd

    from xmod_lab.evaluate.regions import map_ratios
    from xmod_lab.runs import build, prepared_of

    parts = []
    for spec in suite(name):
        run = Run(spec, spec.folder)
        if system(spec) == "uagan" and run.complete:
            prepared = prepared_of(spec)
            found = map_ratios(run.method(), prepared, "gate/")
            found["untrained"] = map_ratios(build(spec, prepared), prepared, "gate/")["ratio"]
            parts.append(found.assign(dataset=spec.dataset, task=spec.task_name, fold=spec.fold, seed=spec.seed))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def by_patient(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean over structures, then over seeds: one row a system, fold, patient and tested modality."""
    keys = ["dataset", "task", "system", "fold", "patient", "modality"]
    values = [name for name in (*METRICS, "everything") if name in rows]
    structures = rows.groupby([*keys, "seed"], sort=False)[values].mean()
    return structures.groupby(level=keys, sort=False).mean().reset_index()


def paper_table(
    rows: pd.DataFrame, metrics: Sequence[str], *, over: str = "patient", columns: str = "modality"
) -> pd.DataFrame:
    """A row a system, a column a tested modality (or structure) and metric: "mean ± sd" as text.

    over: what the standard deviation (ddof 1) is over: patients, or folds as in UAGAN's Table 1, where each fold is a
    data set of its own. Seeds are averaged first. Dice and the other shares in per cent, distances in the data's unit.
    """
    import pandas as pd

    keys = ["system", columns, "fold", "patient"] if over == "patient" else ["system", columns, "fold"]
    values = rows.groupby([*keys], sort=False)[list(metrics)].mean()
    table: dict[str, dict[str, str]] = {}
    for (name, column), part in values.groupby(level=["system", columns], sort=False):
        for metric in metrics:
            scale = 100 if metric in ("dice", "precision", "sensitivity", "specificity") else 1
            kept = part[metric].dropna() * scale
            spread = f" ± {kept.std(ddof=1):.1f}" if len(kept) > 1 else ""
            table.setdefault(str(name), {})[f"{column} {NAMES.get(metric, metric)}"] = f"{kept.mean():.1f}{spread}"
    found = pd.DataFrame.from_dict(table, orient="index")
    return found.rename_axis("system").reset_index()
