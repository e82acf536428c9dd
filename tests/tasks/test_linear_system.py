"""The linear system of Gros and Zanon: steps by hand, and what a planner that knows better is worth."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from planahead.experiments.evaluation import evaluate
from planahead.experiments.fixed_planner import FixedPlanner
from planahead.tasks import LinearSystem, LinearSystemProblem, LinearSystemState, LinearSystemTask


def state(*x: float) -> LinearSystemState:
    return LinearSystemState(jnp.array(x), jnp.array(0), jnp.array(False))


def test_a_step_by_hand():
    """From (-0.1, 1.2), a tenth and two tenths outside of the box, with u = -0.5."""
    world = LinearSystem(disturbance=jnp.array(0.0))
    moved = world.step(state(-0.1, 1.2), jnp.array([-0.5]), jax.random.key(0))
    np.testing.assert_allclose(moved.observation, [-0.09 + 0.42 - 0.04065, 1.32 - 0.1], rtol=1e-6)
    cost = 0.5 * (0.01 + 1.44) + 0.25 * 0.25 + 100 * (0.1 + 0.2)
    assert float(moved.reward) == pytest.approx(-cost, rel=1e-6)
    assert bool(moved.info.violation) and not bool(moved.info.success)  # 1.22 is outside too
    back = world.step(moved.state, jnp.array([-1.0]), jax.random.key(0))
    inside = world.step(state(0.5, 0.0), jnp.array([0.0]), jax.random.key(0))
    assert not bool(back.info.success) and bool(inside.info.success) and not bool(inside.info.violation)


def test_the_disturbance_pushes_the_first_state_down_evenly():
    keys = jax.random.split(jax.random.key(0), 2000)
    after = jax.vmap(lambda key: LinearSystem().step(state(0.5, 0.0), jnp.zeros(1), key).observation)(keys)
    push = np.asarray(after)[:, 0] - 0.45
    assert -0.1 <= push.min() < -0.0995 and -0.0005 < push.max() <= 1e-6
    assert push.mean() == pytest.approx(-0.05, abs=4 * 0.1 / np.sqrt(12 * 2000))
    assert np.ptp(np.asarray(after)[:, 1]) == 0.0


def test_it_never_terminates_and_is_truncated_after_a_hundred_steps():
    world = LinearSystem()
    late = LinearSystemState(jnp.array([5.0, 5.0]), jnp.array(98), jnp.array(True))
    moved = world.step(late, jnp.zeros(1), jax.random.key(0))
    last = world.step(moved.state, jnp.zeros(1), jax.random.key(0))
    assert not moved.terminated and not moved.truncated and not last.terminated and bool(last.truncated)


def test_the_planner_charges_what_the_world_does(x64):
    """Without a disturbance, with the world's model and no back-off, the planned cost of one stage is the world's."""
    world = LinearSystem(disturbance=jnp.array(0.0))
    problem = dataclasses.replace(LinearSystemProblem.matched(world), offset=jnp.array(0.3))
    at, control = state(-0.05, -0.4), jnp.array([0.7])
    moved = world.step(at, control, jax.random.key(0))
    now = pa.action_value(problem, at.x, control)
    # The planner looks N stages ahead from both states; what the second leaves out is the first's stage.
    shorter = dataclasses.replace(problem, horizon=9, offset=jnp.array(0.0))
    rest = pa.value(shorter, moved.observation)
    assert float(now) == pytest.approx(0.3 - float(moved.reward) + 0.9 * float(rest), rel=1e-6)


def test_a_plan_is_imagined_as_it_would_be_lived_through():
    """Where nothing pushes and the model is right."""
    world = LinearSystem(disturbance=jnp.array(0.0))
    task = LinearSystemTask(world, matched=True)
    plan = pa.solve(task.problem, jnp.array([0.6, -0.2]))
    told = task.imagined(plan.states[0], plan.states, plan.controls)
    state = LinearSystemState(plan.states[0], jnp.array(0), jnp.array(False))
    for k, u in enumerate(plan.controls):
        moved = world.step(state, u, jax.random.key(0))
        np.testing.assert_allclose(told.rewards[k], moved.reward, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(told.observations[k + 1], moved.observation, atol=1e-4)
        state = moved.state
    assert told.known.all() and task.reward_per_cost() == 1.0


def test_a_linear_cost_is_one_up_to_a_constant():
    plain, tilted = LinearSystemProblem(), LinearSystemProblem(linear_cost=jnp.array([0.2, -0.3, 0.1]))

    def cost(problem, x, u):
        return 0.5 * jnp.sum(problem.stage_residual(x, u) ** 2)

    def more(x, u):
        return float(cost(tilted, jnp.array(x), jnp.array(u)) - cost(plain, jnp.array(x), jnp.array(u)))

    assert float(cost(plain, jnp.array([2.0, 1.0]), jnp.array([3.0]))) == pytest.approx(2.5 + 9 / 4, rel=1e-6)
    slope = more([2.0, 1.0], [3.0]) - more([0.0, 0.0], [0.0])
    assert slope == pytest.approx(0.2 * 2.0 - 0.3 * 1.0 + 0.1 * 3.0, rel=1e-5)


def test_who_knows_the_world_keeps_the_box_and_who_does_not_leaves_it_at_every_other_step():
    costs = {}
    for matched in (False, True):
        task = LinearSystemTask(matched=matched)
        found = evaluate(task, FixedPlanner(task), jax.random.key(0), 25)
        costs[matched] = -found.mean_return
        assert found.failed_solves == 0.0
        assert found.violations_per_step == 0.0 if matched else found.violations_per_step > 0.4
    assert costs[True] < 5 < 100 < costs[False]
    with pytest.raises(ValueError, match="LinearSystemTask got matched=True and a problem; leave one of them out"):
        LinearSystemTask(matched=True, problem=LinearSystemProblem())


def test_what_is_to_be_learned_is_within_reach():
    world, space = LinearSystem(), pa.ParameterSpace(LinearSystemProblem())
    there = space.to_unit(space.flatten(LinearSystemProblem.matched(world)))
    assert np.abs(there).max() < 1.0
