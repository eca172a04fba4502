"""The named grids of runs. A suite is a list of run specs and nothing more."""

from __future__ import annotations

from xmod_lab.errors import LabError
from xmod_lab.methods import METHODS
from xmod_lab.runs import RunSpec

SEEDS = (0, 1, 2)
ADAPTATION = (
    ("brain_tumour", "t1_to_t2"),
    ("whole_heart", "mr_to_ct"),
    ("cardiac_mr", "bssfp_to_lge"),
    ("abdomen", "ct_to_t2w"),
)


def smoke() -> list[RunSpec]:
    """Every method once, on the task it is shown on."""
    return [RunSpec(name, *entry.shown_on, profile="smoke") for name, entry in METHODS.items()]


def baselines(profile: str) -> list[RunSpec]:
    """The U-Net baselines, three seeds: joint learning on the brain, lower and upper bound of adaptation everywhere."""
    joint = [
        RunSpec(m, "brain_tumour", "whole_tumour", profile, seed=s)
        for m in ("unet_individual", "unet_joint")
        for s in SEEDS
    ]
    strong = [
        RunSpec("source_only", "brain_tumour", "t1_to_t2", profile, seed=s, settings=(("augment", "strong"),))
        for s in SEEDS
    ]
    bounds = [
        RunSpec(m, key, task, profile, seed=s)
        for key, task in ADAPTATION
        for m in ("source_only", "target_only")
        for s in SEEDS
    ]
    return joint + strong + bounds


def real() -> list[RunSpec]:
    """The real glioma patients at lesson size: trained on FLAIR alone, tested on FLAIR and T1, in every fold."""
    return [RunSpec("source_only", "lgg", "flair_alone", "lesson", fold=f) for f in range(4)]


def suite(name: str) -> list[RunSpec]:
    """The runs of a suite. Raises LabError listing the known ones."""
    suites = {
        "smoke": smoke,
        "lesson": lambda: baselines("lesson"),
        "study": lambda: baselines("study"),
        "real": real,
    }
    if name not in suites:
        raise LabError(f"no suite {name!r}", mend=f"known: {', '.join(suites)}")
    return suites[name]()
