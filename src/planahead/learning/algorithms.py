"""A policy and the learner that trains it, for a task, from the name of an algorithm and its settings."""

import dataclasses
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from planahead.learning.cacto import Cacto
from planahead.learning.expert import expert_horizon
from planahead.learning.guided_policy_search import GuidedPolicySearch
from planahead.learning.imitation import Imitation
from planahead.learning.learner import Learner
from planahead.learning.off_policy import OffPolicy
from planahead.learning.planner_learner import PlannerLearner
from planahead.learning.policy_settings import PolicySettings, entries_seen
from planahead.learning.ppo import PPO
from planahead.learning.presets import PRESETS, Preset, algorithm_names
from planahead.learning.settings import check_settings
from planahead.planning import SQP
from planahead.policies import (
    DirectPolicy,
    FilteredStochasticPolicy,
    GaussianPolicy,
    Guard,
    PlannerPolicy,
    Policy,
    SafetyFilter,
    Steering,
    TimedPolicy,
    TunedPlanner,
)
from planahead.policies.failure import CONTENT
from planahead.problem import Problem, at_stage, overrides
from planahead.tasks import Task

SHORT = 8
"""Controls of a whole plan up to which they are all that is sought (single shooting). For the racing quadrotor, four
controls a step and one iteration, a gradient step takes 55 µs a row instead of 78 with a horizon of two, and more with
one of five."""


class Algorithm(NamedTuple):
    """What a preset makes for a task."""

    policy: Policy
    """Untrained."""
    learner: Learner[Any]


def make_algorithm(name: str, task: Task[Any, Any], key: PRNGKeyArray, **settings: Any) -> Algorithm:
    """An untrained policy for `task` and the learner that trains it.

    **Arguments:**

    - `name`: one of `algorithm_names()`.
    - `settings`: fields of `PolicySettings`, e.g. `warm_start=True`, and of the algorithm's learner, e.g.
      `batch_size=256`. `planahead list NAME` explains those of an algorithm.

    **Raises:** `ValueError` for an unknown name or setting (the message lists the known ones), and for settings that do
    not fit.

    >>> import jax, planahead as pa
    >>> policy, learner = make_algorithm("sac-zop", pa.make_task("cartpole"), jax.random.key(0), batch_size=64)
    >>> type(policy).__name__, policy.space.names, learner.critic, learner.batch_size
    ('PlannerPolicy', ('angle_reference',), 'parameters', 64)
    """
    if name not in PRESETS:
        raise ValueError(f"there is no algorithm '{name}'; the known ones are: {', '.join(algorithm_names())}")
    check_settings(name, settings)
    preset, of_policies = PRESETS[name], {field.name for field in dataclasses.fields(PolicySettings)}
    of_policy = PolicySettings(**{setting: value for setting, value in settings.items() if setting in of_policies})
    rest = {setting: value for setting, value in settings.items() if setting not in of_policies}
    learner = _learner(preset, of_policy, rest)
    if isinstance(learner, OffPolicy):
        learner.check_task(task)
    guard = None if of_policy.filter == "none" else _guard(name, task, of_policy)
    return Algorithm(learner.check(_policy(preset, learner, task, of_policy, guard, key)), learner)


def _learner(preset: Preset, of_policy: PolicySettings, settings: dict[str, Any]) -> Any:
    """With critics of the same size as the policy, where it has some."""
    fields = {field.name for field in dataclasses.fields(preset.learner)}
    sizes = {name: getattr(of_policy, name) for name in ("hidden_layers", "hidden_units") if name in fields}
    critic = {} if preset.critic is None else {"critic": preset.critic}
    return preset.learner(**{**sizes, **critic, **preset.switches, **settings})


def _policy(
    preset: Preset,
    learner: Learner[Any],
    task: Task,
    settings: PolicySettings,
    guard: Guard | None,
    key: PRNGKeyArray,
) -> Policy:
    """Of the kind that the learner trains."""
    problem, start, scale = task.problem, task.planner_state, task.environment.observation_scale
    box, hidden = task.action_box, settings.hidden
    sees = entries_seen(task.environment.observation_names, settings.sees)
    planning: dict[str, Any] = {
        "names": task.learned_parameters if settings.steers else (),
        "scale": settings.parameter_scale,
        "planner": _planner(preset, problem, settings),
        "warm_start": settings.warm_start,
    }
    if isinstance(learner, PlannerLearner):
        planning["names"] = learner.trained(task)
        return TunedPlanner(learner.planned(task, key), start, box, **planning)
    if isinstance(learner, Cacto):
        return TimedPolicy(scale, box, horizon=learner.problem(task).horizon, hidden=hidden, sees=sees, key=key)
    planning["correction"] = settings.correction
    if isinstance(learner, PPO | GuidedPolicySearch):
        return GaussianPolicy(
            scale,
            box,
            steering=Steering(problem, start, box, **planning) if preset.plans else None,
            guard=guard,
            noise=preset.noise,
            residual=settings.residual,
            sees=sees,
            start=None if preset.plans else box.to_unit(box.clip(_resting(problem))),
            hidden=hidden,
            key=key,
        )
    if preset.plans:
        network = {"noise": preset.noise, "residual": settings.residual, "sees": sees, "hidden": hidden, "key": key}
        policy = PlannerPolicy(problem, start, scale, box, **network, **planning)
    else:
        whole_plans = isinstance(learner, Imitation) and learner.loss == "trajectory"
        horizon = expert_horizon(task) if whole_plans else 1
        policy = DirectPolicy(scale, box, hidden=hidden, horizon=horizon, sees=sees, key=key)
    return policy if guard is None else FilteredStochasticPolicy(policy, guard)


def _guard(name: str, task: Task, settings: PolicySettings) -> Guard:
    """The task's safety filter. **Raises** `ValueError` where it has none, or what is asked for has no meaning."""
    awareness = settings.filter
    assert awareness != "none"
    if PRESETS[name].critic != "action" and awareness in ("stored", "differentiated"):
        raise ValueError(
            f"filter='{awareness}' is about the actions that a critic judges, and that of {name} judges none; use "
            "filter='unaware' or filter='penalised'"
        )
    problem = task.safety_problem()
    if problem is None:
        raise ValueError(
            f"task '{task.name}' knows no safe set to end in, so it has no safety filter; use filter='none', or give "
            "its class a safety_problem()"
        )
    return Guard(SafetyFilter(problem), task.planner_state, task.action_box, awareness, settings.filter_price)


def _resting(problem: Problem) -> Float[Array, " action"]:
    """The action that the problem's `control_guess` stands for."""
    first = at_stage(problem, 0)
    return first.action(jnp.zeros(problem.state_size), first.control_guess())


def _planner(preset: Preset, problem: Problem, settings: PolicySettings) -> SQP:
    """What solves a policy's plans; a single iteration of PPO's is a full step."""
    iterations = settings.planner_iterations or preset.planner_iterations
    tau, arithmetic = settings.planner_tau, settings.planner_arithmetic
    if iterations > 1 or preset.learner is not PPO:
        return SQP(iterations=iterations, tau=tau, gradient_tolerance=CONTENT, arithmetic=arithmetic)
    squares = not (overrides(problem, "stage_cost") or overrides(problem, "terminal_cost"))
    short = problem.horizon * problem.control_size <= SHORT
    return SQP.real_time(
        tau=tau,
        arithmetic=arithmetic,
        derivative="step" if squares else "solution",
        gradient_tolerance=jnp.inf if squares else CONTENT,
        shooting="single" if short else "multiple",
    )
