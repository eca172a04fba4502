"""CyCADA: its stages by hand, whom each one moves, the gate, the semantic term, maps, stopping anywhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from tests.joint import JOINT, Kept, Watched, a_batch, built, one_step, poisoned, weights
from tests.tiny import make_tiny
from xmod_lab import device
from xmod_lab.data.prepare import prepare
from xmod_lab.errors import LabError
from xmod_lab.losses.adversarial import cross_entropy_critic, cross_entropy_generator
from xmod_lab.losses.segmentation import cross_entropy, dice_cross_entropy
from xmod_lab.methods import METHODS
from xmod_lab.methods.base import StepResult
from xmod_lab.methods.cyclegan import OWN
from xmod_lab.models.blocks import count_parameters
from xmod_lab.models.cycada import DomainCritic
from xmod_lab.train import fit, read_log, stage_ends

PRESETS, ABLATIONS = METHODS["cycada"].cls.presets, METHODS["cycada"].cls.ablations
IMAGE, PIXEL, FEATURE = range(3)


def cycada(**config: Any) -> Any:
    """Without dropout, so that steps can be put together by hand."""
    return built("cycada", **({"dropout": 0.0} | config))


def test_networks_have_the_sizes_of_the_card() -> None:
    for channels, width, count in ((5, 512, 134_914), (19, 512, 142_082), (4096, 1024, 4_721_154)):
        assert count_parameters(DomainCritic(channels, width)) == count
    method = built("cycada", width=64, **PRESETS["official"])
    assert count_parameters(method.feature_critic) == count_parameters(DomainCritic(3, 512))
    assert count_parameters(method.segmenter) == 31_030_658 + 65, "a third class"
    assert [p.p for p in method.feature_critic.modules() if isinstance(p, nn.Dropout2d)] == [0.5, 0.5]
    assert built("cycada", width=32).feature_critic.layers[0].weight.shape == (512, 512, 1, 1), "of features"


def test_the_critics_score_is_the_logit_of_a_softmax_over_two_domains() -> None:
    critic, x = DomainCritic(3, 8).eval(), torch.randn(2, 3, 4, 4)
    assert torch.allclose(critic(x).sigmoid()[:, 0], critic.layers(x).softmax(1)[:, 0], atol=1e-6)
    there = F.cross_entropy(critic.layers(x), torch.zeros(2, 4, 4, dtype=torch.long))
    assert cross_entropy_generator(critic(x)).item() == pytest.approx(there.item(), rel=1e-5)


def test_stages_fill_a_run() -> None:
    stages = cycada().stages()
    assert [s.name for s in stages] == ["image", "pixel", "feature"] and stage_ends(stages, 700) == [350, 560, 700]
    assert [list(s.derive) for s in stages] == [[], ["A->B"], []]
    assert [s.name for s in cycada(**ABLATIONS["pixel level only"]).stages()] == ["image", "pixel"]
    with_teacher = cycada(**ABLATIONS["semantic"]).stages()
    assert [s.name for s in with_teacher] == ["teacher", "image", "pixel", "feature"]
    names = [name for s in with_teacher for name in s.optimisers]
    assert len(names) == len(set(names)) == 6, "the loop keeps optimisers by name"


def test_the_image_stage_is_cyclegans_own_step() -> None:
    method, batch = cycada(pool=3), a_batch()
    alone = built("cyclegan", **{name: getattr(method.config, name) for name in OWN})
    alone.load_state_dict(method.translator.state_dict())
    assert one_step(method, IMAGE, Kept(), batch).losses == one_step(alone, 0, Kept(), batch).losses
    assert torch.equal(*(m.translate(batch["A"].image, "A", "B") for m in (method, alone)))
    assert sorted(method.translations) == [("A", "B"), ("B", "A")]
    assert method.extra_state().keys() == alone.extra_state().keys() == {"pool/A", "pool/B"}


def test_the_pixel_stage_by_hand() -> None:
    method, batch = cycada(), a_batch()
    with torch.no_grad():
        made = method.translator.generators["A->B"](batch["A"].image)
        expected = dice_cross_entropy(method.segmenter(made), batch["A"].label).item()
    assert one_step(method, PIXEL, Kept(), batch).losses == {"segmentation": pytest.approx(expected, rel=1e-4)}
    there = batch | {"A->B": batch["A"]._replace(image=-made)}
    with torch.no_grad():
        derived = dice_cross_entropy(method.segmenter(-made), batch["A"].label).item()
    assert one_step(method, PIXEL, Kept(), there).losses["segmentation"] == pytest.approx(derived, rel=1e-4) != expected


@pytest.mark.parametrize("critic_input", ["logits", "features"])
def test_the_feature_stage_by_hand(critic_input: str) -> None:
    """The critic's scores of the segmenter's step are those after its own; here nothing is learnt, so they agree."""
    method, batch = cycada(critic_input=critic_input, gate=0.0, shrink=2), a_batch() | {"B": a_batch("B", 3)["B"]}
    kept = Kept()
    losses = one_step(method, FEATURE, kept, batch).losses
    with torch.no_grad():
        made = method.translate(batch["A"].image, "A", "B")
        logits, shown = [], []
        for image in (made, batch["B"].image):
            skips, x = method.segmenter.encoder(image)
            centre = method.segmenter.centre(x)
            logits.append(method.segmenter.decoder(centre, skips))
            shown.append(centre if critic_input == "features" else F.avg_pool2d(logits[-1], 2))
        ours, theirs = (method.feature_critic(x) for x in shown)
        right = 0.5 * ((ours > 0).float().mean() + (theirs <= 0).float().mean())
        expected = {
            "critic": cross_entropy_critic(ours, theirs),
            "accuracy": right,
            "open": torch.tensor(1.0),
            "segmentation": dice_cross_entropy(logits[0], batch["A"].label),
            "adversarial": 0.1 * cross_entropy_generator(theirs),
        }
    assert losses == {name: pytest.approx(value.item(), rel=1e-4) for name, value in expected.items()}
    assert kept.losses["feature_critic"].item() == losses["critic"]
    assert kept.losses["adapted"].item() == pytest.approx(losses["segmentation"] + losses["adversarial"], rel=1e-5)


@pytest.mark.parametrize(
    ("stage", "gate", "moved"),
    [
        (IMAGE, 0.0, [("critics", "translator"), ("generators", "translator")]),
        (PIXEL, 0.0, [("segmenter", "segmenter")]),
        (FEATURE, 0.0, [("feature_critic", "feature_critic"), ("adapted", "segmenter")]),
        (FEATURE, 1.1, [("feature_critic", "feature_critic")]),
    ],
)
def test_whom_each_update_moves(stage: int, gate: float, moved: list[tuple[str, str]]) -> None:
    """With a gate that nothing passes the segmenter stays as it is, whatever its labels say."""
    method = cycada(gate=gate)
    watched = Watched(method, stage)
    losses = one_step(method, stage, watched, a_batch()).losses
    assert watched.seen == [((name,), {network}) for name, network in moved]
    if stage == FEATURE:
        assert ("adversarial" in losses) == ("segmentation" in losses) == (gate == 0.0)


def test_the_critic_of_features_is_shown_no_way_back() -> None:
    method, shown = cycada(gate=0.0), []
    method.feature_critic.register_forward_pre_hook(lambda _m, args: shown.append(args[0]))
    one_step(method, FEATURE, Kept(), a_batch())
    told, fooled = shown
    assert not told.requires_grad and len(told) == 4 and fooled.requires_grad and len(fooled) == 2


def test_the_gate_is_the_mean_of_the_last_steps() -> None:
    method = cycada(gate_window=3)
    found = [method._running(torch.tensor(v)) for v in (1.0, 0.0, 0.5, 0.0, 0.25)]
    assert found == pytest.approx([1, 0.5, 0.5, 0.5 / 3, 0.25])
    again = cycada(gate_window=3)
    again.load_state_dict(method.state_dict())
    assert again._running(torch.tensor(0.5)) == pytest.approx(0.25), "a checkpoint holds it"


def test_the_gate_opens_and_closes() -> None:
    """By what the critic got right before: a step's own accuracy is one of five."""
    for earlier, is_open in ((1.0, True), (0.0, False)):
        method = cycada(gate_window=5)
        method.accuracies.fill_(earlier)
        method.counted.fill_(10)
        losses = one_step(method, FEATURE, Kept(), a_batch()).losses
        assert losses["open"] == is_open == ("segmentation" in losses)
    assert (cycada().config.gate, PRESETS["official"]["gate"], PRESETS["printed"]["gate"]) == (0.55, 0.6, 0.0)


def test_the_gate_waits_for_some_batches() -> None:
    """With a critic that is always right the segmenter first learns after as many steps of the critic's as were asked
    for. Without a gate it does so at once, and the release's gate decides on its first batch."""
    opened = {}
    configs = {"ours": {"gate_after": 3}, "no gate": {"gate_after": 3, "gate": 0.0}, "first": {"gate_after": 0}}
    for name, config in configs.items():
        method = cycada(**config)
        method._running = lambda _right, method=method: method.counted.add_(1) and 1.0
        losses = [one_step(method, FEATURE, Kept(), a_batch()).losses for _ in range(5)]
        assert all(("segmentation" in one) == one["open"] for one in losses)
        opened[name] = [one["open"] for one in losses]
    assert opened == {"ours": [0, 0, 0, 1, 1], "no gate": [1] * 5, "first": [1] * 5}
    assert (cycada().config.gate_after, PRESETS["official"]["gate_after"]) == (10, 0)


def test_all_processes_take_one_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The accuracy of this process alone would open the gate, the mean over all does not, and the other way round."""
    for mine, mean in ((1.0, 0.2), (0.0, 0.9)):
        monkeypatch.setattr(device, "mean_of", lambda value, mean=mean: torch.full_like(value, mean))
        method = cycada(gate_after=1)
        assert method._running(torch.tensor(mine)) == pytest.approx(mean)
        assert one_step(method, FEATURE, Kept(), a_batch()).losses["open"] == (mean > 0.55)


def test_critic_and_segmenter_pull_in_opposite_directions() -> None:
    """By itself the critic learns to say more of the source than of the target. Of the segmenter's loss the adversarial
    term alone hangs on the target's image: down its slope the critic says more of it. Wrong signs would fail either."""
    method, batch, kept = cycada(feature_critic_rate=1e-2, gate=0.0), a_batch(), Kept()
    batch["B"] = batch["B"]._replace(image=batch["B"].image * 0.1 + batch["B"].label[:, None])
    update = Watched(method, FEATURE).update

    def score(m: str, more: float | Tensor = 0.0) -> float:
        with torch.no_grad():
            image = method.translate(batch[m].image, m, "B") + more
            return method.feature_critic(method.seen(image)[1]).mean().item()

    before = score("A") - score("B")
    for _ in range(20):
        one_step(method, FEATURE, lambda loss, name: update(loss, name) if name == "feature_critic" else None, batch)
    assert score("A") - score("B") > before + 0.1
    image = batch["B"].image.requires_grad_(True)
    one_step(method, FEATURE, kept, batch)
    (slope,) = torch.autograd.grad(kept.losses["adapted"], image)
    down = 0.01 * slope / slope.abs().max()
    assert score("B", -down) > score("B") > score("B", down)


def test_semantic_consistency_is_off_and_by_hand() -> None:
    assert cycada().translator.teacher is None
    method, batch = cycada(semantic_weight=2.0), a_batch()
    watched = Watched(method, 0)
    one_step(method, 0, watched, batch)
    assert watched.seen == [(("teacher",), {"translator"})]
    teacher, before, kept = method.translator.teacher, weights(method), Kept()
    losses = one_step(method, 1, kept, batch).losses
    with torch.no_grad():
        each = [
            cross_entropy(teacher(method.translate(batch[s].image, s, t)), teacher(batch[s].image).argmax(1)).item()
            for s, t in ("AB", "BA")
        ]
    assert losses["semantic"] == pytest.approx(2 * sum(each) / 2, rel=1e-4)
    terms = ("adversarial", "reconstruction", "semantic")
    assert kept.losses["generators"].item() == pytest.approx(sum(losses[name] for name in terms), rel=1e-5)
    one_step(method, 1, None, batch)
    moved = {k for k, v in weights(method).items() if not torch.equal(v, before[k])}
    assert moved and not [k for k in moved if "teacher" in k], "it is frozen while the generators learn"


def test_labels_of_the_target_are_never_read() -> None:
    others = (a_batch(), poisoned(a_batch()), a_batch() | {"B": a_batch()["B"]._replace(label=None)})
    for stage in range(4):
        found = []
        for batch in others:
            method = cycada(semantic_weight=1.0, gate=0.0)
            found.append((one_step(method, stage, None, batch).losses, weights(method)))
        for losses, after in found[1:]:
            assert losses == found[0][0] and all(torch.equal(v, found[0][1][k]) for k, v in after.items())


def test_resuming_inside_and_between_stages_is_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages end after 3, 5 and 7 steps, a checkpoint is there after each and after 4: stopped between the first two,
    between the last two, and in the last."""
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    data = prepare(make_tiny(tmp_path, ("A", "B"), 8), None, 32)

    def run(folder: Path, until: int | None = None) -> None:
        def on_step(step: int, _result: StepResult) -> None:
            if step == until:
                raise KeyboardInterrupt

        method = built("cycada", pool=2, image_share=3 / 7, feature_share=2 / 7)
        fit(method, "cycada", data, folder, steps=7, batch=4, seed=0, checkpoint_every=4, on_step=on_step)

    run(tmp_path / "whole")
    whole, log = load_file(tmp_path / "whole" / "checkpoint.safetensors"), list(read_log(tmp_path / "whole"))
    assert [line["stage"] for line in log] == ["image"] * 3 + ["pixel"] * 2 + ["feature"] * 2
    assert "accuracy" in log[-1] and whole["weights/counted"] == 2
    for stop in (3, 5, 6):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / str(stop), stop)
        run(tmp_path / str(stop))
        cut = load_file(tmp_path / str(stop) / "checkpoint.safetensors")
        assert whole.keys() == cut.keys() and all(torch.equal(whole[k], cut[k]) for k in whole)
        assert log == list(read_log(tmp_path / str(stop)))


def test_maps_by_hand() -> None:
    method, batch = cycada(critic_input="logits").eval(), a_batch()
    found = method.maps(batch)
    with torch.no_grad():
        made = method.translate(batch["A"].image, "A", "B")
        p = method.feature_critic(F.avg_pool2d(method.segmenter(made), 4)).sigmoid()
        assert torch.equal(method.segment(batch["A"].image, "A"), method.segmenter(made)), "as S knows it"
        assert torch.equal(method.segment(batch["B"].image, "B"), method.segmenter(batch["B"].image))
    assert torch.allclose(found["domain/A"].values, F.interpolate(p, (32, 32), mode="bilinear")[:, 0], atol=1e-5)
    assert torch.allclose(found["residual/B/A"].values, (made - batch["A"].image).abs()[:, 0], atol=1e-6)
    assert found["residual/B/A"].layer == "translator.generators.A->B"
    assert {"probability/A", "entropy/B", "critic/B/A", "cycle_residual/A/B"} <= set(found) and len(found) == 14
    assert "domain/A" not in cycada(feature_share=0.0).eval().maps(batch)


def test_what_it_cannot_do_is_refused() -> None:
    config = METHODS["cycada"].cls.Config(width=4)
    for change, said in (
        ({}, "one labelled modality to one without"),
        ({"labelled": ("A",), "unlabelled": ("B",), "size": 40}, "multiple of 16"),
    ):
        with pytest.raises(LabError, match=said):
            METHODS["cycada"].cls(config, dataclasses.replace(JOINT, **change))
    for field, value in (("critic_input", "image"), ("schedule", "cosine")):
        with pytest.raises(LabError, match=f"{field} is .*known: "):
            cycada(**{field: value})


def test_the_image_stage_takes_a_shape_term() -> None:
    watched = Watched(method := built("cycada", shape_weight=1.0))
    losses = one_step(method, 0, watched, a_batch("AB")).losses
    assert losses["shape"] > 0 and watched.seen[-1][0][-1] == "shape"
