"""The planner that follows a lap, and the L1-adaptive one."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.experiments.episodes import run_episodes
from planahead.experiments.evaluation import Evaluation
from planahead.planning import solve
from planahead.tasks.flight.believed import Believed
from planahead.tasks.flight.contouring import ContouringProblem
from planahead.tasks.flight.lap import Lap
from planahead.tasks.flight.lap_policy import LapPolicy
from planahead.tasks.flight.quadrotor import GRAVITY, MASS, TIME_STEP, Realistic
from planahead.tasks.flight.race_task import RaceTask
from planahead.tasks.flight.tracking import TrackingProblem

KEY = jax.random.key(5)


@pytest.mark.slow
def test_it_flies_the_lap_that_it_is_given():
    task, lap = RaceTask(), Lap.load("split-s-90", 7)
    found = Evaluation.of(run_episodes(task, LapPolicy(task, lap, TrackingProblem()), KEY, 5))
    assert found.success.all() and found.failed_solves == 0
    np.testing.assert_allclose(found.outcomes["lap [s]"], float(lap.duration), atol=5e-3)


def test_a_quadrotor_on_the_lap_gets_the_commands_of_the_lap():
    task, lap = RaceTask(), Lap.load("split-s-90", 7)
    race, policy = task.environment, LapPolicy(task, lap, TrackingProblem())
    state = race.reset(KEY)
    each = (len(lap.times) - 1) // 7
    for gate in (1, 4):
        node = (gate - 1) * each + 3
        here = jax.tree.map(lambda leaf: leaf, state)
        here = type(state)(**(vars(here) | {"x": lap.states[node], "gate": jnp.asarray(gate)}))
        decision = policy.decide(race.observe(here), policy.initial_memory())
        np.testing.assert_allclose(decision.action, lap.commands[node], atol=0.5)


def estimates(adaptive: bool, push: jnp.ndarray) -> np.ndarray:
    """What is estimated while a nominal quadrotor, pushed by a constant acceleration, flies."""
    task = RaceTask()
    race = task.environment
    policy = LapPolicy(
        task, Lap.load("split-s-90", 7), TrackingProblem(), adaptive=adaptive, adaptation=5.0, bandwidth=20.0
    )
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


@pytest.mark.parametrize("lags", [False, True])
def test_a_push_that_is_known_is_hovered_against(lags):
    """Compensated once, not twice and not undone: with the thrust that holds it, the vehicle stays where it is, and the
    plan goes on with that thrust."""
    vehicle = Believed(lags=lags, disturbance=jnp.array([0.0, 0.0, 3.0]))
    thrust = MASS * (GRAVITY - 3.0)
    still = jnp.concatenate([jnp.zeros(3), jnp.array([1.0, 0.0, 0.0, 0.0]), jnp.zeros(3)])
    inner = vehicle.hovering().at[6:].set(thrust)
    x, u = jnp.concatenate([still, inner]), jnp.array([thrust, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(vehicle.fly(x, u), x, atol=1e-5)
    problem = TrackingProblem.of(vehicle)
    problem = eqx.tree_at(lambda p: p.reference, problem, still)
    plan = solve(problem, x)
    np.testing.assert_allclose(plan.controls[0], u, atol=0.1)


def test_without_a_push_nothing_is_found():
    np.testing.assert_allclose(estimates(True, jnp.zeros(3)), 0.0, atol=0.02)


def test_lags_hover_where_they_are_told():
    vehicle = Believed(lags=True)
    x = jnp.concatenate([jnp.zeros(3), jnp.array([1.0, 0.0, 0.0, 0.0]), jnp.zeros(3), vehicle.hovering()])
    hover = jnp.array([MASS * GRAVITY, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(vehicle.fly(x, hover), x, atol=1e-5)
    turning = hover.at[1].set(1.0)
    after = x
    for _ in range(25):
        after = vehicle.fly(after, turning)
    assert float(after[10]) == pytest.approx(1.0, abs=0.02), "the rate arrives"


def test_lags_are_those_of_the_realistic_quadrotor():
    """But for drag and for rotors that saturate: small commands, from hovering."""
    vehicle, plant = Believed(lags=True, drag=jnp.array(0.0)), Realistic(drag=jnp.array(0.0), delay=jnp.array(0.0))
    attitude, zero = jnp.array([1.0, 0.0, 0.0, 0.0]), jnp.zeros(3)
    x, y = jnp.concatenate([zero, attitude, zero, vehicle.hovering()]), plant.at(zero, attitude, zero)
    command = jnp.array([MASS * GRAVITY * 1.05, 0.2, -0.2, 0.1])
    for _ in range(15):
        x, y = vehicle.fly(x, command), plant.fly(y, command, zero)
        np.testing.assert_allclose(x[10:13], y[10:13], atol=0.02)
        np.testing.assert_allclose(x[3:10], y[3:10], atol=0.02)


@pytest.mark.slow
def test_contouring_flies_faster_than_the_lap_it_is_given():
    task, lap = RaceTask(), Lap.load("split-s-90", 7)
    found = Evaluation.of(run_episodes(task, LapPolicy(task, lap, ContouringProblem()), KEY, 5))
    assert found.success.all() and found.failed_solves == 0
    assert found.outcomes["lap [s]"].max() < float(lap.duration)
