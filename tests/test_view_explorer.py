"""The explorer on finished runs: what can be chosen, compared and changed, by a script and by its controls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import views

from xmod_lab import showing
from xmod_lab.errors import LabError
from xmod_lab.maps import SHUFFLED, TRAINED, UNTRAINED
from xmod_lab.runs import Run, RunSpec, ensure_run
from xmod_lab.shipped import shipped_like
from xmod_lab.view.beside import _telling, _trained_on, beside, beside_shipped
from xmod_lab.view.explorer import Explorer, _carried, atlas_runs
from xmod_lab.view.explorer_widget import NOTHING, Panel

PLACE = ("brain_tumour", "subregions", "smoke")


@pytest.fixture(scope="module")
def runs() -> Iterator[dict[str, Run]]:
    """BiGL, the same without alignment of attention, and a plain U-Net, of a few steps."""
    apart = RunSpec("bigl", *PLACE, settings=(("align_attention", False),))
    specs = {"bigl": RunSpec("bigl", *PLACE), "bigl, apart": apart, "unet": RunSpec("source_only", *PLACE)}
    with pytest.MonkeyPatch.context() as patch:
        from xmod_lab import profiles

        few = profiles.PROFILES["smoke"].__class__(**vars(profiles.PROFILES["smoke"]) | {"steps": 10})
        patch.setitem(profiles.PROFILES, "smoke", few)
        yield {name: ensure_run(spec, progress=False) for name, spec in specs.items()}


@pytest.fixture
def explorer(runs: dict[str, Run]) -> Explorer:
    return Explorer(runs)


def test_it_starts_with_something_sensible(explorer: Explorer) -> None:
    view = explorer.view
    assert list(view.images) == ["T2", "T2 as T1", "T2 as T1 and back"]
    assert view.state.map == "position"
    assert list(view.shown()) == [TRAINED, UNTRAINED, SHUFFLED]
    labels = explorer.case.geometry.forward(explorer.case.truth, "nearest")
    assert (labels[explorer.at] > 0).sum() == (labels > 0).sum((1, 2)).max()


def test_what_is_set_in_the_view_stays(explorer: Explorer) -> None:
    explorer.set(map="channel", scale="own", query=(3, 5), slice=4)
    assert (explorer.view.state.map, explorer.view.state.scale, explorer.view.state.query) == ("channel", "own", (3, 5))
    assert explorer.at == 4
    explorer.set(windows={"T2 as T1": (0.0, 2.0)}, contours=False)
    explorer.set(modality="T1")
    assert explorer.choice.slice is None and explorer.view.state.map == "channel"
    explorer.set(run="unet")
    assert explorer.view.state.map == "probability"  # it has no other
    assert not explorer.view.state.contours and explorer.view.state.windows == {}  # of an image that is not here
    first = next(iter(explorer.view.images))
    explorer.set(windows={first: (0.0, 2.0)}, slice=5)
    assert explorer.view.state.windows == {first: (0.0, 2.0)}
    assert explorer.view.state.query == (3, 5)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"run": "other"}, "no run 'other'.*bigl"),
        ({"modality": "CT"}, "no modality 'CT'"),
        ({"patient": "x"}, "no patient 'x'"),
        ({"slice": 99}, "no slice 99"),
        ({"compare": "other"}, "no compare 'other'"),
        ({"map": "gate"}, "no map 'gate'"),
        ({"zoom": 1}, "nothing called 'zoom'"),
        ({"how": "nonsense"}, "no way to change a layer 'nonsense'"),
        ({"index": "a"}, "is no number from 0 on"),
        ({"layer": "nowhere"}, "no module matches 'nowhere'"),
        ({"layer": "segmenter.attention.position.map", "how": "melt"}, "no way to change a layer 'melt'"),
    ],
)
def test_what_does_not_exist_is_refused_and_nothing_is_changed(explorer: Explorer, values: dict, text: str) -> None:
    before = explorer.choice
    with pytest.raises(LabError, match=text):
        explorer.set(**values)
    assert explorer.choice == before
    explorer.figure()


def test_two_moments_and_two_settings_share_a_query(explorer: Explorer) -> None:
    assert explorer.partners("bigl") == ["step 2", "step 4", "bigl, apart", "unet"]
    early = explorer.set(compare="step 2").view.shown()["step 2"]["T2"]
    trained = explorer.view.shown()[TRAINED]["T2"]
    assert early.shape == trained.shape and not np.allclose(early, trained)
    assert "bigl, apart" in explorer.set(compare="bigl, apart").view.shown()
    assert explorer.beside() is None


def test_another_method_is_shown_beside(explorer: Explorer) -> None:
    explorer.set(compare="unet", query=(9, 9))
    other = explorer.beside()
    assert other is not None and list(other.maps) == ["probability", "entropy"]
    assert other.state.query == (9, 9)
    assert other.images["T2"] == pytest.approx(explorer.view.images["T2"])


def test_an_intervention_shows_and_moves(explorer: Explorer) -> None:
    layer = "segmenter.attention.position.map"
    assert layer in explorer.layers()
    explorer.set(layer=layer, how="identity", query=(20, 20))
    changed = explorer.view.shown()[f"{layer}: identity"]["T2"]
    assert changed.max() == pytest.approx(changed.size) and np.count_nonzero(changed) == 1
    table = explorer.effect()
    assert set(table["patient"]) == {explorer.choice.patient}
    explorer.set(layer="segmenter.decoder.head", how="zero")
    moved = explorer.effect()
    assert moved.loc[moved["measure"] == "probability", "change"].min() > 0
    with pytest.raises(LabError, match="nothing is changed"):
        explorer.set(layer="").effect()


def test_everything_is_saved(explorer: Explorer, tmp_path: Path) -> None:
    explorer.set(map="saliency")
    found = {path.name for path in explorer.save(tmp_path)}
    maps = {"saliency_on_T2.nii.gz", "saliency_on_T2_as_T1.nii.gz"}
    assert found == {"view.html", "view.png", "table.csv", "arrays.npz"} | maps
    image = nib.load(tmp_path / "saliency_on_T2.nii.gz")
    assert image.shape == explorer.case.truth.shape
    shown = explorer.view.shown()[TRAINED]["T2"]
    inside = np.asarray(image.dataobj)[..., explorer.at]
    assert inside.max() == pytest.approx(shown.max(), rel=0.3)  # of another grid
    explorer.set(map="position").save(tmp_path / "again")
    assert not list((tmp_path / "again").glob("*.nii.gz"))


def test_the_controls_set_the_explorer(explorer: Explorer) -> None:
    panel = explorer.widget()
    assert isinstance(panel, Panel)
    panel.slice.value = 3
    assert explorer.at == 3 and "slice 3" in panel.shown.view.title
    panel.modality.value = "T1"
    assert explorer.choice.modality == "T1" and panel.slice.value == explorer.at
    panel.compare.value = "unet"
    assert panel.second is not None and panel.below.children == (panel.second,)
    panel.shown.state = panel.shown.state | {"query": [2, 3]}  # as a click does
    assert explorer.view.state.query == (2, 3) and panel.second.view.state.query == (2, 3)
    panel.compare.value = NOTHING
    assert panel.second is None
    panel.layer.value = "segmenter.attention.position.map"
    panel.moves.click()
    assert "<table" in panel.effect.value
    panel.layer.value = "critics.feature/source"
    panel.how.value = "identity"
    assert "LabError" not in panel.said.value and "identity" in panel.said.value  # what does not fit is said
    assert panel.how.value == explorer.choice.how


def test_a_page_cannot_set_what_does_not_exist(explorer: Explorer) -> None:
    panel = explorer.widget()
    before = explorer.view.state
    panel.shown.state = panel.shown.state | {"query": [999, 0]}
    assert explorer.view.state == before
    panel.shown.state = panel.shown.state | {"windows": {"nobody": [0, 1]}}
    assert explorer.view.state == before
    panel.shown.state = panel.shown.state | {"windows": {"T2": [0, 1]}}
    assert explorer.view.state.windows == {"T2": (0.0, 1.0)} and panel.shown.state["windows"] == {"T2": [0, 1]}
    explorer.view.set(windows={})
    panel.shown.refresh()
    panel.shown.state = {"nonsense": 1}
    assert explorer.view.state == before and panel.shown.state["map"] == before.map


def test_finished_runs_are_found_by_their_names(runs: dict[str, Run]) -> None:
    found = atlas_runs()
    assert "bigl (brain_tumour/subregions, smoke, fold 0, seed 0)" in found
    assert {run.spec for run in runs.values()} <= {run.spec for run in found.values()}
    with pytest.raises(LabError, match="no run with maps is finished"):
        Explorer({})


def test_a_fused_kernel_is_bypassed_only_while_something_is_changed(explorer: Explorer) -> None:
    method = explorer._method("bigl", "")
    x = torch.from_numpy(explorer.view.images["T2"])[None]
    before = method.segment(x, "T2")
    explorer.set(layer="segmenter.attention.position.map", how="shuffle")
    assert torch.equal(method.segment(x, "T2"), before)


def test_a_run_beside_the_shipped_one(runs: dict[str, Run]) -> None:
    import matplotlib.pyplot as plt

    (name, shipped), = shipped_like(runs["bigl"]).items()
    assert name == "shipped" and shipped.spec.profile == "long" and not shipped_like(runs["unet"])
    figure, table = beside_shipped(runs["bigl"], "T2", "position")
    titles = [axis.get_title() for axis in figure.axes]
    assert [title.split("\n")[0] for title in titles[:4]] == ["slice, truth", "found", "T2 as T1", "position"]
    assert len(figure.axes) == 9 and all("Dice here" in titles[at] for at in (1, 5))
    windows = [axis.images[0].get_clim() for axis in figure.axes[:8]]
    assert windows[2] == windows[6] and windows[0] == windows[4], "one window a column"
    assert "shipped: long, fold 1" in figure.get_suptitle().replace("\n", " ")
    crosses = [[line.get_xydata()[0] for line in axis.lines] for axis in figure.axes[:8]]
    assert [len(one) for one in crosses] == [1, 0, 0, 1] * 2
    ours, theirs = (crosses[at][0] / edge for at, edge in ((0, 48), (4, 64)))
    assert ours == pytest.approx(theirs, abs=1 / 48), "one place in slices of two sizes"
    ends = {axis.images[0].get_clim() for axis in (figure.axes[3], figure.axes[7])}
    assert len(ends) == 1 and next(iter(ends))[0] == 0, "one scale for both"
    plt.close(figure)
    assert list(table) == ["this notebook", "shipped"] and table.loc["steps", "shipped"] == 2000
    means = shipped.scores()["means"]
    dice = np.mean([means[f"dice/T2/{name}"] for name in ("WT", "TC", "ET")])  # as tables report the tumour
    assert table.loc["Dice T2", "shipped"] == pytest.approx(dice, abs=1e-3)
    assert table.loc["error T1->T2", "shipped"] == pytest.approx(means["mae/T1->T2"], abs=1e-3)


def test_who_learned_from_a_patient_is_said(monkeypatch: pytest.MonkeyPatch, runs: dict[str, Run]) -> None:
    import matplotlib.pyplot as plt

    shipped = shipped_like(runs["bigl"])["shipped"]
    tested, learned = shipped.table()["patient"].unique(), sorted(_trained_on(runs["bigl"]))
    both = [name for name in learned if name in tested]
    assert both, "another fold, other patients"
    plain = showing.showing

    def other(run: Run) -> Any:  # as if this notebook had tested nobody whom the shipped run tests
        found = plain(run)
        test = both if run is shipped or run.spec == shipped.spec else [n for n in found.split.test if n not in tested]
        return replace(found, split=replace(found.split, test=test or learned[:1]))

    monkeypatch.setattr("xmod_lab.view.beside.showing", other)
    figure = beside({"this notebook": runs["bigl"], "shipped": shipped}, "T2", "position")
    assert "; this notebook trained on it" in figure.get_suptitle().replace("\n", " ")
    plt.close(figure)


def test_what_lies_beside_each_other_is_of_one_task(runs: dict[str, Run]) -> None:
    with pytest.raises(LabError, match="2 methods or tasks"):
        beside(runs, "T2", "position")
    with pytest.raises(LabError, match="no test patient of CT"):
        beside({"one": runs["bigl"]}, "CT", "position")
    with pytest.raises(LabError, match="no map of T2 matches nothing"):
        beside({"one": runs["bigl"]}, "T2", "nothing")


def test_a_stack_is_shown_by_its_most_telling_map(runs: dict[str, Run]) -> None:
    import matplotlib.pyplot as plt

    labels = np.zeros((8, 8), int)
    labels[2:4, 2:6] = 3
    maps = np.stack([np.random.default_rng(0).random((4, 4)), np.zeros((4, 4)), np.zeros((4, 4))])
    maps[2, 1, 1:3] = -5
    assert _telling(maps, labels) == 2, "also one that is lower there"
    figure = beside({"plain": runs["unet"]}, "T2", "probability")
    assert figure.axes[-2].get_title().startswith("probability\n")
    plt.close(figure)


def test_a_window_is_carried_to_images_of_its_unit_alone() -> None:
    before = views.view().set(windows={"as CT": "bone", "MR": (0, 0.5)})
    after = views.view(units={})
    _carried(after, before)
    assert after.state.windows == {"MR": (0.0, 0.5)}
