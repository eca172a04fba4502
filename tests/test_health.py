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

from xmod_lab.bench import health
from xmod_lab.files import write_json
from xmod_lab.losses.translation import slot_loss
from xmod_lab.runs import Run, RunSpec


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
