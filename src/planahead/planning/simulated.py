r"""What controls come to under a problem's own model: a trajectory without defects, and all that it costs.

    x_0 = state,    x_{k+1} = f(x_k, u_k),    J = λ(x_0) + φ(x, u) + prices of the soft rows that are violated

A plan of few iterations is judged by this and not by its own cost, which a trajectory with gaps may undercut.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from planahead.planning import transcription
from planahead.planning.plan import Guess
from planahead.problem import Problem, scan_stages
from planahead.qp.types import price_of_violations


class Simulated(eqx.Module):
    """A trajectory, and what it costs."""

    trajectory: Guess
    cost: Float[Array, ""]
    """J, prices of soft constraints included; infinite where the trajectory leaves the numbers."""
    violation: Float[Array, ""]
    """The largest violation of a hard constraint, in its own unit."""


def simulated(problem: Problem, state: Float[Array, " nx"], controls: Float[Array, "N nu"]) -> Simulated:
    """Follow `controls` from `state`; they are taken as they are, inside their bounds or not.

    >>> import planahead as pa
    >>> problem, state = pa.make_task("mass-spring-damper").problem, jnp.array([1.0, 0.0])
    >>> plan = pa.solve(problem, state)
    >>> followed = simulated(problem, state, plan.controls)
    >>> bool(abs(followed.cost / plan.cost - 1) < 1e-3), float(followed.violation)
    (True, 0.0)
    """

    def follow(x: Array, stage_problem: Problem, u: Array) -> tuple[Array, Array]:
        return stage_problem.dynamics(x, u), u

    states, _ = scan_stages(follow, problem, state, controls)
    return judged(problem, Guess(states, controls))


class Shortfalls(NamedTuple):
    """By how much a trajectory falls short of its limits."""

    data: transcription.RowData
    short: Float[Array, "nodes 2 m"]
    """Of the lower and the upper side of every row, not negative."""
    hard: Bool[Array, "nodes m"]
    """Which rows have no price."""


def shortfalls(problem: Problem, z: Float[Array, "nodes nz"]) -> Shortfalls:
    """Of z as in `transcription.py`; differentiable."""
    size = transcription.general_size(problem)
    data = transcription.row_data(problem, size, z.dtype, pinned=False)
    values = transcription.row_values(problem, z, size)
    short = jnp.maximum(data.bound - jnp.stack([values, -values], 1), 0.0)
    return Shortfalls(data, short, ~(jnp.isfinite(data.linear) & jnp.isfinite(data.quadratic)))


def judged(problem: Problem, trajectory: Guess) -> Simulated:
    """What a trajectory that follows the model costs."""
    z = transcription.join(trajectory.controls, trajectory.states)
    data, short, hard = shortfalls(problem, z)
    cost = (
        transcription.initial_cost(problem, trajectory.states[0])
        + transcription.objective(problem, z)
        + price_of_violations(data.linear, data.quadratic, jnp.where(hard[:, None], 0.0, short))
    )
    violation = jnp.max(jnp.where(hard[:, None], short, 0.0), initial=0.0)
    numbers = jnp.isfinite(cost) & jnp.isfinite(violation) & jnp.all(jnp.isfinite(trajectory.states))
    return jax.lax.stop_gradient(
        Simulated(trajectory, jnp.where(numbers, cost, jnp.inf), jnp.where(numbers, violation, jnp.inf))
    )
