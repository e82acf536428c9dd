"""A policy from a Python call to its action: racing ones with a planner of growing horizon in them and without, what an
on-board computer waits for; and networks beside the planners that they imitate, one decision and a batch of them, since
of a single one's time most is the call. Untrained networks of the usual size.
"""

import jax
import jax.numpy as jnp
import numpy as np

from planahead.experiments.benchmarks.timing import Row, measure
from planahead.experiments.episodes import run_episodes
from planahead.learning import Expert, make_algorithm
from planahead.policies import Policy
from planahead.tasks import RaceTask, make_task

HORIZONS = (2, 5, 10, 20, 50)
IMITATED = ("cartpole", "windmaze-hard")
BATCH = 128
STATES = 20
"""Observations that are decided on: starts, of races all over the track, of imitated planners along their episodes."""


def run(repeats: int) -> list[Row]:
    """Races without a planner and with every horizon; then networks beside their planners, task by task."""
    rows = [_racing("ac-mlp", 2, repeats), *(_racing("ac-mpc", horizon, repeats) for horizon in HORIZONS)]
    return rows + [row for name in IMITATED for row in imitated(name, repeats)]


def _racing(algorithm: str, horizon: int, repeats: int) -> Row:
    task = RaceTask(horizon=horizon, starts="anywhere")
    policy = make_algorithm(algorithm, task, jax.random.key(0)).policy
    race = task.environment
    observations = [np.asarray(race.observe(race.reset(key))) for key in jax.random.split(jax.random.key(1), STATES)]
    what = "one decision" if algorithm == "ac-mlp" else f"one decision, horizon {horizon}"
    return _row("race-split-s", algorithm, what, policy, observations, repeats)


def imitated(name: str, repeats: int) -> list[Row]:
    """Decided on where the planner gets to."""
    task = make_task(name)
    expert, network = Expert(task), make_algorithm("dagger", task, jax.random.key(0)).policy
    steps = run_episodes(task, expert, jax.random.key(1), 1).steps
    states = jax.tree.map(lambda leaf: leaf[steps.alive[:, 0], 0], steps.state)
    seen = np.asarray(jax.vmap(task.environment.observe)(states))
    one, many = (seen[np.linspace(0, len(seen) - 1, count).astype(int)] for count in (STATES, BATCH))
    who: tuple[tuple[str, Policy], ...] = (("network", network), ("expert", expert))
    return [_row(name, kind, "one decision", policy, list(one), repeats) for kind, policy in who] + [
        _row(name, kind, f"{BATCH} decisions", policy, [many], repeats) for kind, policy in who
    ]


def _row(case: str, kind: str, what: str, policy: Policy, observations: list[np.ndarray], repeats: int) -> Row:
    """Each of the `observations` is one, or a batch of them."""
    one = observations[0].ndim == 1

    def decided(observation: jax.Array) -> tuple[jax.Array, jax.Array]:
        decision = policy.decide(observation)
        return decision.action, jnp.asarray(decision.failed)

    decide = jax.jit(decided if one else jax.vmap(decided))
    times: list[float] = []
    failed = 0
    for observation in observations:
        times += measure(lambda seen=observation: np.asarray(decide(seen)[0]), repeats).milliseconds
        failed += int(np.sum(decide(observation)[1]))
    problems = 1 if one else len(observations[0])
    return Row(case, kind, what, problems, float(np.median(times)), float(np.percentile(times, 99)), failed)
