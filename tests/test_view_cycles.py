"""Systems that translate there and back: the noise table by hand, and plots that show what they were given."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from tests.tiny import make_tiny
from xmod_lab.data.prepare import prepare
from xmod_lab.evaluate.hidden import noise_table
from xmod_lab.evaluate.runs import test_volumes as volumes_of
from xmod_lab.view import figures
from xmod_lab.view.explore import TranslationGallery
from xmod_lab.view.translation import Shown, cycle_grid

pytestmark = pytest.mark.usefixtures("figure_style")


class Scaled(nn.Module):
    """Times `factor` from A to B, and back to A divided by it."""

    def __init__(self, factor: float, channels: int = 1):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))
        self.translations = [("A", "B"), ("B", "A")]
        self.problem = SimpleNamespace(modalities=("A", "B"), channels=channels)

    def translate(self, image: Tensor, source: str, target: str) -> Tensor:
        assert image.shape[1] == self.problem.channels
        return image * (self.factor if source == "A" else 1 / self.factor)


def titled(figure: Figure) -> dict[str, np.ndarray]:
    """What each panel of the first row shows, by its title."""
    return {a.get_title(): np.asarray(a.images[0].get_array()) for a in figure.axes if a.images and a.get_title()}


@pytest.mark.parametrize("neighbours", [1, 3])
def test_the_noise_table_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, neighbours: int) -> None:
    """Back from A multiplies the noise by 1 / factor; the truth of registered data is the other image."""
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    prepared = prepare(make_tiny(tmp_path, ("A", "B"), neighbours=neighbours), None, 32)
    models: Any = {"copy": Scaled(1.0, neighbours), "faint": Scaled(0.01, neighbours)}
    table = noise_table(models, prepared, [0.0, 0.1], slices=2)
    assert len(table) == 2 * 2 * 2 * 2
    found = table.set_index(["system", "source", "start", "sigma"])["error"]
    mean = 0.1 * math.sqrt(2 / math.pi)
    assert found["copy", "A", "translation", 0.1] == pytest.approx(mean, rel=0.05)
    assert found["faint", "A", "translation", 0.1] == pytest.approx(100 * mean, rel=0.05)
    assert found["faint", "B", "translation", 0.1] == pytest.approx(mean / 100, rel=0.05)
    assert found["faint", "A", "translation", 0.0] == pytest.approx(0, abs=1e-5)
    case, other = (next(volumes_of(prepared, m)) for m in "AB")
    kept = np.argsort((case.geometry.forward(case.truth, "nearest") > 0).sum((1, 2)), kind="stable")[-2:]
    apart = (case.slices.image[kept] - other.slices.image[kept]).abs().mean().item()
    assert found["copy", "A", "truth", 0.0] == pytest.approx(apart, rel=0.01)


def test_without_a_truth_there_is_no_row_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    prepared = prepare(make_tiny(tmp_path, ("A", "B"), relation="independent"), None, 32)
    models: Any = {"copy": Scaled(1.0)}
    assert set(noise_table(models, prepared, [0.0])["start"]) == {"translation"}


def test_noise_curves_draw_lines_and_dashes() -> None:
    rows = [("one", "MR", "CT", start, s, s + more) for start, more in (("translation", 0.1), ("truth", 0.3))
            for s in (0.0, 0.1)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["system", "source", "target", "start", "sigma", "error"])
    (axis,) = figures.noise_curves(table).axes
    drawn = {line.get_label(): (line.get_linestyle(), line.get_ydata()) for line in axis.lines}
    assert drawn["one"][0] == "-" and drawn["one"][1] == pytest.approx([0.1, 0.2])
    assert drawn["one, from the truth"][0] == "--" and drawn["one, from the truth"][1] == pytest.approx([0.3, 0.4])
    assert drawn["the noise itself"][1] == pytest.approx([0, 0.1 * math.sqrt(2 / math.pi)])
    assert [text.get_text() for text in axis.get_xticklabels()] == ["0", "0.1"]


@pytest.mark.parametrize("needed", [None, 0.3])
def test_cycle_curves_divide_by_the_weight(needed: float | None) -> None:
    log = pd.DataFrame({"step": [1, 2], "reconstruction": [4.0, 2.0], "change": [0.1, 0.2], "critic": [0.25, 0.2],
                        "adversarial": [0.3, 0.4]})  # fmt: skip
    figure = figures.cycle_curves({"one": log, "two": log.assign(change=0.5)}, {"one": 10, "two": 4}, needed=needed)
    left, middle, right = figure.axes
    assert left.lines[0].get_ydata() == pytest.approx([0.4, 0.2])
    assert left.lines[1].get_ydata() == pytest.approx([1, 0.5])
    assert all(middle.get_ylim()[1] >= max(line.get_ydata()) for line in middle.lines), "every line is inside"
    assert len(middle.lines) == 2 + (needed is not None) and len(right.lines) == 5
    names = [text.get_text() for text in figure.axes[-1].get_legend().get_texts()]
    assert names == ["one", "two"] + (["from image to truth"] if needed else [])


def test_paired_curves_divide_by_the_weight() -> None:
    log = pd.DataFrame({"step": [1, 2], "pair": [40.0, 20.0], "critic": [0.7, 0.6], "adversarial": [0.7, 0.8]})
    figure = figures.paired_curves({"one": log, "two": log}, {"one": 100, "two": 50})
    left, right = figure.axes
    assert [line.get_ydata()[0] for line in left.lines] == pytest.approx([0.4, 0.8])
    assert [line.get_linestyle() for line in right.lines] == ["-", "--"] * 2 + ["-"]
    assert right.lines[-1].get_ydata()[0] == pytest.approx(math.log(2))
    assert [text.get_text() for text in figure.axes[-1].get_legend().get_texts()] == ["one", "two"]


def test_mixtures_have_an_axis_a_kind() -> None:
    rho = {"AdaLIN": {"there": np.array([0.1, 0.91, 0.92]), "back": np.array([0.9])}, "LIN": {"there": np.array([0.0])}}
    left, right = figures.mixture_histograms(rho, {"AdaLIN": 0.9, "LIN": 0.0}).axes
    assert (left.get_title(), right.get_title()) == ("AdaLIN", "LIN")
    assert left.patches[0].get_xy()[:, 1].max() == 2, "two channels in one bin"
    assert [line.get_xdata()[0] for line in left.lines] == [0.9]


def shown(truth: bool = True) -> Shown:
    image = np.linspace(-1, 1, 64).reshape(8, 8)
    made, back = {"one": 0.5 * image}, {"one": image}
    return Shown("A", "B", image, (image > 0).astype(int), made, -image if truth else None, back)


def test_there_and_back_beside_the_truth() -> None:
    one = shown()
    found = titled(cycle_grid([one], ["core"]))
    assert list(found) == ["source", "truth", "one:\nthere", "one:\nback"]
    np.testing.assert_array_equal(found["one:\nthere"], one.translations["one"])
    found = titled(cycle_grid([one], ["core"], what="difference"))
    np.testing.assert_allclose(found["source\n- truth"], 2 * one.image)
    np.testing.assert_allclose(found["one:\nthere - truth"], 1.5 * one.image)
    np.testing.assert_allclose(found["one:\nback - source"], 0 * one.image)
    assert list(titled(cycle_grid([shown(truth=False)], ["core"], what="difference"))) == ["one:\nback - source"]


def test_the_gallery_brings_slices_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    prepared = prepare(make_tiny(tmp_path, ("A", "B")), None, 32)
    models: Any = {"half": Scaled(0.5)}
    (there,) = TranslationGallery(models, prepared).shown("A", back=True)
    np.testing.assert_allclose(there.translations["half"], 0.5 * there.image)
    np.testing.assert_allclose(there.back["half"], there.image)
    assert TranslationGallery(models, prepared).shown("A")[0].back == {}


def test_maps_below_zero_have_two_colours() -> None:
    values = {"": {"map": np.array([[-0.5, 1.0]])}}
    drawn = [figures.map_grid(values, span=span).axes[0].images[0] for span in ((-1, 1), (0, 1), None)]
    colours = [image.get_cmap().name for image in drawn]
    assert colours[0] == colours[2] != colours[1]
