"""The report of `xmod-lab doctor`, and the precision that it measures."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from xmod_lab import doctor, precision
from xmod_lab.data.manifest import load_manifest
from xmod_lab.doctor import Check


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XMOD_DATA", raising=False)
    return tmp_path / "home"


def _times(monkeypatch: pytest.MonkeyPatch, float32: float, bf16: float) -> list[int]:
    """Replace the timed passes; the returned list grows by one a pass that is set up."""
    calls: list[int] = []

    def timed(device, use_bf16, channels_last):
        calls.append(1)
        return lambda: bf16 if use_bf16 else float32

    monkeypatch.setattr(precision, "_pass", timed)
    return calls


# --- precision


@pytest.mark.parametrize(
    ("float32", "bf16", "choice"),
    [(115.0, 100.0, "bf16"), (114.0, 100.0, "float32"), (300.0, 100.0, "bf16"), (100.0, 250.0, "float32")],
)
def test_bf16_is_chosen_from_1_15_on(home, monkeypatch, float32, bf16, choice):
    _times(monkeypatch, float32, bf16)
    assert precision.choose("cpu") == choice
    assert precision.measured("cpu")["ratio"] == pytest.approx(float32 / bf16, abs=1e-3)


def test_precision_is_measured_once_and_kept(home, monkeypatch):
    calls = _times(monkeypatch, 200.0, 100.0)
    first = precision.measured("cpu")
    _times(monkeypatch, 1.0, 100.0)  # another answer, were it asked for again
    assert precision.measured("cpu") == first
    assert len(calls) == 3
    assert list(json.loads((home / "cache" / "precision.json").read_text()).values()) == [first]


def test_each_thread_count_is_measured_on_its_own(home, monkeypatch):
    calls = _times(monkeypatch, 200.0, 100.0)
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        precision.measured("cpu")
    assert len(calls) == 6


@pytest.mark.parametrize("damage", ["", "{", "[1, 2]", "7"])
def test_a_damaged_precision_file_is_measured_again(home, monkeypatch, damage):
    _times(monkeypatch, 200.0, 100.0)
    (home / "cache").mkdir(parents=True)
    (home / "cache" / "precision.json").write_text(damage)
    assert precision.choose("cpu") == "bf16"


def test_a_real_measurement_draws_nothing_from_the_generator(home):
    state = torch.random.get_rng_state()
    found = precision.measured("cpu")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert found["choice"] in ("float32", "bf16")
    assert found["ratio"] == pytest.approx(found["float32_ms"] / found["bf16_ms"], rel=0.02)


# --- packages


def test_packages_sound_missing_outside_and_off_pin():
    torch_version = importlib.metadata.version("torch").split("+")[0]
    checks = doctor.packages(
        ["torch>=2", "numpy>=999", "no-such-package>=1", 'another-missing; extra == "multi"', "PyYAML>=6", "pytest"],
        {"torch": torch_version, "pyyaml": "0.0.1"},
    )
    by_name = {check.name: check for check in checks}
    assert by_name["packages"].found == "3 of the declared ones, 2 as pinned"
    assert by_name["other versions"].found.endswith("(pinned 0.0.1)")
    assert by_name["other versions"].found.startswith("PyYAML")
    assert (by_name["numpy"].ok, by_name["numpy"].needed) == (False, True)
    assert "outside >=999" in by_name["numpy"].found
    assert (by_name["no-such-package"].ok, by_name["no-such-package"].needed) == (False, True)
    assert (by_name["another-missing"].ok, by_name["another-missing"].needed) == (False, False)
    assert "torch" not in by_name
    assert all(check.mend for check in checks if not check.ok)


def test_pins_are_read_from_the_checkout():
    pins = doctor._pins()
    assert pins["torch"] == "2.13.0"
    assert "scikit-image" in pins
    assert "simpleitk" in pins


# --- the rest of the report


def test_exit_code_is_1_only_for_what_is_needed(capsys):
    optional = Check("browser", "none", ok=False, mend="install it")
    assert doctor.show([Check("python", "3.11"), optional]) == 0
    assert doctor.show([optional, Check("disk", "full", ok=False, needed=True, mend="free some")]) == 1
    shown = capsys.readouterr().out
    assert "missing" in shown and "free some" in shown


def test_report_says_how_to_get_what_is_missing(home, monkeypatch):
    _times(monkeypatch, 200.0, 100.0)
    monkeypatch.setattr(doctor, "find_browser", lambda: None)
    checks = {check.name: check for check in doctor.report()}
    assert {"Python", "packages", "processor", "GPU", "precision", "memory", "disk", "widgets", "data"} <= set(checks)
    assert "2.00 times" in checks["precision"].found
    assert checks["disk"].ok and str(home) in checks["disk"].found
    assert not checks["browser"].ok and not checks["browser"].needed and "chromium" in checks["browser"].mend
    assert not checks["data"].ok and "none yet" in checks["data"].found
    assert all(check.mend for check in checks.values() if not check.ok)


def test_report_lists_the_data_that_is_there(home, tmp_path, monkeypatch):
    key, other = next(iter(load_manifest())), tmp_path / "mine"
    (home / "data" / key).mkdir(parents=True)
    monkeypatch.setenv("XMOD_DATA", str(other))
    given, own = doctor._data()
    assert not given.ok and "no known data set" in given.found
    assert own.ok and key in own.found
    (other / key).mkdir(parents=True)
    given, own = doctor._data()
    assert given.ok and key in given.found
    assert not own.ok, "the folder under XMOD_DATA goes before the lab's own"


def test_without_torch_the_report_still_stands(home, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "torch" else real(name, *rest))
    assert doctor._devices() == []


def test_an_unwritable_home_is_needed_and_says_so(monkeypatch, tmp_path):
    monkeypatch.setenv("XMOD_HOME", str(tmp_path / "locked" / "home"))
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    check = doctor._disk()
    assert (check.ok, check.needed) == (False, True)
    assert "XMOD_HOME" in check.mend


def test_the_named_browser_goes_first(monkeypatch, tmp_path):
    browser = tmp_path / "browser"
    browser.write_text("#!/bin/sh\n")
    monkeypatch.setenv("BROWSER_PATH", str(browser))
    assert doctor.find_browser() is None, "it is not executable"
    browser.chmod(0o755)
    assert doctor.find_browser() == str(browser)
    monkeypatch.delenv("BROWSER_PATH")
    monkeypatch.setattr(doctor.shutil, "which", lambda name: "/usr/bin/" + name if name == "google-chrome" else None)
    assert doctor.find_browser() == "/usr/bin/google-chrome"


def test_importing_the_doctor_is_cheap():
    heavy = "{'torch', 'rich', 'pandas'}"
    code = f"import sys, xmod_lab.doctor, xmod_lab.precision; print(sorted({heavy} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
