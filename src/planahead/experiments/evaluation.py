"""How good a policy is: deterministic episodes from perturbed starts, side by side in one compiled program.

    success rate   k / n                      share of episodes that end in success, with its Wilson interval
    mean return    (1/n) Σ_i Σ_t r_{i,t}      undiscounted, to be maximised, with its bootstrap interval
    violations     per step:    (Σ_i v_i) / (Σ_i T_i)          v_i: steps of episode i that violate a constraint
                   per episode: (1/n) Σ_i 1[v_i > 0]           T_i: its length
    failed solves  (Σ_i f_i) / (Σ_i T_i)      decisions whose solve did not end in `SOLVED`

All lanes run for `episode_steps`; what a lane does after its end is not counted. Starts are drawn by the environment
within ±`spread` in every state (its leaf `start_spread`). From a single start, spread 0, a hundred episodes of a
deterministic world are one; `from_one_start` counts it once.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray

from planahead.experiments.errors import UserError
from planahead.experiments.statistics import Interval, mean_interval, wilson_interval
from planahead.policies import Policy
from planahead.tasks import Task

PERTURBATION = (
    0.1  # in every state's unit; wide enough that no two episodes are alike, and no harder than the start itself
)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A number of episodes of one policy; arrays have one entry per episode (numpy)."""

    start_spread: float
    returns: np.ndarray
    """Sum of rewards, to be maximised."""
    lengths: np.ndarray
    """Steps until the episode terminated or was truncated."""
    success: np.ndarray
    terminated: np.ndarray
    """Whether the task ended the episode before its time ran out."""
    violations: np.ndarray
    """Steps that violate a constraint."""
    failed: np.ndarray
    """Decisions whose solve failed."""
    status: np.ndarray | None = None
    """[episodes, steps], the planner's `Status` at every decision, -1 after the end; `None` without a planner."""
    iterations: np.ndarray | None = None
    """[episodes, steps], the planner's iterations, likewise."""

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

    def from_one_start(self) -> "Evaluation":
        """The first episode alone."""
        return dataclasses.replace(
            self,
            **{
                field.name: value[:1]
                for field in dataclasses.fields(self)
                if isinstance(value := getattr(self, field.name), np.ndarray)
            },
        )

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
            },
        }


class _Tally(eqx.Module):
    """What one episode adds up to."""

    total: Float[Array, ""]
    length: Int[Array, ""]
    success: Bool[Array, ""]
    terminated: Bool[Array, ""]
    violations: Int[Array, ""]
    failed: Int[Array, ""]


def evaluate(
    task: Task, policy: Policy, key: PRNGKeyArray, episodes: int = 100, spread: float | None = None
) -> Evaluation:
    """Run `episodes` deterministic episodes of `policy` on `task` from starts perturbed by ±`spread` in every state.

    Without a `spread` it is the task's own, and 0.1 where the task always starts from the same state.
    """
    spread = evaluation_spread(task) if spread is None else spread
    if episodes < 1 or not spread >= 0:
        raise ValueError(f"{episodes} episodes with a spread of {spread}; expected at least one, and at least 0")
    tally, status, iterations = _run_episodes(with_spread(task, spread), policy, jax.random.split(key, episodes))
    return Evaluation(
        start_spread=float(spread),
        returns=np.asarray(tally.total, dtype=np.float64),
        lengths=np.asarray(tally.length),
        success=np.asarray(tally.success),
        terminated=np.asarray(tally.terminated),
        violations=np.asarray(tally.violations),
        failed=np.asarray(tally.failed),
        status=None if status is None else np.asarray(status),
        iterations=None if iterations is None else np.asarray(iterations),
    )


def with_spread(task: Task, spread: float) -> Task:
    """The task with starts within ±`spread` of the environment's own, in every state."""
    leaf = _start_spread(task)
    return eqx.tree_at(lambda task: task.environment.start_spread, task, jnp.full_like(leaf, spread))


def evaluation_spread(task: Task) -> float:
    """The spread that evaluations use unless told: the task's own, and 0.1 where its own start is always the same."""
    return float(_start_spread(task)) or PERTURBATION


def has_single_start(task: Task) -> bool:
    """Whether the task by itself always starts from the same state."""
    return float(_start_spread(task)) == 0.0


def _start_spread(task: Task) -> Array:
    try:
        return getattr(task.environment, "start_spread")  # noqa: B009, not every environment promises it
    except AttributeError as error:
        raise UserError(
            f"{type(task.environment).__name__} has no leaf `start_spread`, the half width of a uniform draw added to every state at "
            "the start; evaluation perturbs starts with it. Add one to the environment (0.0 for no perturbation)."
        ) from error


@eqx.filter_jit
def _run_episodes(task: Task, policy: Policy, keys: Key[Array, " episodes"]) -> tuple[_Tally, Any, Any]:
    """Every episode's tally, and the planner's status and iterations [episodes, steps] where there is a planner."""
    environment = task.environment

    def step(carry, key):
        state, memory, alive, tally = carry
        decision = policy.decide(environment.observe(state), memory)
        transition = environment.step(state, decision.action, key)
        tally = _Tally(
            total=tally.total + jnp.where(alive, transition.reward, 0.0),
            length=tally.length + alive,
            success=jnp.where(alive, transition.info.success, tally.success),
            terminated=jnp.where(alive, transition.terminated, tally.terminated),
            violations=tally.violations + (alive & transition.info.violation),
            failed=tally.failed + (alive & decision.failed),
        )
        seen = None
        if decision.plan is not None:
            seen = jnp.where(alive, decision.plan.status, -1), jnp.where(alive, decision.plan.iterations, -1)
        # A lane that has ended stays where it was, so that it cannot run away into overflow.
        state = jax.tree.map(lambda new, old: jnp.where(alive, new, old), transition.state, state)
        alive = alive & ~(transition.terminated | transition.truncated)
        return (state, decision.memory, alive, tally), seen

    def episode(key):
        start_key, key = jax.random.split(key)
        state = environment.reset(start_key)
        observation = environment.observe(state)
        zero, no = jnp.zeros((), int), jnp.array(False)
        tally = _Tally(jnp.zeros((), observation.dtype), zero, no, no, zero, zero)
        carry = state, policy.initial_memory(), jnp.array(True), tally
        (_, _, _, tally), seen = jax.lax.scan(step, carry, jax.random.split(key, environment.episode_steps))
        return tally, seen

    tally, seen = jax.vmap(episode)(keys)
    status, iterations = (None, None) if seen is None else seen
    return tally, status, iterations
