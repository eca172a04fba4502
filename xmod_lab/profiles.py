"""Size and effort in one visible table. A profile never changes what is computed, only how much of it."""

from __future__ import annotations

from dataclasses import dataclass

from xmod_lab.errors import LabError


@dataclass(frozen=True)
class Profile:
    """size       edge of the square slices in pixels
    width      channels of the first level of a network (a method's config field `width`, unless set)
    steps      training steps of a run, shared among its stages
    batch      slices a step and process, all modalities together
    subjects   patients of a data set that are used, None for all
    threads    CPU threads, None for what the machine and the number of jobs allow
    precision  float32, or auto: the one that pays on this machine
    checkpoint steps between two checkpoints
    """

    name: str
    size: int
    width: int
    steps: int
    batch: int
    subjects: int | None
    threads: int | None
    precision: str
    checkpoint: int
    about: str


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("smoke", 48, 8, 30, 8, 12, 1, "float32", 15, "seconds on a CPU: proves wiring and numbers"),
        Profile("lesson", 64, 16, 700, 12, None, None, "auto", 100, "what a student runs: a minute or a few on a CPU"),
        Profile("long", 64, 16, 2000, 12, None, None, "auto", 250, "a lesson with time: up to an hour on a CPU"),
        Profile("study", 128, 16, 2000, 12, None, None, "auto", 250, "minutes on a GPU: recorded tables and claims"),
        Profile("paper", 128, 64, 74000, 8, None, None, "auto", 1000, "the papers' sizes: a GPU and real data"),
    )
}


def profile_of(name: str) -> Profile:
    """The profile called `name`. Raises LabError listing the known ones."""
    if name not in PROFILES:
        raise LabError(f"no profile {name!r}", mend=f"choose one of {', '.join(PROFILES)}")
    return PROFILES[name]
