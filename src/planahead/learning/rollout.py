"""Several copies of an environment side by side, reset one by one as their episodes end, and what their episodes add
up to.

A copy is reset when its step terminated *or* was truncated; the transition that is handed out is the one before the
reset, so that a learner can bootstrap from the last observation of an episode that only ran out of time."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree

from planahead.learning.interventions import Interventions, interventions
from planahead.tasks import Environment, Transition


class Lanes(eqx.Module):
    """`n` environments in the middle of their episodes; every leaf has a leading axis `n`."""

    state: PyTree
    """Of the environments."""
    observation: Float[Array, "n observation"]
    memory: PyTree
    """Of the policy."""
    episode_return: Float[Array, " n"]
    """Sum of rewards since the last reset, to be maximised."""
    episode_length: Int[Array, " n"]
    episode_violated: Bool[Array, " n"]
    """Whether any step since the last reset violated a constraint."""


class Tally(eqx.Module):
    """Sums over steps and over the episodes that ended in them; tallies add up leaf by leaf."""

    steps: Float[Array, ""]
    violated_steps: Float[Array, ""]
    failed_solves: Float[Array, ""]
    episodes: Float[Array, ""]
    returns: Float[Array, ""]
    lengths: Float[Array, ""]
    successes: Float[Array, ""]
    """Episodes whose last state counts as success."""
    violated_episodes: Float[Array, ""]
    filter: Interventions | None = None
    """`None` without a safety filter."""

    def metrics(self) -> dict[str, Array]:
        """How many episodes ended, and means per episode and per step; those per episode are NaN where none ended."""
        found = {
            "episodes": self.episodes,
            "return": self.returns / self.episodes,
            "episode_length": self.lengths / self.episodes,
            "success_rate": self.successes / self.episodes,
            "violations_per_step": self.violated_steps / self.steps,
            "violations_per_episode": self.violated_episodes / self.episodes,
            "failed_solves": self.failed_solves / self.steps,
        }
        if self.filter is not None:
            found |= {f"filter_{name}": count / self.steps for name, count in vars(self.filter).items()}
        return found


def start_lanes(environment: Environment[Any], number: int, memory: PyTree, key: PRNGKeyArray) -> Lanes:
    """`number` environments at their first states; `memory` is the policy's initial one."""
    state = jax.vmap(environment.reset)(jax.random.split(key, number))
    observation = jax.vmap(environment.observe)(state)
    return Lanes(
        state=state,
        observation=observation,
        memory=jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (number, *jnp.shape(leaf))), memory),
        episode_return=jnp.zeros(number, observation.dtype),
        episode_length=jnp.zeros(number, jnp.int32),
        episode_violated=jnp.zeros(number, bool),
    )


class Stepped(NamedTuple):
    """What one action per lane led to."""

    lanes: Lanes
    """To go on with: those whose episode ended begin a new one."""
    transition: Transition[Any]
    """Before any reset."""
    tally: Tally


def step_lanes(
    environment: Environment[Any],
    lanes: Lanes,
    action: Float[Array, "n action"],
    failed: Bool[Array, " n"],
    memory: PyTree,
    initial_memory: PyTree,
    key: PRNGKeyArray,
    filtered: Any = None,
) -> Stepped:
    """Apply one action per lane.

    `failed` says which actions come from failed solves, `memory` is the policy's after deciding (leading axis `n`),
    `initial_memory` is what a new episode starts with, and `filtered` is that of the decisions.
    """
    number = action.shape[0]
    step_key, reset_key = jax.random.split(key)
    moved = jax.vmap(environment.step)(lanes.state, action, jax.random.split(step_key, number))
    ended = moved.terminated | moved.truncated
    fresh = start_lanes(environment, number, initial_memory, reset_key)
    going_on = Lanes(
        state=moved.state,
        observation=moved.observation,
        memory=memory,
        episode_return=lanes.episode_return + moved.reward,
        episode_length=lanes.episode_length + 1,
        episode_violated=lanes.episode_violated | moved.info.violation,
    )
    tally = Tally(
        steps=jnp.asarray(number, moved.reward.dtype),
        violated_steps=_sum(moved.info.violation),
        failed_solves=_sum(failed),
        episodes=_sum(ended),
        returns=_sum(jnp.where(ended, going_on.episode_return, 0.0)),
        lengths=_sum(jnp.where(ended, going_on.episode_length, 0)),
        successes=_sum(ended & moved.info.success),
        violated_episodes=_sum(ended & going_on.episode_violated),
        filter=None if filtered is None else interventions(environment, filtered),
    )
    lanes = jax.tree.map(lambda new, old: _where(ended, new, old), fresh, going_on)
    return Stepped(lanes, moved, tally)


def _where(lane: Bool[Array, " n"], new: Array, old: Array) -> Array:
    return jnp.where(jnp.reshape(lane, (-1, *[1] * (new.ndim - 1))), new, old)


def _sum(values: Array) -> Float[Array, ""]:
    return jnp.sum(values, dtype=jnp.result_type(float))
