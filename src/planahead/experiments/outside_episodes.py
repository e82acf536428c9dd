"""Deterministic episodes of a race in which something outside JAX flies: a simulator by other people, lane by lane.

    d_t = decide(observe(s_t), m_t)              JAX, all lanes at once
    x_{t+1} = fly(x_t, command, force)           Python, a plant for every lane that is alive
    s_{t+1} = flown(s_t, command, x_{t+1})       JAX: gates, crashes, laps, reward

Observation, commands at 50 Hz, wind, gates and outcome are those of `Race`; starts and keys those of `run_batch`.
"""

from collections.abc import Callable
from typing import Any, Protocol

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from planahead.experiments.episodes import Step, first_memories, first_states, seen_step
from planahead.policies import Decision, Policy
from planahead.tasks import Race, RaceState, RaceTask, Realistic, Task


class Plant(Protocol):
    """What flies: as `RotorPyVehicle`."""

    def fly(
        self, x: Float[np.ndarray, " 21"], command: Float[np.ndarray, " 4"], force: Float[np.ndarray, " 3"]
    ) -> Float[np.ndarray, " 21"]:
        """The state of `Realistic` a step later, under a command and a force [N] of the wind."""
        ...


MakePlant = Callable[[Realistic, float], Plant]
"""From what a lane's vehicle is like, and the time [s] that a step takes."""


def run_batch_outside(
    make_plant: MakePlant, task: Task, policy: Policy, keys: Key[Array, " lanes"]
) -> tuple[RaceState, Step]:
    """The states at the start [lanes], and every step [T, lanes], as `run_batch` gives them.

    **Raises:** `ValueError` for a task that is no race of the realistic quadrotor, whose states plants share.
    """
    if not isinstance(task, RaceTask):
        raise ValueError(f"plants outside fly races, and '{task.name}' is none.")
    race, lanes = task.environment, keys.shape[0]
    start, memory = first_states(race, keys), first_memories(policy, lanes)
    plants = [make_plant(_realistic(task, draw), race.time_step) for draw in start.draw]
    state, alive, steps = start, np.ones(lanes, bool), []
    bodies = np.array(start.x, np.float64)
    _, first, like = np.unique(jax.random.key_data(keys), axis=0, return_index=True, return_inverse=True)
    twin = first[like.reshape(-1)]  # lanes that fill up a batch repeat its last one
    while alive.any() and len(steps) < race.episode_steps:
        decision, commands, forces = _decide(task, policy, state, memory)
        told, pushed = np.asarray(commands, np.float64), np.asarray(forces, np.float64)
        for lane in np.flatnonzero(alive & (twin == np.arange(lanes))):
            bodies[lane] = plants[lane].fly(bodies[lane], told[lane], pushed[lane])
        bodies = bodies[twin]
        state, going_on, seen = _judge(race, state, jnp.asarray(alive), decision, commands, jnp.asarray(bodies))
        memory, alive = decision.memory, np.asarray(going_on)
        steps.append(jax.tree.map(np.asarray, seen))
    missing = race.episode_steps - len(steps)
    return start, jax.tree.map(lambda *rows: _padded(np.stack(rows), missing), *steps)


def _realistic(task: RaceTask, draw: Float[Array, " draws"]) -> Realistic:
    vehicle = task.environment.vehicle.randomised(draw, task.environment.randomisation)
    if not isinstance(vehicle, Realistic):
        raise ValueError(
            f"plants outside have the states of the realistic quadrotor; '{task.name}' came without plant='realistic'."
        )
    return vehicle


def _padded(rows: np.ndarray, missing: int) -> np.ndarray:
    return np.concatenate([rows, np.zeros((missing, *rows.shape[1:]), rows.dtype)])


@eqx.filter_jit
def _decide(task: RaceTask, policy: Policy, state: RaceState, memory: Any) -> tuple[Decision, Array, Array]:
    """Decisions, commands, forces of the wind."""

    def lane(state: RaceState, memory: Any) -> tuple[Decision, Array, Array]:
        decision = policy.decide(task.environment.observe(state), memory)
        return decision, task.environment.command(decision.action), task.environment.force(state)

    return jax.vmap(lane)(state, memory)


@eqx.filter_jit
def _judge(
    race: Race, state: RaceState, alive: Array, decision: Decision, command: Array, x: Array
) -> tuple[RaceState, Array, Step]:
    """Where the lanes are then, whether they go on, and what is to be kept of the step."""

    def lane(
        state: RaceState, alive: Array, decision: Decision, command: Array, x: Array
    ) -> tuple[RaceState, Array, Step]:
        moved = race.flown(state, command, x)
        state = jax.tree.map(lambda new, old: jnp.where(alive, new, old), moved.state, state)
        return state, alive & ~(moved.terminated | moved.truncated), seen_step(alive, state, decision, moved)

    return jax.vmap(lane)(state, alive, decision, command, x)
