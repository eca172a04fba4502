"""The weights that come with the package load, are those of recorded runs, and score what their record says."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CHECKOUT

from xmod_lab.bench.patients import system
from xmod_lab.checkpoint import rebuild, save_weights
from xmod_lab.data.manifest import dataset
from xmod_lab.errors import LabError
from xmod_lab.evaluate.runs import predict_volume, structures_of
from xmod_lab.evaluate.runs import test_volumes as volumes_of
from xmod_lab.evaluate.translators import score_translator, translations_of
from xmod_lab.files import read_json
from xmod_lab.runs import Run, RunSpec, build
from xmod_lab.shipped import folder, looked_through, ship, shipped
from xmod_lab.showing import showing
from xmod_lab.view.atlas import labelled_slices

RUNS = [pytest.param(run, id=name) for name, run in shipped().items()]


def test_they_are_small_enough_for_a_package() -> None:
    assert 0 < sum(path.stat().st_size for path in folder().rglob("*") if path.is_file()) <= 20 * 2**20


@pytest.mark.parametrize("run", RUNS)
def test_they_are_of_phantoms_and_say_what_made_them(run: Run) -> None:
    assert dataset(run.spec.dataset).access == "phantom"
    made = read_json(run.folder / "environment.json")
    assert made["commit"] and made["versions"]["torch"] and made["device"]
    assert not run.scores()["demonstration"]


def known_by(run: Run) -> tuple[str, pd.DataFrame]:
    """A run's score by patient: Dice of one that segments, the error of one that only translates."""
    if (run.folder / "scores.csv").is_file():
        return "dice", run.table()
    errors = pd.read_csv(run.folder / "errors.csv", dtype={"patient": str}).rename(columns={"target": "modality"})
    own = errors[errors["method"] == run.spec.method]
    return "mae", own.groupby(["patient", "modality"])["mae"].mean().reset_index()


@pytest.mark.parametrize("run", RUNS)
def test_they_are_recorded_runs(run: Run) -> None:
    """The same patients with the same score stand in results/."""
    spec, (score, ours) = run.spec, known_by(run)
    found = 0
    for path in sorted((CHECKOUT / "results").glob(f"*-{spec.profile}-patients.csv")):
        rows = pd.read_csv(path, dtype={"patient": str})
        if score not in rows:
            continue
        same = (rows["dataset"] == spec.dataset) & (rows["task"] == spec.task_name) & (rows["method"] == spec.method)
        same &= rows["system"] == system(spec)  # not the scorer on its images
        same &= (rows["variant"] == spec.variant) & (rows["fold"] == spec.fold) & (rows["seed"] == spec.seed)
        theirs = rows[same].dropna(subset=score)
        keys = [key for key in ("patient", "modality", "structure") if key in ours]
        both = theirs.merge(ours, on=keys, suffixes=("", "_ours"))
        alike = np.allclose(both[score], both[f"{score}_ours"], atol=1e-3)
        found += bool(len(both)) and alike and len(both) == len(theirs)
    assert found


@pytest.mark.parametrize("run", [run for run in RUNS if (run.values[0].folder / "scores.csv").is_file()])
def test_they_score_what_their_record_says(run: Run) -> None:
    """One test patient in each tested modality; half precision moves a Dice by about 0.01."""
    prepared, method, table = showing(run), run.method(), run.table()
    for modality in prepared.task.tested:
        case = next(volumes_of(prepared, modality))
        labels = predict_volume(method, case)
        for name, values in structures_of(prepared).items():
            ours, theirs = np.isin(labels, values), np.isin(case.truth, values)
            dice = 2 * (ours & theirs).sum() / max(ours.sum() + theirs.sum(), 1)
            same = (table["patient"] == case.patient) & (table["modality"] == modality) & (table["structure"] == name)
            assert dice == pytest.approx(table[same & (table["network"] == modality)]["dice"].item(), abs=0.02)


@pytest.mark.parametrize("run", [run for run in RUNS if (run.values[0].folder / "errors.csv").is_file()])
def test_they_translate_as_their_record_says(run: Run) -> None:
    """One test patient of the first modality; half precision moves an error by less than 0.002 of the range."""
    prepared, recorded = showing(run), pd.read_csv(run.folder / "errors.csv", dtype={"patient": str})
    recorded = recorded[recorded["patient"].isin(prepared.split.test) & (recorded["method"] == run.spec.method)]
    one = recorded[recorded["source"] == prepared.task.tested[0]].iloc[0]["patient"]
    alone = dataclasses.replace(prepared, split=dataclasses.replace(prepared.split, test=[one]))
    found = score_translator(run.method().eval(), alone, run.spec.method, extractors=()).errors
    both = found.merge(recorded, on=["patient", "source", "target", "method"], suffixes=("", "_recorded"))
    assert len(both) >= 1
    assert both["mae"].to_numpy() == pytest.approx(both["mae_recorded"].to_numpy(), abs=0.002)


@pytest.mark.parametrize("run", RUNS)
def test_what_is_left_out_changes_no_picture(run: Run, tmp_path: Path) -> None:
    """Of the same network, untrained: saved whole and without what nothing goes through, every segmentation,
    translation and map is the same; what was left out is NaN."""
    prepared = showing(run)
    method = build(run.spec, prepared).eval()
    kept = looked_through(method, prepared)
    for name, names in (("whole", None), ("kept", kept)):
        save_weights(tmp_path / f"{name}.safetensors", method, run.spec.method, 1, names)
    whole, less = (rebuild(tmp_path / f"{name}.safetensors") for name in ("whole", "kept"))
    out = [value for key, value in less.state_dict().items() if key not in kept and value.is_floating_point()]
    assert all(value.isnan().all() for value in out) and (len(out) > 0) == (run.spec.method != "csa")
    for modality in prepared.task.tested:
        one = labelled_slices(next(volumes_of(prepared, modality)), [2])
        with torch.no_grad():
            first, second = ({n: m.values for n, m in model.maps({modality: one}).items()} for model in (whole, less))
            torch.testing.assert_close(second, first)
            for source, target in translations_of(whole, prepared):
                if source == modality:
                    same = [model.translate(one.image, source, target) for model in (whole, less)]
                    torch.testing.assert_close(*same)


def test_only_a_finished_run_is_shipped(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="the run is not finished"):
        ship(Run(RunSpec("bigl", "brain_tumour", "subregions"), tmp_path))


def test_a_run_is_shown_where_no_patient_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One patient a modality is made, not the whole data set."""
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    run = next(iter(shipped().values()))
    prepared = showing(run)
    assert len(prepared.split.test) == 1
    assert len(list((tmp_path / "data" / run.spec.dataset / "images").iterdir())) == 1
    with pytest.raises(LabError, match="no test patient"):
        real = dataclasses.replace(run.spec, dataset="lgg", task="t1gd_to_flair")
        showing(Run(real, run.folder))
