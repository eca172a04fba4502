"""Translators as a way to segment another modality (SASAN, Tables 1-4): rows and tables of the detached segmenter."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from xmod_lab.bench.patients import RUN, paper_table, system, tested_on, with_mean
from xmod_lab.bench.systems import NOT_ADAPTED
from xmod_lab.bench.translators import Shown, recorded_errors
from xmod_lab.data.manifest import dataset
from xmod_lab.evaluate.translators import UNTRANSLATED

if TYPE_CHECKING:
    import pandas as pd

    from xmod_lab.evaluate.scored import Scored

METRICS = ("dice", "assd_pooled", "assd_cap50", "missing")
ORDER = ("source_only", NOT_ADAPTED, "scorer", "detached", "target_only")
"""of a table's rows: bounds outside, then the scorer on translations, then segmenters that translations taught"""


def scorer_rows(scored: Iterable[Scored]) -> pd.DataFrame:
    """The scorer on translated volumes as a segmenter of the modality that was translated.

    Like `patients.rows_of`, of tasks with an unlabelled modality: system ``scorer (<translator>)``, and NOT_ADAPTED for
    the image as it is; `modality` is the one tested, not the scorer's own. Every translator has the same scorer.
    """
    import pandas as pd

    parts = []
    for one in scored:
        spec = one.run.spec
        away = dataset(spec.dataset).task(spec.task_name).unlabelled
        if not len(rows := one.s_scores()):  # a task without classes
            continue
        rows = rows[rows["source"].isin(away) & (rows["source"] != rows["target"]) & ~rows["region"].astype(bool)]
        for which, name in ((spec.method, f"scorer ({system(spec)})"), (UNTRANSLATED, NOT_ADAPTED)):
            kept = rows.loc[rows["method"] == which, ["patient", "structure", *(m for m in METRICS if m in rows)]]
            run = (spec.dataset, spec.task_name, spec.method, spec.variant, name, spec.fold, spec.seed)
            named: dict[str, Any] = dict(zip(RUN, run, strict=True))
            parts.append(kept.assign(modality=rows["source"], **named))
    if not parts:
        return pd.DataFrame()
    keys = ["dataset", "task", "system", "fold", "seed", "patient", "modality", "structure"]
    return pd.concat(parts, ignore_index=True).drop_duplicates(keys)  # each translator brings the untranslated image


def adapted_tables(part: pd.DataFrame) -> list[Shown]:
    """SASAN's tables of one data set and task: Dice, and ASSD by both rules, of each structure and their mean, of the
    modality that has no labels, and of the U-Net of the other modality on its own; of a task whose modalities all have
    labels, of each modality. Then errors against the truth."""
    task = dataset(str(part["dataset"].iloc[0])).task(str(part["task"].iloc[0]))
    shown = []
    for modality in task.unlabelled or task.labelled:
        rows = tested_on(part[part["dice"].notna()], modality, task.labelled if task.unlabelled else ())
        rows = with_mean(rows).sort_values("system", key=lambda names: names.map(_place), kind="stable")
        metrics = tuple(m for m in METRICS if m in rows)
        title = f"{modality}: Dice in %, ASSD with the volume's diagonal, and with 50, where a structure is missing"
        table = paper_table(rows, metrics, columns="structure")
        shown.append(Shown(f"{title}; mean ± sd over patients", table, modality=modality))
    return [*shown, *recorded_errors(part[part["s_score"].notna()])]


def _place(name: str) -> int:
    """Where a system stands in a table."""
    return next((i for i, start in enumerate(ORDER) if name.startswith(start)), ORDER.index("detached"))
