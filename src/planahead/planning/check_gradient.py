"""Compare the derivatives of a plan with finite differences, on the user's own problem.

For a scalar J of the plan and a direction v in the space of the problem's leaves, the state and the pinned control,

    ⟨∇J, v⟩   against   (J(p + h v) - J(p - h v)) / 2h

The error of the difference is about h² J‴/6 + ε J/h with ε the solver's accuracy, smallest near h = ε^{1/3}. In float32, with ε = 1e-6,
that would drown most derivatives, so the check asks for float64.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from planahead.planning.plan import Plan
from planahead.planning.solve import solve
from planahead.planning.sqp import SQP
from planahead.problem import Problem
from planahead.qp import Status


class GradientCheck(eqx.Module):
    """Directional derivatives of random combinations of the plan's controls, states and cost, side by side."""

    analytic: dict[str, float]
    """By name of the leaf, `state` and `control`: what `jax.grad` says along a random direction."""
    difference: dict[str, float]
    """The same by central differences."""
    step: float

    @property
    def errors(self) -> dict[str, float]:
        """Relative errors, against the larger magnitude of the two (and 1e-6 of the largest derivative of all)."""
        floor = 1e-6 * max([1e-12, *(abs(value) for value in self.difference.values())])
        return {
            name: abs(value - self.difference[name]) / max(abs(value), abs(self.difference[name]), floor)
            for name, value in self.analytic.items()
        }

    @property
    def worst(self) -> float:
        """The largest relative error."""
        return max(self.errors.values())

    def __str__(self) -> str:
        width = max(len(name) for name in self.analytic)
        lines = [f"{'leaf':<{width}}  {'analytic':>14}  {'difference':>14}  relative error"]
        for name, error in self.errors.items():
            lines.append(f"{name:<{width}}  {self.analytic[name]:14.6e}  {self.difference[name]:14.6e}  {error:.1e}")
        return "\n".join(lines)


def check_gradient(
    problem: Problem,
    state: Float[Array, " nx"],
    control: Float[Array, " nu"] | None = None,
    *,
    planner: SQP = SQP(),
    step: float = 1e-5,
    seed: int = 0,
) -> GradientCheck:
    """Compare `jax.grad` through `solve` with central differences, leaf by leaf, along random directions.

    **Arguments:** those of `solve`; `step` is relative to each leaf's magnitude; `seed` draws the directions.

    **Raises:** `ValueError` in float32, where differences say nothing, and where the solve fails (its derivative is set to zero).

    **Returns:** a `GradientCheck`; print it. Expect relative errors below 1e-5. A larger one means that the plan is not differentiable here
    (an active set about to change: try `planner=SQP(tau=1e-3)`), or that the problem's functions are not smooth.
    """
    if jnp.result_type(float) != jnp.float64:
        raise ValueError(
            "check_gradient compares with finite differences, which need float64; call it inside `with jax.enable_x64(True):` "
            "or set JAX_ENABLE_X64=1, and build the problem there."
        )
    plan = solve(problem, state, control, planner=planner)
    if int(plan.status) != Status.SOLVED:
        raise ValueError(f"check_gradient needs a solved problem. {plan.explain()}")
    random = np.random.default_rng(seed)
    weights = [random.normal(size=np.shape(part)) for part in (plan.controls, plan.states, plan.cost)]

    def combination(plan: Plan) -> Float[Array, ""]:
        return sum(
            (jnp.sum(weight * part) for weight, part in zip(weights, (plan.controls, plan.states, plan.cost), strict=True)),
            start=jnp.zeros(()),
        )

    differentiable, rest = eqx.partition(problem, eqx.is_inexact_array)

    @jax.jit
    def objective(inputs: Any) -> Float[Array, ""]:
        leaves, state, control = inputs
        return combination(solve(eqx.combine(leaves, rest), state, control, planner=planner))

    inputs = (differentiable, jnp.asarray(state, float), None if control is None else jnp.asarray(control, float))
    gradient = jax.jit(jax.grad(objective))(inputs)
    paths, structure = jax.tree_util.tree_flatten_with_path(inputs)
    slopes = jax.tree.leaves(gradient)
    analytic, difference = {}, {}
    for index, ((path, leaf), slope) in enumerate(zip(paths, slopes, strict=True)):
        direction = random.normal(size=np.shape(leaf))
        size = step * max(1.0, float(jnp.max(jnp.abs(leaf), initial=0.0)))

        def moved(sign: float, index=index, leaf=leaf, direction=direction, size=size) -> float:
            leaves = [value for _, value in paths]
            leaves[index] = leaf + sign * size * direction
            return float(objective(structure.unflatten(leaves)))

        name = _name(path)
        analytic[name] = float(jnp.sum(slope * direction))
        difference[name] = (moved(1.0) - moved(-1.0)) / (2 * size)
    return GradientCheck(analytic, difference, step)


def _name(path: tuple) -> str:
    """`problem.mass`, `state` or `control` from a path into (problem, state, control)."""
    where = ("problem", "state", "control")[path[0].idx]
    return where + jax.tree_util.keystr(path[1:])
