"""A racing policy from a Python call to its action, with a planner of growing horizon in it and without: what an
on-board computer waits for. Untrained networks of the usual size."""

import jax
import jax.numpy as jnp
import numpy as np

from planahead.experiments.benchmarks.timing import Row, measure
from planahead.learning import make_algorithm
from planahead.tasks import RaceTask

HORIZONS = (2, 5, 10, 20, 50)
STATES = 20
"""Observations that are decided on, from starts all over the track."""


def run(repeats: int) -> list[Row]:
    """A row without a planner, and one for every horizon."""
    return [_row("ac-mlp", 2, repeats), *(_row("ac-mpc", horizon, repeats) for horizon in HORIZONS)]


def _row(algorithm: str, horizon: int, repeats: int) -> Row:
    task = RaceTask(horizon=horizon, starts="anywhere")
    policy = make_algorithm(algorithm, task, jax.random.key(0)).policy

    @jax.jit
    def decide(observation: jax.Array) -> tuple[jax.Array, jax.Array]:
        decision = policy.decide(observation)
        return decision.action, jnp.asarray(decision.failed)

    race = task.environment
    keys = jax.random.split(jax.random.key(1), STATES)
    observations = [np.asarray(race.observe(race.reset(key))) for key in keys]
    times: list[float] = []
    failed = 0
    for observation in observations:
        times += measure(lambda seen=observation: np.asarray(decide(seen)[0]), repeats).milliseconds
        failed += int(decide(observation)[1])
    what = "one decision" if algorithm == "ac-mlp" else f"one decision, horizon {horizon}"
    return Row("race-split-s", algorithm, what, 1, float(np.median(times)), float(np.percentile(times, 99)), failed)
