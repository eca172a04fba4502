"""The page of a recorded suite: the papers' tables and what becomes of their claims, from the recorded files alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from xmod_lab.bench.claims import CLAIMS, SAYS, gate_verdicts, untrained, verdicts
from xmod_lab.bench.patients import paper_table, system
from xmod_lab.bench.suites import suite
from xmod_lab.errors import LabError
from xmod_lab.files import read_json

if TYPE_CHECKING:
    import pandas as pd

UAGAN_TABLE = ("dice", "precision", "sensitivity", "specificity", "assd_pooled", "missing")
CSA_TABLE = ("dice", "hd", "missing")
HEALTH = "xmod_lab/bench/health.py"


def grid_of(name: str) -> str:
    """The grid of a suite that answers claims (``csa-lesson`` -> ``csa``), or an empty text."""
    grid = name.rpartition("-")[0]
    return grid if grid in CLAIMS else ""


class Recorded(NamedTuple):
    """A recorded suite: its rows (`patient_rows`), systems that did not train and why, and the verdicts."""

    rows: pd.DataFrame
    sick: dict[str, str]
    claims: pd.DataFrame
    real: bool


def recorded(name: str, folder: Path) -> Recorded:
    """Read the suite `name` from `folder`. Raises LabError if it was not recorded there."""
    import pandas as pd

    path = folder / f"{name}-patients.csv"
    if not path.is_file():
        raise LabError(f"suite {name!r} is not recorded", where=folder, mend=f"xmod-lab bench run --suite {name}")
    rows = pd.read_csv(path, dtype={"patient": str})
    real = set(rows["dataset"]) == {"lgg"}
    sick = untrained(rows, problems_by_system(name, read_json(folder / f"{name}.json")["problems"]))
    claims = verdicts(CLAIMS[grid_of(name)], rows, sick, real=real)
    gates = folder / f"{name}-gates.csv"
    if gates.is_file():
        read = pd.read_csv(gates, dtype={"patient": str})
        claims = pd.concat([claims, gate_verdicts(read, sick, real=real)], ignore_index=True)
    return Recorded(rows, sick, claims, real)


def page(name: str, folder: Path) -> str:
    """Markdown of the suite `name` recorded in `folder`."""
    from xmod_lab.evaluate.tables import to_markdown

    rows, sick, claims, real = recorded(name, folder)
    facts = read_json(folder / f"{name}.json")
    parts = [f"# {name}", _preamble(rows, facts, real)]
    for (key, task), part in rows.groupby(["dataset", "task"], sort=False):
        parts.append(f"## {key} / {task}")
        parts += [f"{title}\n\n{to_markdown(table)}" for title, table in tables(part)]
    parts.append("## Did they train?\n\n" + _trained(sick))
    parts.append("## Claims\n\n" + to_markdown(claims.fillna("")))
    return "\n\n".join(parts) + "\n"


def verdict_counts(name: str, folder: Path) -> str:
    """Markdown: for each claim of a recorded suite how many of its comparisons came out how."""
    from xmod_lab.evaluate.tables import to_markdown

    claims = recorded(name, folder).claims
    counts = claims.groupby("claim")["verdict"].value_counts().unstack(fill_value=0)
    counts.insert(0, "what it says", counts.index.map(SAYS))
    return to_markdown(counts.reset_index().rename_axis(None, axis=1))


def tables(part: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The paper's tables of one data set and task, each with its title: CSA's by structure, UAGAN's by modality."""
    if part["structure"].nunique() == 1:
        folds = part["dataset"].iloc[0] != "lgg" and part["fold"].nunique() > 1
        over = "fold" if folds else "patient"
        what = "data sets" if folds else "patients"
        title = f"Dice, precision, sensitivity and specificity in %, ASSD; mean ± sd over {what}"
        return [(title, paper_table(part, UAGAN_TABLE, over=over))]
    return [
        (
            f"{m}: Dice in %, Hausdorff distance; mean ± sd over patients",
            paper_table(rows, CSA_TABLE, columns="structure"),
        )
        for m, rows in part.groupby("modality", sort=False)
    ]


def problems_by_system(name: str, problems: dict[str, str]) -> dict[str, str]:
    """Recorded problems of runs, keyed by ``dataset/task/system`` with the fold and seed in the text."""
    found: dict[str, str] = {}
    for spec in suite(name):
        if text := problems.get(str(spec)):
            place = f"{spec.dataset}/{spec.task_name}/{system(spec)}"
            found[place] = "; ".join(
                filter(None, [found.get(place, ""), f"fold {spec.fold}, seed {spec.seed}: {text}"])
            )
    return found


def _preamble(rows: pd.DataFrame, facts: dict[str, object], real: bool) -> str:
    seeds, folds = rows["seed"].nunique(), rows["fold"].nunique()
    what = "Real patients." if real else "Phantoms: a direction may be seen here, nothing is reproduced."
    once = "With one seed all this is of the networks that were trained, not of another training."
    return (
        f"{what} {facts['runs']} runs, {seeds} seed{'s' * (seeds > 1)}, {folds} fold{'s' * (folds > 1)}, "
        f"{facts['training_seconds']} s of training in all. Distances in {'voxels' if real else 'mm'}; a structure "
        "that is missed costs the diagonal of its volume (`missed`: mean count). sd with n - 1.\n\n"
        "A claim is a paired difference over patients with Student's 95 % interval. It decides if the interval "
        "excludes zero, there are six patients or more, and both systems trained: in the modality tested they beat "
        f"both trivial answers, all background and all foreground, and they break no limit of "
        f"`{HEALTH}` in any run. One comparison in twenty decides by chance alone; "
        f"p_holm is the signed-rank p corrected over this page. {once if seeds == 1 else ''}"
    ).rstrip()


def _trained(sick: dict[str, str]) -> str:
    if not sick:
        return "All of them, by these limits."
    return "\n".join(f"- `{place}`: cannot tell. {reason}" for place, reason in sorted(sick.items()))
