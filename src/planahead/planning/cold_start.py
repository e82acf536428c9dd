"""Where a planner starts without a guess."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.planning import transcription
from planahead.planning.plan import Guess
from planahead.problem import Problem, scan_stages


def cold_start(problem: Problem, state: Float[Array, " nx"]) -> Guess:
    """The trajectory under the smallest admissible controls; where it leaves the numbers, the state stays where it is.

    >>> import jax.numpy as jnp
    >>> import planahead as pa
    >>> guess = cold_start(pa.make_task("mass-spring-damper").problem, jnp.array([1.0, 0.0]))
    >>> guess.controls.shape, float(abs(guess.controls).max())
    ((20, 1), 0.0)
    """
    bounds = problem_control_bounds(problem)
    controls = jnp.clip(jnp.zeros_like(bounds[0]), *bounds)

    def follow(x, stage_problem, u):
        return stage_problem.dynamics(x, u), u

    states, _ = scan_stages(follow, problem, state, controls)
    states = jnp.where(jnp.all(jnp.isfinite(states)), states, jnp.broadcast_to(state, states.shape))
    return Guess(states, controls)


def problem_control_bounds(problem: Problem) -> tuple[Float[Array, "N nu"], Float[Array, "N nu"]]:
    """Lower and upper control bounds of all stages; what no number can keep (NaN, a lower +inf) is taken as no
    bound."""
    data = transcription.row_data(problem, transcription.general_size(problem), jnp.result_type(float), pinned=False)
    nu = problem.control_size
    lower, upper = data.bound[:-1, 0, :nu], -data.bound[:-1, 1, :nu]
    return jnp.where(lower < jnp.inf, lower, -jnp.inf), jnp.where(upper > -jnp.inf, upper, jnp.inf)
