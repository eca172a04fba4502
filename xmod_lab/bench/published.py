"""The papers' tables of results, every printed number a row of ``data/published.csv``.

paper          uagan (Yuan et al. 2019), csa (Chen et al. 2020), targan (Chen et al. 2021), sasan (Tomar et al. 2021) or
               bigl (He et al.); `table` says where in it, `data` of which data set, `direction` of which adaptation, of
               its bounds as well
modality       the one tested, of translators the target; "mean" over targets in TarGAN's Table 3
structure      empty for the mean over structures, or where there is one
system         as in suites, else in the paper's own words
value, sd      as printed, `unit` too; sd is what stands behind ±, whatever it is of. "N.A." leaves the value empty

How they are to be read:

- UAGAN's means are over its three data sets.
- CSA calls its Hausdorff distances mm; they are more likely in voxels (2.24 and 4.12 are roots of sums of squares of
  small integers).
- TarGAN's Fréchet distances are of another extractor's features: directions compare, sizes do not. Its Table 2 segments
  enriched images for StarGAN and TarGAN, and by their own segmenters for CSGAN and ReMIC.
- SASAN's "final" is a segmenter that was trained again on translated images ("w/ aug."), which no other system had; the
  row without is in Table 3 alone, for CT. Of the brain it does not say which of the two it is. Two patients are tested
  in Table 6, on images in [0, 1].
- Of BiGL's two "source only" rows of the heart, `source_only` is the one that it trained itself. What its ASD is it
  does not say; SIFA's rows, copied from there, are of a symmetric distance, so that it stands as ASSD.
"""

from __future__ import annotations

import functools

from xmod_lab.bench.patients import SHARES
from xmod_lab.bench.sheets import read

MEANS_AS_PRINTED = ("sasan",)
"""papers whose printed mean over structures counts: SASAN's text argues with it, and it is not always that of its
structures. Elsewhere it is taken of the structures, as a printed mean was rounded once more"""


@functools.cache
def numbers() -> dict[tuple[str, str, str, str], dict[str, float]]:
    """(paper, system, modality, metric) -> structure -> number, shares in points, in the tables' order."""
    found: dict[tuple[str, str, str, str], dict[str, float]] = {}
    for row in read("published"):
        if row["value"]:
            scale = 100 if row["metric"] in SHARES and row["unit"] != "%" else 1
            place = (row["paper"], row["system"], row["modality"], row["metric"])
            found.setdefault(place, {})[row["structure"]] = round(scale * float(row["value"]), 4)
    return found


@functools.cache
def _unprinted() -> set[tuple[str, str, str, str]]:
    """Of which (paper, system, modality, metric) a structure is missing: their mean over structures is no mean."""
    return {(row["paper"], row["system"], row["modality"], row["metric"]) for row in read("published")
            if row["structure"] and not row["value"]}  # fmt: skip


def by_structure(paper: str, system: str, modality: str, metric: str) -> tuple[float, ...]:
    """A system's numbers, a structure each, without their mean; empty where the paper has none."""
    found = numbers().get((paper, system, modality, metric), {})
    return tuple(value for structure, value in found.items() if structure)


def number(paper: str, system: str, modality: str, metric: str, structure: str = "") -> float | None:
    """A system's number of one structure or the mean over all; None where the paper has none."""
    found = numbers().get((paper, system, modality, metric), {})
    each = by_structure(paper, system, modality, metric)
    if structure or not each or paper in MEANS_AS_PRINTED:
        return found.get(structure)
    if (paper, system, modality, metric) in _unprinted():
        return None
    return sum(each) / len(each)


def means(paper: str, metric: str) -> dict[tuple[str, str], float]:
    """(modality, system) -> `number`, the mean over structures, of all that the paper has."""
    found = {}
    for of, system, modality, what in numbers():
        if (of, what) == (paper, metric) and (value := number(paper, system, modality, metric)) is not None:
            found[modality, system] = value
    return found


def difference(paper: str, method: str, other: str, modality: str, metric: str, structure: str = "") -> float | None:
    """`method` minus `other`, as comparisons state it; None where the paper does not have both."""
    a, b = (number(paper, system, modality, metric, structure) for system in (method, other))
    return None if a is None or b is None else round(a - b, 4 if metric == "fd" else 2)


def by_metric(paper: str, table: str, column: str = "value") -> dict[str, dict[str, float]]:
    """metric -> system -> number, or `column` ``sd``, as printed: of a table of one modality and structure."""
    found: dict[str, dict[str, float]] = {}
    for row in read("published"):
        if (row["paper"], row["table"]) == (paper, table):
            found.setdefault(row["metric"], {})[row["system"]] = float(row[column])
    return found


SASAN_PAIRED, SASAN_PAIRED_SD = (by_metric("sasan", "Table 6", column) for column in ("value", "sd"))
"""RIRE, CT to MR: its numbers and what stands behind ±"""
