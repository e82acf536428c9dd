"""Races that something outside JAX flies are the races of `run_batch`."""

import dataclasses
import importlib.util
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, PRNGKeyArray

from planahead.experiments.bench.robustness_pilots import baselines
from planahead.experiments.bench.robustness_simulators import known_simulator
from planahead.experiments.episodes import run_batch, run_episodes
from planahead.experiments.errors import UserError
from planahead.experiments.evaluation import Evaluation
from planahead.experiments.outside_episodes import run_batch_outside
from planahead.policies import Decision, Policy, Setting
from planahead.tasks import Race, RaceTask, Realistic, make_task
from planahead.tasks.environment import with_constants
from planahead.tasks.flight.rotorpy_vehicle import RotorPyVehicle

KEYS = jax.random.split(jax.random.key(0), 2)
needs_rotorpy = pytest.mark.skipif(
    importlib.util.find_spec("rotorpy") is None,
    reason="RotorPy is not installed: pip install rotorpy, or the extra `rotorpy`",
)


@final
class OurPlant:
    """`Realistic` behind the interface of what is not ours."""

    def __init__(self, vehicle: Realistic, time_step: float):
        self._vehicle, self._time_step = vehicle, time_step

    def fly(self, x: np.ndarray, command: np.ndarray, force: np.ndarray) -> np.ndarray:
        x, command, force = (part.astype(np.float32) for part in (x, command, force))
        arrays = jnp.asarray(x), jnp.asarray(command), jnp.asarray(force)
        return np.asarray(_fly(self._vehicle, self._time_step, *arrays), np.float64)


@eqx.filter_jit
def _fly(vehicle: Realistic, time_step: float, x: Array, command: Array, force: Array) -> Array:
    return vehicle.fly(x, command, force, time_step)


@final
class Climbing(Policy):
    """Climbs, ever steeper and more askew, so that it leaves the arena; it remembers the steps."""

    def initial_memory(self) -> Array:
        return jnp.zeros(())

    def settings(self) -> dict[str, Setting]:
        return {}

    def decide(self, observation: Array, memory: Any = None, key: PRNGKeyArray | None = None) -> Decision:
        del key
        rates = 0.2 * observation[:3] + jnp.array([0.0, 0.02, 0.0]) * memory
        return Decision(jnp.concatenate([24.0 + 0.4 * memory[None], rates]), jnp.zeros(()), memory=memory + 1)


def short_race(steps: int = 50, **constants: Any) -> RaceTask:
    race = Race.on("split-s", vehicle=Realistic(), episode_steps=steps)
    return RaceTask(with_constants(race, **constants))


def test_with_our_own_dynamics_outside_every_number_is_the_same():
    """Starts, gusts, randomised vehicles, lanes that end at different times, what is kept of each step."""
    task = short_race(gust_force=(0.0, 2.0, 0.0), mass_spread=0.2, start_spread=1.5)
    expected_start, expected = run_batch(task, Climbing(), KEYS)
    start, steps = run_batch_outside(OurPlant, task, Climbing(), KEYS)
    np.testing.assert_array_equal(start.x, expected_start.x)
    lengths = steps.alive.sum(axis=0)
    assert len(set(lengths.tolist())) > 1 and lengths.max() < 50, "lanes end apart, and before time runs out"
    np.testing.assert_array_equal(steps.alive, expected.alive)
    alive = np.asarray(steps.alive)

    def same(found: Any, wanted: Any) -> None:
        np.testing.assert_allclose(np.asarray(found)[alive], np.asarray(wanted)[alive], rtol=2e-3, atol=2e-3)

    jax.tree.map(same, steps, expected)


def test_lanes_that_fill_up_a_batch_are_flown_once():
    flown = []

    @final
    class Counting:
        def __init__(self, vehicle: Realistic, time_step: float):
            self._plant = OurPlant(vehicle, time_step)

        def fly(self, x: np.ndarray, command: np.ndarray, force: np.ndarray) -> np.ndarray:
            flown.append(x[0])
            return self._plant.fly(x, command, force)

    _, steps = run_batch_outside(Counting, short_race(), Climbing(), KEYS[jnp.array([1, 1])])
    assert len(flown) == steps.alive[:, 0].sum() > 10
    np.testing.assert_array_equal(steps.state.x[:, 0], steps.state.x[:, 1])


def test_what_cannot_be_flown_outside_is_refused():
    with pytest.raises(ValueError, match="'race-split-s' came without plant='realistic'"):
        run_batch_outside(OurPlant, RaceTask(), Climbing(), KEYS)
    with pytest.raises(ValueError, match="plants outside fly races, and 'hover' is none"):
        run_batch_outside(OurPlant, make_task("hover"), Climbing(), KEYS)


@needs_rotorpy
def test_rotorpy_flies_as_our_own_dynamics_do_at_first_and_then_in_its_own_way():
    task = short_race(gust_force=(0.0, 1.0, 0.0))
    _, expected = run_batch(task, Climbing(), KEYS)
    _, steps = run_batch_outside(RotorPyVehicle, task, Climbing(), KEYS)
    assert steps.alive[:30].all()
    apart = np.abs(steps.state.x - np.asarray(expected.state.x))[:, :, :3].max(axis=2)
    assert np.all(apart[0] < 1e-3) and np.all((apart[29] > 1e-3) & (apart[29] < 0.5))
    np.testing.assert_allclose(steps.reward[:30], expected.reward[:30], atol=0.05)


@pytest.mark.slow
@needs_rotorpy
def test_the_baseline_flies_laps_in_rotorpy_as_it_was_tuned_elsewhere():
    task = short_race(800)
    policy = baselines(["tracking"])[0].load()
    found = Evaluation.of(run_episodes(task, policy, jax.random.key(1), 2, run=known_simulator("rotorpy").run))
    assert found.success.all() and found.failed.sum() == 0
    assert np.all((found.outcomes["lap [s]"] > 5.2) & (found.outcomes["lap [s]"] < 5.8))


def test_simulators_have_names_and_say_what_is_missing(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match="--simulator got «gazebo»; the known ones are «planahead», «rotorpy»"):
        known_simulator("gazebo")
    known_simulator("planahead").require()
    nowhere = dataclasses.replace(known_simulator("rotorpy"), package="no_such_simulator")
    with pytest.raises(UserError, match="RotorPy is needed, and is not installed: pip install rotorpy"):
        nowhere.require()
