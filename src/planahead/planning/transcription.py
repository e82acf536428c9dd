"""A problem as a nonlinear program over z_k = (u_k, x_k), k = 0…N, for one lane.

    minimise  φ(z) + prices(s)    s.t.   f(z_k) - x_{k+1} = 0,   state - x_0 = 0,   σ·h(z) - b + s >= 0

Rows h(z_k): all entries of z_k (for the boxes), then general rows (`constraints` for k < N, `terminal_constraints` at
N, padded to the same number). Sides σ ∈ {lower, upper}; b = (lower, -upper), -inf where there is no bound. The control
of stage N is a dummy. Where the first control is pinned, u_0 is a constant: its box is dropped, and so are hard rows of
stage 0, on which nothing acts then.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.problem import Bounds, Problem, at_stage, map_stages


class RowData(eqx.Module):
    """Bounds and prices of all rows. `linear = quadratic = inf` in hard rows."""

    bound: Float[Array, "nodes 2 m *B"]
    linear: Float[Array, "nodes m *B"]
    quadratic: Float[Array, "nodes m *B"]


def split(problem: Problem, z: Float[Array, "nodes nz"]) -> tuple[Float[Array, "N nu"], Float[Array, "nodes nx"]]:
    """Controls and states."""
    return z[:-1, : problem.control_size], z[:, problem.control_size :]


def join(controls: Float[Array, "N nu"], states: Float[Array, "nodes nx"]) -> Float[Array, "nodes nz"]:
    """z from controls and states; the dummy control of stage N is zero."""
    return jnp.concatenate([jnp.concatenate([controls, jnp.zeros_like(controls[:1])]), states], 1)


def pin(control: Float[Array, " nu"] | None, z: Float[Array, "nodes nz"]) -> Float[Array, "nodes nz"]:
    """z with its first control replaced by the pinned one."""
    if control is None:
        return z
    first = jnp.concatenate([control, z[0, control.shape[0] :]])
    return jnp.concatenate([first[None], z[1:]])


def stage_weights(problem: Problem, dtype) -> Float[Array, " nodes"]:
    """γ^k."""
    discount = jnp.asarray(problem.discount, dtype)
    return discount ** jnp.arange(problem.horizon + 1)


def stage_cost(problem: Problem, x: Float[Array, " nx"], u: Float[Array, " nu"]) -> Float[Array, ""]:
    """ℓ + ½‖r‖² of one stage, without discount."""
    return _half_square(problem.stage_residual(x, u)) + jnp.reshape(problem.stage_cost(x, u), ())


def terminal_cost(problem: Problem, x: Float[Array, " nx"]) -> Float[Array, ""]:
    """ℓ_N + ½‖r_N‖², without discount. `problem` is the problem at the last stage."""
    return _half_square(problem.terminal_residual(x)) + jnp.reshape(problem.terminal_cost(x), ())


def initial_cost(problem: Problem, state: Float[Array, " nx"]) -> Float[Array, ""]:
    """λ(x_0). Nothing that is planned changes it, so it is no part of φ, and added where a cost is told."""
    return jnp.reshape(at_stage(problem, 0).initial_cost(state), ())


def objective(problem: Problem, z: Float[Array, "nodes nz"]) -> Float[Array, ""]:
    """φ: the discounted cost without prices."""
    u, x = split(problem, z)
    weights = stage_weights(problem, z.dtype)
    costs = map_stages(stage_cost, problem, x[:-1], u)
    return jnp.sum(weights[:-1] * costs) + weights[-1] * terminal_cost(at_stage(problem, -1), x[-1])


def defects(problem: Problem, z: Float[Array, "nodes nz"]) -> Float[Array, "N nx"]:
    """f(z_k) - x_{k+1}."""
    u, x = split(problem, z)
    return map_stages(lambda stage, x, u: stage.dynamics(x, u), problem, x[:-1], u) - x[1:]


def constraint_sizes(problem: Problem) -> tuple[int, int]:
    """Numbers of stage and of terminal constraints."""
    x, u = jnp.zeros(problem.state_size), jnp.zeros(problem.control_size)
    stage = jax.eval_shape(lambda: jnp.atleast_1d(at_stage(problem, 0).constraints(x, u)))
    last = jax.eval_shape(lambda: jnp.atleast_1d(at_stage(problem, -1).terminal_constraints(x)))
    return stage.shape[0], last.shape[0]


def general_size(problem: Problem) -> int:
    """Number of general rows: the larger of the numbers of stage and terminal constraints."""
    return max(constraint_sizes(problem))


def pad(rows: Float[Array, " rows"], size: int, value: float = 0.0) -> Float[Array, " size"]:
    return jnp.concatenate([rows, jnp.full((size - rows.shape[0],), value, rows.dtype)])


def general_rows(problem: Problem, z: Float[Array, "nodes nz"], size: int) -> Float[Array, "nodes ng"]:
    """`constraints` and `terminal_constraints`."""
    if size == 0:
        return jnp.zeros((z.shape[0], 0), z.dtype)
    u, x = split(problem, z)
    stages = map_stages(lambda stage, x, u: pad(jnp.atleast_1d(stage.constraints(x, u)), size), problem, x[:-1], u)
    last = pad(jnp.atleast_1d(at_stage(problem, -1).terminal_constraints(x[-1])), size)
    return jnp.concatenate([stages, last[None]])


def row_values(problem: Problem, z: Float[Array, "nodes nz"], size: int) -> Float[Array, "nodes m"]:
    """h(z)."""
    return jnp.concatenate([z, general_rows(problem, z, size)], 1)


def row_data(problem: Problem, size: int, dtype, *, pinned: bool) -> RowData:
    """Bounds and prices at all stages, from the problem's methods; prices are discounted like the cost."""
    nx, nu, N = problem.state_size, problem.control_size, problem.horizon
    name = type(problem).__name__
    last = at_stage(problem, -1)

    stage_size, last_size = constraint_sizes(problem)

    def at(stage: Problem):
        constraints = Bounds(upper=0.0, slack=stage.constraint_slack())
        return (
            stage.control_bounds().rows(nu, f"{name}.control_bounds"),
            stage.state_bounds().rows(nx, f"{name}.state_bounds"),
            constraints.rows(stage_size, f"{name}.constraint_slack"),
        )

    control_rows, state_rows, stage_rows = map_stages(at, problem)
    terminal_rows = last.terminal_bounds().rows(nx, f"{name}.terminal_bounds")
    last_constraints = Bounds(upper=0.0, slack=last.terminal_constraint_slack())
    last_rows = last_constraints.rows(last_size, f"{name}.terminal_constraint_slack")
    absent = {"lower": -jnp.inf, "upper": jnp.inf, "linear": jnp.inf, "quadratic": jnp.inf}
    weights = stage_weights(problem, dtype)[:, None]
    gathered = {}
    for field, none in absent.items():
        controls = jnp.concatenate([getattr(control_rows, field), jnp.full((1, nu), none)])
        states = jnp.concatenate(
            [jnp.full((1, nx), none), getattr(state_rows, field)[1:], getattr(terminal_rows, field)[None]]
        )
        general = jnp.concatenate(
            [
                jax.vmap(lambda row, none=none: pad(row, size, none))(getattr(stage_rows, field)),
                pad(getattr(last_rows, field), size, none)[None],
            ]
        )
        rows = jnp.concatenate([controls, states, general], 1).astype(dtype)
        if field in ("linear", "quadratic"):
            finite = jnp.isfinite(rows)
            rows = jnp.where(finite, jnp.where(finite, rows, 0.0) * weights, rows)
        gathered[field] = rows
    bound = jnp.stack([gathered["lower"], -gathered["upper"]], 1)
    if pinned:
        hard = ~(jnp.isfinite(gathered["linear"]) & jnp.isfinite(gathered["quadratic"]))
        nothing_acts = (jnp.arange(N + 1) == 0)[:, None] & (hard | (jnp.arange(bound.shape[2]) < nu)[None])
        bound = jnp.where(nothing_acts[:, None], -jnp.inf, bound)
    return RowData(bound, gathered["linear"], gathered["quadratic"])


def lagrangian(
    problem: Problem,
    state: Float[Array, " nx"],
    z: Float[Array, "nodes nz"],
    costates: Float[Array, "nodes nx"],
    net_multipliers: Float[Array, "nodes m"],
) -> Float[Array, ""]:
    """φ + Σ π_{k+1}ᵀ(f(z_k) - x_{k+1}) + π_0ᵀ(state - x_0) - Σ (σλ)ᵀ h(z): the part that depends on z."""
    size = net_multipliers.shape[1] - z.shape[1]
    _, x = split(problem, z)
    return (
        objective(problem, z)
        + jnp.sum(costates[1:] * defects(problem, z))
        + jnp.sum(costates[0] * (state - x[0]))
        - jnp.sum(net_multipliers * row_values(problem, z, size))
    )


class ControlBox(NamedTuple):
    """Lower and upper control bounds of all stages."""

    low: Float[Array, "N nu"]
    high: Float[Array, "N nu"]


def control_box(problem: Problem) -> ControlBox:
    """The control bounds of all stages; what no number can keep (NaN, a lower +inf) is taken as no bound."""
    data = row_data(problem, general_size(problem), jnp.result_type(float), pinned=False)
    nu = problem.control_size
    low, high = data.bound[:-1, 0, :nu], -data.bound[:-1, 1, :nu]
    return ControlBox(jnp.where(low < jnp.inf, low, -jnp.inf), jnp.where(high > -jnp.inf, high, jnp.inf))


def _half_square(residual: Array) -> Float[Array, ""]:
    return 0.5 * jnp.sum(jnp.square(residual))
