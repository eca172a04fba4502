"""SIFA's versions, ablations and settings, what it offers, its maps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.joint import a_batch, built, one_step, problem_of
from tests.test_sifa import batch_of, step
from xmod_lab.errors import LabError
from xmod_lab.maps import class_entropy, over_image
from xmod_lab.methods.sifa import SCHEDULES, SIFA


def test_the_masks_weight_of_the_first_version_rises() -> None:
    """Of 20 epochs: none until the fourth, a third after the fifth, whole from the seventh on; the second has none."""

    def gradient(name: str, progress: float, **config: Any) -> Tensor:
        method = built(name, dropout=0.0, **config)
        found = step(method, progress=progress)[1].gradients["heads.final.classify.weight"]
        assert found is not None
        return found

    without = gradient("sifa_v1", 0.9, mask_weights=(0.0, 0.0))
    whole = gradient("sifa_v1", 1.0) - without
    assert whole.abs().max() > 1e-5
    for progress, share in ((0.2, 0), (0.25, 1 / 3), (0.35, 1)):
        assert torch.allclose(gradient("sifa_v1", progress) - without, share * whole, atol=1e-7), progress
    assert torch.equal(gradient("sifa", 0.0), gradient("sifa", 1.0))


def test_the_versions() -> None:
    first, second = built("sifa_v1"), built("sifa")
    assert list(first.heads) == list(first.mask_critics) == ["final"] and list(second.heads) == ["final", "early"]
    assert any(isinstance(m, torch.nn.Dropout) for m in first.modules())
    assert not any(isinstance(m, torch.nn.Dropout) for m in second.modules())
    rates = [SCHEDULES["stairs"](p) for p in (0.0, 0.09, 0.1, 0.95, 1.0)]
    assert rates == pytest.approx([1, 1, 0.9, 0.9**9, 0.9**9])
    assert first.stages()[0].schedules["segmenter"] is SCHEDULES["stairs"]
    losses, _ = step(first)
    assert not [name for name in losses if name.endswith("early")]


@pytest.mark.parametrize("name", sorted(SIFA.ablations))
def test_ablations_take_away_what_they_say(name: str) -> None:
    full, less = (set(step(built("sifa", **values))[0]) for values in ({}, SIFA.ablations[name]))
    masks = {f"{kind}/{level}" for kind in ("critic", "adversarial") for level in ("final", "early")}
    auxiliary = {"critic/auxiliary", "adversarial/auxiliary"}
    early = {f"{kind}/early" for kind in ("critic", "adversarial", "segmentation")}
    assert full - less == {"images": masks | auxiliary, "masks": masks, "auxiliary": auxiliary, "deep": early}[name]
    assert less <= full


@pytest.mark.parametrize("preset", sorted(SIFA.presets))
def test_presets_train(preset: str) -> None:
    losses = one_step(built("sifa", **SIFA.presets[preset]), 0, None, batch_of()).losses
    assert all(torch.isfinite(torch.tensor(list(losses.values()))))


def test_masks_are_probabilities_unless_official() -> None:
    logits = 3 * torch.randn(1, 3, 4, 4)
    assert torch.equal(built("sifa").mask(logits), logits.softmax(1))
    assert torch.equal(built("sifa", logits=True).mask(logits), logits)


def test_target_images_have_statistics_of_their_own() -> None:
    for own in (True, False):
        method, batch = built("sifa", own_statistics=own), batch_of()
        method.generator.register_forward_hook(lambda _m, _i, out: out + 1)  # translations unlike target images
        step(method, batch)
        real, made = method.encoder.first[1].norms
        assert bool(made.running_mean.any()) is own and real.num_batches_tracked == (1 if own else 2)
        before = method.encoder.first[1].norms[0].running_mean.clone()
        method.eval()
        method.segment(batch["B"].image, "B"), method.translate(batch["B"].image, "B", "A")
        assert torch.equal(before, real.running_mean)
        with torch.no_grad():
            real.running_mean += 10
            moved = {m: method.segment(batch[m].image, m) for m in "AB"}
            real.running_mean -= 10
            same = {m: torch.equal(moved[m], method.segment(batch[m].image, m)) for m in "AB"}
        assert same == {"A": own, "B": False}


def test_what_it_offers_is_put_together_of_its_networks() -> None:
    method, batch = built("sifa").eval(), batch_of()
    a, b = batch["A"].image, batch["B"].image
    with torch.no_grad():
        made = method.generator(a)
        assert torch.equal(method.translate(a, "A", "B"), made) and method.translate(a, "A", "A") is a
        code = method.encode(b, (2, 0))[0]
        assert torch.equal(method.translate(b, "B", "A"), method.decoder(code, b))
        assert torch.equal(method.segment(b, "B"), method.heads["final"](code))
        assert torch.equal(method.segment(a, "A"), method.heads["final"](method.encode(made, (0, 2))[0]))


def test_pools_are_kept() -> None:
    method = built("sifa", pool=3)
    one_step(method, 0, None, batch_of())
    one_step(method, 0, None, batch_of())
    state = method.extra_state()
    assert {name: len(v) for name, v in state.items()} == {"pool/A": 3, "pool/B": 3}
    other = built("sifa", pool=3)
    other.load_extra_state(state)
    assert all(torch.equal(v, state[name]) for name, v in other.extra_state().items())
    assert built("sifa", pool=0).extra_state() == {}


@pytest.mark.parametrize(("size", "channels", "each"), [(48, 1, (2, 3)), (64, 3, (1, 2))])
def test_sizes_shares_and_neighbouring_slices(size: int, channels: int, each: tuple[int, int]) -> None:
    method = SIFA(SIFA.Config(width=8), problem_of("sifa", size=size, channels=channels))
    batch = {}
    for m, n in zip("AB", each, strict=True):
        slices = a_batch(m, n, size)[m]
        batch[m] = slices._replace(image=slices.image.repeat(1, channels, 1, 1))
    with torch.autocast("cpu", torch.bfloat16):
        losses = one_step(method, 0, None, batch).losses
    assert all(torch.isfinite(torch.tensor(list(losses.values()))))
    assert method.segment(batch["B"].image, "B").shape == (each[1], 3, size, size)
    assert method.translate(batch["B"].image, "B", "A").shape == batch["B"].image.shape


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(LabError, match="SIFA adapts from one labelled modality"):
        SIFA(SIFA.Config(), problem_of("cyclegan"))
    with pytest.raises(LabError, match="multiple of 8"):
        built("sifa", size=36, stride=8)
    for field, value in {"levels": 3, "stride": 2, "schedule": "late", "segmenter_schedule": "poly"}.items():
        with pytest.raises(LabError, match=f"{field} is .*known: "):
            built("sifa", **{field: value})


def test_maps_by_hand() -> None:
    method, batch = built("sifa").eval(), batch_of()
    for name, buffer in method.encoder.named_buffers():
        if "running_mean" in name:
            buffer += torch.linspace(0, 0.5, buffer.numel()).view_as(buffer)  # unlike for the two kinds of images
    found, a, b = method.maps(batch), batch["A"].image, batch["B"].image
    with torch.no_grad():
        made, back = method.translate(a, "A", "B"), method.translate(b, "B", "A")
        again = method.decoder(method.encode(made, (0, len(made)))[0], made)
        logits = method.segmentations(b, "B")
        expected = {
            "style/B/A": (made - a)[:, 0],
            "style/A/B": (back - b)[:, 0],
            "added/B/A": made.atanh()[:, 0] - a[:, 0],
            "residual/A/B": (back - b).abs()[:, 0],
            "cycle_residual/B/A": (again - a).abs()[:, 0],
            "entropy/B": class_entropy(logits[0]),
            "entropy_early/B": class_entropy(logits[1]),
            "critic/B/A": over_image(method.target_critic(made), a)[:, 0],
            "critic/real/A": over_image(method.source_critic(a), a)[:, 0],
            "critic_auxiliary/A/B": over_image(method.source_critic(back), b)[:, 1],
            "critic_mask/B": over_image(method.mask_critics["final"](logits[0].softmax(1)), b)[:, 0],
        }
    for name, values in expected.items():
        assert found[name].kind == "mask" and torch.allclose(found[name].values, values, atol=1e-4), name
    assert found["style/B/A"].span == (-2, 2) and found["probability/B"].names == ("background", "core", "rim")
    assert (found["style/B/A"].values < 0).any() and (found["style/B/A"].values > 0).any(), "signed"
    assert not [name for name in built("sifa_v1").eval().maps(batch) if "early" in name]
