"""The largest invariant set and the tube, against what simulating every extreme case shows."""

import itertools

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

from planahead.problem import largest_invariant_set, linear_tube, lqr_gain

A = np.array([[1.0, 0.1], [0.0, 1.0]])
B = np.array([[0.005], [0.1]])
Q, R = np.eye(2), np.eye(1)
K = lqr_gain(A, B, Q, R)
CLOSED = A + B @ K
LIMITS = np.concatenate([np.eye(2), -np.eye(2), K, -K])
ROOM = np.array([1.0, 2.0, 1.0, 2.0, 1.0, 1.0])


def test_the_gain_agrees_with_scipy():
    P = scipy.linalg.solve_discrete_are(A, B, Q, R)
    np.testing.assert_allclose(K, -np.linalg.solve(R + B.T @ P @ B, B.T @ P @ A), rtol=1e-9)


def test_the_set_is_invariant_and_within_the_limits():
    rows = largest_invariant_set(CLOSED, LIMITS, ROOM)
    directions = np.random.default_rng(0).normal(size=(2_000, 2))
    border = directions / np.max(directions @ rows.T, axis=1, keepdims=True)
    assert np.max(border @ CLOSED.T @ rows.T) <= 1 + 1e-8
    assert np.max(border @ (LIMITS / ROOM[:, None]).T) <= 1 + 1e-8


def test_no_point_outside_of_the_set_could_be_added():
    """From a hundredth beyond the border the limits are broken within a hundred steps."""
    rows = largest_invariant_set(CLOSED, LIMITS, ROOM)
    directions = np.random.default_rng(1).normal(size=(500, 2))
    x = 1.01 * directions / np.max(directions @ rows.T, axis=1, keepdims=True)
    worst = np.zeros(len(x))
    for _ in range(100):
        worst = np.maximum(worst, np.max(x @ LIMITS.T / ROOM[None], axis=1))
        x = x @ CLOSED.T
    assert np.all(worst > 1)


def test_no_row_of_the_set_is_redundant():
    rows = largest_invariant_set(CLOSED, LIMITS, ROOM)
    for index in range(len(rows)):
        others = np.delete(rows, index, axis=0)
        found = scipy.optimize.linprog(-rows[index], A_ub=others, b_ub=np.ones(len(others)), bounds=(None, None))
        assert found.status != 0 or -found.fun > 1 + 1e-7


def test_of_equal_limits_one_is_kept():
    twice = np.array([[1.0], [1.0], [-1.0], [-1.0], [2.0]])
    rows = largest_invariant_set(np.array([[0.5]]), twice, np.array([2.0, 2.0, 4.0, 4.0, 4.0]))
    assert sorted(rows[:, 0].tolist()) == [-0.25, 0.5]


def test_the_tube_is_reached_by_the_worst_disturbances_and_never_left():
    w, horizon = np.array([0.01, 0.05]), 4
    tube = linear_tube(A, B, K, w, horizon)
    reached = np.zeros((horizon, 2))
    for signs in itertools.product([-1.0, 1.0], repeat=2 * (horizon - 1)):
        e = np.zeros(2)
        for k, sign in enumerate(np.reshape(signs, (-1, 2)), start=1):
            e = CLOSED @ e + sign * w
            reached[k] = np.maximum(reached[k], np.abs(e))
    np.testing.assert_allclose(tube.state_radius.values[:-1], reached, rtol=1e-6)
    # At the last stage it is what no disturbance leaves, ever.
    powers = [np.linalg.matrix_power(CLOSED, i) for i in range(2_000)]
    np.testing.assert_allclose(tube.state_radius.values[-1], sum(np.abs(p) @ w for p in powers), rtol=1e-4)
    np.testing.assert_allclose(tube.control_radius.values[-1], sum(np.abs(K @ p) @ w for p in powers), rtol=1e-4)


@pytest.mark.long
def test_what_cannot_be_computed_is_said():
    with pytest.raises(ValueError, match="does not stabilise the system, so its errors grow without end; use lqr_gain"):
        linear_tube(A, B, 0 * K, np.ones(2), 3)
    with pytest.raises(ValueError, match="leave no room around the rest point"):
        largest_invariant_set(CLOSED, LIMITS, np.array([1.0, 2.0, 0.0, 2.0, 1.0, 1.0]))
    with pytest.raises(ValueError, match="is the closed loop stable, and are the limits bounded"):
        largest_invariant_set(np.array([[0.999999]]) * 1.00001, np.array([[1.0]]), np.ones(1))
