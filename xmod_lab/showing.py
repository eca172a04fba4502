"""A run's test patients without its training data: what is needed to look at a run, also on another machine."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from xmod_lab.errors import LabError
from xmod_lab.files import read_json

if TYPE_CHECKING:
    from xmod_lab.data.manifest import Dataset
    from xmod_lab.data.prepare import Prepared
    from xmod_lab.evaluate.runs import Case
    from xmod_lab.runs import Run


def showing(run: Run) -> Prepared:
    """The prepared data of a finished run with its recorded test patients that are there, and no training arrays.

    Of a phantom at least one patient of each tested modality is made, which takes seconds. Raises LabError where the
    data are absent.
    """
    from xmod_lab.data import phantoms
    from xmod_lab.data.manifest import dataset
    from xmod_lab.data.prepare import Prepared
    from xmod_lab.data.recipes import recipe_of
    from xmod_lab.data.splits import Split
    from xmod_lab.methods import method_entry
    from xmod_lab.profiles import profile_of

    spec, data = run.spec, dataset(run.spec.dataset)
    task, test = data.task(spec.task_name), list(read_json(run.folder / "inputs.json")["patients"]["test"])
    there: list[str] = []
    for modality in task.tested:
        have = _with_image(data, modality, test)
        for name in test if not have and data.access == "phantom" else ():
            phantoms.make(data, only=[name])
            if have := _with_image(data, modality, test):
                break
        if not have:
            raise LabError(f"no test patient of {modality} is there", where=data.key, mend="see `xmod-lab data info`")
        there += have
    if method_entry(spec.method).cls.swaps_labels:
        task = task.model_copy(update={"labelled": task.unlabelled, "unlabelled": task.labelled})
    none: dict[str, list[str]] = {m: [] for m in task.modalities}
    parts = Split(train=none, val=none, test=[name for name in test if name in there])
    return Prepared(data, spec.task_name, task, spec.fold, profile_of(spec.profile).size, parts, none, recipe_of(task),
                    Path(), "", {}, {}, {}, {})  # fmt: skip


def _with_image(data: Dataset, modality: str, names: list[str]) -> list[str]:
    """Those of the patients who have an image of `modality`; nobody where no file of it is there."""
    from xmod_lab.data.volume import patients

    with contextlib.suppress(LabError):
        have = set(patients(data, modality))
        return [name for name in names if name in have]
    return []


def case_of(prepared: Prepared, patient: str, modality: str) -> Case:
    """The volume of any patient who is there, as those of the test are. Of one who was trained on, look, but score
    nothing. Raises LabError if he has no such image."""
    from xmod_lab.evaluate.runs import test_volumes

    one = dataclasses.replace(prepared, split=dataclasses.replace(prepared.split, test=[patient]))
    for case in test_volumes(one, modality):
        return case
    raise LabError(f"{patient!r} has no image of {modality}", where=prepared.data.key)
