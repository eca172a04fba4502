"""Scores that need a scorer: kept with the hashes of what made them, shared by a table, never of other patients."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

from tests.tiny import exported, make_tiny, tiny_manifest
from xmod_lab import profiles
from xmod_lab.bench import page, patients, tables
from xmod_lab.bench.health import problems
from xmod_lab.bench.translators import FLOOR, errors_table, recorded_tables, rows_of, translation_table
from xmod_lab.cli import app
from xmod_lab.errors import LabError
from xmod_lab.evaluate import scored as module
from xmod_lab.evaluate.scored import Scored, ensure_scored, scored_folder, scorer_of
from xmod_lab.files import read_json, sha256, write_json, write_text
from xmod_lab.methods import METHODS, Entry
from xmod_lab.methods.base import Batch, Clock, Method, Problem, Stage, StepResult, Update, adam
from xmod_lab.runs import Run, RunSpec, ensure_run

SMALL = profiles.Profile("smoke", 32, 4, 12, 6, None, 1, "float32", 5, "for tests")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    fields = {"labelled": ["A", "B"], "unlabelled": []}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMOD_HOME", str(folder))
        patch.setitem(profiles.PROFILES, "smoke", SMALL)
        text = ""
        for key in ("tiny", "other"):
            make_tiny(folder, patients=8, key=key, **fields)
            text += tiny_manifest(("A", "B"), "registered", key, {}, {}, fields)
        write_text(folder / "data" / "user_manifest.yaml", text)
        yield folder


@pytest.fixture(scope="module")
def run(home: Path) -> Run:
    return ensure_run(RunSpec("uagan", "tiny"), progress=False)


@pytest.fixture(scope="module")
def scored(run: Run) -> Scored:
    return ensure_scored(run, progress=False)


def touched(run: Run) -> None:
    """Another checkpoint with the same weights, as a run trained anew would leave."""
    path = run.folder / "checkpoint.safetensors"
    with safe_open(path, "pt") as stored:
        header, tensors = json.loads(stored.metadata()["xmod_lab"]), {k: stored.get_tensor(k) for k in stored.keys()}
    header["facts"]["seconds"] += 1
    save_file(tensors, path, {"xmod_lab": json.dumps(header)})


def test_a_runs_own_scores_know_its_errors(run: Run) -> None:
    means, rows = run.scores()["means"], pd.read_csv(run.folder / "errors.csv")
    own = rows[(rows["method"] == "uagan") & (rows["source"] == "A")]
    assert means["mae/A->B"] == pytest.approx(own["mae"].mean()) and "ssim/B->A" in means
    assert "dice/A/core" in means and "dice/B/rim" in means


def test_a_network_that_a_reader_brings_makes_the_scores_anew(home: Path, run: Run, scored: Scored) -> None:
    class Mean(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x.mean((2, 3)), x.std((2, 3))], 1)

    path = home / "features" / "moments.pt2"
    path.parent.mkdir()
    exported(Mean(), path, SMALL.size)
    try:
        again = ensure_scored(run, progress=False)
        assert "FD[moments]" in again.distances() and again.inputs()["features"] == {"moments": sha256(path)}
    finally:
        path.unlink()
        path.parent.rmdir()
    assert "FD[moments]" not in ensure_scored(run, progress=False).distances()


def test_a_method_that_does_not_translate_has_the_scores_it_had(scored: Scored) -> None:
    means = scored.scorer.scores()["means"]
    assert {name.split("/")[0] for name in means} == {"dice", "hd95_max", "assd_pooled", "assd_cap50", "missing"}
    assert not (scored.scorer.folder / "errors.csv").exists()


def test_the_folder_holds_what_the_contract_says(run: Run, scored: Scored) -> None:
    assert scored.folder.parent == run.folder / "scored" and scored.folder.name.startswith("unet_individual-seed0-")
    assert {p.name for p in scored.folder.iterdir()} == {*(f"{name}.csv" for name in module.TABLES), "inputs.json"}
    found = scored.inputs()
    assert found["scorer"] == {
        "run": "smoke/tiny/both/fold0/unet_individual/default/seed0",
        "checkpoint": sha256(scored.scorer.folder / "checkpoint.safetensors"),
    }
    assert found["translator"]["checkpoint"] == sha256(run.folder / "checkpoint.safetensors")
    assert found["demonstration"] is False is scored.demonstration
    dices = scored.s_scores()
    assert set(dices["method"]) == {"uagan", "untranslated", "real"} and dices["patient"].map(type).eq(str).all()
    real = dices[dices["method"] == "real"].set_index(["patient", "target", "structure"])["dice"]
    own = scored.scorer.table()
    own = own[own["network"] == own["modality"]].set_index(["patient", "modality", "structure"])["dice"]
    assert real.sort_index().to_numpy() == pytest.approx(own.sort_index().to_numpy()), "the scorer's own test scores"


def test_scores_are_found_not_computed_again(run: Run, scored: Scored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_score", lambda *_: pytest.fail("scored again"))
    assert ensure_scored(run, progress=False) == scored


@pytest.mark.parametrize("which", ["translator", "scorer"])
def test_a_changed_checkpoint_is_noticed(run: Run, scored: Scored, which: str) -> None:
    before = {name: getattr(scored, name)() for name in module.TABLES}
    changed = run if which == "translator" else scored.scorer
    touched(changed)
    (scored.folder / "errors.csv").write_text("old")
    assert ensure_scored(run, progress=False) == scored
    assert scored.inputs()[which]["checkpoint"] == sha256(changed.folder / "checkpoint.safetensors")
    assert all(getattr(scored, name)().equals(table) for name, table in before.items()), "same weights, same numbers"


def test_an_interrupted_scoring_is_done_again(run: Run, scored: Scored) -> None:
    (scored.folder / "inputs.json").unlink()
    (scored.folder / "distances.csv").unlink()
    assert len(ensure_scored(run, progress=False).distances())


def test_what_cannot_be_scored_is_refused(run: Run, scored: Scored) -> None:
    with pytest.raises(LabError, match="unet_individual does not translate"):
        ensure_scored(scored.scorer)
    unfinished = RunSpec("uagan", "tiny", "both", seed=5)
    with pytest.raises(LabError, match="the run is not finished"):
        ensure_scored(Run(unfinished, unfinished.folder))
    with pytest.raises(LabError, match="the scorer has other patients than the translator: unet_individual on other"):
        ensure_scored(run, scorer=RunSpec("unet_individual", "other"))
    with pytest.raises(LabError, match="the scorer has other patients"):
        ensure_scored(run, scorer=RunSpec("unet_individual", "tiny", fold=1), progress=False)


def test_another_scorer_has_a_folder_of_its_own(run: Run, scored: Scored) -> None:
    other = RunSpec("unet_individual", "tiny", seed=1)
    assert scored_folder(run, other) != scored_folder(run, scorer_of(run.spec)) == scored.folder
    found = ensure_scored(run, scorer=other, progress=False)
    assert not found.s_scores().equals(scored.s_scores())
    with pytest.raises(LabError, match="two scorers in fold 0.*score all runs by the same"):
        translation_table([scored, found])


def test_a_demonstration_is_marked(run: Run, scored: Scored) -> None:
    path = run.folder / "scores.json"
    kept = read_json(path)
    try:
        write_json(path, kept | {"demonstration": True})
        found = ensure_scored(run, progress=False)
        assert found.demonstration and "uagan (demonstration)" in set(translation_table([found])["system"])
    finally:
        write_json(path, kept)
        ensure_scored(run, progress=False)


def test_tables_by_hand(scored: Scored) -> None:
    again = ensure_scored(ensure_run(RunSpec("uagan", "tiny", seed=1), progress=False), progress=False)
    table = translation_table([scored, again]).set_index("system")
    assert list(table.index) == ["uagan", "untranslated", "real", FLOOR]
    rows = rows_of([scored, again], "s_scores")
    own = rows[(rows["system"] == "uagan") & (rows["target"] == "B")].groupby("patient")["dice"].mean() * 100
    assert table.loc["uagan", "S-score B"] == f"{own.mean():.1f} ± {own.std(ddof=1):.1f}"
    per_target = [float(str(table.loc["uagan", f"S-score {t}"]).split()[0]) for t in "AB"]
    assert float(table.loc["uagan", "S-score mean"].split()[0]) == pytest.approx(np.mean(per_target), abs=0.11)
    fd = [s.distances().set_index(["method", "target", "source"])["FD[scorer encoder 3]"] for s in (scored, again)]
    values = [float(one["uagan", "B", "mean"]) for one in fd]
    assert table.loc["uagan", "FD[scorer encoder 3] B"] == f"{np.mean(values):.3g} ± {np.std(values, ddof=1):.3g}"
    assert table.loc[FLOOR, "FD[scorer encoder 3] A"] and table.loc["real"].isna().sum() > 0
    assert table.loc["untranslated", "S-score A"] == translation_table([scored]).set_index("system").loc[
        "untranslated", "S-score A"], "both runs see the same source images"
    errors = errors_table([scored, again]).set_index("system")
    assert list(errors.index) == ["uagan", "untranslated"]
    rows = rows_of([scored, again], "errors")
    area = rows[(rows["system"] == "uagan") & (rows["target"] == "A")].groupby("patient")["mae_area"].mean()
    assert errors.loc["uagan", "MAE target area A"] == f"{area.mean():.3f} ± {area.std(ddof=1):.3f}"


def test_tables_of_different_tasks_are_refused(scored: Scored) -> None:
    other = Scored(Run(RunSpec("uagan", "other", "both"), scored.run.folder), scored.scorer, scored.folder)
    with pytest.raises(LabError, match="translators of 2 tasks or profiles"):
        translation_table([scored, other])


def test_a_recorded_translator_by_patient(
    run: Run, scored: Scored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From runs to files to a page; the page of a suite that holds none of its claims' systems."""
    for part in (tables, patients, page):
        monkeypatch.setattr(part, "suite", lambda name: [scored.scorer.spec, run.spec])
    name = "translation-lesson"
    tables.record(name, tmp_path)
    rows = pd.read_csv(tmp_path / f"{name}-patients.csv", dtype={"patient": str})
    made = rows[rows["s_score"].notna()]
    assert set(made["system"]) == {"uagan"} and set(rows["system"]) == {"uagan", module.SCORER}
    own, plain = (t.set_index(["patient", "target", "structure"])["dice"].sort_index() for t in (
        scored.s_scores().query("method == @which") for which in ("uagan", "untranslated")))
    kept = made.set_index(["patient", "modality", "structure"]).sort_index()
    assert kept["s_score"].to_numpy() == pytest.approx(own.to_numpy(), abs=1e-5)
    assert kept["untranslated"].to_numpy() == pytest.approx(plain.to_numpy(), abs=1e-5)
    shares = scored.fd_patients().query("method == 'uagan' and target == 'B'")["FD[random encoder]"]
    assert len(shares) == made["patient"].nunique() and shares.mean() == pytest.approx(
        kept.xs("B", level="modality")["fd"].mean(), rel=1e-4)
    first = scored.errors().query("method == 'untranslated' and target == 'A'").iloc[0]
    row = kept.loc[(first["patient"], "A", "core")]
    assert row["mae_area_untranslated"] == pytest.approx(first["mae_area"], rel=1e-4)
    text = (tmp_path / f"{name}.md").read_text()
    assert text == page.page(name, tmp_path) and "Table 1" in text and "not run" in text and FLOOR in text


@dataclasses.dataclass(frozen=True)
class OnlyConfig:
    width: int = 4


class Only(Method):
    """A method that translates and does nothing else."""

    Config = OnlyConfig

    def __init__(self, config: OnlyConfig, problem: Problem):
        super().__init__(config, problem)
        self.net = torch.nn.Conv2d(1, 1, 1)

    def stages(self) -> list[Stage]:
        return [Stage("it", 1.0, {"it": adam(self.parameters(), 1e-3)})]

    def training_step(self, batch: Batch, clock: Clock, update: Update) -> StepResult:
        loss = self.net(batch["A"].image).square().mean()
        update(loss, "it")
        return StepResult({"loss": loss.item()})

    def translate(self, image: torch.Tensor, source: str, target: str) -> torch.Tensor:
        return self.net(image).tanh()


def test_a_method_that_only_translates_goes_all_the_way(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "only", Entry(Only, {}, "a test", "a test", ("tiny", "both")))
    spec = RunSpec("only", "tiny", "both")
    done = CliRunner().invoke(app, ["train", "only", "--dataset", "tiny", "--profile", "smoke"])
    assert done.exit_code == 0 and "mae/A->B" in done.output and "dice" not in done.output
    run = Run(spec, spec.folder)
    assert not (run.folder / "scores.csv").exists() and problems(run) == [] and len(patients.rows_of([run])) == 0
    monkeypatch.setattr(tables, "suite", lambda name: [spec])
    rows = tables.suite_rows("x")
    assert len(rows) == 1 and rows.state.item() == "done" and "only" in tables.report("x")
    assert set(translation_table([ensure_scored(run, progress=False)])["system"]) >= {"only", "untranslated", "real"}


def test_both_rules_for_a_missed_structure_stand_side_by_side(run: Run, scored: Scored) -> None:
    """A miss costs the volume's diagonal, or 50 as SASAN has it; what was found is the same number twice."""
    for rows in (scored.scorer.table(), scored.s_scores()):  # type: ignore[union-attr]
        found = rows[rows["missing"] == 0]
        assert (found["assd_cap50"] == found["assd_pooled"].clip(upper=50)).all()
        assert (rows.loc[rows["missing"] == 1, "assd_cap50"] == 50).all()
    assert "assd_cap50/A/core" in scored.scorer.scores()["means"]  # type: ignore[union-attr]
    made = patients.translator_rows([scored])
    own = scored.s_scores().query("method == 'uagan' and target == 'B' and structure == 'rim'")
    kept = made[(made["modality"] == "B") & (made["structure"] == "rim")]
    assert kept["s_assd_cap50"].mean() == pytest.approx(own["assd_cap50"].mean())


def test_records_without_the_newer_columns_stay_readable(run: Run, scored: Scored) -> None:
    """As runs, scores and rows were recorded before there was RMSE, PCC or the cap of 50."""
    newer = ["rmse", "pcc", "lpips", "assd_cap50"]
    table = scored.scorer.table()  # type: ignore[union-attr]
    old = [name for name in patients.ERRORS if name not in newer]

    class Old(Run):
        def table(self) -> pd.DataFrame:
            return table.drop(columns="assd_cap50")

    rows = patients.rows_of([Old(scored.scorer.spec, scored.scorer.folder)])  # type: ignore[union-attr]
    assert "assd_cap50" not in rows and len(rows) and "assd_pooled" in patients.by_patient(rows)
    made = patients.translator_rows([scored])
    gone = [c for c in made if c.removesuffix("_untranslated") in [*newer, "s_assd_cap50"]]
    assert len(gone) >= 6
    shown = {s.title: s.table for s in recorded_tables(
        pd.concat([rows, made.drop(columns=gone)]), rows_of([scored], "distances"))}
    errors = next(table for title, table in shown.items() if title.startswith("Errors"))
    assert not [c for c in errors if "RMSE" in c or "PCC" in c] and "MAE A" in errors and "SSIM target area B" in errors
    assert set(old) <= set(made)
