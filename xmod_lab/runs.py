"""Run folders: what was trained, with what, and what came of it.

``<runs>/<profile>/<dataset>/<task>/fold<f>/<method>/<variant>/seed<k>/`` holds config.json, environment.json,
inputs.json, log.jsonl, checkpoint.safetensors, scores.csv, scores.json and examples.npz. scores.json is written last: a
folder with it is complete. Notebooks hand results to each other through these folders only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import re
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmod_lab import paths
from xmod_lab.errors import LabError
from xmod_lab.files import locked, read_json, write_json
from xmod_lab.profiles import Profile, profile_of

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from xmod_lab.data.prepare import Prepared
    from xmod_lab.methods.base import Method


def text_of(value: Any) -> str:
    """A setting as the command line takes it: the parts of a tuple joined by commas."""
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


@dataclass(frozen=True)
class RunSpec:
    """Names one run.

    settings: config fields that differ from the method's entry. preset: default, printed or official.
    """

    method: str
    dataset: str
    task: str | None = None
    profile: str = "smoke"
    fold: int = 0
    seed: int = 0
    settings: tuple[tuple[str, Any], ...] = ()
    preset: str = "default"

    @property
    def variant(self) -> str:
        """Preset and settings as a folder name, short and readable where it can be."""
        parts = [self.preset] + [f"{key}={text_of(value)}" for key, value in sorted(self.settings)]
        name = re.sub(r"[^\w=.,+-]", "_", ",".join(parts))
        return name if len(name) <= 80 else name[:60] + hashlib.sha256(name.encode()).hexdigest()[:12]

    @property
    def task_name(self) -> str:
        from xmod_lab.data.manifest import dataset

        return self.task or dataset(self.dataset).default_task

    @property
    def folder(self) -> Path:
        place = paths.runs_home() / self.profile / self.dataset / self.task_name / f"fold{self.fold}"
        return place / self.method / self.variant / f"seed{self.seed}"

    def __str__(self) -> str:
        more = f"{self.profile}, {self.variant}, fold {self.fold}, seed {self.seed}"
        return f"{self.method} on {self.dataset}/{self.task_name} ({more})"


@dataclass(frozen=True)
class Run:
    """A run folder; `complete` if its scores are written."""

    spec: RunSpec
    folder: Path

    @property
    def complete(self) -> bool:
        return (self.folder / "scores.json").is_file()

    def scores(self) -> dict[str, Any]:
        """Facts of the run and, under `means`, means over test patients by name.

        ``dice/T2/WT``; ``dice/T1->T2/WT`` where the network of T1 segments T2.
        """
        if not self.complete:
            raise LabError(
                f"the run is not finished: {self.spec}", where=self.folder, mend="call ensure_run, or `xmod-lab train`"
            )
        return read_json(self.folder / "scores.json")

    def table(self) -> pd.DataFrame:
        """One row a test patient, tested modality, network and structure, with every metric."""
        import pandas as pd

        return pd.read_csv(self.folder / "scores.csv", dtype={"patient": str})

    def log(self) -> pd.DataFrame:
        """One row a step: losses, and validation Dice where it was measured."""
        import pandas as pd

        from xmod_lab.train import read_log

        return pd.DataFrame(list(read_log(self.folder)))

    def method(self) -> Method:
        """The trained method, rebuilt from its checkpoint alone, on the CPU."""
        from xmod_lab import checkpoint

        return checkpoint.rebuild(self.folder / "checkpoint.safetensors")

    def examples(self) -> dict[str, Any]:
        """A few test slices: ``<modality>/image``, ``/truth``, ``/prediction`` (n, S, S) and ``/patient``."""
        import numpy as np

        with np.load(self.folder / "examples.npz", allow_pickle=False) as stored:
            return dict(stored)


def prepared_of(spec: RunSpec) -> Prepared:
    """The prepared data of a run; phantoms that are missing are made first."""
    from xmod_lab.data.manifest import dataset
    from xmod_lab.data.phantoms import make
    from xmod_lab.data.prepare import prepare
    from xmod_lab.methods import method_entry

    profile, data, subjects = profile_of(spec.profile), dataset(spec.dataset), subjects_of(spec)
    if data.access == "phantom":
        make(data, subjects=subjects)
    swap = method_entry(spec.method).cls.swaps_labels
    return prepare(data, spec.task, profile.size, fold=spec.fold, subjects=subjects, swap=swap)


def subjects_of(spec: RunSpec) -> int | None:
    """How many patients the profile uses; of a disjoint task so many for each fold, which is a data set of its own."""
    from xmod_lab.data.manifest import dataset

    split, count = dataset(spec.dataset).task(spec.task_name).split, profile_of(spec.profile).subjects
    return count * split.folds if count and split.disjoint else count


def config_of(spec: RunSpec) -> Any:
    """The method's config: the profile's width, then the entry's overrides, the preset and the settings."""
    from xmod_lab.methods import method_entry
    from xmod_lab.methods.base import build_config

    entry = method_entry(spec.method)
    preset = {}
    if spec.preset != "default":
        presets = getattr(entry.cls, "presets", {})
        if spec.preset not in presets:
            raise LabError(
                f"{spec.method} has no preset {spec.preset!r}", mend=f"it has {', '.join(['default', *presets])}"
            )
        preset = presets[spec.preset]
    values = {"width": profile_of(spec.profile).width} | entry.overrides | preset | dict(spec.settings)
    return build_config(entry.cls, values)


def reads_of(spec: RunSpec) -> dict[str, RunSpec]:
    """The runs whose networks this one takes (`Method.reads`), by method name; each as its entry stands."""
    from xmod_lab.methods import method_entry

    names = method_entry(spec.method).cls.reads(config_of(spec))
    return {n: dataclasses.replace(spec, method=n, settings=(), preset="default") for n in names}


def build(spec: RunSpec, prepared: Prepared) -> Method:
    """The untrained method of a run, its weights drawn from the run's seed, with the trained ones that it reads."""
    import torch

    from xmod_lab.methods import method_entry
    from xmod_lab.methods.base import Problem
    from xmod_lab.rng import seed_of

    config = config_of(spec)
    problem = Problem(
        modalities=tuple(prepared.modalities),
        tested=tuple(prepared.task.tested),
        labelled=tuple(prepared.task.labelled),
        unlabelled=tuple(prepared.task.unlabelled),
        classes=tuple(prepared.classes),
        channels=prepared.channels,
        size=prepared.size,
        paired=prepared.task.draw == "paired",
    )
    torch.manual_seed(seed_of(spec.seed, "weights"))
    method = method_entry(spec.method).cls(config, problem)
    for name, other in reads_of(spec).items():
        method.receive(name, Run(other, other.folder).method())
    return method


def ensure_run(spec: RunSpec, *, device: str = "auto", progress: bool = True) -> Run:
    """The finished run of `spec`: found, resumed or trained here, under a lock so that nobody trains it twice.

    Runs that it reads (`Method.reads`) are ensured first, before its own lock is taken.
    Raises LabError for an unknown method, data set, task, profile or config field, an absent GPU, or bad data.
    """
    from xmod_lab import device as dev
    from xmod_lab import inputs

    spec = dataclasses.replace(spec, task=spec.task_name)
    others = reads_of(spec)  # a wrong name or value is refused before a folder or a phantom is made
    run, chosen = Run(spec, spec.folder), dev.pick(device)
    if run.complete and not dev.launched():
        inputs.check_now(run)
        return run
    for other in others.values():
        ensure_run(other, device=device, progress=progress)
    dev.join_group(chosen)
    with locked(run.folder) if dev.rank() == 0 else contextlib.nullcontext():
        if dev.first_says(not run.complete):  # one answer for all: another process may finish the run meanwhile
            _train_and_score(run, chosen, progress and dev.rank() == 0)
    dev.barrier()
    return run


def _train_and_score(run: Run, device: torch.device, progress: bool) -> None:
    import torch

    from xmod_lab import device as dev
    from xmod_lab.evaluate.runs import score_run
    from xmod_lab.progress import Progress
    from xmod_lab.train import fit

    spec, profile = run.spec, profile_of(run.spec.profile)
    if profile.threads:
        torch.set_num_threads(profile.threads)
    prepared = prepared_of(spec)
    method = build(spec, prepared).to(device)
    precision = profile.precision if profile.precision != "auto" else _precision(device)
    if dev.rank() == 0:
        _describe(run, method, prepared, profile, device)
    with Progress(str(spec), profile.steps, shown=progress) as bar:
        trained = fit(
            method,
            spec.method,
            prepared,
            run.folder,
            steps=profile.steps,
            batch=profile.batch,
            seed=spec.seed,
            augment=getattr(method.config, "augment", "standard"),
            precision=precision,
            checkpoint_every=profile.checkpoint,
            on_step=bar.step,
        )
    facts = trained | {
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "parameters": sum(p.numel() for p in method.parameters()),
        "demonstration": prepared.split.demonstration,
    }
    if dev.rank() == 0:
        score_run(method, prepared, run.folder, facts, spec.method)


def _precision(device: torch.device) -> str:
    from xmod_lab.precision import choose

    return choose(device)


def _describe(run: Run, method: Method, prepared: Prepared, profile: Profile, device: torch.device) -> None:
    from xmod_lab import device as dev
    from xmod_lab import inputs

    spec = dataclasses.asdict(run.spec) | {"task": run.spec.task_name, "settings": dict(run.spec.settings)}
    config = {"spec": spec, "config": dataclasses.asdict(method.config), "profile": dataclasses.asdict(profile)}
    patients = inputs.roles(prepared.split)
    inputs.check_same(run, patients)
    write_json(run.folder / "config.json", config)
    path, now = run.folder / "environment.json", dev.describe(device)
    before = read_json(path) if path.is_file() else {}
    earlier = before.pop("resumed_from", [])
    if before and before != now:  # a run that was begun elsewhere says so
        earlier = [*earlier, before]
    write_json(path, now | ({"resumed_from": earlier} if earlier else {}))
    reads = inputs.reads_now(run.spec)
    write_json(run.folder / "inputs.json", {"data": prepared.key, "patients": patients, "runs": reads})


def find_runs(root: Path | None = None) -> list[Run]:
    """All run folders below `root` (default: the runs folder) that have a config, sorted by path."""
    return [run_at(path.parent) for path in sorted((root or paths.runs_home()).rglob("config.json"))]


def run_at(folder: Path) -> Run:
    """The run that lies in `folder`. Raises LabError if none does."""
    if not (folder / "config.json").is_file():
        raise LabError("not a run folder, it has no config.json", where=folder, mend="`xmod-lab train` prints its runs")
    spec = read_json(folder / "config.json")["spec"]
    spec["settings"] = tuple(sorted(spec["settings"].items()))
    return Run(RunSpec(**spec), folder)
