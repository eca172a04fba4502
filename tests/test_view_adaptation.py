"""Figures of adaptation: curves are those given, planes share one scale, and each class is marked where its mean is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from xmod_lab.view import figures

pytestmark = pytest.mark.usefixtures("figure_style")


def test_a_panel_has_its_curves_its_lines_and_its_names() -> None:
    steps = np.arange(0, 120, 2)
    told = pd.DataFrame({"main": np.linspace(0.7, 0.5, 60), "lower": 0.6}, index=steps)
    gate = pd.DataFrame({"accuracy": np.linspace(0.5, 0.6, 60)}, index=steps)
    lines = {"CyCADA: accuracy": {"guessing": 0.5, "gate": 0.55}}
    figure = figures.rival_curves({"AdaptSegNet: entropy": told, "CyCADA: accuracy": gate}, lines, columns=3)
    shown = [axis for axis in figure.axes if axis.axison]
    named = [(axis.get_title("left"), axis.get_ylabel()) for axis in shown]
    assert named == [("AdaptSegNet", "entropy"), ("CyCADA", "accuracy")]
    assert len(figure.axes) == 3  # the third place of the row stays empty
    assert [t.get_text() for t in shown[1].get_legend().get_texts()] == ["accuracy", "guessing", "gate"]
    thin, bold = shown[0].lines[:2]
    assert np.allclose(thin.get_ydata(), told["main"]) and np.allclose(thin.get_xdata(), steps)
    assert np.allclose(bold.get_ydata(), told["main"].rolling(3, min_periods=1).mean())
    assert [line.get_ydata()[0] for line in shown[1].lines[2:]] == [0.5, 0.55]


def _modality(seed: int, shift: float, n: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.normal(shift, 1, (n, 2)), generator.integers(0, 3, n)


def test_classes_are_marked_at_their_means_and_joined_across_modalities() -> None:
    before = {"MR": _modality(0, 0.0, 400), "CT": _modality(1, 3.0, 90)}
    after = {"MR": before["MR"], "CT": _modality(2, 0.0, 90)}
    figure = figures.feature_planes({"before": before, "after": after}, (0.61, 0.2), ["LV", "MYO"])
    left, right = figure.axes
    assert left.get_xlim() == right.get_xlim() and left.get_ylim() == right.get_ylim()
    assert (left.get_xlabel(), left.get_ylabel()) == ("first axis (61 % of variance)", "second axis (20 %)")
    marks = [line for line in left.lines if line.get_marker() not in ("", "None", None)]
    wanted = [points[of == value].mean(0) for value in (1, 2) for points, of in before.values()]
    found = [np.ravel([line.get_xdata(), line.get_ydata()]) for line in marks]
    assert np.allclose(found, wanted)
    joined = [line for line in left.lines if line not in marks]
    assert np.allclose(joined[0].get_xydata(), wanted[:2])
    assert len(left.collections[0].get_offsets()) == 490


def test_a_class_of_one_modality_alone_is_marked_and_not_joined() -> None:
    points, of = _modality(0, 0.0, 50)
    figure = figures.feature_planes({"one": {"MR": (points, of), "CT": (points, 0 * of)}}, (0.5, 0.5), ["LV", "MYO"])
    assert len(figure.axes[0].lines) == 2
    texts = [text.get_text() for text in figure.axes[-1].get_legend().get_texts()]
    assert texts == ["MR", "CT", "mean of LV", "mean of MYO"]
