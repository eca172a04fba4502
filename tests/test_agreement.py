"""BiGL's maps by hand, and how far attention agrees across appearances."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.joint import a_batch, built
from tests.tiny import make_tiny
from xmod_lab.data.prepare import prepare
from xmod_lab.errors import LabError
from xmod_lab.evaluate.agreement import (
    WITH,
    _of_others,
    agreement_table,
    attention_distances,
    jensen_shannon,
    total_variation,
)
from xmod_lab.maps import Map
from xmod_lab.methods.bigl_maps import looks_at


def test_distances_of_rows_by_hand() -> None:
    a = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])
    b = torch.tensor([[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.2, 0.3, 0.5]])
    assert total_variation(a, b).tolist() == pytest.approx([1, 0.5, 0])
    assert jensen_shannon(a, b).tolist() == pytest.approx([1, math.sqrt(0.5), 0], abs=1e-6)
    from scipy.spatial.distance import jensenshannon

    p, q = torch.rand(5, 7).softmax(1), torch.rand(5, 7).softmax(1)
    theirs = [jensenshannon(x, y, base=2) for x, y in zip(p.numpy(), q.numpy(), strict=True)]
    assert jensen_shannon(p, q).tolist() == pytest.approx(theirs, rel=1e-4)
    assert torch.equal(jensen_shannon(p, q), jensen_shannon(q, p))


def test_maps_by_hand() -> None:
    method, batch = built("bigl").eval(), a_batch()
    found, x = method.maps(batch), batch["B"].image
    with torch.no_grad():
        made = method.translate(x, "B", "A")
        seen = {"real": method.segmenter(x, True), "A": method.segmenter(made, True)}
        feature = method.critics["feature/source"](seen["A"].feature).sigmoid()
    for image, sight in seen.items():
        where = f"{image}/B"
        assert torch.allclose(found[f"position/{where}"].values, sight.position, atol=1e-6)
        assert torch.allclose(found[f"channel/{where}"].values, sight.channel, atol=1e-6)
        assert torch.allclose(found[f"probability/{where}"].values, sight.logits.softmax(1), atol=1e-6)
        assert found[f"saliency/{where}"].values.mean().item() == pytest.approx(1, rel=0.05)
        assert found[f"critic/position/{where}"].kind == "pairwise"
    enlarged = torch.nn.functional.interpolate(feature, (32, 32), mode="bilinear")[:, 0]
    assert torch.allclose(found["critic/feature/A/B"].values, enlarged, atol=1e-5), "an image of the source's look"
    assert found["critic/feature/A/B"].layer == "critics.feature/source"
    assert found["critic/feature/real/B"].layer == "critics.feature/target"
    assert torch.allclose(found["residual/A/B"].values, (made - x).abs()[:, 0], atol=1e-6)
    assert set(method.maps({"A": batch["A"]})) == {k for k in found if k.endswith("/A")}
    plain = built("bigl", dual_attention=False, align_attention=False).eval().maps(batch)
    assert {k.split("/")[0] for k in plain} == {"residual", "probability", "entropy", "critic"}


def test_where_a_pixel_looks() -> None:
    """Position 5 of 4x4, which holds pixel (3, 2) of 8x8, looks at the last position alone."""
    values = torch.full((1, 16, 16), 1 / 16)
    values[0, 5] = 0
    values[0, 5, 15] = 1
    seen = looks_at(Map("pairwise", values, "A", "layer"), (3, 2), torch.zeros(1, 1, 8, 8))
    assert seen.shape == (1, 8, 8) and seen[0, 7, 7] == 1 and seen[0, :4, :4].sum() == 0
    assert looks_at(Map("pairwise", values, "A", "layer"), (0, 0), torch.zeros(1, 1, 8, 8)).min() == 1


class Turned:
    """Maps that a translation leaves as they are, or that have nothing to do with the slice."""

    translations = [("A", "B")]

    def __init__(self, alike: bool, attention: bool = True):
        self.alike, self.attention = alike, attention

    def maps(self, batch: Any) -> dict[str, Map]:
        n = len(batch["A"].image)
        own = torch.eye(n)[:, None].expand(n, 3, n)
        made = own if self.alike else own.roll(1, 0)
        kinds = {"position": (own, made), "channel": (own, own)} if self.attention else {}
        return {f"{kind}/{image}/A": Map("pairwise", values, "A", "layer")
                for kind, pair in kinds.items() for image, values in zip(("real", "B"), pair, strict=True)}  # fmt: skip


class Alike(Turned):
    """Slices of one patient look at the same, those of others at something else."""

    def __init__(self) -> None:
        super().__init__(True)

    def maps(self, batch: Any) -> dict[str, Map]:
        names = batch["A"].patient
        own = torch.eye(4)[[sorted(set(names)).index(name) for name in names]][:, None].expand(-1, 3, -1)
        return {f"{kind}/{image}/A": Map("pairwise", own, "A", "layer")
                for kind in ("position", "channel") for image in ("real", "B")}  # fmt: skip


@pytest.mark.parametrize("alike", [True, False])
def test_agreement_of_maps_that_follow_the_slice_and_of_maps_that_do_not(alike: bool) -> None:
    rows = attention_distances(Turned(alike), a_batch("A", 4))  # type: ignore[arg-type]
    found = {(row["map"], row["with"]): row for row in rows}
    for kind, expected in (("position", 0 if alike else 1), ("channel", 0)):
        for key in ("total_variation", "jensen_shannon"):
            assert found[kind, WITH[0]][key] == pytest.approx(expected, abs=1e-6)
    assert found["channel", WITH[1]]["total_variation"] == 1, "the control of slices that look at unlike things"


def test_the_control_is_another_patient() -> None:
    assert _of_others(["a", "a", "b", "c", "c"], "A") == [2, 2, 3, 0, 0]
    slices = a_batch("A", 4)["A"]._replace(patient=["p", "p", "q", "q"])
    found = {(r["map"], r["with"]): r for r in attention_distances(Alike(), {"A": slices})}  # type: ignore[arg-type]
    assert found["position", WITH[1]]["total_variation"] == 1, "slices of one patient look alike here"


def test_what_cannot_be_compared_is_named() -> None:
    with pytest.raises(LabError, match="slices of A of one patient have no other"):
        attention_distances(Turned(True), a_batch("A", 1))  # type: ignore[arg-type]
    with pytest.raises(LabError, match="has no attention"):
        attention_distances(Turned(True, attention=False), a_batch("A"))  # type: ignore[arg-type]


def test_the_table_of_test_patients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    prepared = prepare(make_tiny(tmp_path, ("A", "B"), 12), None, 32)
    table = agreement_table({"one": built("bigl").eval(), "two": built("bigl").eval()}, prepared, slices=2)
    assert len(table) == 2 * 2 * 2 * 2 and set(table["system"]) == {"one", "two"}
    assert set(table["with"]) == set(WITH) and set(table["modality"]) == {"A", "B"}
    assert table[["total_variation", "jensen_shannon"]].stack().between(0, 1).all()
    one, two = (table[table["system"] == name].drop(columns="system").reset_index(drop=True) for name in ("one", "two"))
    assert one.equals(two)
