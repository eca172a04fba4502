"""The query view's page in a browser, from disk, with nobody to ask: what it shows is what the arrays hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import views
from chromium import launched, needed, offline_page

from xmod_lab.view.layers import Layer
from xmod_lab.view.query_view import QueryView, query

pytestmark = needed


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as found:
        yield found


@pytest.fixture(scope="module")
def opened(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, QueryView]]:
    path = tmp_path_factory.mktemp("page") / "view.html"
    view = views.view()
    view.to_html(path)
    with offline_page(browser, path, viewport={"width": 1200, "height": 1100}) as page:
        page.wait_for_selector("html[data-ready=yes]")
        yield page, view


@pytest.fixture
def page(opened: tuple[Any, QueryView]) -> Any:
    found, view = opened
    found.evaluate("view.locked = false; view.preview = null; view.cell = null")
    found.evaluate(
        "state => view.set({...state, query: [8, 15], other: null, slice: 1, map: 'position', index: 0, mass: 1})",
        {"windows": {}, "contours": True, "scale": "shared", "colours": "inferno", "opacity": 0.75},
    )
    return found


def shown(page: Any, image: int = 0, row: int = 0) -> np.ndarray:
    return np.array(page.evaluate(
        "([r, i]) => Array.from(view.latest.find(one => one.row === r && one.image === i).values)", [row, image]
    ))  # fmt: skip


def click(page: Any, row: int, column: int, picture: int = 0, image: int = 0, **more: Any) -> None:
    canvas = page.locator(f'canvas[data-row="{picture}"][data-image="{image}"]')
    box = canvas.bounding_box()
    at = {"x": (column + 0.5) / views.EDGE * box["width"], "y": (row + 0.5) / views.EDGE * box["height"]}
    canvas.click(position=at, **more)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (23, 23), (11, 4)])
def test_a_click_shows_the_pixels_own_row(page: Any, row: int, column: int) -> None:
    click(page, row, column)
    position = (row // 4) * 6 + column // 4
    for image, width in enumerate((1.0, 4.0)):
        expected = 36 * views.attention(width)[1, position]
        assert shown(page, image) == pytest.approx(expected, abs=expected.max() / 255)
    assert f"row {row}, column {column}" in page.locator(".said").inner_text()
    assert "held" in page.locator(".said").inner_text()


def test_page_and_python_show_the_same(page: Any, opened: tuple[Any, QueryView]) -> None:
    """All models at one query, by hand and by script."""
    click(page, 5, 17)
    expected = opened[1].set(query=(5, 17), slice=1, map="position").shown()
    for row, (name, by) in enumerate(expected.items()):
        found = page.evaluate("r => view.latest.find(one => one.row === r).name", row)
        assert found == name
        for image, title in enumerate(("MR", "as CT")):
            if title in by:
                assert shown(page, image, row) == pytest.approx(by[title].ravel(), abs=float(by[title].max()) / 255)


def test_moving_previews_and_leaving_goes_back(page: Any) -> None:
    before = shown(page)
    box = page.locator('canvas[data-row="0"][data-image="0"]').bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.wait_for_function("view.latest[0].values[0] > 5")
    assert not np.allclose(shown(page), before)
    page.mouse.move(5, 5)
    page.wait_for_function("view.preview === null")
    page.wait_for_timeout(50)
    assert shown(page) == pytest.approx(before)


def test_a_held_query_stays_until_escape(page: Any) -> None:
    click(page, 0, 0)
    before = shown(page)
    page.locator('canvas[data-row="0"][data-image="1"]').hover()
    page.wait_for_timeout(50)
    assert shown(page) == pytest.approx(before)
    page.keyboard.press("Escape")
    page.wait_for_timeout(50)
    assert not np.allclose(shown(page), before)


def test_the_slider_changes_the_slice(page: Any) -> None:
    slider = page.get_by_label("slice", exact=True)
    slider.focus()
    page.keyboard.press("ArrowRight")
    expected = 36 * views.attention(1.0)[2, 15]  # pixel (8, 15)
    assert shown(page) == pytest.approx(expected, abs=expected.max() / 255)
    assert "slice 2" in page.locator(".said").inner_text()
    assert page.locator("output").first.inner_text() == "2 of 2"


def test_millimetres_voxels_class_and_sides(page: Any) -> None:
    text = page.locator(".said").inner_text()
    assert "voxel (8, 15, 1)" in text and "R A S (-6.0, 8.0, 0.0) mm" in text and "core" in text
    assert page.evaluate("view.data.sides") == ["R", "L", "A", "P"]


def test_a_second_query_has_a_picture_of_its_own(page: Any) -> None:
    click(page, 2, 2, modifiers=["Shift"])
    expected = 36 * views.attention(1.0)[1, 0]
    assert page.evaluate("view.titles[2]") == "trained, 2nd"
    assert shown(page, 0, 1) == pytest.approx(expected, abs=expected.max() / 255)
    page.locator("#view").press("x")
    assert "trained, 2nd" not in page.evaluate("view.titles")


def test_thumbnails_choose_one_of_a_stack(page: Any) -> None:
    page.get_by_label("map", exact=True).select_option("waves")
    assert page.locator(".thumb").count() == 4
    page.locator(".thumb").nth(2).click()
    expected = np.sin(views.image()[1] * 9).ravel()
    assert shown(page) == pytest.approx(expected, abs=2 / 255)


def test_a_cell_of_a_matrix_shows_the_two_maps_behind_it(page: Any) -> None:
    page.get_by_label("map", exact=True).select_option("cosines")
    box = page.locator('canvas[data-row="1"][data-image="0"]').bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] * 0.4)  # row 2, column 4
    page.wait_for_selector("figcaption")
    assert page.locator("figcaption").all_inner_texts() == ["row: waves, 2", "column: waves, 4"]
    waves = [np.sin(views.image()[1] * k * 3).ravel() for k in (2, 4)]
    assert f"{np.corrcoef(waves)[0, 1]:.2f}" in page.locator(".said").inner_text()


def test_a_preset_is_in_hounsfield_units(page: Any) -> None:
    page.get_by_label("window of as CT").select_option("bone")
    assert page.evaluate("view.state.windows") == {"as CT": [-450, 1050]}
    assert page.get_by_label("level of as CT").input_value() == "300"
    page.get_by_label("width of as CT").fill("300")
    page.keyboard.press("Enter")
    assert page.evaluate("view.state.windows") == {"as CT": [150, 450]}
    page.get_by_label("window of as CT").select_option(index=0)
    assert page.evaluate("view.state.windows") == {}
    assert page.get_by_label("window of MR").locator("option:not([hidden])").count() == 1


def test_scale_share_and_theme(page: Any) -> None:
    page.get_by_label("scale", exact=True).select_option("own")
    assert "own scale" in page.locator(".printed").inner_text()
    ends = page.evaluate("view.latest.map(one => one.ends[1])")
    assert ends[0] != ends[1]
    page.evaluate("view.set({mass: 0.3})")
    page.get_by_role("button", name="light / dark").click()
    assert page.evaluate("getComputedStyle(view.root).colorScheme") == "dark"
    page.get_by_role("button", name="light / dark").click()
    assert page.evaluate("getComputedStyle(view.root).colorScheme") == "light"


def test_the_picture_is_saved(page: Any, tmp_path: Path) -> None:
    from PIL import Image

    with page.expect_download() as waiting:
        page.get_by_role("button", name="save PNG").click()
    waiting.value.save_as(tmp_path / "query.png")
    with Image.open(tmp_path / "query.png") as picture:
        assert picture.width > 600 and len(np.unique(np.asarray(picture.convert("L")))) > 20


def test_maps_with_many_positions_and_names_in_parts(browser: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = rng.dirichlet(np.full(33 * 33, 0.05), 33 * 33).astype(np.float32)
    layers = {(i, j): Layer("positions", rows[None] * (1 + i + j), (33, 33)) for i in (1, 2) for j in (1, 2)}
    maps = {f"level {i}/head {j}": layer for (i, j), layer in layers.items()}
    query(maps, rng.normal(size=(66, 66))).to_html(tmp_path / "view.html")
    with offline_page(browser, tmp_path / "view.html") as page:
        page.wait_for_selector("html[data-ready=yes]")
        page.evaluate("view.set({query: [65, 65]})")
        found, whole = shown(page), 3 * rows[-1]
        kept = np.argsort(-whole)[:64]
        assert found[kept] == pytest.approx(whole[kept], abs=float(whole.max()) / 255)
        assert np.count_nonzero(found) <= 64
        page.get_by_label("map, part 2").select_option("head 2")
        assert page.evaluate("view.state.map") == "level 1/head 2"


def test_a_name_like_a_script_does_nothing(browser: Any, tmp_path: Path) -> None:
    name = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
    plane = np.zeros((8, 8))
    plane[2] = 1
    view = query({name: plane}, {name: plane}, plane.astype(int), classes=(name,), title=name, note=name)
    view.to_html(tmp_path / "view.html")
    with offline_page(browser, tmp_path / "view.html") as page:
        page.wait_for_selector("html[data-ready=yes]")
        assert page.evaluate("window.hacked === undefined")
        assert page.locator("h1").inner_text() == name
        assert page.locator("img").count() == 0


def test_each_models_cell_is_its_own(browser: Any, tmp_path: Path) -> None:
    """Also of a matrix with fewer cells, chosen while the pointer is on a cell that it has not."""
    rng = np.random.default_rng(0)
    stack, ours, theirs = rng.normal(size=(1, 20, 8, 8)), rng.normal(size=(1, 20, 20)), rng.normal(size=(1, 20, 20))
    maps = {"wide": Layer("matrix", ours), "small": Layer("matrix", ours[:, :3, :2]), "maps": Layer("stack", stack)}
    nulls = {"untrained": {"wide": Layer("matrix", theirs), "maps": Layer("stack", -stack)}}
    query(maps, np.zeros((8, 8)), nulls=nulls, behind={"wide": "maps"}).to_html(tmp_path / "view.html")
    with offline_page(browser, tmp_path / "view.html") as page:
        page.wait_for_selector("html[data-ready=yes]")
        box = page.locator('canvas[data-row="2"]').bounding_box()
        page.mouse.move(box["x"] + box["width"] * 0.99, box["y"] + box["height"] * 0.99)
        page.wait_for_selector("figcaption")
        text = page.locator(".said").inner_text()
        assert text.startswith("untrained, image: row 20, column 20: ")
        assert float(text.split(": ")[-1]) == pytest.approx(theirs[0, 19, 19], abs=0.02)
        page.evaluate("view.set({map: 'small'})")
        assert page.locator(".said").inner_text() .startswith("move over a cell")
        page.locator("#view").press("ArrowDown")
        page.locator("#view").press("ArrowRight")
        text = page.locator(".said").inner_text()
        assert text.startswith("trained, image: row 1, column 2: ")
        assert float(text.split(": ")[-1]) == pytest.approx(ours[0, 0, 1], abs=0.02)


def test_a_held_querys_value_is_that_of_its_own_place(page: Any) -> None:
    click(page, 0, 0)
    before = page.locator(".said").inner_text()
    page.locator('canvas[data-row="0"][data-image="1"]').hover()
    page.wait_for_timeout(60)
    assert page.locator(".said").inner_text() == before
