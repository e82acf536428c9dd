r"""How the cost of the first control bends at a solution: the quadratic model of Q(x, u) around u* = u₀*(x).

    Q(x, u) ≈ V(x) + gᵀ(u - u*) + ½ (u - u*)ᵀ H (u - u*)

    g   the multiplier of u_0 = u at u*: λ_lower - λ_upper of the control's own bounds and -μᵀ ∂g/∂u of hard rows of the
        first stage, neither of which a pinned control obeys; zero inside of them
    H   ∂/∂u of that multiplier in the Gauss-Newton quadratic program around the plan, its active set held:
        R + Bᵀ P B, with P from the Riccati recursion over the stages 1…N and what bounds there hold

The multiplier of a program with u_0 = u is ∂/∂u [ℓ(x, u) + ½‖r(x, u)‖² + π_1ᵀ f(x, u) + μᵀ g(x, u)], and the costates π
and multipliers μ of a plan are differentiable by its pinned control: one solve of the program and one back-solve per
control. H is positive semidefinite, since the costs of the program are squares.

Reference: A. Ghezzi et al., "Imitation learning from nonlinear MPC via the exact Q-loss and its Gauss-Newton
approximation", CDC 2023.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from planahead.planning import transcription
from planahead.planning.plan import Plan
from planahead.planning.solve import solve
from planahead.planning.sqp import SQP
from planahead.planning.taylor import Taylor, check_squares
from planahead.problem import Problem, at_stage


class ActionCurvature(eqx.Module):
    """The quadratic model of Q at a solution, in physical units."""

    gradient: Float[Array, " nu"]
    hessian: Float[Array, "nu nu"]
    valid: Bool[Array, ""]
    """Whether the program had a solution with a derivative; where not, `hessian` is zero."""


def action_curvature(
    problem: Problem, state: Float[Array, " nx"], plan: Plan, *, planner: SQP = SQP()
) -> ActionCurvature:
    """g and H at `plan`, a solution from `state` without a pinned control.

    **Raises:** `ValueError` for scalar costs, which have no Gauss-Newton form.

    >>> import planahead as pa
    >>> problem, state = pa.make_task("mass-spring-damper").problem, jnp.array([0.05, 0.0])
    >>> plan = pa.solve(problem, state)
    >>> bent, best = action_curvature(problem, state, plan), plan.controls[0]
    >>> near = pa.action_value(problem, state, best + 0.1) - pa.value(problem, state)
    >>> bool(abs(0.5 * bent.hessian[0, 0] * 0.1**2 - near) < 0.01 * near)
    True
    """
    check_squares(problem, "a quadratic model of Q", "loss='q', which needs none")
    plan = jax.lax.stop_gradient(plan)
    program = Taylor.of(problem, transcription.join(plan.controls, plan.states))

    def multiplier(control: Float[Array, " nu"]) -> tuple[Float[Array, " nu"], Bool[Array, ""]]:
        pinned = solve(program, state, control, guess=plan, planner=planner)
        return _multiplier(program, state, control, pinned), pinned.gradient_valid

    _, pull_back, valid = jax.vjp(multiplier, plan.controls[0], has_aux=True)
    (hessian,) = jax.vmap(pull_back)(jnp.eye(problem.control_size, dtype=state.dtype))
    return ActionCurvature(_left(problem, state, plan), 0.5 * (hessian + hessian.T), valid)


def _left(problem: Problem, state: Float[Array, " nx"], plan: Plan) -> Float[Array, " nu"]:
    """What the rows that a pinned control need not obey held back."""
    first, bounds, rows = at_stage(problem, 0), plan.multipliers.control_bounds[0], plan.multipliers.constraints[0]
    size = transcription.general_size(problem)
    data = transcription.row_data(problem, size, state.dtype, pinned=False)
    general = slice(problem.control_size + problem.state_size, problem.control_size + problem.state_size + rows.size)
    hard = ~(jnp.isfinite(data.linear[0, general]) & jnp.isfinite(data.quadratic[0, general]))
    _, pull_back = jax.vjp(lambda u: jnp.atleast_1d(first.constraints(state, u)), plan.controls[0])
    return bounds[0] - bounds[1] - pull_back(jnp.where(hard, rows, 0.0))[0]


def _multiplier(
    problem: Problem, state: Float[Array, " nx"], control: Float[Array, " nu"], plan: Plan
) -> Float[Array, " nu"]:
    """∂/∂u of the Lagrangian's part of stage 0: by the envelope theorem, ∂Q/∂u."""
    first, weights = at_stage(problem, 0), transcription.stage_weights(problem, state.dtype)

    def part(control: Float[Array, " nu"]) -> Float[Array, ""]:
        cost = weights[0] * transcription.stage_cost(first, state, control)
        rows = jnp.atleast_1d(first.constraints(state, control))
        moved = first.dynamics(state, control)
        return cost + jnp.sum(plan.multipliers.costates[1] * moved) + jnp.sum(plan.multipliers.constraints[0] * rows)

    return jax.grad(part)(control)
