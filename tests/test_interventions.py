"""What is put in the place of a map, by hand; that it acts on what a method gives; and that nothing is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.joint import a_batch, built, task_of
from tests.tiny import make_tiny
from xmod_lab.data.prepare import Prepared, prepare
from xmod_lab.errors import LabError
from xmod_lab.evaluate.interventions import COLUMNS, HOWS, effects, intervened, shuffled
from xmod_lab.maps import record
from xmod_lab.models.bigl import levels_for

POSITION = "segmenter.attention.position.map"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    home = tmp_path_factory.mktemp("interventions")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XMOD_HOME", str(home))
        yield prepare(make_tiny(home, ("A", "B"), 12, **task_of("bigl")), None, 32)


def looking() -> Any:
    """A BiGL whose attention has a say: its gammas, 0 at first, are 1."""
    method = built("bigl").eval()
    for attention in (method.segmenter.attention.position, method.segmenter.attention.channel):
        torch.nn.init.ones_(attention.gamma)
    return method


def a_map() -> Tensor:
    return torch.tensor([[[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.2, 0.2, 0.6]]])


def test_hows_by_hand() -> None:
    x = a_map()
    assert HOWS["zero"](x).abs().sum() == 0 and HOWS["ones"](x).mean() == 1
    assert torch.equal(HOWS["uniform"](x), torch.full_like(x, 1 / 3))
    assert torch.equal(HOWS["identity"](x)[0], torch.eye(3))
    assert torch.allclose(HOWS["mean"](x), torch.full_like(x, 1 / 3)), "rows sum to 1"
    stack = torch.tensor([[[[1.0, 3.0]], [[5.0, 7.0]]]])
    assert HOWS["mean"](stack).flatten().tolist() == [2, 2, 6, 6], "each map by its own mean"
    assert HOWS["uniform"](torch.rand(2, 3, 5)).unique().tolist() == pytest.approx([0.2]), "N is the keys' number"


@given(rows=st.integers(2, 40), seed=st.integers(0, 5))
def test_shuffled_rows_are_the_same_rows(rows: int, seed: int) -> None:
    """Of each slice, in one order whatever the batch: what a table says does not hang on it."""
    x = torch.rand(3, rows, 4)
    found = shuffled(x, seed)
    assert torch.equal(found[1:2], shuffled(x[1:2], seed))
    order = [int((x[0] == row).all(1).nonzero()) for row in found[0]]
    assert sorted(order) == list(range(rows)) and torch.equal(found, x[:, order])


@pytest.mark.parametrize("how", [how for how in HOWS if how != "ones"])
def test_attention_is_replaced_where_it_is_used(how: str) -> None:
    """Also where a fused kernel else mixes values without a map; and nothing of it stays."""
    method, x = looking(), a_batch()["A"].image
    with torch.no_grad():
        before = method.segment(x, "A")
        with intervened(method, POSITION, how):
            assert not torch.allclose(method.segment(x, "A"), before, atol=1e-5)
        assert torch.equal(method.segment(x, "A"), before) and not method.get_submodule(POSITION).watched


def test_what_identity_attention_gives_by_hand() -> None:
    """Each position then gets its own value."""
    block = looking().segmenter.attention.position
    x = torch.randn(2, block.value.in_features, 5, 5)
    with torch.no_grad(), intervened(block, "map", "identity"):
        out, attention = block(x)
    assert attention is not None and torch.equal(attention[0], torch.eye(25))
    assert torch.allclose(out, x + block.value(x.movedim(1, -1)).movedim(-1, 1), atol=1e-5)


def test_one_entry_alone() -> None:
    method, x = looking(), a_batch()["A"].image
    n, first = (32 >> levels_for(32)) ** 2, "segmenter.encoder.taps.0"
    with torch.no_grad(), record(method, POSITION) as seen:
        method.segment(x, "A")
        with intervened(method, first, "zero", 1), record(method, first) as tap:
            method.segment(x, "A")
    assert seen[POSITION][0].shape == (2, n, n)
    (feature,) = tap[first]
    assert feature[:, 1].abs().sum() == 0 and feature[:, 0].abs().sum() > 0 and feature[:, 2].abs().sum() > 0
    with torch.no_grad(), intervened(method, POSITION, "identity", 3), record(method, POSITION) as seen:
        method.segment(x, "A")
    (attention,) = seen[POSITION]
    assert attention[0, 3].tolist() == torch.eye(n)[3].tolist() and attention[0, 2].max() < 1


def test_effects_of_attention_on_masks(prepared: Prepared) -> None:
    table = effects(looking(), prepared, POSITION, "identity")
    assert tuple(table.columns) == COLUMNS
    assert set(table["patient"]) == set(prepared.split.test) and set(table["modality"]) == {"A", "B"}
    rows = table.set_index(["measure", "of"]).sort_index()
    assert set(rows.index) == {("dice", "core"), ("dice", "rim"), ("probability", "all classes"),
                               ("translation", "A"), ("translation", "B")}  # fmt: skip
    assert (rows.loc["probability", "change"] > 0).all() and (rows.loc["probability", "change"] < 2 / 3).all()
    dice = rows.loc["dice"]
    assert dice[["before", "after"]].stack().between(0, 1).all()
    assert dice["change"].to_numpy() == pytest.approx((dice["after"] - dice["before"]).to_numpy())
    assert (rows.loc["translation", "change"] == 0).all(), "translators do not see the segmenter's attention"


def test_effects_by_hand(prepared: Prepared) -> None:
    """A segmenter whose logits are set to 0 says background everywhere; only the patient asked for."""
    method, (patient, *_) = built("source_only").eval(), prepared.split.test
    torch.nn.init.constant_(method.networks["all"].decoder.head.bias.data, 0)
    method.networks["all"].decoder.head.bias.data[1] = 100.0  # all of the picture is core
    table = effects(method, prepared, "networks.all", "zero", patients=[patient]).set_index(["modality", "of"])
    assert set(table["patient"]) == {patient} and set(table["measure"]) == {"dice", "probability"}
    assert table.loc[("A", "all classes"), "change"] == pytest.approx((1 / 3 + 2 / 3 + 1 / 3) / 3, abs=1e-5)
    core = table.loc[("A", "core")]
    assert 0 < core["before"] < 1 and core["after"] == 0 and core["change"] == -core["before"]
    assert (table.loc[("A", "rim"), ["before", "after"]] == 0).all()
    nothing = effects(method, prepared, "networks.all", lambda x: x, patients=[patient])
    assert (nothing["change"] == 0).all() and np.isnan(nothing.set_index("measure").loc["probability", "before"]).all()


def test_effects_on_a_translation(prepared: Prepared) -> None:
    """A generator that gives black: what is left is the distance of its picture from black, in the body."""
    method = built("cyclegan").eval()
    table = effects(method, prepared, "generators.A->B", lambda x: torch.full_like(x, -1.0))
    assert set(table["measure"]) == {"translation"} and table["before"].isna().all()
    change = table.groupby("of")["change"].mean()
    assert 0 < change["B"] < 2 and change["A"] == 0


@pytest.mark.parametrize(
    ("name", "layer", "how", "moved"),
    [
        ("uagan", "generator.blocks.*.gate_tap", "ones", {"probability", "translation"}),
        ("unet_individual", "networks.B.centre_tap", "zero", {"probability"}),
        ("csa", "networks.all.taps.[56]", "mean", {"probability"}),
        ("sasan", "attention.A.maps", "zero", {"probability", "translation"}),
        ("ugatit", "generators.*.cam.tap", "mean", {"translation"}),
        ("pix2pix", "generator.taps.*", "zero", {"translation"}),
    ],
)
def test_other_methods_feel_what_is_done_to_them(
    prepared: Prepared, name: str, layer: str, how: str, moved: set[str]
) -> None:
    method = built(name).eval()
    table = effects(method, prepared, layer, how, patients=prepared.split.test[:1])
    assert {measure for measure, rows in table.groupby("measure") if (rows["change"] != 0).any()} - {"dice"} == moved


@pytest.mark.parametrize(
    ("layer", "how", "index", "message"),
    [
        (POSITION, "off", None, "no way 'off' to intervene.*known: zero"),
        ("segmenter.place", "zero", None, "no module matches 'segmenter.place'.*taps: .*attention.position.map"),
        ("translators", "zero", None, "translators is never called"),
        ("translators.cyclegan", "zero", None, "translators.cyclegan is never called"),
        ("segmenter.attention", "zero", None, "it gives a Attended, not a tensor"),
        ("segmenter.centre_tap", "identity", None, "2x8x16x16 is no matrix of queries and keys"),
        ("segmenter.centre_tap", "zero", 8, "2x8x16x16 has no entry 8 of its second axis"),
        (POSITION, "zero", -1, "has no entry -1"),
        (POSITION, lambda x: x[:, :2], None, "what comes back is 2x2x256, not 2x256x256"),
    ],
)
def test_what_does_not_fit_is_refused(layer: str, how: Any, index: int | None, message: str) -> None:
    method, x = looking(), a_batch()["A"].image
    with pytest.raises(LabError, match=message), intervened(method, layer, how, index):
        method.segment(x, "A")
    assert all(not module._forward_hooks for module in method.modules())


def test_tensors_that_do_not_fit() -> None:
    with pytest.raises(LabError, match="1x2x3 is not square"):
        HOWS["identity"](torch.rand(1, 2, 3))
    with pytest.raises(LabError, match="2x3 is neither maps"):
        HOWS["mean"](torch.rand(2, 3))


def test_who_has_no_effects(prepared: Prepared) -> None:
    method = built("source_only")
    with pytest.raises(LabError, match="nobody is no test patient"):
        effects(method, prepared, "networks.all", "zero", patients=["nobody"])
    with pytest.raises(LabError, match="neither segments nor translates"):
        effects(torch.nn.Linear(1, 1), prepared, "weight", "zero")  # type: ignore[arg-type]
