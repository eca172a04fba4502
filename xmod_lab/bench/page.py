"""The page of a recorded suite: the papers' tables and what becomes of their claims, from the recorded files alone."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from xmod_lab.bench.adaptation import about, adaptation_tables, beside, from_sasan, place_of, row_of, sized
from xmod_lab.bench.adapted import adapted_tables
from xmod_lab.bench.claims import SAYS
from xmod_lab.bench.own_data import claims_of, grid_of, on_own_data
from xmod_lab.bench.patients import EXTRACTOR, paper_table
from xmod_lab.bench.suites import suite
from xmod_lab.bench.through import grey_tables, grey_verdicts
from xmod_lab.bench.translators import Shown, recorded_tables
from xmod_lab.bench.verdicts import gate_verdicts, untrained, verdicts
from xmod_lab.data.manifest import dataset
from xmod_lab.errors import LabError
from xmod_lab.files import read_json

if TYPE_CHECKING:
    import pandas as pd

UAGAN_TABLE = ("dice", "precision", "sensitivity", "specificity", "assd_pooled", "missing")
CSA_TABLE = ("dice", "hd", "missing")
HEALTH = "xmod_lab/bench/health.py"
TRANSLATORS = (
    "S-score: Dice of the scorer, a U-Net of the target trained on real images, on a translated image. A translator "
    "trained if it breaks no limit and its S-score is above that of the untranslated image in the target tested, the "
    "lower anchor (row `untranslated`; row `real` is the upper one), or its distance below, where a claim is of the "
    "distance. Its scorer must have trained as well; there is one a fold, and what another would have said is in no "
    "interval.\n\n"
    f"Claims of the Fréchet distance rest on `{EXTRACTOR}`: it sees contrast, which the scorer's instance-normalised "
    "features do not. They compare jackknife pseudo-values of the patients, translated and real, against those of the "
    "untranslated image as well; the table shows the distance itself. With few patients the two may order "
    "translators differently, as the plain distance favours images with too little spread. Its floor is that of two "
    "halves of the same patients' slices: other patients add to it."
)
"""said on the page of a suite of translators"""
SETTLED = {
    "translation": "Learning rates, the weight of the way back and how generators grow were settled in trials on fold "
    "0 of the abdomen phantom: pictures and errors of one test patient a modality were looked at, no S-score and no "
    "distance of runs of this size.",
    "sasan": "SASAN's learning rate, the width of its critics and the weight of its adversarial term were settled in "
    "trials on fold 0 of the heart from MR to CT by the S-score of its test patients: that fold favours it there.",
}
"""by the first word of a grid: what was looked at when settings of its translators were chosen"""


def names(folder: Path) -> list[str]:
    """All suites recorded in `folder`, with claims or without. Raises LabError if there is none."""
    found = sorted(path.stem for path in folder.glob("*.json") if path.with_suffix(".csv").is_file())
    if not found:
        mend = "name their folder with --results, or make one: xmod-lab bench report --suite lesson --record results"
        raise LabError("no recorded results", where=folder, mend=mend)
    return found


class Recorded(NamedTuple):
    """A recorded suite: its rows (`patient_rows`, and `translator_rows` where it has some), the distances of its
    translators, systems that did not train and why, and the verdicts."""

    rows: pd.DataFrame
    distances: pd.DataFrame
    sick: dict[str, str]
    claims: pd.DataFrame
    real: bool


def recorded(name: str, folder: Path) -> Recorded:
    """Read the suite `name` from `folder`. Raises LabError if it was not recorded there."""
    import pandas as pd

    path = folder / f"{name}-patients.csv"
    if not path.is_file():
        raise LabError(f"suite {name!r} is not recorded", where=folder, mend=f"xmod-lab bench run --suite {name}")
    rows = beside(pd.read_csv(path, dtype={"patient": str}))
    real = all(dataset(str(key)).access != "phantom" for key in rows["dataset"].unique())
    texts, folds = problems_by_system(name, read_json(folder / f"{name}.json")["problems"])
    asked = claims_of(name)
    sick = untrained(rows, texts, {claim.metric for claim in asked})
    claims = verdicts(asked, rows, sick, real=real, sick_folds=folds)
    distances = folder / f"{name}-distances.csv"
    gates = folder / f"{name}-gates.csv"
    if gates.is_file():
        read = pd.read_csv(gates, dtype={"patient": str})
        claims = pd.concat([claims, gate_verdicts(read, sick, real=real, sick_folds=folds)], ignore_index=True)
    greys = read_greys(name, folder)
    if len(greys):
        claims = pd.concat([claims, grey_verdicts(greys, real=real)], ignore_index=True)
    return Recorded(rows, pd.read_csv(distances) if distances.is_file() else pd.DataFrame(), sick, claims, real)


def page(name: str, folder: Path) -> str:
    """Markdown of the suite `name` recorded in `folder`."""
    from xmod_lab.evaluate.tables import to_markdown

    found = recorded(name, folder)
    facts = read_json(folder / f"{name}.json")
    parts = [f"# {name}", _preamble(name, found.rows, facts, found.real)]
    if adapts(name):
        taken, _ = _taken(name, folder, set(found.rows["fold"]))
        parts.append(about(found.rows, facts, taken, f"sasan-{name.rpartition('-')[2]}"))
    for place, shown in tables_by_place(name, folder, found).items():
        parts += [f"## {place}", *(to_markdown(one.table, one.title) for one in shown)]
    parts.append("## Did they train?\n\n" + _trained(found.sick))
    if len(found.claims):
        parts.append("## Claims\n\n" + to_markdown(found.claims.fillna("")))
    return "\n\n".join(parts) + "\n"


def tables_by_place(name: str, folder: Path, found: Recorded) -> dict[str, list[Shown]]:
    """The tables of the page of a recorded suite as they stand there, by ``data set / task``."""
    facts, greys = read_json(folder / f"{name}.json"), read_greys(name, folder)
    taken, more = _taken(name, folder, set(found.rows["fold"]))
    tables: dict[str, list[Shown]] = {}
    for (key, task), part in found.rows.groupby(["dataset", "task"], sort=False):
        own = tables.setdefault(f"{key} / {task}", [])
        by_images = adapts(name) or (on_own_data(name) and (part["method"] == "bigl").any())
        for shown in adaptation_tables(part, taken) if by_images else _tables_of(part, found.distances):
            marks = [_marked(f"{key}/{task}/{one}", found.sick | more, shown) for one in shown.table["system"]]
            table = sized(shown.table, f"{key}/{task}", facts.get("weights", {})).assign(system=marks)
            own.append(shown._replace(table=table))
        own += grey_tables(greys, str(key), str(task), row_of)
    return tables


def adapts(name: str) -> bool:
    """Whether all of a suite is of adaptation."""
    return grid_of(name).startswith("adaptation")


def _taken(name: str, folder: Path, folds: Collection[int]) -> tuple[pd.DataFrame, dict[str, str]]:
    """Of the record of SASAN's suite beside that of `name`, what the heart's table takes from it, of the same folds;
    else nothing."""
    import pandas as pd

    other = f"sasan-{name.rpartition('-')[2]}"
    if grid_of(name) != "adaptation-heart" or not (folder / f"{other}-patients.csv").is_file():
        return pd.DataFrame(), {}
    found = recorded(other, folder)
    return from_sasan(found.rows, found.sick, folds)


def read_greys(name: str, folder: Path) -> pd.DataFrame:
    """What `through.grey_rows` found of a recorded suite; empty where it has nothing of the kind."""
    import pandas as pd

    path = folder / f"{name}-greys.csv"
    return pd.read_csv(path, dtype={"patient": str}) if path.is_file() else pd.DataFrame()


def verdict_counts(name: str, folder: Path) -> str:
    """Markdown: for each claim of a recorded suite how many of its comparisons came out how."""
    from xmod_lab.evaluate.tables import to_markdown

    return to_markdown(counts_of(recorded(name, folder).claims))


def counts_of(claims: pd.DataFrame) -> pd.DataFrame:
    """How many of the comparisons of each claim came out how."""
    counts = claims.groupby("claim")["verdict"].value_counts().unstack(fill_value=0)
    counts.insert(0, "what it says", counts.index.map(SAYS))
    return counts.reset_index().rename_axis(None, axis=1)


def _tables_of(part: pd.DataFrame, distances: pd.DataFrame) -> list[Shown]:
    """The tables of the paper that the systems of one data set and task are compared in."""
    if part["system"].str.startswith(("scorer (", "detached (")).any():
        return adapted_tables(part)
    if any(part[score].notna().any() for score in ("s_score", "mae") if score in part):
        own = distances
        if "task" in distances:  # of several tasks
            here = [distances[key] == part[key].iloc[0] for key in ("dataset", "task")]
            own = distances[here[0] & here[1]]
        return recorded_tables(part, own)
    return tables(part)


def tables(part: pd.DataFrame) -> list[Shown]:
    """The paper's tables of one data set and task, each with its title: CSA's by structure, UAGAN's by modality."""
    if part["structure"].nunique() == 1:
        folds = _disjoint(part) and part["fold"].nunique() > 1
        over = "fold" if folds else "patient"
        what = "data sets" if folds else "patients"
        title = f"Dice, precision, sensitivity and specificity in %, ASSD; mean ± sd over {what}"
        return [Shown(title, paper_table(part, UAGAN_TABLE, over=over))]
    return [
        Shown(
            f"{m}: Dice in %, Hausdorff distance; mean ± sd over patients",
            paper_table(rows, CSA_TABLE, columns="structure"),
        )
        for m, rows in part.groupby("modality", sort=False)
    ]


def _disjoint(part: pd.DataFrame) -> bool:
    """Whether the folds of one data set and task are data sets of their own."""
    return dataset(str(part["dataset"].iloc[0])).task(str(part["task"].iloc[0])).split.disjoint


def problems_by_system(name: str, problems: dict[str, str]) -> tuple[dict[str, str], dict[str, set[int]]]:
    """Recorded problems of runs by ``dataset/task/system``: in words with fold and seed, and the folds alone."""
    texts: dict[str, list[str]] = {}
    folds: dict[str, set[int]] = {}
    for spec in suite(name):
        if text := problems.get(str(spec)):
            place = place_of(spec)
            texts.setdefault(place, []).append(f"fold {spec.fold}, seed {spec.seed}: {text}")
            folds.setdefault(place, set()).add(spec.fold)
    return {place: "; ".join(found) for place, found in texts.items()}, folds


def _marked(place: str, sick: dict[str, str], shown: Shown) -> str:
    """The system's name, with a dagger if it does not count as trained in the table's modality, or in one modality at
    least where it shows several; as a translator or as a segmenter, for it may be both."""
    name = place.split("/", 2)[2]
    parts = [key.removeprefix(f"{place}/") for key in sick if key.startswith(f"{place}/")]
    own = [part for part in parts if ("to " in part) == shown.translators and shown.modality in (part, "")]
    return f"{name} †" if place in sick or own else name


def _preamble(name: str, rows: pd.DataFrame, facts: dict[str, object], real: bool) -> str:
    seeds = rows["seed"].nunique()
    folds = {
        f"{key}/{task}": part["fold"].nunique() for (key, task), part in rows.groupby(["dataset", "task"], sort=False)
    }
    shape = ", ".join(f"{place} in {n} fold{'s' * (n > 1)}" for place, n in folds.items())
    units = " and ".join(dict.fromkeys(dataset(str(key)).unit for key in rows["dataset"].unique()))
    what = "Real patients." if real else "Phantoms: a direction may be seen here, nothing is reproduced."
    loss = (
        "U-Nets and UAGAN are trained with cross-entropy that weighs foreground 0.98, without Dice, as in UAGAN's "
        "code (of the U-Nets each modality's mean is taken, of UAGAN the whole batch's): they call too much tumour, "
        "and do not compare with networks that had Dice in the loss, or other splits. "
    )
    its, trained = "Student's", "With one seed all this is of the networks that were trained, not of another training."
    if seeds > 1:
        its, trained = "its", (
            "The interval is over patients and trainings; `p` is of the patients' means over seeds, so of these "
            "trainings, as is ± in the tables."
        )
    return (
        f"{what} {facts['runs']} runs, {seeds} seed{'s' * (seeds > 1)}; {shape}. {facts['training_seconds']} s of "
        f"training in all; systems have the same number of steps, not of seconds. "
        f"{loss if (rows['method'] == 'uagan').any() else ''}Distances in {units}; a structure that only one of mask "
        "and truth holds costs the diagonal of its volume (`missed`: their mean count). † did not train by the limits "
        "below, in one fold at least; no claim rests on it. sd with n - 1.\n\n"
        f"A claim is a paired difference over patients with {its} 95 % interval. It decides if the interval "
        "excludes zero on data of six patients or more, the mean has one sign in all folds, and both systems trained: "
        "in the modality tested they beat both trivial answers, all background and all foreground (on the slices that "
        f"networks see), and they break no limit of `{HEALTH}` in any run. `p` is the signed-rank test's; "
        "by the chance of patients one comparison in twenty decides, and `p_holm` corrects for that within a claim of "
        f"this suite{'' if seeds > 1 else '; by that of a single training more do'}. `healthy folds` "
        f"has the difference without folds that broke a limit: it is no verdict. {trained}"
    ) + (f"\n\n{_of_translators(name)}" if "s_score" in rows and rows["s_score"].notna().any() else "")


def _of_translators(name: str) -> str:
    settled = SETTLED.get(name.split("-")[0], "")
    return TRANSLATORS + (f"\n\n{settled}" if settled else "")


def _trained(sick: dict[str, str]) -> str:
    if not sick:
        return "All of them, by these limits."
    systems: dict[str, list[str]] = {}
    for place, reason in sorted(sick.items()):
        systems.setdefault("/".join(place.split("/")[:3]), []).append(reason)
    return "\n".join(f"- `{system}`: cannot tell. {_short(reasons)}" for system, reasons in systems.items())


def _short(reasons: list[str]) -> str:
    """Reasons in one line, those that end alike told once: "in T1, T2 no better than a trivial answer"."""
    ends: dict[str, list[str]] = {}
    for reason in reasons:
        start, middle, end = reason.partition(" no better than ")
        ends.setdefault(middle + end, []).append(start)
    return "; ".join(", ".join(starts) + end for end, starts in ends.items())
