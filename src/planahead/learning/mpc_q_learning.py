r"""Q-learning with a planner as the value function: V, Q and the policy are one problem, and φ its parameters.

    V_φ(s) = min plan from s,    Q_φ(s, a) = the same with u₀ = a,    π_φ(s) = argmin_a Q_φ(s, a),    V_φ = min_a Q_φ

    δ = ℓ + γ (1 - terminated) V_φ(s') - Q_φ(s, a)
    g = -E[δ ∇Q]                 ∇Q by the envelope theorem: no factorisation
    H = 1                                          hessian = "none":          first order
        E[∇Q ∇Qᵀ] + β·tr/n·1                       hessian = "gauss-newton"
        |E[∇Q ∇Qᵀ - δ ∇²Q]| + β·tr/n·1             hessian = "full", eigenvalues mirrored

The target's V moves with φ and is not differentiated. Whatever the model, some stage cost makes the planner's V, Q and
policy those of the world (Gros and Zanon 2020, theorem 1), so a problem that can be taught has parameters in its cost
and its constraints beside those of its model, an offset of the value, and the same prices of violations as the world.
Experience is replayed: Q-learning does not mind who acted. Rows whose solve failed are left out and counted.

Reference: S. Gros, M. Zanon, "Data-driven economic NMPC using reinforcement learning", IEEE Transactions on Automatic
Control 65 (2020), sect. V; second order after M. Zanon, V. Kungurtsev, S. Gros, "Reinforcement learning based on
real-time iteration NMPC", IFAC World Congress 2020.
"""

import dataclasses
from typing import Any, Literal, NamedTuple, final, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from planahead.learning.planner_learner import Direction, PlannerLearnerState, Tried
from planahead.learning.replay import Replay
from planahead.learning.replaying_planner import ReplayingPlannerLearner
from planahead.planning import action_value, value
from planahead.policies.tuned import TunedPlanner

Hessian = Literal["none", "gauss-newton", "full"]


class TemporalDifference(NamedTuple):
    """One row, or with a leading axis several."""

    error: Float[Array, "*b"]
    """δ, 0 where unusable."""
    gradient: Float[Array, "*b n"]
    """∇Q by the unit parameters, 0 where unusable."""
    next_gradient: Float[Array, "*b n"]
    """γ (1 - terminated) ∇V(s'), 0 where unusable."""
    usable: Bool[Array, "*b"]
    """Whether both solves succeeded."""


def temporal_difference(policy: TunedPlanner, row: Tried, gamma: Float[Array, ""] | float) -> TemporalDifference:
    """δ and what it is made of, for one row: two solves."""
    planner, state = policy.steering.planner, policy.steering.planner_state

    def after(unit: Float[Array, " n"]) -> Float[Array, ""]:
        return value(policy.problem(unit), state(row.next_observation), planner=planner)

    now, gradient = jax.value_and_grad(lambda unit: q_value(policy, unit, row))(policy.unit)
    later, next_gradient = jax.value_and_grad(after)(policy.unit)
    weight = gamma * (1.0 - row.terminated)
    error = row.cost + weight * jnp.where(row.terminated, 0.0, later) - now
    usable = jnp.isfinite(error)
    parts = error, gradient, weight * next_gradient
    return TemporalDifference(*(jnp.where(usable, part, 0.0) for part in parts), usable=usable)


def q_value(policy: TunedPlanner, unit: Float[Array, " n"], row: Tried) -> Float[Array, ""]:
    """Q at the row's state and action, with the parameters `unit`."""
    steering = policy.steering
    action = steering.box.from_unit(row.action)
    state = steering.planner_state(row.observation)
    return action_value(policy.problem(unit), state, action, planner=steering.planner)


@final
class MPCQLearning(ReplayingPlannerLearner):
    """Q-learning on a planner's own parameters. Rewards are maximised.

    **Raises:** `ValueError` for numbers that do not fit together, with the nearest ones that do; `init` raises it for a
    policy that this learner cannot train, and for a problem without a discount where none is given.

    >>> import jax, planahead as pa
    >>> task = pa.make_task("linear")
    >>> policy, learner = pa.make_algorithm("mpc-q", task, jax.random.key(0), hessian="none")
    >>> type(policy).__name__, policy.unit.shape, learner.hessian
    ('TunedPlanner', (16,), 'none')
    """

    hessian: Hessian = eqx.field(default="gauss-newton", static=True)
    """H"""
    regularisation: float = eqx.field(default=1e-3, static=True)
    """β"""
    learning_rate: float = eqx.field(default=0.1, static=True)
    exploration: float = eqx.field(default=0.1, static=True)
    """Standard deviation of what is added to the action, which is then clipped."""
    batch_size: int = eqx.field(default=256, static=True)
    """Rows of an update."""
    replay_size: int = eqx.field(default=4_000, static=True)
    """Transitions kept. What a poor policy did counts for little later: with 20,000 the linear system's violations of
    the first steps drown what comes after, until they are forgotten."""
    steps_per_update: int = eqx.field(default=80, static=True)
    steps_per_chunk: int = eqx.field(default=2_000, static=True)

    def __check_init__(self):
        self._check_word("hessian", get_args(Hessian))
        self._check_range("regularisation", self.regularisation > 0, "a positive number was expected")

    def improve(
        self, state: PlannerLearnerState, tried: Tried, key: PRNGKeyArray
    ) -> tuple[PlannerLearnerState, Direction]:
        replay: Replay[Tried] = state.memory.insert(tried)
        batch = replay.sample(key, self.batch_size)
        return dataclasses.replace(state, memory=replay), self.direction(state, batch)

    def direction(self, state: PlannerLearnerState, batch: Tried) -> Direction:
        """g and H of the rows of `batch`."""
        policy = state.policy
        return q_direction(policy, batch, self.gamma(policy.problem()), self.hessian, self.regularisation)


def q_direction(
    policy: TunedPlanner, batch: Tried, gamma: Float[Array, ""] | float, hessian: Hessian, regularisation: float
) -> Direction:
    """g and H of the rows of `batch`, as at the top of this file; `regularisation` is β."""
    found = jax.vmap(lambda row: temporal_difference(policy, row, gamma))(batch)
    count = jnp.maximum(jnp.sum(found.usable), 1)
    gradient = -(found.error @ found.gradient) / count
    metrics = {
        "td_error": jnp.sqrt(jnp.sum(found.error**2) / count),
        "failed_updates": jnp.mean(~found.usable, dtype=found.error.dtype),
    }
    if hessian == "none":
        return Direction(gradient, None, metrics)
    curvature = found.gradient.T @ found.gradient / count
    if hessian == "full":
        curvature = mirrored(curvature - _second_order(policy, batch, found) / count)
    return Direction(gradient, regularised(curvature, regularisation), metrics)


def regularised(curvature: Float[Array, "n n"], share: float) -> Float[Array, "n n"]:
    """With `share` of the mean eigenvalue added to each."""
    size = curvature.shape[0]
    return curvature + share * jnp.trace(curvature) / size * jnp.eye(size, dtype=curvature.dtype)


def _second_order(policy: TunedPlanner, batch: Tried, found: TemporalDifference) -> Float[Array, "n n"]:
    """Σ δ ∇²Q: as many back-solves a row as there are parameters."""

    def slope(unit: Float[Array, " n"]) -> Float[Array, " n"]:
        def weighed(unit: Float[Array, " n"]) -> Float[Array, ""]:
            values: Any = jax.vmap(lambda row: q_value(policy, unit, row))(batch)
            return jnp.sum(jnp.where(found.usable, found.error * values, 0.0))

        return jax.grad(weighed)(unit)

    second = jax.jacrev(slope)(policy.unit)
    return 0.5 * (second + second.T)


def mirrored(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """A symmetric matrix with the magnitudes of its eigenvalues."""
    values, vectors = jnp.linalg.eigh(matrix)
    return (vectors * jnp.abs(values)[None]) @ vectors.T
