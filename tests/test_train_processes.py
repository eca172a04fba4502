"""Training that is killed, and training by several processes: the weights must be those of one whole run."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests import train_worker
from tests.joint import ADAPTING, PAIRED
from tests.tiny import make_tiny
from xmod_lab.train import read_log

TASK = {"modalities": ("T1", "T2"), "patients": 8, "labelled": ["T1", "T2"], "unlabelled": []}
WORKER = Path(__file__).with_name("train_worker.py")


def start(folder: Path, data: Path, *more: str, launcher: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [sys.executable, *launcher, str(WORKER), str(folder), str(data), *more]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(WORKER.parents[1])}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def test_killed_at_20_random_steps_the_weights_are_bit_identical(tmp_path: Path) -> None:
    """SIGKILL from outside, at steps drawn here; each process resumes where the last was killed, 20 times over."""
    make_tiny(tmp_path / "home", **TASK)
    whole = start(tmp_path / "whole", tmp_path / "home")
    assert whole.communicate(timeout=120)[0] is not None and whole.returncode == 0
    steps = sorted(random.Random(int.from_bytes(os.urandom(4), "big")).sample(range(60), 20))
    cut = start(tmp_path / "cut", tmp_path / "home", "--kill-at", *map(str, steps))
    output = cut.communicate(timeout=300)[0]
    assert cut.returncode == 0, output
    assert f"killed {len(steps)} times" in output
    whole_weights, cut_weights = (load_file(tmp_path / n / "checkpoint.safetensors") for n in ("whole", "cut"))
    assert whole_weights.keys() == cut_weights.keys()
    assert all(torch.equal(whole_weights[k], cut_weights[k]) for k in whole_weights), f"killed at {steps}"


KILLED = ("uagan", "csa", "targan", "stargan", "csgan", "remic", "enriched", "cyclegan", "ugatit", "sasan", "detached")


@pytest.mark.parametrize("name", [*KILLED, *PAIRED, *ADAPTING])
def test_killed_methods_end_bit_identical(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """SIGKILL in the first, a middle and the last of CSGAN's, CyCADA's and BiGL's stages, at the same steps of methods
    with two optimisers, with running statistics a modality, averaged weights, a running style, derived images, pools of
    earlier translations, and weights that keep a singular vector."""
    make_tiny(tmp_path / "home", **TASK)
    drawn = random.Random(int.from_bytes(os.urandom(4), "big"))
    steps = [drawn.choice(stage) for stage in (range(1, 4), range(5, 15), range(16, 19))]
    more = ("--method", name, "--steps", "20", "--kill-at", *map(str, steps))
    cut = start(tmp_path / "cut", tmp_path / "home", *more)
    monkeypatch.setenv("XMOD_HOME", str(tmp_path / "home"))
    train_worker.train(tmp_path / "whole", lambda *_: None, names=(name,), steps=20)
    output = cut.communicate(timeout=120)[0]
    assert cut.returncode == 0, output
    assert "killed 3 times" in output
    whole_weights, cut_weights = (load_file(tmp_path / n / "checkpoint.safetensors") for n in ("whole", "cut"))
    assert whole_weights.keys() == cut_weights.keys()
    assert all(torch.equal(whole_weights[k], cut_weights[k]) for k in whole_weights), f"killed at {steps}"


def torchrun(port: int) -> tuple[str, ...]:
    return (
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-addr",
        "127.0.0.1",
        "--master-port",
        str(port),
    )


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_two_processes_train_one_network(tmp_path: Path) -> None:
    """Weights stay equal, each process draws its own slices, one writes, and a killed group resumes to the same end."""
    make_tiny(tmp_path / "home", **TASK)
    group = start(tmp_path / "run", tmp_path / "home", "--report", launcher=torchrun(free_port()))
    output = group.communicate(timeout=240)[0]
    assert group.returncode == 0, output
    reports = [json.loads((tmp_path / "run" / f"report{rank}.json").read_text()) for rank in (0, 1)]
    assert reports[0]["weights"] == reports[1]["weights"]
    assert reports[0]["drawn"] != reports[1]["drawn"]
    assert reports[0]["world"] == 2
    assert len(list(read_log(tmp_path / "run"))) == 60, "one process writes the log"
    cut = start(tmp_path / "cut", tmp_path / "home", "--report", "--fail-at", "31", launcher=torchrun(free_port()))
    assert cut.communicate(timeout=240) and cut.returncode != 0
    resumed = start(tmp_path / "cut", tmp_path / "home", "--report", launcher=torchrun(free_port()))
    assert resumed.communicate(timeout=240) and resumed.returncode == 0
    assert json.loads((tmp_path / "cut" / "report0.json").read_text())["weights"] == reports[0]["weights"]


def test_two_processes_get_back_their_own_pools(tmp_path: Path) -> None:
    """A killed group resumes to the same end where each process keeps images of its own; earlier ones are removed."""
    make_tiny(tmp_path / "home", **TASK)
    more = ("--report", "--method", "cyclegan", "--steps", "16")
    for folder, fails in (("whole", [()]), ("cut", [("--fail-at", "10"), ()])):
        for fail in fails:
            group = start(tmp_path / folder, tmp_path / "home", *more, *fail, launcher=torchrun(free_port()))
            output = group.communicate(timeout=240)[0]
            assert (group.returncode != 0) == bool(fail), output
        assert {p.name for p in (tmp_path / folder).glob("process*")} == {f"process{n}-16.safetensors" for n in (0, 1)}
    ends = [json.loads((tmp_path / folder / "report0.json").read_text())["weights"] for folder in ("whole", "cut")]
    assert ends[0] == ends[1]
    one, other = (load_file(tmp_path / "cut" / f"process{n}-16.safetensors")["pool/T1"] for n in (0, 1))
    assert not torch.equal(one, other)


def test_two_processes_agree_on_adversarial_training_and_on_running_statistics(tmp_path: Path) -> None:
    """UAGAN, TarGAN: two optimisers and second derivatives. CSA, SIFA: each normalises its own slices, all end with one
    set of statistics; SIFA's pools are each process's own."""
    make_tiny(tmp_path / "home", **TASK)
    more = ("--report", "--method", "uagan", "csa", "targan", "sifa", "--steps", "8")
    group = start(tmp_path / "run", tmp_path / "home", *more, launcher=torchrun(free_port()))
    output = group.communicate(timeout=240)[0]
    assert group.returncode == 0, output
    for name, running in ((".", False), ("csa", True), ("targan", False), ("sifa", True)):
        folder = tmp_path / "run" / name
        reports = [json.loads((folder / f"report{rank}.json").read_text()) for rank in (0, 1)]
        assert reports[0]["weights"] == reports[1]["weights"]
        assert reports[0]["statistics"] == reports[1]["statistics"]
        assert (reports[0]["statistics"] is not None) == running
        assert reports[0]["drawn"] != reports[1]["drawn"]


def test_two_processes_agree_on_a_gate_and_on_derived_images(tmp_path: Path) -> None:
    """CyCADA's accuracies, which are part of its state, are means over the processes; so is then what they allow. The
    first process derives the images that both see in BiGL's second stage, and those of a translator that is read; pools
    are each one's own. PnP-AdaNet's plugged layers end with one set of statistics."""
    make_tiny(tmp_path / "home", **TASK)
    others = ("adaptsegnet", "bigl", "pnp_adanet", "cyclegan_seg")
    more = ("--report", "--method", "cycada", *others, "--steps", "30")
    group = start(tmp_path / "run", tmp_path / "home", *more, launcher=torchrun(free_port()))
    output = group.communicate(timeout=240)[0]
    assert group.returncode == 0, output
    for folder in (tmp_path / "run", *(tmp_path / "run" / name for name in others)):
        reports = [json.loads((folder / f"report{rank}.json").read_text()) for rank in (0, 1)]
        assert reports[0]["weights"] == reports[1]["weights"] and reports[0]["drawn"] != reports[1]["drawn"]
        assert reports[0]["statistics"] == reports[1]["statistics"]
        assert (reports[0]["statistics"] is not None) == (folder.name == "pnp_adanet")
    assert [line["open"] for line in read_log(tmp_path / "run") if "open" in line][:2] == [0.0, 0.0], "it waits"
    assert [line["stage"] for line in read_log(tmp_path / "run")].count("feature") == 6
    for name, images in (("bigl", {"T1_to_T2.npy", "T2_to_T1.npy"}), ("cyclegan_seg", {"T1_to_T2.npy"})):
        assert {path.name for path in (tmp_path / "run" / name / "derived").iterdir()} == images
