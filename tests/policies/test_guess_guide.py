"""A network's guess: it may change which optimum is found, and never what counts as one."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from planahead.learning.guess_regression import fit_guide_to
from planahead.learning.solved_plans import BestPlans
from planahead.planning import Guess
from planahead.policies.guess_guide import GuessGuide, GuidedPlanner, cheapest

TASK = pa.make_task("mass-spring-damper")
PROBLEM = TASK.problem
N = PROBLEM.horizon


def linear_plans(number: int, signs: np.ndarray) -> BestPlans:
    """Trajectories that are linear in the state, with controls of either sign."""
    states = jax.random.uniform(jax.random.key(3), (number, 2), minval=-1.0, maxval=1.0)
    stages = jnp.linspace(1.0, 0.0, N + 1)
    controls = jnp.asarray(signs)[:, None, None] * jnp.full((1, N, 1), 0.3)
    plans = jax.vmap(Guess)(stages[None, :, None] * states[:, None], controls + 0.1 * states[:, None, :1])
    return BestPlans(states, plans, jnp.ones(number, bool), jnp.zeros((number, 1)), jnp.ones((number, 1), int))


def fitted(signs: np.ndarray, heads: int):
    start, fitting = jax.random.split(jax.random.key(0))
    return fit_guide_to(linear_plans(len(signs), signs), start, fitting, heads, (32, 32), 1500, 64, 1e-2)


@pytest.mark.long
def test_regression_finds_what_is_a_function_of_the_state():
    found = fitted(np.ones(400), 1)
    assert float(found.error) < 0.05
    guess = found.guide(PROBLEM, jnp.array([0.5, -0.5]))
    np.testing.assert_array_equal(guess.states[0, 0], [0.5, -0.5])
    np.testing.assert_allclose(guess.controls[0, :, 0], 0.35, atol=0.05)


@pytest.mark.long
def test_two_heads_keep_apart_what_one_would_average():
    signs = np.where(np.arange(400) % 2, 1.0, -1.0)
    one, two = (fitted(signs, heads) for heads in (1, 2))
    assert float(two.error) < 0.25 < 0.5 < float(one.error)
    controls = two.guide(PROBLEM, jnp.zeros(2)).controls[:, 0, 0]
    np.testing.assert_allclose(np.sort(controls), [-0.3, 0.3], atol=0.1)


def aimed(sign: float) -> GuessGuide:
    """Proposes to push with all there is, everywhere."""
    mean = Guess(jnp.zeros((N + 1, 2)), jnp.full((N, 1), 0.5 * sign))
    spread = jax.tree.map(jnp.zeros_like, mean)
    return GuessGuide((1.0, 1.0), mean, spread, hidden=(4,), key=jax.random.key(0))


@pytest.mark.long
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_wrong_guess_is_not_chosen_and_the_plan_is_the_same(sign):
    state = jnp.array([0.3, 0.0])
    alone = pa.solve(PROBLEM, state)
    policy = GuidedPlanner.of(TASK, aimed(sign))
    first = policy.decide(state, policy.initial_memory())
    np.testing.assert_allclose(first.action, alone.controls[0], atol=1e-3)
    costs = np.asarray(first.memory.costs)
    assert costs.shape == (3,) and costs[first.memory.chosen] == costs.min() < costs.max()
    after = PROBLEM.dynamics(state, first.action)
    second = policy.decide(after, first.memory)
    assert int(second.memory.chosen) == 1, "the shifted plan is the best there is of a linear problem"
    np.testing.assert_allclose(second.action, pa.solve(PROBLEM, after).controls[0], atol=1e-3)


@pytest.mark.long
def test_the_cheapest_is_chosen_among_those_allowed_and_lanes_do_not_mix():
    guide = aimed(1.0)
    states = jnp.array([[0.0, 0.0], [-1.0, 0.0], [math.nan, 0.0]])

    def race(state):
        both = jax.tree.map(
            lambda a, b: jnp.concatenate([a, b[None]]), guide(PROBLEM, state), pa.cold_start(PROBLEM, state)
        )
        return cheapest(PROBLEM, state, both, 1e-3), cheapest(PROBLEM, state, both, 1e-3, jnp.array([True, False]))

    free, bound = jax.vmap(race)(states)
    assert int(free.chosen[0]) == 1 and free.costs[0, 1] < free.costs[0, 0]
    assert int(bound.chosen[0]) == 0 and np.isinf(bound.costs[:, 1]).all()
    assert np.isfinite(free.costs[:2]).all() and np.isinf(free.costs[2]).all()


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"learned from plans with horizon, states and controls \(20, 2, 1\)"):
        GuidedPlanner.of(pa.make_task("obstacles"), aimed(1.0))
    with pytest.raises(ValueError, match="some of 'guide', 'shift', 'cold' were expected, each once"):
        GuidedPlanner.of(TASK, aimed(1.0), candidates=("guide", "guide"))
    with pytest.raises(ValueError, match=r"GuessGuide\(heads=0\); at least one proposal"):
        GuessGuide((1.0, 1.0), aimed(1.0).mean, aimed(1.0).spread, heads=0, key=jax.random.key(0))
    with pytest.raises(ValueError, match="rows=5; at least 20 are needed"):
        pa.fit_guess_guide(PROBLEM, jnp.zeros(2), jnp.ones(2), jax.random.key(0), rows=5)
    with pytest.raises(ValueError, match="states are drawn from a box; finite limits were expected"):
        pa.fit_guess_guide(PROBLEM, jnp.ones(2), jnp.zeros(2), jax.random.key(0))


@pytest.mark.long
def test_a_guide_is_learned_from_solved_plans():
    """Of a linear problem all guesses lead to one optimum, and the network comes close to it."""
    low, high = jnp.array([-0.2, -0.2]), jnp.array([0.2, 0.2])
    found = pa.fit_guess_guide(
        PROBLEM, low, high, jax.random.key(0), rows=128, random=1, heads=1, hidden=(32,), fit_steps=600
    )
    assert bool(found.solved.usable.all()) and bool(found.solved.reached(1e-3).all())
    state = jnp.array([0.1, -0.1])
    plan, guess = pa.solve(PROBLEM, state), found.guide(PROBLEM, state)
    assert float(jnp.abs(guess.controls[0] - plan.controls).max()) < 0.1
