"""The problem of a safety filter: what it keeps of the given one, and what it refuses."""

import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from planahead.problem import Polytope, at_stage
from planahead.tasks import Obstacles, ObstaclesTask
from planahead.tasks.environment import with_constants
from tests.policies.slider import Slider


def test_costs_are_left_out_and_every_bound_is_hard():
    base = pa.make_task("mass-spring-damper").problem
    problem = pa.linear_safety_problem(base, horizon=7, margin=0.01)
    first, last = at_stage(problem, 0), at_stage(problem, 7)
    x, u = jnp.array([0.3, -0.2]), jnp.array([0.1])
    assert base.state_bounds().slack is not None and first.state_bounds().slack is None
    np.testing.assert_allclose(last.state_bounds().upper, 2.0 - 0.01, rtol=1e-6)
    np.testing.assert_allclose(first.stage_residual(x, u), u / 0.5, rtol=1e-6)
    np.testing.assert_array_equal(first.dynamics(x, u), base.dynamics(x, u))
    assert problem.terminal_residual(x).size == 0


def test_a_disturbance_takes_its_share_stage_by_stage():
    problem = pa.linear_safety_problem(Slider(), horizon=5, disturbance=[0.002, 0.02], gain=Slider.GAIN, margin=0.0)
    radius = np.asarray(problem.tube.state_radius.values)
    assert np.all(np.diff(radius, axis=0) >= 0) and np.all(radius[0] == 0)
    for stage in range(6):
        np.testing.assert_allclose(at_stage(problem, stage).state_bounds().upper, [1.0, 2.0] - radius[stage], rtol=1e-6)
    # The terminal law keeps what the feedback may need in reserve.
    terminal = problem.terminal
    assert isinstance(terminal, Polytope)
    directions = np.random.default_rng(0).normal(size=(500, 2))
    rows = np.asarray(terminal.rows)
    border = directions / np.max(directions @ rows.T, axis=1, keepdims=True)
    assert np.max(np.abs(border @ Slider.GAIN.T)) <= 1.0 - float(problem.tube.control_radius.values[-1, 0]) + 1e-6
    assert np.all(np.max(np.abs(border), axis=0) <= [1.0, 2.0] - radius[-1] + 1e-6)


def test_an_error_leaves_whole_periods_out():
    slider, rest = Slider(), Polytope(jnp.eye(2), jnp.zeros((1, 2)), jnp.zeros(2), jnp.zeros(1))
    x, z = jnp.array([9.0, 0.2]), jnp.array([1.0, 6.3])
    problem = pa.SafetyProblem(slider, rest, horizon=1, periods=(np.inf, 2 * np.pi))
    np.testing.assert_allclose(problem.error(x, z), [8.0, 0.2 - 6.3 + 2 * np.pi], rtol=1e-5)
    plain = pa.SafetyProblem(slider, rest, horizon=1)
    np.testing.assert_array_equal(plain.error(x, z), x - z)


def test_what_makes_no_filter_is_refused():
    slider = Slider()
    rest = Polytope(jnp.eye(2), jnp.zeros((1, 2)), jnp.zeros(2), jnp.zeros(1))
    with pytest.raises(ValueError, match=r"decay=0.5 with horizon=3; a barrier filter looks one step ahead"):
        pa.SafetyProblem(slider, rest, horizon=3, decay=0.5)
    with pytest.raises(ValueError, match=r"of the state bounds .* and nothing is left; use a smaller disturbance"):
        pa.linear_safety_problem(slider, horizon=3, disturbance=[0.1, 0.5])
    with pytest.raises(ValueError, match="give an equilibrium as rest_state and rest_control"):
        pa.linear_safety_problem(slider, horizon=3, rest_state=[0.0, 1.0])
    with pytest.raises(ValueError, match="the dynamics are not affine, and a safe set is computed for linear systems"):
        pa.linear_safety_problem(pa.make_task("cartpole").problem, horizon=3)
    with pytest.raises(ValueError, match=r"the constraints are not affine"):
        pa.linear_safety_problem(pa.make_task("obstacles").problem, horizon=3)


def test_constraints_under_a_disturbance_need_slopes():
    task = ObstaclesTask(with_constants(Obstacles(), gust=0.2))
    problem = task.safety_problem()
    with pytest.raises(ValueError, match=r"a disturbance may move the 3 constraints of ObstaclesProblem; give slopes"):
        pa.SafetyProblem(task.problem, problem.terminal, horizon=problem.horizon, tube=problem.tube)
    with pytest.raises(ValueError, match=r"slopes have shape \(1, 6\); one row per constraint, \(3, 6\), was expected"):
        pa.SafetyProblem(task.problem, problem.terminal, horizon=10, tube=problem.tube, slopes=jnp.ones((1, 6)))
