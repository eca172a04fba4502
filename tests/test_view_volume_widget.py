"""The widget of a volume: what niivue is given, which of two ways is taken, and names that stay text."""

from __future__ import annotations

import gzip
import importlib.util
from typing import Any

import ipywidgets
import nibabel as nib
import numpy as np
import pytest
from ipywidgets.embed import embed_snippet
from matplotlib.colors import to_rgb

from xmod_lab.errors import LabError
from xmod_lab.view import figures, style
from xmod_lab.view.frame import frame_of
from xmod_lab.view.volume_widget import border, framed, nifti

SIZES = (1.5, 2.0, 5.5)
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture
def volumes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    label = np.zeros((20, 24, 8), np.uint8)
    label[4:14, 6:16, 1:7] = 1
    label[7:11, 9:13, 3:5] = 2
    image = np.random.default_rng(0).integers(0, 900, label.shape).astype(np.float32)
    return image, label, np.where(label == 1, 1, 0).astype(np.uint8)


def read(layer: Any) -> Any:
    return nib.Nifti1Image.from_bytes(gzip.decompress(layer.data))


def test_niivue_gets_image_truth_and_the_border_of_the_prediction(volumes: tuple[np.ndarray, ...]) -> None:
    image, label, found = volumes
    image[0, 0, 0] = np.nan
    affine = np.diag([-1.5, 2.0, 5.5, 1.0])  # stored from right to left
    affine[:3, 3] = 10, 20, 30
    box = figures.volume_widget(image, affine, label, found, ["rim", "core"], title="p1", at=(5, 6, 1))
    above, view, sliders, below = box.children
    first, truth, prediction = (read(layer) for layer in view.volumes)
    assert [layer.opacity for layer in view.volumes] == [1.0, 0.45, 1.0] == [s.value for s in sliders.children]
    assert nib.aff2axcodes(first.affine) == ("R", "A", "S")
    back = np.linalg.inv(affine) @ first.affine
    there = np.rint(back[:3, :3] @ (3, 4, 5) + back[:3, 3]).astype(int)
    assert first.get_fdata()[3, 4, 5] == image[tuple(there)], "a voxel keeps its place in mm"
    assert np.isfinite(first.get_fdata()).all()
    np.testing.assert_array_equal(truth.get_fdata(), label[::-1])
    np.testing.assert_array_equal(prediction.get_fdata(), border(found)[::-1])
    assert np.isfinite([view.volumes[0].cal_min, view.volumes[0].cal_max]).all()
    table = view.volumes[1].colormap_label
    colours = [[round(255 * part) for part in to_rgb(c)] + [255] for c in style.COLOURS[:2]]
    assert table.lut == [0, 0, 0, 0, *colours[0], *colours[1]] and (table.min, table.max) == (0, 2)
    assert view.scene.crosshair_pos == pytest.approx([(19 - 5 + 0.5) / 20, 6.5 / 24, 1.5 / 8])
    assert view.opts.is_radiological_convention and "core (missed)" in above.value and "plotly" in below.value
    alone = figures.volume_widget(image, affine)
    assert len(alone.children[1].volumes) == len(alone.children[2].children) == 1


def test_whole_numbers_are_stored_short() -> None:
    frame = frame_of((4, 4, 4), (1, 1, 1))
    for array, kind in ((np.full((4, 4, 4), -1024.0), np.int16), (np.full((4, 4, 4), 0.5), np.float32),
                        (np.full((4, 4, 4), 40000.0), np.float32), (np.zeros((4, 4, 4), np.uint8), np.uint8)):
        found = nib.Nifti1Image.from_bytes(gzip.decompress(nifti(array, frame)))
        assert found.get_data_dtype() == kind and np.array_equal(found.get_fdata(), array)
    assert nifti(array, frame) == nifti(array, frame), "the same bytes again"


def test_a_border_is_one_voxel_wide_in_each_axial_slice() -> None:
    label = np.zeros((7, 7, 3), np.uint8)
    label[1:6, 1:6, 1] = 1
    label[0:3, 0:3, 2] = 2  # at the edge of the volume
    found = border(label)
    assert found[..., 1].sum() == 16 and found[2:5, 2:5, 1].sum() == 0
    assert found[0, 0, 2] == 2 and found[1, 1, 2] == 0 and (found[..., 0] == 0).all()


def test_without_ipyniivue_it_is_plotly(volumes: tuple[np.ndarray, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    image, label, found = volumes
    plain = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ipyniivue" else plain(name))
    made = figures.volume_widget(image, SIZES, label, found, ["rim", "core"])
    assert isinstance(made, ipywidgets.HTML) and "srcdoc" in made.value
    with pytest.raises(LabError, match="not installed"):
        figures.volume_widget(image, SIZES, label, how="niivue")
    with pytest.raises(LabError, match="no way 'vtk'"):
        figures.volume_widget(image, SIZES, label, how="vtk")  # type: ignore[arg-type]
    with pytest.raises(LabError, match="neither labels"):
        figures.volume_widget(image, SIZES)


def test_a_frame_keeps_its_page_in() -> None:
    value = framed('<p title="a">it\'s</p>', 90).value
    assert value.count('"') == 6 and "<p" not in value and "allow-same-origin" not in value


@pytest.mark.parametrize("how", ["niivue", "plotly"])
def test_names_from_data_reach_no_page_as_markup(how: Any, volumes: tuple[np.ndarray, ...]) -> None:
    """In what the widget shows, in its state, and in the page that it is exported to."""
    image, label, found = volumes
    made = figures.volume_widget(image, SIZES, label, found, [EVIL, "core"], how=how, title=EVIL)
    shown = made.value if how == "plotly" else made.children[0].value
    assert "alert" in shown and "<img" not in shown and "<script>" not in shown
    exported = embed_snippet(views=[made])
    assert "<script>alert" not in exported and "</script><script>" not in exported
