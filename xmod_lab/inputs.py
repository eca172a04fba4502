"""What a run folder was made from, and whether that is still what is asked for."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from xmod_lab import paths
from xmod_lab.errors import LabError
from xmod_lab.files import read_json, sha256
from xmod_lab.profiles import profile_of
from xmod_lab.runs import Run, RunSpec, config_of, reads_of, subjects_of

if TYPE_CHECKING:
    from xmod_lab.data.splits import Split


def roles(split: Split) -> dict[str, Any]:
    return {"train": split.train, "val": split.val, "test": split.test}


def patients_now(spec: RunSpec) -> dict[str, Any] | None:
    """Who would be trained on and tested today; None where the data are absent, or drawn by a program."""
    from xmod_lab.data.manifest import dataset
    from xmod_lab.data.prepare import dealt

    data = dataset(spec.dataset)
    if data.access == "phantom":
        return None
    try:
        return roles(dealt(data, spec.task, fold=spec.fold, subjects=subjects_of(spec)))
    except LabError:
        return None


def made_by(run: Run) -> dict[str, str | None]:
    """A run as another one names it among its inputs: where it lies and the sha256 of its checkpoint, None without."""
    checkpoint = run.folder / "checkpoint.safetensors"
    return {
        "run": run.spec.folder.relative_to(paths.runs_home()).as_posix(),
        "checkpoint": sha256(checkpoint) if checkpoint.is_file() else None,
    }


def reads_now(spec: RunSpec) -> dict[str, Any]:
    """The runs whose networks this one takes, as they are now."""
    return {name: made_by(Run(other, other.folder)) for name, other in reads_of(spec).items()}


def check_now(run: Run) -> None:
    """`check_same` against today's patients, for whoever takes a finished run."""
    check_same(run, patients_now(run.spec))


def check_same(run: Run, patients: dict[str, Any] | None) -> None:
    """Refuse a folder that was begun with another profile, configuration, other patients or networks of other runs
    than asked for now.

    A folder of the same name may hold all these: profiles and defaults change with the package, patients with the data.
    A run that was read and is gone is no reason: the checkpoint holds its networks.
    """
    path, inputs = run.folder / "config.json", run.folder / "inputs.json"
    if not path.is_file():
        return
    stored, mend = read_json(path), "delete the folder to train it anew"
    if stored["profile"] != dataclasses.asdict(profile_of(run.spec.profile)):
        raise LabError(f"the run was begun with another {run.spec.profile} profile", where=run.folder, mend=mend)
    now = json.loads(json.dumps(dataclasses.asdict(config_of(run.spec))))
    if changed := [k for k in {*now, *stored["config"]} if now.get(k) != stored["config"].get(k)]:
        raise LabError(f"the run was begun with another value of {sorted(changed)[0]}", where=run.folder, mend=mend)
    made_from = read_json(inputs) if inputs.is_file() else {}
    before, reads = made_from.get("patients"), reads_now(run.spec)
    for name, other in made_from.get("runs", {}).items():
        checkpoint = reads.get(name, other)["checkpoint"]
        if checkpoint is not None and checkpoint != other["checkpoint"]:
            raise LabError(f"the run was begun with another checkpoint of {name}", where=run.folder, mend=mend)
    if patients is not None and before is not None and before != json.loads(json.dumps(patients)):
        raise LabError("the run was begun with other patients", where=run.folder, mend=mend + ", or set XMOD_RUNS")
