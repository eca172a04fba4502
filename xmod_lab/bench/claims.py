"""What CSA, UAGAN and UMMKD claim, as paired comparisons over patients, each with a verdict.

A difference is method minus the other, by patient, mean over structures and seeds.

"direction seen"  Student's 95 % interval of the mean excludes zero on the claimed side; "reproduced" instead on
                  patients, where data and modality are the paper's
"not seen"        it excludes zero on the other side
"cannot tell"     it includes zero, or one of the two did not train, or there are five patients or fewer, with whom no
                  signed-rank test reaches 0.05

The interval is of the networks that were trained: with one seed it says nothing of another training. p_holm is the
signed-rank p, corrected over the suite.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xmod_lab.bench.patients import NAMES, by_patient
from xmod_lab.evaluate.statistics import ALPHA, holm, mean_interval, signed_rank, smallest_p

if TYPE_CHECKING:
    import pandas as pd

HEART = {"LGE": "cardiac_mr", "bSSFP": "cardiac_mr", "CT": "whole_heart", "MR": "whole_heart"}


@dataclass(frozen=True)
class Claim:
    """`method` against `other` in `metric` on `modality`. sign: +1 if the paper says higher.

    published: its difference, in points (per cent) or the metric's unit; None where the paper gives no number.
    """

    key: str
    method: str
    other: str
    modality: str
    metric: str = "dice"
    sign: int = 1
    published: float | None = None
    dataset: str = "brain_tumour"
    task: str = "uagan"
    same_data: bool = True
    """whether data and modality are the paper's, up to phantoms: elsewhere nothing is reproduced"""


def _over(key: str, method: str, other: str, published: Mapping[str, float | None], **more: Any) -> list[Claim]:
    return [Claim(key, method, other, m, published=p, **more) for m, p in published.items()]


def _hearts(key: str, method: str, other: str, published: Mapping[str, float], sign: int = 1) -> list[Claim]:
    return [Claim(key, method, other, m, "dice", sign, p, HEART[m], "joint") for m, p in published.items()]


UAGAN = [
    *_over("U1", "uagan", "unet_joint", {"FLAIR": 3.4, "T2": 3.5}),
    *_over("U2", "uagan", "unet_individual", {"FLAIR": 1.3, "T2": 4.3}),
    *_over("U2", "uagan", "unet_individual", {"T1Gd": -4.2}, sign=-1),
    *_over("U3", "uagan", "unet_joint", {"T1Gd": 9.92, "FLAIR": 9.5, "T2": 10.4}, metric="precision"),
    *_over("U3", "uagan", "unet_joint", {"T1Gd": -0.35, "FLAIR": -1.08, "T2": -0.99}, metric="assd_pooled", sign=-1),
    *_over("U3", "uagan", "unet_joint", {"T1Gd": -7.24, "FLAIR": -3.8, "T2": -4.10}, metric="sensitivity", sign=-1),
    *_over("U4", "uagan", "uagan (atten)", {"T1Gd": -0.26, "FLAIR": 0.17, "T2": 1.49}),
    *_over("U4", "uagan", "uagan (trans)", {"T1Gd": 0.08, "FLAIR": 0.88, "T2": 0.56}),
    *_over("U4", "uagan", "uagan (fuse)", {"T1Gd": -1.34, "FLAIR": 0.88, "T2": 1.22}),
    *_over("U5", "unet_joint", "unet_individual", {"T1Gd": -4.0, "FLAIR": -2.1}, sign=-1),
    *_over("U5", "unet_joint", "unet_individual", {"T2": 0.8}),
]
"""Differences of UAGAN's Table 1"""
CSA = [
    *_hearts("C1", "csa", "msbn", {"LGE": 1.94, "bSSFP": 0.30, "CT": 0.63, "MR": 0.23}),
    *_hearts("C1", "csa", "affinity", {"LGE": 1.28, "bSSFP": 0.15, "CT": 0.69, "MR": 2.06}),
    *_hearts("C2", "msbn", "fcn_joint", {"LGE": -0.21, "bSSFP": 0.63, "CT": 1.10, "MR": 2.43}),
    *_hearts("C3", "affinity", "msbn", {"MR": -1.83}, sign=-1),
    *_hearts("C5", "csa", "fcn_single", {"LGE": 1.98, "bSSFP": 1.03, "CT": 1.05, "MR": 1.23}),
    *_hearts("C5", "msbn", "fcn_single", {"LGE": 0.04, "bSSFP": 0.73, "CT": 0.42, "MR": 1.00}),
    *_hearts("K1", "ummkd", "msbn", {"LGE": 0.25, "bSSFP": 0.01, "CT": -0.74, "MR": -0.25}),
    *_hearts("K1", "ummkd", "fcn_joint", {"LGE": 0.05, "bSSFP": 0.64, "CT": 0.36, "MR": 2.18}),
    *_hearts("K1", "ummkd", "fcn_single", {"LGE": 0.30, "bSSFP": 0.74, "CT": -0.32, "MR": 0.75}),
]
"""Differences of CSA's Tables 1-3, mean over structures; K1's are CSA's own runs of UMMKD"""
CSA_ABLATIONS = [
    Claim(key, "csa", f"csa ({name})", m, dataset="cardiac_mr", task="joint")
    for key, names in (("literal", ("literal",)), ("C4", ("far", "late")))
    for name in names
    for m in ("LGE", "bSSFP")
] + [
    Claim("C5", method, "fcn_single", m, dataset="cardiac_mr", task=task)
    for task in ("joint_4", "joint_2")
    for method in ("csa", "msbn")
    for m in ("LGE", "bSSFP")
]
REAL = [
    *_over("U1", "uagan", "unet_joint", {"FLAIR": 3.4}, dataset="lgg"),
    *_over("U2", "uagan", "unet_individual", {"FLAIR": 1.3}, dataset="lgg"),
    *_over("U2", "uagan", "unet_individual", {"T1Gd": -4.2}, sign=-1, dataset="lgg"),
    *_over("U3", "uagan", "unet_joint", {"T1Gd": 9.92, "FLAIR": 9.5}, metric="precision", dataset="lgg"),
    *_over("U3", "uagan", "unet_joint", {"T1Gd": -0.35, "FLAIR": -1.08}, metric="assd_pooled", sign=-1, dataset="lgg"),
    *_over("U3", "uagan", "unet_joint", {"T1Gd": -7.24, "FLAIR": -3.8}, metric="sensitivity", sign=-1, dataset="lgg"),
    *_over("C1", "csa", "msbn", dict.fromkeys(("FLAIR", "T1", "T1Gd")), dataset="lgg", same_data=False),
    *_over("C2", "msbn", "fcn_joint", dict.fromkeys(("FLAIR", "T1", "T1Gd")), dataset="lgg", same_data=False),
]
SAYS = {
    "U1": "UAGAN above Joint in Dice",
    "U2": "UAGAN above Individual on FLAIR and T2, below on T1Gd",
    "U3": "UAGAN above Joint in precision and ASSD, below in sensitivity",
    "U4": "UAGAN above its ablations",
    "U5": "Joint below Individual on T1Gd and FLAIR, above on T2",
    "U6": "the gates into the segmentation decoder favour the tumour",
    "C1": "CSA above MSBN and above affinity without classes",
    "C2": "MSBN above one network for all",
    "C3": "affinity without classes below MSBN on MR",
    "C4": "CSA between near layers above far and late ones",
    "C5": "training together, with MSBN or CSA, above a network a modality",
    "K1": "UMMKD above MSBN, one network for all, and a network a modality",
    "literal": "CSA as recommended above its equations as printed",
}
"""by key: what is claimed, in a line"""
CLAIMS = {"uagan": UAGAN, "csa": CSA, "csa-ablations": CSA_ABLATIONS, "joint-real": REAL}
"""by grid (`bench.suites`), the profile left off"""


def untrained(rows: pd.DataFrame, problems: Mapping[str, str]) -> dict[str, str]:
    """Systems that do not count as trained and why, as ``dataset/task/system`` or, in one modality alone,
    ``dataset/task/system/modality`` -> reason.

    Trained: no health limit broken in any run (`problems`, keyed alike), and the interval of the gain in Dice over the
    better of the two trivial answers, all background (0) and all foreground (`everything`), lies above zero.
    """
    found = dict(problems)
    for (key, task, system, modality), part in by_patient(rows).groupby(["dataset", "task", "system", "modality"]):
        if not mean_interval((part["dice"] - part["everything"]).to_numpy())[0] > 0:
            found[f"{key}/{task}/{system}/{modality}"] = f"in {modality} no better than a trivial answer"
    return found


def verdicts(claims: Iterable[Claim], rows: pd.DataFrame, sick: Mapping[str, str], *, real: bool) -> pd.DataFrame:
    """One row a claim that `rows` (`patient_rows`) can answer: n patients, difference, interval, verdict and reason.

    sick: what `untrained` gives. Shares and their differences are in per cent.
    """
    import pandas as pd

    values = by_patient(rows)
    found = []
    for claim in claims:
        here = values[(values["dataset"] == claim.dataset) & (values["task"] == claim.task)]
        here = here[here["modality"] == claim.modality]
        wide = here.pivot_table(index=["fold", "patient"], columns="system", values=claim.metric)
        line = {
            "claim": claim.key,
            "data set": f"{claim.dataset}/{claim.task}",
            "tested on": claim.modality,
            "metric": NAMES.get(claim.metric, claim.metric),
            "comparison": f"{claim.method} - {claim.other}",
            "published": "" if claim.published is None else f"{claim.published:+g}",
        }
        if absent := [s for s in (claim.method, claim.other) if s not in wide]:
            found.append(line | {"n": 0, "difference": "", "interval": "", "verdict": "not run", "reason": absent[0]})
            continue
        scale = 1 if claim.metric == "assd_pooled" else 100
        difference = ((wide[claim.method] - wide[claim.other]) * scale).dropna().to_numpy()
        low, high = mean_interval(difference)
        reason = _sick(claim, sick)
        if not reason and smallest_p(len(difference)) >= ALPHA:
            reason = f"{len(difference)} patients are too few"
        found.append(
            line
            | {
                "n": len(difference),
                "difference": f"{difference.mean():+.2f}",
                "interval": f"{low:+.2f} to {high:+.2f}",
            }
            | {"p_holm": signed_rank(difference)[0]}
            | {"verdict": _verdict(claim.sign, low, high, reason, real and claim.same_data), "reason": reason}
        )
    table = pd.DataFrame(found)
    if "p_holm" in table:
        table["p_holm"] = [f"{p:.2g}" if p == p else "" for p in holm(table["p_holm"].to_numpy(dtype=float))]
    return table


def gate_verdicts(rows: pd.DataFrame, sick: Mapping[str, str], *, real: bool) -> pd.DataFrame:
    """U6: the gates into the segmentation decoder favour the structure.

    Their ratio inside over outside lies above 1, and above that of the untrained network.

    rows: `patients.gate_rows`. One line a level: difference of the ratios inside over outside, mean over modalities and
    seeds, by patient.
    """
    import pandas as pd

    found = []
    for name, part in rows[rows["map"].str.startswith("gate/segmentation/")].groupby("map", sort=True):
        place = f"{part['dataset'].iloc[0]}/{part['task'].iloc[0]}"
        difference = (part["ratio"] - part["untrained"]).groupby([part["fold"], part["patient"]]).mean().dropna()
        low, high = mean_interval(difference.to_numpy())
        excess = (part["ratio"] - 1).groupby([part["fold"], part["patient"]]).mean().dropna()
        above, _ = mean_interval(excess.to_numpy())
        reason = sick.get(f"{place}/uagan", "")
        if not reason and smallest_p(len(difference)) >= ALPHA:
            reason = f"{len(difference)} patients are too few"
        if not reason and low > 0 and not above > 0:
            reason = "the ratio itself is not above 1"
        found.append({
            "claim": "U6", "data set": place, "tested on": "all", "metric": "gate inside / outside",
            "comparison": f"level {str(name)[-1]} - untrained", "published": "", "p_holm": "", "n": len(difference),
            "difference": f"{difference.mean():+.3f}", "interval": f"{low:+.3f} to {high:+.3f}",
            "verdict": _verdict(1, low, high, reason, real), "reason": reason,
        })
    return pd.DataFrame(found)


def _sick(claim: Claim, sick: Mapping[str, str]) -> str:
    """Why one of the claim's two systems does not count as trained, or an empty text."""
    for system in (claim.method, claim.other):
        place = f"{claim.dataset}/{claim.task}/{system}"
        for key in (place, f"{place}/{claim.modality}"):
            if key in sick:
                return f"{system}: {sick[key]}"
    return ""


def _verdict(sign: int, low: float, high: float, reason: str, real: bool) -> str:
    seen = "reproduced" if real else "direction seen"
    if reason or not (low > 0 or high < 0):
        return "cannot tell"
    return seen if (low > 0) == (sign > 0) else "not seen"
