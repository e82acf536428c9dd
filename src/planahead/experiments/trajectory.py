"""One episode, step by step: where the plant went, what was done, and what the planner saw ahead of it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from planahead.experiments.episodes import Episodes


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """T steps of a closed loop (numpy); what belongs to the planner is `None` where there is none."""

    time_step: float  # s
    states: Any
    """The environment's states, every leaf with a leading axis T + 1."""
    observations: np.ndarray
    """[T + 1, observation]"""
    actions: np.ndarray
    """[T, action]"""
    rewards: np.ndarray
    """[T], to be maximised."""
    success: bool
    terminated: bool
    failed: np.ndarray
    """[T], whether the solve behind the action failed."""
    parameters: np.ndarray | None
    """[T, parameters], φ in physical units."""
    planner_states: np.ndarray
    """[T + 1, nx], the observation as the planner reads it."""
    planned_states: np.ndarray | None
    """[T, N + 1, nx]"""
    planned_controls: np.ndarray | None
    """[T, N, nu]"""

    @classmethod
    def of(cls, episodes: Episodes, episode: int = 0) -> "Trajectory":
        """One of the episodes, cut to its length."""
        task, length = episodes.task, int(episodes.steps.alive[:, episode].sum())
        steps = jax.tree.map(lambda leaf: leaf[:length, episode], episodes.steps)
        states = jax.tree.map(
            lambda first, rest: np.concatenate([first[episode][None], rest]), episodes.start, steps.state
        )
        observations = jax.vmap(task.environment.observe)(jax.tree.map(jnp.asarray, states))
        return cls(
            time_step=task.environment.time_step,
            states=states,
            observations=np.asarray(observations),
            actions=steps.action,
            rewards=steps.reward,
            success=bool(steps.success[-1]),
            terminated=bool(steps.terminated[-1]),
            failed=steps.failed,
            parameters=steps.parameters,
            planner_states=np.asarray(jax.vmap(task.planner_state)(observations)),
            planned_states=steps.planned_states,
            planned_controls=steps.planned_controls,
        )

    @property
    def steps(self) -> int:
        return len(self.rewards)

    @property
    def times(self) -> np.ndarray:
        """[T + 1], s"""
        return self.time_step * np.arange(self.steps + 1)

    @property
    def total_reward(self) -> float:
        return float(self.rewards.sum(dtype=np.float64))

    def state(self, step: int) -> Any:
        """The environment's state at `step`."""
        return jax.tree.map(lambda leaf: leaf[step], self.states)
