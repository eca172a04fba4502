"""The papers' numbers as they were copied: complete, agreeing with each other and with what claims take from them."""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal

import pytest

from xmod_lab.bench.claim import Claim
from xmod_lab.bench.claims import ABOUT, CLAIMS
from xmod_lab.bench.patients import METRICS, TRANSLATED
from xmod_lab.bench.published import SASAN_PAIRED, SASAN_PAIRED_SD, by_structure, difference, number, numbers
from xmod_lab.bench.sheets import read
from xmod_lab.bench.systems import MEAN, STACKED

ROWS = read("published")
PAPERS = ("uagan", "csa", "targan", "sasan", "bigl")
HOW_MANY = {
    "uagan": {"Table 1": 21 * 5},
    "csa": {"Table 1": 6 * 12, "Table 2": 6 * 8, "Table 3": 6 * 8},
    "targan": {"Table 1": 4 * 6, "Table 2": 5 * 6, "Table 3": 6 * 4},
    "sasan": {"Table 1": 8 * 10, "Table 2": 8 * 10, "Table 3": 9 * 10, "Table 4": 3 * 5, "Fig. 7": 1, "Table 5": 10,
              "Table 6": 4 * 6},
    "bigl": {"Table 1": 6 * 4, "Table 2": 6 * 4, "Table 3": 3 * 4, "Table 4": 3 * 4, "Table 5": 3 * 6,
             "Table 6": 9 * 10, "Table 7": 9 * 10},
}  # fmt: skip
"""rows times columns"""
STANDS_FOR = {("lgg", "t1gd_to_flair"): ("T2", "WT"), ("lgg", "flair_to_t1gd"): ("T1", "")}
"""tasks on patients of other data -> modality and structure of the paper that they are compared with"""
FEWER = ("joint_2", "joint_4")
"""tasks with fewer patients than any table"""
OTHER_MEANS = {
    ("Table 4", "T1", "dice", "scorer (cyclegan)"): Decimal("0.3675"),  # 0.38
    ("Table 2", "MR", "assd_pooled", "scorer (ugatit)"): Decimal("10.8075"),  # 11.0
    ("Table 1", "CT", "assd_pooled", "detached (sasan) (labels=own)"): Decimal("4.81"),  # 4.9
    ("Table 3", "CT", "assd_pooled", "detached (sasan) (labels=own)"): Decimal("4.81"),  # 4.9
}
"""where SASAN's printed mean is not that of its structures, however these were rounded: theirs, and what is printed.
A mean over patients may differ, where a structure is missing in one; the paper says nothing of it"""


def test_every_cell_of_every_table_is_there_once() -> None:
    found: dict[str, Counter[str]] = {paper: Counter() for paper in PAPERS}
    for row in ROWS:
        found[row["paper"]][row["table"]] += 1
    assert found == HOW_MANY
    keys = [tuple(row[c] for c in ("paper", "table", "modality", "structure", "metric", "system")) for row in ROWS]
    assert [key for key, n in Counter(keys).items() if n > 1] == []


def test_rows_are_whole() -> None:
    for row in ROWS:
        assert all(row[c] for c in ("table", "data", "modality", "system")), row
        assert row["metric"] in (*METRICS, *TRANSLATED) and row["unit"] in ("", "%", "mm"), row
        assert row["value"] or "printed" in row["note"], row
        assert float(row["value"] or 0) >= 0 and float(row["sd"] or 0) >= 0, row
    assert sum(not row["value"] for row in ROWS) == 4  # two N.A. of SASAN's Table 1, two of BiGL's Table 7
    with_sd = {(row["paper"], row["table"]) for row in ROWS if row["sd"]}
    assert {paper: {t for p, t in with_sd if p == paper} for paper in PAPERS} == {
        "uagan": {"Table 1"}, "csa": set(), "targan": {"Table 2"}, "sasan": set(HOW_MANY["sasan"]),
        "bigl": {"Table 1", "Table 2", "Table 3", "Table 4"}}  # fmt: skip


@pytest.mark.parametrize(
    ("paper", "table", "system", "modality", "structure", "metric", "value", "sd"),
    [
        ("uagan", "Table 1", "uagan", "FLAIR", "", "precision", "81.20", "4.11"),
        ("uagan", "Table 1", "multi_v4", "T1Gd", "", "specificity", "98.84", "0.12"),
        ("csa", "Table 1", "fcn_single", "bSSFP", "LV", "hd", "47.80", ""),
        ("csa", "Table 3", "affinity", "MR", "AA", "hd", "67.09", ""),
        ("csa", "Table 2", "csa", "CT", "LA", "dice", "87.46", ""),
        ("targan", "Table 1", "remic", "T2w", "", "fd", "0.5925", ""),
        ("targan", "Table 2", "csgan", "T1w", "", "ravd", "15.74", "14.18"),
        ("targan", "Table 2", "single", "T2w", "", "ravd", "11.68", "14.37"),
        ("targan", "Table 3", "targan (TC)", "T1w", "", "s_score", "38.33", ""),
        ("sasan", "Table 1", "MR-Seg", "MR", "", "assd_pooled", "2.9", "0.5"),
        ("sasan", "Table 1", "scorer (none)", "CT", "LV", "assd_pooled", "", ""),
        ("sasan", "Table 2", "SASAN (16 Att.)", "MR", "LV", "dice", "0.84", "0.06"),
        ("sasan", "Table 3", "scorer (sasan (low))", "CT", "AA", "assd_pooled", "14.10", "1.44"),
        ("sasan", "Table 6", "pix2pix", "MR", "", "psnr", "22.42", "0.97"),
        ("bigl", "Table 2", "sifa", "T2", "TC", "hd95_max", "19.29", "17.43"),
        ("bigl", "Table 6", "Source Only (SIFA-TMI)", "MR", "LA", "dice", "30.2", ""),
        ("bigl", "Table 7", "bigl", "CT", "MYO", "assd_pooled", "5.6", ""),
    ],
)
def test_numbers_read_from_the_papers(paper: str, table: str, system: str, modality: str, structure: str,
                                      metric: str, value: str, sd: str) -> None:
    """By hand, most of cells that no claim needs."""
    place = {"paper": paper, "table": table, "system": system, "modality": modality, "structure": structure,
             "metric": metric}  # fmt: skip
    (row,) = [row for row in ROWS if place.items() <= row.items()]
    assert (row["value"], row["sd"]) == (value, sd)


def test_tables_of_a_paper_agree_where_they_repeat_each_other() -> None:
    found: dict[tuple[str, ...], set[tuple[str, str]]] = defaultdict(set)
    for row in ROWS:
        place = tuple(row[c] for c in ("paper", "modality", "structure", "metric", "system"))
        found[place].add((row["table"], row["value"]))
    repeated = {place: each for place, each in found.items() if len(each) > 1}
    assert {place[0] for place in repeated} == {"targan", "sasan", "bigl"}
    assert {place: each for place, each in repeated.items() if len({value for _, value in each}) > 1} == {}


def test_printed_means_are_those_of_the_structures() -> None:
    """Within the rounding of the mean and of the structures."""
    tables: dict[tuple[str, ...], dict[str, str]] = defaultdict(dict)
    for row in ROWS:
        place = tuple(row[c] for c in ("paper", "table", "modality", "metric", "system"))
        tables[place][row["structure"]] = row["value"]
    others: dict[tuple[str, ...], Decimal] = {}
    seen = 0
    for place, values in tables.items():
        structures = [Decimal(value) for structure, value in values.items() if structure and value]
        if not values.get("") or not structures:
            continue
        printed, mean = Decimal(values[""]), sum(structures) / len(structures)
        steps = [Decimal(1).scaleb(int(n.as_tuple().exponent)) / 2 for n in (printed, *structures)]
        if abs(mean - printed) > steps[0] + sum(steps[1:]) / len(structures):
            others[place[1:]] = mean
        seen += 1
    assert others == OTHER_MEANS
    assert seen == 54 + 53  # of SASAN and of BiGL


def test_means_over_targets_are_those_of_the_targets() -> None:
    systems = [row["system"] for row in ROWS if row["table"] == "Table 3" and row["modality"] == MEAN]
    assert len(systems) == 6
    for name in systems:
        each = [number("targan", name, m, "s_score") for m in ("CT", "T1w", "T2w")]
        assert number("targan", name, MEAN, "s_score") == pytest.approx(sum(filter(None, each)) / 3, abs=0.0051)


def test_averages_that_texts_state() -> None:
    said = {"csa": (87.65, 89.95), "fcn_single": (85.66, 88.92), "ummkd": (85.96, 89.66)}
    for name, values in said.items():
        for modality, value in zip(("LGE", "bSSFP"), values, strict=True):
            assert number("csa", name, modality, "dice") == pytest.approx(value, abs=0.006)
    assert number("csa", "ummkd", "LGE", "hd") == pytest.approx(5.71, abs=0.006)
    assert number("csa", "csa", "LGE", "hd") == pytest.approx(4.04, abs=0.006)
    assert difference("sasan", "scorer (sasan)", "scorer (sasan (seg))", "CT", "dice") == 8
    assert difference("sasan", "scorer (sasan (seg))", "scorer (sasan)", "CT", "assd_pooled") == 3.4
    assert difference("sasan", "scorer (sasan)", "scorer (sasan (reg))", "CT", "dice") == 9
    assert difference("bigl", "cycada", "adaptsegnet", "T2", "dice") == pytest.approx(4.39, abs=0.011)
    assert difference("bigl", "bigl", "sifa", "T2", "hd95_max") == pytest.approx(-0.94, abs=0.011)


def test_no_columns_of_uagan_were_swapped() -> None:
    for modality in ("T1Gd", "FLAIR", "T2"):
        for name in {row["system"] for row in ROWS if row["paper"] == "uagan"}:
            dice, precision, sensitivity, specificity, distance = (
                number("uagan", name, modality, m) or 0.0
                for m in ("dice", "precision", "sensitivity", "specificity", "assd_pooled")
            )
            harmonic = 2 * precision * sensitivity / (precision + sensitivity)
            assert abs(dice - harmonic) < 6 and specificity > 98 and 2 < distance < 9


def test_shares_are_in_points_whatever_is_printed() -> None:
    assert number("sasan", "scorer (sasan)", "CT", "dice") == 71.0
    assert number("sasan", "sasan", "MR", "ssim") == 0.90  # not a share of SHARES
    assert number("targan", "targan", "CT", "s_score") == 57.13
    assert by_structure("bigl", STACKED, "T2", "dice") == (88.60, 83.74, 75.96)
    assert by_structure("bigl", "nobody", "T2", "dice") == () and number("bigl", "nobody", "T2", "dice") is None
    assert number("sasan", "scorer (none)", "CT", "assd_pooled") is None  # N.A.


def test_the_table_of_paired_translation() -> None:
    assert [SASAN_PAIRED["mae"][name] for name in ("pix2pix", "mrgan", "dc2anet", "sasan")] == [0.02, 0.03, 0.04, 0.04]
    assert SASAN_PAIRED["psnr"]["dc2anet"] == 20.99 and SASAN_PAIRED_SD["psnr"]["dc2anet"] == 0.98
    assert list(SASAN_PAIRED) == list(SASAN_PAIRED_SD) == ["lpips", "mae", "psnr", "ssim", "rmse", "pcc"]


def follows(claim: Claim) -> tuple[str, float | None]:
    """The paper that has both systems of a comparison, and their difference there."""
    if claim.less or claim.task in FEWER:
        return "", None
    modality, structure = STANDS_FOR.get((claim.dataset, claim.task), (claim.modality, claim.structure))
    both = {paper for paper in PAPERS
            if all((paper, system, modality, claim.metric) in numbers() for system in claim.systems)}  # fmt: skip
    if not both:
        return "", None
    (paper,) = both
    return paper, difference(paper, claim.method, claim.other, modality, claim.metric, structure)


@pytest.mark.parametrize("grid", list(CLAIMS))
def test_published_differences_follow_from_the_tables(grid: str) -> None:
    for claim in CLAIMS[grid]:
        paper, found = follows(claim)
        assert claim.published == found, claim
        if found is not None and (named := ABOUT[claim.key].paper) not in ("own", "UMMKD"):
            assert named.lower() == paper, claim


def test_most_comparisons_have_a_published_difference() -> None:
    """By paper; what is left is the lab's own, without a table, or of fewer patients or other modalities."""
    found = Counter(follows(claim)[0] for claims in CLAIMS.values() for claim in claims)
    assert found.keys() == {*PAPERS, ""}
    asked = {c.key for claims in CLAIMS.values() for c in claims if follows(c)[0]}
    assert {c.key for claims in CLAIMS.values() for c in claims} - asked == {
        "C4", "literal", "T5", "B5", "B7", "B8", "B9", "A1"}  # fmt: skip


def test_a_mean_that_lacks_a_structure_is_none() -> None:
    """BiGL's Table 7 has no distance of the left ventricle's cavity for this row, and so no mean."""
    place = ("bigl", "Source Only (SIFA-TMI)", "CT", "assd_pooled")
    assert len(by_structure(*place)) == 3 and number(*place) is None
