r"""Aligned learning: every part of a planner is fitted to what it stands for, and then planned with.

    act           a = clip(u₀*(x(o), φ) + σ ξ);  store;  fit;  plan again
    model         min_θ  L = ½ E Σ_{j<H} ‖(x̂_{j+1} - x_{j+1}) / c‖²,    x̂_0 = x_0,  x̂_{j+1} = f_θ(x̂_j, u_j)
    value         V(x) = ψ(x)ᵀw,   E[ψ(x_0) (Σ_{j<m} γʲ ℓ_j + γᵐ (1 - terminated) V(x_m) - V(x_0))] = 0
    closed loop   min_θ  L + ω ½ E[δ²],    δ the temporal difference of the planner's own value (`mpc_q_learning.py`)

    symbol   shape   meaning
    θ                what the dynamics depend on: declared parameters φ, the weights of a `ResidualDynamics`, or both
    H        []      `prediction_steps`; the m <= H steps of a window end with its episode, or with what is stored
    c        [nx]    typical magnitudes of the planner's states
    ψ        [n]     1, xᵢ and xᵢxⱼ: the `QuadraticTerminalCost` V is quadratic, its convex part is planned with
    ℓ        []      minus the reward, in units of the planner's cost (`Task.reward_per_cost`)
    ω        []      `closed_loop_weight`, 1 / cost²

A model for planning is composed with itself, hence the loss over several steps. Parameters are few and move by
Gauss-Newton within their boxes; a network moves by Adam; V is a linear solve (LSTD) and moves by `value_rate`. Aligned
learning is exact where the parts can be: with a wrong model class the best prediction is not the best plan, and ω says
how much the closed loop counts beside it. V is that of the exploring policy whose experience is stored. An action is
known whether its solve failed or not, so that predictions count every step; values leave such windows out.

References: R. Reiter et al., "Synthesis of model predictive control and reinforcement learning: survey and
classification", 2025 (aligned and closed-loop learning); N. Abbeel, A. Coates, A. Ng, "Learning first-order Markov
models for control", NeurIPS 2005 (loss over several steps).
"""

import dataclasses
from typing import Any, Literal, final, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from planahead.learning.fitting import fit
from planahead.learning.learner import Metrics
from planahead.learning.mpc_q_learning import q_direction, q_value, regularised, temporal_difference
from planahead.learning.planner_learner import Direction, PlannerLearnerState, Tried
from planahead.learning.replay import Replay
from planahead.learning.replaying_planner import ReplayingPlannerLearner
from planahead.learning.windows import (
    Window,
    dynamics_parameters,
    prediction_errors,
    quadratic_value,
    state_scale,
    window_of,
)
from planahead.policies import Policy
from planahead.policies.tuned import TunedPlanner
from planahead.problem import Problem, QuadraticTerminalCost, ResidualDynamics, with_value, wraps
from planahead.tasks import Task

Fits = Literal["model", "network", "both", "nothing"]


class AlignedMemory(eqx.Module):
    """What is kept of former updates."""

    replay: Replay[Tried]
    moments: PyTree
    """Of the network's optimiser; `None` without a network."""
    scale: Float[Array, " nx"]
    """c"""


@final
class AlignedLearning(ReplayingPlannerLearner):
    """Fits a planner's model and its terminal value to what happens. Rewards are maximised.

    **Raises:** `ValueError` for numbers that do not fit together, with the nearest ones that do, and where there is
    nothing to fit; `init` raises it for a policy or a task without what is to be fitted.

    >>> import jax, planahead as pa
    >>> task = pa.make_task("linear")
    >>> policy, learner = pa.make_algorithm("mpc-model", task, jax.random.key(0))
    >>> policy.steering.space.names, learner.fits, learner.terminal_value
    (('model_offset', 'state_matrix', 'control_matrix'), 'model', False)
    """

    fits: Fits = eqx.field(default="model", static=True)
    """To predictions: the parameters that the dynamics depend on, a network that is added to them, both, or nothing."""
    terminal_value: bool = eqx.field(default=False, static=True)
    """Whether the terminal cost is replaced by V, which starts as what is replaced."""
    closed_loop_weight: float = eqx.field(default=0.0, static=True)
    """ω. Above 0 all learned parameters are trained, those of the cost too."""
    prediction_steps: int = eqx.field(default=5, static=True)
    """H"""
    value_rate: float = eqx.field(default=0.2, static=True)
    """How far V moves in an update towards what the experience says."""
    value_after: int = eqx.field(default=800, static=True)
    """Steps that are stored before V moves: what little experience says is worse than what the problem came with."""
    network_units: int = eqx.field(default=32, static=True)
    """Of each of the network's two hidden layers."""
    network_steps: int = eqx.field(default=20, static=True)
    """Of Adam, in every update."""
    network_rate: float = eqx.field(default=3e-3, static=True)
    """Adam's."""
    regularisation: float = eqx.field(default=1e-4, static=True)
    """Of the Gauss-Newton matrix, relative to its mean eigenvalue."""
    learning_rate: float = eqx.field(default=0.5, static=True)
    exploration: float = eqx.field(default=0.1, static=True)
    """σ, of what is added to the action, which is then clipped."""
    batch_size: int = eqx.field(default=256, static=True)
    """Windows, and rows of the closed loop, of an update."""
    replay_size: int = eqx.field(default=4_000, static=True)
    """Transitions kept."""
    steps_per_update: int = eqx.field(default=80, static=True)
    steps_per_chunk: int = eqx.field(default=2_000, static=True)

    def __check_init__(self):
        self._check_word("fits", get_args(Fits))
        for name in ("prediction_steps", "network_units", "network_steps"):
            self._check_range(name, getattr(self, name) >= 1, "at least 1 was expected")
        for name in ("regularisation", "network_rate"):
            self._check_range(name, getattr(self, name) > 0, "a positive number was expected")
        self._check_range("value_rate", 0 < self.value_rate <= 1, "expected 0 < value_rate <= 1")
        self._check_range("closed_loop_weight", self.closed_loop_weight >= 0, "expected 0 (none) or more")
        something = self.terminal_value or self.closed_loop_weight > 0
        self._check_range(
            "fits", self.fits != "nothing" or something, "with neither a value nor a closed loop to learn"
        )

    @property
    def discounts(self) -> bool:
        return self.terminal_value or self.closed_loop_weight > 0

    @property
    def has_network(self) -> bool:
        return self.fits in ("network", "both")

    def planned(self, task: Task, key: PRNGKeyArray) -> Problem:
        problem: Problem = task.problem
        if self.has_network:
            box = task.action_box
            reach = [(high - low) / 2 for low, high in zip(box.low, box.high, strict=True)]
            scale = state_scale(task).tolist()
            problem = ResidualDynamics(problem, scale, reach, hidden=self.network_units, key=key)
        return QuadraticTerminalCost(problem) if self.terminal_value else problem

    def trained(self, task: Task) -> tuple[str, ...]:
        """Those of the dynamics where nothing else has a say."""
        named = dynamics_parameters(task, task.learned_parameters)
        return named if self.fits in ("model", "both") and self.closed_loop_weight == 0 else task.learned_parameters

    def init(self, task: Task, policy: Policy, key: PRNGKeyArray) -> PlannerLearnerState:
        trained = self.check(policy)
        self._check_task(task, trained)
        state = super().init(task, policy, key)
        moments = self._adam().init(_weights(trained.steering.problem)) if self.has_network else None
        return dataclasses.replace(state, memory=AlignedMemory(state.memory, moments, state_scale(task)))

    def _check_task(self, task: Task, policy: TunedPlanner) -> None:
        problem, name = policy.steering.problem, type(task.problem).__name__
        if self.fits in ("model", "both"):
            found = dynamics_parameters(task, policy.steering.space.names)
            if not found:
                raise ValueError(
                    f"the dynamics of {name} depend on none of the parameters that are learned "
                    f"({', '.join(policy.steering.space.names)}); use fits='network', or declare one with parameter()"
                )
        for kind, needed in ((ResidualDynamics, self.has_network), (QuadraticTerminalCost, self.terminal_value)):
            if needed and not wraps(problem, kind):
                raise ValueError(
                    f"{type(self).__name__} trains a {kind.__name__} here, and the policy plans with a "
                    f"{type(problem).__name__}; give it learner.planned(task, key)"
                )
        if self.terminal_value and task.reward_per_cost() is None:
            raise ValueError(
                f"task '{task.name}' does not say what a unit of its planner's cost is worth in reward, so what is "
                "earned is no terminal cost; use terminal_value=False, or give its class a reward_per_cost()"
            )

    def _adam(self) -> optax.GradientTransformation:
        """Gradients of predictions that diverged are left out."""
        return optax.apply_if_finite(optax.adam(self.network_rate), max_consecutive_errors=2**30)

    def improve(
        self, state: PlannerLearnerState, tried: Tried, key: PRNGKeyArray
    ) -> tuple[PlannerLearnerState, Direction]:
        window_key, row_key, fit_key = jax.random.split(key, 3)
        replay: Replay[Tried] = state.memory.replay.insert(tried)
        state = eqx.tree_at(lambda state: state.memory.replay, state, replay)
        windows, rows = self.windows(state, window_key), replay.sample(row_key, self.batch_size)
        direction = self.direction(state, windows, rows)
        if self.terminal_value:
            state = self._with_value(state, windows)
        if self.has_network:
            state = self._with_network(state, rows, fit_key)
        return state, direction

    def windows(self, state: PlannerLearnerState, key: PRNGKeyArray) -> Window:
        """`batch_size` of them from the replay."""
        replay: Replay[Tried] = state.memory.replay
        found = replay.windows(key, self.batch_size, self.prediction_steps, self.environments)
        return jax.vmap(lambda rows, stored: window_of(state.policy, rows, stored))(found.rows, found.stored)

    def direction(self, state: PlannerLearnerState, windows: Window, rows: Tried) -> Direction:
        """Of the parameters: predictions, and the closed loop."""
        policy, fits = state.policy, self.fits in ("model", "both")
        gradient, curvature, metrics = self._of_predictions(state, windows)
        if self.closed_loop_weight == 0:
            curvature = regularised(curvature, self.regularisation)
            return Direction(gradient, curvature, metrics) if fits else Direction(0 * policy.unit, None, metrics)
        gradient, curvature = (part if fits else jnp.zeros_like(part) for part in (gradient, curvature))
        closed = q_direction(policy, rows, self.gamma(policy.problem()), "gauss-newton", self.regularisation)
        assert closed.curvature is not None
        return Direction(
            gradient + self.closed_loop_weight * closed.gradient,
            regularised(curvature + self.closed_loop_weight * closed.curvature, self.regularisation),
            {**metrics, **closed.metrics},
        )

    def _of_predictions(self, state: PlannerLearnerState, windows: Window) -> tuple[Array, Array, Metrics]:
        """∇L, its Gauss-Newton matrix, and the root mean square of the error of a predicted state."""
        policy, scale = state.policy, state.memory.scale

        def errors(unit: Float[Array, " n"], window: Window) -> Float[Array, "H nx"]:
            return prediction_errors(state.task, policy.problem(unit), window, scale)

        found = jax.vmap(lambda window: errors(policy.unit, window))(windows)
        slopes = jax.vmap(lambda window: jax.jacfwd(errors)(policy.unit, window))(windows)
        finite = jnp.all(jnp.isfinite(slopes), axis=(1, 2, 3)) & jnp.all(jnp.isfinite(found), axis=(1, 2))
        found = jnp.where(finite[:, None, None], found, 0.0)
        slopes = jnp.where(finite[:, None, None, None], slopes, 0.0)
        count = jnp.maximum(jnp.sum(windows.known & finite[:, None]), 1)
        metrics = {
            "prediction_error": jnp.sqrt(jnp.sum(found**2) / count),
            "diverged_predictions": jnp.mean(~finite, dtype=found.dtype),
            "failed_windows": jnp.mean(~windows.usable, dtype=found.dtype),
        }
        gradient = jnp.einsum("bhxn,bhx->n", slopes, found) / count
        return gradient, jnp.einsum("bhxn,bhxm->nm", slopes, slopes) / count, metrics

    def _with_value(self, state: PlannerLearnerState, windows: Window) -> PlannerLearnerState:
        problem: Any = state.policy.steering.problem
        per_cost = state.task.reward_per_cost()
        assert per_cost is not None
        new = quadratic_value(windows, self.gamma(state.policy.problem()), state.memory.scale)
        unknowns = sum(part.size for part in new)
        ready = (state.memory.replay.size >= self.value_after) & (jnp.sum(windows.usable) > unknowns)
        for part in new:
            ready &= jnp.all(jnp.isfinite(part))
        rate = jnp.where(ready, self.value_rate, 0.0)

        def moved(old: Array, new: Array) -> Array:
            return old + rate * (jnp.where(ready, new / per_cost, old) - old)

        value = jax.tree.map(moved, problem.quadratic, new)
        return eqx.tree_at(lambda state: state.policy.steering.problem, state, with_value(problem, value))

    def _with_network(self, state: PlannerLearnerState, rows: Tried, key: PRNGKeyArray) -> PlannerLearnerState:
        policy, memory, gamma = state.policy, state.memory, self.gamma(state.policy.problem())
        weights = _weights(policy.steering.problem)
        usable, target = jnp.zeros_like(rows.usable), rows.cost
        if self.closed_loop_weight > 0:
            seen = jax.vmap(lambda row: temporal_difference(policy, row, gamma))(rows)
            usable, target = seen.usable, seen.error + jax.vmap(lambda row: q_value(policy, policy.unit, row))(rows)

        def loss_of(weights: PyTree, key: PRNGKeyArray) -> tuple[Float[Array, ""], None]:
            trained = _with_weights(policy, weights)
            windows = self.windows(state, key)
            errors = jax.vmap(lambda w: prediction_errors(state.task, trained.problem(), w, memory.scale))(windows)
            loss = 0.5 * jnp.sum(errors**2) / jnp.maximum(jnp.sum(windows.known), 1)
            if self.closed_loop_weight > 0:
                values = jax.vmap(lambda row: q_value(trained, trained.unit, row))(rows)
                error = jnp.where(usable & jnp.isfinite(values), target - values, 0.0)
                loss += self.closed_loop_weight * 0.5 * jnp.sum(error**2) / jnp.maximum(jnp.sum(usable), 1)
            return loss, None

        found = fit(weights, memory.moments, self._adam(), loss_of, self.network_steps, key)
        return eqx.tree_at(
            lambda state: (state.policy, state.memory.moments),
            state,
            (_with_weights(policy, found.trained), found.moments),
        )


def _weights(problem: Any) -> PyTree:
    """Of a `ResidualDynamics`, or of the one that is wrapped."""
    return eqx.filter(problem.residual_network, eqx.is_inexact_array)


def _with_weights(policy: TunedPlanner, weights: PyTree) -> TunedPlanner:
    def network(policy: TunedPlanner) -> Any:
        problem: Any = policy.steering.problem
        return problem.residual_network

    return eqx.tree_at(network, policy, eqx.combine(weights, network(policy)))
