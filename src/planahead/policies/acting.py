"""What is done of a plan: its first control, as the problem's `action` translates it for the plant."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.planning import Plan
from planahead.problem import Problem, at_stage, map_stages


def first_action(problem: Problem, plan: Plan) -> Float[Array, " action"]:
    """The action that one plan of `problem` asks for; not clipped to the plant's bounds.

    >>> import planahead as pa
    >>> task = pa.make_task("cartpole")
    >>> plan = pa.solve(task.problem, jnp.array([0.0, 0.1, 0.0, 0.0]))
    >>> bool((first_action(task.problem, plan) == plan.controls[0]).all())
    True
    """
    return at_stage(problem, 0).action(plan.states[0], plan.controls[0])


def planned_actions(
    problem: Problem, states: Float[Array, "nodes nx"], controls: Float[Array, "N nu"]
) -> Float[Array, "N action"]:
    """The actions of all stages of one plan."""
    return map_stages(lambda stage, x, u: stage.action(x, u), problem, states[:-1], controls)


def action_size(problem: Problem) -> int:
    """How many numbers an action has that a plan of `problem` asks for."""
    sizes = jnp.zeros(problem.state_size), jnp.zeros(problem.control_size)
    # The problem itself may be shapes alone, of which no stage can be taken outside.
    return eqx.filter_eval_shape(lambda problem, x, u: at_stage(problem, 0).action(x, u), problem, *sizes).size
