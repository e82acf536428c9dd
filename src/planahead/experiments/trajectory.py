"""One episode with everything kept: where the plant went, what was done, and what the planner saw ahead at every step."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from planahead.experiments.evaluation import with_spread
from planahead.policies import Policy
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
    planned_controls: np.ndarray | None
    """[T, N, nu]"""

    @property
    def steps(self) -> int:
        return len(self.rewards)

    @property
    def times(self) -> np.ndarray:
        """[T + 1], s"""
        return self.time_step * np.arange(self.steps + 1)

    @property
    def total_reward(self) -> float:
        return float(self.rewards.sum())

    def state(self, step: int) -> Any:
        """The environment's state at `step`."""
        return jax.tree.map(lambda leaf: leaf[step], self.states)


def record_episode(task: Task, policy: Policy, key: PRNGKeyArray, spread: float | None = None) -> Trajectory:
    """One deterministic episode of `policy` on `task` from a start perturbed by ±`spread`, the task's own where it is
    `None`.
    """
    start, rows = _run(task if spread is None else with_spread(task, spread), policy, key)
    rows = jax.tree.map(np.asarray, rows)
    ended = rows["terminated"] | rows["truncated"]
    steps = int(np.argmax(ended)) + 1 if ended.any() else len(ended)
    rows = jax.tree.map(lambda leaf: leaf[:steps], rows)
    states = jax.tree.map(lambda first, rest: np.concatenate([np.asarray(first)[None], rest]), start, rows["state"])
    observations = np.asarray(jax.vmap(task.environment.observe)(jax.tree.map(jnp.asarray, states)))
    plan = rows["plan"]
    return Trajectory(
        time_step=task.environment.time_step,
        states=states,
        observations=observations,
        actions=rows["action"],
        rewards=rows["reward"],
        success=bool(rows["success"][-1]),
        terminated=bool(rows["terminated"][-1]),
        failed=rows["failed"],
        parameters=rows["parameters"],
        planner_states=np.asarray(jax.vmap(task.planner_state)(jnp.asarray(observations))),
        planned_states=None if plan is None else plan[0],
        planned_controls=None if plan is None else plan[1],
    )


@eqx.filter_jit
def _run(task: Task, policy: Policy, key: PRNGKeyArray) -> tuple[Any, dict[str, Any]]:
    environment = task.environment
    start_key, key = jax.random.split(key)
    start = environment.reset(start_key)

    def step(carry, key):
        state, memory = carry
        decision = policy.decide(environment.observe(state), memory)
        transition = environment.step(state, decision.action, key)
        row = {
            "state": transition.state,
            "action": decision.action,
            "reward": transition.reward,
            "terminated": transition.terminated,
            "truncated": transition.truncated,
            "success": transition.info.success,
            "failed": jnp.asarray(decision.failed),
            "parameters": decision.parameters,
            "plan": None if decision.plan is None else (decision.plan.states, decision.plan.controls),
        }
        return (transition.state, decision.memory), row

    keys = jax.random.split(key, environment.episode_steps)
    _, rows = jax.lax.scan(step, (start, policy.initial_memory()), keys)
    return start, rows
