"""Explorers for JupyterLab: sliders over patients and slices. Whatever a hand can set, `figure(...)` draws, too."""

from __future__ import annotations

import html
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from xmod_lab.errors import LabError
from xmod_lab.view.translation import Shown, translation_grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from xmod_lab.data.prepare import Prepared
    from xmod_lab.evaluate.runs import Case
    from xmod_lab.methods.base import Method
    from xmod_lab.runs import Run

VIEWS = ("image", "difference", "target area")


def translators(
    dataset: str, task: str, profile: str, fold: int = 0, seed: int = 0, *, variants: bool = False
) -> dict[str, Run]:
    """Finished runs of every method that translates, by the name tables use; whatever lies in the runs folder.

    variants: with ablations, presets and other settings, too. Runs that were made from something else than today's data
    and settings are left out.
    """
    from xmod_lab import inputs
    from xmod_lab.bench.patients import system
    from xmod_lab.methods import METHODS
    from xmod_lab.methods.base import offers
    from xmod_lab.runs import find_runs

    found = {}
    for run in find_runs():
        spec = run.spec
        place = (spec.dataset, spec.task_name, spec.profile, spec.fold, spec.seed)
        plain = spec.preset == "default" and not spec.settings
        wanted = place == (dataset, task, profile, fold, seed) and (variants or plain)
        known = spec.method in METHODS and "translate" in offers(METHODS[spec.method].cls)
        if not (wanted and known and run.complete):
            continue
        try:
            inputs.check_now(run)
        except LabError:
            continue
        found[system(spec)] = run
    return found


def shipped_gallery(dataset: str, task: str) -> TranslationGallery | None:
    """The gallery of the translators that come with the package for a task, on their test patients; None where there
    are none."""
    from xmod_lab.methods import METHODS
    from xmod_lab.methods.base import offers
    from xmod_lab.shipped import shipped
    from xmod_lab.showing import showing

    found: dict[str, Run] = {}
    for name, run in shipped().items():
        here = (run.spec.dataset, run.spec.task_name) == (dataset, task)
        if here and "translate" in offers(METHODS[run.spec.method].cls):
            found[name] = run
    fold = {run.spec.fold for run in found.values()}
    assert len(fold) < 2, "weights of one task have one fold"
    if not found:
        return None
    return TranslationGallery({n: run.method().eval() for n, run in found.items()}, showing(next(iter(found.values()))))


class TranslationGallery:
    """Test slices of every modality, translated to every other one by each of `models` (name -> trained method).

    `figure(source, patient, slice, view)` is what the sliders of `widget()` show; view is one of VIEWS, of which
    "difference" needs a truth and "target area" a task with classes. Patients are numbered by their order among the
    test patients of the source; slices by their place in the volume.
    """

    def __init__(self, models: Mapping[str, Method], prepared: Prepared):
        from xmod_lab.evaluate.runs import test_volumes

        if not models:
            raise LabError("no translator is trained", mend="train one: xmod-lab train targan --dataset abdomen")
        self.models, self.prepared = dict(models), prepared
        self.cases: dict[str, list[Case]] = {m: list(test_volumes(prepared, m)) for m in prepared.task.tested}
        self.labels = {
            m: [case.geometry.forward(case.truth, "nearest") for case in cases] for m, cases in self.cases.items()
        }

    def first_slice(self, source: str, patient: int = 0) -> int:
        """The slice with most of the target area; without classes, with most of the body."""
        area, body = self.labels[source][patient] > 0, self.cases[source][patient].slices.foreground.numpy()
        return int((area if area.any() else body).sum((1, 2)).argmax())

    def shown(self, source: str, patient: int = 0, at: int | None = None, back: bool = False) -> list[Shown]:
        """One `Shown` a target. back: with the ways back of systems that know them. Raises LabError for a source,
        patient or slice that is not there."""
        import torch

        from xmod_lab.evaluate.translators import translations_of, true_slices

        if source not in self.cases or not 0 <= patient < len(self.cases[source]):
            raise LabError(f"no test patient {patient} of {source!r}", mend=f"sources: {', '.join(self.cases)}")
        case, labels = self.cases[source][patient], self.labels[source][patient]
        at = self.first_slice(source, patient) if at is None else at
        if not 0 <= at < len(labels):
            raise LabError(f"no slice {at} of {case.patient}", mend=f"it has slices 0 to {len(labels) - 1}")
        image = case.slices.image[at : at + 1]
        pairs = {name: translations_of(model, self.prepared) for name, model in self.models.items()}
        targets = list(dict.fromkeys(t for found in pairs.values() for s, t in found if s == source))
        found = []
        for target in targets:
            with torch.no_grad():
                made = {
                    name: model.translate(image.to(next(model.parameters()).device), source, target)  # type: ignore[operator]
                    for name, model in self.models.items()
                    if (source, target) in pairs[name]
                }
                returned = {
                    name: self.models[name].translate(x, target, source)  # type: ignore[operator]
                    for name, x in (made.items() if back else ())
                    if (target, source) in pairs[name]
                }
            truth = true_slices(self.prepared, case, target)
            found.append(Shown(
                source, target, _middle(image), labels[at], {name: _middle(x) for name, x in made.items()},
                None if truth is None else truth[at], {name: _middle(x) for name, x in returned.items()},
            ))  # fmt: skip
        return found

    def figure(self, source: str, patient: int = 0, at: int | None = None, view: str = "image") -> Figure:
        """The translations of a slice: whole, as differences from the truth, or the target area alone."""
        if view not in VIEWS:
            raise LabError(f"no view {view!r}", mend=f"known: {', '.join(VIEWS)}")
        if view == "target area" and not self.prepared.classes:
            raise LabError("this task has no classes, so no target area", mend="choose another view")
        shown = self.shown(source, patient, at)
        name = f"{self.cases[source][patient].patient}, slice {self.first_slice(source, patient) if at is None else at}"
        what = "difference" if view == "difference" else "image"
        return translation_grid(
            shown, self.prepared.classes, what=what, zoom=view == "target area", title=f"{source} of {name}: {view}"
        )

    def widget(self) -> Any:
        """Sliders for JupyterLab."""
        import ipywidgets

        source = ipywidgets.ToggleButtons(options=list(self.cases), description="source")
        known = any(one.truth is not None for one in self.shown(source.value))
        able = {"image": True, "difference": known, "target area": bool(self.prepared.classes)}
        view = ipywidgets.ToggleButtons(options=[v for v in VIEWS if able[v]], description="show")
        patient = ipywidgets.IntSlider(0, 0, len(self.cases[source.value]) - 1, description="patient")
        at = ipywidgets.IntSlider(
            self.first_slice(source.value), 0, len(self.labels[source.value][0]) - 1, description="slice"
        )

        values = {"source": source, "patient": patient, "at": at, "view": view}
        shown, said = ipywidgets.Image(layout={"max_width": "100%", "object_fit": "contain"}), ipywidgets.HTML()
        settling = False

        def changed(change: Mapping[str, Any]) -> None:
            nonlocal settling
            if settling:
                return
            if change["owner"] in (source, patient):
                settling = True  # what is set here shall not draw once more
                patient.max = len(self.cases[source.value]) - 1
                at.max = len(self.labels[source.value][patient.value]) - 1
                at.value = self.first_slice(source.value, patient.value)
                settling = False
            draw()

        def draw() -> None:
            try:
                shown.value, said.value = _png(self.figure(**{name: one.value for name, one in values.items()})), ""
            except LabError as error:
                said.value = html.escape(str(error))

        for one in values.values():
            one.observe(changed, "value")
        draw()
        return ipywidgets.VBox([*values.values(), said, shown])


def _png(figure: Figure) -> bytes:
    """The picture, closed. An `ipywidgets.Output` would do without it, but one execution in nine then hung."""
    import matplotlib.pyplot as plt

    with io.BytesIO() as found:
        figure.savefig(found, format="png", bbox_inches="tight")
        plt.close(figure)
        return found.getvalue()


def _middle(image: Any) -> np.ndarray:
    """(1, k, h, w) tensor -> the middle channel as an array (h, w)."""
    values: np.ndarray = image[0, image.shape[1] // 2].float().cpu().numpy()
    return values
