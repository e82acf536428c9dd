"""How good a policy is: statistics of deterministic episodes.

    success rate   k / n                      share of episodes that end in success, with its Wilson interval
    mean return    (1/n) Σ_i Σ_t r_{i,t}      undiscounted, to be maximised, with its bootstrap interval
    violations     per step:    (Σ_i v_i) / (Σ_i T_i)          v_i: steps of episode i that violate a constraint
                   per episode: (1/n) Σ_i 1[v_i > 0]           T_i: its length
    failed solves  (Σ_i f_i) / (Σ_i T_i)      f_i: decisions of episode i whose solve failed, see `plan_failed`

From a single start, spread 0, a hundred episodes of a deterministic world are one and are to be counted as one.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from planahead.experiments.episodes import Episodes, run_episodes
from planahead.experiments.statistics import Interval, mean_interval, wilson_interval
from planahead.policies import Policy
from planahead.tasks import Task

GOAL = 0.95
"""Success rate from which a policy counts as having learned its task: of 25 validation episodes one may fail."""


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A number of episodes of one policy; arrays have one entry per episode (numpy)."""

    start_spread: float
    returns: np.ndarray
    """Sum of rewards, to be maximised."""
    lengths: np.ndarray
    """Steps until the episode terminated or was truncated."""
    success: np.ndarray
    """Whether the episode's last state counts as success."""
    terminated: np.ndarray
    """Whether the task ended the episode before its time ran out."""
    violations: np.ndarray
    """Steps that violate a constraint."""
    failed: np.ndarray
    """Decisions whose solve failed, see `plan_failed`."""
    status: np.ndarray | None = None
    """The planner's `Status` at every decision of all episodes, in no order; `None` without a planner."""
    iterations: np.ndarray | None = None
    """The planner's iterations, likewise."""
    outcomes: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    """What else the task's episodes came to, one entry per episode under a name with its unit, see
    `Environment.outcome`; NaN where one did not come to it."""

    @classmethod
    def of(cls, episodes: Episodes) -> "Evaluation":
        steps = episodes.steps
        alive, success, terminated = (np.asarray(x) for x in (steps.alive, steps.success, steps.terminated))
        lengths = alive.sum(axis=0)
        last = lengths - 1, np.arange(len(lengths))
        ends = jax.tree.map(lambda leaf: leaf[last], steps.state)
        outcomes = jax.vmap(episodes.task.environment.outcome)(ends)
        return cls(
            start_spread=episodes.start_spread,
            returns=np.where(alive, steps.reward, 0.0).sum(axis=0, dtype=np.float64),
            lengths=lengths,
            success=success[last],
            terminated=terminated[last],
            violations=(alive & np.asarray(steps.violation)).sum(axis=0),
            failed=(alive & np.asarray(steps.failed)).sum(axis=0),
            status=None if steps.status is None else np.asarray(steps.status)[alive],
            iterations=None if steps.iterations is None else np.asarray(steps.iterations)[alive],
            outcomes={name: np.asarray(values, np.float64) for name, values in outcomes.items()},
        )

    @property
    def episodes(self) -> int:
        return len(self.returns)

    @property
    def success_rate(self) -> float:
        return float(self.success.mean())

    @property
    def success_interval(self) -> Interval:
        return wilson_interval(int(self.success.sum()), self.episodes)

    @property
    def mean_return(self) -> float:
        return float(self.returns.mean())

    @property
    def return_interval(self) -> Interval:
        return mean_interval(self.returns)

    @property
    def violations_per_step(self) -> float:
        return float(self.violations.sum() / self.lengths.sum())

    @property
    def violations_per_episode(self) -> float:
        """Share of episodes with at least one violation."""
        return float((self.violations > 0).mean())

    @property
    def failed_solves(self) -> float:
        return float(self.failed.sum() / self.lengths.sum())

    def outcomes_of_successes(self) -> dict[str, np.ndarray]:
        """`outcomes` of the episodes that succeeded, without those that are NaN."""
        kept = {name: values[self.success] for name, values in self.outcomes.items()}
        return {name: values[np.isfinite(values)] for name, values in kept.items()}

    def summary(self) -> dict[str, Any]:
        """The evaluation as JSON's types, with every episode's own numbers at the end."""
        return {
            "episodes": self.episodes,
            "start_spread": self.start_spread,
            "success_rate": self.success_rate,
            "success_rate_interval": dataclasses.astuple(self.success_interval),
            "mean_return": self.mean_return,
            "mean_return_interval": dataclasses.astuple(self.return_interval),
            "violations_per_step": self.violations_per_step,
            "violations_per_episode": self.violations_per_episode,
            "failed_solves": self.failed_solves,
            "mean_length": float(self.lengths.mean()),
            "terminated": float(self.terminated.mean()),
            "per_episode": {
                "return": self.returns.tolist(),
                "length": self.lengths.tolist(),
                "success": self.success.tolist(),
                "violations": self.violations.tolist(),
                "failed_solves": self.failed.tolist(),
                **{name: [None if np.isnan(x) else x for x in v.tolist()] for name, v in self.outcomes.items()},
            },
        }


def evaluate(
    task: Task, policy: Policy, key: PRNGKeyArray, episodes: int = 100, spread: float | None = None
) -> Evaluation:
    """Statistics of `run_episodes`.

    >>> import jax
    >>> from planahead.policies import ActionBox, DirectPolicy
    >>> from planahead.tasks import make_task
    >>> task = make_task("mass-spring-damper")
    >>> network = DirectPolicy(task.environment.observation_scale, ActionBox((-0.5,), (0.5,)), key=jax.random.key(0))
    >>> result = evaluate(task, network, jax.random.key(1), episodes=20)
    >>> result.episodes, result.success_rate
    (20, 0.0)
    """
    return Evaluation.of(run_episodes(task, policy, key, episodes, spread))
