"""The loop: updates touch what they name, clocks and stages, derived images, exact resume."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.tiny import make_tiny
from xmod_lab import checkpoint
from xmod_lab import device as dev
from xmod_lab.data.prepare import Prepared, prepare
from xmod_lab.errors import LabError
from xmod_lab.methods.base import Batch, Clock, Method, Problem, Stage, StepResult
from xmod_lab.methods.unet import UNetBaseline, UNetConfig
from xmod_lab.train import Update, clock_at, fit, read_log, stage_ends

TASK = {"modalities": ("T1", "T2"), "patients": 8, "labelled": ["T1", "T2"], "unlabelled": []}
PROBLEM = Problem(("T1", "T2"), ("T1", "T2"), ("T1", "T2"), (), ("core", "rim"), 1, 32)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    home = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMOD_HOME", str(home))
        yield prepare(make_tiny(home, **TASK), None, 32)


def tiny_method(problem: Problem = PROBLEM, **config: object) -> UNetBaseline:
    torch.manual_seed(0)
    return UNetBaseline(UNetConfig(width=4, **config), problem)  # type: ignore[arg-type]


def problem_of(prepared: Prepared) -> Problem:
    return Problem(
        tuple(prepared.modalities),
        tuple(prepared.task.tested),
        tuple(prepared.task.labelled),
        tuple(prepared.task.unlabelled),
        tuple(prepared.classes),
        prepared.channels,
        prepared.size,
    )


def test_update_touches_only_the_named_optimisers_and_counts_missing_gradients_as_zero() -> None:
    a, b, unused = (nn.Parameter(torch.ones(2)) for _ in range(3))
    update = Update({"a": torch.optim.SGD([a, unused], 0.5, momentum=0.9), "b": torch.optim.SGD([b], 0.5)})
    update((a * b).sum(), "a")
    assert a.tolist() == [0.5, 0.5] and b.tolist() == [1, 1] and unused.tolist() == [1, 1]
    assert a.grad is None and b.grad is None
    update((a * b).sum(), "a", "b")
    assert b.tolist() == [0.75, 0.75]
    state = update.optimisers["a"].state_dict()["state"]
    assert state[1]["momentum_buffer"].tolist() == [0, 0], "the unreached parameter took part with a zero gradient"


def test_stages_share_the_steps_and_clocks_go_from_0_to_1() -> None:
    stages = [Stage("warm", 1, {}), Stage("main", 2, {}), Stage("end", 0.5, {})]
    assert stage_ends(stages, 35) == [10, 30, 35]
    seen: dict[str, list[float]] = {}
    for step in range(35):
        stage, clock = clock_at(stages, 35, step)
        assert clock.stage == stage.name and clock.step == step
        seen.setdefault(stage.name, []).append(clock.progress)
    assert [len(v) for v in seen.values()] == [10, 20, 5]
    assert all(v[0] == 0 and v[-1] == 1 and v == sorted(v) for v in seen.values())
    with pytest.raises(IndexError):
        clock_at(stages, 35, 35)


class TwoStages(Method):
    """A translator is trained, frozen, and its images join the second stage (as in BiGL)."""

    Config = UNetConfig

    def __init__(self, config: UNetConfig, problem: Problem):
        super().__init__(config, problem)
        self.translator, self.segmenter = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 3, 3, padding=1)
        self.seen: list[tuple[str, list[str]]] = []
        self.pool = torch.zeros(2)

    def stages(self) -> list[Stage]:
        def translated(image: torch.Tensor) -> torch.Tensor:
            return self.translator(image)

        return [
            Stage("translate", 1, {"t": torch.optim.SGD(self.translator.parameters(), 0.1)}, trained=("translator",)),
            Stage(
                "segment",
                1,
                {"s": torch.optim.Adam(self.segmenter.parameters(), 0.01)},
                trained=("segmenter",),
                derive={"T1->T2": translated},
            ),
        ]

    def training_step(self, batch: Batch, clock: Clock, update: Update) -> StepResult:  # type: ignore[override]
        self.seen.append((clock.stage, sorted(batch)))
        self.pool = self.pool * 0.5 + batch["T1"].image.mean()
        if clock.stage == "translate":
            loss = (self.translator(batch["T1"].image) - 2 * batch["T1"].image).square().mean()
            update(loss, "t")
        else:
            assert not self.translator.training and not any(p.requires_grad for p in self.translator.parameters())
            loss = (
                nn.functional.cross_entropy(self.segmenter(batch["T1->T2"].image), batch["T1->T2"].label)
                + self.pool.sum()
            )
            update(loss, "s")
        return StepResult({"loss": loss.item()})

    def extra_state(self) -> dict[str, torch.Tensor]:
        return {"pool": self.pool}

    def load_extra_state(self, state: dict[str, torch.Tensor]) -> None:
        self.pool = state["pool"]


def test_a_later_stage_sees_the_frozen_translations(prepared: Prepared, tmp_path: Path) -> None:
    method = TwoStages(UNetConfig(), problem_of(prepared))
    fit(method, "unet_joint", prepared, tmp_path, steps=8, batch=4, seed=0, checkpoint_every=3)
    assert [stage for stage, _ in method.seen] == ["translate"] * 4 + ["segment"] * 4
    assert method.seen[-1][1] == ["T1", "T1->T2", "T2"]
    stored = np.load(tmp_path / "derived" / "T1_to_T2.npy")
    expected = method.translator(torch.from_numpy(prepared.images["T1"][:3].astype(np.float32))[:, None])[:, 0]
    assert np.allclose(stored[:3], expected.detach().numpy(), atol=2e-3)


@pytest.mark.parametrize("stop", [1, 3, 4, 5, 7])
def test_resuming_inside_and_between_stages_is_exact(prepared: Prepared, tmp_path: Path, stop: int) -> None:
    def run(folder: Path, until: int | None) -> None:
        torch.manual_seed(1)
        method = TwoStages(UNetConfig(), problem_of(prepared))

        def on_step(step: int, _result: StepResult) -> None:
            if step == until:
                raise KeyboardInterrupt

        fit(method, "unet_joint", prepared, folder, steps=8, batch=4, seed=0, checkpoint_every=3, on_step=on_step)

    run(tmp_path / "whole", None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", stop)
    run(tmp_path / "cut", None)
    same_end(tmp_path / "whole", tmp_path / "cut")


def same_end(whole: Path, cut: Path) -> None:
    assert [p.name for p in cut.glob("process*")] == ["process0-8.safetensors"], "earlier states are gone"
    for name in ("checkpoint.safetensors", "process0-8.safetensors"):
        one, other = load_file(whole / name), load_file(cut / name)
        assert one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
    assert list(read_log(whole)) == list(read_log(cut))


@pytest.mark.parametrize("when", ["before its own state", "before the weights", "after the weights"])
@pytest.mark.parametrize("step", [4, 6, 8])
def test_killed_while_a_checkpoint_is_written_the_end_is_the_same(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, when: str
) -> None:
    """Twice at the same one: the second kill must not find the state of the weights before it overwritten."""

    def run(folder: Path) -> None:
        torch.manual_seed(1)
        method = TwoStages(UNetConfig(), problem_of(prepared))
        fit(method, "unet_joint", prepared, folder, steps=8, batch=4, seed=0, checkpoint_every=3)

    save, save_extra = checkpoint.save, checkpoint.save_extra

    def killed_save(path: Path, method: Method, name: str, optimisers: Any, done: int, **facts: Any) -> None:
        if done == step and when == "before the weights":
            raise KeyboardInterrupt
        save(path, method, name, optimisers, done, **facts)
        if done == step and when == "after the weights":
            raise KeyboardInterrupt

    def killed_save_extra(folder: Path, rank: int, done: int, extra: dict[str, torch.Tensor]) -> None:
        if done == step and when == "before its own state":
            raise KeyboardInterrupt
        save_extra(folder, rank, done, extra)

    run(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", killed_save)
        patch.setattr(checkpoint, "save_extra", killed_save_extra)
        for _ in range(1 if when == "after the weights" else 2):
            with pytest.raises(KeyboardInterrupt):
                run(tmp_path / "cut")
    run(tmp_path / "cut")
    same_end(tmp_path / "whole", tmp_path / "cut")


def test_weights_without_the_states_of_their_step_are_refused(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = TwoStages(UNetConfig(), problem_of(prepared))
    fit(method, "unet_joint", prepared, tmp_path, steps=8, batch=4, seed=0)
    monkeypatch.setattr(dev, "world", lambda: 2)
    with pytest.raises(LabError, match="1 processes began this run, 2 cannot go on"):
        fit(method, "unet_joint", prepared, tmp_path, steps=8, batch=4, seed=0)
    monkeypatch.undo()
    (tmp_path / "process0-8.safetensors").write_bytes(b"no tensors")
    with pytest.raises(LabError, match="a damaged one"):
        fit(method, "unet_joint", prepared, tmp_path, steps=8, batch=4, seed=0)
    (tmp_path / "process0-8.safetensors").rename(tmp_path / "process0.safetensors")
    with pytest.raises(LabError, match="no state of process 0 after step 8: an older version"):
        fit(method, "unet_joint", prepared, tmp_path, steps=8, batch=4, seed=0)


def test_states_that_fit_no_weights_are_removed(prepared: Prepared, tmp_path: Path) -> None:
    """Of a run that begins anew all; of one that goes on those of other steps, and of processes that are no more."""

    def left() -> set[str]:
        return {path.name for path in tmp_path.glob("process*")}

    def write(*names: str) -> None:
        for name in names:
            (tmp_path / f"process{name}.safetensors").write_bytes(b"")

    write("0-3", "0-0", "1-3", "10-3")
    fit(TwoStages(UNetConfig(), problem_of(prepared)), "unet_joint", prepared, tmp_path, steps=4, batch=4, seed=0)
    assert left() == {"process0-4.safetensors"}
    write("0-2", "1-2", "1-4", "2-4", "12-4", "0-2 (copy)")
    checkpoint.drop_extras(tmp_path, 1, 2, 4)
    assert left() == {f"process{name}.safetensors" for name in ("0-2", "0-4", "1-4", "2-4", "12-4", "0-2 (copy)")}
    checkpoint.drop_extras(tmp_path, 0, 2, 4)
    assert left() == {f"process{name}.safetensors" for name in ("0-4", "1-4", "0-2 (copy)")}


def test_training_lowers_the_loss_and_writes_the_log(prepared: Prepared, tmp_path: Path) -> None:
    method = tiny_method(problem_of(prepared), rate=5e-3)
    fit(method, "unet_joint", prepared, tmp_path, steps=90, batch=8, seed=0)
    log = list(read_log(tmp_path))
    losses = [line["total"] for line in log]
    assert len(log) == 90 and np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    assert sum("validation/T1" in line for line in log) == 10
    assert not method.training


def test_a_checkpoint_rebuilds_its_network(prepared: Prepared, tmp_path: Path) -> None:
    method = tiny_method(problem_of(prepared), individual=True)
    fit(method, "unet_individual", prepared, tmp_path, steps=2, batch=4, seed=0)
    again = checkpoint.rebuild(tmp_path / "checkpoint.safetensors")
    image = torch.randn(1, 1, 32, 32)
    assert torch.equal(again.segment(image, "T2"), method.segment(image, "T2"))  # type: ignore[operator]
    assert again.config == method.config and again.problem == method.problem


def test_a_run_keeps_moments_of_its_way(prepared: Prepared, tmp_path: Path) -> None:
    """In half precision; the same after a kill, and none of them before its step."""
    method = tiny_method(problem_of(prepared))
    fit(method, "unet_joint", prepared, tmp_path, steps=20, batch=4, seed=0)
    kept = checkpoint.moments(tmp_path)
    assert list(kept) == [1, 3, 8]
    early, late = (checkpoint.rebuild(path) for path in (kept[1], kept[8]))
    image = torch.randn(1, 1, 32, 32)
    assert not torch.allclose(early.segment(image, "T1"), late.segment(image, "T1"))  # type: ignore[operator]
    short = tmp_path / "short"
    fit(tiny_method(problem_of(prepared)), "unet_joint", prepared, short, steps=20, batch=4, seed=0)
    again = checkpoint.rebuild(checkpoint.moments(short)[8])
    assert torch.equal(again.segment(image, "T1"), late.segment(image, "T1"))  # type: ignore[operator]
    assert kept[8].stat().st_size < (tmp_path / "checkpoint.safetensors").stat().st_size / 4


def test_weights_that_half_precision_does_not_hold_stay_whole(prepared: Prepared, tmp_path: Path) -> None:
    method = tiny_method(problem_of(prepared))
    weight = next(method.parameters())
    with torch.no_grad():
        weight.fill_(1e5)
    checkpoint.save_weights(tmp_path / "x.safetensors", method, "unet_joint", 0)
    again = checkpoint.rebuild(tmp_path / "x.safetensors")
    assert torch.equal(next(again.parameters()), weight)
    for ours, theirs in zip(method.parameters(), again.parameters(), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-6)


def test_a_checkpoint_of_another_config_is_refused(prepared: Prepared, tmp_path: Path) -> None:
    fit(tiny_method(problem_of(prepared)), "unet_joint", prepared, tmp_path, steps=2, batch=4, seed=0)
    with pytest.raises(LabError, match=r"the checkpoint is of another config \(rate differ\)"):
        fit(tiny_method(problem_of(prepared), rate=0.5), "unet_joint", prepared, tmp_path, steps=4, batch=4, seed=0)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x00" * 100])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(content)
    with pytest.raises(LabError, match="not a checkpoint of xmod_lab, or a damaged one.*checkpoint.safetensors"):
        checkpoint.rebuild(tmp_path / "checkpoint.safetensors")


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no checkpoint"):
        checkpoint.rebuild(tmp_path / "checkpoint.safetensors")
