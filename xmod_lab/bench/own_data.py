"""What a suite is asked: the claims of its grid, and those of the papers' own data, which phantom tasks stand for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from xmod_lab.bench.claim import Claim
from xmod_lab.bench.claims import CLAIMS

PAPER = "paper"
"""the profile of runs on the papers' own data"""


class Place(NamedTuple):
    """A task of a data set that a paper worked on, and its names for the phantom's modalities where they differ."""

    dataset: str
    task: str
    modalities: tuple[tuple[str, str], ...] = ()


PAPERS_OWN: dict[tuple[str, str], Place] = {
    ("brain_tumour", "uagan"): Place("msd_brain", "uagan"),
    ("cardiac_mr", "joint"): Place("mscmrseg2019", "csa"),
    ("whole_heart", "joint"): Place("mmwhs", "csa"),
    ("abdomen", "liver"): Place("chaos", "targan", (("T1w", "T1"), ("T2w", "T2"))),
    ("whole_heart", "sasan_mr_to_ct"): Place("mmwhs", "sasan"),
    ("brain_tumour", "sasan"): Place("brats2015", "sasan"),
    ("head_ct_mr", "registered"): Place("rire", "registered_t1", (("MR", "T1"),)),
    ("brain_tumour", "subregions"): Place("brats2019", "bigl"),
    ("brain_tumour", "subregions_all"): Place("brats2019", "bigl_all"),
    ("whole_heart", "mr_to_ct"): Place("mmwhs", "mr_to_ct"),
    ("whole_heart", "ct_to_mr"): Place("mmwhs", "ct_to_mr"),
}
"""by data set and task of a phantom. UAGAN's BraTS 2018 lies within `msd_brain`"""


def at_papers(claims: Iterable[Claim]) -> list[Claim]:
    """Those of `claims` whose phantom stands for data that the manifest knows how to get, as asked of these data."""
    found = []
    for claim in claims:
        if place := PAPERS_OWN.get((claim.dataset, claim.task)):
            modality = dict(place.modalities).get(claim.modality, claim.modality)
            found.append(replace(claim, dataset=place.dataset, task=place.task, modality=modality))
    return list(dict.fromkeys(found))


def grid_of(name: str) -> str:
    """The grid of a suite that answers claims (``csa-lesson`` -> ``csa``), of one on a paper's own data the data set
    (``mmwhs-paper`` -> ``mmwhs``), else an empty text."""
    grid, _, profile = name.rpartition("-")
    known = {place.dataset for place in PAPERS_OWN.values()} if profile == PAPER else CLAIMS
    return grid if grid in known else ""


def on_own_data(name: str) -> bool:
    """Whether a suite is of a paper's own data."""
    return name.endswith(f"-{PAPER}")


def claims_of(name: str) -> list[Claim]:
    """What the suite `name`, which `grid_of` knows, is asked."""
    if not on_own_data(name):
        return CLAIMS[grid_of(name)]
    every = at_papers(claim for claims in CLAIMS.values() for claim in claims)
    return [claim for claim in every if claim.dataset == grid_of(name)]
