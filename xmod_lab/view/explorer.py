"""Any finished run's maps of any test patient: choose, compare, intervene. What a hand does, `set` does."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmod_lab.data.prepare import Prepared
from xmod_lab.errors import LabError
from xmod_lab.evaluate.interventions import HOWS
from xmod_lab.evaluate.runs import Case, fullest
from xmod_lab.maps import UNTRAINED
from xmod_lab.profiles import profile_of
from xmod_lab.runs import Run, build
from xmod_lab.showing import case_of, showing
from xmod_lab.view.atlas import Changed, case_view, labelled_slices
from xmod_lab.view.query_view import QueryView

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from xmod_lab.methods.base import Method
    from xmod_lab.view.explorer_widget import Panel


@dataclass(frozen=True)
class Choice:
    """run, modality, patient and slice (its number in the volume; None: the one with most of the structures) that are
    shown; compare: beside what, "" nothing, "step 70" an earlier moment of the run, or another run of the same data;
    layer, how, index: what is changed inside (`interventions.intervened`), "" nothing, index None all of it."""

    run: str
    modality: str
    patient: str
    slice: int | None = None
    compare: str = ""
    layer: str = ""
    how: str = "identity"
    index: int | None = None


def atlas_runs(root: Path | None = None) -> dict[str, Run]:
    """Finished runs of methods that have maps by their names, those of the runs folder and those that come with the
    package (`shipped`). Runs made from something else than today's data and settings are left out."""
    from xmod_lab import inputs
    from xmod_lab.bench.patients import system
    from xmod_lab.methods import METHODS
    from xmod_lab.methods.base import offers
    from xmod_lab.runs import find_runs
    from xmod_lab.shipped import shipped

    found: dict[str, Run] = dict(shipped())
    for run in find_runs(root):
        spec = run.spec
        if not run.complete or spec.method not in METHODS or "maps" not in offers(METHODS[spec.method].cls):
            continue
        try:
            inputs.check_now(run)
        except LabError:
            continue
        place = f"{spec.dataset}/{spec.task_name}, {spec.profile}, fold {spec.fold}, seed {spec.seed}"
        found[f"{system(spec)} ({place})"] = run
    return found


class Explorer:
    """Views of runs by name (default `atlas_runs`). `view` is the query view of what is chosen; it keeps what was set
    in it (query, map, scale ...) from choice to choice where that exists."""

    def __init__(self, runs: Mapping[str, Run] | None = None, **chosen: Any):
        self.runs = dict(atlas_runs() if runs is None else runs)
        if not self.runs:
            raise LabError("no run with maps is finished", mend="train one: xmod-lab train bigl --profile lesson")
        name = str(chosen.get("run", next(iter(self.runs))))
        self._known("run", name, self.runs)
        self._method, self._case = lru_cache(4)(self._load), lru_cache(8)(self._read)
        self._prepared: dict[str, Prepared] = {}
        self.choice = self._first(name)
        self._views: dict[Choice, QueryView] = {}
        self.set(**chosen)

    def _first(self, name: str) -> Choice:
        prepared = self.prepared(name)
        modality = prepared.task.tested[0]
        return Choice(name, modality, self.patients(name, modality)[0])

    def prepared(self, name: str) -> Prepared:
        """The test patients of a run (`showing`)."""
        if name not in self._prepared:
            self._prepared[name] = showing(self.runs[name])
        return self._prepared[name]

    def patients(self, name: str, modality: str) -> list[str]:
        """The test patients of a run who have an image of `modality`."""
        from xmod_lab.data.volume import patients

        prepared = self.prepared(name)
        have = set(patients(prepared.data, modality.split("+")[0]))
        return [patient for patient in prepared.split.test if patient in have]

    def moments(self, name: str) -> dict[str, Path]:
        """Earlier weights of a run by name ("step 70")."""
        from xmod_lab.checkpoint import moments

        return {f"step {step}": path for step, path in moments(self.runs[name].folder).items()}

    def partners(self, name: str) -> list[str]:
        """What a run can be compared with: its own moments, then runs of the same data set, task, fold and size."""
        place = _place(self.runs[name])
        others = [other for other, run in self.runs.items() if other != name and _place(run) == place]
        return [*self.moments(name), *others]

    def layers(self) -> list[str]:
        """Where the chosen run can be intervened in: the layers of its maps."""
        slices = labelled_slices(self.case, [self.at])
        found = self._method(self.choice.run, "").maps({self.choice.modality: slices})  # type: ignore[operator]
        return list(dict.fromkeys(one.layer for one in found.values()))

    def set(self, **values: Any) -> Explorer:
        """Set fields of `Choice`, and of the view's `State`; returns the explorer. A new run or modality starts on its
        first patient, a new patient on his fullest slice. Raises LabError for what does not exist, naming what does."""
        own = {field.name for field in dataclasses.fields(Choice)}
        shown = {name: value for name, value in values.items() if name not in own}
        asked = {name: value for name, value in values.items() if name in own}
        choice = self.choice
        if "run" in asked:
            self._known("run", asked["run"], self.runs)
            choice = choice if asked["run"] == choice.run else self._first(asked["run"])
        choice = replace(choice, **asked)
        prepared = self.prepared(choice.run)
        self._known("modality", choice.modality, prepared.task.tested)
        listed = self.patients(choice.run, choice.modality)
        if "patient" not in asked and (choice.patient not in listed or choice.modality != self.choice.modality):
            choice = replace(choice, patient=listed[0])
        self._known("patient", choice.patient, listed)
        if (choice.run, choice.modality, choice.patient) != self._where(self.choice) and "slice" not in asked:
            choice = replace(choice, slice=None)
        self._known("way to change a layer", choice.how, HOWS)
        if choice.index is not None and (not isinstance(choice.index, int) or choice.index < 0):
            raise LabError(f"index {choice.index!r} is no number from 0 on", mend="None changes all")
        if choice.compare:
            self._known("compare", choice.compare, self.partners(choice.run))
        depth = self._case(choice.run, choice.modality, choice.patient).geometry.slices
        if choice.slice is not None and not 0 <= choice.slice < depth:
            raise LabError(f"no slice {choice.slice}", mend=f"slices are 0 to {depth - 1}")
        before = self.choice
        self.choice = choice
        try:
            if shown:
                self.view.set(**shown)
            else:
                self.view  # noqa: B018  # what cannot be shown is refused now
        except LabError:
            self.choice = before
            raise
        return self

    @staticmethod
    def _where(choice: Choice) -> tuple[str, str, str]:
        return choice.run, choice.modality, choice.patient

    @staticmethod
    def _known(what: str, value: str, choices: Any) -> None:
        if value not in choices:
            raise LabError(f"no {what} {value!r}", mend=f"known: {', '.join(choices) or 'none'}")

    @property
    def case(self) -> Case:
        """The test volume that is shown."""
        return self._case(*self._where(self.choice))

    @property
    def at(self) -> int:
        """The number of the slice that is shown."""
        return int(fullest(self.case, 1)[0]) if self.choice.slice is None else self.choice.slice

    @property
    def view(self) -> QueryView:
        """The query view of what is chosen; of another method's run that is compared with see `beside`."""
        choice = replace(self.choice, slice=self.at)
        if choice not in self._views:
            made = self._made(choice)
            if self._views:
                _carried(made, next(reversed(self._views.values())))
            self._views = {choice: made}
        return self._views[choice]

    def _made(self, choice: Choice) -> QueryView:
        method = self._method(choice.run, "")
        models: dict[str, Method | Changed] = {UNTRAINED: self._method(choice.run, UNTRAINED)}
        if choice.compare in self.moments(choice.run):
            models[choice.compare] = self._method(choice.run, choice.compare)
        elif choice.compare and self._alike(choice):
            models[choice.compare] = self._method(choice.compare, "")
        if choice.layer:
            part = "" if choice.index is None else f" {choice.index + 1}"
            models[f"{choice.layer}{part}: {choice.how}"] = Changed(method, choice.layer, choice.how, choice.index)
        title = f"{choice.run}: {choice.modality} of {choice.patient}, slice {choice.slice}"
        return case_view(
            method, self.prepared(choice.run), self.case, [self.at], nulls=models, back=True,
            title=title, note=f"profile {self.runs[choice.run].spec.profile}",
        )  # fmt: skip

    def _alike(self, choice: Choice) -> bool:
        """Whether the run that is compared with is of the same method, so that its maps have the same names."""
        return self.runs[choice.compare].spec.method == self.runs[choice.run].spec.method

    def beside(self) -> QueryView | None:
        """The view of another method's run that is compared with, of the same patient, slice and query; else None."""
        choice = self.choice
        if not choice.compare or choice.compare in self.moments(choice.run) or self._alike(choice):
            return None
        other = replace(choice, run=choice.compare, compare="", layer="", slice=self.at)
        made = self._made(other)
        _carried(made, self.view)
        return made

    def effect(self) -> pd.DataFrame:
        """What the intervention moves in the chosen patient: `interventions.effects`. LabError if none is chosen."""
        from xmod_lab.evaluate.interventions import effects

        choice = self.choice
        if not choice.layer:
            raise LabError("nothing is changed", mend="choose a layer and how")
        method, prepared = self._method(choice.run, ""), self.prepared(choice.run)
        return effects(method, prepared, choice.layer, choice.how, choice.index, [choice.patient])

    def figure(self) -> Figure:
        """`QueryView.figure` of what is chosen."""
        return self.view.figure()

    def table(self) -> pd.DataFrame:
        """`QueryView.table` of what is chosen."""
        return self.view.table()

    def to_html(self, path: str | Path | None = None) -> str:
        """`QueryView.to_html` of what is chosen."""
        return self.view.to_html(path)

    def save(self, folder: str | Path) -> list[Path]:
        """PNG, HTML, arrays (.npz), the table (.csv), and the map that is set, of the whole volume, as NIfTI where it
        is a mask or a stack; returns the files."""
        from xmod_lab.files import write_text
        from xmod_lab.view.maps_nifti import save_map

        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        maps: list[Path] = []
        choice, shown = self.choice, self.view.state.map
        if self.view.kind(shown) in ("mask", "stack"):
            method, prepared = self._method(choice.run, ""), self.prepared(choice.run)
            maps = save_map(method, prepared, self.case, shown, place)
        self.to_html(place / "view.html")
        figure = self.figure()
        figure.savefig(place / "view.png")
        write_text(place / "table.csv", self.table().to_csv(index=False))
        written = [place / "view.html", place / "view.png", place / "table.csv"]
        return [*written, self.view.arrays(place / "arrays.npz"), *maps]

    def widget(self) -> Panel:
        """The explorer for JupyterLab and Voila."""
        from xmod_lab.view.explorer_widget import panel

        return panel(self)

    def _load(self, name: str, moment: str) -> Method:
        from xmod_lab.checkpoint import rebuild

        run = self.runs[name]
        if moment == UNTRAINED:
            return build(run.spec, self.prepared(name)).eval()
        return rebuild(self.moments(name)[moment]) if moment else run.method().eval()

    def _read(self, name: str, modality: str, patient: str) -> Case:
        return case_of(self.prepared(name), patient, modality)


def _place(run: Run) -> tuple[str, str, int, int]:
    """Runs that can share a query: of one data set, task and fold, and of slices of one size."""
    return run.spec.dataset, run.spec.task_name, run.spec.fold, profile_of(run.spec.profile).size


def _carried(view: QueryView, before: QueryView) -> None:
    """Set in a new view what was set in the one before, as far as it has it; a window only of an image in its unit."""
    for name, value in asdict(before.state).items():
        if name == "windows":
            alike = [image for image in value if view.units.get(image) == before.units.get(image)]
            value = {image: value[image] for image in alike if image in view.images}
        if name != "slice":  # of its only one
            with contextlib.suppress(LabError):
                view.set(**{name: value})
