"""The way along a course past rectangles that leave one gap each: to the middle of the next gap, and on.

Past an obstacle leads the middle of the gap beside it: at first across to it, `WAIT` before the obstacle, and along
once there; in between the point moves with the position, so that the way is continuous but for where an obstacle has
been passed. Obstacles beside one another share a gap. Obstacles that touch neither side of the course are not seen.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

WAIT = 0.12  # m, before an obstacle, until the gap beside it is reached
PASSED = 0.05  # m, behind it, when it counts no more


def way_past(
    obstacles: Float[Array, "n 4"], position: Float[Array, " 2"], goal: Float[Array, " 2"], bottom: float, top: float
) -> Float[Array, " 2"]:
    """The next point to go to from `position` [m] to get to `goal` along x. Rows of `obstacles` are rectangles (low and
    high end along x, low and high end along y); the course is between `bottom` and `top`.

    >>> wall, goal = jnp.array([[1.0, 1.2, 0.0, 0.5]]), jnp.array([3.0, 0.5])
    >>> ways = [way_past(wall, jnp.array([x, 0.75]), goal, 0.0, 1.0).tolist() for x in (0.5, 2.0)]
    >>> [[round(entry, 2) for entry in way] for way in ways]
    [[1.37, 0.75], [3.0, 0.5]]
    """
    if obstacles.shape[0] == 0:
        return goal
    start, end, low, high = obstacles.T
    beside = (start[:, None] <= end[None]) & (start[None] <= end[:, None])  # of one another, along the course
    lower = jnp.max(jnp.where(beside & (low <= bottom)[None], high[None], bottom), axis=1, initial=bottom)
    upper = jnp.min(jnp.where(beside & (high >= top)[None], low[None], top), axis=1, initial=top)
    ahead = position[0] < end + PASSED
    following = jnp.argmin(jnp.where(ahead, start, jnp.inf))
    middle, half = (lower + upper)[following] / 2, (upper - lower)[following] / 2
    there = jnp.clip(2.0 - jnp.abs(position[1] - middle) / (0.4 * half), 0.0, 1.0)
    wait = jnp.maximum(start[following] - WAIT, position[0])
    along = wait + there * (end[following] + PASSED + WAIT - wait)
    return jnp.where(jnp.any(ahead), jnp.stack([along, middle]), goal)
