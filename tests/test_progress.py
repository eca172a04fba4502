"""Progress of a run: plain lines without a terminal, a bar in one, a live loss plot in a notebook."""

from __future__ import annotations

import sys

import pytest

from xmod_lab import progress
from xmod_lab.methods.base import StepResult
from xmod_lab.progress import Progress


def steps(bar: Progress, count: int) -> None:
    for step in range(count):
        bar.step(step, StepResult({"loss": 1.0 / (step + 1)}))


def test_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("a run", 50) as bar:
        steps(bar, 50)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a run: 50 steps" and len(lines) == 6
    assert lines[-1].split() == ["step", "50/50", "loss", "0.0200"]


def test_a_bar_in_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Progress("a run", 10) as bar:
        steps(bar, 10)
    captured = capsys.readouterr()
    assert "10/10" in captured.err and "loss=" in captured.err and not captured.out


def test_nothing_when_it_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("a run", 10, shown=False) as bar:
        steps(bar, 10)
    captured = capsys.readouterr()
    assert not captured.out and not captured.err


def test_a_live_plot_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """One display that is updated, not a new picture a drawing; the last one holds every step."""
    shown: list[object] = []

    class Handle:
        def update(self, figure: object) -> None:
            shown.append(figure)

    def display(figure: object, display_id: bool = False) -> Handle:
        if display_id:
            shown.append(figure)
        return Handle()

    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    monkeypatch.setattr(progress, "PLOT_EVERY", 0.0)
    monkeypatch.setattr("tqdm.notebook.display", display)
    monkeypatch.setattr("IPython.display.display", display)
    with Progress("a run", 5) as bar:
        steps(bar, 5)
    assert len(shown) == 6
    lines = shown[-1].axes[0].get_lines()  # type: ignore[attr-defined]
    assert max(len(line.get_xdata()) for line in lines) == 5
