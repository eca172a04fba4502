"""Paired comparisons over patients, each with a verdict.

A difference is method minus the other, by patient and seed, mean over structures.

"direction seen"  the 95 % interval of the mean excludes zero on the side of the published difference. On patients it is
                  "direction seen on patients", or "reproduced" where data and modality are the paper's
"not seen"        it excludes zero on the other side
"cannot tell"     it includes zero; or one of the two systems, or the scorer of translators, did not train; or the mean
                  has another sign in another fold, whose networks were trained on other patients; or there are five
                  patients or fewer, with whom no signed-rank test reaches 0.05

A lower bound of adaptation (`UNADAPTED`) counts as trained if it is in the modality that has labels: that it fails in
the other one is what such claims say. Where a claim says how large a difference is at the least, that much is taken off
before interval, p and folds decide; and a method that broke no limit, but is no better than a trivial answer in the
modality tested, has missed that bar: "not seen", if its interval lies below it.

The interval is over patients and, where there are several seeds, trainings (`statistics.crossed_interval`); with one
seed it is Student's, of the networks that were trained, and says nothing of another training. p is of the patients'
means over seeds. That trainings count was settled before a claim had several. The numbers of the health limits are
older than the recorded runs. That a missed structure is counted by patient, that a system must beat both trivial
answers and that folds must agree was added later, and can only turn a verdict into "cannot tell". That a paper's table
decides the direction was settled after the runs, too. The rules of lower bounds and of least differences are older than
the runs that they are about, and no older verdict hangs on them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from xmod_lab.bench.claim import Claim
from xmod_lab.bench.correction import corrected
from xmod_lab.bench.patients import ERRORS, NAMES, PLAIN, SHARES, TRANSLATED, by_patient
from xmod_lab.bench.systems import MEAN, NOT_ADAPTED, UNADAPTED
from xmod_lab.data.manifest import dataset
from xmod_lab.evaluate.scored import SCORER
from xmod_lab.evaluate.statistics import ALPHA, crossed_interval, signed_rank, smallest_p

if TYPE_CHECKING:
    import pandas as pd


LOWER = ("fd", "mae", "rmse", "lpips", "mae_area", "mae_rest")
"""scores of translators that are better when lower"""


def _towards(score: str) -> str:
    """How `untrained` begins the modality of a translator's score."""
    return {"s_score": "to ", "fd": "FD to "}.get(score, f"{score} to ")


def untrained(rows: pd.DataFrame, problems: Mapping[str, str], asked: Collection[str] = ()) -> dict[str, str]:
    """Systems that do not count as trained and why, as ``dataset/task/system`` or, in one modality alone,
    ``dataset/task/system/modality`` -> reason; as a translator ``dataset/task/system/to modality`` where the S-score
    says so, and ``dataset/task/system/FD to modality`` or ``.../mae to modality`` where another score does.

    asked: errors against the truth that a claim is about; others are not looked at.

    Trained: no health limit broken in any run (`problems`, keyed alike), and the interval of the gain over the trivial
    answer lies above zero. A segmenter's gain is in Dice over the better of all background (0) and all foreground
    (`everything`), a translator's over the untranslated image, in the score that a claim is about.
    """
    found, values = dict(problems), by_patient(rows, by_seed=True)
    scores = ["s_score", "fd", *(name for name in ERRORS if name in asked)]
    for value, trivial, to, what, sign in (
        ("dice", "everything", "", "a trivial answer", 1),
        *((name, PLAIN[name], _towards(name), "the untranslated image", -1 if name in LOWER else 1) for name in scores),
    ):
        given = values[values[value].notna()] if value in values else values.head(0)
        for (key, task, system, modality), part in given.groupby(["dataset", "task", "system", "modality"]):
            part = part.set_index(["fold", "patient", "seed"])
            _, low, _ = interval_of(sign * (part[value] - part[trivial]))
            if not low > 0:
                why = "no better" if low == low else "too few patients or seeds to tell whether it is better"
                found[f"{key}/{task}/{system}/{to}{modality}"] = f"{to or 'in '}{modality} {why} than {what}"
    return found


def verdicts(
    claims: Iterable[Claim],
    rows: pd.DataFrame,
    sick: Mapping[str, str],
    *,
    real: bool,
    sick_folds: Mapping[str, set[int]] | None = None,
) -> pd.DataFrame:
    """One row a claim that `rows` (`patient_rows`) can answer: n patients, difference, interval, verdict and reason.

    sick: what `untrained` gives. sick_folds: ``dataset/task/system`` -> folds that broke a limit; "healthy folds" then
    holds the difference without them, which is no verdict. Shares are in per cent. p is the signed-rank test's, p_holm
    corrected within the rows of a claim.
    """
    import pandas as pd

    found, folds = [], sick_folds or {}
    short = _short(sick, folds)
    for claim in claims:
        here = rows[(rows["dataset"] == claim.dataset) & (rows["task"] == claim.task)]
        if claim.structure:
            here = here[here["structure"] == claim.structure]
        here = by_patient(_same_seeds(here[here["system"].isin(claim.systems)]), by_seed=True)
        here = here[here["modality"] == claim.modality]
        wide = here.pivot_table(index=["fold", "patient", "seed"], columns="system", values=claim.metric)
        line = {
            "claim": claim.key,
            "data set": f"{claim.dataset}/{claim.task}",
            "tested on": " ".join(filter(None, (claim.modality, claim.structure))),
            "metric": NAMES.get(claim.metric, claim.metric),
            "comparison": " - ".join(s if claim.less == () else f"({s})" for s in _sides(claim))
            + (f" ≥ {claim.least:g}" if claim.least else ""),
            "published": "" if claim.published is None else f"{claim.published:+g}",
        }
        if absent := [s for s in claim.systems if s not in wide]:
            nothing = {"n": 0, "seeds": 0, "difference": "", "interval": "", "verdict": "not run"}
            found.append(line | nothing | {"reason": absent[0]})
            continue
        scale = 100 if claim.metric in SHARES else 1
        form = "+.3g" if claim.metric in TRANSLATED and scale == 1 else "+.2f"
        difference = wide[claim.method] - wide[claim.other]
        if claim.less:
            difference = difference - (wide[claim.less[0]] - wide[claim.less[1]])
        difference = difference * scale
        seen, own = seen_as(real, claim.same_data), f"{claim.dataset}/{claim.task}/{claim.method}/{claim.modality}"
        barred = claim.least > 0 and own in short
        reason = _sick(claim, {key: why for key, why in short.items() if not (barred and key == own)})
        judged = judged_by(difference, claim.direction, reason, seen, form, claim.least)
        if barred and not reason:
            text = f"{claim.method}: {short[own]}"
            judged |= {"reason": f"{text}, which misses the bar"} if judged["verdict"] == "not seen" else {
                "verdict": "cannot tell", "reason": judged["reason"] or text}  # fmt: skip
        asked = (*claim.systems, *_behind(claim), *[SCORER] * (claim.metric in TRANSLATED))
        out = set().union(*(folds.get(f"{claim.dataset}/{claim.task}/{s}", set()) for s in asked))
        found.append(line | judged | {"healthy folds": _without(difference, out, form) if out else ""})
    return corrected(pd.DataFrame(found))


def gate_verdicts(
    rows: pd.DataFrame, sick: Mapping[str, str], *, real: bool, sick_folds: Mapping[str, set[int]] | None = None
) -> pd.DataFrame:
    """U6: the gates into the segmentation decoder favour the structure.

    Their ratio inside over outside lies above 1, and above that of the untrained network.

    rows: `patients.gate_rows`. One line a level: difference of the ratios inside over outside, mean over modalities and
    seeds, by patient.
    """
    import pandas as pd

    found, short = [], _short(sick, sick_folds or {})
    for name, part in rows[rows["map"].str.startswith("gate/segmentation/")].groupby("map", sort=True):
        place = f"{part['dataset'].iloc[0]}/{part['task'].iloc[0]}"
        by = [part["fold"], part["patient"], part["seed"]]
        difference = (part["ratio"] - part["untrained"]).groupby(by).mean()
        _, above, _ = interval_of((part["ratio"] - 1).groupby(by).mean())
        asked = (f"{place}/uagan", *(f"{place}/uagan/{modality}" for modality in part["modality"].unique()))
        reason = next((short[key] for key in asked if key in short), "")
        judged = judged_by(difference, 1, reason, seen_as(real, False), form="+.3f")
        if judged["verdict"].startswith("direction") and not above > 0:
            judged |= {"verdict": "cannot tell", "reason": "the ratio itself is not above 1"}
        found.append(
            {
                "claim": "U6",
                "data set": place,
                "tested on": "all",
                "metric": "gate inside / outside",
                "comparison": f"level {str(name)[-1]} - untrained",
                "published": "",
            }
            | judged
        )
    return corrected(pd.DataFrame(found))


def _same_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the seeds that all systems have: an ablation with one is not compared with a mean of three."""
    seeds = [set(part["seed"]) for _, part in rows.groupby("system")]
    return rows[rows["seed"].isin(set.intersection(*seeds))] if seeds else rows


def judged_by(
    difference: pd.Series, direction: int, reason: str, seen: str, form: str = "+.2f", least: float = 0.0
) -> dict[str, Any]:
    """Columns n, seeds to reason of one comparison; `difference` is indexed by fold, patient and seed, and to be above
    `least`. "not run" where no seed has a value in every fold."""
    table = complete(difference)
    if table.empty:
        nothing = {"n": 0, "seeds": 0, "difference": "", "interval": "", "verdict": "not run"}
        return nothing | {"reason": "no seed that both have in every fold"}
    patients, low, high = interval_of(difference)
    decided = low > least or high < least
    values, folds = patients.to_numpy(), patients.groupby(level=0).mean()
    if not reason and smallest_p(len(values)) >= ALPHA:
        reason = f"{len(values)} patients are too few"
    if not reason and decided and (folds > least).any() and (folds < least).any():
        reason = "folds disagree: " + ", ".join(f"{v:{form}}" for v in folds)
    verdict = "cannot tell"
    if decided and not reason:
        verdict = seen if (low > least) == (direction > 0) else "not seen"
    return {
        "n": len(values),
        "seeds": table.shape[1],
        "difference": f"{values.mean():{form}}",
        "interval": f"{low:{form}} to {high:{form}}",
        "p": signed_rank(values - least)[0],
        "verdict": verdict,
        "reason": reason,
    }


def interval_of(difference: pd.Series) -> tuple[pd.Series, float, float]:
    """The patients' means over seeds, by fold and patient, and the interval of their mean over patients and seeds, of a
    difference by fold, patient and seed."""
    table = complete(difference)
    return table.mean(axis=1), *crossed_interval([part.to_numpy() for _, part in table.groupby(level=0)])


def complete(values: pd.Series) -> pd.DataFrame:
    """Values by fold, patient and seed as a table of patients and seeds. Folds without any are left out, then seeds
    that one of the others lacks (a grid may not be finished), then patients who lack a seed."""
    table = values.unstack("seed").dropna(how="all")
    return table.loc[:, table.notna().groupby(level=0).any().all()].dropna()


def _without(difference: pd.Series, folds: set[int], form: str) -> str:
    """Mean and interval of the folds in which both systems trained, as text."""
    kept, low, high = interval_of(difference[~difference.index.get_level_values(0).isin(folds)])
    if len(kept) < 2:
        return "none"
    return f"{kept.mean():{form}}, {low:{form}} to {high:{form}}, n {len(kept)}"


def _short(sick: Mapping[str, str], folds: Mapping[str, set[int]]) -> dict[str, str]:
    """`sick` for a table: where limits were broken, the folds alone; the page says above what was broken."""
    return {
        place: f"did not train in fold {', '.join(map(str, sorted(folds[place])))}" if place in folds else why
        for place, why in sick.items()
    }


def _sick(claim: Claim, sick: Mapping[str, str]) -> str:
    """Why one of the claim's systems, a translator behind one, or the scorer of translators, does not count as trained;
    an empty text if they all do."""
    translated = claim.metric in TRANSLATED
    place = f"{claim.dataset}/{claim.task}"
    where = f"{_towards(claim.metric) if translated else ''}{claim.modality}"
    for system in claim.systems:
        asked = dataset(claim.dataset).task(claim.task).labelled if system in UNADAPTED and not translated else [where]
        for key in (f"{place}/{system}", *(f"{place}/{system}/{m}" for m in asked)):
            if key in sick and system != NOT_ADAPTED:  # that it fails is what the claim says
                return f"{system}: {sick[key]}"
    for system in _behind(claim):
        for key, reason in sick.items():
            within = f"{place}/{system}/{'' if system == SCORER else 'to '}"
            if key == f"{place}/{system}" or key.startswith(within):
                return f"{system}: {reason}"
    judge = f"{place}/{SCORER}"
    for key, reason in sick.items() if translated else ():
        if key in (judge, f"{judge}/{claim.modality}") or (claim.modality == MEAN and key.startswith(f"{judge}/")):
            return f"the scorer: {reason}"
    return ""


def _sides(claim: Claim) -> list[str]:
    """The differences that a claim compares, or its two systems."""
    return [f"{a} - {b}" for a, b in (claim.systems[:2], claim.less)] if claim.less else list(claim.systems)


def _behind(claim: Claim) -> list[str]:
    """The translators whose images the claim's systems see, and the scorer where it segments or labels them.

    That of enriched (targan) is targan, of detached (sasan) (labels=own) and scorer (sasan) it is sasan.
    """
    found = []
    for name in claim.systems:
        kind, _, rest = name.partition(" (")
        if kind in ("enriched", "detached"):
            found.append(rest.split(")")[0])
        if kind == "scorer" and name != NOT_ADAPTED:
            found.append(rest.removesuffix(")"))
        if kind == "scorer" or (kind == "detached" and "labels=" not in rest):
            found.append(SCORER)
    return list(dict.fromkeys(found))


def seen_as(real: bool, same_data: bool) -> str:
    if not real:
        return "direction seen"
    return "reproduced" if same_data else "direction seen on patients"
