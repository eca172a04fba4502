"""Run folders: what is in them, skipping, locks, other configs; the command line and bench around them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from tests.joint import ADAPTING
from tests.tiny import make_tiny, tiny_manifest
from xmod_lab import bench, profiles, runs
from xmod_lab.bench import tables
from xmod_lab.cli import app, main
from xmod_lab.errors import LabError
from xmod_lab.evaluate.runs import predict_volume
from xmod_lab.evaluate.runs import test_volumes as volumes_of
from xmod_lab.files import write_text
from xmod_lab.methods import METHODS
from xmod_lab.methods.base import build_config, offers
from xmod_lab.methods.unet import UNetBaseline
from xmod_lab.runs import Run, RunSpec, build, ensure_run, find_runs, prepared_of

CHECKOUT = Path(__file__).resolve().parents[1]
SMALL = profiles.Profile("smoke", 32, 4, 12, 6, None, 1, "float32", 5, "for tests")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    fields = {"labelled": ["T1", "T2"], "unlabelled": [], "regions": {"all": ["core", "rim"]}}
    adapt = {"labelled": ["T1"], "unlabelled": ["T2"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMOD_HOME", str(folder))
        patch.setitem(profiles.PROFILES, "smoke", SMALL)
        make_tiny(folder, modalities=("T1", "T2"), patients=8, **fields)
        make_tiny(folder, modalities=("T1", "T2"), patients=8, key="tiny_uda", **adapt)
        text = tiny_manifest(("T1", "T2"), "registered", "tiny", {}, {}, fields)
        text += tiny_manifest(("T1", "T2"), "registered", "tiny_uda", {}, {}, adapt)
        write_text(folder / "data" / "user_manifest.yaml", text)
        yield folder


@pytest.fixture(scope="module")
def run(home: Path) -> Run:
    return ensure_run(RunSpec("unet_individual", "tiny"), progress=False)


def test_a_run_folder_holds_what_the_contract_says(run: Run, home: Path) -> None:
    assert run.folder == home / "runs/smoke/tiny/both/fold0/unet_individual/default/seed0"
    names = {path.name for path in run.folder.iterdir()}
    assert names >= {
        "config.json",
        "environment.json",
        "inputs.json",
        "log.jsonl",
        "checkpoint.safetensors",
        "scores.csv",
        "scores.json",
        "examples.npz",
    }
    config = json.loads((run.folder / "config.json").read_text())
    assert config["config"]["individual"] is True and config["profile"]["steps"] == 12
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["versions"]["torch"] == torch.__version__ and environment["threads"] >= 1
    assert len(run.log()) == 12
    assert find_runs(home / "runs")[0].spec == run.spec or run.spec in [r.spec for r in find_runs(home / "runs")]


def test_the_cross_modality_matrix_and_regions_are_scored(run: Run) -> None:
    table, means = run.table(), run.scores()["means"]
    tested = prepared_of(run.spec).split.test
    assert len(table) == len(tested) * 2 * 2 * 3  # patients x tested modalities x networks x (core, rim, all)
    assert {"dice/T1/core", "dice/T1->T2/core", "dice/T2->T1/all", "missing/T2/rim"} <= set(means)
    rows = table[(table.modality == "T2") & (table.network == "T1") & (table.structure == "all")]
    assert means["dice/T1->T2/all"] == pytest.approx(rows.dice.mean())


def test_a_finished_run_is_found_not_trained(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_train_and_score", lambda *a: pytest.fail("trained again"))
    assert ensure_run(run.spec).folder == run.folder


def test_examples_are_slices_with_their_truth(run: Run) -> None:
    found = run.examples()
    assert found["T1/image"].shape == found["T1/truth"].shape == found["T1/prediction"].shape
    assert found["T1/truth"].any(axis=(1, 2)).all() and set(np.unique(found["T1/truth"])) <= {0, 1, 2}


def test_every_slice_is_predicted_once_whatever_the_batch(run: Run) -> None:
    method, case = run.method(), next(volumes_of(prepared_of(run.spec), "T1"))
    whole = predict_volume(method, case)
    assert whole.shape == case.truth.shape
    for batch in (1, 2, 5):
        assert np.array_equal(predict_volume(method, case, batch=batch), whole)


def test_a_perfect_network_scores_one(home: Path) -> None:
    """The way slice -> volume -> score loses (almost) nothing: feed the truth's own slices as the prediction."""
    prepared = prepared_of(RunSpec("unet_joint", "tiny"))
    case = next(volumes_of(prepared, "T1"))
    planes = case.geometry.forward(case.truth, "nearest")
    onehot = np.stack([planes == k for k in range(prepared.n_classes)], 1).astype(np.float32)
    back = case.geometry.backward(onehot).argmax(0)
    assert 2 * ((back > 0) & (case.truth > 0)).sum() / ((back > 0).sum() + (case.truth > 0).sum()) > 0.9


def test_target_only_trains_on_the_unlabelled_side_and_source_only_does_not(home: Path) -> None:
    upper, lower = (RunSpec(m, "tiny_uda") for m in ("target_only", "source_only"))
    assert prepared_of(upper).task.labelled == ["T2"] and prepared_of(lower).task.labelled == ["T1"]
    assert build(upper, prepared_of(upper)).problem.labelled == ("T2",)
    assert "T2" not in prepared_of(lower).labels and "T1" not in prepared_of(upper).labels


@pytest.mark.parametrize("method", ["source_only", "detached", *ADAPTING])
def test_poisoned_target_labels_leave_training_bit_identical(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise bytes in every label file of the unlabelled modality, with an empty cache. `detached` holds SASAN and the
    segmenter that labels its translations, too."""
    weights = []
    monkeypatch.setitem(profiles.PROFILES, "smoke", SMALL)
    for name, poison in (("clean", False), ("poisoned", True)):
        home = tmp_path / name
        monkeypatch.setenv("XMOD_HOME", str(home))
        make_tiny(home, modalities=("T1", "T2"), patients=8)
        write_text(home / "data" / "user_manifest.yaml", tiny_manifest(("T1", "T2"), "registered", "tiny", {}, {}, {}))
        if poison:
            for path in (home / "data").rglob("T2_seg.nii.gz"):
                path.write_bytes(os.urandom(64))
        monkeypatch.setattr("xmod_lab.evaluate.runs.score_run", lambda *a: None)
        spec = RunSpec(method, "tiny")
        ensure_run(spec, progress=False)
        weights.append(Run(spec, spec.folder).method().state_dict())
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


def test_settings_make_a_variant_and_unknown_ones_are_refused(home: Path) -> None:
    spec = RunSpec("unet_joint", "tiny", settings=(("rate", "0.01"), ("augment", "strong")))
    assert spec.variant == "default,augment=strong,rate=0.01"
    assert build(spec, prepared_of(spec)).config.rate == 0.01
    with pytest.raises(LabError, match=r"UNetBaseline has no config field 'rte' \(it has width, individual, rate"):
        build(RunSpec("unet_joint", "tiny", settings=(("rte", "1"),)), prepared_of(spec))
    with pytest.raises(LabError, match="value 'much' does not fit, float expected"):
        build(RunSpec("unet_joint", "tiny", settings=(("rate", "much"),)), prepared_of(spec))
    assert len(RunSpec("unet_joint", "tiny", settings=(("x", "y" * 200),)).variant) <= 80


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (RunSpec("unet", "tiny"), "no method 'unet'.*known: unet_individual"),
        (RunSpec("unet_joint", "nowhere"), "no data set 'nowhere'"),
        (RunSpec("unet_joint", "tiny", "sideways"), "data set 'tiny' has no task 'sideways'"),
        (RunSpec("unet_joint", "tiny", profile="huge"), "no profile 'huge'.*smoke, lesson"),
        (RunSpec("unet_joint", "tiny", preset="printed"), "unet_joint has no preset 'printed'"),
    ],
)
def test_wrong_names_are_refused_with_the_right_ones(home: Path, spec: RunSpec, message: str) -> None:
    with pytest.raises(LabError, match=message):
        ensure_run(spec, progress=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, so asking for one is no error")
def test_a_gpu_asked_for_and_absent(home: Path) -> None:
    with pytest.raises(LabError, match="a GPU was asked for and none is there: cuda"):
        ensure_run(RunSpec("unet_joint", "tiny"), device="cuda", progress=False)


def test_scores_of_an_unfinished_run(home: Path) -> None:
    spec = RunSpec("unet_joint", "tiny", seed=99)
    with pytest.raises(LabError, match="the run is not finished: unet_joint on tiny/both"):
        Run(spec, spec.folder).scores()


def test_every_method_keeps_the_contract() -> None:
    for name, entry in METHODS.items():
        assert entry.cls.__mro__[0].training_step is not None and entry.title and entry.source, name
        build_config(entry.cls, entry.overrides)
        for ablation, values in entry.cls.ablations.items():
            build_config(entry.cls, values), ablation
        assert offers(entry.cls), name


def test_maps_of_the_unet(run: Run) -> None:
    method = run.method()
    assert isinstance(method, UNetBaseline)
    from xmod_lab.data.batches import BatchSource

    found = method.maps(BatchSource(prepared_of(run.spec), 4, 0).draw(0))
    p, entropy = found["probability/T1"], found["entropy/T2"]
    assert p.kind == "stack" and torch.allclose(p.values.sum(1), torch.ones_like(p.values[:, 0]), atol=1e-5)
    assert p.names == ("background", "core", "rim")
    assert entropy.kind == "mask" and entropy.values.min() >= 0 and entropy.values.max() <= 1


def test_command_line_trains_and_lists(home: Path, run: Run) -> None:
    done = CliRunner().invoke(app, ["train", "unet_individual", "--dataset", "tiny", "--profile", "smoke"])
    assert done.exit_code == 0 and "dice/T1->T2/core" in done.output
    listed = CliRunner().invoke(app, ["methods"])
    assert listed.exit_code == 0 and all(name in listed.output for name in METHODS)


def test_a_lab_error_is_one_line_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["xmod-lab", "train", "unet"])
    with pytest.raises(SystemExit) as stopped:
        main()
    text = capsys.readouterr().err.strip()
    assert stopped.value.code == 1 and text.startswith("error: no method 'unet'") and "\n" not in text


def test_bench_runs_what_is_missing_and_reports(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    specs = [RunSpec("unet_joint", "tiny", "both", seed=s) for s in (20, 21)]
    for module in (bench, tables):
        monkeypatch.setattr(module, "suite", lambda name: specs)
    assert "not run" in tables.report("two")
    ensure_run(specs[0], progress=False)
    launched = []

    def here(spec: RunSpec, device: str, jobs: int) -> subprocess.CompletedProcess[str]:
        """Train in this process, so that the test's small profile holds."""
        launched.append(spec)
        ensure_run(spec, progress=False)
        return subprocess.CompletedProcess([], 0, "", "")

    monkeypatch.setattr(bench, "launch", here)
    assert bench.run_suite("two", jobs=2) == 0
    assert launched == [specs[1]], "the finished run is skipped"
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    for most, jobs, share in (("", 2, 4), ("3", 2, 3), ("3", 4, 2), ("1", 1, 1), ("auto", 16, 1)):
        monkeypatch.setenv("OMP_NUM_THREADS", most)
        assert bench.share_of_threads(jobs)["MKL_NUM_THREADS"] == str(share)
    text = tables.report("two", tmp_path / "table.csv")
    assert "not run" not in text and "T1 core" in text
    rows = pd.read_csv(tmp_path / "table.csv")
    assert set(rows.state) == {"done"} and len(rows) == 2 * 2 * 3  # runs x modalities x (core, rim, all)
    written = tables.record("two", tmp_path)
    facts = json.loads(written.with_suffix(".json").read_text())
    assert (
        facts["runs"] == 2 and facts["precision"] == ["float32"] and facts["versions"]["torch"] == [torch.__version__]
    )
    means = [ensure_run(s).scores()["means"] for s in specs]
    t1 = [np.mean([m[f"dice/T1/{s}"] for s in ("core", "rim", "all")]) for m in means]
    assert f"{np.mean(t1):.2f} ± {np.std(t1, ddof=1):.2f}" in tables.summary(written)


def test_a_record_is_whole(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tables, "suite", lambda name: [RunSpec("unet_joint", "tiny", "both", seed=77)])
    with pytest.raises(LabError, match="1 runs of suite 'one' are missing"):
        tables.record("one", tmp_path)


def test_bench_names_what_failed(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "suite", lambda name: [RunSpec("unet_joint", "tiny", "both", seed=31)])
    monkeypatch.setattr(
        bench, "command_of", lambda spec, device: [sys.executable, "-c", "raise SystemExit('broken on purpose')"]
    )
    assert bench.run_suite("one") == 1
    assert "broken on purpose" in capsys.readouterr().out


def test_the_command_of_a_run_is_the_command_line(home: Path) -> None:
    spec = RunSpec("unet_joint", "tiny", "both", settings=(("rate", "0.01"),), seed=3, fold=1)
    command = bench.command_of(spec, "cpu")
    helped = CliRunner().invoke(app, ["train", "--help"], env={"COLUMNS": "200"}, color=False)
    assert command[1:5] == ["-m", "xmod_lab", "train", "unet_joint"] and helped.exit_code == 0
    assert command[-2:] == ["--set", "rate=0.01"]
