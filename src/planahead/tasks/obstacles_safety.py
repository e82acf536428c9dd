r"""Where the puck is safe for ever: slow enough to stand still after one step, in a place free of obstacles.

    κ(x) = -v / T,     p⁺ = p + ½ T v,   v⁺ = 0,     S = { x : |v| <= T (a_max - r_u),  p and p⁺ free }

`free` keeps r_∞ from the table's edge, and r_x + r_y from obstacles, whose distance no error of (r_x, r_y) changes by
more. From there on the plan stands still, and the tube's feedback holds the puck around it: r_∞ and r_u are the largest
errors of position and of feedback that gusts cause, `tube.py`.
"""

from typing import final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from planahead.problem import SafetyProblem, TerminalSet, linear_tube, lqr_gain, no_tube
from planahead.tasks.obstacles import ACCELERATION_LIMIT, CENTRES, TABLE, TIME_STEP, ObstaclesProblem, overlap

HORIZON = 10
"""One second: twice what stops the puck from its speed limit."""
SLOPES = np.tile([1.0, 1.0, 0.0, 0.0, 0.0, 0.0], (len(CENTRES), 1))
"""A distance changes by at most the sum of the errors in x and y."""
A = np.block([[np.eye(2), TIME_STEP * np.eye(2)], [np.zeros((2, 2)), np.eye(2)]])
B = np.concatenate([0.5 * TIME_STEP**2 * np.eye(2), TIME_STEP * np.eye(2)])
GAIN = lqr_gain(A, B, np.diag([1.0, 1.0, 0.1, 0.1]), 0.01 * np.eye(2))
"""Brings errors of position down within half a second, for a tube of 7 cm under gusts of 0.5 m/s²."""


@final
class StandStill(TerminalSet):
    """S."""

    reserve: Float[Array, " 2"]
    """r_∞ of the position, m."""
    force_reserve: Float[Array, " 2"]
    """r_u, m/s²."""

    def values(self, x: Float[Array, " 4"]) -> Float[Array, " 14"]:
        position, speed = x[:2], x[2:] / (TIME_STEP * (ACCELERATION_LIMIT - self.force_reserve))
        end = position + 0.5 * TIME_STEP * x[2:]
        room = jnp.asarray(TABLE) - self.reserve
        touching = [overlap(place) + jnp.sum(self.reserve) for place in (position, end)]
        return jnp.concatenate([*touching, speed - 1.0, -speed - 1.0, end - room, -end - room])

    def control(self, x: Float[Array, " 4"]) -> Float[Array, " 2"]:
        return -x[2:] / TIME_STEP


def obstacles_safety(problem: ObstaclesProblem, gust: float = 0.0, horizon: int = HORIZON) -> SafetyProblem:
    """Accelerations after which the puck can be kept from touching for ever, whatever gusts of at most `gust` m/s² do.

    **Raises:** `ValueError` for gusts that leave no room.
    """
    if gust > 0:
        tube = linear_tube(A, B, GAIN, np.abs(B) @ np.full(2, gust), horizon)
    else:
        tube = no_tube(horizon, 4, 2)
    terminal = StandStill(tube.state_radius.values[-1, :2], tube.control_radius.values[-1])
    return SafetyProblem(problem, terminal, horizon=horizon, tube=tube, slopes=jnp.asarray(SLOPES))
