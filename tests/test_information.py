"""Mutual information of joint histograms, by hand and by what must not change it."""

from __future__ import annotations

import numpy as np
import pytest

from xmod_lab.evaluate.information import joint_histogram, mutual_information
from xmod_lab.rng import numpy_rng


def test_by_hand() -> None:
    assert mutual_information(np.outer([1, 2, 1], [3, 1])) == pytest.approx(0, abs=1e-12), "independent"
    assert mutual_information(np.diag([2.0, 2.0])) == pytest.approx(np.log(2)), "one tells the other"
    half = np.array([[1.0, 1.0], [0.0, 2.0]])
    by_hand = 0.25 * np.log(0.25 / 0.125) + 0.25 * np.log(0.25 / 0.375) + 0.5 * np.log(0.5 / 0.375)
    assert mutual_information(half) == pytest.approx(by_hand)


def test_the_order_of_grey_values_does_not_matter() -> None:
    joint = numpy_rng("joint").integers(0, 20, (6, 8))
    assert mutual_information(joint[::-1]) == pytest.approx(mutual_information(joint))
    assert mutual_information(joint.T) == pytest.approx(mutual_information(7 * joint))


def test_counts_of_pairs_of_values() -> None:
    a, b = np.array([[0.0, 1.0], [0.0, 1.0]]), np.array([[5.0, 9.0], [9.0, 9.0]])
    assert joint_histogram(a, b, bins=2).tolist() == [[1, 1], [0, 2]], "rows are the first image's values"
    rng = numpy_rng("values")
    x = rng.normal(size=(40, 50))
    far = x.copy()
    far[0, 0] = 1e6
    assert joint_histogram(x, -x).sum() == x.size
    assert np.count_nonzero(joint_histogram(far, x).sum(1)) == 32, "one outlier does not take all the bins"
    alike = mutual_information(joint_histogram(x, x**3))
    assert alike > 4 * mutual_information(joint_histogram(x, rng.normal(size=x.shape)))
