"""What works on this machine, what is missing, and how to get it: `xmod-lab doctor`."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from xmod_lab import paths
from xmod_lab.errors import LabError

GIB = 2**30
PHANTOM_ROOM, MEMORY_ROOM = 2 * GIB, 4 * GIB
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
MAC_BROWSERS = ("Google Chrome.app/Contents/MacOS/Google Chrome", "Chromium.app/Contents/MacOS/Chromium")


@dataclass(frozen=True)
class Check:
    """One line of the report. `needed` says whether anything stops working when it is not `ok`."""

    name: str
    found: str
    ok: bool = True
    needed: bool = False
    mend: str = ""


def report() -> list[Check]:
    """All checks, in the order they are shown. Takes a few seconds, some more when precision is measured first."""
    return [
        _python(),
        *packages(_requirements(), _pins()),
        _torchvision(),
        *_devices(),
        _memory(),
        _disk(),
        _widgets(),
        _browser(),
        *_data(),
    ]


def main() -> int:
    """Make the report, print it, return the exit code."""
    return show(report())


def show(checks: Iterable[Check]) -> int:
    """Print the checks as a table; return the exit code: 1 if something needed is missing, else 0."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    checks = list(checks)
    table = Table(show_edge=False, pad_edge=False)
    for title in ("", "what", "found", "what to do"):
        table.add_column(title, overflow="fold")
    for check in checks:
        mark = "ok" if check.ok else "missing" if check.needed else "note"
        style = {"ok": "green", "missing": "bold red", "note": "yellow"}[mark]
        table.add_row(Text(mark, style=style), check.name, Text(check.found), Text("" if check.ok else check.mend))
    Console().print(table)
    return int(any(check.needed and not check.ok for check in checks))


def find_browser() -> str | None:
    """Path of a Chromium-like browser (BROWSER_PATH first, as kaleido has it), or None."""
    if named := os.environ.get("BROWSER_PATH"):
        return named if os.access(named, os.X_OK) else None
    found = (shutil.which(name) for name in BROWSERS)
    bundled = (str(Path("/Applications") / name) for name in MAC_BROWSERS)
    return next((path for path in found if path), None) or next((path for path in bundled if Path(path).exists()), None)


def packages(requirements: Iterable[str], pins: dict[str, str]) -> list[Check]:
    """Installed versions against `requirements` (lines as in pyproject.toml) and `pins` (canonical name -> version).

    A requirement that only an extra asks for is not needed. One line sums up what is sound,
    so that the rest stands out.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name
    from packaging.version import Version

    checks, sound, off_pin = [], 0, []
    install = "make setup" if paths.checkout() else 'python -m pip install "xmod-lab[all]"'
    for requirement in map(Requirement, requirements):
        if canonicalize_name(requirement.name) == "xmod-lab":  # the extra `all` names the others
            continue
        extra = requirement.marker is not None and "extra" in str(requirement.marker)
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            found = "not installed" + (" (optional)" if extra else "")
            checks.append(Check(requirement.name, found, ok=False, needed=not extra, mend=install))
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            found = f"{version}, outside {requirement.specifier}"
            checks.append(Check(requirement.name, found, ok=False, needed=not extra, mend=install))
            continue
        sound += 1
        pin = pins.get(canonicalize_name(requirement.name))
        if pin is not None and Version(version).public != pin:  # 2.13.0+cpu is the pinned 2.13.0
            off_pin.append(f"{requirement.name} {version} (pinned {pin})")
    pinned = f", {sound - len(off_pin)} as pinned" if pins else ""
    checks.insert(0, Check("packages", f"{sound} of the declared ones{pinned}"))
    if off_pin:
        found = ", ".join(off_pin)
        checks.append(Check("other versions", found, ok=False, mend=f"expected to work; for the tested set: {install}"))
    return checks


def _python() -> Check:
    return Check("Python", f"{'.'.join(map(str, sys.version_info[:3]))} at {sys.executable}")


def _requirements() -> list[str]:
    return importlib.metadata.requires("xmod-lab") or []


def _pins() -> dict[str, str]:
    """The pinned versions by canonical name; empty outside a checkout."""
    from packaging.utils import canonicalize_name

    root = paths.checkout()
    if root is None or not (root / "constraints.txt").is_file():
        return {}
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    rows = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {canonicalize_name(name): version.strip() for name, version in rows}


def _torchvision() -> Check:
    ok = importlib.util.find_spec("torchvision") is None
    mend = "python -m pip uninstall torchvision: a build for another PyTorch breaks packages that only look for it"
    return Check("torchvision", "absent, as it should be" if ok else "installed", ok, mend=mend)


def _devices() -> list[Check]:
    """Processor or GPU, and the precision that pays on it (measured the first time)."""
    if importlib.util.find_spec("torch") is None:
        return []  # packages() has said so
    import torch

    from xmod_lab import precision

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cpu = f"{precision.cpu_name()}, {cores} cores, {torch.get_num_threads()} threads"
    checks = [Check("processor", cpu)]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":
        names = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        checks.append(Check("GPU", ", ".join(f"{each.name} ({each.total_memory / GIB:.0f} GiB)" for each in names)))
    else:
        built = f"PyTorch built for CUDA {torch.version.cuda}" if torch.version.cuda else "PyTorch built for the CPU"
        mend = "not needed below the profile paper; with an NVIDIA GPU: make setup TORCH=cu128"
        checks.append(Check("GPU", f"none ({built}; Apple's MPS is not used)", ok=False, mend=mend))
    try:
        times = precision.measured(device)
    except LabError as error:
        return [*checks, Check("precision", "not measured", ok=False, mend=str(error))]
    found = str(times["choice"])
    if times["ratio"]:
        layout = "pays" if times["channels_last_ms"] < 0.95 * times["bf16_ms"] else "does not pay"
        found += (
            f" pays on {device}: 8 slices through a U-Net take {times['float32_ms']:.0f} ms in float32,"
            f" {times['bf16_ms']:.0f} ms in bf16 ({times['ratio']:.2f} times as fast); channels_last on top {layout}"
        )
    return [*checks, Check("precision", found)]


def _memory() -> Check:
    if importlib.util.find_spec("psutil") is None:
        return Check("memory", "unknown", ok=False, mend="install psutil")
    import psutil

    memory = psutil.virtual_memory()
    found = f"{memory.available / GIB:.1f} GiB free of {memory.total / GIB:.1f}"
    return Check("memory", found, memory.available >= MEMORY_ROOM, mend="close other programs, or run with --jobs 1")


def _disk() -> Check:
    """Room below XMOD_HOME, or below its nearest folder that exists."""
    home = paths.home()
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    if not os.access(existing, os.W_OK):
        return Check("disk", f"{home} cannot be written", False, True, "set XMOD_HOME to a folder of your own")
    mend = "free some space, or set XMOD_HOME to a folder on another disk"
    return Check("disk", f"{free / GIB:.1f} GiB free at {home}", free >= PHANTOM_ROOM, True, mend)


def _widgets() -> Check:
    """The packages, and their halves that JupyterLab loads from the environment's share folder."""
    from jupyter_core.paths import jupyter_path

    found = [name for name in ("ipywidgets", "anywidget") if importlib.util.find_spec(name)]
    extensions = [Path(folder) for folder in jupyter_path("labextensions")]
    for name in ("@jupyter-widgets/jupyterlab-manager", "anywidget"):
        if any((folder / name / "package.json").is_file() for folder in extensions):
            found.append(f"{name} in JupyterLab")
    mend = "make setup; JupyterLab has to run from the same environment"
    return Check("widgets", ", ".join(found) or "none", len(found) == 4, mend=mend)


def _browser() -> Check:
    browser = find_browser()
    mend = "for still pictures of plotly figures and the browser tests: install chromium (apt-get install chromium)"
    return Check("browser", browser or "no Chromium found", browser is not None, mend=mend)


def _data() -> list[Check]:
    """The data sets that are there, and where."""
    from xmod_lab.data.manifest import load_manifest

    try:
        known = load_manifest()
    except LabError as error:
        return [Check("data", "the manifest cannot be read", False, True, str(error))]
    there = {key: entry.folder for key, entry in known.items() if entry.folder.is_dir()}
    if named := os.environ.get("XMOD_DATA"):
        folder = Path(named).expanduser().resolve()
        inside = [key for key, place in there.items() if place.parent == folder]
        mend = "put one folder per data set there, named by its key (xmod-lab data list), or unset XMOD_DATA"
        checks = [Check("XMOD_DATA", f"{folder}: {', '.join(inside) or 'no known data set'}", bool(inside), mend=mend)]
    else:
        checks = [Check("XMOD_DATA", "not set (a folder of data sets that you already have)")]
    own = [key for key, place in there.items() if place.parent == paths.data_home()]
    mend = "make the phantoms: xmod-lab data make KEY; fetch open data: xmod-lab data fetch KEY"
    return [*checks, Check("data", f"{paths.data_home()}: {', '.join(own) or 'none yet'}", bool(own), mend=mend)]
