"""What every method promises, and what CSA and UMMKD add to the FCN: terms, maps, presets, exact resume."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from tests.joint import ADAPTING, PAIRED, a_batch, built, problem_of, task_of
from tests.tiny import make_tiny
from xmod_lab.data.prepare import Prepared, prepare
from xmod_lab.errors import LabError
from xmod_lab.losses.affinity import affinity, affinity_loss, class_masks
from xmod_lab.losses.distillation import class_logits, distillation_loss
from xmod_lab.maps import Map
from xmod_lab.methods import METHODS
from xmod_lab.methods.base import Clock, Method, StepResult, build_config, offers
from xmod_lab.methods.csa import PAIRS, class_features
from xmod_lab.train import Update, fit, read_log

CASES = [(name, None) for name in METHODS]
ABLATED = ("uagan", "csa", "ummkd", "targan", "stargan", "csgan", "remic", "cyclegan", "ugatit", *PAIRED, *ADAPTING)
CASES += [(name, a) for name in ABLATED for a in METHODS[name].cls.ablations]
NAMES = ("background", "core", "rim")
LABELS = ("affinity", "confusion", "class_features", "cut", "area", "crossing", "similarity", "error")  # need labels
SEGMENTS_NOT = ("targan", "stargan", "cyclegan", "cyclegan_adapting", "ugatit", *PAIRED)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Prepared]]:
    """By the fields of the task: without labels in one modality, paired, or neither."""
    home = tmp_path_factory.mktemp("joint")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMOD_HOME", str(home))
        tasks = [task_of(name) for name in ("unet_joint", PAIRED[0], ADAPTING[0])]
        yield {str(task): prepare(make_tiny(home, ("A", "B"), 8, **task), None, 32) for task in tasks}


@pytest.mark.parametrize("name", METHODS)
def test_resuming_is_exact_for_every_method(prepared: dict[str, Prepared], tmp_path: Path, name: str) -> None:
    """Stopped in step 3 with a checkpoint after two, then run again: weights, optimisers and log as in one go."""

    def run(folder: Path, until: int | None) -> Method:
        def on_step(step: int, _result: StepResult) -> None:
            if step == until:
                raise KeyboardInterrupt

        method = built(name)
        data = prepared[str(task_of(name))]
        fit(method, name, data, folder, steps=5, batch=4, seed=0, checkpoint_every=2, on_step=on_step)
        return method

    method = run(tmp_path / "whole", None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", 3)
    run(tmp_path / "cut", None)
    whole, cut = (load_file(tmp_path / folder / "checkpoint.safetensors") for folder in ("whole", "cut"))
    assert whole.keys() == cut.keys() and all(torch.equal(whole[k], cut[k]) for k in whole)
    log = list(read_log(tmp_path / "whole"))
    assert log == list(read_log(tmp_path / "cut")) and len(log) == 5
    assert all(torch.tensor(v).isfinite() for line in log for v in line.values() if isinstance(v, float))
    fresh = built(name).state_dict()
    for key, value in method.state_dict().items():
        if value.ndim == 4:
            assert torch.equal(value, fresh[key]) == key.startswith("read."), f"{key}: what is learnt moves, no more"


@pytest.mark.parametrize(("name", "ablation"), CASES)
def test_maps_keep_the_contract(name: str, ablation: str | None) -> None:
    """Kinds and shapes, values inside the span, a name for each of K maps, the modality it is of; nothing learns."""
    method = built(name, **(METHODS[name].cls.ablations[ablation] if ablation else {})).eval()
    before = {k: v.clone() for k, v in method.state_dict().items()}
    found: dict[str, Map] = method.maps(a_batch())
    assert found and all(torch.equal(v, before[k]) for k, v in method.state_dict().items())
    for key, one in found.items():
        v = one.values
        assert v.isfinite().all() and not v.requires_grad, key
        assert one.modality in ("A", "B", "A-B") and key.endswith(f"/{one.modality}") and one.layer, key
        if one.kind == "stack":
            assert v.shape[0] == 2 and v.shape[2:] == (32, 32) and len(one.names) == v.shape[1], key
        elif one.kind == "mask":
            assert v.shape == (2, 32, 32), key
        if one.span:
            assert one.span[0] - 1e-5 <= v.min() and v.max() <= one.span[1] + 1e-5, key


@pytest.mark.parametrize("name", METHODS)
def test_without_labels_maps_that_need_them_are_left_out(name: str) -> None:
    batch = {m: s._replace(label=None) for m, s in a_batch().items()}
    found = built(name).eval().maps(batch)
    assert found and not [key for key in found if key.split("/")[0] in LABELS]


@pytest.mark.parametrize("name", METHODS)
def test_presets_and_ablations_build(name: str) -> None:
    entry = METHODS[name]
    for values in ({}, *getattr(entry.cls, "presets", {}).values(), *entry.cls.ablations.values()):
        config = build_config(entry.cls, {"width": 8} | entry.overrides | values)
        method = entry.cls(config, problem_of(name, size=64))
        assert dataclasses.asdict(config).items() >= values.items()
        assert "maps" in offers(entry.cls) and ("segment" in offers(entry.cls)) is (name not in SEGMENTS_NOT)
        groups = [g for s in method.stages() for o in s.optimisers.values() for g in o.param_groups]
        learnt = {p for key, p in method.named_parameters() if not key.startswith("averaged.")}
        assert {p for g in groups for p in g["params"]} == learnt


@pytest.mark.parametrize("name", [n for n in METHODS if n not in ("unet_joint", "source_only", "target_only")])
def test_an_unknown_modality_is_refused(name: str) -> None:
    """By all but those that have one network for whatever comes."""
    method, image = built(name), torch.randn(1, 1, 32, 32)
    for offer in offers(type(method)):
        if offer != "maps":
            with pytest.raises(LabError, match="not trained with 'CT'.*it knows A, B"):
                method.segment(image, "CT") if offer == "segment" else method.translate(image, "A", "CT")


@pytest.mark.parametrize(
    "name", ["csa", "affinity", "ummkd", "uagan", "fcn_joint", "msbn", "targan", "stargan", "csgan", "remic"]
)
def test_three_modalities_of_unlike_shares(name: str) -> None:
    """A batch of 7: one modality has three slices, and every loss is still a number."""
    method, batch = built(name, "ABC").train(), a_batch("ABC")
    batch["B"] = a_batch("B", 3)["B"]
    for stage in method.stages():
        losses = method.training_step(batch, Clock(stage.name, 0, 0.5), Update(stage.optimisers)).losses
        assert losses and all(torch.tensor(v).isfinite() for v in losses.values())


def step(method: Any, batch: Any = None) -> dict[str, float]:
    """Losses of one step in which nothing is learnt."""
    return method.training_step(batch or a_batch(), Clock("segmentation", 0, 0.0), lambda *_a: None).losses


def features_of(method: Any, batch: Any) -> Any:
    return method.see({m: s.image for m, s in batch.items()}).features


def labels_of(batch: Any) -> dict[str, Tensor]:
    return {m: s.label for m, s in batch.items()}


@pytest.mark.parametrize("pair", PAIRS)
def test_csa_adds_its_weighted_loss(pair: str) -> None:
    """The step's term against equation 4 put together here from features and labels, at each pair of layers."""
    method, batch = built("csa", pairs=(pair,), weight=3.0).eval(), a_batch(each=1)
    losses, found = step(method, batch), []
    for m, s in batch.items():
        first, second = (features_of(method, batch)[m][g] for g in PAIRS[pair])
        found.append(affinity(first, second, class_masks(s.label, 3, first.shape[2:]))[0])
    expected = 3 / 2 * affinity_loss(*found, torch.tensor([True, True, True])).item()
    assert losses["affinity"] == pytest.approx(expected, rel=1e-4) and expected > 0
    parts = [losses["segmentation/A"], losses["segmentation/B"]]
    assert losses["total"] == pytest.approx(sum(parts) / 2 + losses["affinity"], rel=1e-5)


def test_several_pairs_of_layers_are_summed() -> None:
    alone = [step(built("csa", pairs=(p,)).eval())["affinity"] for p in ("near", "late")]
    assert step(built("csa", pairs=("near", "late")).eval())["affinity"] == pytest.approx(sum(alone), rel=1e-4)


def test_pairs_of_modalities_are_averaged() -> None:
    """Three modalities: the mean of three comparisons, and the whole of equation 5 over the number of modalities."""
    batch, found = a_batch("ABC", each=1), []
    method = built("csa", "ABC").eval()
    for pair in ("AB", "AC", "BC"):
        found.append(
            method.between(method.see({m: batch[m].image for m in pair}), labels_of({m: batch[m] for m in pair}))
        )
    seen = method.see({m: s.image for m, s in batch.items()})
    whole = method.between(seen, labels_of(batch))["affinity"].item()
    assert whole == pytest.approx(sum(2 * f["affinity"].item() for f in found) / 3 / 3, rel=1e-4)


def test_affinity_without_classes_has_one_mask_of_ones() -> None:
    method, batch = built("affinity").eval(), a_batch(each=1)
    features = features_of(method, batch)["A"]
    matrices, present = method.matrices(features, batch["A"].label, "near")
    f, g = features["5"][0].flatten(1), features["6"][0].flatten(1)
    assert matrices.shape == (1, len(f), len(g)) and present.tolist() == [True]
    assert torch.allclose(matrices[0], F.cosine_similarity(f[:, None], g[None], dim=2), atol=1e-5)
    other = {m: s._replace(label=torch.zeros_like(s.label)) for m, s in batch.items()}
    assert step(method, batch)["affinity"] == pytest.approx(step(method, other)["affinity"]), "labels do not matter"


def test_equal_modalities_add_nothing() -> None:
    """The same slices under both names, and normalisations that begin alike."""
    batch = a_batch()
    same = {"A": batch["A"], "B": batch["A"]}
    for name, key in (("csa", "affinity"), ("affinity", "affinity"), ("ummkd", "distillation")):
        method = built(name).eval()
        assert step(method, same)[key] < 1e-10 < step(method, batch)[key]


def test_the_printed_affinity_cannot_be_felt() -> None:
    literal, entry = (step(built("csa", **v).eval())["affinity"] for v in (METHODS["csa"].cls.ablations["literal"], {}))
    assert 0 < literal < 1e-3 * entry


def without(batch: Any, m: str, number: int) -> dict[str, Any]:
    """The batch with one class of one modality turned into background."""
    label = batch[m].label.where(batch[m].label != number, torch.zeros_like(batch[m].label))
    return batch | {m: batch[m]._replace(label=label)}


def test_a_class_that_a_batch_lacks_is_left_out_of_csa() -> None:
    """With label 2 gone from B its affinity has no say: the term is the mean over the two classes that remain."""
    method, batch = built("csa").eval(), without(a_batch(each=1), "B", 2)
    matrices = {m: method.matrices(f, batch[m].label, "near") for m, f in features_of(method, batch).items()}
    assert matrices["A"][1].tolist() == [True] * 3 and matrices["B"][1].tolist() == [True, True, False]
    difference = (matrices["A"][0] - matrices["B"][0]).square().mean((1, 2))
    assert step(method, batch)["affinity"] == pytest.approx(0.25 * difference[:2].mean().item(), rel=1e-4)
    assert "affinity/near/rim/A" in (found := method.maps(batch)) and "affinity/near/rim/B" not in found
    assert not [key for key in found if key.startswith("affinity_difference/near/rim/")]


def test_a_class_that_a_batch_lacks_is_left_out_of_ummkd_unless_as_printed() -> None:
    batch = without(a_batch(), "B", 2)
    losses = {printed: step(built("ummkd", absent_classes=printed).eval(), batch) for printed in (False, True)}
    method = built("ummkd").eval()
    logits = method.see({m: s.image for m, s in batch.items()}).logits
    (a, _), (b, has) = (class_logits(logits[m], batch[m].label) for m in "AB")
    assert has.tolist() == [True, True, False]
    for printed, kept in ((False, has), (True, torch.ones_like(has))):
        expected = 0.25 * distillation_loss(a, b, kept).item()
        assert losses[printed]["distillation"] == pytest.approx(expected, rel=1e-4)
    assert losses[True]["distillation"] > losses[False]["distillation"]


def test_both_modalities_learn_from_the_terms_between_them() -> None:
    batch = a_batch()
    for name in ("csa", "affinity", "ummkd"):
        method = built(name).train()
        seen = method.see({m: s.image for m, s in batch.items()})
        loss = torch.stack(list(method.between(seen, labels_of(batch)).values())).sum()
        names = [n for n, p in method.named_parameters() if ".norms." in n and "groups.4" in n]
        found = torch.autograd.grad(loss, [method.get_parameter(n) for n in names])
        assert all(g.abs().sum() > 0 for g in found) and {n.split(".norms.")[1][0] for n in names} == {"0", "1"}


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("csa", "pairs", ("next",)),
        ("csa", "reduction", "mean"),
        ("msbn", "sharing", "most"),
        ("msbn", "stride", 2),
        ("multi_v4", "share_from", 5),
        ("uagan", "conditioning", "planes"),
        ("uagan", "passes", 4),
        ("targan", "conditioning", "planes"),
        ("targan", "padding", "none"),
        ("stargan", "padding", "mirror"),
        ("stargan", "n_critic", 0),
    ],
)
def test_a_value_that_means_nothing_is_named(name: str, field: str, value: Any) -> None:
    with pytest.raises(LabError, match=f"{field} is .*known: "):
        built(name, **{field: value})


def test_csa_refuses_what_it_cannot_compare() -> None:
    with pytest.raises(LabError, match="the task labels one only"):
        built("csa", "A")


def test_class_features_by_hand() -> None:
    """Two channels, mean magnitude 2 on the left and 3 on the right; class 1 covers the right half."""
    feature = torch.tensor([[[[1.0, -3.0]], [[3.0, 3.0]]]])
    labels = torch.tensor([[[0, 0, 1, 1], [0, 0, 1, 1]]])
    found = class_features(feature, labels, 2)
    assert found.shape == (1, 2, 2, 4)
    assert found[0, 0, 0].tolist() == [2, 2, 0, 0] and found[0, 1, 1].tolist() == [0, 0, 3, 3]


def test_msbn_maps_hold_the_statistics_of_each_modality() -> None:
    method = built("msbn").train()
    step(method)
    found = method.eval().maps(a_batch())
    layers = {key.split("/")[1] for key in found if key.startswith("normalisation/")}
    assert len(layers) == 32 and all(f"normalisation/{layer}/{m}" in found for layer in layers for m in "AB")
    layer = next(m for n, m in method.network("A").named_modules() if n == "activate.0")
    rows = found["normalisation/activate.0/B"]
    assert rows.names == ("scale", "shift", "mean", "standard deviation")
    assert torch.equal(rows.values[0, 2], layer.norms[1].running_mean) and rows.values[0, 2].abs().sum() > 0
    assert torch.allclose(rows.values[0, 3].square(), layer.norms[1].running_var)


def test_ummkds_maps_are_its_soft_confusions() -> None:
    found = built("ummkd").eval().maps(a_batch())
    a, b = (found[f"confusion/{m}"].values for m in "AB")
    assert a.shape == (1, 3, 3) and torch.allclose(a.sum(2), torch.ones(1, 3))
    assert torch.equal(found["confusion_difference/A-B"].values, a - b) and found["confusion/A"].names == NAMES
