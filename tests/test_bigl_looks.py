"""What BiGL's segmenter is shown of images: in both looks, as they are, or as its translators give them back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.joint import Kept, one_step, weights
from tests.test_bigl import ABLATIONS, batch_of, bigl, segmentation
from xmod_lab.losses.segmentation import cross_entropy, generalised_dice
from xmod_lab.train import enter, stage_ends


def test_its_lower_bound_sees_the_source_alone() -> None:
    """No translator learns, nothing is derived; and what the target looks like changes no loss and no weight."""
    found = []
    for sign in (1, -1):
        method, passes, batch = bigl(**ABLATIONS["source only"]), [], batch_of()
        stages = method.stages()
        assert stage_ends(stages, 40) == [0, 40] and not stages[1].derive and bigl().stages()[1].derive
        method.segmenter.register_forward_hook(lambda _m, x, _o, passes=passes: passes.append(x[0]))
        before = weights(method)
        batch["B"] = batch["B"]._replace(image=sign * batch["B"].image)
        losses = segmentation(method, None, batch)
        moved = {k.split(".")[0] for k, v in weights(method).items() if not torch.equal(v, before[k])}
        assert moved == {"segmenter"} and len(passes) == 1 and torch.equal(passes[0], batch["A"].image)
        found.append((losses, weights(method)))
    assert found[0][0] == found[1][0] and all(torch.equal(v, found[1][1][k]) for k, v in found[0][1].items())
    assert segmentation(bigl()) != segmentation(bigl(learn_translated=False))


def test_target_images_may_be_seen_in_both_looks() -> None:
    method, image = bigl(average=True).eval(), batch_of()["B"].image
    with torch.no_grad():
        both = [method.segmenter(x).logits.softmax(1) for x in (image, method.translate(image, "B", "A"))]
        assert torch.allclose(method.segment(image, "B").softmax(1), (both[0] + both[1]) / 2, atol=1e-5)
        assert torch.equal(method.segment(image, "A"), method.segmenter(image).logits)


def shown_to(method: Any) -> list[Tensor]:
    """Fills with what the segmenter gets, an entry a pass."""
    passes: list[Tensor] = []
    method.segmenter.register_forward_hook(lambda _m, x, _o: passes.append(x[0]))
    return passes


def test_reconstructed_all_four_images_come_out_of_the_translators() -> None:
    """In the order s, s->t, t, t->s; derived ones where the batch has them, the same ones else; and so at the test."""
    method, batch = bigl(reconstructed=True), batch_of()
    a, b = batch["A"].image, batch["B"].image
    enter(method, method.stages()[1])
    with torch.no_grad():
        there, back = method.translate(a, "A", "B"), method.translate(b, "B", "A")
        expected = [method.translate(there, "B", "A"), there, method.translate(back, "A", "B"), back]
    passes = shown_to(method)
    one_step(method, 1, lambda *_: None, batch)
    assert torch.equal(passes[0], torch.cat(expected)) and not torch.equal(expected[0], a)
    derive = method.stages()[1].derive
    assert set(derive) == {"A->B", "A->B->A", "B->A", "B->A->B"} and set(bigl().stages()[1].derive) == {"A->B", "B->A"}
    made = {name: batch[name[0]]._replace(image=-fn(batch[name[0]].image)) for name, fn in derive.items()}
    one_step(method, 1, lambda *_: None, batch | made)
    assert torch.equal(passes[1], -torch.cat(expected))
    bigl(reconstructed=True, learn_translated=False)  # its translators train all the same
    method.eval()
    with torch.no_grad():
        for m, image, own in (("A", a, expected[0]), ("B", b, expected[2])):
            assert torch.allclose(method.segment(image, m), method.segmenter(own).logits, atol=1e-6)
            assert torch.equal(bigl().as_seen(image, m), image)
    assert torch.allclose(method.maps({"B": batch["B"]})["probability/real/B"].values,
                          method.segment(b, "B").softmax(1), atol=1e-5)  # fmt: skip


def test_taught_by_translations_alone_labels_reach_it_through_them_alone() -> None:
    """The source's own image changes the critics' loss, and no loss of labels."""
    method, batch = bigl(learn_source=False, **ABLATIONS["output"]), batch_of()
    enter(method, method.stages()[1])
    made = batch["A"]._replace(image=method.translate(batch["A"].image, "A", "B"))
    kept = Kept()
    losses = segmentation(method, kept, batch | {"A->B": made})
    other = segmentation(method, Kept(), batch | {"A->B": made, "A": batch["A"]._replace(image=-batch["A"].image)})
    assert losses == other and set(losses) >= {"segmentation/translated", "output"}
    with torch.no_grad():
        logits = method.segmenter(made.image).logits
    alone = (cross_entropy(logits, made.label) + generalised_dice(logits, made.label)).item()
    assert losses["segmentation/translated"] == pytest.approx(alone, rel=1e-4)
