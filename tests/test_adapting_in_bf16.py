"""Steps of the systems of adaptation under autocast to bfloat16, stage by stage, beside the same ones in float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.joint import a_batch, built, one_step, weights

STAGES = {"bigl": 2, "adaptsegnet": 1, "cycada": 3, "pnp_adanet": 3}
CONFIG: dict[str, dict[str, Any]] = {"bigl": {"dropout": 0.0}, "adaptsegnet": {"dropout": 0.0},
                                     "cycada": {"dropout": 0.0, "gate": 0.0}, "pnp_adanet": {}}  # fmt: skip


@pytest.mark.parametrize(("name", "stage"), [(name, i) for name, count in STAGES.items() for i in range(count)])
def test_a_step_in_bf16(name: str, stage: int) -> None:
    """The same losses but for what bfloat16 rounds; the same weights move, and all stay float32 and finite."""
    losses, moved = [], []
    for half in (False, True):
        method = built(name, **CONFIG[name])
        before = weights(method)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            losses.append(one_step(method, stage, None, a_batch()).losses)
            assert all(method.segment(a_batch()[m].image, m).isfinite().all() for m in "AB")
        after = weights(method)
        assert all(v.dtype == torch.float32 and v.isfinite().all() for v in after.values())
        moved.append({key for key, v in after.items() if v.ndim == 4 and not torch.equal(v, before[key])})
    plain, rounded = losses
    assert moved[0] == moved[1] and moved[0]
    told = {key for key in plain if not key.startswith("accuracy")}  # shares of signs
    assert plain.keys() == rounded.keys()
    assert {key: rounded[key] for key in told} == {key: pytest.approx(plain[key], rel=0.05, abs=5e-3) for key in told}


def test_plugged_layers_are_normalised_in_float32() -> None:
    """What a convolution gives in bfloat16 is not rounded again."""
    norm = built("pnp_adanet").segmenter.groups["9"][0][2]
    x = torch.randn(2, norm.num_features, 8, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    plain = norm(x.float())
    with torch.autocast("cpu", torch.bfloat16):
        under = norm(x)
    assert under.dtype == torch.float32 and torch.equal(under, plain)
