"""Limits on what a run logs, on logs written by hand."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from xmod_lab.bench import health, tables
from xmod_lab.bench.patients import METRICS, rows_of
from xmod_lab.files import write_json
from xmod_lab.losses.translation import slot_loss
from xmod_lab.runs import Run, RunSpec, reads_of


def finished(folder: Path, log: list[dict[str, float]], config: dict[str, float], missing: float = 0.0) -> Run:
    spec = RunSpec("uagan", "brain_tumour", "uagan")
    write_json(folder / "config.json", {"spec": dataclasses.asdict(spec), "config": config})
    lines = [json.dumps({"step": i, "stage": "joint"} | line) for i, line in enumerate(log)]
    (folder / "log.jsonl").write_text("\n".join(lines) + "\n")
    table = pd.DataFrame({"modality": ["T2"] * 4, "network": ["T2"] * 4, "structure": ["a", "a", "b", "b"]})
    table["missing"] = [missing, missing, 0.0, 0.0]
    table.assign(patient=["p"] * 4).to_csv(folder / "scores.csv", index=False)
    return Run(spec, folder)


def falling(start: float, end: float, **others: float) -> list[dict[str, float]]:
    return [{"segmentation": float(v)} | others for v in np.linspace(start, end, 20)]


@pytest.mark.parametrize(
    ("log", "missing", "said"),
    [
        (falling(10, 1), 0.0, None),
        (falling(10, 9.5), 0.0, "fell to 0.9"),
        (falling(10, float("nan")), 0.0, "not finite"),
        (falling(10, 1), 1.0, "a in T2 is missed in 100% of the patients"),
        (falling(10, 1, affinity=1e-8), 0.0, "affinity over segmentation loss"),
        (falling(10, 1, affinity=1e-2), 0.0, None),
        (falling(10, 1, distillation=0.4), 0.0, "divergence is 2.4"),  # of three modalities: 0.4 / 0.5 * 3
        (falling(10, 1, distillation=0.08), 0.0, None),
    ],
)
def test_health_limits(tmp_path: Path, log: list[dict[str, float]], missing: float, said: str | None) -> None:
    found = health.problems(finished(tmp_path, log, {"weight": 0.5}, missing))
    assert (not found) if said is None else any(said in text for text in found)


def test_target_only_answers_for_the_modality_it_learned_from(tmp_path: Path) -> None:
    run = finished(tmp_path, falling(10, 1), {}, 1.0)  # T2 is missed
    for method, sick in (("target_only", True), ("source_only", False)):
        found = health.problems(Run(RunSpec(method, "brain_tumour", "t1_to_t2"), run.folder))
        assert bool(found) == sick


CRITIC = {"critic": -1.0, "critic_penalty": 1.0, "critic_modality": 0.1, "modality": 0.2, "reconstruction": 0.5,
          "change": 0.2}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("critic_penalty", 9.0, "penalty"),
        ("critic_modality", 1.0, "critic's modality"),
        ("modality", 1.0, "translations"),
        ("reconstruction", 3.0, "reconstruction"),
        ("change", 0.001, "change"),
        ("critic", -5.0, None),
        ("critic_penalty/area", 9.0, "penalty"),
        ("modality/area", 1.0, "translations"),
        ("critic_modality/area", 1.0, None),
    ],
)
def test_health_of_the_critic(tmp_path: Path, name: str, value: float, said: str | None) -> None:
    log = falling(10, 1, **(CRITIC | {name: value}))
    weights = {"weight": 1.0, "penalty_weight": 10.0, "reconstruction_weight": 10.0}
    found = health.problems(finished(tmp_path, log, weights))
    assert (not found) if said is None else any(said in text for text in found)


def test_health_of_stages_that_log_different_losses(tmp_path: Path) -> None:
    """A least-squares critic in the second of three stages, segmenters in the others: each by its own steps."""
    pairs = [{"critic": 0.2, "reconstruction": v, "change": 0.2} for v in np.linspace(5, 1, 20)]
    log = [*falling(10, 5), *pairs, *falling(2, 1)]
    assert not health.problems(finished(tmp_path, log, {"reconstruction_weight": 10.0}))
    worse = [*falling(10, 5), *pairs[::-1], *falling(12, 11)]
    found = "; ".join(health.problems(finished(tmp_path, worse, {"reconstruction_weight": 10.0})))
    assert "reconstruction is 0.489" in found and "fell to 1.1" in found


def test_guessing_is_what_constant_answers_cost() -> None:
    """Of n modalities alike frequent: the loss of the best constant logits, real slots and, for TarGAN, all 2n."""
    for count in (2, 3):
        own = torch.arange(count)
        constant = torch.full((count, 2 * count), math.log(1 / (count - 1)))
        constant[:, count:] = -40
        found = slot_loss(constant, own).item()
        assert health.guessing(count, {"exclusive": False}) == pytest.approx(found, rel=1e-5)
        assert health.guessing(count, {}) == pytest.approx(math.log(count))


SUBREGIONS = ("brain_tumour", "subregions")


def adapted(folder: Path, log: list[dict[str, float]], dice: float, missing: tuple[str, ...] = (),
            spec: RunSpec | None = None, home: str = "T1") -> Run:
    """A finished run on BiGL's task with the given Dice on T2; `missing` structures are missed in `home`."""
    spec = spec or RunSpec("sasan", *SUBREGIONS)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", {"spec": dataclasses.asdict(spec), "config": {"reconstruction_weight": 10.0}})
    lines = [json.dumps({"step": i, "stage": "adaptation"} | line) for i, line in enumerate(log)]
    (folder / "log.jsonl").write_text("\n".join(lines) + "\n")
    table = pd.DataFrame([
        {"modality": m, "network": m, "structure": s, "region": s in ("WT", "TC"), "patient": p,
         "missing": float(m == home and s in missing)} | dict.fromkeys(METRICS[:-1], dice if m == "T2" else 0.8)
        for m in ("T2", "T1") for s in ("NCR/NET", "ED", "ET", "WT", "TC") for p in "ab"
    ])  # fmt: skip
    table.to_csv(folder / "scores.csv", index=False)
    return Run(spec, folder)


def losses(**values: float | list[float]) -> list[dict[str, float]]:
    """Forty steps: a number stays, of a list each has an equal part."""
    return [{name: v if isinstance(v, float) else v[i * len(v) // 40] for name, v in values.items()} for i in range(40)]


@pytest.mark.parametrize(
    ("log", "dice", "said"),
    [
        ({"critic/main": [0.7, 0.001, 0.001, 0.001], "adversarial/main": 5.0}, 0.02, None),  # it won later
        ({"critic/main": [0.7] + [0.001] * 19, "adversarial/main": 5.0}, 0.02, "critic/main won early in stage adapta"),
        ({"critic": [0.7] + [0.001] * 19, "adversarial": 5.0}, 0.02, "critic won early"),
        ({"critic/main": [0.7] + [0.001] * 19, "adversarial/main": 5.0}, 0.5, None),  # the target was learned
        ({"critic/main": [0.7] + [0.001] * 19}, 0.02, None),  # the control: nobody listens
        ({"critic/main": [0.7] + [0.001] * 9 + [0.3] * 10, "adversarial/main": 5.0}, 0.02, None),  # it did not last
        ({"critic/main": [0.7] + [-0.5] * 19, "adversarial/main": 5.0}, 0.02, None),  # Wasserstein
        ({"critic/feature": [0.7] + [0.001] * 19, "feature": 5.0}, 0.02, "critic/feature won early"),
        ({"critic/cyclegan": 0.2, "change/cyclegan": 0.001}, 0.5, "change by translation is 0.001"),
        ({"critic/cyclegan": 0.2, "reconstruction/cyclegan": 5.0}, 0.5, "reconstruction is 0.5"),
        ({"critic/cyclegan": 0.2, "reconstruction/cyclegan": 1.0, "change/cyclegan": 0.2}, 0.5, None),
        ({"gamma/position": 1e-5, "gamma/channel": -0.1}, 0.5, "weight of position attention is 1e-05"),
        ({"gamma/position": 0.02, "gamma/channel": -0.009}, 0.5, "weight of channel attention is 0.009"),
        ({"gamma/position": 0.02, "gamma/channel": -0.1}, 0.5, None),
        ({"critic/feature": 0.5, "feature": 5.0, "accuracy/feature": [0.5] + [1.0] * 9}, 0.02, "feature won early"),
        ({"critic/feature": 0.5, "feature": 5.0, "accuracy/feature": [0.5] + [1.0] * 9}, 0.5, None),
        ({"critic/feature": 0.5, "feature": 5.0, "accuracy/feature": [0.5] * 9 + [1.0]}, 0.02, None),  # late
        ({"critic/feature": 0.5, "feature": 5.0, "accuracy/feature": [0.5] + [0.95] * 9}, 0.02, None),
        ({"critic/feature": 0.5, "accuracy/feature": [0.5] + [1.0] * 9}, 0.02, None),  # nobody listens
        ({"critic": 0.5, "adversarial": 5.0, "accuracy": [0.5] + [1.0] * 9}, 0.02, "critic won early"),
        ({"open": [0.0] * 19 + [1.0]}, 0.5, "share of steps with the gate open is 0.05"),
        ({"open": [0.0] * 9 + [1.0]}, 0.5, None),
    ],
)
def test_health_of_adaptation(tmp_path: Path, log: dict[str, list[float]], dice: float, said: str | None) -> None:
    found = health.problems(adapted(tmp_path, losses(segmentation=[10.0, 1.0], **log), dice))
    assert (not found) if said is None else (len(found) == 1 and said in found[0])


def test_a_wasserstein_critic_must_have_learned_which_side_is_which(tmp_path: Path) -> None:
    """At the end of the stage in which it learns alone; later, with plugged layers that deceive it, all is well."""
    for warm, later, sick in ((-0.2, 0.1, False), (0.01, -0.5, True), (0.0, 0.0, True)):
        run = adapted(tmp_path, losses(segmentation=[10.0, 1.0]), 0.02)
        stages = [("critics", {"critic/features": warm})] * 20 + [("adaptation", {"critic/features": later})] * 20
        with open(run.folder / "log.jsonl", "a") as log:
            log.writelines(json.dumps({"step": 40 + i, "stage": s} | line) + "\n" for i, (s, line) in enumerate(stages))
        found = health.problems(run)
        assert bool(found) == sick and all("critic/features is" in text for text in found)


def test_what_a_systems_own_translator_loses_is_no_failure_of_training(tmp_path: Path) -> None:
    """CyCADA, SIFA and one direction of CycleGAN + segmentation see labelled slices as their translations alone."""
    missed = ("ET",)
    for method, direction, sick in (("cycada", "", False), ("sifa", "", False), ("bigl", "", True),
                                    ("cyclegan_seg", "source_to_target", False), ("source_only", "", True),
                                    ("cyclegan_seg", "target_to_source", True)):  # fmt: skip
        settings = (("direction", direction),) if direction else ()
        spec = RunSpec(method, *SUBREGIONS, settings=settings)
        run = adapted(tmp_path, losses(segmentation=[10.0, 1.0]), 0.5, missed, spec)
        assert bool(health.problems(run)) == sick, method
        flat = adapted(tmp_path, losses(segmentation=[10.0, 9.5]), 0.5, (), spec)
        assert health.problems(flat), "that nothing was learned still shows"


def test_the_way_back_is_weighed_by_what_the_method_calls_it(tmp_path: Path) -> None:
    for value, wrong in ((1.0, False), (5.0, True)):
        log = falling(10, 1, critic=0.2, reconstruction=value)
        assert bool(health.problems(finished(tmp_path, log, {"cycle_weight": 10.0}))) == wrong


def test_what_the_plain_network_misses_is_asked_of_nobody(tmp_path: Path) -> None:
    log = losses(segmentation=[10.0, 1.0])
    plain = [adapted(tmp_path / f"s{i}", log, 0.1, miss, RunSpec("source_only", *SUBREGIONS, seed=i))
             for i, miss in enumerate([("ET",), ("ET", "TC")])]  # fmt: skip
    upper = adapted(tmp_path / "t", log, 0.5, ("ET",), RunSpec("target_only", *SUBREGIONS), "T2")
    other = adapted(tmp_path / "b", log, 0.5, ("ET", "WT"))
    assert health.unseen([*plain, other]) == {"brain_tumour/subregions": ["ET in T1"]}
    hidden = health.unseen([*plain, upper, other])["brain_tumour/subregions"]
    assert hidden == ["ET in T1", "ET in T2"]
    assert health.problems(other, hidden) == ["WT in T1 is missed in 100% of the patients"]
    assert health.problems(plain[1], hidden) == ["TC in T1 is missed in 100% of the patients"]
    assert not health.problems(plain[0], hidden) and not health.problems(upper, hidden)
    assert len(health.problems(other)) == 2  # a page of a suite without plain networks excuses nothing
    assert health.unseen([other]) == {}
    whole = adapted(tmp_path / "o", log, 0.1, ("ET",), RunSpec("source_only", "brain_tumour", "t1_to_t2"))
    assert health.unseen([whole]) == {}  # of tasks that say what they report


def test_rows_hold_what_the_task_reports(tmp_path: Path) -> None:
    rows = rows_of([adapted(tmp_path, [], 0.5, spec=RunSpec("source_only", *SUBREGIONS))])
    assert set(rows["structure"]) == {"WT", "TC", "ET"} and len(rows) == 3 * 2 * 2


def test_what_is_wrong_with_a_translator_is_wrong_with_its_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    spec = RunSpec("detached", "whole_heart", "sasan_mr_to_ct", settings=(("labels", "own"), ("translator", "sasan")))
    specs = [spec, *reads_of(spec).values()]
    for one in specs:
        write_json(one.folder / "environment.json", dict.fromkeys(
            ("python", "platform", "device", "threads", "processes", "commit"), "x") | {"versions": {}})  # fmt: skip
        facts = {"precision": "p", "seconds": 10, "peak_memory_mb": 1, "means": {}}
        write_json(one.folder / "scores.json", facts)
    wrong = {"detached": [], "sasan": ["it copies"]}
    monkeypatch.setattr(tables, "problems", lambda run, unseen=(): wrong[run.spec.method])
    runs = [Run(one, one.folder) for one in specs]
    found = tables.provenance(runs[:1])
    assert (found["runs"], found["read"], found["training_seconds"]) == (1, 1, 20)
    assert found["problems"] == {str(spec): "sasan: it copies"}
    both = tables.provenance(runs)  # a suite that has the translator itself tells its problems where they are
    assert "read" not in both and both["problems"] == {str(specs[1]): "it copies"} and both["training_seconds"] == 20
