"""Pictures of two images that ought to lie on each other."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest

from tests.registering import FIXED, affine_of, both, pairs_at_home, parsed
from xmod_lab.data.manifest import Dataset
from xmod_lab.data.places import places, seen_at
from xmod_lab.data.registered import registered
from xmod_lab.data.volume import load_image, load_volume
from xmod_lab.errors import LabError
from xmod_lab.view import figures
from xmod_lab.view.registration import middle_slice, registration_grid

pytestmark = pytest.mark.usefixtures("figure_style")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dataset]:
    yield from pairs_at_home(tmp_path_factory.mktemp("home"))


def test_a_checkerboard_takes_turns() -> None:
    found = figures.checkerboard(np.zeros((6, 9)), np.ones((6, 9)), fields=3)
    assert found[:3, :3].max() == 0 and found[:3, 3:6].min() == 1 and found[3:, :3].min() == 1
    assert found[3:, 3:6].max() == 0


def test_histograms_share_a_scale_and_curves_are_what_was_given() -> None:
    joints = {"apart": (np.eye(4) * 9, 0.3), "together": (np.eye(4) * 90, 1.2)}
    shifts = np.linspace(-3, 3, 7)
    figure = figures.information_panels(joints, {"along x": (shifts, 1 - shifts**2 / 20)}, axes_named=("CT", "MR"),
                                        level=("apart", 0.3), title="pairs of values")  # fmt: skip
    pictures = [axis.images[0] for axis in figure.axes if axis.images]
    assert {picture.get_clim() for picture in pictures} == {(0, np.log1p(90))}
    np.testing.assert_allclose(np.asarray(pictures[0].get_array()), np.log1p(np.eye(4) * 9))
    assert [axis.get_title() for axis in figure.axes[:2]] == ["apart: 0.30 nats", "together: 1.20 nats"]
    assert figure.axes[0].get_ylabel() == "CT" and figure.axes[0].get_xlabel() == "MR"
    last = next(axis for axis in figure.axes if axis.get_xlabel().startswith("shift"))
    np.testing.assert_allclose(last.lines[0].get_ydata(), 1 - shifts**2 / 20)
    assert [t.get_text() for t in last.get_legend().get_texts()] == ["along x", "apart"]


def test_places_and_what_is_seen_there(data: Dataset) -> None:
    fixed, moving = both(data)
    where = places(fixed)
    assert where.shape == (*FIXED[0], 3)
    assert where[3, 4, 5] == pytest.approx(affine_of(*FIXED)[:3] @ (3, 4, 5, 1))
    np.testing.assert_allclose(seen_at(fixed, where), fixed.array, rtol=1e-5, atol=1e-3)
    between = (where[3, 4, 5] + where[4, 4, 5]) / 2
    assert seen_at(fixed, between) == pytest.approx(fixed.array[3:5, 4, 5].mean())
    assert seen_at(moving, where + 1e4).max() == moving.array.min(), "air, where nothing was seen"
    found = registered(data, "p000", "MR", "CT")
    inside = found.cover[3:-3, 3:-3, 3:-3]
    by_hand = seen_at(moving, found.motion(where.reshape(-1, 3))).reshape(FIXED[0])[3:-3, 3:-3, 3:-3]
    assert np.corrcoef(by_hand[inside], found.image.array[3:-3, 3:-3, 3:-3][inside])[0, 1] > 0.98


def test_a_picture_before_and_after(data: Dataset) -> None:
    figure = registration_grid(data, data.task("registered"), ["p000", "p001"], title="before and after")
    shown = {axis.get_title(): axis for axis in figure.axes[:5]}
    assert list(shown) == ["CT", "MR as it lies", "MR registered", "as they lie", "registered"]
    ct, before, after = (np.asarray(shown[n].images[0].get_array()) for n in list(shown)[:3])
    np.testing.assert_allclose(ct, middle_slice(load_image(data, "p000", "CT").array))
    true = middle_slice(load_volume(data.folder / "truth" / "p000" / "MR.nii.gz").array)
    assert np.abs(after - true).mean() < 0.5 * np.abs(before - true).mean()
    assert len(shown["MR registered"].collections) == 1 and not shown["registered"].collections, "the bone's contour"
    plt.close(figure)
    with pytest.raises(LabError, match="does not register two modalities"):
        registration_grid(data, parsed(draw="unpaired", overrides={}).task(), ["p000"])
