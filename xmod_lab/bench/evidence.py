"""All recorded suites together: every comparison, what became of each claim, every system's scores and their cost.

A claim is as good as its weakest comparison. On phantoms it is "direction seen" if every comparison is, "not seen" if
one goes the other way, else "cannot tell"; "not run" if none of its systems was trained there. The same of patients,
in their own words (`verdicts.seen_as`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmod_lab import paths
from xmod_lab.bench.claims import ABOUT, CLAIMS
from xmod_lab.bench.own_data import PAPERS_OWN
from xmod_lab.bench.page import Recorded, grid_of, names, recorded
from xmod_lab.bench.suites import suite
from xmod_lab.data.manifest import dataset
from xmod_lab.errors import LabError
from xmod_lab.files import read_json

if TYPE_CHECKING:
    import pandas as pd

NOT_SEEN, CANNOT, NOT_RUN = "not seen", "cannot tell", "not run"
OWN = "the paper's data"
WHERE = ("phantoms", "patients", OWN)
"""what a claim is asked of; patients are those of other data than the paper's"""
HEADLINES = {
    "UAGAN": ("uagan-lesson", "uagan - unet_joint", "FLAIR", "precision",
              "more precise than one U-Net for all sequences, FLAIR"),
    "CSA": ("csa-lesson", "csa - msbn", "LGE", "Dice", "above domain-specific normalisation alone, heart in LGE"),
    "SASAN": ("sasan-lesson", "scorer (sasan) - scorer (cyclegan)", "CT", "Dice",
              "translations segment better than CycleGAN's, MR to CT"),
    "TarGAN": ("translation-lesson", "targan - stargan", "T1w", "S-score", "S-score above StarGAN's, to T1w"),
    "BiGL": ("adaptation-bar-long", "bigl - source_only ≥ 25", "T2", "Dice",
             "at least 25 points above no adaptation, tumour in T2 (the bar is this lab's)"),
}  # fmt: skip
"""by paper: suite, comparison, modality, metric, and what is said of it"""
ACCESS = {"open": "to be downloaded", "registration": "behind a registration"}
KINDS = (
    ("did not train", re.compile(r"did not train|no better than|is missed in|gate open")),
    ("too few patients", re.compile(r"too few")),
    ("folds disagree", re.compile(r"folds disagree")),
)
"""what a reason begins or ends with -> its kind, in the order they are looked for"""


def home(folder: str | Path = "") -> Path:
    """The folder of recorded suites: `folder`, or the checkout's own. Raises LabError if there is none."""
    root = paths.checkout()
    if not folder and root is None:
        raise LabError("recorded results are in the project's repository", mend="work in a checkout, or name a folder")
    return Path(folder) if folder else root / "results"  # type: ignore[operator]


def recorded_suites(folder: Path) -> list[str]:
    """Suites with claims that are recorded in `folder`, in the order of CLAIMS. Raises LabError if there is none."""
    order = list(CLAIMS)
    names = [path.stem.removesuffix("-patients") for path in folder.glob("*-patients.csv")]
    found = sorted((n for n in names if grid_of(n)), key=lambda n: (order.index(grid_of(n)), n))
    if not found:
        mend = "make one: xmod-lab bench report --suite csa-lesson --record results"
        raise LabError("no recorded results", where=folder, mend=mend)
    return found


@functools.lru_cache(maxsize=4)
def records(folder: Path) -> dict[str, Recorded]:
    """What `page.recorded` reads of each of `recorded_suites`, once a process."""
    return {name: recorded(name, folder) for name in recorded_suites(folder)}


def comparisons(folder: Path) -> pd.DataFrame:
    """Every comparison of every recorded suite: `suite`, `on` ("phantoms" or "patients"), `profile`, `seeds`, the
    columns of `verdicts.verdicts`, and as numbers `effect`, `low`, `high`, `published_size`, in its metric's unit
    (shares in points). `why` is the kind of the reason for "cannot tell", `kind_of`."""
    import pandas as pd

    parts = []
    for name, record in records(folder).items():
        profiles = ", ".join(dict.fromkeys(spec.profile for spec in suite(name)))
        on = OWN if name == "paper" else "patients" if record.real else "phantoms"
        place = {"suite": name, "on": on, "profile": profiles}
        parts.append(record.claims.assign(**place, seeds=record.rows["seed"].nunique()))
    table = pd.concat(parts, ignore_index=True)
    ends = table["interval"].fillna("").str.split(" to ", expand=True)
    for column, text in (("effect", table["difference"]), ("low", ends[0]), ("high", ends[1]),
                         ("published_size", table["published"])):  # fmt: skip
        table[column] = pd.to_numeric(text, errors="coerce")
    table["why"] = [
        kind_of(reason, comparison) if verdict == CANNOT else ""
        for verdict, reason, comparison in table[["verdict", "reason", "comparison"]].fillna("").to_numpy()
    ]
    return table


def provenance_table(folder: Path) -> pd.DataFrame:
    """One row a recorded suite: profile, runs, seeds, patients tested, device, commits, seconds and memory."""
    import pandas as pd

    lines = []
    for path in (folder / f"{name}.json" for name in names(folder)):
        facts, runs = read_json(path), pd.read_csv(path.with_suffix(".csv"))
        profiles = dict.fromkeys(spec.profile for spec in suite(path.stem))
        lines.append({
            "suite": path.stem, "profile": ", ".join(profiles), "runs": facts["runs"], "seeds": runs["seed"].nunique(),
            "device": ", ".join(facts["device"]), "commits": ", ".join(one[:7] for one in facts["commit"]),
            "training [s]": facts["training_seconds"], "longest run [s]": facts["longest_run_seconds"],
            "memory [MB]": round(facts["peak_memory_mb"]), "broke a limit": len(facts["problems"]),
        })  # fmt: skip
    return pd.DataFrame(lines)


def headlines(folder: Path) -> pd.DataFrame:
    """HEADLINES with what became of them: one comparison a paper, as README has it."""
    import pandas as pd

    table, lines = comparisons(folder), []
    for paper, (name, comparison, modality, metric, says) in HEADLINES.items():
        there = (table["suite"] == name) & (table["tested on"] == modality) & (table["metric"] == metric)
        (row,) = table[there & (table["comparison"] == comparison)].to_dict("records")
        lines.append({
            "paper": paper, "one of its claims": says, "published": row["published"],
            "here [95 % interval], patients": f"{row['difference']} [{row['interval']}], {row['n']}",
            "verdict": row["verdict"] + (f": {row['why']}" if row["why"] else ""),
        })  # fmt: skip
    return pd.DataFrame(lines)


def answers(folder: Path) -> pd.DataFrame:
    """One row a claim, in the papers' order: what it says, its published size, and for phantoms, patients and the
    paper's own data the verdict, with the counts, seeds and reasons behind it."""
    import pandas as pd

    table = comparisons(folder)
    rows = []
    for key, about in ABOUT.items():
        row: dict[str, Any] = {"claim": key, "paper": about.paper, "table": about.table, "says": about.direction,
                               "published": about.published}  # fmt: skip
        for where in WHERE:
            part = table[(table["claim"] == key) & (table["on"] == where)]
            verdict, reason = judged(part["verdict"], part["why"])
            row |= {where: verdict, f"{where}: comparisons": counted(part["verdict"]),
                    f"{where}: seeds": seeds_of(part["seeds"]), f"{where}: why": reason}  # fmt: skip
        if row[OWN] == NOT_RUN:
            row[f"{OWN}: why"] = own_data(key)
        rows.append(row | {"not tested": about.untested})
    return pd.DataFrame(rows)


def judged(verdicts: Iterable[str], kinds: Iterable[str]) -> tuple[str, str]:
    """The verdict of a claim from those of its comparisons, and a line of why, from the kinds of their reasons."""
    each = [(verdict, kind) for verdict, kind in zip(verdicts, kinds, strict=True) if verdict != NOT_RUN]
    if not each:
        return NOT_RUN, "no recorded suite compares it there"
    said = [verdict for verdict, _ in each]
    if NOT_SEEN in said:
        return NOT_SEEN, f"{said.count(NOT_SEEN)} of {len(said)} comparisons go the other way"
    if CANNOT not in said:
        return said[0], "every comparison"
    counts: dict[str, int] = {}
    for verdict, kind in each:
        if verdict == CANNOT:
            counts[kind] = counts.get(kind, 0) + 1
    return CANNOT, ", ".join(f"{kind} ({n})" for kind, n in sorted(counts.items(), key=lambda kv: -kv[1]))


def kind_of(reason: str, comparison: str = "") -> str:
    """A reason of `verdicts.verdicts` in a few words; the reason itself if it is of no known kind."""
    if not reason:
        return f"the interval includes {comparison.partition(' ≥ ')[2] or 'zero'}"
    return next((kind for kind, pattern in KINDS if pattern.search(reason)), reason)


def counted(verdicts: pd.Series) -> str:
    """``2 seen, 1 not seen, 3 cannot tell``: as many as there are, or an empty text."""
    short = verdicts.str.removeprefix("direction ").str.removesuffix(" on patients")
    return ", ".join(f"{n} {verdict}" for verdict, n in short.value_counts().items())


def seeds_of(seeds: pd.Series) -> str:
    """``1``, or ``1 to 3`` if suites differ, or an empty text."""
    found = sorted(set(seeds))
    return " to ".join(map(str, dict.fromkeys((found[0], found[-1])))) if found else ""


def own_data(key: str) -> str:
    """Why a claim has no verdict on its paper's own data."""
    phantoms = {(claim.dataset, claim.task) for claims in CLAIMS.values() for claim in claims if claim.key == key}
    asked = sorted({PAPERS_OWN[place].dataset for place in phantoms if place in PAPERS_OWN})
    if not asked:
        return "no task of the paper's data asks it"
    return "; ".join(f"`{name}` ({ACCESS[dataset(name).access]}) is in no recorded suite" for name in asked)
