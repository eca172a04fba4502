"""All recorded suites together: every comparison, what became of each claim, every system's scores and their cost.

A claim is as good as its weakest comparison. On phantoms it is "direction seen" if every comparison is, "not seen" if
one goes the other way and still does after Holm's correction (of many equal systems some are turned round by chance),
else "cannot tell"; "not run" if none of its systems was trained there. The same of patients, in their own words
(`verdicts.seen_as`). Of two records of a comparison the one with more seeds counts, then the one with more steps;
correction is over the comparisons of a claim that count, of whatever suites. Six patients do not pass it where a claim
has several comparisons: such a claim can be seen, but not "not seen".
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmod_lab import paths
from xmod_lab.bench.claims import ABOUT, CLAIMS
from xmod_lab.bench.correction import UNREACHABLE, held
from xmod_lab.bench.own_data import PAPERS_OWN, grid_of, on_own_data
from xmod_lab.bench.page import Recorded, names, recorded
from xmod_lab.bench.suites import suite
from xmod_lab.data.manifest import dataset
from xmod_lab.errors import LabError
from xmod_lab.evaluate.statistics import ALPHA
from xmod_lab.files import read_json
from xmod_lab.profiles import profile_of

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
    "SASAN": ("sasan-seeds-lesson", "scorer (sasan) - scorer (cyclegan)", "CT", "Dice",
              "translations segment better than CycleGAN's, MR to CT"),
    "TarGAN": ("translation-lesson", "targan - stargan", "T1w", "S-score", "S-score above StarGAN's, to T1w"),
    "BiGL": ("adaptation-bar-long", "bigl - source_only ≥ 25", "T2", "Dice",
             "at least 25 points above no adaptation, tumour in T2 (the bar is this lab's)"),
}  # fmt: skip
"""by paper: suite, comparison, modality, metric, and what is said of it"""
ACCESS = {"open": "to be downloaded", "registration": "behind a registration"}
KINDS = (
    ("no better than a trivial answer", re.compile(r"no better than")),
    ("did not train", re.compile(r"did not train|is missed in|gate open")),
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
    place = {grid: i for i, grid in enumerate(order)}
    found = sorted((n for n in names if grid_of(n)), key=lambda n: (place.get(grid_of(n), len(place)), n))
    if not found:
        mend = "make one: xmod-lab bench report --suite csa-lesson --record results"
        raise LabError("no recorded results", where=folder, mend=mend)
    return found


@functools.lru_cache(maxsize=4)
def records(folder: Path) -> dict[str, Recorded]:
    """What `page.recorded` reads of each of `recorded_suites`, once a process."""
    return {name: recorded(name, folder) for name in recorded_suites(folder)}


def comparisons(folder: Path) -> pd.DataFrame:
    """Every comparison of every recorded suite: `suite`, `on` (of WHERE), `profile`, what `verdicts.verdicts` gives,
    and as numbers `effect`, `low`, `high`, `published_size`, in its metric's unit (shares in points). `why` is the kind
    of the reason for "cannot tell", `kind_of`."""
    import pandas as pd

    parts = []
    for name, record in records(folder).items():
        profiles = ", ".join(dict.fromkeys(spec.profile for spec in suite(name)))
        on = OWN if on_own_data(name) else "patients" if record.real else "phantoms"
        parts.append(record.claims.assign(suite=name, on=on, profile=profiles))
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
    """HEADLINES with what became of them: one comparison a paper, as README has it, in points."""
    import pandas as pd

    table, lines = comparisons(folder), []
    for paper, (name, comparison, modality, metric, says) in HEADLINES.items():
        there = (table["suite"] == name) & (table["tested on"] == modality) & (table["metric"] == metric)
        (row,) = table[there & (table["comparison"] == comparison)].to_dict("records")
        steps = profile_of(row["profile"]).steps
        lines.append({
            "paper": paper, "asked": says, "metric": metric, "published": row["published"],
            "here [95 % interval]": f"{row['difference']} [{row['interval']}]",
            "patients, seeds, steps": f"{row['n']}, {row['seeds']}, {steps}",
            "verdict": row["verdict"] + (f": {row['why']}" if row["why"] else ""),
        })  # fmt: skip
    return pd.DataFrame(lines)


def answers(folder: Path) -> pd.DataFrame:
    """One row a claim, in the papers' order: what it says, its published size, and for phantoms, patients and the
    paper's own data the verdict, with the counts, seeds and reasons behind it."""
    import pandas as pd

    table = best(comparisons(folder))
    rows = []
    for key, about in ABOUT.items():
        row: dict[str, Any] = {"claim": key, "paper": about.paper, "table": about.table, "says": about.direction,
                               "published": about.published}  # fmt: skip
        for where in WHERE:
            part = table[(table["claim"] == key) & (table["on"] == where)]
            verdict, reason = judged(part["verdict"], part["why"], part["p_holm"])
            row |= {where: verdict, f"{where}: comparisons": counted(part["verdict"]),
                    f"{where}: seeds": seeds_of(part["seeds"]), f"{where}: why": reason}  # fmt: skip
        if row[OWN] == NOT_RUN:
            asked = table.loc[(table["claim"] == key) & (table["on"] == "phantoms"), "data set"]
            row[f"{OWN}: why"] = own_data(asked)
        rows.append(row | {"not tested": about.untested})
    return pd.DataFrame(rows)


def best(table: pd.DataFrame) -> pd.DataFrame:
    """Of the records of one comparison the one with more seeds, then more steps; `p_holm` within claims."""
    import pandas as pd

    same = ["on", "claim", "data set", "tested on", "metric", "comparison"]
    sizes = table["profile"].map(lambda names: max(profile_of(name).steps for name in names.split(", ")))
    order = table.assign(size=sizes).sort_values(["seeds", "size"], ascending=False, kind="stable").index
    found = table.loc[order].drop_duplicates(same).sort_index()
    for _, rows in found.groupby(["on", "claim"]):
        found.loc[rows.index, "p_holm"] = held(pd.to_numeric(rows["p"], errors="coerce").tolist(), rows["n"])
    return found


def judged(verdicts: Iterable[str], kinds: Iterable[str], holms: Iterable[str]) -> tuple[str, str]:
    """The verdict of a claim from those of its comparisons and their p_holm (`verdicts.held`), and a line of why, from
    the kinds of their reasons."""
    each = [one for one in zip(verdicts, kinds, holms, strict=True) if one[0] != NOT_RUN]
    if not each:
        return NOT_RUN, "no recorded suite compares it there"
    turned = sum(verdict == NOT_SEEN and p != UNREACHABLE and float(p) < ALPHA for verdict, _, p in each)
    if turned:
        return NOT_SEEN, f"{turned} of {len(each)} comparisons go the other way, after correction"
    counts: dict[str, int] = {}
    for verdict, kind, p in each:
        if verdict in (CANNOT, NOT_SEEN):
            short = "with too few patients for" if p == UNREACHABLE else "but not after"
            kind = f"the other way, {short} correction" if verdict == NOT_SEEN else kind
            counts[kind] = counts.get(kind, 0) + 1
    if not counts:
        return each[0][0], "every comparison"
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
    """``1``, or ``1 to 3`` if comparisons differ, or an empty text; those that were not run have none."""
    found = sorted({int(n) for n in seeds if n > 0})
    return " to ".join(map(str, dict.fromkeys((found[0], found[-1])))) if found else ""


def own_data(places: Iterable[str]) -> str:
    """Why a claim has no verdict on its paper's own data, from the ``data set/task`` of phantoms it is asked of."""
    asked = [(key, task) for key, _, task in (place.partition("/") for place in dict.fromkeys(places))]
    own = sorted({PAPERS_OWN[place].dataset for place in asked if place in PAPERS_OWN})
    without = ", ".join("/".join(place) for place in asked if place not in PAPERS_OWN)
    if not own:
        return "no task of the paper's data asks it"
    said = "; ".join(f"`{name}` ({ACCESS[dataset(name).access]}) is in no recorded suite" for name in own)
    return said + (f"; nothing stands for {without}" if without else "")
