r"""The problem of a predictive safety filter: of all controls after which safety is still certain, the closest to a
proposed one.

    minimise    ½‖u_0 - u_L‖²_W + ½ε² Σ_{k>0} ‖u_k‖²_W
    subject to  x_{k+1} = f(x_k, u_k),  x_0 given
                u_k ∈ U ⊖ K R_k,  x_k ∈ X ⊖ R_k,  g(x_k, u_k) <= -L (R_k, K R_k) - δ
                S(x_N) <= c - δ

    symbol   shape         meaning
    u_L      [nu]          the proposal
    W        diagonal      weights: 1 / (half of the control box)², so that every control counts alike
    f, U, X, g             dynamics, bounds and constraints of the given problem, all hard; its costs are left out
    R_k      see tube.py   how far a disturbance may have carried the state by stage k
    L        [ng, nx + nu] how much a unit of error moves g at most, `slopes`
    S        [m]           the terminal safe set { x : S(x) <= 0 }, with a law that keeps the state in it for ever
    δ                      `margin`: what rounding and a solver's tolerance may take

After the plan the terminal law takes over, so a feasible plan is a proof of safety for all time. ε only makes the later
controls unique. A control-barrier filter is the case N = 1 with c = (1 - γ) S(x_0), γ ∈ (0, 1]: the barrier h = -S
satisfies h(x_1) >= (1 - γ) h(x_0). In the plain filter c = 0.

References: K. P. Wabersich, M. N. Zeilinger, "A predictive safety filter for learning-based control of constrained
nonlinear dynamical systems", Automatica 129 (2021); A. Agrawal, K. Sreenath, "Discrete control barrier functions",
RSS 2017. It protects no better than model, disturbance bound and terminal set are true.
"""

import abc
from collections.abc import Sequence
from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.problem.bounds import BoundRows, Bounds, Slack
from planahead.problem.fields import static
from planahead.problem.per_stage import PerStage, at_stage
from planahead.problem.problem import Problem
from planahead.problem.tube import Tube, no_tube

LATER = 1e-3
"""ε: a later control at the end of its box costs a millionth of a first control that is off by half a box."""


class TerminalSet(eqx.Module):
    """States from which a law is known to be safe for ever: for all x with `values(x)` <= 0,

        values(f(x, control(x))) <= 0,    and x and control(x) are within the (tightened) limits.

    Nobody checks that for a set of the user's own.
    """

    @abc.abstractmethod
    def values(self, x: Float[Array, " nx"]) -> Float[Array, " m"]:
        """S(x): not positive inside."""

    @abc.abstractmethod
    def control(self, x: Float[Array, " nx"]) -> Float[Array, " nu"]:
        """The law that stays inside."""


@final
class Polytope(TerminalSet):
    """H (x - x_s) <= 1 with the law u_s + K (x - x_s); computed by `linear_safety_problem`."""

    rows: Float[Array, "m nx"]
    """H."""
    gain: Float[Array, "nu nx"]
    """K."""
    rest_state: Float[Array, " nx"]
    rest_control: Float[Array, " nu"]

    def values(self, x: Float[Array, " nx"]) -> Float[Array, " m"]:
        return self.rows @ (x - self.rest_state) - 1.0

    def control(self, x: Float[Array, " nx"]) -> Float[Array, " nu"]:
        return self.rest_control + self.gain @ (x - self.rest_state)


@final
class SafetyProblem(Problem):
    """The safe controls of `base`, and how far the first one is from a proposal.

    **Arguments:**

    - `base`: dynamics, bounds and constraints; every bound is kept as a hard one, whatever its price. A parameter per
      stage counts with its value at stage 0.
    - `terminal`: where the plan ends.
    - `horizon`: N; 1 for a control-barrier filter.
    - `tube`: how far disturbances carry the state from the plan; no disturbance by default.
    - `slopes`: L, needed where there are a tube and `constraints`.
    - `decay`: γ of a control-barrier filter.
    - `periods`: of states that come round again and that the world counts from anew, 2π of an angle; infinite for the
      others, and by default.
    - `slack`: makes the bounds and constraints on states soft, so that there is a plan from outside of the safe states
      too; it returns to them where its linear price is above what the proposal is worth.

    **Raises:** `ValueError` for a decay outside of (0, 1] or with another horizon than 1, a missing or ill-shaped
    `slopes`, and limits that leave no room.

    >>> import planahead as pa
    >>> class Mass(pa.Problem):
    ...     horizon: int = pa.static(1)
    ...     state_size: int = pa.static(1)
    ...     control_size: int = pa.static(1)
    ...     def dynamics(self, x, u):
    ...         return x + u
    ...     def control_bounds(self):
    ...         return pa.Bounds(-1.0, 1.0)
    ...     def state_bounds(self):
    ...         return pa.Bounds(-2.0, 2.0)
    >>> problem = pa.linear_safety_problem(Mass(), horizon=3).towards(jnp.array([1.5]), jnp.array([0.7]))
    >>> print(f"{pa.solve(problem, jnp.array([1.8])).controls[0, 0]:.2f}")
    0.20
    """

    base: Problem = eqx.field(kw_only=True)
    terminal: TerminalSet = eqx.field(kw_only=True)
    tube: Tube = eqx.field(kw_only=True)
    slopes: Float[Array, "ng errors"] = eqx.field(kw_only=True)
    target: PerStage = eqx.field(kw_only=True)
    """u_L at stage 0 and zero later, [N + 1, nu]."""
    weight: PerStage = eqx.field(kw_only=True)
    """Root of W's diagonal, times ε after stage 0, [N + 1, nu]."""
    inset: PerStage = eqx.field(kw_only=True)
    """δ, [N + 1]; zero at stage 0, where the state is given."""
    level: Float[Array, ""] | Float[Array, " m"] = eqx.field(kw_only=True)
    """c."""
    periods: Float[Array, " nx"] = eqx.field(kw_only=True)
    slack: Slack | None = eqx.field(kw_only=True)
    horizon: int = static()
    state_size: int = static()
    control_size: int = static()
    decay: float | None = static(None)

    def __init__(
        self,
        base: Problem,
        terminal: TerminalSet,
        *,
        horizon: int,
        tube: Tube | None = None,
        slopes: Float[Array, "ng errors"] | None = None,
        decay: float | None = None,
        periods: Sequence[float] | None = None,
        slack: Slack | None = None,
        margin: float | None = None,
    ):
        if decay is not None and not (0.0 < decay <= 1.0 and horizon == 1):
            raise ValueError(
                f"decay={decay} with horizon={horizon}; a barrier filter looks one step ahead and lets its barrier "
                "fall by a share of 0 < decay <= 1, so use horizon=1, or decay=None"
            )
        self.base = base = at_stage(base, 0)
        self.horizon, self.state_size, self.control_size = horizon, base.state_size, base.control_size
        self.terminal = terminal
        self.tube = no_tube(horizon, base.state_size, base.control_size) if tube is None else tube
        self.slopes = _checked_slopes(base, self.tube, slopes)
        first = jnp.arange(horizon + 1) == 0
        box = base.control_bounds().rows(base.control_size, "control_bounds")
        half = 0.5 * (box.upper - box.lower)
        scale = jnp.where(jnp.isfinite(half) & (half > 0), half, 1.0)
        self.weight = PerStage(jnp.where(first[:, None], 1.0, LATER) / scale[None])
        self.target = PerStage(jnp.zeros((horizon + 1, base.control_size)))
        self.inset = PerStage(jnp.where(first, 0.0, default_margin() if margin is None else margin))
        self.level = jnp.zeros(())
        self.periods = jnp.full(base.state_size, jnp.inf) if periods is None else jnp.asarray(periods, float)
        self.slack = slack
        self.decay = decay
        _check_room(at_stage(self, -1))

    def towards(
        self, proposal: Float[Array, " nu"], state: Float[Array, " nx"], later: Float[Array, "N nu"] | None = None
    ) -> "SafetyProblem":
        """The problem of one step: with its proposal, and the level of the barrier that its state allows. Controls
        after the first are drawn to those of `later`, gently."""
        rest = self.target.values[1:]
        if later is not None:
            rest = jnp.concatenate([later[1:], later[-1:]])
        target = jnp.concatenate([proposal[None], rest])
        level = self.level if self.decay is None else (1.0 - self.decay) * self.terminal.values(state)
        return eqx.tree_at(lambda problem: (problem.target.values, problem.level), self, (target, level))

    def error(self, x: Float[Array, " nx"], z: Float[Array, " nx"]) -> Float[Array, " nx"]:
        """x - z, whole periods left out."""
        finite = jnp.isfinite(self.periods)
        period = jnp.where(finite, self.periods, 1.0)
        return x - z - jnp.where(finite, period * jnp.round((x - z) / period), 0.0)

    def with_margin(self, share: float) -> "SafetyProblem":
        """The same with `share` of its margin."""
        return eqx.tree_at(lambda problem: problem.inset.values, self, replace_fn=lambda inset: share * inset)

    def dynamics(self, x: Float[Array, " nx"], u: Float[Array, " nu"]) -> Float[Array, " nx"]:
        return self.base.dynamics(x, u)

    def stage_residual(self, x: Float[Array, " nx"], u: Float[Array, " nu"]) -> Float[Array, " nu"]:
        del x
        return _here(self.weight) * (u - _here(self.target))

    def control_bounds(self) -> Bounds:
        rows = self.base.control_bounds().rows(self.control_size, "control_bounds")
        return Bounds(*_tightened(rows, _here(self.tube.control_radius)))

    def control_guess(self) -> Float[Array, " nu"]:
        return self.base.control_guess()

    def state_bounds(self) -> Bounds:
        return self._within(self.base.state_bounds())

    def terminal_bounds(self) -> Bounds:
        return self._within(self.base.terminal_bounds())

    def constraints(self, x: Float[Array, " nx"], u: Float[Array, " nu"]) -> Float[Array, " ng"]:
        error = jnp.concatenate([_here(self.tube.state_radius), _here(self.tube.control_radius)])
        return jnp.atleast_1d(self.base.constraints(x, u)) + self.slopes @ error + _here(self.inset)

    def constraint_slack(self) -> Slack | None:
        return self.slack

    def terminal_constraints(self, x: Float[Array, " nx"]) -> Float[Array, " m"]:
        own = jnp.atleast_1d(self.base.terminal_constraints(x))
        return jnp.concatenate([self.terminal.values(x) - self.level, own]) + _here(self.inset)

    def terminal_constraint_slack(self) -> Slack | None:
        return self.slack

    def _within(self, bounds: Bounds) -> Bounds:
        rows = bounds.rows(self.state_size, "state_bounds")
        return Bounds(*_tightened(rows, _here(self.tube.state_radius) + _here(self.inset)), slack=self.slack)


def default_margin() -> float:
    """δ: twice what a solved plan may violate (`SQP.largest_violation`), so that as much is left for rounding."""
    return 2e-6 if jnp.result_type(float) == jnp.float64 else 2e-3


def _here(leaf: Any) -> Array:
    """A per-stage leaf as a method sees it at its stage."""
    return leaf


def _tightened(rows: BoundRows, radius: Array) -> tuple[Array, Array]:
    return rows.lower + radius, rows.upper - radius


def _checked_slopes(base: Problem, tube: Tube, slopes: Array | None) -> Float[Array, "ng errors"]:
    x, u = jnp.zeros(base.state_size), jnp.zeros(base.control_size)
    shape = jax.eval_shape(lambda: jnp.atleast_1d(base.constraints(x, u))).shape[0], x.size + u.size
    if slopes is None:
        if shape[0] > 0 and bool(jnp.any(tube.state_radius.values > 0)):
            raise ValueError(
                f"a disturbance may move the {shape[0]} constraints of {type(base).__name__}; give slopes of "
                f"shape {shape}: how much each moves at most per unit of error of every state and control"
            )
        return jnp.zeros(shape)
    if slopes.shape != shape:
        raise ValueError(f"slopes have shape {slopes.shape}; one row per constraint, {shape}, was expected")
    return slopes


def _check_room(last: SafetyProblem) -> None:
    """**Raises** `ValueError` where nothing is left of the limits at the last stage, where the tube is widest."""
    for what, rows, radius in (
        ("state", last.base.terminal_bounds().rows(last.state_size, "terminal_bounds"), last.tube.state_radius),
        ("control", last.base.control_bounds().rows(last.control_size, "control_bounds"), last.tube.control_radius),
    ):
        lower, upper = _tightened(rows, _here(radius))
        if bool(jnp.any(lower >= upper)):
            raise ValueError(
                f"disturbances take {_here(radius).tolist()} from every side of the {what} bounds "
                f"[{rows.lower.tolist()}, {rows.upper.tolist()}], and nothing is left; use a smaller "
                "disturbance, or wider bounds"
            )
