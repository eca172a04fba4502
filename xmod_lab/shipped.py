"""Weights that come with the package, trained on phantoms, to look at from the first minute.

Each is a folder of `xmod_lab/weights` like a run's, without what resuming needs: weights in half precision, config,
inputs, environment and scores. Trained on phantoms alone: the real samples' licences are for research.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xmod_lab.runs import Run

KEPT = ("config.json", "environment.json", "inputs.json", "scores.json", "scores.csv", "errors.csv")
"""of a run's folder, beside its weights"""


def folder() -> Path:
    """Where they lie."""
    return Path(str(files("xmod_lab") / "weights"))


def shipped() -> dict[str, Run]:
    """The runs by name ("BiGL, shipped"); empty where a package was built without them."""
    from xmod_lab.bench.patients import system
    from xmod_lab.runs import find_runs

    return {f"{system(run.spec)}, shipped ({run.spec.dataset})": run for run in find_runs(folder())}


def shipped_like(run: Run) -> dict[str, Run]:
    """{"shipped": the run of the same method, data set and task}, to show beside `run`; empty where none is shipped."""
    for one in shipped().values():
        if _about(one) == _about(run):
            return {"shipped": one}
    return {}


def _about(run: Run) -> tuple[str, str, str]:
    return run.spec.method, run.spec.dataset, run.spec.task_name


def ship(run: Run) -> Path:
    """Copy a finished run into the package; returns its folder. Raises LabError if it is not finished."""
    import shutil

    from xmod_lab.checkpoint import read, save_weights

    run.scores()
    place = folder() / f"{run.spec.method}-{run.spec.dataset}"
    place.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        if (run.folder / name).is_file():
            shutil.copyfile(run.folder / name, place / name)
    header, _ = read(run.folder / "checkpoint.safetensors")
    save_weights(place / "checkpoint.safetensors", run.method(), run.spec.method, int(header["step"]))
    return place
