"""The planner that follows a lap, and the L1-adaptive one."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.experiments.bench.robustness_pilots import baselines
from planahead.experiments.episodes import run_episodes
from planahead.experiments.evaluation import Evaluation
from planahead.planning import solve
from planahead.problem.rotation import body_z
from planahead.tasks import make_task
from planahead.tasks.environment import with_constants
from planahead.tasks.flight.believed import Believed
from planahead.tasks.flight.contouring import ContouringProblem
from planahead.tasks.flight.lap import Lap
from planahead.tasks.flight.lap_policy import LapPolicy
from planahead.tasks.flight.lap_problem import catching_up
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


@pytest.mark.long
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


ADAPTATION, BANDWIDTH, SETTLED = 5.0, 20.0, 15  # 1/s, rad/s, steps: six time constants of the filter


def estimates(lags: bool, truth: dict[str, Any], adaptive: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """What is estimated, and what it should be, while what is believed but for the `truth` flies towards a lap: with
    lags, and a command that acts a step late, or without."""
    task, plant = RaceTask(), Believed(lags=lags, **truth)
    race = task.environment
    problem = TrackingProblem.of(Believed(lags=lags))
    policy = LapPolicy(
        task,
        Lap.load("split-s-90", 7),
        problem,
        adaptive=adaptive,
        adaptation=ADAPTATION,
        bandwidth=BANDWIDTH,
    )
    start = race.reset(KEY)

    def step(carry, _):
        x, before, memory = carry
        seen = type(start)(**(vars(start) | {"x": x[:10]}))
        decision = policy.decide(race.observe(seen), memory)
        up, found = body_z(x[3:7]), decision.memory
        x = plant.fly(x, before if lags else decision.action)
        acting = found.lift * up + found.disturbance, plant.lift * up + plant.disturbance
        return (x, decision.action, found), acting

    x = jnp.concatenate([start.x, plant.hovering()])
    hover = jnp.array([MASS * GRAVITY, 0.0, 0.0, 0.0])
    found, true = jax.lax.scan(step, (x, hover, policy.initial_memory()), None, length=40)[1]
    return np.asarray(found), np.asarray(true)


def share() -> float:
    """Of what is constant, what is found: the predictor's own pull towards the measured velocity explains the rest. It
    settles where σ (1 - e + T g) = g T s, with g = a e / (1 - e)."""
    kept = np.exp(-ADAPTATION * TIME_STEP)
    gain = TIME_STEP * ADAPTATION * kept / (1 - kept)
    return gain / (1 - kept + gain)


def off(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """How far estimates are from what they settle at, as a share of the truth."""
    return np.linalg.norm(found - share() * true, axis=1) / np.linalg.norm(true, axis=1)


@pytest.mark.long
@pytest.mark.parametrize("lags", [False, True])
def test_a_constant_push_is_found(lags):
    """Within six time constants of the filter, 0.3 s, and ever after, but for what the turning quadrotor takes from the
    part along the thrust to that across it."""
    found, true = estimates(lags, {"disturbance": (1.0, -2.0, 0.5)})
    assert share() == pytest.approx(0.91, abs=0.01)
    assert off(found, true)[SETTLED:].max() < 0.2
    assert off(found, true)[1] > 0.5, "not at once"
    assert not estimates(lags, {"disturbance": (1.0, -2.0, 0.5)}, adaptive=False)[0].any()


@pytest.mark.parametrize("lags", [False, True])
def test_what_the_thrust_lacks_is_found_along_it(lags):
    found, true = estimates(lags, {"lift": -2.0})
    assert np.abs(true[0] - true[-1]).max() > 1.0, "it has turned"
    assert off(found, true)[SETTLED:].max() < 0.2


@pytest.mark.long
@pytest.mark.parametrize("known", [{"disturbance": (0.0, 0.0, 3.0)}, {"lift": 3.0}])
@pytest.mark.parametrize("lags", [False, True])
def test_a_push_that_is_known_is_hovered_against(lags, known):
    """Compensated once, not twice and not undone: with the thrust that holds it, the vehicle stays where it is, and the
    plan goes on with that thrust."""
    vehicle = Believed(lags=lags, **known)
    thrust = MASS * (GRAVITY - 3.0)
    still = jnp.concatenate([jnp.zeros(3), jnp.array([1.0, 0.0, 0.0, 0.0]), jnp.zeros(3)])
    inner = vehicle.hovering().at[6:].set(thrust)
    x, u = jnp.concatenate([still, inner]), jnp.array([thrust, 0.0, 0.0, 0.0])
    np.testing.assert_allclose(vehicle.fly(x, u), x, atol=1e-5)
    problem = TrackingProblem.of(vehicle)
    problem = eqx.tree_at(lambda p: p.reference, problem, still)
    plan = solve(problem, x)
    np.testing.assert_allclose(plan.controls[0], u, atol=0.1)


@pytest.mark.parametrize("lags", [False, True])
def test_without_a_push_nothing_is_found(lags):
    np.testing.assert_allclose(estimates(lags, {})[0], 0.0, atol=0.02)


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
    none = jnp.array(0.0)
    vehicle, plant = Believed(lags=True, drag=none, quadratic_drag=none), Realistic(drag=none, delay=none)
    attitude, zero = jnp.array([1.0, 0.0, 0.0, 0.0]), jnp.zeros(3)
    x, y = jnp.concatenate([zero, attitude, zero, vehicle.hovering()]), plant.at(zero, attitude, zero)
    command = jnp.array([MASS * GRAVITY * 1.05, 0.2, -0.2, 0.1])
    for _ in range(15):
        x, y = vehicle.fly(x, command), plant.fly(y, command, zero)
        np.testing.assert_allclose(x[10:13], y[10:13], atol=0.02)
        np.testing.assert_allclose(x[3:10], y[3:10], atol=0.02)


@pytest.mark.parametrize("axis", range(3))
def test_drag_is_that_of_the_realistic_quadrotor(axis):
    """The difference that velocity makes within a step, to 10 %: the drag along the thrust is a little larger."""
    vehicle, plant = Believed(lags=True), Realistic()
    attitude, zero = jnp.array([0.5, 0.5, -0.5, 0.5]), jnp.zeros(3)
    hover = jnp.array([MASS * GRAVITY, 0.0, 0.0, 0.0])

    def after(velocity):
        x = jnp.concatenate([zero, attitude, velocity, vehicle.hovering()])
        believed = vehicle.fly(x, hover)[7:10]
        return believed - velocity, plant.fly(plant.at(zero, attitude, velocity), hover, zero)[7:10] - velocity

    for speed in (5.0, 18.0):
        ours, theirs = (fast - still for fast, still in zip(after(speed * jnp.eye(3)[axis]), after(zero), strict=True))
        assert float(theirs[axis]) < -0.03
        np.testing.assert_allclose(ours, theirs, rtol=0.1, atol=1e-4)


@pytest.mark.long
def test_what_is_slower_than_the_lap_catches_up():
    lap, limit = Lap.load("split-s-90", 7), jnp.array(15.0)
    time = lap.times[40]
    velocity = lap.states[40, 7:]
    speed = float(jnp.linalg.norm(velocity))
    times, paces = catching_up(lap, time, velocity, limit, 10)
    np.testing.assert_allclose(times, time + TIME_STEP * jnp.arange(11), rtol=1e-5)
    np.testing.assert_allclose(paces, 1.0, rtol=1e-5)
    times, paces = catching_up(lap, time, jnp.zeros(3), limit, 100)
    np.testing.assert_allclose(jnp.diff(times), TIME_STEP * paces[:-1], atol=1e-5)
    reached = int(np.argmax(np.asarray(paces) >= 1.0))
    assert reached == int(np.ceil(speed / (15.0 * TIME_STEP))), "at 15 m/s²"
    assert float(paces[0]) == 0.0 and float(paces.max()) == 1.0
    assert float(catching_up(lap, time, -velocity, limit, 2)[1][0]) == 0.0, "never backwards"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("tracking", (24, 24)), ("l1", (24, 24)), ("contouring", (19, 5))])
def test_what_others_are_judged_against_flies(name, least):
    """On the realistic quadrotor, undisturbed and in a side wind of 2 N, from starts that nothing was tuned on."""
    pilot = baselines([name])[0].load()
    calm = make_task("race-split-s", plant="realistic")
    for force, successes in zip((0.0, 2.0), least, strict=True):
        windy = with_constants(calm.environment, wind_force=(0.0, force, 0.0))
        task = eqx.tree_at(lambda task: task.environment, calm, windy)
        found = Evaluation.of(run_episodes(task, pilot, KEY, 25))
        assert found.success.sum() >= successes and found.failed_solves == 0
        assert np.nanmax(found.outcomes["lap [s]"][found.success]) < 5.6


@pytest.mark.slow
def test_contouring_flies_faster_than_the_lap_it_is_given():
    task, lap = RaceTask(), Lap.load("split-s-90", 7)
    found = Evaluation.of(run_episodes(task, LapPolicy(task, lap, ContouringProblem()), KEY, 5))
    assert found.success.all() and found.failed_solves == 0
    assert found.outcomes["lap [s]"].max() < float(lap.duration)
