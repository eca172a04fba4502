"""The query view on arrays: what it takes and refuses, what it shows, and its numbers."""

from __future__ import annotations

import base64
import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import views
from hypothesis import given, settings
from hypothesis import strategies as st

from xmod_lab.errors import LabError
from xmod_lab.maps import SHUFFLED, TRAINED, Map, dealt
from xmod_lab.view.embed import KEYS, embedded, quantised, strongest
from xmod_lab.view.layers import UNIFORM, Layer, Place, layer_of, layers_of, sides_of
from xmod_lab.view.query_figure import ends_of, kept, opacities
from xmod_lab.view.query_table import shares_of
from xmod_lab.view.query_view import QueryView, query

PLANE = np.zeros((8, 8), np.float32)


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.zeros((8, 8)), "mask"),
        (np.zeros((1, 8, 8)), "mask"),
        (np.zeros((1, 3, 8, 8)), "stack"),
        (np.zeros((1, 3, 4, 4)), "stack"),
        (np.full((16, 16), 1 / 16), "positions"),
        (np.zeros((5, 5)), "matrix"),
        (np.zeros((16, 9)), "matrix"),
        (np.full((1, 16, 16), 1 / 16), "positions"),
    ],
)
def test_the_kind_of_a_plain_array(array: np.ndarray, kind: str) -> None:
    assert query(array, PLANE).kind("map") == kind


def test_a_map_of_the_package_says_what_it_is() -> None:
    """64 channels would fill a grid over 8 x 8 pixels, and do not lie there."""
    channels = Map("pairwise", torch.full((1, 64, 64), 1 / 64), "MR", "somewhere", names=("a",) * 64)
    assert layer_of(channels, (1, 8, 8)).kind == "matrix"
    positions = layer_of(Map("pairwise", torch.full((1, 64, 64), 1 / 64), "MR", "x", grid=(8, 8)), (1, 8, 8))
    assert (positions.kind, positions.unit, positions.grid) == ("positions", UNIFORM, (8, 8))
    assert positions.values == pytest.approx(1.0)  # uniform is once uniform


def test_rows_that_do_not_sum_to_one_keep_their_values() -> None:
    found = layer_of(np.full((1, 16, 16), 0.5), (1, 8, 8))
    assert (found.unit, found.values.max()) == ("", 0.5)


@pytest.mark.parametrize(
    ("maps", "images", "text"),
    [
        ({}, PLANE, "no map to show"),
        (PLANE, {}, "no image to show"),
        (PLANE, {"a": PLANE, "b": np.zeros((4, 4))}, "images differ in shape: a 1x8x8, b 1x4x4"),
        (PLANE, np.full((8, 8), np.nan), "holds NaN"),
        (PLANE * np.nan, PLANE, "map 'map' holds NaN"),
        ({"m": {"b": PLANE}}, {"a": PLANE}, "over 'b', which is no image"),
        (np.zeros(8), PLANE, "no mask, stack or pairwise map"),
        (np.zeros((2, 3, 8, 8)), PLANE, "has 2 slices, its image 1"),
        (Map("mask", torch.zeros(1, 4, 4), "MR", "x"), PLANE, r"mask 'map' has shape \(1, 4, 4\)"),
        ({"m": {"a": PLANE, "b": np.zeros((1, 2, 8, 8))}}, {"a": PLANE, "b": PLANE}, "is of several kinds"),
        (np.full((64, 64), 1 / 64), np.zeros((64, 64)), "may be a mask, or attention"),
        (Layer("positions", np.ones((1, 4, 4)), (3, 3)), PLANE, "has not the queries and keys of a grid"),
        (Layer("stack", np.ones((3, 8, 8))), PLANE, "stack has 4 axes"),
    ],
)
def test_what_fits_nothing_is_refused(maps: Any, images: Any, text: str) -> None:
    with pytest.raises(LabError, match=text):
        query(maps, images)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"labels": np.zeros((4, 4))}, "labels of 'image' have shape"),
        ({"labels": PLANE + 0.5}, "no class indices"),
        ({"labels": {"other": PLANE}}, "labels of 'other', which is no image"),
        ({"nulls": {TRAINED: PLANE}}, "cannot be called"),
        ({"nulls": {"untrained": {"other": PLANE}}}, "has a map 'other'"),
        ({"behind": {"map": "stack"}}, "no map 'stack'"),
        ({"behind": {"map": "map"}}, "must be stacks"),
    ],
)
def test_what_goes_with_maps_is_checked(more: dict[str, Any], text: str) -> None:
    with pytest.raises(LabError, match=text):
        query(PLANE, PLANE, **more)


def test_it_starts_on_the_lesion() -> None:
    """The rarest class, the slice with most of it, the pixel nearest to its centre."""
    state = views.view().state
    assert (state.slice, state.query) == (1, (8, 15))
    assert query(PLANE, PLANE).state.query == (4, 4)


def test_a_query_shows_its_row_and_the_null_model_another() -> None:
    view = views.view().set(slice=2, query=(23, 0))
    row = views.attention(1.0)[2, 30].reshape(6, 6) * 36
    assert view.shown()[TRAINED]["MR"] == pytest.approx(row)
    other = view.permutations[36][30]
    assert other != 30
    assert view.shown()[SHUFFLED]["MR"] == pytest.approx(views.attention(1.0)[2, other].reshape(6, 6) * 36)
    assert set(view.shown()["untrained"]) == {"MR"}
    assert set(view.set(map="waves").shown()) == {TRAINED}  # a stack has no query to shuffle


def test_coordinates_of_a_pixel() -> None:
    found = views.view().set(slice=1, query=(8, 15)).coordinates()
    assert found == {"pixel": (1, 8, 15), "mm": (-6.0, 8.0, 0.0), "voxel": (8.0, 15.0, 1.0)}


def test_sides_follow_the_matrix() -> None:
    assert sides_of(Place(views.MM)) == ("R", "L", "A", "P")
    assert sides_of(Place()) is None
    coronal = np.array([[0, 0, 1.0, 0], [1, 0, 0, 0], [0, -1.0, 0, 0], [0, 0, 0, 1]])
    assert sides_of(Place(coronal)) == ("L", "R", "S", "I")


@given(st.integers(2, 300), st.integers(0, 3))
def test_nobody_keeps_its_row(count: int, seed: int) -> None:
    order = dealt(count, seed)
    assert sorted(order) == list(range(count))
    assert (order != np.arange(count)).all()


def test_a_share_of_the_mass_by_hand() -> None:
    values = np.array([[1.0, -4.0], [3.0, 2.0]])
    assert kept(values, 1.0).all()
    assert kept(values, 0.4).tolist() == [[False, True], [False, False]]  # 4 of 10
    assert kept(values, 0.41).tolist() == [[False, True], [True, False]]
    assert kept(values, 0.0).sum() == 1
    assert kept(np.zeros((2, 2)), 0.5).all()


def test_scales_by_hand() -> None:
    shown = {"a": {"x": np.array([0.0, 2.0])}, "b": {"x": np.array([-1.0, 0.5])}}
    assert set(ends_of(shown, "shared").values()) == {(-1.0, 2.0)}
    assert set(ends_of(shown, "symmetric").values()) == {(-2.0, 2.0)}
    assert ends_of(shown, "own") == {("a", "x"): (0.0, 2.0), ("b", "x"): (-1.0, 0.5)}
    assert ends_of({"a": {"x": np.zeros(2)}}, "shared") == {("a", "x"): (0.0, 1.0)}
    assert ends_of({"a": {"x": np.zeros(2)}}, "symmetric") == {("a", "x"): (-1.0, 1.0)}


def test_shares_of_cells_by_hand() -> None:
    labels = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 2], [0, 0, 0, 0]])
    found = shares_of(labels, 2, (2, 2))
    assert found[1].tolist() == [[0.5, 0.0], [0.0, 0.0]]
    assert found[2].tolist() == [[0.0, 0.0], [0.0, 0.25]]
    assert shares_of(labels, 2, (4, 4)).sum(0) == pytest.approx(1.0)


def test_uniform_attention_has_the_mass_of_chance() -> None:
    view = query(np.full((36, 36), 1 / 36), views.image()[1], views.labels()[1], classes=("oedema", "core"))
    line = view.table().iloc[0]
    assert line["query in"] == "core"
    for name in ("background", "oedema", "core"):
        assert line[f"mass on {name}"] == pytest.approx(line[f"chance of {name}"])
    assert line["entropy"] == pytest.approx(1.0)
    one = query(np.eye(36), views.image()[1]).table().iloc[0]
    assert one["entropy"] == 0.0 and one["strongest"] == 36.0


def test_numbers_of_the_other_kinds() -> None:
    view = views.view().set(map="size")
    line = view.table().iloc[0]
    assert line["at the query"] == pytest.approx(abs(views.image()[1, 8, 15]), rel=1e-5)
    inside = views.labels()[1] == 2
    assert line["mean in core"] == pytest.approx(np.abs(views.image()[1])[inside].mean(), rel=1e-5)
    assert view.set(map="cosines").table().iloc[0]["largest"] == pytest.approx(1.0)


@given(st.lists(st.floats(-1e3, 1e3, width=32), min_size=4, max_size=40), st.sampled_from([8, 16]))
@settings(max_examples=60)
def test_quantised_values_are_within_half_a_step(values: list[float], bits: int) -> None:
    array = np.array(values[: len(values) // 2 * 2], np.float32).reshape(2, -1)
    found = quantised(array, 1, bits)
    ends = np.frombuffer(zlib.decompress(base64.b64decode(found["ends"])), "<f4").reshape(2, 2)
    steps = np.frombuffer(zlib.decompress(base64.b64decode(found["data"])), np.uint8 if bits == 8 else "<u2")
    width = (ends[:, 1] - ends[:, 0]).astype(float)
    back = ends[:, :1] + steps.reshape(2, -1) / (2**bits - 1) * width[:, None]
    assert (np.abs(back - array) <= width[:, None] / (2**bits - 1) / 2 + 1e-3).all()


def test_large_maps_keep_the_strongest_keys() -> None:
    rows = np.random.default_rng(0).dirichlet(np.full(33 * 33, 0.1), (1, 33 * 33)).astype(np.float32)
    found = embedded(Layer("positions", rows, (33, 33)))
    keys = np.frombuffer(zlib.decompress(base64.b64decode(found["keys"])), "<u2").reshape(33 * 33, KEYS)
    assert (keys == strongest(rows)[0]).all()
    assert set(keys[5]) == set(np.argsort(-rows[0, 5])[:KEYS])
    assert "keys" not in embedded(Layer("positions", rows[:, : 32 * 32, : 32 * 32], (32, 32)))


def test_the_size_of_a_page() -> None:
    """Maps of noise, which nothing deflates: 32 x 32 positions over 256 x 256 pixels, then one more."""
    rng = np.random.default_rng(0)
    image, rows = rng.normal(size=(256, 256)), [rng.dirichlet(np.ones(1024), 1024) for _ in range(2)]
    one = len(query({"a": rows[0]}, image).to_html())
    two = len(query({"a": rows[0], "b": rows[1]}, image).to_html())
    assert one <= 1.5 * 2**20
    assert two - one <= 1.5 * 2**20


NAME = "</script><script>window.hacked = 1</script><img src=x onerror=alert(1)>"


def test_names_from_data_do_nothing() -> None:
    text = query({NAME: PLANE}, {NAME: PLANE}, PLANE + 1, classes=(NAME,), title=NAME, note=NAME).to_html()
    assert text.count("<script") == 2 and text.count("</script>") == 2
    assert "<img" not in text
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert data is not None and json.loads(data.group(1))["maps"] == [NAME]


def test_a_page_asks_nobody() -> None:
    text = views.view().to_html()
    assert not re.search(r"https?:|//cdn|@import|url\(", text)


def test_frame_page_picture_and_arrays(tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    view = views.view()
    assert view._repr_html_().startswith("<iframe srcdoc=")
    assert view.to_html(tmp_path / "view.html") == (tmp_path / "view.html").read_text()
    figure = view.set(other=(3, 3)).figure()
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:5] == ["image", TRAINED, f"{TRAINED}, 2nd", "untrained", SHUFFLED]
    assert any("mm (-6, 8, 0)" in text.get_text().replace("\n", " ") for text in figure.texts)
    plt.close(figure)
    with np.load(view.arrays(tmp_path / "view.npz")) as found:
        assert found["trained/position/MR"] == pytest.approx(views.attention(1.0) * 36)
        assert set(found) >= {"image/MR", "image/as CT", "labels/MR", "untrained/position/MR"}


@pytest.mark.parametrize("name", ["position", "waves", "cosines", "size"])
@pytest.mark.parametrize("scale", ["shared", "own", "symmetric"])
def test_every_kind_is_drawn(name: str, scale: str) -> None:
    import matplotlib.pyplot as plt

    figure = views.view().set(map=name, scale=scale, mass=0.5).figure()
    figure.draw_without_rendering()
    plt.close(figure)


def test_maps_by_name_and_image() -> None:
    found = layers_of({"a": PLANE}, {"x": PLANE[None], "y": PLANE[None]})
    assert set(found["a"]) == {"x", "y"}
    assert isinstance(views.view(), QueryView)


def test_weak_values_are_more_transparent() -> None:
    found = opacities(np.array([0.0, 0.25, 1.0, -1.0, 2.0]), (-1.0, 0.5), 0.7)
    assert found == pytest.approx([0.1, 0.4, 0.7, 0.7, 0.7])
