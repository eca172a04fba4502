"""What a scorer says of a finished translator run, kept in the run's folder.

``<run folder>/scored/<id of the scorer>/`` holds errors.csv, s_scores.csv, distances.csv, fd_patients.csv and, written
last, inputs.json: a folder with it is complete. It names the checkpoints it was made from; where one of them is another
now, the folder is made anew. All translators of a table share one scorer, which none of them trained with. A task
without classes has no scorer: ``scored/no-scorer/`` then holds errors and the distances that need none, and
s_scores.csv is empty.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmod_lab import inputs
from xmod_lab.errors import LabError
from xmod_lab.evaluate import features
from xmod_lab.files import atomic_file, locked, read_json, sha256, write_json
from xmod_lab.runs import Run, RunSpec, ensure_run, prepared_of

if TYPE_CHECKING:
    import pandas as pd

VERSION = 3
"""raise it when the same checkpoints would give other numbers"""
SCORER = "unet_individual"
TABLES = ("errors", "s_scores", "distances", "fd_patients")


@dataclass(frozen=True)
class Scored:
    """A finished translator run with its scores by one scorer; the columns are those of `translators.Scores`."""

    run: Run
    scorer: Run | None
    """None in a task without classes"""
    folder: Path

    def errors(self) -> pd.DataFrame:
        """Errors against the truth; empty where nobody knows it."""
        return self._table("errors")

    def s_scores(self) -> pd.DataFrame:
        """Dice and ASSD of the scorer on translated, untranslated and real volumes; empty without a scorer."""
        return self._table("s_scores")

    def distances(self) -> pd.DataFrame:
        """Fréchet and kernel distance with floor and counts."""
        return self._table("distances")

    def fd_patients(self) -> pd.DataFrame:
        """Fréchet distance by patient, as jackknife pseudo-values."""
        return self._table("fd_patients")

    def inputs(self) -> dict[str, Any]:
        """Ids and checkpoint hashes of translator and scorer; `demonstration`: no score counts."""
        return read_json(self.folder / "inputs.json")

    @property
    def demonstration(self) -> bool:
        return bool(self.inputs()["demonstration"])

    def _table(self, name: str) -> pd.DataFrame:
        import pandas as pd

        try:
            return pd.read_csv(self.folder / f"{name}.csv", dtype={"patient": str})
        except pd.errors.EmptyDataError:
            return pd.DataFrame()


def scorer_of(spec: RunSpec) -> RunSpec:
    """The segmenter that scores all translators of a data set, task, profile and fold: a U-Net a modality, seed 0."""
    return RunSpec(SCORER, spec.dataset, spec.task_name, spec.profile, spec.fold, 0)


def scored_folder(run: Run, scorer: RunSpec | None) -> Path:
    """Where the scores of `run` by `scorer` lie, or by none."""
    if scorer is None:
        return run.folder / "scored" / "no-scorer"
    named = dataclasses.replace(scorer, task=scorer.task_name)
    short = hashlib.sha256(f"{named} {scorer.variant}".encode()).hexdigest()[:8]
    return run.folder / "scored" / f"{scorer.method}-seed{scorer.seed}-{short}"


def ensure_scored(
    run: Run, *, scorer: RunSpec | None = None, device: str = "auto", progress: bool = True
) -> Scored:
    """The scores of a finished translator run: found, or computed here under a lock.

    scorer: default `scorer_of` the run; it is trained where it is missing. In a task without classes there is none.
    Raises LabError for a run that is not finished or was made from something else, a method that does not translate,
    a scorer of other patients, and one for a task without classes.
    """
    from xmod_lab import device as dev
    from xmod_lab.data.manifest import dataset
    from xmod_lab.methods import method_entry
    from xmod_lab.methods.base import offers

    spec = run.spec
    if "translate" not in offers(method_entry(spec.method).cls):
        raise LabError(f"{spec.method} does not translate, there is nothing to score", where=run.folder)
    run.scores()  # refuses one that is not finished
    inputs.check_now(run)
    if dataset(spec.dataset).task(spec.task_name).classes:
        judge = _judge(run, scorer or scorer_of(spec), device, progress)
    elif scorer is None:
        judge = None
    else:
        raise LabError("a task without classes has no scorer", where=run.folder, mend="leave it out")
    folder = scored_folder(run, judge.spec if judge else None)
    found = Scored(run, judge, folder)
    with locked(folder):
        now = {"version": VERSION, "demonstration": bool(run.scores()["demonstration"]),
               "translator": inputs.made_by(run), "scorer": inputs.made_by(judge) if judge else None}
        lpips = features.brought_lpips()
        if files := {file.stem: sha256(file) for file in [*features.brought(), *([lpips] if lpips else [])]}:
            now["features"] = files
        path = folder / "inputs.json"
        if not path.is_file() or read_json(path) != now:
            path.unlink(missing_ok=True)  # from here on the folder is not complete
            _score(found, dev.pick(device))
            write_json(path, now)
    return found


def _judge(run: Run, scorer: RunSpec, device: str, progress: bool) -> Run:
    """The finished run of `scorer`, which must have had the patients of `run`."""
    spec = run.spec
    other = LabError(f"the scorer has other patients than the translator: {scorer}", where=run.folder,
                     mend="take one of the same data set, task, profile and fold")
    if (scorer.dataset, scorer.task_name) != (spec.dataset, spec.task_name):
        raise other
    judge = ensure_run(scorer, device=device, progress=progress)
    tested = [read_json(one.folder / "inputs.json")["patients"]["test"] for one in (run, judge)]
    if tested[0] != tested[1]:  # it may have been trained on who is tested here
        raise other
    return judge


def _score(scored: Scored, device: Any) -> None:
    from xmod_lab.evaluate.translators import score_translator

    method, prepared = scored.run.method().to(device), prepared_of(scored.run.spec)
    scorer = scored.scorer.method().to(device) if scored.scorer else None
    extractors = features.extractors_of(scorer, prepared.channels, device)
    found = score_translator(method, prepared, scored.run.spec.method, scorer, extractors)
    for name in TABLES:
        with atomic_file(scored.folder / f"{name}.csv") as temporary:
            getattr(found, name).to_csv(temporary, index=False)
