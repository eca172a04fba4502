"""Did a run train as it should? Numeric limits on its log; their numbers are older than the recorded runs.

A run that breaks one counts as not trained: no table ranks it and no claim rests on it.

Of tasks that say what tables report (`Task.reported`), a structure that the plain U-Net with labels of a modality
misses there in every run is `unseen` at that size: that a system misses it, too, is no failure of its training. Its
Dice of 0 and its distances count as ever. (Enhancing tumour on images without contrast agent.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from xmod_lab.files import read_json
from xmod_lab.runs import Run, config_of

if TYPE_CHECKING:
    import pandas as pd

FALL = 0.8
"""the segmentation loss of the last tenth over that of the first: at most"""
MISSED = 0.5
"""share of patients in whom a structure of a labelled modality is missed: below, for each of them"""
FELT = 1e-6
"""weighted affinity term over the segmentation loss, first tenth: at least. As printed it lies near this limit"""
DISTILLED = 0.5
"""divergence between two modalities' soft confusions at the end, in nats: at most"""
PENALTY = 0.5
"""mean squared deviation of the critic's gradient norm from 1 at the end: at most"""
TOLD = 0.5
"""critic's cross-entropy of the modality of real images at the end over that of guessing: at most"""
TAKEN = 0.8
"""the same for translated images and the modality asked for: at most, or translation has not been learned"""
RECONSTRUCTED = 0.15
"""mean absolute difference of an image and its way there and back, range [-1, 1], at the end: at most"""
CHANGED = 0.02
"""mean absolute change by translation to another modality at the end: at least, or it copies its input"""
WON = 0.01
"""loss of a critic that segmentation shall deceive, in the second tenth of a stage and again in its last: above, unless
the target was learned all the same"""
RIGHT = 0.99
"""share of answers with which such a critic is right, at the same times and with the same exception: below"""
FLAT = 0.1
"""Dice of the unlabelled modality, mean over structures: above, where a critic has won"""
APART = 0.0
"""loss of a Wasserstein critic that learns alone, at the end of that stage: below what one that answers anything alike
has, or it has not found out which side is which"""
USED = 0.01
"""weight of each attention that begins at 0, at the end: at least. 1e-3 is a single step of Adam in a short run"""
OPENED = 0.1
"""share of its stage's steps in which a gate lets the segmenter learn: at least"""


def problems(run: Run, unseen: Collection[str] = ()) -> list[str]:
    """What is wrong with a finished run, one short sentence each; empty if nothing is.

    unseen: "structure in modality" that nobody is asked to find (`unseen`).
    """
    from xmod_lab.methods import method_entry
    from xmod_lab.train import read_log

    for line in read_log(run.folder):
        losses = {k: v for k, v in line.items() if isinstance(v, float) and not k.startswith("validation/")}
        if bad := [name for name, v in losses.items() if not math.isfinite(v)]:
            return [f"{bad[0]} is not finite at step {line['step']}"]
    log = run.log()
    config = read_json(run.folder / "config.json")["config"]
    numbers = log.select_dtypes("number")
    first, last = numbers.apply(_tenth, first=True), numbers.apply(_tenth, first=False)
    found = []
    parts = [c for c in map(str, numbers) if c.startswith("segmentation")]
    before, after = first[parts].mean(), last[parts].mean()
    if parts and not after <= FALL * before:
        found.append(f"the segmentation loss fell to {after / before:.2f} of its beginning only, not {FALL}")
    scored = (run.folder / "scores.csv").is_file()  # one that only translates has none
    # what is lost in a system's translations costs what it costs; that nothing is learned the fall of the loss shows
    through = method_entry(run.spec.method).cls.translates_labelled(config_of(run.spec))
    missed = _missed(run) if scored and not through else []
    found += [
        f"{what} is missed in {share:.0%} of the patients"
        for what, share in missed
        if share >= MISSED and what not in unseen
    ]

    def whole(value: float) -> float:
        """Terms between modalities are logged as their share of the step's loss, divided by the modalities."""
        return value * _modalities(run)

    terms: dict[str, Callable[[Any, Any], str]] = {  # each for runs that log its loss
        "affinity": lambda f, _: _least("affinity over segmentation loss", whole(f["affinity"]) / before, FELT),
        "distillation": lambda _, e: _most("divergence", whole(e["distillation"]) / config["weight"], DISTILLED),
        "open": lambda *_: _least("share of steps with the gate open", float(numbers["open"].mean()), OPENED),
    }
    found += [text for name, check in terms.items() if name in numbers and (text := check(first, last))]
    names = [str(name) for name in numbers]
    if any(name.partition("/")[0] == "critic" for name in names):
        found += _adversarial(last, config, guessing(_modalities(run), config))
    gammas = {name.partition("/")[2]: abs(last[name]) for name in names if name.startswith("gamma/")}
    found += filter(None, (_least(f"weight of {name} attention", value, USED) for name, value in gammas.items()))
    alone = log[log["stage"] == "critics"].select_dtypes("number").dropna(axis=1, how="all")
    for name in [str(c) for c in alone if str(c).startswith("critic/")]:
        if not (value := _tenth(alone[name], first=False)) < APART:
            found.append(f"{name} is {value:.3g} at the end of its own stage, not below {APART:g}")
    return found + _deaf(run, log)


def unseen(runs: Iterable[Run]) -> dict[str, list[str]]:
    """``dataset/task`` -> "structure in modality" that the plain U-Nets missed in every run, of tasks that say what
    tables report: `source_only` in the modality with labels, `target_only` in the other one."""
    from xmod_lab.data.manifest import dataset

    lists: dict[tuple[str, str], list[set[str]]] = {}
    for run in runs:
        spec = run.spec
        if spec.method in ("source_only", "target_only") and dataset(spec.dataset).task(spec.task_name).reported:
            missed = {what for what, share in _missed(run) if share >= MISSED}
            lists.setdefault((f"{spec.dataset}/{spec.task_name}", spec.method), []).append(missed)
    found: dict[str, set[str]] = {}
    for (place, _), each in lists.items():
        found.setdefault(place, set()).update(set.intersection(*each))
    return {place: sorted(what) for place, what in found.items() if what}


def _deaf(run: Run, log: pd.DataFrame) -> list[str]:
    """Critics that won early, in a run that adapts and did not learn the target: what they say is noise, or too faint.

    Of losses that are never negative, which leaves Wasserstein critics out, and of critics that something shall
    deceive, an adversarial term or one named like them, which leaves out controls that nobody listens to. Where the
    log has a critic's accuracy as well, one that is right about everything has won, too.
    """
    target = _target_dice(run)
    if target is None or target > FLAT:
        return []
    found = []
    for stage, steps in log.groupby("stage", sort=False):
        numbers = steps.select_dtypes("number").dropna(axis=1, how="all")
        critics = [c for c in map(str, numbers) if c == "critic" or c.startswith("critic/")]
        spoken = any(str(c).startswith("adversarial") for c in numbers)
        for name in [c for c in critics if spoken or c.partition("/")[2] in numbers]:
            (least, *losses), right = _lasting(numbers[name]), name.replace("critic", "accuracy", 1)
            won = least >= 0 and all(value < WON for value in losses)
            if won or (right in numbers and all(value >= RIGHT for value in _lasting(numbers[right])[1:])):
                found.append(f"{name} won early in stage {stage}, and Dice of the target is {target:.2f}")
    return found


def _lasting(values: pd.Series) -> tuple[float, float, float]:
    """Of a stage's steps: the least value, and the means of the second tenth and of the last; nan of too few."""
    values = values.dropna()
    tenth = len(values) // 10
    if not tenth:
        return (math.nan,) * 3
    return float(values.min()), float(values.iloc[tenth : 2 * tenth].mean()), float(values.tail(tenth).mean())


def _target_dice(run: Run) -> float | None:
    """Mean Dice over patients and structures of the unlabelled modality; None where the run does not segment one."""
    from xmod_lab.data.manifest import dataset

    task = dataset(run.spec.dataset).task(run.spec.task_name)
    if not (run.folder / "scores.csv").is_file():
        return None
    rows = run.table()
    own = rows[rows["modality"].isin(task.unlabelled) & (rows["network"] == rows["modality"])]
    own = own[own["structure"].isin(task.structures)]
    return float(own["dice"].mean()) if len(own) else None


def _tenth(values: pd.Series, first: bool) -> float:
    """Mean of the first or last tenth of the steps that log a loss: one stage of several may be over before the end."""
    kept = values.dropna()
    count = max(1, len(kept) // 10)
    return float((kept.head(count) if first else kept.tail(count)).mean())


def guessing(count: int, config: dict[str, Any]) -> float:
    """Loss of modality in nats of one who answers each of `count` with equal probability.

    Of TarGAN's independent logits it is the entropy of each answer, summed; slots of generated images cost nothing.
    """
    if config.get("exclusive", True):
        return math.log(count)
    p = 1 / count
    return -count * (p * math.log(p) + (1 - p) * math.log(1 - p))


def _adversarial(last: pd.Series, config: dict[str, Any], guess: float) -> list[str]:
    """Limits on what an adversarial method logs; least squares need no penalty, pair models tell no modality.

    A critic of the target area alone ("/area") is held to its penalty, and the generator to be believed by it; how well
    an organ alone tells its modality, and is reconstructed, has no limit. Translators inside a method ("/cyclegan") are
    held to what they would be alone.
    """
    way_back = config.get("reconstruction_weight", config.get("cycle_weight"))  # the second one in SIFA
    limits = {
        "critic_penalty": lambda v: _most("critic's gradient penalty", v / config["penalty_weight"], PENALTY),
        "critic_modality": lambda v: _most("critic's modality entropy over guessing", v / guess, TOLD),
        "modality": lambda v: _most("translations' modality entropy over guessing", v / guess, TAKEN),
        "reconstruction": lambda v: _most("reconstruction", v / way_back, RECONSTRUCTED),
        "change": lambda v: _least("change by translation", v, CHANGED),
    }
    limits |= {f"{name}/area": limits[name] for name in ("critic_penalty", "modality")}
    limits |= {f"{name}/cyclegan": limits[name] for name in ("reconstruction", "change")}
    found = "; ".join(text for name, check in limits.items() if name in last and (text := check(last[name])))
    return [found] if found else []


def _most(what: str, value: float, limit: float) -> str:
    return "" if value <= limit else f"{what} is {value:.3g}, not {limit} at most"


def _least(what: str, value: float, limit: float) -> str:
    return "" if value >= limit else f"{what} is {value:.3g}, not {limit} at least"


def _modalities(run: Run) -> int:
    from xmod_lab.data.manifest import dataset

    task = dataset(run.spec.dataset).tasks[run.spec.task_name]
    return len(task.labelled or task.modalities)  # a task without classes has no labels


def _missed(run: Run) -> list[tuple[str, float]]:
    """For each structure of each modality it learned from, by its own network: share of patients in whom
    one mask alone has it."""
    from xmod_lab.data.manifest import dataset
    from xmod_lab.methods import method_entry

    task = dataset(run.spec.dataset).task(run.spec.task_name)
    labelled = task.unlabelled if method_entry(run.spec.method).cls.swaps_labels else task.labelled
    rows = run.table()
    own = rows[rows["modality"].isin(labelled) & (rows["network"] == rows["modality"])]
    what = own["structure"].astype(str) + " in " + own["modality"].astype(str)
    return [(str(name), float(share)) for name, share in own["missing"].groupby(what, sort=False).mean().items()]
