"""BiGL's tables: segmenters of a modality without labels, their bounds, and the published numbers beside them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from xmod_lab.bench.patients import NAMES, paper_table, system, tested_on, with_mean
from xmod_lab.bench.published import by_structure
from xmod_lab.bench.suites_adaptation import BESIDE
from xmod_lab.bench.systems import ALONE, AT_TEST, AT_TRAINING, MEAN, STACKED, STRONG, UNADAPTED
from xmod_lab.bench.translators import Shown
from xmod_lab.data.manifest import dataset

if TYPE_CHECKING:
    import pandas as pd

    from xmod_lab.methods.base import Method
    from xmod_lab.runs import Run, RunSpec

ORDER = ("source_only on", "source_only", STRONG, "scorer", "sasan", "detached", "cyclegan_adapting",
         AT_TRAINING, "adaptsegnet", "cycada", "pnp_adanet", "sifa_v1", "sifa", "bigl", "target_only",
         STACKED)  # fmt: skip
"""of a table's rows, by how names begin: lower bounds, translators, systems of adaptation, upper bounds"""
PUBLISHED_ON = ("brain_tumour", "whole_heart")
"""after the data sets of BiGL's tables"""
TAKEN = ("scorer (cyclegan)", "scorer (ugatit)", "scorer (sasan)", "sasan", "detached (sasan) (labels=own)")
"""of SASAN's suite, in the heart's table: the scorer on translations, and SASAN's own two segmenters"""
FROM_SASAN = {"sasan_mr_to_ct": "mr_to_ct", "sasan_ct_to_mr": "ct_to_mr"}
"""tasks of SASAN's suite -> those of the same patients, split and classes with one slice instead of three"""
THICK = ", three slices deep"
WEIGHTS = "thousand weights: at the test, in all"
"""the column that says how large a system is"""

ABOUT = (
    "Tables and claims are of the structures that a task reports, of the brain phantom WT, TC and ET, and their mean. "
    "HD95 is the larger one of both directions; where BiGL has ASD stands ASSD. Published numbers are of BraTS 2019 "
    "and MM-WHS, of other patients and larger networks: their differences give a claim's direction, and no more. The "
    f"lower bounds ({', '.join(f'`{name}`' for name in UNADAPTED)}) count as trained if they are so in the modality "
    "that has labels: that they fail in the other one is what claims say of them."
)
"""said on the page of a suite of systems that adapt"""
SIZES = (
    "Systems differ in size and in how their steps are spent, not in adaptation alone. Weights at the test are those "
    "that a slice of the target goes through, weights in all those of every network, critics and translators "
    "included. Attention needs positions: with slices of 64 pixels BiGL's U-Net is halved twice where that of "
    f"`source_only` is halved four times (`{ALONE}`, among the ablations, is a lower bound of the "
    "smaller network). BiGL learns by cross-entropy and generalised Dice, where the U-Nets, AdaptSegNet and CyCADA "
    "have soft Dice: on the brain, at lesson size, plain U-Nets miss the core in labelled T1, where BiGL's network "
    "finds it. "
    "All have the same number of steps, but BiGL and CyCADA divide them among their stages"
)
"""and of their sizes and steps"""
OTHERS = (
    f", while the translator and the U-Net of `{AT_TRAINING}` have all steps each. Its CycleGAN has the weights of "
    "BiGL's and CyCADA's; published rows of the name, and SIFA's cycle, have CycleGAN's own"
)
"""where it is in the table"""
SETTLED = (
    "The weights of BiGL's, CyCADA's and `cyclegan_seg`'s translators, and the background's grey, were settled in "
    "trials on fold 0 of the brain phantom from T1 to T2: against the true T2 of test patients and by BiGL's Dice "
    "there. There, too, BiGL missed its bar with a mean Dice of 0.21 in one run of 2000 steps and of 0.19 in one of "
    "4000. The share of steps of its translators (0.4, half before), the steps of the profile `long` (2000) and "
    "`bigl (reconstructed)` come from looking at these runs. So fold 0 favours these three systems, and BiGL most; the "
    "bar is therefore recorded on fold 1, on which nothing was settled. It is asked twice, of BiGL as published and of "
    "BiGL shown reconstructions."
)
"""and of what was looked at when their settings were chosen"""


def place_of(spec: RunSpec) -> str:
    """``dataset/task/system`` under which pages have a run: a bound of all modalities stands beside what it bounds."""
    key = (spec.dataset, spec.task_name)
    if key in BESIDE:
        return f"{spec.dataset}/{BESIDE[key][0]}/{STACKED}"
    return f"{spec.dataset}/{spec.task_name}/{system(spec)}"


def beside(rows: pd.DataFrame) -> pd.DataFrame:
    """`rows` with those of a bound of all modalities in the task that it bounds: its patients are the same."""
    found = rows.copy()
    for (key, task), (other, modality) in BESIDE.items():
        there = (rows["dataset"] == key) & (rows["task"] == task)
        for column, value in (("task", other), ("system", STACKED), ("modality", modality)):
            found.loc[there, column] = value
    return found


def from_sasan(
    rows: pd.DataFrame, sick: dict[str, str], folds: Collection[int]
) -> tuple[pd.DataFrame, dict[str, str]]:
    """TAKEN of a recorded SASAN suite, rows of some folds and what did not train, as the tasks with one slice would
    have them."""
    kept = rows[rows["task"].isin(FROM_SASAN) & rows["system"].isin(TAKEN) & rows["dice"].notna()]
    kept = kept[kept["fold"].isin(list(folds))]
    kept = kept.assign(task=kept["task"].map(FROM_SASAN), system=kept["system"] + THICK)
    marks = {}
    for place, reason in sick.items():
        key, task, name, *rest = place.split("/", 3)
        if task in FROM_SASAN and name in TAKEN:
            marks["/".join([key, FROM_SASAN[task], name + THICK, *rest])] = reason
    return kept, marks


def weights_of(runs: Iterable[Run]) -> dict[str, tuple[int, int]]:
    """``dataset/task/system`` -> weights that segment an image at the test, and of all its networks, translators and
    critics included; of the first run of each, as the size hangs on neither fold nor seed."""
    found: dict[str, tuple[int, int]] = {}
    for run in runs:
        if (place := place_of(run.spec)) not in found:
            task, method = dataset(run.spec.dataset).task(run.spec.task_name), run.method()
            (modality,) = task.unlabelled or task.tested
            found[place] = (segmenting(method, modality), sum(p.numel() for p in method.parameters()))
    return found


def segmenting(method: Method, modality: str) -> int:
    """How many weights `segment` uses for an image of `modality`: those of the layers that it goes through."""
    import torch

    from xmod_lab.maps import gone_through

    p = method.problem
    with torch.no_grad(), gone_through(method) as seen:
        method.eval().segment(torch.zeros(1, p.channels, p.size, p.size), modality)  # type: ignore[operator]
    own = (method.get_submodule(name).parameters(recurse=False) for name in seen)
    return sum(weight.numel() for weights in own for weight in weights)


def sized(table: pd.DataFrame, place: str, weights: Mapping[str, tuple[int, int]]) -> pd.DataFrame:
    """The table of ``dataset/task`` with WEIGHTS behind its systems, where the record has them."""
    names = [str(one).partition(" on ")[0] for one in table["system"]]
    sizes = [weights.get(f"{place}/{name}") for name in names]
    if not any(sizes):
        return table
    found = table.copy()
    found.insert(1, WEIGHTS, ["" if n is None else f"{n[0] / 1e3:.0f}, {n[1] / 1e3:.0f}" for n in sizes])
    return found


def about(rows: pd.DataFrame, facts: Mapping[str, Any], taken: pd.DataFrame, other: str) -> str:
    """What the tables of a suite of systems that adapt are of; `other` is the suite that `taken` is of."""
    parts = [ABOUT, SETTLED]
    for place, unseen in facts.get("unseen", {}).items():
        parts.append(f"No plain U-Net with labels finds {', '.join(unseen)} of `{place}` at this size: that a system "
                     "misses it is no failure of training, and costs it what it costs.")  # fmt: skip
    if (rows["system"] == STACKED).any():
        parts.append(f"`{STACKED}` has as many training patients as `target_only`, not the same ones, and is tested "
                     "on the same.")  # fmt: skip
    if len(taken):
        parts.append(f"Rows \"{THICK.removeprefix(', ')}\" are those of [{other}.md]({other}.md): the same patients, "
                     "folds and steps, but slices with their two neighbours, as SASAN has them, and CycleGAN with its "
                     "own settings. They are shown; no claim here rests on them.")  # fmt: skip
    if facts.get("read"):
        parts.append(f"Time includes {facts['read']} CycleGANs that runs read; what is wrong with one is wrong with "
                     "its readers.")  # fmt: skip
    others = OTHERS if rows["system"].isin((AT_TRAINING, AT_TEST)).any() else ""
    return f"{' '.join(parts)}\n\n{SIZES}{others}."


def distance_of(key: str) -> str:
    """The distance of BiGL's tables of a data set: HD95 of tumours, ASD, here symmetric, of hearts."""
    return "assd_pooled" if key == "whole_heart" else "hd95_max"


def adaptation_tables(part: pd.DataFrame, taken: pd.DataFrame) -> list[Shown]:
    """The table of one data set and task: Dice and distance of each reported structure and their mean, of the modality
    without labels, and of the plain U-Net of the other modality there. `taken`: rows of `from_sasan`."""
    import pandas as pd

    key, name = str(part["dataset"].iloc[0]), str(part["task"].iloc[0])
    task = dataset(key).task(name)
    (target,) = task.unlabelled
    rows = [tested_on(part, target, task.labelled)]
    if len(taken):
        rows.append(taken[(taken["dataset"] == key) & (taken["task"] == name) & (taken["modality"] == target)])
    found, structures = with_mean(pd.concat(rows, ignore_index=True)), task.structures
    order = [*structures, MEAN]
    found = found.assign(place=found["system"].map(row_of), column=found["structure"].map(order.index))
    found = found.sort_values(["place", "column"], kind="stable")
    metrics = ("dice", distance_of(key), "missing")
    table = paper_table(found, metrics, columns="structure")
    if key in PUBLISHED_ON:
        for metric in metrics[:2]:
            shown = [_published(one, target, metric) for one in table["system"]]
            if any(shown):
                table[f"published {NAMES[metric]} ({', '.join(structures)}; mean)"] = shown
    title = f"{target}: Dice in %, {NAMES[metrics[1]]}, missed structures a patient; mean ± sd over patients"
    return [Shown(title, table.fillna(""), modality=target)]


def row_of(name: str) -> int:
    """Where a system stands in the tables: by the longest of ORDER that its name begins with."""
    fits = [start for start in ORDER if name.startswith(start)]
    return ORDER.index(max(fits, key=len)) if fits else len(ORDER)


def _published(name: str, modality: str, metric: str) -> str:
    """A row of BiGL's tables as text; the mean is of the structures, as there."""
    row = by_structure("bigl", name, modality, metric)
    if not row:
        return ""
    return f"{', '.join(f'{value:.1f}' for value in row)}; {sum(row) / len(row):.1f}"
