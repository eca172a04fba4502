"""The dilated FCN and the methods that are nothing but it: sizes by adding up, dilations, shared and own parts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.joint import JOINT, a_batch, built
from xmod_lab.errors import LabError
from xmod_lab.losses.segmentation import dice_cross_entropy
from xmod_lab.methods.base import Clock
from xmod_lab.methods.fcn import FCNBaseline, FCNConfig
from xmod_lab.models.fcn import (
    GROUPS,
    Residual,
    SharedFCN,
    group_widths,
    kernel_weights,
    normalisation_state,
    normalisation_weights,
)
from xmod_lab.models.norm import DomainNorm2d, of_domains
from xmod_lab.train import Update


def convolutions(channels: int, classes: int, stride: int) -> list[tuple[int, int, int]]:
    """(in, out, kernel) of every convolution at width 64, from the layer table: 16, 16, 32, 64, 128, 256, 256, 512."""
    table = [(channels, 16, 3)]
    for c_in, c_out, blocks in (
        (16, 16, 1), (16, 32, 1), (32, 64, 2), (64, 128, 2), (128, 256, 2), (256, 256, 2), (256, 512, 2), (512, 512, 2)
    ):  # fmt: skip
        for block in range(blocks):
            table += [(c_out if block else c_in, c_out, 3), (c_out, c_out, 3)]
    table += [(512, 512, 3)] * 2
    return [*table, (512, stride**3 * classes, 3), (stride * classes, classes, 5)]


def test_parameter_counts_of_the_paper() -> None:
    """39.3 million kernel weights are shared, 21 thousand normalisation weights are a modality's own."""
    network = SharedFCN(3, 5, 64, domains=2, stride=8)
    table = convolutions(3, 5, 8)
    assert sum(a * b * k * k for a, b, k in table) == kernel_weights(network) == 39_302_456
    # every convolution but the first, the head's two: normalised before; then the head's input and its middle
    normalised = [a for a, _, _ in table[1:-2]] + [512, 8**3 * 5]
    assert 2 * sum(normalised) == normalisation_weights(network) == 21_216
    assert sum(p.numel() for p in network.parameters()) == 39_302_456 + 2 * 21_216, "there are no others"


def test_group_widths_follow_the_profile() -> None:
    assert group_widths(64) == [16, 32, 64, 128, 256, 256, 512, 512, 512]


@pytest.mark.parametrize(("stride", "phase"), [(8, True), (8, False), (4, True), (4, False)])
def test_shapes(stride: int, phase: bool) -> None:
    network = SharedFCN(1, 4, 8, stride=stride, phase=phase)
    x = torch.randn(2, 1, 32, 48)
    assert network(x).shape == (2, 4, 32, 48)
    deep = {tuple(f.shape[2:]) for name, f in network.features(x).items() if int(name) >= 4}
    assert deep == {(32 // stride, 48 // stride)}, "groups 4 to 9 share one resolution"


def test_only_group_8_is_dilated() -> None:
    network = SharedFCN(1, 2, 8)
    dilated = {n.split(".")[1] for n, m in network.named_modules() if isinstance(m, nn.Conv2d) and m.dilation == (2, 2)}
    assert dilated == {"8"}


def test_a_shortcut_without_parameters_pads_both_sides() -> None:
    """With kernels of zero the block is its shortcut: 2 channels become 0, 2, 0 around."""
    block = Residual(2, 5, 1, 0.0)
    for module in block.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.zeros_(module.weight)
    x = torch.randn(1, 2, 4, 4)
    zero = torch.zeros(1, 1, 4, 4)
    assert torch.equal(block(x), torch.cat([zero, x, zero, zero], 1))


def test_every_weight_gets_a_gradient() -> None:
    network = SharedFCN(1, 3, 8, domains=2, stride=4)
    with of_domains(network, [(0, 2), (1, 2)]):
        network(torch.randn(4, 1, 32, 32)).square().mean().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert silent == []


@pytest.mark.parametrize(("size", "expected"), [(32, 4), (64, 4), (128, 8)])
def test_the_stride_follows_the_size(size: int, expected: int) -> None:
    assert built("msbn", size=size).networks["all"].stride == expected
    assert built("msbn", size=size, stride=4).networks["all"].stride == 4


@pytest.mark.parametrize("name", ["fcn_single", "fcn_joint", "msbn"])
def test_what_is_shared(name: str) -> None:
    """single: all kernels twice; joint: everything once; msbn: kernels once, normalisation twice."""
    method = built(name)
    one = SharedFCN(1, 3, 8, 1, stride=4)
    kernels, norms = kernel_weights(one), normalisation_weights(one)
    expected = {"fcn_single": 2 * (kernels + norms), "fcn_joint": kernels + norms, "msbn": kernels + 2 * norms}
    assert sum(p.numel() for p in method.parameters()) == expected[name]


def test_concatenated_equals_a_pass_a_modality() -> None:
    method = built("msbn").eval()
    batch = a_batch()
    seen = method.see({m: s.image for m, s in batch.items()})
    for m, s in batch.items():
        assert torch.allclose(seen.logits[m], method.segment(s.image, m), atol=1e-5)
        assert torch.allclose(seen.features[m]["6"], method.see({m: s.image}).features[m]["6"], atol=1e-5)
    assert set(seen.features["B"]) == set(GROUPS)


def test_the_modality_matters_where_it_should() -> None:
    image = torch.randn(2, 1, 32, 32)
    for name, same in (("fcn_joint", True), ("msbn", False), ("fcn_single", False)):
        method = built(name)
        if name == "msbn":  # two normalisations begin alike: a step makes them differ
            for module in method.modules():
                if isinstance(module, DomainNorm2d):
                    nn.init.constant_(module.norms[1].bias, 0.3)
        method.eval()
        assert torch.equal(method.segment(image, "A"), method.segment(image, "B")) is same


@pytest.mark.parametrize("name", ["fcn_single", "msbn"])
def test_a_step_on_one_modality_leaves_the_others_own_parts(name: str) -> None:
    """The whole network, through the method: parameters and buffers of B stay bit-identical while A learns."""
    method = built(name).train()
    mark = "networks.B." if name == "fcn_single" else ".norms.1."
    before = {k: v.clone() for k, v in method.state_dict().items() if mark in k}
    mine = [p for k, p in method.named_parameters() if mark not in k]
    loss = dice_cross_entropy(method.segment(a_batch()["A"].image, "A"), a_batch()["A"].label)
    Update({"a": torch.optim.Adam(mine, 0.1)})(loss, "a")
    after = method.state_dict()
    assert before and all(torch.equal(value, after[key]) for key, value in before.items())


def test_the_loss_is_the_mean_over_modalities() -> None:
    """Three modalities have the same learning rate as two: equation 5 without terms between them."""
    method, batch, taken = built("fcn_joint", dropout=0.0).eval(), a_batch(), []
    result = method.training_step(
        batch, Clock("segmentation", 0, 0.0), lambda loss, *names: taken.append((loss, names))
    )
    parts = [result.losses[f"segmentation/{m}"] for m in "AB"]
    assert result.losses["total"] == pytest.approx(sum(parts) / 2) == pytest.approx(taken[0][0].item())
    assert taken[0][1] == ("segmenter",)
    logits = method.segment(batch["A"].image, "A")
    assert parts[0] == pytest.approx(dice_cross_entropy(logits, batch["A"].label).item(), rel=1e-4)


def test_decay_and_schedule() -> None:
    """Weight decay is the kernels' alone; the rate falls geometrically to `final_rate` times itself."""
    stage = built("ummkd", decay=1e-4).stages()[0]
    kernels, others = stage.optimisers["segmenter"].param_groups
    assert kernels["weight_decay"] == 1e-4 and others["weight_decay"] == 0
    assert all(p.ndim == 4 for p in kernels["params"]) and all(p.ndim == 1 for p in others["params"])
    schedule = FCNBaseline(FCNConfig(width=8, final_rate=0.01), JOINT).stages()[0].schedules["segmenter"]
    assert [schedule(t) for t in (0, 0.5, 1)] == pytest.approx([1, 0.1, 0.01])


@pytest.mark.parametrize("name", ["fcn_single", "fcn_joint", "msbn", "csa", "ummkd"])
def test_an_unknown_modality_is_refused(name: str) -> None:
    method = built(name)
    with pytest.raises(LabError, match="not trained with .CT.*it knows A, B"):
        method.segment(torch.randn(1, 1, 32, 32), "CT")


def test_normalisation_state() -> None:
    layer = DomainNorm2d(2, 2)
    layer.norms[1].running_var.fill_(4.0)
    layer.norms[1].running_mean.fill_(3.0)
    assert normalisation_state(layer, 1).tolist() == [[1, 1], [0, 0], [3, 3], [2, 2]]
