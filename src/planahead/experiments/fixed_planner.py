"""The planner as it comes: plan with the task's problem from what is observed, apply the first control, forget, repeat.

    a(o) = u₀*(x(o)),    x = `task.planner_state`

This is what every trained policy is compared with.
"""

from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from planahead.planning import SQP, solve
from planahead.policies import Decision, Policy, Setting, flat_settings, plan_failed
from planahead.policies.acting import first_action
from planahead.tasks import Task


@final
class FixedPlanner(Policy):
    """Model predictive control with the problem of `task`, unchanged. Every solve starts cold, as in training."""

    task: Task
    planner: SQP = eqx.field(default_factory=SQP)

    def initial_memory(self) -> None:
        return None

    def settings(self) -> dict[str, Setting]:
        return flat_settings("planner", self.planner)

    def decide(
        self, observation: Float[Array, " observation"], memory: Any = None, key: PRNGKeyArray | None = None
    ) -> Decision:
        del memory, key
        plan = solve(self.task.problem, self.task.planner_state(observation), planner=self.planner)
        return Decision(
            action=first_action(self.task.problem, plan),
            log_probability=jnp.zeros((), plan.controls.dtype),
            plan=plan,
            failed=plan_failed(plan, self.planner),
        )
