"""Where a planner starts without a guess."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.planning import transcription
from planahead.planning.arguments import check_kinds, vector
from planahead.planning.plan import Guess
from planahead.problem import Problem, map_stages, scan_stages


def cold_start(problem: Problem, state: Float[Array, "..."]) -> Guess:
    """The trajectory from `state` [nx] under the problem's `control_guess`, moved into the bounds; where it leaves the
    numbers, the state stays where it is.

    **Raises:** what `solve` raises for a problem or a state of the wrong kind or shape.

    >>> import jax.numpy as jnp
    >>> import planahead as pa
    >>> guess = cold_start(pa.make_task("mass-spring-damper").problem, jnp.array([1.0, 0.0]))
    >>> guess.controls.shape, float(abs(guess.controls).max())
    ((20, 1), 0.0)
    """
    check_kinds(problem, None, None)
    state = vector(jnp.asarray(state, float), problem.state_size, "state", "state_size", jnp.result_type(float))
    low, high = transcription.control_box(problem)
    controls = jnp.clip(map_stages(lambda stage: jnp.asarray(stage.control_guess(), low.dtype), problem), low, high)

    def follow(x, stage_problem, u):
        return stage_problem.dynamics(x, u), u

    states, _ = scan_stages(follow, problem, state, controls)
    states = jnp.where(jnp.all(jnp.isfinite(states)), states, jnp.broadcast_to(state, states.shape))
    return Guess(states, controls)
