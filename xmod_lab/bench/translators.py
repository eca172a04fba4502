"""Tables of translators that share a scorer: TarGAN's Table 1 with anchors and floor, and errors against the truth.

Of runs with their scores (`evaluate.scored`), or of a recorded suite from its files alone (`recorded_tables`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from xmod_lab.bench.patients import ERRORS, PLAIN, TRANSLATED, paper_table, system
from xmod_lab.bench.systems import MEAN
from xmod_lab.errors import LabError
from xmod_lab.evaluate.distances import OVER_SOURCES, REAL
from xmod_lab.evaluate.scored import SCORER, Scored
from xmod_lab.evaluate.translation import say_lpips_is_absent
from xmod_lab.evaluate.translators import UNTRANSLATED
from xmod_lab.methods import METHODS

if TYPE_CHECKING:
    import pandas as pd

FLOOR = "real against real"
"""row of the Fréchet distance of two halves of the real slices, of the same patients: other patients add to it"""
ERROR_COLUMNS = {"mae": "MAE", "rmse": "RMSE", "ssim": "SSIM", "psnr": "PSNR", "pcc": "PCC", "lpips": "LPIPS"}
AREAS = {"": "", "_area": " target area", "_rest": " rest of the body"}
WHOLE = " body"
"""what the rest of the body is called where there is no target area"""


class Shown(NamedTuple):
    """A table of a page, with its title."""

    title: str
    table: pd.DataFrame
    translators: bool = False
    """whether its systems are there as translators: one that segments as well may have learned one of the two"""
    modality: str = ""
    """the one modality that all its numbers are of; empty if they are of several"""


def rows_of(scored: Sequence[Scored], table: str) -> pd.DataFrame:
    """The rows of "errors", "s_scores" or "distances" of several runs: `system`, `fold` and `seed` are added, anchors
    keep their own name as system. Raises LabError if they are of several tasks, or scorers: such rows do not compare.
    """
    import pandas as pd

    places = {(s.run.spec.dataset, s.run.spec.task_name, s.run.spec.profile) for s in scored}
    if len(places) > 1:
        raise LabError(f"translators of {len(places)} tasks or profiles", mend="make a table of each")
    scorers: dict[int, str] = {}
    parts = []
    for one in scored:
        spec, scorer = one.run.spec, one.inputs()["scorer"]
        checkpoint = scorer["checkpoint"] if scorer else ""
        if scorers.setdefault(spec.fold, checkpoint) != checkpoint:
            raise LabError(f"two scorers in fold {spec.fold}", where=one.folder, mend="score all runs by the same")
        name = system(spec) + (" (demonstration)" if one.demonstration else "")
        rows: pd.DataFrame = getattr(one, table)()
        if len(rows):
            named = rows["method"].where(rows["method"].isin((UNTRANSLATED, REAL)), name)
            parts.append(rows.assign(system=named, fold=spec.fold, seed=spec.seed))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def by_patient(rows: pd.DataFrame, values: Sequence[str]) -> pd.DataFrame:
    """Mean over structures (regions left out), sources and seeds: one row a system, target, fold and patient."""
    kept = rows[~rows["region"].astype(bool)] if "region" in rows else rows
    return kept.groupby(["system", "target", "fold", "patient"], sort=False)[list(values)].mean().reset_index()


def translation_table(scored: Sequence[Scored]) -> pd.DataFrame:
    """TarGAN's Table 1: a row a system, then the anchors; columns FD and S-score of each target and their means.

    S-score in per cent, mean ± sd (ddof 1) over patients, each the mean over structures, sources and seeds; the last
    column is the mean of the targets. The anchors are the scorer on the untranslated source (lower) and on real images
    of the target (upper). FD, named after its extractor, is the mean over sources, then ± sd over runs where there are
    several; beside it the kernel distance and N, the real slices of a target, both means over targets. FD has a floor,
    the row FLOOR, which falls with N.
    """
    return score_table(rows_of(scored, "s_scores"), rows_of(scored, "distances"))


def score_table(dices: pd.DataFrame, distances: pd.DataFrame) -> pd.DataFrame:
    """`translation_table` of rows of "s_scores" and "distances" as `rows_of` gives them; either may be empty."""
    import pandas as pd

    cells: dict[str, dict[str, str]] = {}
    if len(distances):
        distances = distances[distances["source"] == OVER_SOURCES]
        for column in [c for c in map(str, distances) if c.startswith("FD[") and c.endswith("]")]:
            _fill(cells, distances, column, column, _short, ("fold", "seed"))
            floor = distances.assign(system=FLOOR).groupby(["system", "target", "fold"])[f"{column} floor"].first()
            _fill(cells, floor.reset_index(), f"{column} floor", column, _short, ("fold",))
            kernel = column.replace("FD[", "KD[")
            for name, rows in distances.groupby("system", sort=False):
                if f"{column} {MEAN}" in cells[str(name)]:
                    cells[str(name)][f"{kernel} {MEAN}"] = _short(rows[kernel].mean())
                cells[str(name)]["N"] = f"{rows['n_real'].mean():.0f}"
    if len(dices):
        _fill(cells, by_patient(dices, ["dice"]), "dice", "S-score", lambda v: f"{100 * v:.1f}", ("fold", "patient"))
    order = [s for s in cells if s not in (UNTRANSLATED, REAL, FLOOR)]
    order += [s for s in (UNTRANSLATED, REAL, FLOOR) if s in cells]
    return pd.DataFrame.from_dict({s: cells[s] for s in order}, orient="index").rename_axis("system").reset_index()


def errors_table(scored: Sequence[Scored]) -> pd.DataFrame:
    """A row a system and the untranslated image; columns MAE, RMSE, SSIM, PSNR, PCC and LPIPS of each target, then MAE,
    SSIM and PSNR of its target area, then MAE and SSIM of the rest of the body (without classes: of the body).

    On images mapped to [0, 1] by the recipe's range; mean ± sd (ddof 1) over patients, each the mean over sources and
    seeds. Empty where no run knows the truth. Without LPIPS's network that column is left out, and a line says so.
    """
    rows = rows_of(scored, "errors")
    if len(rows) and "lpips" not in rows:
        say_lpips_is_absent()
    return error_table(rows)


def error_table(rows: pd.DataFrame) -> pd.DataFrame:
    """`errors_table` of rows of "errors" as `rows_of` gives them; they may be empty, and columns may be absent."""
    import pandas as pd

    cells: dict[str, dict[str, str]] = {}
    known = [name for name in ERRORS if name in rows and rows[name].notna().any()]
    parted = any(name.endswith("_area") for name in known)
    for area, where in AREAS.items():
        for metric, shown in ERROR_COLUMNS.items():
            if metric + area not in known:
                continue
            values = by_patient(rows, [metric + area])
            form = (lambda v: f"{v:.1f}") if metric == "psnr" else (lambda v: f"{v:.3f}")
            named = shown + (where if parted or area != "_rest" else WHOLE)
            _fill(cells, values, metric + area, named, form, ("fold", "patient"))
    order = sorted(cells, key=lambda name: name == UNTRANSLATED)
    return pd.DataFrame.from_dict({s: cells[s] for s in order}, orient="index").rename_axis("system").reset_index()


def recorded_tables(rows: pd.DataFrame, distances: pd.DataFrame) -> list[Shown]:
    """TarGAN's tables of one data set and task, from recorded rows: `patients.patient_rows` with
    `patients.translator_rows` below them, and `rows_of` the distances.

    Ablations of TarGAN are in Table 3 alone, on the folds that they have; the scorer's Dice is the upper anchor. A task
    without classes has distances and errors alone.
    """
    scores = [name for name in ("s_score", "mae") if name in rows]
    made, judged = rows[rows[scores].notna().any(axis=1)], rows[rows["system"] == SCORER]
    ablations = [f"targan ({name})" for name in METHODS["targan"].cls.ablations]
    parted = made["system"].isin(ablations)
    title = "Fréchet (FD) and kernel distance (KD) by extractor"
    if len(dices := _dices(made[~parted], judged)):
        title = f"Table 1: S-score in %, mean ± sd over patients; {title}"
    parts = [Shown(title, score_table(dices, distances[~distances["system"].isin(ablations)]), translators=True)]
    parts += recorded_errors(made[~parted])
    segmented = rows[rows["dice"].notna() & (rows["system"] != SCORER)]
    if len(segmented):
        table = paper_table(segmented, ("dice", "ravd", "missing"))
        title = "Table 2: Dice and RAVD in %, mean ± sd over patients (csgan: by the mean answer of its two segmenters)"
        parts.append(Shown(title, table))
    if parted.any():
        alike = made["fold"].isin(made.loc[parted, "fold"]) & made["seed"].isin(made.loc[parted, "seed"])
        tested = made[made["method"].eq("targan") & alike]
        table = score_table(_dices(tested, judged[judged["fold"].isin(tested["fold"])]), distances.head(0))
        title = (
            "Table 3: S-score in % without S (shape controller), T (target stream), C (crossing loss) or the "
            "untraceable term, mean ± sd over patients"
        )
        parts.append(Shown(title, table, translators=True))
    return [shown._replace(table=shown.table.fillna("")) for shown in parts]


def recorded_errors(made: pd.DataFrame) -> list[Shown]:
    """The table of errors against the truth from recorded rows of translators; none where nobody knows the truth."""
    if "mae" not in made or not made["mae"].notna().any():
        return []
    known = made.rename(columns={"modality": "target"})
    plain = known.drop(columns=[name for name in TRANSLATED if name in known])
    plain = plain.rename(columns={PLAIN[name]: name for name in ERRORS})
    errors = error_table(_stacked(known, plain.assign(system=UNTRANSLATED)))
    title = "Errors against the truth on images in [0, 1], mean ± sd over patients"
    if {"rmse", "lpips"} & set(made.columns[made.notna().any()]) == {"rmse"}:
        title += "; LPIPS is left out, its network was not on the machine"
    return [Shown(title, errors.fillna(""), translators=True)]


def _dices(made: pd.DataFrame, judged: pd.DataFrame) -> pd.DataFrame:
    """Rows of "s_scores" with both anchors: what the scorer says of translated, untranslated and real images."""
    columns = ["system", "modality", "fold", "seed", "patient", "structure"]
    return _stacked(*(
        part[[*columns, value]].rename(columns={"modality": "target", value: "dice"})
        for part, value in (
            (made, "s_score"),
            (made.assign(system=UNTRANSLATED), "untranslated"),
            (judged.assign(system=REAL), "dice"),
        )
    )).dropna(subset="dice")


def _stacked(*parts: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    return pd.concat(parts, ignore_index=True)


def _short(value: float) -> str:
    return f"{value:.3g}"


def _fill(
    cells: dict[str, dict[str, str]], rows: pd.DataFrame, value: str, shown: str, form: Callable[[float], str],
    unit: tuple[str, ...],
) -> None:
    """Cells ``<shown> <target>`` and ``<shown> mean`` of each system: mean ± sd over `unit`, the columns that name what
    is replicated. The mean column is the mean of the targets' means; its sd that of the units' own means. It is there
    where there are several, for those who have them all: of one it would be an easier or harder one than others'."""
    targets = rows["target"].nunique()
    for name, own in rows.groupby("system", sort=False):
        means = []
        for target, part in own.groupby("target", sort=True):
            each = part.groupby(list(unit))[value].mean().dropna()
            means.append(float(each.mean()))
            cells.setdefault(str(name), {})[f"{shown} {target}"] = _cell(means[-1], each, form)
        if len(means) == targets > 1:
            units = own.groupby(list(unit))[value].mean().dropna()
            cells[str(name)][f"{shown} {MEAN}"] = _cell(sum(means) / len(means), units, form)


def _cell(mean: float, each: pd.Series, form: Callable[[float], str]) -> str:
    if mean != mean:
        return "–"
    spread = float(each.std(ddof=1)) if len(each) > 1 else float("nan")
    return form(mean) + (f" ± {form(spread)}" if spread == spread else "")
