"""Settings of the planner that change the way and not the goal."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa

pytestmark = pytest.mark.usefixtures("x64")


class Saddle(pa.Problem):
    """A cost that is concave in the position's first power of curvature: cos has both signs along the way."""

    horizon: int = pa.static(6)
    state_size: int = pa.static(2)
    control_size: int = pa.static(1)

    def dynamics(self, x, u):
        return jnp.stack([x[0] + 0.3 * x[1], x[1] + 0.3 * (u[0] - jnp.sin(x[0]))])

    def stage_cost(self, x, u):
        return 0.2 * (1 - jnp.cos(x[0])) + 0.05 * x[1] ** 2 + 0.05 * u[0] ** 2

    def terminal_residual(self, x):
        return x

    def control_bounds(self):
        return pa.Bounds(-1.0, 1.0)


STATE = (2.0, 0.0)  # cos is negative here: an indefinite Hessian


def test_mirrored_and_cut_curvature_end_at_the_same_plan():
    plans = [
        pa.solve(Saddle(), jnp.array(STATE), planner=pa.SQP(hessian=pa.Exact(how))) for how in ("mirror", "project")
    ]
    assert [pa.Status(int(plan.status)).name for plan in plans] == ["SOLVED"] * 2
    assert np.abs(plans[0].controls).max() > 0.99
    np.testing.assert_allclose(plans[0].controls, plans[1].controls, atol=1e-6)


class Linear(Saddle):
    """Linear dynamics and squares: the first quadratic program is the problem."""

    def dynamics(self, x, u):
        return jnp.stack([x[0] + 0.3 * x[1], x[1] + 0.3 * u[0]])

    def stage_cost(self, x, u):
        return jnp.zeros(())

    def stage_residual(self, x, u):
        return jnp.concatenate([x, u])


def test_one_real_time_iteration_solves_a_quadratic_program():
    once, best = (pa.solve(Linear(), jnp.array(STATE), planner=planner) for planner in (pa.SQP.real_time(), pa.SQP()))
    assert once.iterations == 1 and once.gradient_valid
    np.testing.assert_allclose(once.controls, best.controls, atol=1e-6)


def test_real_time_iterations_converge_from_guess_to_guess():
    state, problem = jnp.array([0.5, 0.0]), Saddle()
    best = pa.solve(problem, state)
    step = jax.jit(lambda guess: pa.solve(problem, state, guess=guess, planner=pa.SQP.real_time()))
    plan, errors = step(best.shift()), []
    for _ in range(6):
        assert plan.iterations == 1 and np.abs(plan.controls).max() <= 1.0
        errors.append(float(jnp.abs(plan.controls - best.controls).max()))
        plan = step(plan.guess())
    assert errors[0] > 1e-3 and errors[-1] < 1e-2 * errors[0]


def test_a_real_time_iteration_has_the_derivative_of_its_conditions():
    """At the solution itself it is the derivative of the plan."""
    state, problem = jnp.array([0.5, 0.0]), Saddle()
    guess = pa.solve(problem, state).guess()

    def slope(planner, guess):
        return jax.jit(jax.jacrev(lambda state: pa.solve(problem, state, guess=guess, planner=planner).controls[0]))(
            state
        )

    np.testing.assert_allclose(slope(pa.SQP.real_time(), guess), slope(pa.SQP(), None), rtol=1e-4)
