"""`xmod-lab data ...`. Exit code 1 where something is wrong with the data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(no_args_is_help=True, help="Data sets: what there is, how to get it, whether it is sound.")

Key = Annotated[str, typer.Argument(help="key of a data set, from `xmod-lab data list`")]


@app.command("list")
def list_() -> None:
    """List every data set: modalities, patients present here, access, licence."""
    from rich.console import Console

    from xmod_lab.data.describe import listing
    from xmod_lab.data.manifest import load_manifest

    Console().print(listing(load_manifest().values()))


@app.command()
def info(key: Key) -> None:
    """Tell all about a data set: licence, steps to obtain it, layout, label values, tasks with recipes."""
    from rich.console import Console

    from xmod_lab.data.describe import information
    from xmod_lab.data.manifest import dataset

    Console().print(information(dataset(key)))


@app.command()
def make(
    key: Key,
    subjects: Annotated[int | None, typer.Option(min=1, help="how many, if not the manifest's number")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="how many are made at once")] = 2,
) -> None:
    """Make a phantom."""
    from xmod_lab.data.check import how_to_get
    from xmod_lab.data.manifest import dataset
    from xmod_lab.errors import LabError

    data = dataset(key)
    if data.access != "phantom":
        raise LabError(f"data set {key!r} is real data and cannot be made", where=data.homepage, mend=how_to_get(data))
    from xmod_lab.data.phantoms import make as make_phantom

    typer.echo(f"{key}: {make_phantom(data, subjects=subjects, jobs=jobs, progress=True)}")


@app.command()
def fetch(key: Key) -> None:
    """Download a data set; run it again to continue after an interruption."""
    from xmod_lab.data.fetch import fetch as fetch_data

    typer.echo(f"{key}: {fetch_data(key, say=typer.echo)}")


@app.command()
def convert(
    key: Key,
    source: Annotated[Path, typer.Argument(help="folder with the data set as its keepers hand it out, unpacked")],
) -> None:
    """Turn a data set obtained by hand (DICOM, TIFF, MetaImage ...) into the NIfTI layout the lab reads."""
    from xmod_lab import paths
    from xmod_lab.data.convert import convert as convert_data
    from xmod_lab.data.manifest import dataset
    from xmod_lab.errors import LabError

    data = dataset(key)
    if data.convert is None:
        raise LabError(f"data set {key!r} needs no conversion", mend=f"`xmod-lab data info {key}` shows the layout")
    count = convert_data(data.convert, source, paths.data_home() / key, say=typer.echo)
    typer.echo(f"{key}: {count} patients written to {paths.data_home() / key}")


@app.command()
def verify(key: Key) -> None:
    """Check files, checksums, grids, label values and intensities of every patient."""
    import sys

    from rich.console import Console
    from tqdm.auto import tqdm

    from xmod_lab.data.check import verify as verify_data
    from xmod_lab.data.describe import verification
    from xmod_lab.data.manifest import dataset

    report = verify_data(dataset(key), watch=lambda names: tqdm(names, unit="patient", disable=not sys.stderr.isatty()))
    Console().print(verification(report))
    if report.all_problems:
        raise typer.Exit(1)


@app.command()
def register(
    key: Key,
    task: Annotated[str | None, typer.Option(help="a task that registers; default: the first that does")] = None,
    out: Annotated[Path | None, typer.Option(help="write the rows there (.csv)")] = None,
) -> None:
    """Register the images of every patient of a task, and print what was found: one row a patient.

    A point at x (mm, RAS) in the fixed image lies at R x + t in the moving one; turns are about x, then y, then z. Of
    phantoms, whose motion is known, the error is the mean over the body's voxels, and the angle that remains.
    """
    import sys

    import pandas as pd
    from tqdm.auto import tqdm

    from xmod_lab.data.manifest import dataset
    from xmod_lab.data.registered import registrations
    from xmod_lab.evaluate.tables import export

    data = dataset(key)
    name = task or next((name for name, one in data.tasks.items() if one.register), None)
    rows = pd.DataFrame(registrations(
        data, data.task(name), lambda pairs: tqdm(pairs, unit="pair", disable=not sys.stderr.isatty())
    ))
    typer.echo(rows.round(2).to_string(index=False))
    if out is not None:
        typer.echo(f"written to {export(rows, out)}")


@app.command()
def add(
    folder: Annotated[Path, typer.Argument(help="folder of NIfTI files; it stays where it is")],
    key: Annotated[str | None, typer.Option(help="name of the new data set; default: the folder's")] = None,
    label: Annotated[str | None, typer.Option(help="recurring name of the label files, if it cannot be told")] = None,
    kind: Annotated[Literal["MR", "CT"] | None, typer.Option(help="what all images are, if it cannot be told")] = None,
    like: Annotated[str | None, typer.Option(help="data set whose layout, labels and tasks are taken over")] = None,
) -> None:
    """Add your own NIfTI folder as a data set, after checking every file.

    Layouts: PATIENT/MODALITY.nii.gz, PATIENT/PATIENT_MODALITY.nii.gz, PATIENT_MODALITY.nii.gz, MODALITY_PATIENT.nii.gz,
    and nnU-Net's imagesTr/PATIENT_0000.nii.gz with labelsTr/PATIENT.nii.gz. In a patient's folder, series numbers and
    times between underscores may differ.
    """
    from rich.console import Console

    from xmod_lab.data.add import add as add_folder
    from xmod_lab.data.describe import information, verification
    from xmod_lab.data.manifest import user_manifest

    data, report = add_folder(folder, key=key, label=label, kind=kind, like=like)
    console = Console()
    console.print(verification(report))
    console.print(information(data))
    console.print(f"written to {user_manifest()}; edit names and licence there")
