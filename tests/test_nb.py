"""The notebook helpers: what they accept, what they refuse and what they say."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from xmod_lab import nb
from xmod_lab.errors import LabError


@pytest.fixture(autouse=True)
def _as_found(monkeypatch):
    """`start` sets things of the whole process: set them back."""
    monkeypatch.setattr(nb, "_recorded", {})
    monkeypatch.setattr(nb, "_lab", None)
    for name in ("XMOD_SCORES", "XMOD_COMPARE"):
        monkeypatch.delenv(name, raising=False)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


def test_start_says_what_it_is_and_repeats_its_draws(capsys):
    lab = nb.start("smoke", seed=3, fold=1)
    first = torch.rand(2), np.random.rand()
    text = capsys.readouterr().out
    assert f"torch {torch.__version__}" in text
    for said in ("profile  smoke", "device   cpu, 1 thread(s)", "seed     3", "fold     1"):
        assert said in text
    assert (lab.source, lab.device, lab.demonstration, lab.more) == ("none", "cpu", False, {"fold": 1})
    assert torch.are_deterministic_algorithms_enabled()
    nb.start("smoke", seed=3)
    assert torch.equal(torch.rand(2), first[0]) and np.random.rand() == first[1]


def test_start_names_the_data_without_naming_the_machine(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    monkeypatch.delenv("XMOD_DATA", raising=False)
    lab = nb.start("smoke", "brain_tumour")
    text = capsys.readouterr().out
    assert lab.source == "phantom" and "brain_tumour (phantom" in text and "folder data/brain_tumour" in text
    assert str(tmp_path) not in text


def test_start_refuses_unknown_names():
    with pytest.raises(LabError, match="no profile 'quick'.*smoke"):
        nb.start("quick")
    with pytest.raises(LabError, match="no data set 'nowhere'"):
        nb.start("smoke", "nowhere")
    with pytest.raises(LabError, match="no device 'tpu'"):
        nb.start("smoke", device="tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_start_says_that_a_gpu_is_absent():
    with pytest.raises(LabError, match="a GPU was asked for and PyTorch sees none"):
        nb.start("lesson", device="cuda")


def test_record_appends_to_the_side_file(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("XMOD_SCORES", str(tmp_path / "scores.jsonl"))
    nb.record("dice/T2", torch.tensor(0.5), trivial=0.0, tolerance=0.1)
    nb.record("patients", np.int64(12))
    rows = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    assert rows == [
        {"name": "dice/T2", "value": 0.5, "trivial": 0.0, "tolerance": 0.1},
        {"name": "patients", "value": 12, "trivial": None, "tolerance": 0.0},
    ]
    assert capsys.readouterr().out == "dice/T2 = 0.5\npatients = 12\n"


@pytest.mark.parametrize(
    ("value", "more", "message"),
    [
        (float("nan"), {}, "'x' is nan"),
        (float("inf"), {}, "'x' is inf"),
        ("0.5", {}, "not one number"),
        (True, {}, "not one number"),
        (0.5, {"tolerance": -1.0}, "tolerance -1.0"),
        (0.5, {"tolerance": float("nan")}, "tolerance nan"),
        (0.5, {"trivial": 0.45, "tolerance": 0.05}, "not narrower than the distance 0.05 to the trivial answer 0.45"),
        (0.5, {"trivial": 0.5}, "not narrower than the distance 0 "),
        (0.5, {"trivial": float("nan"), "tolerance": 0.1}, "(trivial)' is nan"),
    ],
)
def test_record_refuses_numbers_that_say_nothing(value, more, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(").replace(")", r"\)")):
        nb.record("x", value, **more)


def test_record_refuses_a_name_twice():
    nb.record("x", 1)
    with pytest.raises(ValueError, match="'x' is recorded twice"):
        nb.record("x", 2)


def test_record_only_notes_a_trivial_answer_where_nothing_is_compared(monkeypatch, capsys):
    monkeypatch.setenv("XMOD_COMPARE", "0")
    nb.record("x", 0.01, trivial=0.0, tolerance=0.1)
    assert "within the tolerance 0" in capsys.readouterr().out


def test_check_prints_or_hints(capsys):
    nb.check(True, "never seen")
    nb.check(lambda: 1 + 1 == 2, "never seen")
    assert capsys.readouterr().out == "Correct.\n" * 2
    for unfinished in (False, None, ..., lambda: None, lambda: undefined + 1, lambda: np.ones(2)):  # noqa: F821
        with pytest.raises(nb.CheckFailed, match="square it"):
            nb.check(unfinished, "square it")


def test_check_close_shows_both_answers(capsys):
    nb.check_close(torch.tensor([0.5, 1.0], requires_grad=True), [0.5, 1.0], "hint")
    assert capsys.readouterr().out == "Correct: yours [0.5 1. ], expected [0.5 1. ].\n"
    with pytest.raises(nb.CheckFailed, match=r"halve it \[yours 1, expected 0.5\]"):
        nb.check_close(1, 0.5, "halve it")
    with pytest.raises(nb.CheckFailed, match=r"yours has shape \(2,\), expected \(\)"):
        nb.check_close([0.5, 0.5], 0.5, "one number")
    for unfinished in (None, ..., lambda: ..., lambda: 1 / 0, float("nan")):
        with pytest.raises(nb.CheckFailed, match="halve it"):
            nb.check_close(unfinished, 0.5, "halve it")


def test_a_failed_check_shows_nothing_but_its_hint():
    assert nb.CheckFailed("square it")._render_traceback_() == ["Not yet: square it"]


def test_expect_error(capsys):
    with nb.expect_error(ValueError, "channels"):
        raise ValueError("3 channels wanted")
    assert capsys.readouterr().out == "ValueError, as expected: 3 channels wanted\n"
    with pytest.raises(nb.CheckFailed, match="nothing was raised"), nb.expect_error(ValueError):
        pass
    with pytest.raises(nb.CheckFailed, match="'channels' in the ValueError"), nb.expect_error(ValueError, "channels"):
        raise ValueError("other")
    with pytest.raises(KeyError), nb.expect_error(ValueError):
        raise KeyError("x")


def test_importing_the_helpers_is_light():
    heavy = ("torch", "numpy", "matplotlib", "IPython")
    code = f"import sys, xmod_lab.nb; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
