"""What CSA, UAGAN, UMMKD, TarGAN, SASAN, BiGL and AdaptSegNet claim, and this lab's own questions about them.

``data/claims.csv`` says what is claimed, where and how large, ``data/comparisons.csv`` which systems answer it, one row
a `Claim`. Empty numbers are None, or 0 for `least`; `published` is what `published.difference` gives, of patients of
other data that of the modality nearest to theirs.
"""

from __future__ import annotations

from typing import NamedTuple

from xmod_lab.bench.claim import Claim
from xmod_lab.bench.sheets import read

RULES = {
    "paired": "each comparison is a paired difference over patients (`verdicts.verdicts`)",
    "paired, at least 25": "the same, and the difference must be larger than 25 points (`Claim.least`)",
    "paired, of differences": "the same, and one comparison is of two differences (`Claim.less`)",
    "gates": "no two systems: UAGAN's gates inside over outside the structure, above 1 and above those of the "
    "untrained network (`verdicts.gate_verdicts`)",
    "greys": "no segmenter: the share of the change of grey that translators make (`through.grey_verdicts`)",
}
"""the rules by which a claim gets its verdict"""


class About(NamedTuple):
    """A claim in words."""

    paper: str
    """"own" for this lab's own questions"""
    table: str
    """where in the paper its numbers are, or, without numbers, its words"""
    direction: str
    """what is claimed, in a line"""
    published: str
    """how large it is there"""
    data: str
    """the paper's data set"""
    rule: str
    """of RULES"""
    untested: str
    """the part of the claim that no comparison tests"""


def _claim(row: dict[str, str]) -> Claim:
    """A row of comparisons.csv."""
    less = (row["less_method"], row["less_other"])
    return Claim(
        row["claim"],
        row["method"],
        row["other"],
        row["modality"],
        row["metric"],
        float(row["published"]) if row["published"] else None,
        row["dataset"],
        row["task"],
        same_data=row["same_data"] == "yes",
        less=less if all(less) else (),
        structure=row["structure"],
        least=float(row["least"] or 0),
    )


ABOUT = {row.pop("key"): About(**row) for row in read("claims")}
"""by key"""
SAYS = {key: about.direction for key, about in ABOUT.items()}
"""by key: what is claimed, in a line"""
CLAIMS: dict[str, list[Claim]] = {"shown": []}
"""by grid (`bench.suites`), the profile left off; that of the weights that come with the package claims nothing"""
for _row in read("comparisons"):
    CLAIMS.setdefault(_row["suite"], []).append(_claim(_row))
