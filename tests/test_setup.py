"""pyproject.toml, constraints.txt, environment.yml and the Makefile say the same, and a wheel carries the manifest."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from conftest import CHECKOUT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib", "seaborn-base": "seaborn"}
"""conda's name -> the name on Python's index, where they differ in more than capitals."""
IMPORT_NAMES = {"PIL": "pillow", "skimage": "scikit-image", "yaml": "pyyaml", "IPython": "ipykernel"}
"""module -> package, where they differ; IPython comes with the kernel, whose interface it is."""

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]


def _declared() -> dict[str, Requirement]:
    """Requirements of the project and all its extras by canonical name."""
    extras = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"], *(line for name, group in extras.items() if name != "all" for line in group)]
    found = {canonicalize_name(each.name): each for each in map(Requirement, lines)}
    assert len(found) == len(lines), "a package is declared twice"
    return found


def _pins() -> dict[str, str]:
    lines = (CHECKOUT / "constraints.txt").read_text().splitlines()
    rows = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!]+", row) for row in rows), "exact public pins only"
    found = {canonicalize_name(name): version for name, version in (row.split("==") for row in rows)}
    assert len(found) == len(rows), "a package is pinned twice"
    return found


def _conda() -> tuple[list[str], list[str]]:
    """The lines for conda and those for pip."""
    entries = yaml.safe_load((CHECKOUT / "environment.yml").read_text())["dependencies"]
    (pip,) = (entry["pip"] for entry in entries if isinstance(entry, dict))
    return [entry for entry in entries if isinstance(entry, str)], pip


def test_every_range_admits_its_pin():
    pins = _pins()
    for name, requirement in _declared().items():
        assert name in pins, f"{name} has no pin"
        assert requirement.specifier.contains(pins[name]), f"{requirement} does not admit the pin {pins[name]}"


def test_every_range_has_a_lower_bound():
    for requirement in _declared().values():
        assert any(part.operator == ">=" for part in requirement.specifier), f"{requirement} has no lower bound"


def test_pins_are_closed_under_requirements():
    """What a pinned package needs is pinned too, else `make lab` would install something that was never tried."""
    pins = _pins()
    for name in pins:
        for line in metadata.requires(name) or []:
            needed = Requirement(line)
            if needed.marker and not needed.marker.evaluate({"extra": ""}):
                continue
            assert canonicalize_name(needed.name) in pins, f"{name} needs {needed.name}, which has no pin"


def test_the_extra_all_names_every_other():
    extras = PROJECT["optional-dependencies"]
    (everything,) = map(Requirement, extras["all"])
    assert everything.name == PROJECT["name"]
    assert everything.extras == set(extras) - {"all"}


def test_conda_names_the_same_packages_and_bounds():
    conda, pip = _conda()
    found = {}
    for line in [*conda, *pip]:
        if line in ("pip", "-e .") or line.startswith("python>"):
            continue
        entry = Requirement(line)
        found[canonicalize_name(CONDA_NAMES.get(entry.name, entry.name))] = entry.specifier
    assert found == {name: requirement.specifier for name, requirement in _declared().items()}


def test_conda_asks_for_the_same_python():
    assert f"python{PROJECT['requires-python']}" in _conda()[0]
    assert "-e ." in _conda()[1], "the project itself"


@pytest.mark.parametrize("name", ["torchvision", "torchaudio", "numba", "lpips", "xmod-lab"])
def test_what_must_stay_out_stays_out(name):
    assert name not in _pins()
    assert name not in _declared()


def test_every_import_is_declared():
    """Each third-party module that the package imports belongs to a declared package, not to a guest of one."""
    declared, strangers = _declared(), {}
    for path in sorted((CHECKOUT / "xmod_lab").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                modules = [node.module]
            else:
                continue
            for module in {name.split(".")[0] for name in modules} - set(sys.stdlib_module_names) - {"xmod_lab"}:
                if canonicalize_name(IMPORT_NAMES.get(module, module)) not in declared:
                    strangers.setdefault(module, str(path.relative_to(CHECKOUT)))
    assert not strangers, "imported but not declared in pyproject.toml"


def test_a_wheel_carries_the_manifest(tmp_path):
    """Built from the tracked files, without network, and read from the unpacked wheel alone."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "data_manifest.yaml"):
        shutil.copy(CHECKOUT / name, source / name)
    shutil.copytree(CHECKOUT / "xmod_lab", source / "xmod_lab", ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "-w", str(tmp_path), str(source)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    unpacked = tmp_path / "unpacked"
    zipfile.ZipFile(wheel).extractall(unpacked)
    assert (unpacked / "xmod_lab" / "data_manifest.yaml").read_bytes() == (CHECKOUT / "data_manifest.yaml").read_bytes()
    kinds = (".js", ".css", ".j2", ".safetensors", ".csv")
    for asset in (path for path in (CHECKOUT / "xmod_lab").rglob("*") if path.suffix in kinds):
        assert (unpacked / asset.relative_to(CHECKOUT)).is_file(), f"{asset.name} is not in the wheel"
    (record,) = unpacked.glob("*.dist-info/RECORD")
    assert "xmod_lab/data_manifest.yaml" in record.read_text(), "else uninstalling would leave it behind"
    code = "import xmod_lab; from xmod_lab.data.manifest import load_manifest as l; print(xmod_lab.__path__[0], *l())"
    environment = os.environ | {"PYTHONPATH": str(unpacked), "XMOD_HOME": str(tmp_path / "home")}
    python = [sys.executable, "-c", code]
    ran = subprocess.run(python, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    place, *keys = ran.stdout.split()
    assert Path(place) == unpacked / "xmod_lab"
    assert set(keys) == set(yaml.safe_load((CHECKOUT / "data_manifest.yaml").read_text()))


# --- the Makefile, with an environment that is there


def _make(folder: Path, *arguments: str, **environment: str) -> str:
    outer = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "TORCH")
    clean = {key: value for key, value in os.environ.items() if key not in outer}
    command = ["make", "-C", str(folder), "--dry-run", *arguments]
    ran = subprocess.run(command, env=clean | environment, cwd="/", capture_output=True, text=True, check=True)
    return ran.stdout


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the Makefile and what it reads, and an environment that looks installed."""
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    folder = tmp_path / "a lab"  # a space, as in many people's folders
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "setup.py", "constraints.txt"):
        shutil.copy(CHECKOUT / name, folder / name)
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (folder / ".venv" / ".place").write_text(f"{folder}\n\n")
    files = "".join((folder / name).read_text() for name in ("pyproject.toml", "setup.py", "constraints.txt"))
    total = subprocess.run(["cksum"], input=files, capture_output=True, text=True, check=True).stdout
    (folder / ".venv" / ".installed").write_text(total)
    return folder


def test_make_installs_nothing_when_nothing_changed(place):
    shown = _make(place, "test")
    assert "pip install" not in shown
    assert "-m pytest" in shown


@pytest.mark.parametrize("file", ["pyproject.toml", "constraints.txt"])
def test_make_installs_again_when_the_requirements_change(place, file):
    (place / file).write_text((place / file).read_text() + "\n# another line\n")
    assert "pip install" in _make(place, "lab")


@pytest.mark.parametrize("damage", ["no interpreter", "moved", "half installed"])
def test_make_mends_a_damaged_environment(place, damage):
    if damage == "no interpreter":
        (place / ".venv" / "bin" / "python").unlink()
    elif damage == "moved":
        place = place.rename(place.with_name("elsewhere"))
    else:
        (place / ".venv" / ".installed").unlink()
    assert "pip install" in _make(place, "lab")


def test_make_chooses_and_remembers_the_wheel_index(place):
    assert "download.pytorch.org" not in _make(place, "-B", "lab")
    chosen = _make(place, "lab", "TORCH=cpu")
    assert "--extra-index-url https://download.pytorch.org/whl/cpu" in chosen
    (place / ".venv" / ".place").write_text(f"{place}\ncpu\n")
    assert "pip install" not in _make(place, "test"), "the next command need not name it again"
    assert "pip install" in _make(place, "test", "TORCH=cu128")


def test_make_help_names_every_target(place):
    shown = _make(place)
    assert "sed" in shown
    text = (CHECKOUT / "Makefile").read_text()
    for target in ("lab", "test", "jupyter", "bench", "exercises", "html", "site", "lint", "clean"):
        assert f"make {target} " in text
        assert re.search(rf"^{target}:", text, re.MULTILINE)


@pytest.mark.parametrize("script", [".ci/run"])
def test_shell_scripts_parse_and_are_executable(script):
    subprocess.run(["bash", "-n", str(CHECKOUT / script)], check=True)
    assert os.access(CHECKOUT / script, os.X_OK)


def test_the_public_workflow_calls_what_ci_calls():
    workflow = yaml.safe_load((CHECKOUT / ".github" / "workflows" / "ci.yml").read_text())
    steps = workflow["jobs"]["test"]["steps"]
    assert any(step.get("run") == ".ci/run" for step in steps)
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == ["3.11", "3.12"]
    assert all(job["timeout-minutes"] <= 30 for job in workflow["jobs"].values())
    assert "make test" in (CHECKOUT / ".ci" / "run").read_text()
