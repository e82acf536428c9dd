r"""What is still to be paid at every stage of a plan, and how that answers to the state there.

    V_N(x_N) = φ(x_N) + p(g_N(x_N))
    V_k(x_k) = c_k + γ V_{k+1}(x_{k+1}),       c_k = ℓ(x_k, u_k) + ½‖r(x_k, u_k)‖² + p(g(x_k, u_k)) + γ p(x_{k+1})
    ∂V_k/∂x_k = γ^-k (π_k + λˡ_k - λᵘ_k)

    symbol    shape  meaning
    p         []     prices of soft limits that are violated; a hard limit has none
    π_k       [nx]   costates, λˡ_k, λᵘ_k the multipliers of the bounds of x_k
    ℓ, r, g, φ, γ    of `problem/problem.py`

V_k leaves out the price of x_k itself, which is paid whatever is done from there on; π_k counts it. The slopes are
those of the optimal cost by the envelope theorem, at a solution; nothing is factorised for them.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.planning import transcription
from planahead.planning.plan import Plan
from planahead.planning.simulated import shortfalls
from planahead.problem import Problem, at_stage, map_stages
from planahead.qp.types import price_of_violations


class CostToGo(eqx.Module):
    """Along a plan, or with a leading axis along several; what comes later is weighed by γ from the stage in question,
    not from stage 0."""

    values: Float[Array, "*batch nodes"]
    """V_k, a cost."""
    slopes: Float[Array, "*batch nodes nx"]
    """∂V_k/∂x_k."""


def cost_to_go(problem: Problem, plan: Plan) -> CostToGo:
    """Of a plan that is a solution of `problem`, up to the tolerance it was solved to.

    >>> import planahead as pa
    >>> problem = pa.make_task("mass-spring-damper").problem
    >>> plan = pa.solve(problem, jnp.array([1.0, 0.0]))
    >>> found = cost_to_go(problem, plan)
    >>> bool(abs(found.values[0] / plan.cost - 1) < 1e-4), found.slopes.shape
    (True, (21, 2))
    """
    steps = step_costs(problem, plan.states, plan.controls, plan.states[1:])
    weights = transcription.stage_weights(problem, steps.dtype)
    last = transcription.terminal_cost(at_stage(problem, -1), plan.states[-1])
    last = last + _prices(problem, transcription.join(plan.controls, plan.states))[1][-1] / weights[-1]
    discount = jnp.asarray(problem.discount, steps.dtype)

    def back(after: Array, step: Array) -> tuple[Array, Array]:
        value = step + discount * after
        return value, value

    values = jax.lax.scan(back, last, steps, reverse=True)[1]
    bounds = plan.multipliers.state_bounds
    slopes = (plan.multipliers.costates + bounds[:, 0] - bounds[:, 1]) / weights[:, None]
    return jax.lax.stop_gradient(CostToGo(jnp.concatenate([values, last[None]]), slopes))


def step_costs(
    problem: Problem,
    states: Float[Array, "nodes nx"],
    controls: Float[Array, "N nu"],
    after: Float[Array, "N nx"],
) -> Float[Array, " N"]:
    """c_k of steps from `states[k]` by `controls[k]` to `after[k]`, which may be anywhere; differentiable."""
    weights = transcription.stage_weights(problem, states.dtype)[:-1]
    of_states = _prices(problem, transcription.join(controls, jnp.concatenate([states[:1], after])))[0][1:]
    of_rows = _prices(problem, transcription.join(controls, states))[1][:-1]
    return map_stages(transcription.stage_cost, problem, states[:-1], controls) + (of_states + of_rows) / weights


def _prices(problem: Problem, z: Float[Array, "nodes nz"]) -> tuple[Float[Array, " nodes"], Float[Array, " nodes"]]:
    """What violations by states and of constraints cost, stage by stage, discounted from stage 0."""
    found = shortfalls(problem, z)
    short = jnp.where(found.hard[:, None], 0.0, found.short)

    def of(first: int, last: int) -> Float[Array, " nodes"]:
        return jax.vmap(
            lambda linear, quadratic, short: price_of_violations(linear[None], quadratic[None], short[None])
        )(found.data.linear[:, first:last], found.data.quadratic[:, first:last], short[:, :, first:last])

    nu, nz, m = problem.control_size, z.shape[1], short.shape[2]
    return of(nu, nz), of(nz, m)
