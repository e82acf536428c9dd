"""A frame of a task without planning: at rest at its start, with a plan that moves evenly."""

import jax
import numpy as np

from planahead.qp import Status
from planahead.tasks import Task
from planahead.viewer import Frame
from planahead.viewer.session import Moment


def still(task: Task, past: int = 3) -> Frame:
    """The frame; its plan's states drift by a hundredth of a unit a step."""
    world = task.environment
    state = world.reset(jax.random.key(1))
    planner_state = np.asarray(task.planner_state(world.observe(state)))
    state, action = jax.tree.map(np.asarray, state), np.full(world.action_size, 0.1)
    drift = 0.01 * np.arange(task.problem.horizon + 1)[:, None]
    return Frame(
        time=past * world.time_step,
        episode=1,
        state=state,
        planner_state=planner_state,
        action=action,
        plan_states=planner_state[None] + drift,
        plan_controls=np.zeros((task.problem.horizon, task.problem.control_size)),
        status=Status.SOLVED,
        iterations=2,
        cost=1.0,
        failed=False,
        corrected=None,
        solve_seconds=0.0021,
        total_reward=0.0,
        success=False,
        violation=False,
        terminated=False,
        truncated=False,
        past=(Moment(state, planner_state, action),) * past,
    )
