"""References: when they are planned, what they are in between, and what happens where a plan fails."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.planning import SQP, cold_start, solve
from planahead.policies import ReferenceGenerator
from planahead.tasks import make_task

PROBLEM = make_task("mass-spring-damper").problem
GENERATOR = ReferenceGenerator(planner=SQP(), every=4, spacing=2)
START = jnp.array([1.0, 0.0])


@eqx.filter_jit
def moved(reference, state):
    return GENERATOR.next(reference, PROBLEM, state)


def first():
    return GENERATOR.first(cold_start(PROBLEM, START))


def test_it_is_planned_at_its_own_rate_from_where_the_follower_is():
    reference, ages, planned = first(), [], []
    for step in range(10):
        state = START * (1 - 0.05 * step)
        reference = moved(reference, state)
        ages.append(int(reference.age))
        if ages[-1] == 0:
            planned.append(step)
            plan = solve(PROBLEM, state)
            np.testing.assert_allclose(reference.trajectory.states, plan.states, atol=1e-4)
    assert planned == [0, 4, 8] and ages == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]


def test_in_between_it_is_on_the_line_between_nodes_and_ends_where_the_plan_does():
    reference = moved(first(), START)
    states = np.asarray(reference.trajectory.states)
    np.testing.assert_allclose(GENERATOR.at(reference, 3.0), (states[1] + states[2]) / 2, rtol=1e-5)
    np.testing.assert_array_equal(GENERATOR.at(moved(reference, START), 1.0), states[1])
    np.testing.assert_array_equal(GENERATOR.at(reference, 1000.0), states[-1])


def test_shifted_by_a_whole_node_it_is_the_plan_shifted():
    reference = moved(first(), START)
    later = GENERATOR.older(GENERATOR.older(reference))
    shifted, plan = GENERATOR.shifted(later), reference.trajectory
    np.testing.assert_allclose(shifted.states[:-1], plan.states[1:], rtol=1e-6)
    np.testing.assert_array_equal(shifted.states[-1], plan.states[-1])
    np.testing.assert_array_equal(shifted.controls[:-1], plan.controls[1:])


def test_a_plan_that_fails_is_not_followed():
    reference = moved(first(), START)
    older = [GENERATOR.older(reference)]
    for _ in range(3):
        older.append(GENERATOR.older(older[-1]))
    failed = moved(older[2], jnp.array([jnp.nan, 0.0]))
    assert bool(failed.failed) and int(failed.due_in) == 4
    np.testing.assert_array_equal(failed.trajectory.states, GENERATOR.shifted(older[3]).states)


def test_lanes_that_are_not_due_keep_every_bit():
    reference = moved(first(), START)
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), reference)
    batch = eqx.tree_at(lambda r: r.due_in, batch, jnp.array([1, 3, 1]))
    found = jax.vmap(lambda r, x: GENERATOR.next(r, PROBLEM, x))(batch, jnp.stack([START, START, 0.5 * START]))
    np.testing.assert_array_equal(found.age, [0, 1, 0])
    np.testing.assert_array_equal(found.trajectory.states[1], reference.trajectory.states)
    np.testing.assert_allclose(found.trajectory.states[2, 0], 0.5 * START)


def test_a_rate_that_is_no_whole_number_is_refused():
    with pytest.raises(ValueError, match="ReferenceGenerator got every=0; a whole number of at least 1 was expected"):
        ReferenceGenerator(every=0)
