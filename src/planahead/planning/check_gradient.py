"""Compare the derivatives of a plan with finite differences, on the user's own problem.

For a scalar J of the plan and a direction v in the space of the problem's leaves, the state and the pinned control,

    ⟨∇J, v⟩   against   (J(p + h v) - J(p - h v)) / 2h

The error of the difference is about h² J‴/6 + ε J/h with ε the solver's accuracy, smallest near h = ε^{1/3}. In
float32, with ε = 1e-6, that would drown most derivatives, so the check asks for float64, and for ε = 1e-10 unless the
planner says otherwise.
"""

import dataclasses
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
    """Directional derivatives of a random combination of the plan's controls, states, cost and multipliers, side by
    side."""

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

    **Arguments:** those of `solve`; `step` is how far a leaf is moved, relative to its magnitude where that is above 1;
    `seed` draws the directions.

    **Raises:** `ValueError` in float32, where differences say nothing; where the solve fails or its plan has no
    derivative (it is set to zero then); and where the problem moved by a step is not solved.

    **Returns:** a `GradientCheck`; print it. Expect relative errors below 1e-5. A larger one means that the plan is not
    differentiable here (an active set about to change: try `planner=SQP(tau=1e-3)`), or that the problem's functions
    are not smooth, or have wrong derivatives of their own.

    >>> import jax, jax.numpy as jnp
    >>> import planahead as pa
    >>> with jax.enable_x64(True):
    ...     check = pa.check_gradient(pa.make_task("mass-spring-damper").problem, jnp.array([1.0, 0.0]))
    >>> round(check.analytic["state"], 4), round(check.difference["state"], 4), check.worst < 1e-5
    (68.0878, 68.0878, True)
    """
    if jnp.result_type(float) != jnp.float64:
        raise ValueError(
            "check_gradient compares with finite differences, which need float64; call it inside `with "
            "jax.enable_x64(True):` or set JAX_ENABLE_X64=1, and build the problem there."
        )
    if planner.tolerance is None:
        planner = dataclasses.replace(planner, tolerance=1e-10)
    differentiable, rest = eqx.partition(problem, eqx.is_inexact_array)
    random = np.random.default_rng(seed)

    def plan_of(inputs: Any) -> Plan:
        leaves, state, control = inputs
        return solve(eqx.combine(leaves, rest), state, control, planner=planner)

    inputs = (differentiable, jnp.asarray(state, float), None if control is None else jnp.asarray(control, float))
    shapes = jax.tree.leaves(_outputs(jax.eval_shape(plan_of, inputs)))
    weights = [random.normal(size=part.shape) for part in shapes]

    @jax.jit
    def objective(inputs: Any) -> tuple[Float[Array, ""], Plan]:
        plan = plan_of(inputs)
        parts = zip(weights, jax.tree.leaves(_outputs(plan)), strict=True)
        return sum((jnp.sum(weight * part) for weight, part in parts), start=jnp.zeros(())), plan

    gradient, plan = jax.jit(jax.grad(objective, has_aux=True))(inputs)
    if int(plan.status) != Status.SOLVED or not bool(plan.gradient_valid):
        raise ValueError(f"check_gradient needs a solved problem whose plan has a derivative. {plan.explain()}")
    paths, structure = jax.tree_util.tree_flatten_with_path(inputs)
    slopes = jax.tree.leaves(gradient)
    analytic, difference = {}, {}
    for index, ((path, leaf), slope) in enumerate(zip(paths, slopes, strict=True)):
        name, finite = _name(path), np.isfinite(leaf)
        direction = np.where(finite, random.normal(size=np.shape(leaf)), 0.0)
        size = step * max(1.0, float(np.max(np.abs(np.where(finite, leaf, 0.0)), initial=0.0)))

        def moved(sign: float, index=index, leaf=leaf, direction=direction, size=size, name=name) -> float:
            leaves = [value for _, value in paths]
            leaves[index] = leaf + sign * size * direction
            value, plan = objective(structure.unflatten(leaves))
            if int(plan.status) != Status.SOLVED:
                raise ValueError(
                    f"check_gradient moved {name} by {sign * size:.1e} along a random direction, and the problem "
                    "there is not solved, so there is no difference to compare with; try a smaller step than "
                    f"{step:g}. {plan.explain()}"
                )
            return float(value)

        analytic[name] = float(jnp.sum(slope * direction))
        difference[name] = (moved(1.0) - moved(-1.0)) / (2 * size)
    return GradientCheck(analytic, difference, step)


def _outputs(plan: Plan) -> Any:
    """What of a plan has a derivative."""
    return plan.controls, plan.states, plan.cost, plan.multipliers


def _name(path: tuple) -> str:
    """`problem.mass`, `state` or `control` from a path into (problem, state, control)."""
    where = ("problem", "state", "control")[path[0].idx]
    return where + jax.tree_util.keystr(path[1:])
