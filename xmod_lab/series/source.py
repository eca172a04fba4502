"""Notebooks on disk: which there are, what they declare.

A notebook declares its parameters in the cell tagged ``parameters``, one typed line each
(``profile: str = "lesson"  # smoke, lesson, long, study or paper``), and the rest in its metadata:

    "xmod": {"needs": ["gpu", "data:lgg"],            what must be there, or it is reported as not run
             "budget": {"smoke": 60, "lesson": 600},  seconds it should take
             "datasets": ["brain_tumour", "lgg"]}     data sets it is made for (left out: any)
"""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path
from typing import Any

from xmod_lab import paths
from xmod_lab.errors import LabError
from xmod_lab.series.light import nbformat

BUDGET = {"smoke": 60.0, "lesson": 900.0, "long": 4 * 3600.0, "study": 4 * 3600.0, "paper": 7 * 24 * 3600.0}
"""Seconds a notebook may take in each profile unless its metadata says otherwise."""


@dataclasses.dataclass(frozen=True)
class Parameter:
    annotation: str
    default: Any


@dataclasses.dataclass(frozen=True)
class Source:
    """One notebook of the series."""

    path: Path
    nb: Any
    parameters: dict[str, Parameter]
    needs: tuple[str, ...]
    budget: dict[str, float]
    datasets: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def title(self) -> str:
        """The first heading, without its marks."""
        for cell in self.nb.cells:
            for line in cell.source.splitlines():
                if cell.cell_type == "markdown" and line.startswith("# "):
                    return line[2:].strip()
        return self.name


def folder() -> Path:
    """Where the notebooks of this checkout lie. Raises LabError outside a checkout."""
    root = paths.checkout()
    if root is None:
        raise LabError(
            "the notebooks are not part of an installed package", mend="run inside a checkout of the project"
        )
    return root / "notebooks"


def tags(cell: Any) -> list[str]:
    return list(cell.metadata.get("tags", []))


def tagged(nb: Any, tag: str) -> list[Any]:
    return [cell for cell in nb.cells if tag in tags(cell)]


def read(path: str | Path) -> Source:
    """Read and check one notebook. Raises LabError for a file that is none and for metadata that is not as above."""
    path = Path(path)
    try:
        nb = nbformat.read(path, as_version=4)
    except Exception as error:
        raise LabError(f"not a notebook ({type(error).__name__})", where=path.name, mend="restore it") from error
    meta = nb.metadata.get("xmod", {})
    if unknown := set(meta) - {"needs", "budget", "datasets", "generated_from"}:
        raise LabError(f"unknown field xmod.{min(unknown)}", where=path.name, mend="use needs, budget, datasets")
    needs = tuple(meta.get("needs", []))
    for need in needs:
        if need != "gpu" and not need.startswith(("data:", "run:")):
            raise LabError(f"unknown need {need!r}", where=path.name, mend="write gpu, data:<key> or run:<...>")
    budget = dict(meta.get("budget", {}))
    if unknown := set(budget) - set(BUDGET):
        raise LabError(f"budget of unknown profile {min(unknown)!r}", where=path.name, mend=f"use {', '.join(BUDGET)}")
    return Source(path, nb, parameters_of(nb, path.name), needs, BUDGET | budget, tuple(meta.get("datasets", [])))


def parameters_of(nb: Any, where: str) -> dict[str, Parameter]:
    """What the ``parameters`` cell declares. Raises LabError for lines that are not ``name: type = literal``."""
    found: dict[str, Parameter] = {}
    for cell in tagged(nb, "parameters"):
        try:
            for line in ast.parse(cell.source).body:
                if not isinstance(line, ast.AnnAssign) or not isinstance(line.target, ast.Name) or line.value is None:
                    raise ValueError(f"line {line.lineno}")
                found[line.target.id] = Parameter(ast.unparse(line.annotation), ast.literal_eval(line.value))
        except (SyntaxError, ValueError) as error:
            mend = "write each parameter as `name: type = value  # what it is`"
            raise LabError(f"the parameters cell cannot be read ({error})", where=where, mend=mend) from error
    return found


def find(names: list[str], notebooks: Path | None = None) -> list[Source]:
    """The notebooks that `names` choose, all if empty, in order: a full name, a number (``01``) or a beginning.

    Raises LabError listing what there is if a name chooses nothing.
    """
    notebooks = notebooks or folder()
    files = {path.stem: path for path in sorted(notebooks.glob("[0-9]*_*.ipynb"))}
    if not files:
        raise LabError("no notebooks", where=notebooks.name, mend="they are named like 01_data_prep.ipynb")
    chosen = set() if names else set(files)
    for name in names:
        stem = Path(name).name.removesuffix(".ipynb")
        hits = {full for full in files if full == stem or full.split("_")[0] == stem}
        hits = hits or {full for full in files if stem and full.startswith(stem)}
        if not hits:
            raise LabError(f"no notebook {name!r}", mend=f"there are {', '.join(files)}")
        chosen |= hits
    return [read(files[stem]) for stem in sorted(chosen)]


def typed(name: str, text: str, parameter: Parameter) -> Any:
    """`text` from the command line as the value of a parameter of type bool, int, float, str, or one of these | None.

    Raises LabError if it is none.
    """
    kinds = [part.strip() for part in parameter.annotation.split("|")]
    if "None" in kinds and text.lower() == "none":
        return None
    for kind in kinds:
        try:
            if kind == "bool" and text.lower() in ("true", "false"):
                return text.lower() == "true"
            if kind == "int":
                return int(text)
            if kind == "float":
                return float(text)
            if kind == "str":
                return text
            if kind.split("[")[0] in ("list", "tuple", "dict"):
                value = ast.literal_eval(text)
                if type(value).__name__ == kind.split("[")[0]:
                    return value
        except (ValueError, SyntaxError):
            continue
    raise LabError(
        f"parameter {name} is {parameter.annotation}, not {text!r}", mend="see the notebook's parameters cell"
    )
