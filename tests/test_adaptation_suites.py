"""The grids of runs of systems that adapt: what claims and tables name is run."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from xmod_lab.bench import suites
from xmod_lab.bench.systems import ABLATIONS


def test_suites_of_adaptation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each ablation that claims and tables name is run, whatever fields it has."""
    fields = {m: {name: {"field": name} for name in names} for m, names in ABLATIONS.items()}
    fake = {m: SimpleNamespace(cls=SimpleNamespace(ablations=own)) for m, own in fields.items()}
    monkeypatch.setattr(suites, "METHODS", fake)
    specs = suites.suite("adaptation-lesson")
    brain = [s for s in specs if s.task == "subregions"]
    assert [s.method for s in brain].count("cyclegan_seg") == [s.method for s in brain].count("source_only") == 2
    assert {"adaptsegnet", "cycada", "sifa", "pnp_adanet", "bigl", "target_only"} <= {s.method for s in brain}
    assert [s.method for s in specs if s.task == "subregions_all"] == ["unet_joint"]
    for profile, folds, runs in (("lesson", (0,), 2 * 11), ("study", (0, 1), 2 * 2 * 3 * 11)):
        hearts = suites.suite(f"adaptation-heart-{profile}")
        assert {(s.task, s.fold) for s in hearts} == {(t, f) for t in ("mr_to_ct", "ct_to_mr") for f in folds}
        assert len(hearts) == len(set(hearts)) == runs
    assert len(specs) == len(set(specs)) == 11
    counts = {"adaptation-study": 3 * 11, "adaptation-ablations-lesson": 2 + 2 + 7 + 3}
    assert {name: len(suites.suite(name)) for name in counts} == counts
    bar = [(s.method, s.profile, s.fold) for s in suites.suite("adaptation-bar-long")]
    assert bar == [(m, "long", 1) for m in ("source_only", "target_only", "bigl", "bigl")]
    through = [s.task_name for s in suites.suite("adaptation-translators-lesson")]
    assert len(through) == 3 + 6 + 2 + 3 and set(through) == {"subregions", "subregions_black"}
    assert {"source_only", "bigl", "sifa", "target_only"} <= {s.method for s in suites.suite("adaptation-real-lesson")}
