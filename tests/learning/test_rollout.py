"""Lanes are reset one by one, hand out the transition before the reset, and count their episodes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.learning.rollout import start_lanes, step_lanes
from tests.learning.probes import Probe, probe


def run(environment: Probe, actions, steps: int, failed=False):
    """Lanes with constant actions; transitions and tallies with a leading axis of steps."""
    number = len(actions)
    memory = jnp.zeros(2)
    lanes = start_lanes(environment, number, memory, jax.random.key(0))
    transitions, tallies = [], []
    for step in range(steps):
        lanes, moved, tally = step_lanes(
            environment,
            lanes,
            jnp.array(actions)[:, None],
            jnp.full(number, failed),
            lanes.memory + 1.0,
            memory,
            jax.random.key(step),
        )
        transitions.append(moved)
        tallies.append(tally)
    stack = lambda trees: jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)  # noqa: E731
    return lanes, stack(transitions), stack(tallies)


@pytest.mark.parametrize("end", ["terminated", "truncated"])
def test_reset_comes_after_the_last_observation(end):
    environment = probe(base=1.0, clock=1.0, length=3, truncates=float(end == "truncated"))
    lanes, moved, _ = run(environment, [0.0, 0.0], steps=4)
    np.testing.assert_allclose(moved.observation[:, 0, 0], [1 / 3, 2 / 3, 1.0, 1 / 3])
    assert getattr(moved, end)[:, 0].tolist() == [False, False, True, False]
    assert not getattr(moved, "terminated" if end == "truncated" else "truncated").any()
    np.testing.assert_array_equal(lanes.episode_length, [1, 1])


def test_memory_starts_anew_with_the_episode():
    environment = probe(base=1.0, length=3)
    for steps, memory in ((1, 1.0), (2, 2.0), (3, 0.0), (4, 1.0)):
        lanes, _, _ = run(environment, [0.0], steps)
        np.testing.assert_array_equal(lanes.memory, [[memory, memory]])


def test_what_is_counted():
    """Two lanes for five steps of three-step episodes; the second violates its constraint in every step."""
    environment = probe(base=1.0, of_action=4.0, length=3)
    _, _, tallies = run(environment, [0.5, 1.0], steps=5, failed=True)
    metrics = jax.tree.map(lambda leaf: leaf.sum(), tallies).metrics()
    assert {name: float(value) for name, value in metrics.items()} == {
        "episodes": 2.0,
        "return": pytest.approx((3 * 0.0 + 3 * -3.0) / 2),
        "episode_length": 3.0,
        "success_rate": 1.0,
        "violations_per_step": 0.5,
        "violations_per_episode": 0.5,
        "failed_solves": 1.0,
    }


def test_without_an_end_there_is_no_return():
    _, _, tallies = run(probe(length=3), [0.5], steps=2)
    metrics = jax.tree.map(lambda leaf: leaf.sum(), tallies).metrics()
    assert np.isnan(metrics["return"]) and metrics["violations_per_step"] == 0.0
