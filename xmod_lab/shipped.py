"""Weights that come with the package, trained on phantoms, to look at from the first minute.

Each is a folder of `xmod_lab/weights` like a run's, without what resuming needs: weights in half precision of the
layers that pictures and maps come from, config, inputs, environment and scores. Trained on phantoms alone: the real
samples' licences are for research.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xmod_lab.data.prepare import Prepared
    from xmod_lab.methods.base import Method
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
    """Copy a finished run into the package, in place of an earlier one; returns its folder. Raises LabError if it is
    not finished, or not of a phantom."""
    import shutil

    from xmod_lab.checkpoint import read, save_weights
    from xmod_lab.data.manifest import dataset
    from xmod_lab.errors import LabError
    from xmod_lab.showing import showing

    run.scores()
    if dataset(run.spec.dataset).access != "phantom":
        raise LabError(f"{run.spec.dataset} is no phantom", mend="weights of patients' images are not shipped")
    place = folder() / f"{run.spec.method}-{run.spec.dataset}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for name in KEPT:
        if (run.folder / name).is_file():
            shutil.copyfile(run.folder / name, place / name)
    header, _ = read(run.folder / "checkpoint.safetensors")
    method = run.method()
    kept = looked_through(method, showing(run))
    save_weights(place / "checkpoint.safetensors", method, run.spec.method, int(header["step"]), kept)
    return place


def looked_through(method: Method, prepared: Prepared) -> set[str]:
    """The names in `method`'s state of all layers that its segmentations, translations and maps go through.

    Critics that no map shows, and the raw twin of an averaged generator, are not among them.
    """
    import torch

    from xmod_lab.evaluate.runs import test_volumes
    from xmod_lab.evaluate.translators import translations_of
    from xmod_lab.maps import gone_through
    from xmod_lab.view.atlas import labelled_slices

    with torch.no_grad(), gone_through(method) as seen:
        for modality in prepared.task.tested:
            case = next(test_volumes(prepared, modality))
            one = labelled_slices(case, [len(case.slices.image) // 2])
            if callable(segment := getattr(method, "segment", None)):
                segment(one.image, modality)
            for source, target in translations_of(method, prepared):
                if source == modality:
                    method.translate(one.image, source, target)  # type: ignore[operator]
            if callable(maps := getattr(method, "maps", None)):
                maps({modality: one})
    return {key for key in method.state_dict() if key.rpartition(".")[0] in seen}
