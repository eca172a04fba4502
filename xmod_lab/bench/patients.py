"""A suite patient by patient, and the papers' tables from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from xmod_lab.bench.suites import WEIGHTED, suite
from xmod_lab.bench.systems import MEAN
from xmod_lab.data.manifest import dataset
from xmod_lab.evaluate.translators import UNTRANSLATED
from xmod_lab.methods import METHODS
from xmod_lab.methods.base import offers
from xmod_lab.methods.detached import Detached
from xmod_lab.methods.enriched import ALONE, Enriched
from xmod_lab.runs import Run, RunSpec, text_of

if TYPE_CHECKING:
    import pandas as pd

    from xmod_lab.evaluate.scored import Scored

METRICS = (
    "dice", "precision", "sensitivity", "specificity", "ravd", "hd", "hd95_max", "assd_pooled", "assd_cap50", "missing"
)  # fmt: skip
ERRORS = (
    "mae", "rmse", "ssim", "psnr", "pcc", "lpips",
    "mae_area", "ssim_area", "psnr_area", "mae_rest", "ssim_rest",
)  # fmt: skip
"""those that a run has: older ones lack RMSE, PCC, LPIPS and the capped ASSD"""
TRANSLATED = ("s_score", "s_assd_cap50", "fd", *ERRORS)
"""of an image as a target, its modality in rows: Dice of the scorer and its ASSD with the cap of 50, Fréchet distance,
errors against the truth"""
PLAIN = {"s_score": "untranslated"} | {name: f"{name}_untranslated" for name in TRANSLATED[1:]}
"""the columns of the same numbers of the untranslated image, the trivial answer"""
SHARES = ("dice", "precision", "sensitivity", "specificity", "s_score")
"""0 to 1, shown in per cent"""
EXTRACTOR = "random encoder"
"""whose Fréchet distance is `fd`: it sees contrast, which the scorer's instance-normalised features do not"""
NAMES = {"dice": "Dice", "ravd": "RAVD", "hd": "HD", "hd95_max": "HD95", "assd_pooled": "ASSD", "missing": "missed",
         "assd_cap50": "ASSD (at most 50)", "s_assd_cap50": "S-ASSD (at most 50)", "rmse": "RMSE", "pcc": "PCC",
         "s_score": "S-score", "fd": f"FD[{EXTRACTOR}]", "mae": "MAE"}
RUN = ("dataset", "task", "method", "variant", "system", "fold", "seed")


def system(spec: RunSpec) -> str:
    """How tables call a run: the method, and in brackets its ablation where it is one, or its preset.

    Segmenters of translations are called by the translator, as enriched (targan) and detached (sasan); enrichment
    without one is single.
    """
    cls = METHODS[spec.method].cls
    if issubclass(cls, Enriched | Detached):
        by = dict(spec.settings).get("translator", cls.Config.translator)
        name = "single" if by == ALONE else f"{spec.method} ({by})"
        others = tuple((key, value) for key, value in spec.settings if key != "translator")
        variant = dataclasses.replace(spec, settings=others).variant.removeprefix("default,")
        return f"{name} ({variant})" if others else name
    if spec.preset != "default":
        return f"{spec.method} ({spec.variant})"
    given = {key: text_of(value) for key, value in spec.settings}
    if not given or given == {key: text_of(value) for key, value in WEIGHTED}:
        return spec.method
    for name, fields in METHODS[spec.method].cls.ablations.items():
        if given == {key: text_of(value) for key, value in fields.items()}:
            return f"{spec.method} ({name})"
    return f"{spec.method} ({spec.variant.removeprefix('default,')})"


def patient_rows(name: str, scored: Sequence[Scored] = ()) -> pd.DataFrame:
    """`rows_of` the finished runs of a suite, with `everything` (`evaluate.regions.everything_rows`), and the scorer on
    what its translators make of a modality without labels (`adapted.scorer_rows`)."""
    import pandas as pd

    from xmod_lab.bench.adapted import scorer_rows
    from xmod_lab.evaluate.regions import everything_rows
    from xmod_lab.runs import prepared_of

    runs = [run for spec in suite(name) if (run := Run(spec, spec.folder)).complete]
    places = {(run.spec.dataset, run.spec.task_name, run.spec.fold): run.spec for run in runs}
    trivial = [
        everything_rows(prepared).assign(dataset=key, task=task, fold=fold)
        for (key, task, fold), spec in places.items()
        if (prepared := prepared_of(spec)).classes
    ]
    rows, more = rows_of(runs), scorer_rows(scored)
    rows = pd.concat([rows, more], ignore_index=True) if len(more) else rows
    return rows.merge(pd.concat(trivial), how="left", validate="many_to_one") if trivial else rows


def rows_of(runs: Iterable[Run]) -> pd.DataFrame:
    """One row a run, test patient, tested modality and structure that the task reports (`Task.structures`), segmented
    by the modality's own network."""
    import pandas as pd

    parts = []
    for run in runs:
        if not (run.folder / "scores.csv").is_file():  # it only translates
            continue
        spec, rows = run.spec, run.table()
        reported = dataset(spec.dataset).task(spec.task_name).structures
        rows = rows[(rows["network"] == rows["modality"]) & rows["structure"].isin(reported)]
        named = (spec.dataset, spec.task_name, spec.method, spec.variant, system(spec), spec.fold, spec.seed)
        kept = rows[["patient", "modality", "structure", *(metric for metric in METRICS if metric in rows)]]
        parts.append(pd.DataFrame([named] * len(kept), columns=list(RUN), index=kept.index).join(kept))
    columns = [*RUN, "patient", "modality", "structure", *METRICS]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def scored_runs(name: str) -> list[Scored]:
    """The finished translators of a suite with their scores (`evaluate.scored`), computed where they are missing."""
    from xmod_lab.evaluate.scored import ensure_scored

    runs = [Run(spec, spec.folder) for spec in suite(name) if "translate" in offers(METHODS[spec.method].cls)]
    return [ensure_scored(run) for run in runs if run.complete]


def translator_rows(scored: Iterable[Scored]) -> pd.DataFrame:
    """One row a run, test patient, target (`modality`) and structure: TRANSLATED, and PLAIN of the untranslated image.

    Means over sources. Errors and `fd`, the Fréchet distance as a pseudo-value (`distances.patient_distance_rows`), are
    of a patient and target: each structure repeats them. Patients whose real images are the target's have `fd` alone,
    without a structure, where they are not translated to it. Errors are absent where nobody knows the truth. In a task
    without classes no row has a structure or an S-score.
    """
    import pandas as pd

    parts = []
    for one in scored:
        spec = one.run.spec
        run = (spec.dataset, spec.task_name, spec.method, spec.variant, system(spec), spec.fold, spec.seed)
        named: dict[str, Any] = dict(zip(RUN, run, strict=True))
        own, plain = (_translated(one, which) for which in (spec.method, UNTRANSLATED))
        keys = ["patient", "target", "structure"]
        rows = own.merge(plain.rename(columns=PLAIN), on=keys, how="left", validate="one_to_one")
        parts.append(rows.rename(columns={"target": "modality"}).assign(**named))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _translated(scored: Scored, which: str) -> pd.DataFrame:
    """TRANSLATED of the method `which` by patient, target and structure."""
    dices, errors, keys = scored.s_scores(), scored.errors(), ["patient", "target"]
    judged = {"dice": "s_score", "assd_cap50": "s_assd_cap50"}
    if len(dices):
        dices = dices[(dices["method"] == which) & ~dices["region"].astype(bool)]
        rows = dices.groupby([*keys, "structure"], sort=False)[list(judged)].mean().rename(columns=judged).reset_index()
    else:
        rows = errors.loc[errors["method"] == which, keys].drop_duplicates().assign(structure="", s_score=float("nan"))
    if len(errors):
        known = [name for name in ERRORS if name in errors]
        rows = rows.join(errors[errors["method"] == which].groupby(keys)[known].mean(), on=keys)
    shares = scored.fd_patients().rename(columns={f"FD[{EXTRACTOR}]": "fd"})
    shares = shares.loc[shares["method"] == which, ["patient", "target", "fd"]]
    return rows.merge(shares, on=["patient", "target"], how="outer").fillna({"structure": ""})


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


def by_patient(rows: pd.DataFrame, *, by_seed: bool = False) -> pd.DataFrame:
    """Mean over structures, then over seeds: one row a system, fold, patient and tested modality, and seed if asked.

    Translators have one more a patient, of the modality MEAN: the mean over his targets.
    """
    import pandas as pd

    keys = [*["seed"] * by_seed, "dataset", "task", "system", "fold", "patient", "modality"]
    values = [name for name in (*METRICS, "everything", *TRANSLATED, *PLAIN.values()) if name in rows]
    structures = rows.groupby(list(dict.fromkeys([*keys, "seed"])), sort=False)[values].mean()
    found = structures.groupby(level=keys, sort=False).mean().reset_index()
    if "s_score" not in found:
        return found
    values = [name for name in (*TRANSLATED, *PLAIN.values()) if name in found]
    means = found.dropna(subset=values, how="all").groupby(keys[:-1], sort=False)[values].mean().reset_index()
    return pd.concat([found, means.assign(modality=MEAN)], ignore_index=True)


def tested_on(part: pd.DataFrame, modality: str, homes: Sequence[str] = ()) -> pd.DataFrame:
    """Rows of `part` of one modality, and those of the plain U-Net in each of `homes`, the modalities with labels, as
    ``source_only on <home>``: that it learned its own modality is what makes it a bound."""
    import pandas as pd

    own = [part[(part["modality"] == home) & (part["system"] == "source_only")] for home in homes]
    named = [rows.assign(system=f"source_only on {home}") for rows, home in zip(own, homes, strict=True)]
    return pd.concat([part[part["modality"] == modality], *named], ignore_index=True)


def with_mean(rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` and, where they are of several structures, the same as MEAN: over structures, of each patient."""
    import pandas as pd

    more = [rows.assign(structure=MEAN)] if rows["structure"].nunique() > 1 else []
    return pd.concat([rows, *more], ignore_index=True)


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
            scale = 100 if metric in SHARES else 1
            kept = part[metric].dropna() * scale
            spread = f" ± {kept.std(ddof=1):.1f}" if len(kept) > 1 else ""
            table.setdefault(str(name), {})[f"{column} {NAMES.get(metric, metric)}"] = f"{kept.mean():.1f}{spread}"
    found = pd.DataFrame.from_dict(table, orient="index")
    return found.rename_axis("system").reset_index()
