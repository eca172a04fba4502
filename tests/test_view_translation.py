"""Pictures of translations show the arrays they were given; what sliders set is what `figure` draws."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from tests.tiny import make_tiny, tiny_manifest
from xmod_lab import profiles
from xmod_lab.bench.patients import system
from xmod_lab.data.prepare import prepare
from xmod_lab.errors import LabError
from xmod_lab.files import read_json, write_json, write_text
from xmod_lab.runs import RunSpec, ensure_run
from xmod_lab.view import explore
from xmod_lab.view.translation import Shown, around, error_grid, slot_grid, translation_grid

pytestmark = pytest.mark.usefixtures("figure_style")


def labels(shape: tuple[int, int] = (16, 20)) -> np.ndarray:
    found = np.zeros(shape, np.int64)
    found[5:8, 9:15] = 1
    return found


def one(*, truth: bool = True, names: tuple[str, ...] = ("first", "second")) -> Shown:
    image = np.linspace(-1, 1, 16 * 20).reshape(16, 20)
    made = {name: np.clip(image + 0.1 * (i + 1), -1, 1) for i, name in enumerate(names)}
    return Shown("CT", "T1w", image, labels(), made, image[::-1] if truth else None)


def pictures(figure: Figure) -> dict[str, np.ndarray]:
    """What each panel of the first row shows, by its title."""
    return {a.get_title(): np.asarray(a.images[0].get_array()) for a in figure.axes if a.images and a.get_title()}


def words(figure: Figure) -> str:
    found = [t.get_text() for axis in figure.axes for t in [*axis.texts, axis.yaxis.label, axis.xaxis.label]]
    return "\n".join([*found, *(t.get_text() for t in figure.texts)])


def test_a_zoom_is_the_smallest_square_with_its_margin() -> None:
    rows, columns = around(labels(), margin=2)
    assert (columns.start, columns.stop) == (7, 17)  # six pixels and two on each side
    assert rows.stop - rows.start == 10 and rows.start <= 3 and rows.stop >= 10


@pytest.mark.parametrize("corner", [(0, 0), (15, 19), (0, 19)])
def test_a_zoom_stays_inside_and_a_slice_without_area_is_whole(corner: tuple[int, int]) -> None:
    found = np.zeros((16, 20), int)
    found[corner] = 1
    part = around(found, margin=3)
    assert found[part].shape == (7, 7) and found[part].sum() == 1
    assert around(np.zeros((16, 20), int)) == (slice(0, 16), slice(0, 20))
    assert np.ones((16, 20))[around(np.ones((16, 20), int))].shape == (16, 16)  # a square never leaves the slice


def test_a_grid_shows_source_truth_and_every_system() -> None:
    shown = one()
    found = pictures(translation_grid([shown], ["liver"], title="all of it"))
    assert list(found) == ["source", "truth", "first", "second"]
    np.testing.assert_array_equal(found["source"], shown.image)
    np.testing.assert_array_equal(found["truth"], shown.truth)
    np.testing.assert_array_equal(found["second"], shown.translations["second"])


def test_differences_are_from_the_truth_on_one_scale_for_all_figures() -> None:
    shown = one()
    figure = translation_grid([shown], ["liver"], what="difference")
    found = pictures(figure)
    assert shown.truth is not None
    np.testing.assert_allclose(found["first"], shown.translations["first"] - shown.truth)
    assert {a.images[0].get_clim() for a in figure.axes if a.get_title() in ("first", "second")} == {(-1, 1)}
    assert "translated minus true" in words(figure)


def test_errors_stand_below_on_one_scale_of_the_unit_range() -> None:
    shown = one()
    figure = error_grid([shown, one(truth=False)], most=0.4)
    assert shown.truth is not None
    assert list(pictures(figure)) == ["CT", "first", "second", "true T1w"]
    errors = [axis.images[0] for axis in figure.axes if axis.images and not axis.get_title()]
    wanted = [shown.image, *shown.translations.values()]
    assert len(errors) == 3 and {picture.get_clim() for picture in errors} == {(0, 0.4)}
    for picture, image in zip(errors, wanted, strict=True):
        np.testing.assert_allclose(np.asarray(picture.get_array()), np.abs(image - shown.truth) / 2)
    assert f"mean {np.abs(shown.image - shown.truth).mean() / 2:.3f}" in words(figure)
    axes = [a for axis in figure.axes for a in [axis, *axis.child_axes]]
    assert "|error|, range 0 to 1" in [a.get_ylabel() for a in axes]


def test_a_slice_whose_truth_nobody_knows_has_no_difference() -> None:
    figure = translation_grid([one(), one(truth=False)], ["liver"], what="difference")
    assert len([a for a in figure.axes if a.images]) == 4, "one row of four panels"
    whole = translation_grid([one(), one(truth=False)], ["liver"])
    assert "unknown" in words(whole)


def test_a_system_that_does_not_go_there_says_so_and_a_zoom_is_cut() -> None:
    figure = translation_grid([one(), one(names=("first",))], ["liver"], zoom=True)
    assert words(figure).count("none") == 1
    assert pictures(figure)["first"].shape == labels()[around(labels())].shape


def test_no_strip_stays_empty_above_the_legend() -> None:
    figure = translation_grid([one()] * 6, ["liver"])
    figure.draw_without_rendering()
    below = min(a.get_window_extent().y0 for a in figure.axes)
    assert 0 < below - figure.legends[0].get_window_extent().y1 < 0.3 * figure.dpi


def test_slots_print_their_probabilities() -> None:
    values = np.array([[0.9, 0.05, 0.999, 0.0], [0.25, 0.5, 0.75, 1.0]])
    figure = slot_grid({"CT": (["real", "as T1w"], values)}, ["real CT", "real T1w", "from CT", "from T1w"], "slots")
    np.testing.assert_array_equal(np.asarray(figure.axes[0].images[0].get_array()), values)
    assert [t.get_text() for t in figure.axes[0].texts] == [".90", ".05", "1", ".00", ".25", ".50", ".75", "1"]


class Inverts(nn.Module):
    """Turns grey values around; knows the modalities it was given."""

    def __init__(self, factor: float = -1.0):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def translate(self, image: Tensor, source: str, target: str) -> Tensor:
        return self.factor * image


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    fields = {"labelled": ["A", "B"], "unlabelled": []}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMOD_HOME", str(folder))
        small = profiles.Profile("smoke", 32, 4, 4, 6, None, 1, "float32", 4, "for tests")
        patch.setitem(profiles.PROFILES, "smoke", small)
        make_tiny(folder, patients=8, **fields)
        text = tiny_manifest(("A", "B"), "registered", "tiny", {}, {}, fields)
        write_text(folder / "data" / "user_manifest.yaml", text)
        yield folder


@pytest.fixture
def gallery(home: Path, monkeypatch: pytest.MonkeyPatch) -> explore.TranslationGallery:
    from xmod_lab.data.manifest import dataset
    from xmod_lab.evaluate import translators

    pairs = [("A", "B"), ("B", "A")]
    monkeypatch.setattr(translators, "translations_of", lambda *_: pairs)
    return explore.TranslationGallery({"inverts": Inverts()}, prepare(dataset("tiny"), None, 32))  # type: ignore[dict-item]


def test_the_gallery_starts_where_most_of_the_area_is(gallery: explore.TranslationGallery) -> None:
    at = gallery.first_slice("A", 0)
    areas = (gallery.labels["A"][0] > 0).sum((1, 2))
    assert areas[at] == areas.max() > 0
    (shown,) = gallery.shown("A")
    assert (shown.source, shown.target) == ("A", "B") and shown.truth is not None
    np.testing.assert_allclose(shown.translations["inverts"], -shown.image)
    np.testing.assert_array_equal(shown.image, gallery.cases["A"][0].slices.image[at, 0].numpy())


def test_what_is_not_there_is_refused_by_name(gallery: explore.TranslationGallery) -> None:
    with pytest.raises(LabError, match="'C'"):
        gallery.shown("C")
    with pytest.raises(LabError, match="patient 99"):
        gallery.figure("A", 99)
    with pytest.raises(LabError, match="slice 99"):
        gallery.figure("A", 0, 99)
    with pytest.raises(LabError, match="sideways"):
        gallery.figure("A", view="sideways")
    with pytest.raises(LabError, match="no translator"):
        explore.TranslationGallery({}, gallery.prepared)


def test_sliders_draw_what_the_script_draws(
    gallery: explore.TranslationGallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def figure(**chosen: object) -> Figure:
        drawn.append(chosen)
        return plt.figure()

    monkeypatch.setattr(gallery, "figure", figure)
    widget = gallery.widget()
    controls = {c.description: c for c in widget.children if getattr(c, "description", "")}
    assert controls["slice"].value == gallery.first_slice("A") and len(drawn) == 1
    assert bytes(widget.children[-1].value).startswith(b"\x89PNG")
    controls["patient"].value = 1
    controls["source"].value = "B"
    controls["show"].value = "difference"
    assert drawn[-1] == {"source": "B", "patient": 1, "at": gallery.first_slice("B", 1), "view": "difference"}
    assert len(drawn) == 4, "each choice draws once"
    controls["slice"].value = 0
    assert drawn[-1]["at"] == 0


def test_a_widget_says_what_it_cannot_draw(
    gallery: explore.TranslationGallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    widget = gallery.widget()

    def refused(**_chosen: object) -> Figure:
        raise LabError("<no> picture")

    monkeypatch.setattr(gallery, "figure", refused)
    widget.children[0].value = "B"
    assert "&lt;no&gt; picture" in widget.children[-2].value


def test_the_gallery_finds_every_finished_translator_that_is_of_today(home: Path) -> None:
    plain, other = RunSpec("uagan", "tiny"), RunSpec("uagan", "tiny", settings=(("rate", 0.0002),))
    for spec in (plain, other, RunSpec("unet_joint", "tiny"), RunSpec("uagan", "tiny", seed=1)):
        ensure_run(spec, progress=False)
    assert set(explore.translators("tiny", plain.task_name, "smoke")) == {system(plain)}
    found = explore.translators("tiny", plain.task_name, "smoke", variants=True)
    assert set(found) == {system(plain), system(other)}, "U-Nets do not translate, seed 1 is not asked for"
    path = other.folder / "inputs.json"
    write_json(path, read_json(path) | {"patients": {"train": [], "validation": [], "test": []}})
    assert set(explore.translators("tiny", plain.task_name, "smoke", variants=True)) == {system(plain)}
    assert explore.translators("tiny", plain.task_name, "smoke", seed=2) == {}


def test_shipped_translators_have_a_gallery_of_their_own_patients() -> None:
    made = explore.shipped_gallery("brain_tumour", "subregions")
    assert made is not None and all("shipped" in name for name in made.models)
    assert {one.target for one in made.shown("T2")} == {"T1"} and made.shown("T2")[0].truth is not None
    assert explore.shipped_gallery("head_ct_mr", "registered") is None
