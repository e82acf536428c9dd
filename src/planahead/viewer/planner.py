"""What plans where no trained policy does: the task's planning problem, solved anew in every step from the last plan.

    a(o) = u₀*(x(o), problem'),     problem' = `task.expert(o)` or `task.problem`, as the sliders have it

The expert is the default: with the problem as it comes most tasks fail, since what is missing is for a policy to learn.
"""

from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from planahead.planning import SQP, solve
from planahead.policies import Decision, Policy, Setting, flat_settings, plan_failed
from planahead.policies.acting import first_action
from planahead.policies.failure import CONTENT
from planahead.policies.steering import Remembered
from planahead.problem import Problem
from planahead.tasks import Task
from planahead.viewer.sliders import Turned, turned


@final
class LivePlanner(Policy):
    """Model predictive control with warm starts; after a failed solve the next one starts cold.

    >>> import planahead as pa
    >>> planner = LivePlanner(pa.make_task("cartpole"))
    >>> decision = planner.decide(jnp.array([0.0, 0.2, 0.0, 0.0]), planner.initial_memory())
    >>> bool(decision.failed), decision.plan.controls.shape
    (False, (20, 1))
    """

    task: Task
    planner: SQP = eqx.field(default_factory=lambda: SQP(iterations=30, gradient_tolerance=CONTENT))
    changes: tuple[Turned, ...] = ()
    """Of the problem, by sliders."""
    knows_the_way: bool = eqx.field(static=True, default=True)
    """Whether it plans with `task.expert`."""

    def problem(self, observation: Float[Array, " observation"]) -> Problem:
        """What is planned at `observation`."""
        problem = self.task.expert(observation) if self.knows_the_way else self.task.problem
        return turned(problem, self.changes)

    def initial_memory(self) -> Remembered:
        observation = jnp.zeros(self.task.environment.observation_size)
        return Remembered.nothing(eqx.filter_eval_shape(self.problem, observation))

    def settings(self) -> dict[str, Setting]:
        return {"knows_the_way": self.knows_the_way, **flat_settings("planner", self.planner)}

    def decide(
        self, observation: Float[Array, " observation"], memory: Any = None, key: PRNGKeyArray | None = None
    ) -> Decision:
        del key
        known: Remembered = self.initial_memory() if memory is None else memory
        problem, state = self.problem(observation), self.task.planner_state(observation)
        plan = solve(problem, state, guess=known.start(problem, state), planner=self.planner)
        failed = plan_failed(plan, self.planner)
        return Decision(
            action=self.task.action_box.clip(first_action(problem, plan)),
            log_probability=jnp.zeros((), plan.controls.dtype),
            plan=plan,
            memory=Remembered(plan.shift(), ~failed),
            failed=failed,
            gradient_valid=plan.gradient_valid,
        )
