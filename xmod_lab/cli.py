"""`xmod-lab`: thin commands over the library. A LabError ends in one line and exit code 1, without a traceback."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from xmod_lab import __version__
from xmod_lab.data.cli import app as data_app
from xmod_lab.errors import LabError
from xmod_lab.series.cli import app as series_app

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="The open laboratory for cross-modality medical imaging."
)
export_app = typer.Typer(no_args_is_help=True, help="Write a run's data in another program's layout.")
bench_app = typer.Typer(no_args_is_help=True, help="Train and score a named grid of runs.")
app.add_typer(data_app, name="data")
app.add_typer(series_app, name="series")
app.add_typer(bench_app, name="bench")
app.add_typer(export_app, name="export")

Set = Annotated[list[str] | None, typer.Option("--set", help="config field of the method, field=value; repeatable")]


def _settings(pairs: list[str] | None) -> tuple[tuple[str, str], ...]:
    found = []
    for pair in pairs or []:
        key, sign, value = pair.partition("=")
        if not sign or not key:
            raise LabError(f"--set {pair!r} is not of the form field=value")
        found.append((key, value))
    return tuple(sorted(found))


@app.command()
def methods() -> None:
    """List every method: what it offers, ablations, parameters and where it comes from."""
    from rich.console import Console
    from rich.table import Table

    from xmod_lab.catalogue import method_rows

    table = Table(title="Methods (parameters at lesson size on the data set named)")
    rows = method_rows()
    for column in rows[0]:
        justify: Literal["left", "right"] = "right" if column == "parameters" else "left"
        table.add_column(column, justify=justify, overflow="fold", no_wrap=column == "method")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console(width=max(Console().width, 120)).print(table)


@app.command()
def train(
    method: Annotated[str, typer.Argument(help="name from `xmod-lab methods`")],
    dataset: Annotated[str, typer.Option(help="key from `xmod-lab data list`")] = "brain_tumour",
    task: Annotated[str | None, typer.Option(help="default: the data set's default task")] = None,
    profile: Annotated[str, typer.Option(help="smoke, lesson, long, study or paper")] = "lesson",
    seed: int = 0,
    fold: int = 0,
    preset: Annotated[
        str, typer.Option(help="default, printed (the paper) or official (the authors' code)")
    ] = "default",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    settings: Set = None,
) -> None:
    """Train and score one run, or find it finished. Under torchrun it trains on all processes."""
    from xmod_lab import device as dev
    from xmod_lab.runs import RunSpec, ensure_run

    spec = RunSpec(method, dataset, task, profile, fold, seed, _settings(settings), preset)
    run = ensure_run(spec, device=device)
    if dev.rank() == 0:
        print(f"{spec}\n{run.folder}")
        if run.scores()["demonstration"]:
            print("DEMONSTRATION: too few patients, no score counts")
        for name, value in run.scores().get("means", {}).items():
            if name.startswith(("dice/", "mae/", "ssim/")):
                print(f"  {name:<40} {value:.3f}")
    dev.leave_group()


@app.command()
def evaluate(
    predictions: Annotated[Path, typer.Option(help="folder of NIfTI masks, one a patient")],
    truth: Annotated[Path | None, typer.Option(help="folder of true masks with the same names")] = None,
    dataset: Annotated[str | None, typer.Option(help="or the data set whose labels are the truth")] = None,
    task: Annotated[str | None, typer.Option(help="task of the data set, for its classes")] = None,
    modality: Annotated[str | None, typer.Option(help="modality that was segmented")] = None,
    missing: Annotated[str, typer.Option(help="rule for a missing structure: diagonal, cap or nan")] = "diagonal",
    cap: Annotated[float, typer.Option(min=0, help="distance of a missing structure under --missing cap")] = 50.0,
    stored_values: Annotated[
        bool, typer.Option(help="the masks hold the label values of the data set's own files, not the task's classes")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="write the rows there (.csv)")] = None,
) -> None:
    """Score anybody's masks: Dice, precision, sensitivity, specificity, RAVD, HD, HD95, ASD, ASSD by patient.

    With --dataset they hold the task's class numbers 1, 2, ... or, with --stored-values, those of the data set's files.
    """
    from xmod_lab.data.manifest import dataset as entry
    from xmod_lab.evaluate.folder import evaluate_folder
    from xmod_lab.evaluate.tables import summarise, to_markdown

    data = entry(dataset) if dataset else None
    rule = {"missing": missing, "cap": cap, "stored_values": stored_values}
    rows = evaluate_folder(predictions, truth, data=data, modality=modality, task=task, out=out, **rule)  # type: ignore[arg-type]
    if data is not None and not stored_values:
        chosen = data.task(task)
        print("read as " + ", ".join(f"{i} = {name}" for i, name in enumerate(chosen.classes, start=1)))
    print(to_markdown(summarise(rows)))


@bench_app.command("run")
def bench_run(
    suite: Annotated[str, typer.Option(help="name of the grid: smoke, lesson, adaptation-lesson ...")] = "smoke",
    jobs: Annotated[int, typer.Option(min=1, help="runs side by side; each gets its share of the threads")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    scheduler: Annotated[
        str | None, typer.Option(help="address of a Dask scheduler: its workers train, as many at a time as they can")
    ] = None,
) -> None:
    """Train and score every run of a suite, skipping what is done. Stop it at any time; it continues."""
    from xmod_lab.bench import run_suite

    raise typer.Exit(run_suite(suite, jobs, device, scheduler))


@bench_app.command("report")
def bench_report(
    suite: Annotated[str, typer.Option(help="name of the grid")] = "smoke",
    out: Annotated[Path | None, typer.Option(help="also write the rows there: .csv, .md or .tex")] = None,
    record: Annotated[Path | None, typer.Option(help="also write SUITE.csv and its provenance to this folder")] = None,
) -> None:
    """Print the table of a suite; a row without a run says "not run". Of several grids each is recorded by itself."""
    from xmod_lab.bench import tables
    from xmod_lab.bench.suites import parts

    print(tables.report(suite, out))
    if record is not None:
        for part in parts(suite):
            print(f"recorded in {tables.record(part, record)}")


@bench_app.command("export")
def bench_export(
    out: Annotated[Path, typer.Option(help="folder for the tables, one below it a suite")],
    results: Annotated[Path, typer.Option(help="folder of the recorded suites")] = Path("results"),
    suite: Annotated[list[str] | None, typer.Option(help="of this suite, as often as needed; default: all")] = None,
) -> None:
    """Every table of the recorded suites, claims and verdicts too, as CSV, Markdown and LaTeX."""
    from xmod_lab.bench.export import export_suites

    for name, tables in export_suites(out, results, suite or []).items():
        print(f"{out / name}: {tables} table{'s' * (tables > 1)}")


@export_app.command("nnunet")
def export_nnunet(
    run: Annotated[Path, typer.Argument(help="run folder, as `xmod-lab train` prints it")],
    out: Annotated[Path, typer.Option(help="folder of raw data sets (nnUNet_raw); nothing in it is overwritten")],
    first: Annotated[int, typer.Option(help="number of the first data set; each modality has one")] = 501,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
) -> None:
    """nnU-Net v2: a data set a modality, with the synthetic siblings of a run that translates as further channels."""
    from xmod_lab.export import export_nnunet as write
    from xmod_lab.runs import run_at

    for folder in write(run_at(run), out, first=first, device=device):
        print(folder)


@app.command()
def explore(
    run: Annotated[str, typer.Option(help="the run that it starts with, by its name in the explorer")] = "",
    port: Annotated[int, typer.Option(help="where the page is served, on this machine alone")] = 8866,
    browser: Annotated[bool, typer.Option(help="open it")] = True,
) -> None:
    """The explorer of maps as a page of its own: any finished run, any test patient, until you stop it."""
    from xmod_lab.view.serve import serve

    raise typer.Exit(serve(port, run, browser))


@app.command()
def site(
    run: Annotated[
        list[Path] | None, typer.Option(help="folder of a series run, as often as needed; the newest if not given")
    ] = None,
    results: Annotated[Path, typer.Option(help="folder of the recorded suites")] = Path("results"),
    out: Annotated[Path, typer.Option(help="the site; replaced if it is one")] = Path("site"),
    main: Annotated[
        bool, typer.Option("--main", help="only the main pages, of phantoms, small: a copy that a repository can keep")
    ] = False,
) -> None:
    """Executed notebooks, gallery, atlas and recorded tables as a static web site that needs no network."""
    from xmod_lab.site.build import build, newest

    built = build(run or [newest()], results, out, brief=main)
    failed = f", failed: {', '.join(built.failed)}" if built.failed else ""
    size = f"{built.size / 1e6:.1f} MB"
    print(f"{built.notebooks} notebooks{failed}; {built.records} recorded suites; {size}\n{built.home}")


@app.command()
def doctor() -> None:
    """Versions, device, precision that pays, widgets, browser, disk: what is missing and how to get it."""
    from xmod_lab.doctor import main as check

    raise typer.Exit(check())


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def main() -> None:
    """Entry point: LabErrors become one line on stderr and exit code 1."""
    try:
        app()
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("stopped; run the same command again to continue", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
