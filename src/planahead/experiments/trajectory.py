"""One episode, step by step: where the plant went, what was done, and what the planner saw ahead of it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from planahead.experiments.episodes import Episodes
from planahead.policies.acting import planned_actions
from planahead.tasks import Task


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
    planned_actions: np.ndarray | None
    """[T, N, action]"""
    flight: np.ndarray | None = None
    """[moments, 6], position [m] and velocity [m/s] of what flies, until the task first counts as solved."""

    @classmethod
    def of(cls, episodes: Episodes, episode: int = 0) -> "Trajectory":
        """One of the episodes, cut to its length."""
        task, length = episodes.task, int(episodes.steps.alive[:, episode].sum())
        steps = jax.tree.map(lambda leaf: leaf[:length, episode], episodes.steps)
        states = jax.tree.map(
            lambda first, rest: np.concatenate([first[episode][None], rest]), episodes.start, steps.state
        )
        observations = jax.vmap(task.environment.observe)(jax.tree.map(jnp.asarray, states))
        solved = np.flatnonzero(steps.success)
        moments = 2 + solved[0] if solved.size else length + 1
        flight = jax.vmap(task.environment.flight)(jax.tree.map(lambda leaf: jnp.asarray(leaf[:moments]), states))
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
            planned_actions=_actions(task, steps.planned_states, steps.planned_controls),
            flight=None if flight is None else np.asarray(flight),
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


def _actions(task: Task, states: np.ndarray | None, controls: np.ndarray | None) -> np.ndarray | None:
    """The actions that plans stand for, whatever their problems' parameters were; of a policy that plans with another
    problem than the task's, its controls."""
    if states is None or controls is None:
        return None
    sizes = states.shape[1:], controls.shape[1:]
    problem = task.problem
    own = (problem.horizon + 1, problem.state_size), (problem.horizon, problem.control_size)
    if sizes != own or problem.plans_actions:
        return controls
    return np.asarray(jax.vmap(lambda x, u: planned_actions(problem, x, u))(states, controls))
