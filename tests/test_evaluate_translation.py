"""Translation scores and feature distances: identities, analytic cases, MONAI and scikit-image as references."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xmod_lab.errors import LabError
from xmod_lab.evaluate import (
    distribution_scores,
    frechet_distance,
    frechet_floor,
    image_scores,
    jackknife,
    kernel_distance,
    lpips_available,
    lpips_score,
)
from xmod_lab.evaluate.distances import patient_distance_rows


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    truth = rng.uniform(-1, 1, (3, 24, 28))
    return np.clip(truth + rng.normal(0, 0.2, truth.shape), -1, 1), truth


def test_identity():
    image = np.random.default_rng(1).uniform(-1, 1, (20, 20))
    scores = image_scores(image, image)
    assert scores == pytest.approx({"mae": 0, "rmse": 0, "psnr": math.inf, "ssim": 1, "pcc": 1, "nmse": 0})


def test_constant_error_by_hand():
    """Truth 0 and prediction 0.2 in [-1, 1] are 0.5 and 0.6 in [0, 1]."""
    scores = image_scores(np.full((16, 16), 0.2), np.zeros((16, 16)))
    assert scores["mae"] == pytest.approx(0.1) and scores["rmse"] == pytest.approx(0.1)
    assert scores["psnr"] == pytest.approx(20)
    assert scores["nmse"] == pytest.approx(0.01 / 0.25)
    assert math.isnan(scores["pcc"])
    luminance = (2 * 0.5 * 0.6 + 1e-4) / (0.25 + 0.36 + 1e-4)  # variances are 0: only SSIM's first factor is left
    assert scores["ssim"] == pytest.approx(luminance)


def test_psnr_is_a_function_of_rmse(pair):
    scores = image_scores(*pair)
    assert scores["psnr"] == pytest.approx(20 * math.log10(1 / scores["rmse"]))
    x, y = ((image + 1) / 2 for image in pair)
    assert scores["pcc"] == pytest.approx(np.corrcoef(x.ravel(), y.ravel())[0, 1])
    assert scores["mae"] == pytest.approx(np.abs(x - y).mean())


def test_range_is_fixed_and_its_scale_drops_out(pair):
    pred, truth = pair
    percent = image_scores(50 * pred + 50, 50 * truth + 50, value_range=(0, 100))
    assert image_scores(pred, truth) == pytest.approx(percent)
    half = image_scores(pred / 2, truth / 2)  # a truth that does not fill the range is not stretched to it
    assert half["mae"] == pytest.approx(image_scores(pred, truth)["mae"] / 2)


def test_ssim_against_scikit_image_and_monai(pair):
    skimage = pytest.importorskip("skimage.metrics")
    torch, monai = pytest.importorskip("torch"), pytest.importorskip("monai.metrics")
    x, y = ((image + 1) / 2 for image in pair)
    found = image_scores(*pair)["ssim"]
    expected = np.mean([skimage.structural_similarity(a, b, data_range=1, gaussian_weights=True, sigma=1.5,
                                                      use_sample_covariance=False) for a, b in zip(x, y, strict=True)])
    assert found == pytest.approx(expected)
    metric = monai.SSIMMetric(spatial_dims=2, data_range=1.0)
    assert found == pytest.approx(metric(torch.tensor(x)[:, None], torch.tensor(y)[:, None]).mean().item(), abs=1e-6)


def test_mask_restricts_every_number(pair):
    pred, truth = pair
    mask = np.zeros(truth.shape, dtype=bool)
    mask[:, 6:18, 6:20] = True
    wrong_outside = np.where(mask, truth, pred)
    scores = image_scores(wrong_outside, truth, mask)
    assert scores["mae_masked"] == 0 and scores["psnr_masked"] == math.inf and scores["pcc_masked"] == pytest.approx(1)
    assert scores["mae"] > 0 and scores["ssim"] < scores["ssim_masked"] < 1  # SSIM's window reaches out of the mask
    assert set(scores) == {*image_scores(pred, truth), *(f"{name}_masked" for name in image_scores(pred, truth))}


def test_slice_axis(pair):
    pred, truth = pair
    turned = image_scores(np.moveaxis(pred, 0, 2), np.moveaxis(truth, 0, 2), slice_axis=2)
    assert turned == pytest.approx(image_scores(pred, truth))


@pytest.mark.parametrize(("change", "message"), [
    ({"pred": np.zeros((16, 17))}, "prediction (16, 17) and truth (16, 16) must be"),
    ({"pred": np.full((16, 16), np.nan)}, "the prediction holds NaN"),
    ({"truth": np.full((16, 16), 3.0)}, "the truth runs from 3 to 3, beyond the range -1 to 1"),
    ({"value_range": (1, 1)}, "value range (1, 1) is empty"),
    ({"mask": np.zeros((16, 16), dtype=bool)}, "the mask must be boolean, of shape (16, 16) and not empty"),
    ({"pred": np.zeros((8, 8)), "truth": np.zeros((8, 8))}, "smaller than SSIM's window of 11"),
])
def test_refusals(change, message):
    arguments = {"pred": np.zeros((16, 16)), "truth": np.zeros((16, 16))} | change
    with pytest.raises(LabError) as error:
        image_scores(**arguments)
    assert message in str(error.value)


def test_lpips_says_that_it_is_absent_and_takes_a_network(pair):
    if not lpips_available():
        with pytest.raises(LabError, match="LPIPS is left out.*neither installs nor downloads.*lpips.pt2"):
            lpips_score(*pair)
    seen = {}

    def network(x, y):
        seen["shape"], seen["range"] = tuple(x.shape), (float(x.min()), float(x.max()))
        return (x - y).abs().mean((1, 2, 3))

    pred, truth = pair
    assert lpips_score(pred, truth, network=network) == pytest.approx(np.abs(pred - truth).mean(), rel=1e-5)
    assert seen["shape"] == (3, 3, 24, 28) and seen["range"] == pytest.approx((pred.min(), pred.max()))


def test_frechet_of_equal_sets_is_zero():
    features = np.random.default_rng(0).normal(size=(50, 6))
    assert frechet_distance(features, features[::-1]) == pytest.approx(0, abs=1e-9)


def test_frechet_against_the_gaussian_formula():
    """Whitened samples have exactly the means and covariances asked for; diagonal ones have a closed form."""
    rng = np.random.default_rng(1)
    raw = rng.normal(size=(400, 3))
    raw -= raw.mean(0)
    white = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw, rowvar=False))).T
    scale_a, scale_b, shift = np.array([1.0, 2.0, 0.5]), np.array([2.0, 1.0, 0.0]), np.array([1.0, -2.0, 0.5])
    expected = (shift**2).sum() + ((scale_a - scale_b) ** 2).sum()
    assert frechet_distance(white * scale_a, white * scale_b + shift) == pytest.approx(expected)


def test_frechet_against_the_matrix_root():
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(80, 5)) @ rng.normal(size=(5, 5)), rng.normal(0.3, 1, (60, 5)) @ rng.normal(size=(5, 5))
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    gap = a.mean(0) - b.mean(0)
    expected = gap @ gap + np.trace(cov_a + cov_b - 2 * np.real(sqrtm(cov_a @ cov_b)))
    assert frechet_distance(a, b) == pytest.approx(expected)


def test_floor_falls_with_the_number_of_vectors():
    rng = np.random.default_rng(3)
    small, large = frechet_floor(rng.normal(size=(60, 8))), frechet_floor(rng.normal(size=(600, 8)))
    assert 0 < large < small / 4
    assert frechet_floor(rng.normal(size=(3, 40)).repeat(4, 0)) >= 0  # fewer vectors than dimensions


def test_the_jackknife_of_a_mean_gives_the_values_back():
    values = np.random.default_rng(0).normal(size=7)
    assert jackknife(np.mean, list(values)) == pytest.approx(values)
    assert np.isnan(jackknife(np.mean, [1.0])).all()


def test_the_jackknife_takes_the_bias_out_of_a_variance():
    """Pseudo-values of the variance with ddof 0 average to the one with ddof 1."""
    values = np.random.default_rng(0).normal(size=7)
    assert jackknife(np.var, list(values)).mean() == pytest.approx(np.var(values, ddof=1))


def test_frechet_pseudo_values_by_patient():
    """Equal distributions: about 0, where the plain distance has its floor. A shift by 1 in each feature: about d."""
    rng = np.random.default_rng(0)
    real, same = ({f"p{i}": rng.normal(size=(40, 4)) for i in range(12)} for _ in range(2))

    def pseudo(own):
        rows = patient_distance_rows({"e": {("real", "B", "B"): real, ("it", "A", "B"): own}})
        assert [r["patient"] for r in rows] == list({**own, **real}) and {r["method"] for r in rows} == {"it"}
        return np.array([r["FD[e]"] for r in rows])

    assert pseudo(real) == pytest.approx(0, abs=1e-9)  # registered: who is left out is left out of both
    apart = {f"q{i}": values for i, values in enumerate(same.values())}
    assert np.isnan(pseudo({"q": same["p0"]})).all()  # nothing is left without the only one
    plain = frechet_distance(np.concatenate(list(real.values())), np.concatenate(list(same.values())))
    assert abs(pseudo(apart).mean()) < 0.02 and plain > 0.005
    assert pseudo({name: values + 1 for name, values in apart.items()}).mean() == pytest.approx(4, abs=0.6)
    assert np.isnan(pseudo({name: values * np.nan for name, values in apart.items()})).all()


def test_kernel_distance_is_unbiased_and_grows():
    rng = np.random.default_rng(4)
    real = rng.normal(size=(400, 8))
    mean, sd = kernel_distance(real, rng.normal(size=(400, 8)))
    assert abs(mean) < 2 * sd
    further = [kernel_distance(real, rng.normal(shift, 1, (400, 8)))[0] for shift in (0.3, 0.6, 0.9)]
    assert mean < further[0] < further[1] < further[2]


def test_kernel_distance_by_hand():
    """One feature, sets {0, 1} and {2, 3}, kernel (xy + 1)^3: whole sets, so every subset is the same."""
    from xmod_lab.evaluate.distribution import _mmd

    assert _mmd(np.array([[0.0], [1.0]]), np.array([[2.0], [3.0]])) == 1 + 343 - 2 * (1 + 1 + 27 + 64) / 4


def test_distribution_scores_are_named_after_their_extractor():
    rng = np.random.default_rng(5)
    scores = distribution_scores(rng.normal(size=(40, 4)), rng.normal(size=(30, 4)), "unet-encoder")
    assert list(scores) == ["FD[unet-encoder]", "FD[unet-encoder] floor", "KD[unet-encoder]", "KD[unet-encoder] sd",
                            "n_real", "n_fake"]
    assert (scores["n_real"], scores["n_fake"]) == (40, 30)


@pytest.mark.parametrize(("features", "message"), [
    (np.zeros((5, 4)), "features must be (N, d) with one d"), (np.zeros((1, 3)), "N of at least 2"),
    (np.full((5, 3), np.nan), "features hold NaN")])
def test_feature_refusals(features, message):
    with pytest.raises(LabError) as error:
        frechet_distance(np.zeros((5, 3)), features)
    assert message in str(error.value)
