r"""A safety filter's problem for a linear system: its terminal set, its feedback and its tube follow from the limits.

x⁺ = A x + B u + w,   |w| <= w̄,   x ∈ X, u ∈ U, G x + F u <= b         (boxes, and affine `constraints`)

K             linear-quadratic regulator, or given
R_k           the tube of A + B K and w̄                              tube.py
terminal set  the largest invariant set of A + B K within X ⊖ R_∞, U ⊖ K R_∞, …        invariant_set.py
"""

from collections.abc import Callable, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from planahead.problem.bounds import BoundRows, Slack
from planahead.problem.invariant_set import largest_invariant_set, lqr_gain
from planahead.problem.per_stage import at_stage
from planahead.problem.problem import Problem
from planahead.problem.safety import Polytope, SafetyProblem
from planahead.problem.tube import linear_tube, no_tube


def linear_safety_problem(
    base: Problem,
    *,
    horizon: int,
    disturbance: Sequence[float] | None = None,
    rest_state: Sequence[float] | None = None,
    rest_control: Sequence[float] | None = None,
    gain: np.ndarray | None = None,
    slack: Slack | None = None,
    margin: float | None = None,
) -> SafetyProblem:
    """The safety problem of a linear system, with terminal set and tube computed from its limits.

    The terminal set is the largest in which the feedback keeps the undisturbed state inside of what the tube leaves of
    the limits.

    **Arguments:**

    - `base`: its dynamics and its constraints are affine.
    - `disturbance`: w̄, the largest disturbance of every state per step; none by default.
    - `rest_state`, `rest_control`: an equilibrium, around which the set is computed; zeros by default.
    - `gain`: K of the feedback u = K x in terminal set and tube, `[nu, nx]`; by default that of the linear-quadratic
        regulator whose weights are 1 / (half of a box)², and 1 where there is no box.
    - the others: see `SafetyProblem`.

    **Raises:** `ValueError` where dynamics or constraints are not affine, the rest is none, or limits leave no room.
    """
    nx, nu = base.state_size, base.control_size
    base = at_stage(base, 0)
    x = jnp.zeros(nx) if rest_state is None else jnp.asarray(rest_state, float)
    u = jnp.zeros(nu) if rest_control is None else jnp.asarray(rest_control, float)
    A, B = _affine(base.dynamics, x, u, "dynamics")
    Gx, Gu = _affine(lambda x, u: jnp.atleast_1d(base.constraints(x, u)), x, u, "constraints")
    moved = np.asarray(base.dynamics(x, u) - x)
    if np.max(np.abs(moved)) > 1e-5:
        raise ValueError(
            f"from the rest state {x.tolist()} with control {u.tolist()} the state moves by {moved.tolist()} in a "
            "step; give an equilibrium as rest_state and rest_control"
        )
    states, controls = (
        base.terminal_bounds().rows(nx, "terminal_bounds"),
        base.control_bounds().rows(nu, "control_bounds"),
    )
    if gain is None:
        gain = lqr_gain(A, B, np.diag(_weights(states)), np.diag(_weights(controls)))
    K = np.asarray(gain, float)
    tube = no_tube(horizon, nx, nu) if disturbance is None else linear_tube(A, B, K, np.asarray(disturbance), horizon)
    problem = SafetyProblem(
        base,
        Polytope(jnp.zeros((0, nx)), jnp.asarray(K), x, u),
        horizon=horizon,
        tube=tube,
        slopes=jnp.abs(jnp.asarray(np.concatenate([Gx, Gu], axis=1))),
        slack=slack,
        margin=margin,
    )
    last = at_stage(problem, -1)
    rows, limits = [Gx + Gu @ K], [-np.asarray(last.constraints(x, u))]
    for bounds, own, at in ((last.terminal_bounds(), np.eye(nx), x), (last.control_bounds(), K, u)):
        rows += [own, -own]
        limits += [np.asarray(bounds.upper - at), np.asarray(at - bounds.lower)]
    C, d = np.concatenate(rows), np.concatenate(limits)
    finite = np.isfinite(d)
    H = largest_invariant_set(A + B @ K, C[finite], d[finite])
    return eqx.tree_at(lambda problem: problem.terminal.rows, problem, jnp.asarray(H))


def _weights(rows: BoundRows) -> np.ndarray:
    half = 0.5 * np.asarray(rows.upper - rows.lower, float)
    return np.where(np.isfinite(half) & (half > 0), 1.0 / np.where(half > 0, half, 1.0) ** 2, 1.0)


def _affine(function: Callable, x: Array, u: Array, what: str) -> tuple[np.ndarray, np.ndarray]:
    """The Jacobians by x and u of an affine function."""
    A, B = jax.jacobian(function, (0, 1))(x, u)
    for key in jax.random.split(jax.random.key(0), 4):
        dx, du = jax.random.normal(key, x.shape), jax.random.normal(jax.random.fold_in(key, 1), u.shape)
        straight, true = function(x, u) + A @ dx + B @ du, function(x + dx, u + du)
        if not np.allclose(straight, true, rtol=1e-3, atol=1e-4):
            raise ValueError(
                f"the {what} are not affine, and a safe set is computed for linear systems alone; give SafetyProblem a "
                "TerminalSet of your own"
            )
    return np.asarray(A, float), np.asarray(B, float)
