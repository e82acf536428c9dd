"""The planner that follows a lap, and the L1-adaptive one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.experiments.episodes import run_episodes
from planahead.experiments.evaluation import Evaluation
from planahead.tasks.flight.lap import Lap
from planahead.tasks.flight.quadrotor import GRAVITY, MASS, TIME_STEP
from planahead.tasks.flight.race_task import RaceTask
from planahead.tasks.flight.tracking import TrackingPolicy, TrackingProblem

KEY = jax.random.key(5)


@pytest.mark.slow
def test_it_flies_the_lap_that_it_is_given():
    task, lap = RaceTask(), Lap.load("split-s-90", 7)
    found = Evaluation.of(run_episodes(task, TrackingPolicy(task, lap), KEY, 5))
    assert found.success.all() and found.failed_solves == 0
    np.testing.assert_allclose(found.outcomes["lap [s]"], float(lap.duration), atol=5e-3)


def test_a_quadrotor_on_the_lap_gets_the_commands_of_the_lap():
    task, lap = RaceTask(), Lap.load("split-s-90", 7)
    race, policy = task.environment, TrackingPolicy(task, lap)
    state = race.reset(KEY)
    each = (len(lap.times) - 1) // 7
    for gate in (1, 4):
        node = (gate - 1) * each + 3
        here = jax.tree.map(lambda leaf: leaf, state)
        here = type(state)(**(vars(here) | {"x": lap.states[node], "gate": jnp.asarray(gate)}))
        decision = policy.decide(race.observe(here), policy.initial_memory())
        np.testing.assert_allclose(decision.action, lap.commands[node], atol=0.5)


def estimates(adaptive: bool, push: jnp.ndarray, lags: bool = False) -> np.ndarray:
    """What is estimated while a nominal quadrotor, pushed by a constant acceleration, flies."""
    task = RaceTask()
    race = task.environment
    problem = TrackingProblem.lagging(drag=0.0) if lags else TrackingProblem()
    policy = TrackingPolicy(task, Lap.load("split-s-90", 7), problem, adaptive=adaptive, adaptation=5.0, bandwidth=20.0)
    force = MASS * push

    def step(carry, _):
        state, memory = carry
        decision = policy.decide(race.observe(state), memory)
        x = race.vehicle.fly(state.x, decision.action, force, TIME_STEP)
        state = type(state)(**(vars(state) | {"x": x}))
        return (state, decision.memory), decision.memory.disturbance

    start = race.reset(KEY), policy.initial_memory()
    return np.asarray(jax.lax.scan(step, start, None, length=25)[1])


def test_a_constant_push_is_found():
    """But for the share that the predictor's own pull towards the measured velocity explains: it settles where
    σ (1 - e + T g) = g T d, with g = a e / (1 - e)."""
    push, kept = jnp.array([1.0, -2.0, 0.5]), np.exp(-5.0 * TIME_STEP)
    gain = TIME_STEP * 5.0 * kept / (1 - kept)
    share = gain / (1 - kept + gain)
    assert 0.9 < share < 0.92
    np.testing.assert_allclose(estimates(True, push)[-1], share * push, atol=0.01)
    assert not estimates(False, push).any()


def test_without_a_push_nothing_is_found():
    np.testing.assert_allclose(estimates(True, jnp.zeros(3)), 0.0, atol=0.02)


def test_lags_hover_where_they_are_told():
    problem = TrackingProblem.lagging()
    x = jnp.concatenate([jnp.zeros(3), jnp.array([1.0, 0.0, 0.0, 0.0]), jnp.zeros(3), problem.before_flight()])
    hover = jnp.array([MASS * GRAVITY, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(problem.dynamics(x, hover), x, atol=1e-5)
    turning = hover.at[1].set(1.0)
    after = x
    for _ in range(25):
        after = problem.dynamics(after, turning)
    assert float(after[10]) == pytest.approx(1.0, abs=0.02), "the rate arrives"
