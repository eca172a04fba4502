"""UAGAN's step: passes, who is updated, schedules, what each loss reaches, ablations, labels, maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.joint import Kept, a_batch, built
from xmod_lab.errors import LabError
from xmod_lab.losses.adversarial import wasserstein_critic
from xmod_lab.methods.base import RAMP, Clock, build_config, late
from xmod_lab.methods.uagan import UAGAN, ramp, summed
from xmod_lab.models.two_stream import STREAMS
from xmod_lab.train import Update, set_rates

HALF = Clock("joint", 5, 0.5)


def uagan(**config: Any) -> Any:
    """Width 4, three modalities, two critic layers for 32 pixels."""
    return built("uagan", "ABC", critic_layers=2, **config).train()


def step(method: Any, clock: Clock = HALF, update: Callable[..., None] | None = None, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return method.training_step(a_batch("ABC"), clock, update or Update(method.stages()[0].optimisers))


@pytest.mark.parametrize(("config", "expected"), [({}, 2), ({"passes": 3}, 3), ({"translate": False}, 1)])
def test_generator_passes_a_step(config: dict[str, Any], expected: int) -> None:
    method, calls = uagan(**config), []
    method.generator.register_forward_hook(lambda _m, inputs, _o: calls.append(inputs[0].shape))
    step(method)
    assert calls == [(6, 1, 32, 32)] * expected


def test_the_critics_update_is_the_critics_and_the_generators_its_own() -> None:
    method = uagan()
    real, seen = Update(method.stages()[0].optimisers), []

    def watched(loss: Tensor, *names: str) -> None:
        before = {k: v.detach().clone() for k, v in method.named_parameters()}
        real(loss, *names)
        seen.append((names, {k.split(".")[0] for k, v in method.named_parameters() if not torch.equal(v, before[k])}))

    step(method, update=watched)
    assert seen == [(("critic",), {"critic"}), (("generator",), {"generator"})]
    assert all(p.grad is None for p in method.parameters())


def test_the_critics_loss_does_not_reach_the_generator_nor_the_generators_stop_at_it() -> None:
    """The critic sees a detached image; the generator's loss goes through the critic's weights."""
    method, kept = uagan(), Kept()
    step(method, update=kept)
    parameters = list(method.generator.parameters())
    from_critic = torch.autograd.grad(kept.losses["critic"], parameters, allow_unused=True, retain_graph=True)
    assert all(g is None for g in from_critic)
    found = torch.autograd.grad(kept.losses["generator"], parameters, allow_unused=True)
    assert all(g is not None for g in found)


def test_critic_terms_by_hand() -> None:
    """The step's Wasserstein term is that of one call on real and made images, as of two calls."""
    method, batch = uagan(penalty_weight=0.0, modality_weight=0.0), a_batch("ABC")
    x = torch.cat([batch[m].image for m in "ABC"])
    fake, own = torch.randn_like(x), torch.tensor([0, 0, 1, 1, 2, 2])
    losses, total = method._critic_loss(x, fake, own)
    with torch.no_grad():
        expected = wasserstein_critic(method.critic(x)[0], method.critic(fake)[0]).item()
    assert losses["critic"] == pytest.approx(expected, abs=1e-5) == pytest.approx(total.item(), abs=1e-5)


@pytest.mark.parametrize(("progress", "weight"), [(0.0, 0.0), (RAMP / 2, 50.0), (RAMP, 100.0), (1.0, 100.0)])
def test_shape_consistency_grows_to_100(progress: float, weight: float) -> None:
    """Through the step itself: the logged term over the weighted cross-entropy of the second pass."""
    assert 100 * ramp(progress) == pytest.approx(weight)
    method, found = uagan(dropout=0.0), []
    method.generator.register_forward_hook(lambda _m, _i, out: found.append(out["segmentation"].detach()))
    labels = torch.cat([s.label for s in a_batch("ABC").values()])
    result = step(method, Clock("joint", 0, progress), update=Kept())
    expected = weight * method._ce(found[1], labels).item()
    assert result.losses["shape"] == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_rates_stay_for_60_percent_and_fall_to_a_hundredth() -> None:
    found = [late(t) for t in (0, 0.3, RAMP, 0.8, 1)]
    assert found == pytest.approx([1, 1, 1, 1 - 0.99 / 2, 0.01])
    stage = uagan(rate=1e-3, critic_rate=2e-4).stages()[0]
    set_rates(stage, 1.0)
    rates = {name: o.param_groups[0]["lr"] for name, o in stage.optimisers.items()}
    assert rates == pytest.approx({"generator": 1e-5, "critic": 2e-6})


def test_terms_add_up_with_their_weights() -> None:
    method, kept = uagan(), Kept()
    losses = step(method, update=kept).losses
    generator = ("adversarial", "modality", "reconstruction", "segmentation", "shape")
    assert kept.losses["generator"].item() == pytest.approx(sum(losses[k] for k in generator), rel=1e-5)
    critic = ("critic", "critic_penalty", "critic_modality")
    assert kept.losses["critic"].item() == pytest.approx(sum(losses[k] for k in critic), rel=1e-5)
    for name, field in (("segmentation", "segmentation_weight"), ("reconstruction", "reconstruction_weight")):
        other = step(uagan(**{field: 1.0}), update=Kept()).losses
        assert losses[name] == pytest.approx(getattr(method.config, field) * other[name], rel=1e-4)


def test_segmentation_loss_weighs_tumour_49_to_1() -> None:
    method = built("uagan", critic_layers=2)
    assert method.class_weight.tolist() == pytest.approx([0.02, 0.98, 0.98])
    assert built("uagan", critic_layers=2, foreground_weight=0.5).class_weight.tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("stream", STREAMS)
def test_either_loss_reaches_both_encoders(stream: str) -> None:
    """Segmentation reaches the translation encoder through the blocks, reconstruction the segmentation encoder."""
    method, batch = uagan(), a_batch("ABC")
    x, m = torch.cat([s.image for s in batch.values()]), torch.tensor([0, 0, 1, 1, 2, 2])
    out = method.generator(x, m)
    if stream == "segmentation":
        loss = method._ce(out[stream], torch.cat([s.label for s in batch.values()]))
    else:
        loss = torch.nn.functional.l1_loss(out[stream], x)
    for encoder in STREAMS:
        kernels = [p for p in method.generator.encoders[encoder].parameters() if p.ndim == 4]
        found = torch.autograd.grad(loss, kernels, retain_graph=True)
        assert all(g.abs().sum() > 0 for g in found), encoder


def test_wanted_modalities_are_a_permutation_of_the_batchs_own() -> None:
    method, wanted = uagan(), []
    method.generator.register_forward_hook(lambda _m, inputs, _o: wanted.append(inputs[1].tolist()))
    for seed in range(4):
        step(method, update=Kept(), seed=seed)
    own = [0, 0, 1, 1, 2, 2]
    assert all(sorted(drawn) == own for drawn in wanted[::2]) and all(back == own for back in wanted[1::2])
    assert len({tuple(drawn) for drawn in wanted[::2]}) > 1


def test_ablations_change_only_their_part() -> None:
    full = set(uagan().state_dict())

    def missing(**config: Any) -> set[str]:
        keys = set(uagan(**config).state_dict())
        assert keys <= full
        return full - keys

    assert set(UAGAN.ablations) == {"fuse", "trans", "atten", "plane"}
    assert missing(**UAGAN.ablations["fuse"]) == {k for k in full if k.startswith("generator.blocks.")}
    assert missing(**UAGAN.ablations["atten"]) == {k for k in full if ".gate." in k}
    assert missing(**UAGAN.ablations["trans"]) == {k for k in full if k.startswith("critic.")}
    assert missing(**UAGAN.ablations["plane"]) == {k for k in full if ".films." in k}


@pytest.mark.parametrize(("fuse", "same"), [(False, True), (True, False)])
def test_without_fusion_the_segmentation_does_not_hear_of_the_modality(fuse: bool, same: bool) -> None:
    method, image = uagan(fuse=fuse).eval(), torch.randn(2, 1, 32, 32)
    assert torch.equal(method.segment(image, "A"), method.segment(image, "C")) is same
    assert not torch.equal(method.translate(image, "A", "A"), method.translate(image, "A", "C"))


def test_uagan_trans_reconstructs_and_has_no_critic() -> None:
    method = uagan(translate=False)
    result = step(method)
    assert set(result.losses) == {"reconstruction", "segmentation"} and set(result.images) == {"image", "back"}
    assert list(method.stages()[0].optimisers) == ["generator"]
    with pytest.raises(LabError, match="no critic.*label='given'"):
        method.segment(torch.randn(1, 1, 32, 32), "A", label="predicted")


def test_segmenting_with_the_predicted_modality() -> None:
    """Each image is segmented as what the critic takes it for, whatever is said."""
    method = uagan().eval()
    image = torch.randn(6, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        own = method.critic(image)[1].argmax(1)
        found = method.segment(image, "A", label="predicted")
        for i, number in enumerate(own.tolist()):
            alone = method.segment(image[i : i + 1], "ABC"[number])
            assert torch.allclose(found[i : i + 1], alone, atol=1e-5)
    assert len(set(own.tolist())) > 1, "the case is not trivial"
    assert torch.equal(found, method.segment(image, "an unknown one", label="predicted"))


def test_an_unknown_modality_is_refused() -> None:
    method, image = uagan(), torch.randn(1, 1, 32, 32)
    for call in (lambda: method.segment(image, "CT"), lambda: method.translate(image, "A", "CT")):
        with pytest.raises(LabError, match="UAGAN was not trained with 'CT'.*it knows A, B, C"):
            call()


def test_the_official_form() -> None:
    """Sizes are tested with the networks; here, that the preset asks for them and that a step of it is sound."""
    config = build_config(UAGAN, UAGAN.presets["official"])
    assert (config.conditioning, config.bounded, config.passes, config.critic_layers) == ("plane", False, 3, 6)
    assert (config.rate, config.critic_rate, config.beta1) == (1e-4, 1e-4, 0.0)
    losses = step(uagan(**{k: v for k, v in UAGAN.presets["official"].items() if k != "critic_layers"})).losses
    assert torch.tensor(list(losses.values())).isfinite().all()


def test_two_and_three_passes_agree_without_dropout() -> None:
    """The third pass computes the second image anew: without dropout every loss is the same."""
    first, second = (step(uagan(passes=p, dropout=0.0)).losses for p in (2, 3))
    assert first == pytest.approx(second, rel=1e-4)


def test_change_is_counted_where_another_modality_was_wanted() -> None:
    method, wanted, own = uagan(), [], torch.tensor([0, 0, 1, 1, 2, 2])
    method.generator.register_forward_hook(lambda _m, inputs, _o: wanted.append(inputs[1]))
    result = step(method, update=Kept())
    change = (result.images["translated"] - result.images["image"])[wanted[0] != own].abs().mean()
    assert result.losses["change"] == pytest.approx(change.item())


def test_summed_maps_span_0_to_1_an_image() -> None:
    feature = torch.tensor([[[[1.0, 2.0]], [[3.0, 0.0]]], [[[5.0, 5.0]], [[5.0, 5.0]]]])
    assert summed(feature).tolist() == [[[[1.0, 0.0]]], [[[0.0, 0.0]]]]


def test_maps_are_there_at_four_levels_in_both_directions() -> None:
    wanted = {f"{kind}/{s}/{i}/{m}" for kind in ("gate", "passed", "features") for s in ("segmentation", "translation")
              for i in range(4) for m in "AB"}  # fmt: skip
    found = {name: set(built("uagan", **values).eval().maps(a_batch())) for name, values in UAGAN.ablations.items()}
    assert set(built("uagan").eval().maps(a_batch())) == wanted == found["plane"] == found["trans"]
    assert found["atten"] == {key for key in wanted if not key.startswith("gate/")}
    assert found["fuse"] == {key for key in wanted if key.startswith("features/")}
