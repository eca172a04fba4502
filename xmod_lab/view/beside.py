"""Runs of one method side by side on the same slice of the same patient: a lesson's own beside the shipped one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from xmod_lab.data.manifest import dataset
from xmod_lab.data.volume import patients
from xmod_lab.errors import LabError
from xmod_lab.evaluate.regions import correlation
from xmod_lab.evaluate.runs import fullest, network_for
from xmod_lab.files import read_json
from xmod_lab.maps import TRAINED
from xmod_lab.profiles import profile_of
from xmod_lab.shipped import shipped_like
from xmod_lab.showing import case_of, showing
from xmod_lab.view.atlas import case_view, labelled_slices
from xmod_lab.view.layers import Layer
from xmod_lab.view.maps import DIVERGING
from xmod_lab.view.pairwise import _cross
from xmod_lab.view.query_figure import ends_of
from xmod_lab.view.query_state import window_of
from xmod_lab.view.query_table import shares_of
from xmod_lab.view.query_view import QueryView
from xmod_lab.view.slices import _grid, _legend, _row_name, draw_contours, draw_slice, slice_dice
from xmod_lab.view.style import COLOURS, SCALE, colours_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from xmod_lab.runs import Run

def beside_shipped(run: Run, modality: str, map_: str) -> tuple[Figure, pd.DataFrame]:
    """A notebook's run beside the weights of its method that come with the package, where there are others of its
    task: the figure of `beside` and the table of `record_table`. Says so where there are none."""
    more = {name: one for name, one in shipped_like(run).items() if one.spec != run.spec}
    if not more:
        print(f"No other weights of {run.spec.method} on {run.spec.dataset}/{run.spec.task_name} are shipped.")
    pair = {"this notebook": run} | more
    return beside(pair, modality, map_), record_table(pair)


def beside(runs: Mapping[str, Run], modality: str, map_: str) -> Figure:
    """A row a run: a test slice with the truth, with what the run finds in it, its translations, and one of its maps.

    runs: finished ones of one method, data set and task by name. map_: as the atlas names it (`atlas.panel_of`):
    of positions the row of the lesion's centre, of a stack the map that goes most with the labelled structures; on one
    scale for all runs, on the slice or else on its first translation. Images of a column have one window. The patient
    is one whom all runs test, or else one of the last run's, and the title says who trained on him; of these the one
    nearest to the last run's median Dice.

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
    patient = _middle(runs[list(runs)[-1]], modality, sorted(set.intersection(*able) or able[-1]))
    rows: dict[str, Row] = {}
    at = None
    for name, run in runs.items():
        method, case = run.method().eval(), case_of(data[name], patient, modality)
        at = int(fullest(case, 1)[0]) if at is None else at
        view = case_view(method, data[name], case, [at], select=(f"{map_}/*",)).set(map=map_)
        if rows:  # the same place of slices of another size
            first = next(iter(rows.values())).view
            (_, *edges), (_, *others) = view.shape, first.shape
            row, column = (int((p + 0.5) * a / b) for p, a, b in zip(first.state.query, edges, others, strict=True))
            view.set(query=(row, column))
        panel = modality if modality in view.maps[map_] else next(iter(view.maps[map_]))
        layer, truth = view.maps[map_][panel], view.labels.get(modality)
        if layer.kind == "stack" and truth is not None:
            view.set(index=_telling(layer.values[0], truth[0]))
        mask = None
        if data[name].classes and callable(getattr(method, "segment", None)):
            image = labelled_slices(case, [at]).image.to(next(method.parameters()).device)
            with torch.no_grad():
                mask = method.segment(image, network_for(method, modality)).argmax(1)[0].cpu().numpy()  # type: ignore[operator]
        rows[name] = Row(view, panel, mask)
    learned = [name for name, run in runs.items() if patient in _trained_on(run)]
    of = "; ".join(f"{name}: {run.spec.profile}, fold {run.spec.fold}" for name, run in runs.items())
    title = f"{modality} of {patient}, slice {at}" + (f"; {' and '.join(learned)} trained on it" if learned else "")
    return _drawn(rows, modality, f"{title} ({of})")


class Row(NamedTuple):
    """A run's: the view with its map and query set, the image that the map lies on, and what is found, if asked."""

    view: QueryView
    panel: str
    mask: np.ndarray | None

    @property
    def layer(self) -> Layer:
        """The map."""
        return self.view.maps[self.view.state.map][self.panel]

    @property
    def values(self) -> np.ndarray:
        """What is shown of it."""
        return self.view.shown()[TRAINED][self.panel]

    @property
    def which(self) -> str:
        """The name of the map of a stack."""
        if self.layer.kind != "stack":
            return ""
        return (self.layer.names or tuple(map(str, range(1, 1 + self.layer.values.shape[1]))))[self.view.state.index]


def _middle(run: Run, modality: str, names: Sequence[str]) -> str:
    """Of some patients the one whose mean Dice in a run's record is nearest to its median over all; else the first."""
    if not (run.folder / "scores.csv").is_file():
        return names[0]
    table = run.table()
    dice = table[table["modality"] == modality].groupby("patient")["dice"].mean()
    far = (dice - dice.median()).abs().reindex(list(names)).dropna()
    return str(far.idxmin()) if len(far) else names[0]


def _trained_on(run: Run) -> set[str]:
    """Patients that a run learned from."""
    return {name for names in read_json(run.folder / "inputs.json")["patients"]["train"].values() for name in names}


def _drawn(rows: Mapping[str, Row], modality: str, title: str) -> Figure:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    first = next(iter(rows.values()))
    view, masked = first.view, any(row.mask is not None for row in rows.values())
    targets = [panel for panel in view.images if panel != modality]
    named = view.state.map if first.panel == modality else f"{view.state.map}, {first.panel}"
    titles, colours = ["slice, truth", *(["found"] if masked else []), *targets, named], colours_of(view.classes)
    signed = any(row.layer.signed for row in rows.values())
    values = {name: {"": row.values} for name, row in rows.items()}
    ends = next(iter(ends_of(values, "symmetric" if signed else "shared").values()))
    norm, table = Normalize(*ends), DIVERGING if signed else SCALE
    figure, axes = _grid(len(rows), len(titles), title, extra=0.3 * bool(colours) + 0.2 * masked)
    figure.set_size_inches(figure.get_figwidth() + 0.9, figure.get_figheight())  # the colour bar
    for text, axis in zip(titles, axes[0], strict=True):
        axis.set_title(text, fontsize=9)
    for line, (name, row) in zip(axes, rows.items(), strict=True):
        _, height, width = row.view.shape
        for axis, panel in zip(line, [modality, *([modality] if masked else []), *targets], strict=False):
            every = [window_of(one.view, panel) for one in rows.values()]
            window = (min(low for low, _ in every), max(high for _, high in every))
            draw_slice(axis, row.view.images[panel][0], window=window)
        truth = row.view.labels.get(modality)
        if truth is not None:
            draw_contours(line[0], truth[0], colours)
        if row.mask is not None:
            draw_contours(line[1], row.mask, colours)
            if truth is not None:
                dice = np.nanmean(list(slice_dice(row.mask, truth[0], row.view.classes).values()))
                line[1].set_title("\n".join(filter(None, [line[1].get_title(), f"Dice here {dice:.2f}"])), fontsize=9)
        # a map has other cells than the slice has pixels
        extent = (-0.5, width - 0.5, height - 0.5, -0.5)
        line[-1].imshow(row.values, cmap=table, norm=norm, extent=extent)
        line[-1].set_title("\n".join(filter(None, [line[-1].get_title(), row.which])), fontsize=9)
        if row.layer.kind == "positions":
            for axis in (line[0], line[-1]):
                _cross(axis, row.view.state.query, COLOURS[3])
        _row_name(line[0], name)
    figure.colorbar(ScalarMappable(norm, table), ax=list(axes.flat), shrink=0.8, aspect=30, pad=0.01,
                    label=first.layer.unit or view.state.map)  # fmt: skip
    _legend(figure, colours)
    return figure


def _telling(maps: np.ndarray, labels: np.ndarray) -> int:
    """Which of the maps (K, u, v) goes most with the labelled structures (h, w): by the size of their correlation."""
    inside = 1 - shares_of(labels, int(labels.max()), (maps.shape[1], maps.shape[2]))[0]
    found = [abs(correlation(one.ravel(), inside.ravel())) for one in maps]
    return int(np.argmax(np.nan_to_num(found)))


def record_table(runs: Mapping[str, Run]) -> pd.DataFrame:
    """What finished runs of one method recorded, a column a run: profile, fold, steps, test patients, mean Dice of the
    structures that the task reports in each modality (by its own network), and mean error of each translation, as a
    share of the range."""
    import pandas as pd

    found = {}
    for name, run in runs.items():
        scores, means = run.scores(), run.scores()["means"]
        task = dataset(run.spec.dataset).task(run.spec.task_name)
        reported = task.reported or list(task.classes)
        rows: dict[str, object] = {"profile": run.spec.profile, "fold": run.spec.fold}
        rows |= {"steps": profile_of(run.spec.profile).steps, "test patients": scores["patients"]}
        dice: dict[str, list[float]] = {}
        for key, value in means.items():
            kind, where, *structure = key.split("/")
            network, _, tested = where.rpartition("->")
            if kind == "dice" and network in ("", tested) and structure[0] in reported:
                dice.setdefault(tested, []).append(value)
            elif kind == "mae":
                rows[f"error {where}"] = round(value, 3)
            elif kind == "mae_untranslated":
                rows[f"error {where}, as it is"] = round(value, 3)
        found[name] = rows | {f"Dice {m}": round(float(np.mean(values)), 3) for m, values in dice.items()}
    return pd.DataFrame(found)
