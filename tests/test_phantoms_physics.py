"""The phantoms' building blocks against hand-computed values: signals, scanners, distances, fields, sampling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xmod_lab.data.phantoms import physics, shapes
from xmod_lab.data.phantoms.physics import Tissue

WHITE = Tissue(t1=600, t2=80, pd=0.7)


@pytest.mark.parametrize(("signal", "value"), [
    (physics.spin_echo(WHITE, 600, 80), 0.7 * 0.6321206 * 0.3678794),
    (physics.inversion_recovery(WHITE, 6000, 600, 80), 0.7 * (1 - 2 * 0.3678794 + 0.0000454) * 0.3678794),
    (physics.gradient_echo(WHITE, 600, 0.0, 90), 0.7 * 0.6321206),
    (physics.balanced(Tissue(1000, 1000, 1.0), 1e-3, 90), 0.5),
])
def test_signal_equations(signal, value):
    assert signal == pytest.approx(value, rel=1e-5)


def test_inversion_nulls_at_t1_ln_2_and_magnitude_is_positive():
    assert physics.inversion_recovery(Tissue(1000, 100, 1.0), 1e6, 1000 * np.log(2), 0) == pytest.approx(0, abs=1e-9)
    assert physics.inversion_recovery(Tissue(1000, 100, 1.0), 1e6, 10, 0) > 0.9


def test_contrast_agent_adds_rates():
    agent = Tissue(1000, 100, 1.0, agent=1.0).enhanced()
    assert agent.t1 == pytest.approx(1 / (1 / 1000 + 4.5e-3)) and agent.t2 < 100
    assert Tissue(1000, 100, 1.0).enhanced().t1 == pytest.approx(1000)


def test_mr_noise_is_rician_and_ct_noise_has_its_deviation():
    space = shapes.Space((64, 64, 8), (1, 1, 1))
    rng = np.random.default_rng(0)
    flat = np.zeros(space.shape, np.float32)
    air = physics.mr_scan(flat, space, rng, snr=10, reference=1.0).astype(float)
    assert air.mean() / air.std() == pytest.approx(np.sqrt(np.pi / (4 - np.pi)), rel=0.03)  # Rayleigh
    ct = physics.ct_scan(flat, space, rng, noise=20.0)
    assert ct.dtype == np.int16 and ct.std() == pytest.approx(20, rel=0.05)
    one, two = ct[:-1].ravel(), ct[1:].ravel()
    assert np.corrcoef(one, two)[0, 1] > 0.2


def _points(*rows: tuple[float, float, float]) -> shapes.Points:
    x, y, z = np.array(rows, np.float32).T
    return x, y, z


def test_distances():
    ball = shapes.ellipsoid((1, 0, 0), (5, 5, 5))
    np.testing.assert_allclose(ball.distance(_points((1, 0, 9), (4, 0, 0), (1, 5, 0))), [4, -2, 0], atol=1e-4)
    np.testing.assert_allclose(ball.grown(1).distance(_points((1, 0, 9))), [3], atol=1e-4)
    pipe = shapes.tube([(0, 0, 0, 2), (10, 0, 0, 4)])[0]
    np.testing.assert_allclose(pipe.distance(_points((0, 5, 0), (5, 3, 0), (12, 0, 0))), [3, 0, -2], atol=1e-4)
    plane = shapes.half_space((0, 0, 2), (0, 0, 3))
    np.testing.assert_allclose(plane.distance(_points((7, 7, 5))), [3], atol=1e-4)
    a, b = np.array([1.0, -4.0]), np.array([9.0, 9.0])
    np.testing.assert_allclose(shapes.blend(a, b, 2.0), a)
    assert shapes.blend(np.array([1.0]), np.array([1.0]), 4.0)[0] == pytest.approx(0.0)


@given(st.lists(st.floats(-180, 180), min_size=3, max_size=3), st.lists(st.floats(1, 40), min_size=3, max_size=3),
       st.lists(st.floats(-30, 30), min_size=3, max_size=3))
def test_bounds_of_an_ellipsoid_hold_its_surface(turn, radii, centre):
    shape = shapes.ellipsoid(centre, radii, turn)
    rng = np.random.default_rng(0)
    unit = rng.normal(size=(200, 3))
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    surface = np.array(centre) + (unit * radii) @ shapes.rotation(turn).T
    assert (surface >= np.array(shape.low) - 1e-6).all() and (surface <= np.array(shape.high) + 1e-6).all()
    assert np.abs(shape.distance(_points(*surface))).max() < 1e-2


@given(st.lists(st.floats(-180, 180), min_size=3, max_size=3))
def test_rotation_is_rigid(degrees):
    matrix = shapes.rotation(degrees)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1)


def test_curve_passes_through_its_points():
    points = [(0, 0, 0, 1), (4, 2, 0, 2), (9, 0, 3, 1)]
    found = shapes.curve(points, pieces=5)
    assert len(found) == 11
    np.testing.assert_allclose(found[[0, 5, 10]], points, atol=1e-12)


def test_noise_is_standard_and_smooth():
    space = shapes.Space((48, 48, 48), (1, 1, 1))
    field = space.noise(np.random.default_rng(3), 4.0)
    assert field.dtype == np.float32
    assert abs(field.mean()) < 0.1 and field.std() == pytest.approx(1, abs=0.1)
    assert np.abs(np.diff(field, axis=0)).max() < 1.5


def test_mean_and_vote_of_fine_samples():
    space = shapes.Space((1, 1, 1), (2, 2, 2), (2, 2, 1))
    fine = np.array([[[1], [1]], [[2], [0]]], np.uint8)
    assert space.mean(fine)[0, 0, 0] == 1.0
    assert space.vote(fine, (2, 1))[0, 0, 0] == 1
    assert space.vote(np.array([[[1], [2]], [[0], [0]]], np.uint8), (2, 1))[0, 0, 0] == 2, "the first listed of equals"


def test_canvas_paints_only_where_told():
    space = shapes.Space((20, 20, 20), (1, 1, 1))
    canvas = shapes.canvas(space, np.random.default_rng(0), warp=0.0, scale=10.0)
    canvas.fill(shapes.ellipsoid((0, 0, 0), (6, 6, 6)), 1)
    volume = 4 / 3 * np.pi * 6**3
    assert (canvas.tissue == 1).sum() == pytest.approx(volume, rel=0.05)
    canvas.fill(shapes.ellipsoid((6, 0, 0), (6, 6, 6)), 2, only=[1])
    assert (canvas.tissue != 0).sum() == pytest.approx(volume, rel=0.05)
    canvas.fill(shapes.ellipsoid((400, 0, 0), (6, 6, 6)), 3)
    assert not (canvas.tissue == 3).any()


def test_streams_are_independent_of_each_other_and_of_order():
    one = shapes.Streams("abdomen", 0, 5)
    first = one("liver").normal()
    one("spleen").normal()
    assert one("liver").normal() == first
    assert shapes.Streams("abdomen", 0, 6)("liver").normal() != first
