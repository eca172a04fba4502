"""`xmod-lab series run | check | exercises | html | lint`.

Exit codes: 0 ok, 1 a notebook failed, 2 usage, 3 scores differ, 4 nothing ran.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xmod_lab.errors import LabError

if TYPE_CHECKING:
    from xmod_lab.series.expected import Difference
    from xmod_lab.series.run import Job, Result, Watch

app = typer.Typer(help="Run, check and export the notebooks of the series.", no_args_is_help=True)

Names = Annotated[list[str] | None, typer.Argument(help="Notebooks: 01, 01_data_prep or a beginning. Default: all.")]
Notebooks = Annotated[Path | None, typer.Option(help="Folder of the notebooks, if not the project's own.")]
Expected = Annotated[Path | None, typer.Option("--expected", help="File of expected scores, if not the project's own.")]
Update = Annotated[bool, typer.Option("--update-expected", help="Write the recorded scores and show what changed.")]


@contextlib.contextmanager
def _usage() -> Iterator[None]:
    try:
        yield
    except LabError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error


@app.command()
def run(
    names: Names = None,
    profile: Annotated[str, typer.Option(help="smoke, lesson, long, study or paper")] = "smoke",
    dataset: Annotated[str | None, typer.Option(help="Data set instead of each notebook's own.")] = None,
    jobs: Annotated[int, typer.Option(help="Notebooks at a time; 0 chooses.", min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder of this run. Default: a new one below series/.")] = None,
    runs: Annotated[Path | None, typer.Option(help="Run folders to use and to add to. Default: OUT/runs.")] = None,
    parameter: Annotated[
        list[str] | None, typer.Option("-p", "--parameter", help="name=value, as often as needed")
    ] = None,
    limit: Annotated[float | None, typer.Option(help="Seconds a notebook. Default: 5 times its budget.", min=1)] = None,
    cell_timeout: Annotated[float | None, typer.Option(help="Seconds a cell. Default: as a notebook.", min=1)] = None,
    memory: Annotated[float | None, typer.Option(help="GB a notebook may hold. Default: no limit.", min=0.1)] = None,
    export: Annotated[
        bool, typer.Option("--export", help="Keep figures (PNG, SVG) and tables (CSV, Markdown, LaTeX) as files.")
    ] = False,
    notebooks: Notebooks = None,
    expected_file: Expected = None,
    update_expected: Update = False,
) -> None:
    """Execute notebooks, prove that they ran, compare their scores, and write HTML, JUnit XML and report.json."""
    with _usage():
        from xmod_lab.device import commit
        from xmod_lab.profiles import profile_of
        from xmod_lab.series import page, report
        from xmod_lab.series import run as runner

        profile_of(profile)
        extra = dict(_pair(text) for text in parameter or [])
        planned = runner.plan(names or [], profile, dataset, extra, notebooks)
        workers = min(jobs or runner.default_jobs(profile, len(planned)), len(planned))
        out = out or runner.default_out()
        began, date = time.monotonic(), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        with _progress(planned) as watch:
            results = runner.execute(
                planned, out, runs=runs, workers=workers, limits=runner.Limits(limit, cell_timeout, memory),
                watch=watch, export=export,
            )  # fmt: skip
        about: dict[str, Any] = {
            "profile": profile, "dataset": dataset, "parameters": extra, "jobs": workers,
            "seconds": round(time.monotonic() - began, 2), "date": date, "commit": commit(),
        }  # fmt: skip
        if notebooks is not None and expected_file is None:  # other notebooks have other numbers
            expected_file = notebooks / "expected" / f"{profile}.json"
        lines, differences = _compare(results, profile, expected_file, update_expected)
        report.write(out, results, differences, about)
        index = page.pages(out, results, about, differences)
    for result in results:
        typer.echo(report.line(result))
    for result in results:
        if result.status == "fail":
            typer.echo(f"\n{result.name} failed: {result.reason}\n{result.detail}\nIts output: {out / result.name}")
    if export:
        lines.append(f"figures and tables: {out / '*' / 'export'}")
    typer.echo("\n".join(["", *lines, *differences]).rstrip() + f"\nHTML: {index}")
    raise typer.Exit(report.exit_code(results, differences))


@app.command()
def check(
    place: Annotated[Path, typer.Argument(help="Folder of a series run, or its report.json.")],
    expected_file: Expected = None,
    update_expected: Update = False,
) -> None:
    """Compare the scores of a finished run with the expected ones."""
    with _usage():
        from xmod_lab.series import report

        about, results = report.read(place)
        path = _expected_file(about["profile"], expected_file)
        if not update_expected and (path is None or not path.is_file()):
            raise LabError("no expected scores", where=path and path.name, mend="write them with --update-expected")
        lines, differences = _compare(results, about["profile"], expected_file, update_expected)
    typer.echo("\n".join([*lines, *differences]))
    raise typer.Exit(report.exit_code(results, differences))


@app.command()
def exercises(
    check_only: Annotated[bool, typer.Option("--check", help="Write nothing; fail if a file is not current.")] = False,
    notebooks: Notebooks = None,
) -> None:
    """Write the students' versions of all notebooks with exercises into notebooks/exercises."""
    with _usage():
        from xmod_lab.series import exercises as builder
        from xmod_lab.series import source

        changed = builder.build(notebooks or source.folder(), write=not check_only)
    for name in changed:
        typer.echo(f"{'not current' if check_only else 'written'}: exercises/{name}")
    if check_only and changed:
        typer.echo("run: xmod-lab series exercises", err=True)
        raise typer.Exit(1)
    if not changed:
        typer.echo("all exercises are current")


@app.command()
def html(place: Annotated[Path, typer.Argument(help="Folder of a series run, or one executed notebook.")]) -> None:
    """Write HTML again: all pages and the index of a run, or one notebook's page beside it."""
    with _usage():
        from xmod_lab.series import page, report

        if place.suffix == ".ipynb":
            index = place.with_suffix(".html")
            page.notebook_page(place, index)
        else:
            about, results = report.read(place)
            index = page.pages(place, results, about, about["differences"])
    typer.echo(f"HTML: {index}")


@app.command()
def lint(names: Names = None, notebooks: Notebooks = None) -> None:
    """Check that notebooks follow the skeleton: tags, sizes, no outputs, no absolute paths, clean code."""
    with _usage():
        from xmod_lab.series import lint as linter
        from xmod_lab.series import source

        chosen = source.find(names or [], notebooks)
        problems = linter.lint([notebook.path for notebook in chosen])
    for problem in problems:
        typer.echo(problem)
    typer.echo(f"{len(chosen)} notebook(s), {len(problems)} problem(s)")
    raise typer.Exit(1 if problems else 0)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise LabError(f"-p {text!r} is not name=value")
    return name, value


def _expected_file(profile: str, given: Path | None) -> Path | None:
    from xmod_lab.series import expected

    return given or expected.file_of(profile)


def _compare(results: list[Result], profile: str, given: Path | None, update: bool) -> tuple[list[str], list[str]]:
    """Lines to print, and the differences that remain."""
    from xmod_lab.series import expected, report

    path, recorded = _expected_file(profile, given), report.recorded(results)
    lines = [
        f"{r.name}: not the data set and parameters it comes with, so nothing is compared"
        for r in results
        if r.status == "pass" and not r.comparable
    ]
    if path is None or not recorded:
        return lines, []
    if update:
        changed: list[Difference] = expected.update(path, recorded)
        return [*lines, expected.table(changed) if changed else "expected scores: nothing changed"], []
    if not path.is_file():
        return [*lines, f"no expected scores for the {profile} profile yet (--update-expected writes them)"], []
    differences = [str(d) for d in expected.compare(recorded, expected.load(path))]
    if not differences:
        lines.append(f"{sum(map(len, recorded.values()))} score(s) as expected")
    return lines, differences


@contextlib.contextmanager
def _progress(planned: list[Job]) -> Iterator[Watch]:
    """A live bar a notebook in a terminal; plain lines elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from xmod_lab.series import report
    from xmod_lab.series.run import Watch

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        total = bars.add_task("notebooks", total=len(planned))
        tasks: dict[str, Any] = {}

        def began(name: str, cells: int) -> None:
            tasks[name] = bars.add_task(f"  {name}", total=cells)

        def ended(result: Result) -> None:
            if result.name in tasks:
                bars.remove_task(tasks[result.name])
            bars.advance(total)
            if not console.is_terminal:
                typer.echo(report.line(result), err=True)

        yield Watch(began, lambda name, cell: bars.update(tasks[name], completed=cell), ended)
