"""Figures from synthetic input: what is drawn is what was given, everything is named, nothing is blank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from skimage.color import rgb2lab
from tiny import make_tiny

from xmod_lab.data.batches import Slices
from xmod_lab.data.volume import load_image
from xmod_lab.nb import Lab
from xmod_lab.view import figures, style
from xmod_lab.view.volumes import best_slice, window_of

CLASSES = ["necrosis", "oedema"]


pytestmark = pytest.mark.usefixtures("figure_style")


@pytest.fixture
def image() -> np.ndarray:
    rows, columns = np.mgrid[:32, :32]
    return (np.cos(rows / 5) * np.sin(columns / 7)).astype(np.float32)


@pytest.fixture
def label() -> np.ndarray:
    found = np.zeros((32, 32), np.int64)
    found[8:20, 8:20] = 2
    found[12:16, 12:16] = 1
    return found


def pixels(figure: Figure) -> np.ndarray:
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(float)  # type: ignore[attr-defined]


def shown_images(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(picture.get_array()) for axis in figure.axes for picture in axis.images]


def contour_colours(axis: Any) -> list[str]:
    return [artist.get_edgecolor()[0] for artist in axis.collections]


def texts(figure: Figure) -> str:
    found = [axis.get_title() + axis.get_title("left") for axis in figure.axes]
    found += [t.get_text() for axis in figure.axes for t in [axis.xaxis.label, axis.yaxis.label, *axis.texts]]
    legends = [*figure.legends, *[axis.legend_ for axis in figure.axes if axis.legend_]]
    found += [t.get_text() for legend in legends for t in legend.get_texts()]
    return "\n".join([*found, *[t.get_text() for t in figure.texts]])


def test_colours_are_told_apart_and_no_map_is_a_rainbow() -> None:
    lab = rgb2lab(np.array([[to_rgb(colour) for colour in style.COLOURS]]))[0]
    apart = [np.linalg.norm(a - b) for i, a in enumerate(lab) for b in lab[:i]]
    assert min(apart) > 25
    for name in (style.IMAGE, style.SCALE):  # lightness rises all the way, which jet's and hsv's does not
        lightness = rgb2lab(plt.get_cmap(name)(np.linspace(0, 1, 64))[None, :, :3])[0, :, 0]
        assert (np.diff(lightness) > 0).all()


def test_a_class_keeps_its_colour_when_others_are_added() -> None:
    assert style.colours_of(["a", "b"]) == {"a": style.COLOURS[0], "b": style.COLOURS[1]}
    assert style.colours_of(["a", "b", "c"])["b"] == style.COLOURS[1]
    assert len(style.colours_of([str(i) for i in range(20)])) == 20


def test_slice_panels_show_the_arrays_their_names_windows_and_classes(image: np.ndarray, label: np.ndarray) -> None:
    figure = figures.slice_panels([image, image * 400], ["MR", "CT"], labels=[label, None], classes=CLASSES,
                                  windows=[(-1, 1), (-160, 240)], units=["", "HU"], title="two")
    assert np.array_equal(shown_images(figure), [image, image * 400])
    assert figure.axes[1].images[0].get_clim() == (-160, 240)
    assert figure.axes[0].images[0].origin == "upper"  # the first row is anterior and lies on top
    assert figure.axes[0].get_ylim() == (31.5, -0.5) and figure.axes[0].get_xlim() == (-0.5, 31.5)
    for word in ("MR", "CT", "-160 to 240 HU", "necrosis", "oedema"):
        assert word in texts(figure)
    drawn = [tuple(colour[:3]) for colour in contour_colours(figure.axes[0])]
    assert drawn == [to_rgb(style.COLOURS[0]), to_rgb(style.COLOURS[1])] and not figure.axes[1].collections
    assert pixels(figure).std() > 20


def test_contours_lie_just_inside_the_border_of_their_class(image: np.ndarray) -> None:
    label = np.zeros((32, 32), np.int64)
    label[8:20, 4:10] = 1
    label[:, 31] = 2  # touches the border: closed all the same
    figure = figures.slice_panels([image], ["x"], labels=[label], classes=CLASSES)
    inner, edge = (np.concatenate([p.vertices for p in c.get_paths()]) for c in figure.axes[0].collections)
    assert inner.min(0).tolist() == pytest.approx([3.9, 7.9]) and inner.max(0).tolist() == pytest.approx([9.1, 19.1])
    assert edge[:, 0].max() == pytest.approx(31.1) and edge[:, 1].min() == pytest.approx(-0.1)


def test_the_legend_lies_below_pictures_with_names_of_two_lines(image: np.ndarray, label: np.ndarray) -> None:
    figure = figures.slice_panels([image] * 10, ["name\nDice"] * 10, labels=[label] * 10, classes=CLASSES, columns=5)
    figure.draw_without_rendering()
    assert figure.legends[0].get_window_extent().y1 < min(a.get_window_extent().y0 for a in figure.axes)


def test_montage_has_a_row_a_patient_and_says_what_is_missing(image: np.ndarray, label: np.ndarray) -> None:
    figure = figures.montage({"p1": {"T1": image, "T2": -image}, "p2": {"T1": image * 0.5}},
                             labels={"p1": {"T2": label}}, classes=CLASSES)
    assert len(figure.axes) == 4 and len(shown_images(figure)) == 3
    assert "none" in texts(figure) and "p2" in texts(figure) and "T2" in texts(figure)
    assert not figure.axes[0].collections and len(figure.axes[1].collections) == 2


def test_predictions_print_the_dice_of_the_slice_beside_each_picture(image: np.ndarray, label: np.ndarray) -> None:
    rows = [("T1 p1", image, label == 2, label == 2), ("T2 p1", image, label == 2, np.zeros_like(label))]
    figure = figures.predictions(rows, ["tumour"])
    assert "Dice 1.00" in texts(figure) and "Dice 0.00" in texts(figure) and "T2 p1" in texts(figure)
    many = figures.predictions([("T1", image, label, np.roll(label, 2, 0))], ["a", "b", "c"])
    assert "mean Dice" in texts(many) and "(2 classes" in texts(many)


def test_slice_dice_by_hand(label: np.ndarray) -> None:
    moved = np.roll(label, 2, axis=0)
    found = figures.slice_dice(moved, label, ["necrosis", "oedema", "absent"])
    assert found["necrosis"] == pytest.approx(2 * 2 * 4 / (16 + 16))
    assert np.isnan(found["absent"])
    assert figures.slice_dice(label * 0, label, CLASSES) == {"necrosis": 0.0, "oedema": 0.0}


def test_recipe_steps_have_a_picture_and_a_histogram_each(image: np.ndarray, label: np.ndarray) -> None:
    steps = [("raw", image * 900, (-900, 900), "stored value"), ("scale", image, (-1.0, 1.0), "prepared")]
    figure = figures.recipe_steps(steps, labels=label, classes=CLASSES, title="P1")
    assert len(shown_images(figure)) == 2 and all(axis.patches for axis in figure.axes[2:])
    assert "1. raw" in texts(figure) and "32 × 32" in texts(figure) and "stored value" in texts(figure)
    assert len(figure.axes[1].collections) == 2 and not figure.axes[0].collections


def test_batch_panel_says_which_rows_have_no_labels(image: np.ndarray, label: np.ndarray) -> None:
    def slices(labelled: bool) -> Slices:
        pictures = torch.from_numpy(np.stack([image, -image, image * 0.5]))[:, None]
        masks = torch.from_numpy(np.stack([label] * 3))
        names = ["p1", "p2", "a_very_long_name_3"]
        return Slices(pictures, masks if labelled else None, masks > 0, names, torch.arange(3))

    figure = figures.batch_panel({"T1": slices(True), "T2": slices(False)}, CLASSES, most=2)
    assert len(shown_images(figure)) == 4 and "T2, no labels" in texts(figure) and "p2 #1" in texts(figure)
    assert figure.axes[0].collections and not figure.axes[2].collections
    assert "…y_long_name_3 #2" in texts(figures.batch_panel({"T1": slices(True)}, CLASSES))


def test_histograms_have_area_one_and_one_scale() -> None:
    rng = np.random.default_rng(0)
    values = {"T1": {"other tissue": rng.normal(0, 1, 500), "tumour": rng.normal(2, 1, 50)},
              "T2": {"other tissue": rng.normal(0, 1, 500), "tumour": np.array([])}}
    figure = figures.intensity_histograms(values, unit="prepared", title="gap")
    heights, edges = figure.axes[0].patches[0].get_path().vertices[:, 1], figure.axes[0].get_xlim()
    assert heights.max() > 0 and figure.axes[1].get_xlim() == edges
    assert "tumour" in texts(figure) and "prepared" in texts(figure) and "T2" in texts(figure)


def test_matrix_keeps_rows_trained_columns_tested_and_a_fixed_scale() -> None:
    matrix = pd.DataFrame([[0.9, 0.1], [0.2, 0.8]], index=["T1", "T2"], columns=["T1", "T2"])
    figure = figures.dice_matrix(matrix)
    axis = figure.axes[0]
    assert [t.get_text() for t in axis.texts] == ["0.90", "0.10", "0.20", "0.80"]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("tested on", "trained on")
    assert axis.collections[0].get_clim() == (0, 1)
    assert np.allclose(axis.collections[0].get_array(), matrix)


@pytest.mark.parametrize("hue", [None, "method"])
def test_boxes_show_every_patient_as_a_point(hue: str | None) -> None:
    rng = np.random.default_rng(1)
    table = pd.DataFrame([{"patient": f"p{p}", "modality": m, "method": k, "dice": rng.uniform(0.2, 0.9)}
                          for p in range(5) for m in ("T1", "T2") for k in (("a", "b") if hue else "a")])
    figure = figures.patient_boxes(table, x="modality", hue=hue, title="boxes")
    points = np.concatenate([c.get_offsets()[:, 1] for c in figure.axes[0].collections if len(c.get_offsets())])
    assert sorted(points) == pytest.approx(sorted(table["dice"]))
    assert "5 patients a box" in texts(figure) and figure.axes[0].get_ylabel() == "Dice"
    legend = figure.axes[0].get_legend()
    assert (legend is not None and legend.get_title().get_text() == "method") == (hue is not None)


def test_boxes_name_the_unit_of_a_distance() -> None:
    table = pd.DataFrame({"patient": ["a", "b"], "modality": ["T1", "T1"], "hd95_max": [3.0, 9.0]})
    figure = figures.patient_boxes(table, x="modality", y="hd95_max", unit="voxel")
    assert figure.axes[0].get_ylabel() == "HD95 (max of directions) [voxel]"


def test_loss_curves_split_losses_from_validation() -> None:
    losses = [(step, {"total": 2.0 - step / 50} | ({"validation/T1": step / 100} if step % 10 == 9 else {}))
              for step in range(60)]
    figure = figures.loss_curves(losses, title="run")
    assert [axis.get_ylabel() for axis in figure.axes] == ["loss", "validation Dice"]
    assert figure.axes[1].lines[0].get_xdata().tolist() == [9, 19, 29, 39, 49, 59]
    smooth = figure.axes[0].lines[1].get_ydata()
    assert smooth[-1] == pytest.approx(2.0 - (57 + 58 + 59) / 3 / 50)
    assert len(figures.loss_curves(losses[:5]).axes) == 1  # nothing validated yet
    assert len(figures.loss_curves([]).axes) == 1


def test_greys_before_and_after_have_an_axis_a_direction() -> None:
    rows = [("MR", "CT", "LV", -0.5, 0.1, 0.6), ("MR", "CT", "MYO", 0.2, 0.3, 0.4), ("CT", "MR", "LV", 0.6, 0.5, -0.5)]
    names = ["source", "target", "structure", "given", "made", "truth"]
    table = pd.concat([pd.DataFrame([(*row[:3], *(v + more for v in row[3:])) for row in rows], columns=names)
                       for more in (-0.1, 0.1)])  # fmt: skip
    figure = figures.grey_shifts({"one": table, "two": table.assign(made=0.0)})
    left, right = figure.axes
    assert [axis.get_title() for axis in figure.axes] == ["MR to CT", "CT to MR"]
    found = {line.get_label(): line.get_ydata() for line in left.lines}
    assert found["given"] == pytest.approx([-0.5, 0.2]) and found["one"] == pytest.approx([0.1, 0.3])
    assert found["two"] == pytest.approx([0, 0])
    assert [path.vertices[0, 1] for path in left.collections[0].get_paths()] == pytest.approx([0.6, 0.4])
    assert np.isnan(right.lines[0].get_ydata()[1]), "a structure that nobody has there has no mark"


@pytest.mark.parametrize("demonstration", [False, True])
def test_stamp_names_profile_data_seed_and_demonstration(image: np.ndarray, demonstration: bool) -> None:
    lab = Lab("smoke", "open_ms", 3, "cpu", "real", demonstration)
    figure = figures.stamp(figures.slice_panels([image], ["x"]), lab)
    stamp = next(t.get_text() for t in figure.texts if t.get_gid() == "stamp")
    assert "profile smoke" in stamp and "open_ms (real)" in stamp and "seed 3" in stamp
    assert ("DEMONSTRATION" in stamp) == demonstration and "fold" not in stamp and "fold" not in str(lab)
    folded = Lab("smoke", "open_ms", 3, "cpu", "real", demonstration, {"fold": 2})
    figures.stamp(figure, folded)
    assert "fold 2" in figure.texts[-1].get_text() and str(folded) == "smoke profile, open_ms, seed 3, fold 2"
    figures.stamp(figure, lab, seeds="seeds a system: 1 to 3")
    assert "seeds a system" in (recorded := figure.texts[-1].get_text()) and "seed 3" not in recorded


def test_stamp_lies_below_everything_else(image: np.ndarray, label: np.ndarray) -> None:
    lab = Lab("smoke", "brain_tumour", 0, "cpu", "phantom", False)
    figure = figures.stamp(figures.slice_panels([image], ["x"], labels=[label], classes=CLASSES), lab)
    figure.canvas.draw()
    stamp = next(t for t in figure.texts if t.get_gid() == "stamp")
    assert stamp.get_window_extent().y1 < figure.legends[0].get_window_extent().y0


def test_no_figure_is_blank(image: np.ndarray, label: np.ndarray) -> None:
    lab = Lab("smoke", "x", 0, "cpu", "phantom", False)
    table = pd.DataFrame({"patient": ["a", "b", "c"], "m": ["T1"] * 3, "dice": [0.1, 0.5, 0.9]})
    drawn = [
        figures.slice_panels([image], ["x"]),
        figures.montage({"p": {"T1": image}}),
        figures.predictions([("x", image, label, label)], CLASSES),
        figures.recipe_steps([("raw", image, (-1, 1), "u")]),
        figures.intensity_histograms({"T1": {"a": np.linspace(0, 1, 50)}}),
        figures.patient_boxes(table, x="m"),
        figures.dice_matrix(pd.DataFrame([[0.3]], index=["T1"], columns=["T1"])),
        figures.loss_curves([(0, {"a": 1.0}), (1, {"a": 0.5})]),
    ]
    for figure in drawn:
        found = pixels(figures.stamp(figure, lab))
        assert found.std() > 5, texts(figure)
        assert (found != 255).any(axis=2).mean() > 0.005, texts(figure)


def test_pictures_of_a_data_set_come_from_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    data = make_tiny(tmp_path, patients=3)
    pictures = figures.gallery(data, most=2)
    assert [(p.patient, p.modality) for p in pictures] == [("p000", "A"), ("p000", "B"), ("p001", "A"), ("p001", "B")]
    first = pictures[0]
    volume = load_image(data, "p000", "A")
    assert np.array_equal(first.image, volume.array[::-1, ::-1, first.slice_number].T)
    assert first.label is not None and set(np.unique(first.label)) == {0, 1, 2}
    assert first.aspect == pytest.approx(1.5)  # 1 x 1.5 mm pixels: rows run along the longer side
    assert np.array_equal(first.label, pictures[1].label)
    figure = figures.picture_panels(pictures, data.task().class_names)
    assert "A, p000" in texts(figure) and "core" in texts(figure)


def test_the_best_slice_shows_most_classes_then_most_pixels() -> None:
    labels = np.zeros((4, 5, 5), np.uint8)
    labels[0], labels[1, :2], labels[1, 2:4], labels[2, 0], labels[2, 1] = 1, 1, 2, 1, 2
    assert best_slice(labels) == 1
    assert best_slice(labels * 0) == 0


def test_ct_is_windowed_around_its_labels_and_mr_by_percentiles() -> None:
    image = np.arange(1001, dtype=float).reshape(7, 143)
    assert window_of(image, "CT") == window_of(image, "CT", np.zeros((7, 143))) == (-160.0, 240.0)
    assert window_of(image, "CT", image > 500) == (410.0, 1090.0)
    assert window_of(image, "MR") == pytest.approx((10.0, 995.0))
    assert window_of(np.zeros((4, 4)), "MR")[1] > 0


def test_example_rows_pair_the_modalities_of_each_patient(image: np.ndarray, label: np.ndarray) -> None:
    arrays = {"image": np.stack([image, -image]), "truth": np.stack([label] * 2)}
    arrays["prediction"] = arrays["truth"] * 0
    examples = {f"{m}/{part}": value for m in ("T1", "T2") for part, value in arrays.items()}
    examples |= {f"{m}/patient": np.array(["p1", "p2"]) for m in ("T1", "T2")}
    rows = figures.example_rows(examples, ["T1", "T2", "absent"])
    assert [row[0] for row in rows] == ["T1, p1", "T2, p1", "T1, p2", "T2, p2"]
    assert np.array_equal(rows[2][1], -image) and rows[0][1].dtype == np.float32
    assert len(figures.example_rows(examples, ["T2"], most=1)) == 1
