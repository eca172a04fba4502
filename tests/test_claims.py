"""Verdicts on claims, the papers' tables and health limits, on numbers written by hand."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from xmod_lab.bench import command_of, health, page, tables
from xmod_lab.bench.claims import CLAIMS, SAYS, Claim, gate_verdicts, untrained, verdicts
from xmod_lab.bench.patients import METRICS, by_patient, paper_table, system
from xmod_lab.bench.suites import CSA_SYSTEMS, WEIGHTED, suite, suites
from xmod_lab.files import write_json
from xmod_lab.losses.translation import slot_loss
from xmod_lab.runs import Run, RunSpec


def rows_of(values: dict[str, list[float]], *, structures: tuple[str, ...] = ("a",), seed: int = 0,
            metric: str = "dice") -> pd.DataFrame:
    """Rows of the given Dice by system and patient; other metrics are 0.5."""
    found = []
    for name, numbers in values.items():
        for i, value in enumerate(numbers):
            for structure in structures:
                named = {"dataset": "d", "task": "t", "method": name, "variant": "default", "system": name,
                         "fold": i % 2, "seed": seed, "patient": f"p{i}", "modality": "M", "structure": structure}
                found.append(named | dict.fromkeys(METRICS, 0.5) | {metric: value, "everything": 0.1})
    return pd.DataFrame(found)


A = [0.5, 0.6, 0.7, 0.6, 0.5, 0.6]


def verdict(values: dict[str, list[float]], sign: int = 1, sick: dict[str, str] | None = None, real: bool = False,
            metric: str = "dice") -> pd.Series:
    claim = Claim("X", "new", "old", "M", metric, sign, 1.0, "d", "t")
    return verdicts([claim], rows_of(values, metric=metric), sick or {}, real=real).iloc[0]


def test_a_gain_of_every_patient_is_seen_and_on_patients_reproduced() -> None:
    values = {"old": A, "new": [a + 0.1 for a in A]}
    found = verdict(values)
    assert (found["verdict"], found["n"], found["difference"]) == ("direction seen", 6, "+10.00")
    assert verdict(values, real=True)["verdict"] == "reproduced"
    assert verdict(values, sign=-1)["verdict"] == "not seen"


def test_a_mixed_difference_cannot_be_told() -> None:
    found = verdict({"old": A, "new": [a + d for a, d in zip(A, [0.1, -0.1] * 3, strict=True)]})
    assert found["verdict"] == "cannot tell"
    low, high = map(float, found["interval"].split(" to "))
    assert low < 0 < high


def test_a_system_that_did_not_train_decides_nothing() -> None:
    found = verdict({"old": A, "new": [a + 0.1 for a in A]}, sick={"d/t/old": "loss is not finite"})
    assert found["verdict"] == "cannot tell" and "loss is not finite" in found["reason"]
    assert verdict({"new": A})["verdict"] == "not run"


def test_five_patients_decide_nothing() -> None:
    found = verdict({"old": A[:5], "new": [a + 0.1 for a in A[:5]]})
    assert found["verdict"] == "cannot tell" and found["reason"] == "5 patients are too few"


def test_gates_are_compared_with_those_of_the_untrained_network() -> None:
    rows = pd.DataFrame([
        {"dataset": "d", "task": "t", "fold": 0, "seed": 0, "patient": f"p{i}", "modality": m,
         "map": f"gate/{stream}/{level}", "ratio": 1.2 if level == 0 else 0.9, "untrained": 1.0 + 0.01 * i}
        for i in range(6) for m in "AB" for stream in ("segmentation", "translation") for level in (0, 1)
    ])
    found = gate_verdicts(rows, {}, real=False)
    assert found["verdict"].tolist() == ["direction seen", "not seen"] and found["n"].tolist() == [6, 6]
    assert found["difference"][0] == "+0.175"
    assert gate_verdicts(rows, {"d/t/uagan": "ill"}, real=False)["verdict"].tolist() == ["cannot tell"] * 2


def test_distances_keep_their_unit() -> None:
    found = verdict({"old": [4.0] * 6, "new": [3.0] * 6}, sign=-1, metric="assd_pooled")
    assert (found["difference"], found["verdict"]) == ("-1.00", "direction seen")


def test_structures_and_seeds_are_averaged_before_patients_count() -> None:
    rows = pd.concat([rows_of({"s": [0.2, 0.4]}, structures=("a",)), rows_of({"s": [0.6, 0.8]}, structures=("b",)),
                      rows_of({"s": [0.5, 0.5]}, structures=("a",), seed=1)])
    values = by_patient(rows)
    assert len(values) == 2
    assert values["dice"].tolist() == pytest.approx([(0.4 + 0.5) / 2, (0.6 + 0.5) / 2])


def test_trivial_answers_do_not_count_as_trained() -> None:
    rows = rows_of({"empty": [0.0] * 6, "full": [0.1] * 6, "good": A, "sick": A})
    found = untrained(rows, {"d/t/sick": "the critic gave up"})
    assert set(found) == {"d/t/empty/M", "d/t/full/M", "d/t/sick"}
    assert verdict({"old": [0.1] * 6, "new": A}, sick=found | {"d/t/old/M": "it fills"})["verdict"] == "cannot tell"


def test_a_system_that_fails_in_one_modality_still_counts_in_another() -> None:
    sick = {"d/t/old/other": "it failed there"}
    assert verdict({"old": A, "new": [a + 0.1 for a in A]}, sick=sick)["verdict"] == "direction seen"



def test_the_paper_table_by_hand() -> None:
    rows = rows_of({"s": [0.2, 0.4, 0.6, 0.8]})  # folds 0, 1, 0, 1
    over_patients = paper_table(rows, ["dice"]).loc[0, "M Dice"]
    assert over_patients == f"50.0 ± {np.std([20, 40, 60, 80], ddof=1):.1f}"
    over_folds = paper_table(rows, ["dice"], over="fold").loc[0, "M Dice"]
    assert over_folds == f"50.0 ± {np.std([40, 60], ddof=1):.1f}"


def test_names_of_systems() -> None:
    assert system(RunSpec("unet_joint", "lgg", settings=WEIGHTED)) == "unet_joint"
    assert system(RunSpec("uagan", "lgg", settings=(("gated", False),))) == "uagan (atten)"
    assert system(RunSpec("csa", "lgg", settings=(("rate", 0.1),))) == "csa (rate=0.1)"
    assert system(RunSpec("uagan", "lgg", settings=(("gated", "False"),))) == "uagan (atten)"  # as a run folder has it
    far = RunSpec("csa", "lgg", settings=(("pairs", ("far",)),))
    assert system(far) == "csa (far)" and far.variant == "default,pairs=far"
    assert command_of(far, "cpu")[-2:] == ["--set", "pairs=far"]


@pytest.mark.parametrize("grid", list(CLAIMS))
def test_every_claim_is_answered_by_its_grid(grid: str) -> None:
    """No claim compares systems, modalities or tasks that its suite never trains."""
    from xmod_lab.data.manifest import dataset

    run = {(s.dataset, s.task_name, system(s)) for s in suite(f"{grid}-lesson")}
    for claim in CLAIMS[grid]:
        assert {(claim.dataset, claim.task, claim.method), (claim.dataset, claim.task, claim.other)} <= run
        assert claim.modality in dataset(claim.dataset).tasks[claim.task].tested
        assert claim.metric in METRICS and abs(claim.sign) == 1


def test_published_differences_are_those_of_csas_tables() -> None:
    """Means over structures of CSA's tables, from which its claims' numbers must follow (to the rounding)."""
    published = {
        "LGE": dict(zip(CSA_SYSTEMS, (85.66, 85.96, 85.91, 85.71, 86.37, 87.65), strict=True)),
        "bSSFP": dict(zip(CSA_SYSTEMS, (88.92, 89.66, 89.02, 89.65, 89.80, 89.95), strict=True)),
        "CT": dict(zip(CSA_SYSTEMS, (84.54, 84.22, 83.87, 84.96, 84.90, 85.59), strict=True)),
        "MR": dict(zip(CSA_SYSTEMS, (90.94, 91.69, 89.51, 91.94, 90.11, 92.17), strict=True)),
    }
    for claim in CLAIMS["csa"]:
        table = published[claim.modality]
        assert claim.published == pytest.approx(table[claim.method] - table[claim.other], abs=0.016)


def test_suites_name_each_run_once() -> None:
    for name in suites():
        specs = suite(name)
        assert len({s.folder for s in specs}) == len(specs)


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
        (falling(10, 1, distillation=0.4), 0.0, "divergence is 0.8"),
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
    assert "reconstruction is 0.49" in found and "fell to 1.1" in found


def test_guessing_is_what_constant_answers_cost() -> None:
    """Of n modalities alike frequent: the loss of the best constant logits, real slots and, for TarGAN, all 2n."""
    for count in (2, 3):
        own = torch.arange(count)
        constant = torch.full((count, 2 * count), math.log(1 / (count - 1)))
        constant[:, count:] = -40
        found = slot_loss(constant, own).item()
        assert health.guessing(count, {"exclusive": False}) == pytest.approx(found, rel=1e-5)
        assert health.guessing(count, {}) == pytest.approx(math.log(count))


def test_every_claim_is_put_in_words() -> None:
    assert {claim.key for claims in CLAIMS.values() for claim in claims} | {"U6"} == set(SAYS)


def test_a_page_says_what_its_files_hold(tmp_path: Path) -> None:
    name = "csa-lesson"
    rng = np.random.default_rng(0)
    rows = []
    for spec in suite(name):
        for m in ("bSSFP", "LGE") if spec.dataset == "cardiac_mr" else ("CT", "MR"):
            for i in range(6):
                for structure in ("LV", "MYO"):
                    named = {"dataset": spec.dataset, "task": spec.task_name, "method": spec.method, "fold": 0,
                             "variant": "default", "system": system(spec), "seed": 0, "patient": f"p{i}",
                             "modality": m, "structure": structure}
                    better = 0.2 if spec.method == "csa" else 0.0
                    dice = 0.5 + better + 0.01 * rng.random()
                    rows.append(named | dict.fromkeys(METRICS, 0.5) | {"everything": 0.1, "dice": dice})
    pd.DataFrame(rows).to_csv(tmp_path / f"{name}-patients.csv", index=False)
    sick = str(next(s for s in suite(name) if s.method == "ummkd"))
    write_json(tmp_path / f"{name}.json", {"runs": 12, "training_seconds": 5, "problems": {sick: "divergence is 3"}})
    text = page.page(name, tmp_path)
    claims = [line for line in text.splitlines() if line.startswith("| C1")]
    assert len(claims) == 8 and all("direction seen" in line for line in claims)
    assert "cannot tell. fold 0, seed 0: divergence is 3" in text
    assert all("cannot tell" in line for line in text.splitlines() if line.startswith("| K1") and "cardiac_mr" in line)


def test_other_suites_have_no_page() -> None:
    assert page.grid_of("lesson") == "" and page.grid_of("csa-lesson") == "csa"
    assert page.grid_of("joint-real-study") == "joint-real"
    assert callable(tables.record)
