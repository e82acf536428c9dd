r"""Learners of a planner that do not mind who acted: what was tried long ago is learned from again.

act           a = clip(u₀*(x(o), φ) + σ ξ),  ξ ~ N(0, 1), in unit coordinates of the action box
store         replay ← the `steps_per_update` steps since the last update, over the oldest ones
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from planahead.learning.planner_learner import PlannerLearner, Tried
from planahead.learning.replay import Replay


class ReplayingPlannerLearner(PlannerLearner):
    """A `PlannerLearner` with a replay, that explores by noise around what was planned. Rewards are maximised.

    **Raises:** what `PlannerLearner` does.
    """

    batch_size: eqx.AbstractVar[int]  # pyright: ignore[reportGeneralTypeIssues]  # no field
    """What an update draws from the replay."""
    replay_size: eqx.AbstractVar[int]  # pyright: ignore[reportGeneralTypeIssues]  # no field
    """Transitions kept."""

    def __check_init__(self):
        for name in ("batch_size", "replay_size"):
            self._check_range(name, getattr(self, name) >= 1, "at least 1 was expected")
        self._check_multiple("replay_size", "steps_per_update")

    def remember(self, example: Tried) -> Replay[Tried]:
        return Replay(example, self.replay_size, self.steps_per_update)

    def explore(self, planned: Float[Array, "n action"], key: PRNGKeyArray) -> Float[Array, "n action"]:
        noise = jax.random.normal(key, planned.shape, planned.dtype)
        return jnp.clip(planned + self.exploration * noise, -1.0, 1.0)
