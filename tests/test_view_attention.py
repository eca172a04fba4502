"""Maps over images: the scale is the one given, the image shows through where a map says nothing."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.patches import FancyBboxPatch

from xmod_lab.view import figures
from xmod_lab.view.attention import OPACITY

pytestmark = pytest.mark.usefixtures("figure_style")


@pytest.fixture
def image() -> np.ndarray:
    rows, columns = np.mgrid[:16, :16]
    return (np.cos(rows / 5) * np.sin(columns / 7)).astype(np.float32)


def test_a_gate_is_invisible_at_rest_and_has_a_colour_on_either_side() -> None:
    colours = figures.faded((0.0, 1.0), 0.5)
    low, middle, high = colours(0.0), colours(0.5), colours(1.0)
    assert low[3] == pytest.approx(OPACITY) and high[3] == pytest.approx(OPACITY)
    assert middle[3] < 0.01
    assert low[2] > low[0] and high[0] > high[2]  # blue below, red above
    assert colours(0.25)[3] == pytest.approx(OPACITY / 2, abs=0.01)
    assert colours(0.25)[:3] == low[:3]  # the colour is the side, the opacity the distance


def test_opacity_means_the_same_distance_on_both_sides_of_a_rest_off_centre() -> None:
    colours = figures.faded((0.0, 1.0), 0.2)
    assert colours(1.0)[3] == pytest.approx(OPACITY)
    assert colours(0.0)[3] == pytest.approx(OPACITY * 0.2 / 0.8, abs=0.01)


def test_without_rest_there_is_one_colour_that_grows_from_the_lower_end() -> None:
    colours = figures.faded((0.0, 1.0))(np.linspace(0, 1, 9))
    assert colours[0, 3] == 0 and colours[-1, 3] == pytest.approx(OPACITY)
    assert (np.diff(colours[:, 3]) > 0).all()
    assert np.ptp(colours[:, :3], axis=0).max() == 0


def test_where_the_map_rests_the_image_is_seen_unchanged(image: np.ndarray) -> None:
    values = np.full_like(image, 0.5)
    values[:, 8:] = 1.0
    pixels = []
    for shown in (None, values):
        figure, axis = plt.subplots(figsize=(2, 2), dpi=32)
        axis.set_position((0, 0, 1, 1))
        figures.draw_slice(axis, image)
        if shown is not None:
            figures.draw_overlay(axis, image, shown, span=(0.0, 1.0), rest=0.5)
        figure.canvas.draw()
        pixels.append(np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(int))  # type: ignore[attr-defined]
    apart = np.abs(pixels[0] - pixels[1]).max(-1)
    assert apart[:, :30].max() <= 2
    assert apart[:, 34:].min() > 20


def test_a_map_of_another_size_than_its_image_is_refused(image: np.ndarray) -> None:
    _, axis = plt.subplots()
    with pytest.raises(ValueError, match="different sizes"):
        figures.draw_overlay(axis, image, image[::2], span=(0.0, 1.0))


def _overlay_figure(image: np.ndarray, values: np.ndarray, **more: Any) -> Any:
    label = np.zeros(image.shape, np.int64)
    label[4:9, 4:9] = 1
    rows = {"T1": {"level 0": values, "level 1": values / 2}, "T2": {"level 0": values}}
    return figures.overlays(rows, {"T1": image, "T2": image}, labels={"T1": label}, classes=["lesion"], **more)


def test_all_pictures_of_a_figure_have_the_scale_that_was_given(image: np.ndarray) -> None:
    figure = _overlay_figure(image, np.abs(image), span=(0.25, 0.75), rest=0.5, unit="gate")
    maps = [axis.images[1] for axis in figure.axes if len(axis.images) == 2]
    assert len(maps) == 3
    assert {picture.get_clim() for picture in maps} == {(0.25, 0.75)}
    assert np.array_equal(maps[1].get_array(), np.abs(image) / 2)
    assert [axis.get_title() for axis in figure.axes[:3]] == ["image", "level 0", "level 1"]
    assert any(axis.get_ylabel() == "gate" for axis in figure.axes)
    assert "none" in [text.get_text() for axis in figure.axes for text in axis.texts]  # T2 has no level 1
    with_contour = [axis for axis in figure.axes[:6] if axis.collections]
    assert with_contour == figure.axes[:3]  # only T1 has a label


@pytest.mark.parametrize(("values", "ends"), [(0.5, "neither"), (0.0, "min"), (1.0, "max")])
def test_the_bar_says_when_values_lie_outside(image: np.ndarray, values: float, ends: str) -> None:
    figure = figures.overlays({"T1": {"gate": np.full_like(image, values)}}, {"T1": image}, span=(0.25, 0.75), rest=0.5)
    assert figure.axes[1].images[1].colorbar.extend == ends


def test_the_drawing_of_two_streams_fits_and_names_both_passes() -> None:
    figure = figures.two_streams()
    figure.canvas.draw()
    texts = [text for axis in figure.axes for text in axis.texts if text.get_text()]
    assert {"x", "$x'$", "$G_s(x')$", "shared\ncentre"} <= {text.get_text() for text in texts}
    assert sum(isinstance(p, FancyBboxPatch) for p in figure.axes[0].patches) == 17  # four levels, up and down, twice
    boxes = [text.get_window_extent() for text in texts]
    assert not [1 for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    for box in boxes:
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0 and box.y1 <= figure.bbox.y1
