r"""A planner as a teacher: what it does at an observation, how that answers to the observation, and whether it is sure.

    u*(o) = u₀*(x(o), problem(o)),      z* = unit u*,      J = ∂z*/∂o

`problem(o)` is `Task.expert`. J costs one back-solve per action with the factorisation of one plan. A plan that failed
is no label: its lane says so, and whoever learns leaves it out.
"""

from typing import Any, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from planahead.planning import SQP, Plan, solve
from planahead.policies import ActionBox, Decision, Policy, Setting, flat_settings, plan_failed
from planahead.policies.acting import action_size, first_action
from planahead.policies.failure import CONTENT
from planahead.problem import Problem
from planahead.tasks import Task


class Answer(eqx.Module):
    """What the expert says about one observation."""

    unit: Float[Array, " action"]
    """z*, in unit coordinates."""
    usable: Bool[Array, ""]
    """Whether the solve did not fail."""
    plan: Plan
    jacobian: Float[Array, "action observation"] | None = None
    """J, zero where the plan has no valid gradient; `None` where it was not asked for."""


@final
class Expert(Policy):
    """Model predictive control with the problem of `task.expert`. Every solve starts cold, so that a label is a
    function of the observation.

    >>> import planahead as pa
    >>> expert, hanging = Expert(pa.make_task("cartpole")), jnp.array([0.0, 3.14, 0.0, 0.0])
    >>> answer = expert.answer(hanging, sensitive=True)
    >>> bool(answer.usable), answer.jacobian.shape
    (True, (1, 4))
    """

    task: Task
    planner: SQP = eqx.field(default_factory=lambda: SQP(iterations=30, gradient_tolerance=CONTENT))

    @classmethod
    def of(cls, task: Task, iterations: int) -> "Expert":
        """As learners ask: with at most as many SQP iterations per plan, and the native kernel's float32."""
        return cls(task, SQP(iterations=iterations, gradient_tolerance=CONTENT, arithmetic="float32"))

    @property
    def box(self) -> ActionBox:
        """The actions."""
        return self.task.action_box

    def initial_memory(self) -> None:
        return None

    def settings(self) -> dict[str, Setting]:
        return flat_settings("planner", self.planner)

    def plan(self, observation: Float[Array, " observation"]) -> Plan:
        """The plan at one observation."""
        return solve(self.task.expert(observation), self.task.planner_state(observation), planner=self.planner)

    def decide(
        self, observation: Float[Array, " observation"], memory: Any = None, key: PRNGKeyArray | None = None
    ) -> Decision:
        del memory, key
        answer = self.answer(observation)
        return Decision(
            action=self.box.from_unit(answer.unit),
            log_probability=jnp.zeros((), answer.unit.dtype),
            plan=answer.plan,
            failed=~answer.usable,
            gradient_valid=answer.plan.gradient_valid,
        )

    def answer(self, observation: Float[Array, " observation"], *, sensitive: bool = False) -> Answer:
        """What to do at one observation, with J where `sensitive`."""

        def act(observation: Float[Array, " observation"]) -> tuple[Float[Array, " action"], Plan]:
            plan = self.plan(observation)
            action = first_action(self.task.expert(observation), plan)
            return self.box.to_unit(self.box.clip(action)), plan

        if not sensitive:
            unit, plan = act(observation)
            return Answer(unit, ~plan_failed(plan, self.planner), plan)
        unit, pull_back, plan = jax.vjp(act, observation, has_aux=True)
        (jacobian,) = jax.vmap(pull_back)(jnp.eye(unit.size, dtype=unit.dtype))
        return Answer(unit, ~plan_failed(plan, self.planner), plan, jacobian)


def expert_horizon(task: Task) -> int:
    """How many controls a plan of the task's expert has."""
    return _problem_of(task).horizon


def check_actions(expert: Expert, box: ActionBox, *, as_controls: bool = False) -> None:
    """**Raises** `ValueError` where what is planned is no action of `box`; `as_controls`, where a student's action is
    to be judged as a planned control, also where it is none."""
    problem = _problem_of(expert.task)
    name = type(problem).__name__
    if as_controls and not problem.plans_actions:
        raise ValueError(
            f"a student's action is judged as a planned control, and {name} plans in other terms than its plant is "
            "commanded in (`action`); use loss='action', or let `Task.expert` give a problem that plans in actions"
        )
    if (size := action_size(problem)) != box.size:
        raise ValueError(
            f"imitation makes the planned action the policy's; a plan of {name} stands for {size} actions and the "
            f"policy takes {box.size}"
        )


def _problem_of(task: Task) -> Problem:
    """As to its class and sizes."""
    world = task.environment
    return eqx.filter_eval_shape(lambda key: task.expert(world.observe(world.reset(key))), jax.random.key(0))
