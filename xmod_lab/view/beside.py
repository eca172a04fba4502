"""Runs of one method side by side on the same slice of the same patient: a lesson's own beside the shipped one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from xmod_lab.data.volume import patients
from xmod_lab.errors import LabError
from xmod_lab.evaluate.regions import correlation
from xmod_lab.evaluate.runs import fullest, network_for
from xmod_lab.maps import TRAINED
from xmod_lab.profiles import profile_of
from xmod_lab.shipped import shipped_like
from xmod_lab.showing import case_of, showing
from xmod_lab.view.atlas import case_view, labelled_slices
from xmod_lab.view.pairwise import _cross
from xmod_lab.view.query_figure import ends_of
from xmod_lab.view.query_state import window_of
from xmod_lab.view.query_table import shares_of
from xmod_lab.view.slices import _grid, _legend, _row_name, draw_contours, draw_slice
from xmod_lab.view.style import COLOURS, SCALE, colours_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from xmod_lab.runs import Run
    from xmod_lab.view.query_view import QueryView


def beside_shipped(run: Run, modality: str, map_: str) -> tuple[Figure, pd.DataFrame]:
    """A notebook's run beside the weights of its method that come with the package, where they are of its task:
    the figure of `beside` and the table of `record_table`."""
    pair = {"this notebook": run} | shipped_like(run)
    return beside(pair, modality, map_), record_table(pair)


def beside(runs: Mapping[str, Run], modality: str, map_: str) -> Figure:
    """A row a run: a test slice with the truth, with what the run finds in it, its translations, and one of its maps.

    runs: finished ones of one method, data set and task by name. map_: as the atlas names it (`atlas.panel_of`):
    of positions the row of the lesion's centre, of a stack the map that goes most with the labelled structures; on one
    scale for all runs, on the slice or else on its first translation. The patient is one whom all runs test; where
    there is none, one of the last run's, and the title says who did not test him.

    Raises LabError for runs of different tasks, and for a map or modality that they have not.
    """
    tasks = {(run.spec.method, run.spec.dataset, run.spec.task_name) for run in runs.values()}
    if len(tasks) != 1:
        raise LabError(f"{len(tasks)} methods or tasks side by side", mend="give runs of one method and task")
    data = {name: showing(run) for name, run in runs.items()}
    known = next(iter(data.values())).task.tested
    if modality not in known:
        raise LabError(f"no test patient of {modality}", mend=f"tested are {', '.join(known)}")
    able = [set(p.split.test) & set(patients(p.data, modality.split("+")[0])) for p in data.values()]
    patient = min(set.intersection(*able) or able[-1])
    strangers = [name for name, have in zip(runs, able, strict=True) if patient not in have]
    views: dict[str, QueryView] = {}
    masks, at = {}, None
    for name, run in runs.items():
        method, case = run.method().eval(), case_of(data[name], patient, modality)
        at = int(fullest(case, 1)[0]) if at is None else at
        view = case_view(method, data[name], case, [at], select=(f"{map_}/*",))
        if views:  # the same place of slices of another size
            first = next(iter(views.values()))
            (_, *edges), (_, *others) = view.shape, first.shape
            row, column = (int((p + 0.5) * a / b) for p, a, b in zip(first.state.query, edges, others, strict=True))
            view.set(query=(row, column))
        views[name] = view.set(map=map_)
        layer, truth = next(iter(view.maps[map_].values())), view.labels.get(modality)
        if layer.kind == "stack" and truth is not None:
            view.set(index=_telling(layer.values[0], truth[0]))
        if callable(getattr(method, "segment", None)):
            with torch.no_grad():
                image = labelled_slices(case, [at]).image
                masks[name] = method.segment(image, network_for(method, modality)).argmax(1)[0].numpy()  # type: ignore[operator]
    learned = f"; no test patient of {' and '.join(strangers)}" if strangers else ""
    return _drawn(views, masks, modality, f"{modality} of {patient}, slice {at}{learned}")


def _drawn(views: Mapping[str, QueryView], masks: Mapping[str, np.ndarray], modality: str, title: str) -> Figure:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    first = next(iter(views.values()))
    targets = [panel for panel in first.images if panel != modality]
    on = modality if modality in first.maps[first.state.map] else next(iter(first.maps[first.state.map]))
    named = first.state.map if on == modality else f"{first.state.map}, {on}"
    titles = ["slice, truth", *(["found"] if masks else []), *targets, named]
    colours = colours_of(first.classes)
    pointed = first.kind(first.state.map) == "positions"
    values = {name: view.shown()[TRAINED][on] for name, view in views.items()}
    low, high = next(iter(ends_of({name: {modality: one} for name, one in values.items()}, "shared").values()))
    figure, axes = _grid(len(views), len(titles), title, extra=0.3 * bool(colours))
    figure.set_size_inches(figure.get_figwidth() + 0.9, figure.get_figheight())  # the colour bar
    for text, axis in zip(titles, axes[0], strict=True):
        axis.set_title(text, fontsize=9)
    for row, (name, view) in enumerate(views.items()):
        line = axes[row]
        _, height, width = view.shape
        extent = (-0.5, width - 0.5, height - 0.5, -0.5)  # a map has other cells than the slice has pixels
        pictures = [modality, *([modality] if masks else []), *targets]
        for axis, panel in zip(line, pictures, strict=False):
            draw_slice(axis, view.images[panel][0], window=window_of(view, panel))
        truth = view.labels.get(modality)
        if truth is not None:
            draw_contours(line[0], truth[0], colours)
        if name in masks:
            draw_contours(line[1], masks[name], colours)
        line[-1].imshow(values[name], cmap=SCALE, norm=Normalize(low, high), extent=extent)
        if view.kind(view.state.map) == "stack":
            above = f"{line[-1].get_title()} " if row == 0 else "map "
            line[-1].set_title(f"{above}{view.state.index + 1}", fontsize=9)
        if pointed:
            for axis in (line[0], line[-1]):
                _cross(axis, view.state.query, COLOURS[3])
        _row_name(line[0], name)
    layer = next(iter(first.maps[first.state.map].values()))
    figure.colorbar(ScalarMappable(Normalize(low, high), SCALE), ax=list(axes.flat), shrink=0.8, aspect=30, pad=0.01,
                    label=layer.unit or first.state.map)  # fmt: skip
    _legend(figure, colours)
    return figure


def _telling(maps: np.ndarray, labels: np.ndarray) -> int:
    """Which of the maps (K, u, v) goes most with the labelled structures (h, w): by the size of their correlation."""
    inside = 1 - shares_of(labels, int(labels.max()), (maps.shape[1], maps.shape[2]))[0]
    found = [abs(correlation(one.ravel(), inside.ravel())) for one in maps]
    return int(np.argmax(np.nan_to_num(found)))


def record_table(runs: Mapping[str, Run]) -> pd.DataFrame:
    """What finished runs of one method recorded, a column a run: profile, steps, test patients, mean Dice over the
    structures of each modality (of its own network) and mean error of each translation (values in [-1, 1])."""
    import pandas as pd

    found = {}
    for name, run in runs.items():
        scores, means = run.scores(), run.scores()["means"]
        rows: dict[str, object] = {"profile": run.spec.profile, "steps": profile_of(run.spec.profile).steps}
        rows["test patients"] = scores["patients"]
        dice: dict[str, list[float]] = {}
        for key, value in means.items():
            kind, where, *_ = key.split("/")
            network, _, tested = where.rpartition("->")
            if kind == "dice" and network in ("", tested):
                dice.setdefault(tested, []).append(value)
            elif kind == "mae":
                rows[f"error {where}"] = round(value, 3)
            elif kind == "mae_untranslated":
                rows[f"error {where}, as it is"] = round(value, 3)
        found[name] = rows | {f"Dice {m}": round(float(np.mean(values)), 3) for m, values in dice.items()}
    return pd.DataFrame(found)
