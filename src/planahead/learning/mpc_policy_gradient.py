r"""The deterministic policy gradient on a planner's own parameters, with a critic that fits it.

    ∇J = E[ ∇π(s) ∇_a A(s, π(s)) ],     ∇π [n, nu] of the planned action by the unit parameters y

    advantage = "compatible"   A_w(s, a) = (a - π(s))ᵀ ∇π(s)ᵀ w            Ψ = ∇π (a - π),  ∇J = E[∇π ∇πᵀ] w
    advantage = "local"        Q_w(s, a) = Q_φ(s, a) + ∇_y Q_φ(s, a)ᵀ w    ∇J = E[∇π (∇²_{ya} Q_φ)ᵀ] w = -M w

    natural = False    y ← y - α ∇J
    natural = True     y ← y - α w (compatible),   y ← y + α w (local)

Compatible: first V_v = vᵀ(1, o, o oᵀ) by LSTD, then w from E[Ψ̃ (δ_v - Ψᵀw)] = 0 with δ_v = ℓ + γ V_v(s') - V_v(s). The
planned action is explored by e = d ξ, ξ uniform in [-1, 1], with d the smaller of σ and the way to the nearer bound:
exploration that is clipped instead would have a mean, and a bias where bounds are active (Gros and Zanon 2021). What
that does to the weight of a state is undone by the instrument Ψ̃ = ∇π e / d². Where the action is at a bound nothing is
explored, and nothing could be learned: ∇π is zero there.

Local: w from LSTD with the features ∇_yQ(s, a) and ∇_yV(s'), one planner for actor and critic; at the best φ, w = 0. At
an interior π, ∇π = -∇²_{ya}Q (∇²_{aa}Q)⁻¹, so M = E[∇²_{ya}Q (∇²_{aa}Q)⁻¹ ∇²_{ay}Q] is positive semidefinite. ∇π is
taken from the plan, which knows active bounds. The second derivative is that of the multiplier of the pinned control.

Costs are minimised. Each update sees the steps since the last one alone, which the policy itself made. Rows whose solve
failed are left out and counted.

References: S. Gros, M. Zanon, "Data-driven economic NMPC using reinforcement learning", IEEE Transactions on Automatic
Control 65 (2020); the same, "Bias correction in reinforcement learning via the deterministic policy gradient method for
MPC-based policies", ACC 2021; A. Anand et al., "A painless deterministic policy gradient method for learning-based
MPC", ECC 2023; D. Silver et al., "Deterministic policy gradient algorithms", ICML 2014.
"""

from typing import Any, Literal, NamedTuple, final, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from planahead.learning.lstd import lstd, monomials
from planahead.learning.mpc_q_learning import q_value, temporal_difference
from planahead.learning.planner_learner import Direction, PlannerLearner, PlannerLearnerState, Tried
from planahead.policies.tuned import TunedPlanner

Advantage = Literal["compatible", "local"]
LEAST_WAY = 0.1
"""Of σ: a control nearer to its bound than that is taken as being there."""


class PolicyGradient(NamedTuple):
    """∇J and the weights of the critic behind it, in unit coordinates."""

    gradient: Float[Array, " n"]
    weights: Float[Array, " n"]
    """w"""
    td_error: Float[Array, ""]
    """Root mean square of what the critic leaves unexplained."""
    counted: Float[Array, " b"]
    """How often each row counted: not at all where a solve failed."""


class Slopes(NamedTuple):
    """How one decision answers to the parameters, in unit coordinates on both sides."""

    jacobian: Float[Array, "*b nu n"]
    """∇πᵀ; zero where the plan has no valid gradient."""
    usable: Bool[Array, "*b"]


@final
class MPCPolicyGradient(PlannerLearner):
    """The deterministic policy gradient on a planner's own parameters. Rewards are maximised.

    **Raises:** `ValueError` for numbers that do not fit together, with the nearest ones that do; `init` raises it for a
    policy that this learner cannot train, and for a problem without a discount where none is given.

    >>> import jax, planahead as pa
    >>> policy, learner = pa.make_algorithm("mpc-dpg", pa.make_task("linear"), jax.random.key(0), advantage="local")
    >>> type(policy).__name__, learner.advantage, learner.natural
    ('TunedPlanner', 'local', True)
    """

    advantage: Advantage = eqx.field(default="compatible", static=True)
    """Whose gradient by the action the policy follows, see the top of this file."""
    natural: bool = eqx.field(default=True, static=True)
    """Whether the step is along w, or along the gradient itself."""
    ridge: float = eqx.field(default=1e-3, static=True)
    """Of the critic's least squares, relative to their diagonal."""
    learning_rate: float = eqx.field(default=0.05, static=True)
    exploration: float = eqx.field(default=0.1, static=True)
    """The most that is added to or taken from an action."""
    steps_per_update: int = eqx.field(default=800, static=True)
    """Rows of an update: a least-squares critic has as many unknowns as there are parameters."""
    steps_per_chunk: int = eqx.field(default=4_000, static=True)

    def __check_init__(self):
        self._check_word("advantage", get_args(Advantage))
        self._check_range("ridge", self.ridge > 0, "a positive number was expected")
        self._check_range("exploration", self.exploration > 0, "a critic of actions needs several actions in a state")

    def explore(self, planned: Float[Array, "n action"], key: PRNGKeyArray) -> Float[Array, "n action"]:
        noise = jax.random.uniform(key, planned.shape, planned.dtype, minval=-1.0)
        return planned + self._reach(planned) * noise

    def _reach(self, planned: Array) -> Array:
        """d"""
        return jnp.clip(1.0 - jnp.abs(planned), 0.0, self.exploration)

    def improve(
        self, state: PlannerLearnerState, tried: Tried, key: PRNGKeyArray
    ) -> tuple[PlannerLearnerState, Direction]:
        del key
        slopes = jax.vmap(lambda row: slopes_of(state.policy, row.observation))(tried)
        usable = tried.usable & slopes.usable
        rows = jnp.asarray(usable, slopes.jacobian.dtype)
        scale = jnp.asarray(state.task.environment.observation_scale, rows.dtype)
        gamma = self.gamma(state.policy.problem())
        found = (
            self.compatible(tried, slopes, gamma, scale, rows)
            if self.advantage == "compatible"
            else self.local(state.policy, tried, slopes, gamma, rows)
        )
        natural = found.weights if self.advantage == "compatible" else -found.weights
        metrics = {
            "td_error": found.td_error,
            "failed_updates": jnp.mean(found.counted == 0, dtype=rows.dtype),
            "gradient_norm": jnp.linalg.norm(found.gradient),
        }
        return state, Direction(natural if self.natural else found.gradient, None, metrics)

    def compatible(
        self,
        tried: Tried,
        slopes: Slopes,
        gamma: Float[Array, ""] | float,
        scale: Float[Array, " observation"],
        weights: Float[Array, " b"],
    ) -> PolicyGradient:
        """By compatible features. A row counts as often as its weight says."""
        now, after = (monomials(o / scale[None]) for o in (tried.observation, tried.next_observation))
        after = (gamma * (1.0 - tried.terminated))[:, None] * after
        v = lstd(now, after, tried.cost, weights=weights, ridge=self.ridge**2)
        error = tried.cost + (after - now) @ v

        reach = self._reach(tried.planned)
        moved = jnp.where(reach > LEAST_WAY * self.exploration, tried.action - tried.planned, 0.0)
        features = jnp.einsum("bun,bu->bn", slopes.jacobian, moved)
        instruments = jnp.einsum("bun,bu->bn", slopes.jacobian, moved / jnp.maximum(reach, 1e-12) ** 2)
        w = lstd(features, jnp.zeros_like(features), error, instruments=instruments, weights=weights, ridge=self.ridge)
        fisher = jnp.einsum("b,bun,bum->nm", weights, slopes.jacobian, slopes.jacobian) / jnp.sum(weights)
        return PolicyGradient(fisher @ w, w, _rms(error - features @ w, weights), weights)

    def local(
        self,
        policy: TunedPlanner,
        tried: Tried,
        slopes: Slopes,
        gamma: Float[Array, ""] | float,
        weights: Float[Array, " b"],
    ) -> PolicyGradient:
        """By the planner's own value, corrected to first order. A row counts as often as its weight says."""
        found = jax.vmap(lambda row: temporal_difference(policy, row, gamma))(tried)
        mixed, bends = jax.vmap(lambda row: mixed_derivative(policy, row))(tried)
        weights = weights * found.usable * bends
        w = lstd(found.gradient, found.next_gradient, found.error, weights=weights, ridge=self.ridge)
        steps = jnp.einsum("bun,bum,m->bn", slopes.jacobian, mixed, w)
        gradient = weights @ steps / jnp.sum(weights)
        left = found.error + (found.next_gradient - found.gradient) @ w
        return PolicyGradient(gradient, w, _rms(left, weights), weights)


def slopes_of(policy: TunedPlanner, observation: Float[Array, " observation"]) -> Slopes:
    """∇πᵀ at one observation: one solve and one back-solve per control."""
    steering = policy.steering

    def act(unit: Float[Array, " n"]) -> tuple[Float[Array, " nu"], Bool[Array, ""]]:
        decision = steering.decide(unit, observation)
        usable = ~jnp.asarray(decision.failed) & decision.gradient_valid
        return steering.box.to_unit(decision.action), usable

    jacobian, usable = jax.jacrev(act, has_aux=True)(policy.unit)
    return Slopes(jacobian, usable)


def mixed_derivative(policy: TunedPlanner, row: Tried) -> tuple[Float[Array, "nu n"], Bool[Array, ""]]:
    """∇²_{ay} Q at the planned action: how the multiplier of the pinned control answers to the parameters; and whether
    the solve behind it did not fail."""

    def slope(unit: Float[Array, " n"]) -> tuple[Float[Array, " nu"], Bool[Array, ""]]:
        def at(action: Float[Array, " nu"]) -> Any:
            return q_value(policy, unit, eqx.tree_at(lambda row: row.action, row, action))

        value, found = jax.value_and_grad(at)(row.planned)
        return found, jnp.isfinite(value)

    return jax.jacrev(slope, has_aux=True)(policy.unit)


def _rms(error: Float[Array, " b"], weights: Float[Array, " b"]) -> Float[Array, ""]:
    return jnp.sqrt(jnp.sum(weights * error**2) / jnp.sum(weights))
