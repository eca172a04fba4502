"""ReMIC: losses put together by hand, where each modality goes, the mean style that tests use."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.joint import Kept, Watched, a_batch, built, one_step
from xmod_lab.errors import LabError
from xmod_lab.losses.segmentation import dice_cross_entropy
from xmod_lab.methods.remic import MEMORY


def test_remic_by_hand() -> None:
    """Two modalities, so each becomes the other; the styles drawn are those of the step."""
    method, kept, batch = built("remic"), Kept(), a_batch()
    losses = one_step(method, update=kept, batch=batch).losses
    torch.manual_seed(0)
    torch.randint(1, 2, ())
    x, drawn = {m: s.image for m, s in batch.items()}, {m: torch.randn(2, 8) for m in "AB"}

    def content(image: Tensor, m: str) -> Tensor:
        nothing = torch.zeros_like(image)
        return method.content(torch.cat([image, nothing] if m == "A" else [nothing, image], 1))

    c = {m: content(x[m], m) for m in "AB"}
    s = {m: method.styles[m](x[m]) for m in "AB"}
    made = {"A": method.decoders["B"](c["A"], drawn["A"]), "B": method.decoders["A"](c["B"], drawn["B"])}
    other = {"A": "B", "B": "A"}
    again = {m: content(made[m], other[m]) for m in "AB"}
    expected = {
        "critic": sum(0.5 * (r - 1).square().mean() + 0.5 * f.square().mean() for m in "AB"
                      for r, f in zip(method.critics[other[m]](x[other[m]]), method.critics[other[m]](made[m]),
                                      strict=True)) / 2,
        "adversarial": sum((f - 1).square().mean() for m in "AB" for f in method.critics[other[m]](made[m])) / 2,
        "reconstruction": 10 * sum((method.decoders[m](again[m], s[m]) - x[m]).abs().mean() for m in "AB") / 2,
        "image": 10 * sum((method.decoders[m](c[m], s[m]) - x[m]).abs().mean() for m in "AB") / 2,
        "content": sum((again[m] - c[m]).abs().mean() for m in "AB") / 2,
        "style": sum((method.styles[other[m]](made[m]) - drawn[m]).abs().mean() for m in "AB") / 2,
        "segmentation": dice_cross_entropy(method.segmenter(torch.cat([c["A"], c["B"]])),
                                           torch.cat([batch["A"].label, batch["B"].label])),
    }  # fmt: skip
    for name, value in expected.items():
        assert losses[name] == pytest.approx(float(value.detach()), rel=1e-4), name


def test_remic_sends_each_modality_to_one_other_and_none_twice() -> None:
    method, seen = built("remic", "ABC"), []
    for m in "ABC":
        method.decoders[m].register_forward_hook(lambda _m, inputs, _o, m=m: seen.append((m, inputs[0])))
    aims = set()
    for seed in range(8):
        seen.clear()
        one_step(method, update=Kept(), seed=seed)
        first = "".join(m for m, _ in seen[:3])  # of the slices of A, B and C
        assert first in ("BCA", "CAB")
        aims.add(first)
    assert len(aims) == 2


def test_remics_critics_and_makers_learn_apart() -> None:
    method = built("remic", "ABC")
    watched = Watched(method)

    one_step(method, update=watched)
    assert watched.seen == [(("critics",), {"critics"}),
                    (("generator",), {"content", "styles", "decoders", "segmenter"})]  # fmt: skip


def test_remics_mean_style() -> None:
    """The plain mean of the first steps, then a running one; in the weights; what `translate` uses."""
    method, batch = built("remic").train(), a_batch()
    with torch.no_grad():
        now = torch.stack([method.styles[m](batch[m].image).mean(0) for m in "AB"])
    assert torch.equal(method.style_running_mean, torch.zeros(2, 8))
    method._remember({m: now[i : i + 1] for i, m in enumerate("AB")})
    assert torch.allclose(method.style_running_mean, now)
    method._remember({m: torch.zeros(3, 8) for m in "AB"})
    assert torch.allclose(method.style_running_mean, now / 2) and method.style_steps == 2
    method.style_steps.fill_(10 * MEMORY)
    method._remember({m: torch.zeros(1, 8) for m in "AB"})
    assert torch.allclose(method.style_running_mean, now / 2 * (1 - 1 / MEMORY))
    assert {"style_running_mean", "style_steps"} <= set(method.state_dict())
    image = batch["A"].image
    code = method.contents({"A": image})["A"]
    expected = method.decoders["B"](code, method.style_running_mean[1].expand(2, -1))
    assert torch.equal(method.translate(image, "A", "B"), expected)
    assert torch.equal(method.segment(image, "A"), method.segmenter(code))


def test_remic_reads_a_style_in_each_step_and_none_in_a_test() -> None:
    method, batch = built("remic"), a_batch()
    read = torch.stack([method.styles[m](batch[m].image).mean(0) for m in "AB"]).detach()
    one_step(method, batch=batch)
    assert torch.allclose(method.style_running_mean, read, atol=1e-6) and int(method.style_steps) == 1
    method.eval().maps(batch)
    assert int(method.style_steps) == 1


def test_remics_content_map_is_the_mean_of_its_channel_groups() -> None:
    method, batch = built("remic").eval(), a_batch()
    found = method.maps(batch)["content/A"]
    with torch.no_grad():
        code = method.contents({"A": batch["A"].image})["A"]
    groups = torch.stack([code[:, i : i + 4].mean(1) for i in (0, 4, 8, 12)], 1)
    expected = F.interpolate(groups, (32, 32), mode="bilinear", align_corners=False)
    assert torch.allclose(found.values, expected, atol=1e-6) and len(found.names) == 4


def test_remics_critics_need_their_size() -> None:
    built("remic", size=32)
    with pytest.raises(LabError, match="needs slices of 64 pixels, these have 32"):
        built("remic", size=32, scales=3)
