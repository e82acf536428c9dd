r"""Where a mass on a spring is safe for ever: in the largest set that a linear regulator keeps within the limits.

    s⁺ = A s + B F,     |x|, |v| <= state_limit,     |F| <= F_max          `linear_safety.py`

All constants are the world's: what the planner believes is wrong by default, and a certificate may not be.
"""

from typing import final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.problem import Bounds, Problem, SafetyProblem, euler, linear_safety_problem, static
from planahead.tasks.mass_spring_damper import MassSpringDamper

HORIZON = 10  # steps: 1 s


@final
class WithinLimits(Problem):
    """The world's body, its forces and its limits; nothing is wanted."""

    body: MassSpringDamper = eqx.field(kw_only=True)
    horizon: int = static(1)
    state_size: int = static(2)
    control_size: int = static(1)

    def dynamics(self, x: Float[Array, " 2"], u: Float[Array, " 1"]) -> Float[Array, " 2"]:
        return euler(self.body.ode, x, u, self.body.time_step)

    def control_bounds(self) -> Bounds:
        return Bounds(jnp.asarray(self.body.action_low), jnp.asarray(self.body.action_high))

    def state_bounds(self) -> Bounds:
        limit = jnp.full(2, self.body.state_limit)
        return Bounds(-limit, limit)


def mass_spring_damper_safety(body: MassSpringDamper, horizon: int = HORIZON) -> SafetyProblem:
    """Forces after which position and speed can be kept within their limits for ever."""
    return linear_safety_problem(WithinLimits(body=body), horizon=horizon)
