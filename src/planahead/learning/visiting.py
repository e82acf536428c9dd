"""Steps through the world with a question at every one: who learns says what is done and what is stored."""

from collections.abc import Callable
from typing import Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from planahead.learning.replay import Replay
from planahead.learning.rollout import Lanes, Tally, step_lanes
from planahead.tasks import Environment

Row = TypeVar("Row")


class Asked(eqx.Module, Generic[Row]):
    """One question in every environment."""

    action: Float[Array, "n action"]
    """What is done."""
    rows: Row
    """What is stored."""
    failed: Bool[Array, " n"]
    """Whose solve failed."""


class Visited(eqx.Module, Generic[Row]):
    """After all steps."""

    lanes: Lanes
    replay: Replay[Row]
    tally: Tally


def visit(
    environment: Environment,
    lanes: Lanes,
    replay: Replay[Row],
    ask: Callable[[Lanes, PRNGKeyArray], Asked[Row]],
    steps: int,
    key: PRNGKeyArray,
) -> Visited[Row]:
    """Take `steps` steps in every environment, for a policy without a memory."""

    def step(carry: tuple[Lanes, Replay[Row]], key: PRNGKeyArray):
        lanes, replay = carry
        ask_key, step_key = jax.random.split(key)
        asked = ask(lanes, ask_key)
        lanes, _, tally = step_lanes(environment, lanes, asked.action, asked.failed, None, None, step_key)
        return (lanes, replay.insert(asked.rows)), tally

    (lanes, replay), tallies = jax.lax.scan(step, (lanes, replay), jax.random.split(key, steps))
    return Visited(lanes, replay, jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), tallies))
