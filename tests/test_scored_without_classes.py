"""A task without classes: no scorer and no S-score, but errors, distances, tables and a page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests.test_scored import SMALL, Only
from tests.tiny import make_tiny, tiny_manifest
from xmod_lab import profiles
from xmod_lab.bench import page, patients, tables
from xmod_lab.bench.health import problems
from xmod_lab.bench.translators import FLOOR, error_table, errors_table, translation_table
from xmod_lab.errors import LabError
from xmod_lab.evaluate.scored import ensure_scored, scorer_of
from xmod_lab.evaluate.translation import say_lpips_is_absent
from xmod_lab.files import write_text
from xmod_lab.methods import METHODS, Entry
from xmod_lab.runs import RunSpec, ensure_run, prepared_of
from xmod_lab.view.explore import TranslationGallery

BARE = {"labelled": [], "unlabelled": ["A", "B"], "classes": {}, "draw": "paired", "one_modality_per_patient": False}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMOD_HOME", str(folder))
        patch.setitem(profiles.PROFILES, "smoke", SMALL)
        make_tiny(folder, patients=8, key="bare", **BARE)
        text = tiny_manifest(("A", "B"), "registered", "bare", {}, {}, BARE)
        write_text(folder / "data" / "user_manifest.yaml", text)
        yield folder


def test_a_task_without_classes_is_scored_without_a_scorer(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(METHODS, "only", Entry(Only, {}, "a test", "a test", ("bare", "both")))
    spec = RunSpec("only", "bare", "both")
    run = ensure_run(spec, progress=False)
    means = run.scores()["means"]
    assert {name.split("/")[0] for name in means} >= {"mae", "rmse", "pcc"} and "mae_area/A->B" not in means
    assert problems(run) == []
    found = ensure_scored(run, progress=False)
    assert found.scorer is None and found.inputs()["scorer"] is None and found.folder.name == "no-scorer"
    assert found.s_scores().empty and ensure_scored(run, progress=False) == found
    distances = found.distances()
    assert "FD[random encoder]" in distances and not [c for c in distances if "scorer" in c]
    assert set(distances["target"]) == {"A", "B"} and distances["FD[random encoder]"].min() > 0
    with pytest.raises(LabError, match="a task without classes has no scorer"):
        ensure_scored(run, scorer=scorer_of(spec))
    say_lpips_is_absent.cache_clear()
    errors = errors_table([found]).set_index("system")
    errors_table([found])
    assert capsys.readouterr().out.count("LPIPS is left out") == 1
    assert list(errors.index) == ["only", "untranslated"]
    shown = {"MAE A", "RMSE B", "SSIM A", "PSNR B", "PCC A", "MAE body B"}
    assert shown <= set(errors) and not [c for c in errors if "area" in c or "LPIPS" in c]
    own = found.errors().query("method == 'only' and target == 'A'")
    assert errors.loc["only", "RMSE A"].startswith(f"{own['rmse'].mean():.3f}")
    assert own["mae_rest"].to_numpy() == pytest.approx(own["mae_body"].to_numpy()), "no target area, all is the rest"
    table = translation_table([found]).set_index("system")
    assert list(table.index) == ["only", "untranslated", FLOOR] and "FD[random encoder] A" in table
    for part in (tables, patients, page):
        monkeypatch.setattr(part, "suite", lambda name: [spec])
    tables.record("translation-lesson", tmp_path)
    rows = pd.read_csv(tmp_path / "translation-lesson-patients.csv", dtype={"patient": str})
    assert rows["s_score"].isna().all() and rows["rmse_untranslated"].notna().all() and len(rows) == 2 * len(own)
    text = (tmp_path / "translation-lesson.md").read_text()
    assert "RMSE A" in text and "Table 1" not in text and "FD[random encoder] A" in text


def test_the_gallery_of_a_task_without_classes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "only", Entry(Only, {}, "a test", "a test", ("bare", "both")))
    run = ensure_run(RunSpec("only", "bare", "both"), progress=False)
    gallery = TranslationGallery({"only": run.method().eval()}, prepared_of(run.spec))
    body = gallery.cases["A"][0].slices.foreground.sum((1, 2))
    assert gallery.first_slice("A") == int(body.argmax()), "where most of the body is"
    with pytest.raises(LabError, match="no classes, so no target area"):
        gallery.figure("A", view="target area")
    views = next(one for one in gallery.widget().children if getattr(one, "description", "") == "show")
    assert views.options == ("image", "difference")


def test_a_one_way_translator_is_compared_with_real_images_of_its_target(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OneWay(Only):
        translations = (("A", "B"),)

    monkeypatch.setitem(METHODS, "one_way", Entry(OneWay, {}, "a test", "a test", ("bare", "both")))
    found = ensure_scored(ensure_run(RunSpec("one_way", "bare", "both"), progress=False), progress=False)
    distances = found.distances()
    assert set(distances["target"]) == {"B"} and distances["FD[random encoder]"].min() > 0
    assert set(found.errors()["source"]) == {"A"}


def test_no_mean_over_targets_for_one_who_has_some_of_them() -> None:
    rows = [
        {"system": name, "target": target, "fold": 0, "patient": "p", "mae": mae}
        for name, target, mae in (("both", "A", 0.1), ("both", "B", 0.3), ("one", "A", 0.1))
    ]
    found = error_table(pd.DataFrame(rows)).set_index("system")["MAE mean"]
    assert found["both"] == "0.200" and pd.isna(found["one"])
    assert "MAE mean" not in error_table(pd.DataFrame(rows[2:])), "of one target it would say the same again"
