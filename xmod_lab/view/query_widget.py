"""The query view as a widget: what a hand sets in the browser, the kernel knows, and the other way round."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from xmod_lab.errors import LabError
from xmod_lab.view.embed import safe_json
from xmod_lab.view.query_page import SCRIPTS, asset, data_of

if TYPE_CHECKING:
    from xmod_lab.view.query_view import QueryView


class QueryWidget(anywidget.AnyWidget):
    """`show` puts a view into it. `state` holds the fields of `query_state.State`, pairs as lists; one that the view
    refuses, as a tampered page could send, is not taken over."""

    _esm = asset(*SCRIPTS, "widget.js")
    _css = asset("page.css")
    data = traitlets.Unicode("{}").tag(sync=True)
    state = traitlets.Dict().tag(sync=True)

    def __init__(self, view: QueryView, **more: Any):
        super().__init__(**more)
        self.observe(self._set, "state")
        self.show(view)

    def show(self, view: QueryView) -> None:
        """Show another view; the page is drawn anew."""
        self.view = view
        with self.hold_sync():
            self.state = _plain(view)
            self.data = safe_json(data_of(view))

    def refresh(self) -> None:
        """Show what was set in the view since."""
        self.state = _plain(self.view)

    def _set(self, change: dict[str, Any]) -> None:
        values = {name: tuple(v) if isinstance(v, list) else v for name, v in change["new"].items()}
        with contextlib.suppress(LabError, TypeError, ValueError):
            self.view.set(**values)
        self.state = _plain(self.view)  # as the view has it, also where it refused


def _plain(view: QueryView) -> dict[str, Any]:
    found = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(view.state).items()}
    return found | {"windows": {image: list(ends) for image, ends in view.state.windows.items()}}
