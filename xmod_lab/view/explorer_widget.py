"""The explorer's controls, for JupyterLab and for a page of its own (Voila). All they do is `Explorer.set`."""

from __future__ import annotations

import contextlib
import html
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ipywidgets as widgets

from xmod_lab.errors import LabError
from xmod_lab.evaluate.interventions import HOWS
from xmod_lab.view.explorer import Explorer
from xmod_lab.view.query_widget import QueryWidget

NOTHING = "(nothing)"


class Panel(widgets.VBox):
    """Controls above the view, and the explorer that they set; `draw` shows anew what the explorer has."""

    def __init__(self, explorer: Explorer):
        self.explorer, self.settling = explorer, False
        wide = widgets.Layout(width="auto", min_width="320px")
        self.run = widgets.Dropdown(description="run", layout=wide)
        self.modality = widgets.ToggleButtons(description="modality", style={"button_width": "auto"})
        self.patient = widgets.Dropdown(description="patient", layout=widgets.Layout(width="200px"))
        self.slice = widgets.IntSlider(description="slice", continuous_update=False)
        self.compare = widgets.Dropdown(description="compare", layout=wide)
        self.layer = widgets.Dropdown(description="change", layout=wide)
        self.how = widgets.Dropdown(options=list(HOWS), description="to", layout=widgets.Layout(width="190px"))
        self.index = widgets.IntText(-1, description="only (-1 all)", layout=widgets.Layout(width="170px"))
        self.moves = widgets.Button(description="what moves?", tooltip="masks and translations of this patient")
        self.folder = widgets.Text("atlas", description="save to", layout=widgets.Layout(width="240px"))
        self.save = widgets.Button(description="save", tooltip="PNG, HTML, arrays, table and maps as NIfTI")
        self.said, self.effect = widgets.HTML(), widgets.HTML()
        self.shown = QueryWidget(explorer.view)
        self.second: QueryWidget | None = None
        self.below = widgets.VBox()
        self._fill()
        for name in ("run", "modality", "patient", "slice", "compare", "layer", "how", "index"):
            getattr(self, name).observe(self._chosen(name), "value")
        self.moves.on_click(lambda _: self._try(self._tell))
        self.save.on_click(lambda _: self._try(self._save))
        self.shown.observe(lambda _: self._follow(), "state")
        rows = [
            widgets.HBox([self.run, self.modality]),
            widgets.HBox([self.patient, self.slice, self.compare]),
            widgets.HBox([self.layer, self.how, self.index, self.moves]),
            widgets.HBox([self.folder, self.save]),
        ]
        super().__init__([*rows, self.said, self.shown, self.below, self.effect])
        self._beside()

    def _fill(self) -> None:
        """Set the controls to what the explorer has."""
        explorer, choice = self.explorer, self.explorer.choice
        task = explorer.prepared(choice.run).task
        for control, options, value in (
            (self.run, list(explorer.runs), choice.run),
            (self.modality, list(task.tested), choice.modality),
            (self.patient, explorer.patients(choice.run, choice.modality), choice.patient),
            (self.compare, [NOTHING, *explorer.partners(choice.run)], choice.compare or NOTHING),
            (self.layer, [NOTHING, *explorer.layers()], choice.layer or NOTHING),
        ):
            if list(control.options) != options:
                control.options = options
            control.value = value
        self.slice.max = explorer.case.geometry.slices - 1
        self.slice.value = explorer.at
        self.how.value = choice.how
        self.index.value = -1 if choice.index is None else choice.index

    def _chosen(self, name: str) -> Callable[[Mapping[str, Any]], None]:
        def changed(change: Mapping[str, Any]) -> None:
            if self.settling:
                return
            value = change["new"]
            if name == "index":
                value = None if value < 0 else value
            self._try(lambda: self.set(**{name: "" if value == NOTHING else value}))

        return changed

    def set(self, **values: Any) -> None:
        """`Explorer.set`, shown."""
        try:
            self.explorer.set(**values)
        finally:
            self.draw()

    def draw(self) -> None:
        """Show what the explorer has."""
        self.settling = True
        try:
            self._fill()
            if self.shown.view is not self.explorer.view:
                self.shown.show(self.explorer.view)
            else:
                self.shown.refresh()
            self._beside()
        finally:
            self.settling = False

    def _beside(self) -> None:
        """Below, the view of another method that is compared with."""
        other = self.explorer.beside()
        if other is None:
            self.second, self.below.children = None, ()
        elif self.second is None:
            self.second = QueryWidget(other)
            self.below.children = (self.second,)
        else:
            self.second.show(other)

    def _follow(self) -> None:
        """The second view has the query of the first."""
        if self.second is not None:
            state = self.explorer.view.state
            with contextlib.suppress(LabError):  # a map of other slices has no such pixel
                self.second.view.set(query=state.query, other=state.other)
                self.second.refresh()

    def _try(self, what: Callable[[], None]) -> None:
        try:
            self.said.value = ""
            what()
        except LabError as error:
            self.said.value = f"<b>{html.escape(str(error))}</b>"

    def _tell(self) -> None:
        table = self.explorer.effect().drop(columns="patient")
        self.effect.value = table.to_html(index=False, float_format=lambda v: f"{v:.3f}", na_rep="", escape=True)

    def _save(self) -> None:
        written = self.explorer.save(self.folder.value)
        place = Path(self.folder.value).resolve()
        self.said.value = html.escape("saved " + ", ".join(path.name for path in written) + f" in {place}")


def panel(explorer: Explorer) -> Panel:
    """The widget of an explorer."""
    return Panel(explorer)
