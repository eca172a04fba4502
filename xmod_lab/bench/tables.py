"""Tables of a suite: what was run, what came of it, and its record with provenance."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmod_lab import paths
from xmod_lab.bench.adaptation import weights_of
from xmod_lab.bench.claim import Claim
from xmod_lab.bench.health import problems, unseen
from xmod_lab.bench.own_data import claims_of, grid_of
from xmod_lab.bench.page import adapts, page
from xmod_lab.bench.patients import TRANSLATED, gate_rows, patient_rows, scored_runs, translator_rows
from xmod_lab.bench.suites import suite
from xmod_lab.bench.through import grey_rows
from xmod_lab.bench.translators import rows_of
from xmod_lab.errors import LabError
from xmod_lab.files import atomic_file, read_json, write_json, write_text
from xmod_lab.runs import Run, reads_of

if TYPE_CHECKING:
    import pandas as pd

    from xmod_lab.evaluate.scored import Scored

RUN = ["data set", "task", "method", "variant", "fold", "seed"]
"""columns that name a run"""


def suite_rows(name: str) -> pd.DataFrame:
    """One row a run and score: the run, its state, and tested modality, network, structure, Dice, HD95 (max), ASSD
    (pooled; distances in `unit`) and misses, means over the test patients. A run that is missing has one row with the
    state "not run".
    """
    import pandas as pd

    rows = []
    for spec in suite(name):
        run = Run(spec, spec.folder)
        named = dict(
            zip(RUN, (spec.dataset, spec.task_name, spec.method, spec.variant, spec.fold, spec.seed), strict=True)
        )
        if not run.complete:
            rows.append(named | {"state": "not run"})
            continue
        scores = run.scores()
        facts = {"state": "demonstration" if scores["demonstration"] else "done", "patients": scores["patients"]}
        if not any(score.startswith("dice/") for score in scores["means"]):  # it only translates
            rows.append(named | facts | {"unit": scores["unit"], "seconds": scores["seconds"]})
        for score, dice in scores["means"].items():
            if score.startswith("dice/"):
                where, structure = score.removeprefix("dice/").split("/", 1)
                network, _, tested = where.rpartition("->")
                others = {
                    m: scores["means"][f"{m}/{where}/{structure}"] for m in ("hd95_max", "assd_pooled", "missing")
                }
                found = {"tested": tested, "network": network or tested, "structure": structure, "dice": dice}
                rows.append(named | facts | found | others | {"unit": scores["unit"], "seconds": scores["seconds"]})
    return pd.DataFrame(rows)


def report(name: str, out: Path | None = None) -> str:
    """The suite's Dice as Markdown, a row a run, also written row by row to `out` (.csv, .md, .tex) if given."""
    from xmod_lab.evaluate.tables import export, to_markdown

    rows = suite_rows(name)
    parts = []
    for (key, task), part in rows.groupby(["data set", "task"], sort=False):
        runs = part.drop_duplicates(RUN)[[c for c in (*RUN, "state", "seconds") if c in part]]
        if "dice" in part:
            scored = part.dropna(subset="dice")
            arrow = scored["network"].where(
                scored["network"] == scored["tested"], scored["network"] + "->" + scored["tested"]
            )
            wide = scored.assign(score=arrow + " " + scored["structure"]).pivot(
                index=RUN, columns="score", values="dice"
            )
            runs = runs.merge(wide.reset_index(), on=RUN, how="left")
        runs = runs.drop(columns=["data set", "task"]).dropna(axis=1, how="all")
        parts.append(f"**{key} / {task}** (Dice, mean over test patients)\n\n{to_markdown(runs)}")
    if out is not None:
        export(rows, out)
    return f"Suite {name}, runs below {os.path.relpath(paths.runs_home())}\n\n" + "\n\n".join(parts)


def record(name: str, folder: Path) -> Path:
    """Write ``<name>.csv`` (`suite_rows`) and ``<name>.json`` (provenance of its runs) to `folder`; returns the CSV.

    A suite that answers claims (`bench.claims`) gets ``<name>-patients.csv`` and the page ``<name>.md`` beside them;
    UAGAN's gates go to ``<name>-gates.csv``, the distances of translators to ``<name>-distances.csv``, the greys of
    translations in suites of adaptation to ``<name>-greys.csv``.

    Raises LabError if a run of the suite is missing, or was made from something else: a record is whole.
    """
    import pandas as pd

    from xmod_lab import inputs

    rows = suite_rows(name)
    if (missing := int((rows["state"] == "not run").sum())) > 0:
        raise LabError(f"{missing} runs of suite {name!r} are missing", mend=f"xmod-lab bench run --suite {name}")
    runs = [Run(spec, spec.folder) for spec in suite(name)]
    for run in runs:
        inputs.check_now(run)
    with atomic_file(folder / f"{name}.csv") as temporary:
        rows.round(5).to_csv(temporary, index=False)
    facts = provenance(runs)
    if adapts(name):
        facts["weights"] = weights_of(runs)
    write_json(folder / f"{name}.json", facts)
    if grid_of(name):
        claims = claims_of(name)
        scored = scored_runs(name) if about_translators(claims) or not claims else []
        rows = patient_rows(name, scored)
        if scored:
            rows = pd.concat([rows, translator_rows(scored)], ignore_index=True)
            with atomic_file(folder / f"{name}-distances.csv") as temporary:
                _distances(scored).to_csv(temporary, index=False, float_format="%.6g")
        with atomic_file(folder / f"{name}-patients.csv") as temporary:
            rows.to_csv(temporary, index=False, float_format="%.6g")
        if len(gates := gate_rows(name)):
            with atomic_file(folder / f"{name}-gates.csv") as temporary:
                gates.round(5).to_csv(temporary, index=False)
        if adapts(name) and len(greys := grey_rows(runs)):
            with atomic_file(folder / f"{name}-greys.csv") as temporary:
                greys.to_csv(temporary, index=False, float_format="%.4g")
        write_text(folder / f"{name}.md", page(name, folder))
    return folder / f"{name}.csv"


def about_translators(claims: Iterable[Claim]) -> bool:
    """Whether claims need the scores of translated images: as such, or as what a scorer makes of them."""
    return any(c.metric in TRANSLATED or any(s.startswith("scorer (") for s in c.systems) for c in claims)


def _distances(scored: list[Scored]) -> pd.DataFrame:
    """Distances of all translators; with their data set and task where these are several."""
    import pandas as pd

    places: dict[tuple[str, str], list[Scored]] = {}
    for one in scored:
        places.setdefault((one.run.spec.dataset, one.run.spec.task_name), []).append(one)
    if len(places) == 1:
        return rows_of(scored, "distances")
    each = [rows_of(group, "distances").assign(dataset=key, task=task) for (key, task), group in places.items()]
    return pd.concat(each, ignore_index=True)


def provenance(runs: list[Run]) -> dict[str, Any]:
    """What the runs were made with: every value that occurred, total seconds and the largest memory.

    Translators that runs read and that are none of the suite's own count as part of them: `read` says how many there
    are, and what is wrong with one is wrong with its reader.
    """
    own = {run.folder for run in runs}
    behind = {
        run.folder: [Run(spec, spec.folder) for spec in reads_of(run.spec).values() if spec.folder not in own]
        for run in runs
    }
    others = list({other.folder: other for each in behind.values() for other in each}.values())
    hidden = unseen(runs)

    def wrong(run: Run) -> list[str]:
        found = problems(run, hidden.get(f"{run.spec.dataset}/{run.spec.task_name}", ()))
        return found + [f"{other.spec.method}: {text}" for other in behind[run.folder] for text in problems(other)]

    found: dict[str, Any] = {"runs": len(runs)} | ({"read": len(others)} if others else {})
    found |= {"unseen": hidden} if hidden else {}
    environments = [read_json(run.folder / "environment.json") for run in (*runs, *others)]
    for key in ("python", "platform", "device", "threads", "processes", "commit"):
        found[key] = sorted({str(e[key]) for e in environments})
    packages = {name for e in environments for name in e["versions"]}
    found["versions"] = {p: sorted({e["versions"].get(p, "absent") for e in environments}) for p in sorted(packages)}
    scores = [run.scores() for run in (*runs, *others)]
    found["precision"] = sorted({s["precision"] for s in scores})
    found["training_seconds"] = round(sum(s["seconds"] for s in scores))
    found["longest_run_seconds"] = round(max(s["seconds"] for s in scores))
    found["problems"] = {f"{run.spec}": "; ".join(bad) for run in runs if (bad := wrong(run))}
    found["peak_memory_mb"] = max(s["peak_memory_mb"] for s in scores)
    return found


def summary(csv: Path) -> str:
    """`summary_table` as Markdown."""
    from xmod_lab.evaluate.tables import to_markdown

    return to_markdown(summary_table(csv))


def summary_table(csv: Path) -> pd.DataFrame:
    """A record in short: Dice, mean over structures, as mean and sd (ddof 1) over seeds and folds."""
    import pandas as pd

    rows = pd.read_csv(csv)
    rows = rows[rows["state"] != "demonstration"]  # no such score counts
    own = rows[(rows["network"] == rows["tested"]) | (rows["method"] != "unet_individual")]
    runs = own.groupby([*RUN, "tested"], sort=False)["dice"].mean().reset_index()
    lines = []
    for names, part in runs.groupby([*RUN[:4], "tested"], sort=False):
        key, task, method, variant, tested = map(str, names)
        spread = f" ± {part['dice'].std(ddof=1):.2f}" if len(part) > 1 else ""
        named = method + ("" if variant == "default" else f" ({variant.removeprefix('default,')})")
        lines.append(
            {
                "data set": key,
                "task": task,
                "method": named,
                "tested on": tested,
                "Dice": f"{part['dice'].mean():.2f}{spread}",
                "runs": len(part),
            }
        )
    return pd.DataFrame(lines)
