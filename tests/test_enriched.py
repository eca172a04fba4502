"""Image enrichment: channels in order, a frozen translator that the checkpoint holds, runs that read other runs."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.joint import JOINT, a_batch, built
from tests.tiny import make_tiny, tiny_manifest
from xmod_lab import checkpoint, profiles
from xmod_lab.data.batches import BatchSource
from xmod_lab.errors import LabError
from xmod_lab.files import read_json, write_text
from xmod_lab.methods.base import Clock, Method, StepResult
from xmod_lab.methods.enriched import Enriched, EnrichedConfig
from xmod_lab.runs import Run, RunSpec, build, config_of, ensure_run, prepared_of, reads_of
from xmod_lab.train import fit, read_log

SMALL = profiles.Profile("smoke", 32, 4, 4, 6, None, 1, "float32", 2, "for tests")
WITH = (("translator", "uagan"),)


class Shift(Method):
    """A translator that adds the target's number in tenths, so that channels tell where they came from."""

    def translate(self, image: Tensor, source: str, target: str) -> Tensor:
        return image + 0.1 * (1 + self.problem.modalities.index(target))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder, fields = tmp_path_factory.mktemp("home"), {"labelled": ["A", "B"], "unlabelled": []}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMOD_HOME", str(folder))
        patch.setitem(profiles.PROFILES, "smoke", SMALL)
        make_tiny(folder, patients=8, **fields)
        text = tiny_manifest(("A", "B"), "registered", "tiny", {}, {}, fields)
        write_text(folder / "data" / "user_manifest.yaml", text)
        yield folder


@pytest.fixture(scope="module")
def run(home: Path) -> Run:
    return ensure_run(RunSpec("enriched", "tiny", settings=WITH), progress=False)


def enriched(modalities: str = "ABC", **config: Any) -> Any:
    method = built("enriched", modalities, translator="uagan", **config)
    problem = dataclasses.replace(JOINT, modalities=tuple(modalities), labelled=tuple(modalities))
    method.receive("uagan", Shift(None, problem))
    return method


def test_stacked_slices_and_modalities_without_labels_are_refused() -> None:
    few: dict[str, Any] = {"labelled": ("A",), "unlabelled": ("B",)}
    for change, said in (({"channels": 3}, "3 channels"), (few, "B has no labels")):
        with pytest.raises(LabError, match=said):
            Enriched(EnrichedConfig(), dataclasses.replace(JOINT, **change))
        Enriched(EnrichedConfig(translator="none"), dataclasses.replace(JOINT, **change))


def test_channels_are_the_image_and_its_siblings_in_the_tasks_order() -> None:
    method, image = enriched(), torch.zeros(2, 1, 32, 32)
    for modality, tenths in {"A": (0, 2, 3), "B": (0, 1, 3), "C": (0, 1, 2)}.items():
        found = method.enrich(image, modality)[:, :, 0, 0]
        assert found[0].tolist() == pytest.approx([t / 10 for t in tenths])
        assert method.networks[modality].encoder.levels[0][0].in_channels == 3
    alone = built("enriched", "ABC")
    assert alone.enrich(image, "A").shape[1] == 1 and not alone.stages()[0].derive


def test_derived_siblings_are_taken_where_a_batch_has_them() -> None:
    method, batch = enriched().eval(), a_batch("ABC")
    plain = method.logits(batch, "B")
    assert torch.equal(plain, method.segment(batch["B"].image, "B"))
    there = batch | {f"B->{o}": batch["B"]._replace(image=method.sibling(batch["B"].image, "B", o)) for o in "AC"}
    assert torch.equal(method.logits(there, "B"), plain)
    there["B->A"] = there["B->A"]._replace(image=-there["B->A"].image)
    assert not torch.equal(method.logits(there, "B"), plain)


def test_the_loop_derives_every_sibling_and_the_translator_learns_nothing(run: Run) -> None:
    assert {p.name for p in (run.folder / "derived").iterdir()} == {"A_to_B.npy", "B_to_A.npy"}
    translator = Run(reads_of(run.spec)["uagan"], reads_of(run.spec)["uagan"].folder)
    before, after = translator.method().state_dict(), run.method().read["uagan"].state_dict()  # type: ignore[union-attr]
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
    untrained = build(run.spec, prepared_of(run.spec)).state_dict()
    moved = {k for k, v in run.method().state_dict().items() if not torch.equal(v, untrained[k])}
    assert moved and all(k.startswith("networks.") for k in moved)
    assert {"dice/A/core", "dice/B/rim"} <= set(run.scores()["means"]) and "ravd" in run.table()
    assert not [name for name in run.scores()["means"] if "->" in name], "it neither translates nor crosses networks"


def test_the_checkpoint_alone_rebuilds_it(run: Run, tmp_path: Path) -> None:
    source = BatchSource(prepared_of(run.spec), 4, 0, augment="none")
    image, expected = source.at("A", [3, 4]).image, run.method().segment(source.at("A", [3, 4]).image, "A")  # type: ignore[operator]
    alone = shutil.copy(run.folder / "checkpoint.safetensors", tmp_path / "alone.safetensors")
    translator = reads_of(run.spec)["uagan"].folder
    away = translator.rename(translator.with_name("away"))
    try:
        assert torch.equal(checkpoint.rebuild(alone).segment(image, "A"), expected)  # type: ignore[operator]
        assert ensure_run(run.spec, progress=False) == run, "a finished run needs it no longer"
        with pytest.raises(LabError, match="no checkpoint"):
            build(run.spec, prepared_of(run.spec))
    finally:
        away.rename(translator)


def test_resuming_is_exact_with_a_translator(run: Run, tmp_path: Path) -> None:
    """As test_joint_methods.py has it for every method, here with one that reads another run."""
    prepared = prepared_of(run.spec)

    def go(folder: Path, until: int | None) -> None:
        def on_step(step: int, _result: StepResult) -> None:
            if step == until:
                raise KeyboardInterrupt

        fit(build(run.spec, prepared), "enriched", prepared, folder, steps=5, batch=4, seed=0, checkpoint_every=2,
            on_step=on_step)

    go(tmp_path / "whole", None)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "cut", 3)
    go(tmp_path / "cut", None)
    whole, cut = (load_file(tmp_path / folder / "checkpoint.safetensors") for folder in ("whole", "cut"))
    assert whole.keys() == cut.keys() and all(torch.equal(whole[k], cut[k]) for k in whole)
    assert list(read_log(tmp_path / "whole")) == list(read_log(tmp_path / "cut"))


def test_another_checkpoint_of_the_translator_is_refused(run: Run) -> None:
    stored = read_json(run.folder / "inputs.json")["runs"]["uagan"]
    assert stored["run"] == "smoke/tiny/both/fold0/uagan/default/seed0" and len(stored["checkpoint"]) == 64
    path = reads_of(run.spec)["uagan"].folder / "checkpoint.safetensors"
    kept = path.read_bytes()
    try:
        path.write_bytes(kept + b" ")
        with pytest.raises(LabError, match="the run was begun with another checkpoint of uagan"):
            ensure_run(run.spec, progress=False)
    finally:
        path.write_bytes(kept)
    assert ensure_run(run.spec, progress=False) == run


@pytest.mark.parametrize(
    ("translator", "message"),
    [("nosuch", "no method 'nosuch' .known: "), ("unet_joint", "unet_joint does not translate.*known: .*uagan.*none")],
)
def test_what_does_not_translate_is_refused_before_anything_is_made(home: Path, translator: str, message: str) -> None:
    spec = RunSpec("enriched", "tiny", settings=(("translator", translator),))
    with pytest.raises(LabError, match=message):
        ensure_run(spec, progress=False)
    assert not spec.folder.exists()


@pytest.mark.parametrize(("field", "value"), [("segmenter", "vnet"), ("individual", False)])
def test_a_value_that_means_nothing_is_named(field: str, value: object) -> None:
    with pytest.raises(LabError, match=f"{field} is .*known: "):
        built("enriched", **{field: value})


def test_without_its_translator_it_says_so() -> None:
    with pytest.raises(LabError, match="the translator uagan is missing"):
        built("enriched", translator="uagan").segment(torch.zeros(1, 1, 32, 32), "A")


def test_dynunet_learns_too() -> None:
    method = enriched("AB", segmenter="dynunet").train()
    calls = []
    method.training_step(a_batch(), Clock("segmentation", 0, 0.0), lambda loss, *names: calls.append((loss, names)))
    (loss, names), = calls
    gradients = torch.autograd.grad(loss, list(method.networks.parameters()), allow_unused=True)
    assert names == ("segmenter",) and all(g is not None and g.isfinite().all() for g in gradients)
    assert method.eval().segment(torch.zeros(1, 1, 32, 32), "B").shape == (1, 3, 32, 32)


def test_the_default_reads_targan_and_the_network_alone_nothing() -> None:
    assert Enriched.Config().translator == "targan"
    spec = RunSpec("enriched", "tiny", settings=(("translator", "none"),))
    assert Enriched.reads(config_of(spec)) == () and reads_of(spec) == {}
