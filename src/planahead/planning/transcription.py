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

from planahead.problem import BoundRows, Bounds, Problem, Slack, at_stage, map_stages


class RowData(eqx.Module):
    """Bounds and prices of all rows, or of those of one stage. `linear = quadratic = inf` in hard rows."""

    bound: Float[Array, "..."]
    """`[nodes, 2, m, *B]`, of one stage `[2, m]`."""
    linear: Float[Array, "..."]
    """`[nodes, m, *B]` or `[m]`, as `quadratic`."""
    quadratic: Float[Array, "..."]


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


def stage_rows(problem: Problem, z: Float[Array, " nz"], size: int) -> Float[Array, " size"]:
    """`constraints` at a stage k < N, filled up to `size`; `problem` is the problem there."""
    if size == 0:
        return jnp.zeros(0, z.dtype)
    return pad(jnp.atleast_1d(problem.constraints(z[problem.control_size :], z[: problem.control_size])), size)


def terminal_rows(problem: Problem, x: Float[Array, " nx"], size: int) -> Float[Array, " size"]:
    """`terminal_constraints`, filled up to `size`; `problem` is the problem at stage N."""
    return pad(jnp.atleast_1d(problem.terminal_constraints(x)), size) if size else jnp.zeros(0, x.dtype)


def general_rows(problem: Problem, z: Float[Array, "nodes nz"], size: int) -> Float[Array, "nodes ng"]:
    """`constraints` and `terminal_constraints`."""
    if size == 0:
        return jnp.zeros((z.shape[0], 0), z.dtype)
    stages = map_stages(lambda stage, z: stage_rows(stage, z, size), problem, z[:-1])
    return jnp.concatenate([stages, terminal_rows(at_stage(problem, -1), z[-1, problem.control_size :], size)[None]])


def row_values(problem: Problem, z: Float[Array, "nodes nz"], size: int) -> Float[Array, "nodes m"]:
    """h(z)."""
    return jnp.concatenate([z, general_rows(problem, z, size)], 1)


def row_data(problem: Problem, size: int, dtype, *, pinned: bool) -> RowData:
    """Bounds and prices at all stages, from the problem's methods; prices are discounted like the cost."""
    nu = problem.control_size
    weights = stage_weights(problem, dtype)
    stages = map_stages(lambda stage, weight: stage_row_data(stage, weight, size), problem, weights[:-1])
    last = terminal_row_data(at_stage(problem, -1), weights[-1], size)
    data = jax.tree.map(lambda inner, end: jnp.concatenate([inner, end[None]]), stages, last)
    first, column = (jnp.arange(problem.horizon + 1) == 0)[:, None], jnp.arange(data.linear.shape[1])[None]
    given = first & (column >= nu) & (column < nu + problem.state_size)  # x_0 is what it is
    bound = jnp.where(given[:, None], -jnp.inf, data.bound)
    linear, quadratic = (jnp.where(given, jnp.inf, price) for price in (data.linear, data.quadratic))
    if pinned:
        hard = ~(jnp.isfinite(linear) & jnp.isfinite(quadratic))
        bound = jnp.where((first & (hard | (column < nu)))[:, None], -jnp.inf, bound)
    return RowData(bound, linear, quadratic)


def stage_row_data(problem: Problem, weight: Float[Array, ""], size: int) -> RowData:
    """Of a stage k < N, with `size` general rows; `problem` is the problem at that stage."""
    name = type(problem).__name__
    rows = (
        problem.control_bounds().rows(problem.control_size, f"{name}.control_bounds"),
        problem.state_bounds().rows(problem.state_size, f"{name}.state_bounds"),
        _general_bounds(problem.constraint_slack(), constraint_sizes(problem)[0], f"{name}.constraint_slack"),
    )
    return _row_data(rows, weight, size)


def terminal_row_data(problem: Problem, weight: Float[Array, ""], size: int) -> RowData:
    """Of stage N, whose dummy control has no bounds; `problem` is the problem there."""
    name = type(problem).__name__
    rows = (
        Bounds().rows(problem.control_size, name),
        problem.terminal_bounds().rows(problem.state_size, f"{name}.terminal_bounds"),
        _general_bounds(
            problem.terminal_constraint_slack(), constraint_sizes(problem)[1], f"{name}.terminal_constraint_slack"
        ),
    )
    return _row_data(rows, weight, size)


def _general_bounds(slack: Slack | None, size: int, what: str) -> BoundRows:
    return Bounds(upper=0.0, slack=slack).rows(size, what)


def _row_data(rows: tuple[BoundRows, ...], weight: Float[Array, ""], size: int) -> RowData:
    """Of one stage, its general rows, the last ones, filled up to `size`."""
    *boxes, general = rows

    def gathered(field: str, absent: float) -> Array:
        values = [getattr(box, field) for box in boxes]
        return jnp.concatenate([*values, pad(getattr(general, field), size, absent)]).astype(weight.dtype)

    def price(field: str) -> Array:
        values = gathered(field, jnp.inf)
        finite = jnp.isfinite(values)
        return jnp.where(finite, jnp.where(finite, values, 0.0) * weight, values)

    bound = jnp.stack([gathered("lower", -jnp.inf), -gathered("upper", jnp.inf)])
    return RowData(bound, price("linear"), price("quadratic"))


def stage_lagrangian(
    problem: Problem,
    weight: Float[Array, ""],
    z: Float[Array, " nz"],
    costate: Float[Array, " nx"],
    net_multiplier: Float[Array, " ng"],
) -> Float[Array, ""]:
    """γ^k ℓ + π_{k+1}ᵀ f - (σλ)ᵀ h of a stage k < N, h its general rows: what of L is not linear in z_k. `problem` is
    the problem at that stage."""
    u, x = z[: problem.control_size], z[problem.control_size :]
    value = weight * stage_cost(problem, x, u) + costate @ problem.dynamics(x, u)
    return value - net_multiplier @ stage_rows(problem, z, net_multiplier.shape[0])


def terminal_lagrangian(
    problem: Problem, weight: Float[Array, ""], x: Float[Array, " nx"], net_multiplier: Float[Array, " ng"]
) -> Float[Array, ""]:
    """The same of stage N."""
    rows = terminal_rows(problem, x, net_multiplier.shape[0])
    return weight * terminal_cost(problem, x) - net_multiplier @ rows


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
