"""U-GAT-IT: its norms, its attention and its critics by hand, the step's losses, and what may become blank."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from tests.joint import Kept, a_batch, built, one_step, weights
from xmod_lab.errors import LabError
from xmod_lab.maps import replace
from xmod_lab.methods import METHODS
from xmod_lab.methods.ugatit import class_loss
from xmod_lab.models.blocks import count_parameters
from xmod_lab.models.ugatit import (
    LIN,
    AdaLIN,
    AttentionCritic,
    AttentionGenerator,
    ClassActivation,
    clip_mixtures,
    critic_layers,
    layer_instance_norm,
    mixtures,
)


def test_parameter_counts_of_the_light_version() -> None:
    assert count_parameters(AttentionGenerator(3, 3)) == 10_589_888
    assert [count_parameters(AttentionCritic(3, 64, n)) for n in (5, 7)] == [3_290_560, 53_130_176]


def test_shapes_of_the_authors_size() -> None:
    """256 pixels: heat maps of 31 and 7, scores of 30 and 6; the generator's heat map has a quarter of the image."""
    image, seen = torch.randn(1, 3, 256, 256), []
    networks = [AttentionCritic(3, 2, 5), AttentionCritic(3, 2, 7), AttentionGenerator(3, 3, 2, 1)]
    for network in networks:
        network.cam.tap.register_forward_hook(lambda _m, _i, out: seen.append(out.shape[-1]))
    scores = [network(image) for network in networks[:2]]
    assert [s.shape for s, _ in scores] == [(1, 1, 30, 30), (1, 1, 6, 6)] and all(n.shape == (1, 2) for _, n in scores)
    assert networks[2](image).shape == image.shape and seen == [31, 7, 64]


@pytest.mark.parametrize(("layers", "reach"), [(4, 34), (5, 70), (6, 142)])
def test_what_a_score_of_a_critic_sees(layers: int, reach: int) -> None:
    """The gradient of the middle score of patches in the image; the attention's weights do not depend on the image."""
    image = torch.randn(1, 1, 320, 320, requires_grad=True)
    scores = AttentionCritic(1, 2, layers)(image)[0]
    (found,) = torch.autograd.grad(scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2], image)
    rows = (found[0, 0].abs().sum(1) > 0).nonzero()
    assert int(rows.max() - rows.min()) + 1 == reach


def test_layers_follow_the_size() -> None:
    assert {size: critic_layers(size) for size in (24, 32, 48, 64, 96, 128, 256)} == {
        24: (3, 5), 32: (3, 5), 48: (4, 6), 64: (4, 6), 96: (5, 7), 128: (5, 7), 256: (5, 7)
    }  # fmt: skip
    with pytest.raises(LabError, match="need slices of 24 pixels, these have 20"):
        built("ugatit", size=20)


def by_definition(x: torch.Tensor, rho: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """The equation written down once more, in float64."""
    x, rho, scale, shift = (v.double() for v in (x, rho, scale, shift))
    own = (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), keepdim=True) + 1e-5).sqrt()
    layer = (x - x.mean((1, 2, 3), keepdim=True)) / (x.var((1, 2, 3), keepdim=True) + 1e-5).sqrt()
    mixed = rho.view(1, -1, 1, 1) * own + (1 - rho).view(1, -1, 1, 1) * layer
    return mixed * scale[..., None, None] + shift[..., None, None]


def test_the_norm_by_its_definition_and_its_gradient() -> None:
    torch.manual_seed(0)
    x = (torch.randn(2, 3, 5, 4) * torch.tensor([1.0, 3.0, 0.2]).view(1, 3, 1, 1) + 4).requires_grad_(True)
    rho = torch.tensor([0.0, 0.4, 1.0], requires_grad=True)
    scale, shift = torch.randn(2, 3), torch.randn(2, 3)
    found, expected = layer_instance_norm(x, rho, scale, shift), by_definition(x, rho, scale, shift)
    assert torch.allclose(found.double(), expected, atol=1e-4)
    way = torch.randn(found.shape)
    ours = torch.autograd.grad((found * way).sum(), (x, rho), retain_graph=True)
    theirs = torch.autograd.grad((expected * way).sum(), (x, rho))
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(ours, theirs, strict=True))


def test_rho_is_1_for_instance_and_0_for_layer_normalisation() -> None:
    x, one = torch.randn(2, 4, 16, 16) * 3 + 1, torch.ones(1, 4)
    pixels = 256
    instance = layer_instance_norm(x, torch.ones(4), one, 0 * one)
    assert torch.allclose(instance, F.instance_norm(x) * math.sqrt((pixels - 1) / pixels), atol=1e-4)
    layer = layer_instance_norm(x, torch.zeros(4), one, 0 * one)
    assert torch.allclose(layer, F.layer_norm(x, x.shape[1:]) * math.sqrt(1 - 1 / (4 * pixels)), atol=1e-4)


def test_the_norm_keeps_float32_under_autocast() -> None:
    x = 50 + torch.randn(1, 2, 8, 8)
    arguments = (torch.full((2,), 0.5), torch.ones(1, 2), torch.zeros(1, 2))
    plain = layer_instance_norm(x, *arguments)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer_instance_norm(x, *arguments), plain)
        assert layer_instance_norm(x.bfloat16(), *arguments).dtype == torch.bfloat16


def test_mixtures_begin_and_are_clipped() -> None:
    generator = AttentionGenerator(1, 1, 4)
    begin = {name: set(rho.tolist()) for name, rho in mixtures(generator).items()}
    assert begin["up.2"] == begin["up.6"] == {0.0}
    assert [v for k, v in begin.items() if k.startswith("adaptive")] == [set(torch.tensor([0.9]).tolist())] * 8
    for rho in mixtures(generator).values():
        nn.init.uniform_(rho, -2, 3)
    before = {k: v.clone() for k, v in mixtures(generator).items()}
    clip_mixtures(generator)
    assert all(torch.equal(v, before[k].clamp(0, 1)) for k, v in mixtures(generator).items())


def test_rho_stays_between_0_and_1_in_training() -> None:
    """At a rate at which a step would carry it out: LIN begins at the rim."""
    method = built("ugatit", rate=0.5)
    one_step(method, batch=a_batch())
    found = torch.cat(list(mixtures(method.generators).values()))
    assert found.min() == 0 and found.max() == 1 and ((found > 0) & (found < 1)).any()


@pytest.mark.parametrize("bounded", [False, True])
def test_class_activation_by_hand(bounded: bool) -> None:
    torch.manual_seed(0)
    cam, f = ClassActivation(3, nn.LeakyReLU(0.2), bounded), torch.randn(2, 3, 4, 4)
    g, logits = cam(f)
    w = [row / row.norm() if bounded else row for row in cam.classifiers.weight]
    pooled = [f.mean((2, 3)), f.flatten(2).max(2).values]
    assert torch.allclose(logits, torch.stack([p @ row for p, row in zip(pooled, w, strict=True)], 1), atol=1e-6)
    weighed = torch.cat([f * row.view(1, 3, 1, 1) for row in w], 1)
    assert torch.allclose(g, F.leaky_relu(cam.mix(weighed), 0.2), atol=1e-6)
    with replace(nn.ModuleList([cam]), "*.tap", torch.zeros_like):
        assert cam(f)[0].abs().sum() == 0, "all goes through the tap"


def test_the_critics_weight_in_use_is_the_spectrally_normalised_one() -> None:
    """PyTorch's spectral normalisation of a linear layer with one output, its value and gradient."""
    cam = ClassActivation(6, nn.ReLU(), bounded=True)
    row = nn.Linear(6, 1, bias=False)
    row.weight = nn.Parameter(cam.classifiers.weight[:1].detach().clone())
    row = spectral_norm(row)
    assert torch.allclose(row.weight[0], cam.weights()[0], atol=1e-6)
    (ours,) = torch.autograd.grad((cam.weights()[0] * torch.arange(6)).sum(), cam.classifiers.weight)
    (theirs,) = torch.autograd.grad((row.weight[0] * torch.arange(6)).sum(), row.parametrizations.weight.original)
    assert torch.allclose(ours[0], theirs[0], atol=1e-6)


def test_all_other_weights_of_a_critic_are_bounded() -> None:
    critic = AttentionCritic(1, 4, 4)
    for _ in range(50):  # one power iteration a pass
        critic(torch.randn(1, 1, 48, 48))
    kernels = [m.weight.flatten(1) for m in critic.modules() if isinstance(m, nn.Conv2d) and m is not critic.cam.mix]
    assert len(kernels) == 4
    assert [torch.linalg.matrix_norm(k, 2).item() for k in kernels] == pytest.approx([1] * 4, rel=0.02)


def test_a_critics_attention_keeps_the_size_of_its_features() -> None:
    torch.manual_seed(0)
    f = torch.randn(8, 64, 8, 8)
    sizes = {b: ClassActivation(64, nn.LeakyReLU(0.2), b)(f)[0].square().mean().sqrt().item() for b in (False, True)}
    assert sizes[False] < 0.2 and 0.7 < sizes[True] < 1.4


def test_instance_norms_leave_the_generators_first_classifier_nothing_to_see() -> None:
    """Noise and a bright square: their features' means are alike, their maxima are not."""
    torch.manual_seed(0)
    generator, noise, square = AttentionGenerator(1, 1, 8), torch.randn(2, 1, 48, 48), torch.full((2, 1, 48, 48), -1.0)
    square[:, :, 12:24, 12:24] = 1
    features = [generator.blocks(generator.down(x)) for x in (noise, square)]
    means, peaks = ([pool(f, 1).flatten() for f in features] for pool in (F.adaptive_avg_pool2d, F.adaptive_max_pool2d))
    assert (means[0] - means[1]).abs().mean() < 0.2 < 1 < (peaks[0] - peaks[1]).abs().mean()


def test_class_loss() -> None:
    nothing, sure = torch.zeros(3, 2), torch.full((2, 2), 30.0)
    assert class_loss(nothing, nothing).item() == pytest.approx(2 * math.log(2))
    assert class_loss(sure, -sure).item() < 1e-10 and class_loss(-sure, sure).item() == pytest.approx(60)
    a, b = torch.randn(3, 2), torch.randn(2, 2)
    expected = F.binary_cross_entropy_with_logits(a, torch.ones(3, 2)) + F.binary_cross_entropy_with_logits(b, 0 * b)
    assert class_loss(a, b).item() == pytest.approx(expected.item(), rel=1e-6)


def test_ugatit_by_hand() -> None:
    """Means over both directions; local and global critic each with patches and logits, all of weight 1."""
    method, batch = built("ugatit"), a_batch()
    losses = one_step(method.eval(), update=Kept(), batch=batch).losses
    method.eval()
    x = {m: s.image for m, s in batch.items()}
    expected = dict.fromkeys(losses, 0.0)
    for way, g in method.generators.items():
        s, t, back = way[0], way[-1], method.generators[f"{way[-1]}->{way[0]}"]
        (made, of_source), (own, of_target) = g.classified(x[s]), g.classified(x[t])
        expected["cam"] -= 10 * (of_source.sigmoid().log().mean() + (1 - of_target.sigmoid()).log().mean()).item() / 2
        expected["reconstruction"] += 10 * (back(made) - x[s]).abs().mean().item() / 2
        expected["identity"] += 10 * (own - x[t]).abs().mean().item() / 2
        expected["change"] += (made - x[s]).abs().mean().item() / 2
        for tail, name in (("", "local"), ("/global", "global")):
            real, fake = method.critics[way][name](x[t]), method.critics[way][name](made)
            for kind, r, f in zip(("", "_cam"), real, fake, strict=True):
                expected[f"critic{kind}{tail}"] += 0.5 * ((r - 1).square().mean() + f.square().mean()).item() / 2
                expected[f"adversarial{kind}{tail}"] += (f - 1).square().mean().item() / 2
    assert losses == pytest.approx(expected, rel=2e-2)  # a pass in training is a power iteration further
    assert losses["cam"] == pytest.approx(expected["cam"], rel=1e-4)


def test_what_the_class_loss_reaches() -> None:
    """The way to the classifiers of both generators, not what lies behind, and no critic."""
    method = built("ugatit")
    _, _, terms = method.first_pass({m: s.image for m, s in a_batch().items()})
    found = torch.autograd.grad(terms["cam"], list(method.parameters()), allow_unused=True)
    reached = {k for (k, _), g in zip(method.named_parameters(), found, strict=True) if g is not None}
    parts = {k.split(".")[2] if k.startswith("generators") else k.split(".")[0] for k in reached}
    assert parts == {"down", "blocks", "cam"} and not [k for k in reached if ".cam.mix" in k]
    losses = one_step(built("ugatit", **METHODS["ugatit"].cls.ablations["cam"]), update=Kept(), batch=a_batch()).losses
    assert "cam" not in losses


def test_every_weight_of_the_generators_learns() -> None:
    method = built("ugatit")
    before = weights(method)
    one_step(method, batch=a_batch())
    one_step(method, batch=a_batch(seed=1))
    still = [k for k, v in method.named_parameters() if torch.equal(v, before[k])]
    assert still == []


def test_decay_keeps_its_ratio_to_losses_that_are_means() -> None:
    (stage,) = built("ugatit", decay=0.4).stages()
    found = {name: {group["weight_decay"] for group in o.param_groups} for name, o in stage.optimisers.items()}
    assert found == {"generators": {0.2}, "critics": {0.1}}
    official = METHODS["ugatit"].cls.presets["official"]
    assert built("ugatit", **official).config.cam_weight == 1000


def test_ugatits_maps_by_hand() -> None:
    method, batch = built("ugatit").eval(), a_batch()
    x, found = batch["A"].image, method.maps(batch)
    with torch.no_grad():
        generator = method.generators["A->B"]
        made = generator(x)
        features = {
            "cam/B/A": generator.cam(generator.blocks(generator.down(x)))[0],
            **{f"critic_cam{tail}/{image}/A": critic.cam(critic.trunk(x if image == "real" else made))[0]
               for image, way in (("real", "B->A"), ("B", "A->B"))
               for tail, critic in zip(("", "/global"), method.critics[way].children(), strict=True)},
        }  # fmt: skip
        scores = method.critics["B->A"]["global"](x)[0]
    for name, g in features.items():
        heat = g.sum(1, keepdim=True)
        low, high = heat.amin((2, 3), keepdim=True), heat.amax((2, 3), keepdim=True)
        expected = F.interpolate((heat - low) / (high - low), (32, 32), mode="bilinear")[:, 0]
        assert torch.allclose(found[name].values, expected, atol=1e-4), name
    assert torch.allclose(found["critic/global/real/A"].values, F.interpolate(scores, (32, 32), mode="bilinear")[:, 0])
    rho = found["rho/adaptive.3.norms.1/B/A"]
    assert torch.equal(rho.values[0, 0], generator.adaptive[3].norms[1].rho) and rho.values.shape == (1, 1, 16)
    assert len([k for k in found if k.startswith("rho/")]) == 20
    assert set(method.maps({"B": batch["B"]})) == {k for k in found if k.endswith("/B")}


def test_a_blank_heat_map_is_no_nan() -> None:
    """A ReLU that lets nothing through, as some runs of the light version end."""
    method = built("ugatit").eval()
    for module in method.modules():
        if isinstance(module, ClassActivation):
            nn.init.zeros_(module.mix.weight)
            nn.init.constant_(module.mix.bias, -1.0)
    found = {k: one.values for k, one in method.maps(a_batch()).items()}
    assert all(v.isfinite().all() for v in found.values())
    heats = [v for k, v in found.items() if k.split("/")[0] in ("cam", "critic_cam")]
    assert len(heats) == 10 and all(v.abs().sum() == 0 for v in heats)


def test_a_step_in_bf16() -> None:
    method, batch = built("ugatit", size=48), a_batch(size=48)
    plain = one_step(built("ugatit", size=48), batch=batch).losses
    with torch.autocast("cpu", torch.bfloat16):
        losses = one_step(method, batch=batch).losses
    assert losses == pytest.approx(plain, rel=0.1, abs=0.02)
    assert all(p.isfinite().all() and p.dtype == torch.float32 for p in method.parameters())


@pytest.mark.parametrize("norm", [AdaLIN, LIN])
def test_norms_have_one_rho_a_channel(norm: type[nn.Module]) -> None:
    assert dict(norm(5).named_parameters())["rho"].shape == (5,)
