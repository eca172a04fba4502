"""What `xmod-lab data list`, `info` and `verify` print."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from xmod_lab.data.check import Report, how_to_get
from xmod_lab.data.schema import Dataset, LabelFiles, Task
from xmod_lab.data.volume import patients
from xmod_lab.errors import LabError


def present(data: Dataset) -> dict[str, int]:
    """Modality -> number of patients that have a file of it."""
    found = {}
    for modality in data.modalities:
        try:
            found[modality] = len(patients(data, modality))
        except LabError:
            found[modality] = 0
    return found


def listing(entries: Iterable[Dataset]) -> Table:
    """One row per data set: key, modalities, patients present, access, licence."""
    table = Table(title="Data sets", caption="`xmod-lab data info KEY` tells more")
    for column in ("key", "modalities", "patients here", "access", "licence"):
        table.add_column(column, overflow="fold")
    for data in entries:
        counts = present(data)
        here = _counts(counts) if any(counts.values()) else "-"
        table.add_row(data.key, " ".join(data.modalities), here, data.access, escape(data.licence))
    return table


def _counts(counts: dict[str, int]) -> str:
    if len(set(counts.values())) == 1:
        return str(next(iter(counts.values())))
    return ", ".join(f"{modality} {count}" for modality, count in counts.items())


def information(data: Dataset) -> RenderableType:
    """Everything the manifest says, how to get it, where it lies and what is there."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    counts = present(data)
    for name, value in (
        ("title", data.title),
        ("licence", data.licence),
        ("citation", data.citation),
        ("homepage", data.homepage),
        ("access", data.access + (f" of {', '.join(data.parts)}" if data.parts else "")),
        ("folder", str(data.folder)),
        ("patients here", _counts(counts) if any(counts.values()) else f"none; {how_to_get(data)}"),
        ("modalities are", data.relation.replace("_", " ")),
        ("distances in", "voxels, since the voxel size was lost" if data.unit == "voxel" else "mm"),
        ("axes", f"{data.orientation} (the files do not say)" if data.orientation else ""),
        ("demonstration", "too few patients: they may be reused, and no score counts" if data.demonstration else ""),
        ("notes", data.notes),
    ):
        if value:
            facts.add_row(name, escape(value))
    return Group(facts, *_steps(data), _layout(data), _tasks(data))


def _steps(data: Dataset) -> list[RenderableType]:
    if data.files:
        known = sum(file.sha256 is not None for file in data.files)
        text = (
            f"\n{len(data.files)} files to fetch, hash known of {known} (the others are locked at the first download)"
        )
        return [Text(text), *(Text(f"  {file.path}  {file.urls[0]}", overflow="fold") for file in data.files)]
    return (
        [Text("\nHow to obtain it"), *(Text(f"  {n}. {step}") for n, step in enumerate(data.steps, 1))]
        if data.steps
        else []
    )


def _layout(data: Dataset) -> Table:
    table = Table(title="Layout below the folder", title_justify="left")
    for column in ("modality", "kind", "image", "label", "values"):
        table.add_column(column, overflow="fold")
    for name, modality in data.modalities.items():
        files = modality.label or data.label
        table.add_row(name, modality.kind, modality.pattern, *_label_texts(files))
    return table


def _label_texts(files: LabelFiles | None) -> tuple[str, str]:
    if files is None:
        return "none", ""
    note = "" if files.manual else " (not manual)"
    if files.masks:
        return "\n".join(files.masks.values()) + note, "one mask a structure"
    return str(files.pattern) + note, ", ".join(f"{value} {name}" for value, name in files.values.items())


def _tasks(data: Dataset) -> Table:
    table = Table(title="Tasks", title_justify="left")
    for column in ("task", "what", "labelled", "unlabelled", "tested", "classes", "recipe"):
        table.add_column(column, overflow="fold")
    for name, task in data.tasks.items():
        shown = f"{name} (default)" if name == data.default_task else name
        table.add_row(
            shown,
            escape(task.title),
            " ".join(task.labelled),
            " ".join(task.unlabelled),
            " ".join(task.tested),
            _classes(task),
            task.recipe + (f", registered to {task.register}" if task.register else ""),
        )
    return table


def _classes(task: Task) -> str:
    lines = [name if members == [name] else f"{name}: {'+'.join(members)}" for name, members in task.classes.items()]
    return ", ".join([*lines, *(f"[{name}]" for name in task.regions)]).replace("[", "\\[")


def verification(report: Report) -> RenderableType:
    """A table of patients, then every problem in full."""
    data = report.data
    table = Table(title=f"{data.key} in {data.folder}")
    for column in ("patient", *data.modalities, "voxel", "structures (voxels)", "state"):
        table.add_column(column, overflow="fold")
    for patient in report.patients:
        shapes = ["x".join(map(str, patient.shapes[m])) if m in patient.shapes else "-" for m in data.modalities]
        spacing = " ".join(f"{s:.3g}" for s in patient.spacing) if patient.spacing and data.unit == "mm" else "unknown"
        structures = ", ".join(f"{name} {count}" for name, count in patient.voxels.items())
        state = "[green]ok[/]" if not patient.problems else f"[red]wrong ({len(patient.problems)})[/]"
        table.add_row(patient.patient, *shapes, spacing, structures, state)
    problems = report.all_problems
    known = sum(file.sha256 is not None and not file.unpack for file in data.files)
    end = Text(
        f"patients: {len(report.patients)}, checksums compared: {known}, problems: {len(problems)}",
        style="red" if problems else "green",
    )
    return Group(table, *(Text(f"- {problem}", style="red") for problem in problems), end)
