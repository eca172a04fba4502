"""The plane of features: axes and shares that are known, no matter how many vectors a modality has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.joint import built
from tests.tiny import make_tiny
from xmod_lab.data.prepare import prepare
from xmod_lab.errors import LabError
from xmod_lab.evaluate.feature_plane import between_share, feature_plane, pixel_features
from xmod_lab.evaluate.runs import test_volumes as volumes_of


def cross(centre: list[float], arms: list[list[float]]) -> np.ndarray:
    """Points at a centre plus and minus each arm."""
    return np.array(centre) + np.concatenate([[arm, [-v for v in arm]] for arm in arms])


def test_an_analytic_plane() -> None:
    """Two crosses, 6 apart along the first axis: variances 9 + 4/2, 1/2 and 0 along the three axes."""
    arms = [[2.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    found, shares = feature_plane({"CT": cross([4, 1, 7], arms), "MR": cross([-2, 1, 7], arms)})
    assert shares == pytest.approx((11 / 11.5, 0.5 / 11.5))
    assert np.allclose(found["CT"], [[5, 0], [1, 0], [3, 1], [3, -1]])
    assert np.allclose(found["MR"], [[-1, 0], [-5, 0], [-3, 1], [-3, -1]])


def test_a_turned_plane_has_the_same_picture_up_to_signs() -> None:
    generator = np.random.default_rng(0)
    flat = {"CT": generator.normal([3, 0], [2, 1], (40, 2)), "MR": generator.normal([-3, 0], [2, 1], (40, 2))}
    turn = np.linalg.qr(generator.normal(size=(8, 8)))[0][:2]
    one, shares = feature_plane(flat)
    two, turned = feature_plane({m: v @ turn + 5 for m, v in flat.items()})
    assert turned == pytest.approx(shares) and sum(shares) == pytest.approx(1)
    for m in flat:
        assert np.allclose(np.abs(one[m]), np.abs(two[m]))


def test_modalities_weigh_the_same_however_many_vectors_they_have() -> None:
    arms = [[2.0, 0.0], [0.0, 1.0]]
    few, many = cross([3, 0], arms), cross([-3, 0], arms)
    one, shares = feature_plane({"CT": few, "MR": many})
    two, again = feature_plane({"CT": few, "MR": np.tile(many, (25, 1))})
    assert again == pytest.approx(shares) and np.allclose(two["CT"], one["CT"])
    assert np.allclose(two["MR"][:4], one["MR"])


def test_signs_do_not_depend_on_the_sign_of_the_features() -> None:
    values = np.random.default_rng(1).normal(size=(20, 5)) * [5, 3, 1, 1, 1]
    one, _ = feature_plane({"CT": values})
    two, _ = feature_plane({"CT": values[::-1]})
    assert np.allclose(one["CT"], two["CT"][::-1])
    assert np.corrcoef(one["CT"][:, 0], values[:, 0])[0, 1] > 0.9


def test_features_that_do_not_vary_explain_nothing() -> None:
    for n in (1, 4):
        found, shares = feature_plane({"CT": np.ones((n, 3))})
        assert shares == (0.0, 0.0) and found["CT"].shape == (n, 2) and not found["CT"].any()
    found, shares = feature_plane({"CT": np.array([[0.0, 0, 0], [2, 0, 0]])})
    assert shares == pytest.approx((1, 0)) and np.allclose(np.abs(found["CT"]), [[1, 0], [1, 0]])


@pytest.mark.parametrize(
    "features",
    [{}, {"CT": np.ones((3, 1))}, {"CT": np.ones((3, 4)), "MR": np.ones((3, 5))}, {"CT": np.ones((0, 4))},
     {"CT": np.ones(4)}],
)  # fmt: skip
def test_what_has_no_plane_is_refused(features: dict[str, np.ndarray]) -> None:
    with pytest.raises(LabError, match=r"must be \(n, d\) with one d"):
        feature_plane(features)


def test_the_share_between_modalities() -> None:
    """Two crosses, 6 apart: 9 between, 2 and 1/2 within."""
    arms = [[2.0, 0.0], [0.0, 1.0]]
    near, far = cross([1, 1], arms), cross([7, 1], arms)
    assert between_share(near, far) == pytest.approx(9 / 11.5) == between_share(far, near)
    assert between_share(near, np.tile(far, (25, 1))) == pytest.approx(9 / 11.5)
    assert between_share(near, near[::-1]) == 0.0
    assert between_share(np.ones((3, 2)), np.ones((2, 2))) == 0.0
    assert between_share(np.ones((3, 2)), np.zeros((2, 2))) == 1.0


def test_features_of_pixels_are_those_of_the_map_with_their_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XMOD_HOME", str(tmp_path))
    prepared = prepare(make_tiny(tmp_path, labelled=["A"], unlabelled=["B"], tested=["A", "B"]), "both", 32)
    method = built("pnp_adanet").eval()
    values, classes = pixel_features(method, prepared, "B", "features")
    wanted, named = [], []
    for case in volumes_of(prepared, "B"):
        y = case.geometry.forward(case.truth, "nearest")
        kept = [i for i in range(len(y)) if (y[i] > 0).any()][::2]
        for i in kept:
            slices = case.slices._replace(image=case.slices.image[i : i + 1])
            found = method.maps({"B": slices})["features/B"].values[0]
            for r in range(0, 32, 2):
                for c in range(0, 32, 2):
                    if case.slices.foreground[i, r, c]:
                        wanted.append(found[:, r, c])
                        named.append(y[i, r, c])
    assert np.allclose(values, torch.stack(wanted).numpy(), atol=1e-3)
    assert np.array_equal(classes, named) and {1, 2} <= set(classes)
    for name in ("styles", "entropy"):
        with pytest.raises(LabError, match=f"PnPAdaNet has no stack {name}/B"):
            pixel_features(method, prepared, "B", name)
