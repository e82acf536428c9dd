"""Costs to go along a plan: Riccati's, and those of the same problem begun later."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from planahead.planning import cost_to_go, step_costs
from planahead.tasks.obstacles import ObstaclesProblem
from tests.learning.integrator import IntegratorProblem, riccati


@pytest.mark.usefixtures("x64")
def test_costs_to_go_are_riccatis():
    plan = pa.solve(IntegratorProblem(limit=100.0), jnp.array([0.7, -0.4]), planner=pa.SQP(tolerance=1e-10))
    found = cost_to_go(IntegratorProblem(limit=100.0), plan)
    for P, x, value, slope in zip(riccati(), np.asarray(plan.states), found.values, found.slopes, strict=True):
        np.testing.assert_allclose(value, 0.5 * x @ P @ x, rtol=1e-8)
        np.testing.assert_allclose(slope, P @ x, rtol=1e-7, atol=1e-10)


@pytest.mark.long
@pytest.mark.usefixtures("x64")
def test_costs_to_go_are_those_of_the_problem_begun_later():
    """On the way past an obstacle that is touched: prices of constraints and of bounds enter where they fall due."""
    problem = ObstaclesProblem(horizon=8, discount=0.9, contact_weight=jnp.array(0.3))
    start, planner = jnp.array([-0.6, 0.1, 2.3, 0.0]), pa.SQP(hessian=pa.Exact(), tolerance=1e-9)
    plan = pa.solve(problem, start, planner=planner)
    assert int(plan.status) == pa.Status.SOLVED
    found = cost_to_go(problem, plan)
    np.testing.assert_allclose(found.values[0], plan.cost, rtol=1e-9)
    for k in (0, 3):
        tail = dataclasses.replace(problem, horizon=8 - k)
        guess = pa.Guess(plan.states[k:], plan.controls[k:])
        cost, slope = jax.value_and_grad(
            lambda x, tail=tail, guess=guess: pa.value(tail, x, guess=guess, planner=planner)
        )(plan.states[k])
        np.testing.assert_allclose(found.values[k], cost, rtol=1e-7)
        np.testing.assert_allclose(found.slopes[k], slope, rtol=1e-5, atol=1e-7)
    touched = step_costs(problem, plan.states, plan.controls, plan.states[1:])
    free = step_costs(
        dataclasses.replace(problem, contact_weight=jnp.array(1e-6)), plan.states, plan.controls, plan.states[1:]
    )
    assert (np.asarray(touched - free) > 1e-3).any()
