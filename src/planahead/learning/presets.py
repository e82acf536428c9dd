"""The named algorithms: each is a choice of switches, not a copy.

name      learner   critic judges   noise enters at   planner
sac       SAC       action          action            no
sac-zop   SAC       parameters      parameters        yes
sac-fop   SAC       action          parameters        yes
sac-foa   SAC       action          action            yes
td3       TD3       action          action            no
td3-zop   TD3       parameters      parameters        yes
td3-fop   TD3       action          parameters        yes
ac-mlp    PPO       observation     action            no
ac-mpc    PPO       observation     action            yes
ppo-zop   PPO       observation     parameters        yes

The others' critics see the observation as well.
"""

import dataclasses
import functools
import inspect
import math
import typing
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from planahead.learning.learner import Learner
from planahead.learning.off_policy import OffPolicy
from planahead.learning.ppo import PPO
from planahead.learning.sac import SAC
from planahead.learning.soft_losses import CriticPlace
from planahead.learning.td3 import TD3
from planahead.planning import SQP
from planahead.policies import (
    HIDDEN,
    ActionBox,
    Awareness,
    DirectPolicy,
    FilteredStochasticPolicy,
    GaussianPolicy,
    Guard,
    NoisePlace,
    PlannerPolicy,
    Policy,
    SafetyFilter,
    Steering,
    StochasticPolicy,
)
from planahead.problem import Problem, at_stage, overrides
from planahead.qp.interior_point import Arithmetic
from planahead.tasks import Task

CONTENT = 1e-2
"""The residual up to which a plan that ran out of iterations is used: a plan has not failed and has a derivative up to
here. The residual is relative, so an action is then wrong by less than about a hundredth of the terms that it
balances."""


SHORT = 8
"""Controls of a whole plan up to which they are all that is sought (single shooting). For the racing quadrotor, four
controls a step and one iteration, a gradient step takes 55 µs a row instead of 78 with a horizon of two, and more with
one of five."""


@dataclasses.dataclass(frozen=True)
class Preset:
    """The switches of one algorithm."""

    critic: CriticPlace | None
    """`None` where the critic judges observations alone."""
    noise: NoisePlace
    plans: bool
    summary: str
    learner: type[OffPolicy[Any]] | type[PPO] = SAC
    planner_iterations: int = 10
    """See `make_algorithm`."""


PRESETS = {
    "sac": Preset("action", "action", False, "a network acts by itself"),
    "sac-zop": Preset(
        "parameters",
        "parameters",
        True,
        "a network steers a planner; zeroth order: no derivative of the plan is needed",
    ),
    "sac-fop": Preset(
        "action", "parameters", True, "a network steers a planner; first order, exploring in the planner's parameters"
    ),
    "sac-foa": Preset("action", "action", True, "a network steers a planner; first order, exploring in the action"),
    "td3": Preset("action", "action", False, "the deterministic policy gradient: a network acts by itself", TD3),
    "td3-zop": Preset(
        "parameters",
        "parameters",
        True,
        "the deterministic policy gradient: a network steers a planner, zeroth order",
        TD3,
    ),
    "td3-fop": Preset(
        "action", "parameters", True, "the deterministic policy gradient: a network steers a planner, first order", TD3
    ),
    "ac-mlp": Preset(None, "action", False, "proximal policy optimisation: a network acts by itself", PPO),
    "ac-mpc": Preset(
        None,
        "action",
        True,
        "proximal policy optimisation through a planner: a network writes its cost, exploring in the action",
        PPO,
        planner_iterations=1,
    ),
    "ppo-zop": Preset(
        None,
        "parameters",
        True,
        "proximal policy optimisation with the planner as part of the world: a network writes its parameters",
        PPO,
        planner_iterations=1,
    ),
}


class Algorithm(NamedTuple):
    """What a preset makes for a task."""

    policy: Policy
    """Untrained."""
    learner: Learner[Any]


PLANNING = {"sac": "sac-zop", "td3": "td3-zop", "ac-mlp": "ac-mpc"}
"""What to use instead of an algorithm without a planner."""


def algorithm_names() -> tuple[str, ...]:
    """The names that `make_algorithm` knows, sorted.

    >>> algorithm_names()
    ('ac-mlp', 'ac-mpc', 'ppo-zop', 'sac', 'sac-foa', 'sac-fop', 'sac-zop', 'td3', 'td3-fop', 'td3-zop')
    """
    return tuple(sorted(PRESETS))


def make_algorithm(
    name: str,
    task: Task[Any, Any],
    key: PRNGKeyArray,
    *,
    residual: bool = False,
    warm_start: bool = False,
    planner_iterations: int | None = None,
    planner_tau: float | None = None,
    planner_arithmetic: Arithmetic = "float32",
    hidden_layers: int = len(HIDDEN),
    hidden_units: int = HIDDEN[0],
    filter: Literal["none", Awareness] = "none",
    filter_price: float = 1.0,
    **settings: Any,
) -> Algorithm:
    """An untrained policy for `task` and the learner that trains it.

    **Arguments:**

    - `name`: one of `algorithm_names()`.
    - `residual`: of a policy that plans: the network's output is an offset from the problem's own parameters, so that
      an untrained policy plans with these; otherwise it starts in the middle of their box.
    - `warm_start`: of a policy that plans: a solve starts from the previous plan of the episode, shifted by one step.
    - `planner_iterations`: at most as many SQP iterations per plan, so that a step of many environments does not wait
      for the slowest lane. Algorithms with PPO take one, a real-time iteration; its derivative is its own, exactly,
      where all costs are residuals, and otherwise that of a solution, kept where it is nearly one. The others take ten:
      from random states of the cart-pole and a cold start, 4 % of the plans reach the limit of ten, 0.9 % fail (five:
      30 % and 3 %), and 99 % of the rest begin with a control within 0.12 N of the converged one, of ±80.
    - `planner_tau`: smooths the plan across active-set changes, see `SQP`.
    - `planner_arithmetic`: what the native kernel solves in. Of 256 plans of the wind maze all are solved in either;
      "float32" takes two thirds of the time, and their first derivatives differ by a thousandth at most.
    - `hidden_layers`, `hidden_units`: of the networks of policy and critics.
    - `filter`: puts the task's safety filter behind the policy, and says what learning knows of it, see
      `policies/filtered.py`. It acts in training and ever after.
    - `filter_price`: reward per step that a correction by half the action box costs where it is "penalised".
    - `settings`: fields of the learner, `SAC`, `TD3` or `PPO`, e.g. `batch_size=256`.

    **Raises:** `ValueError` for an unknown name or setting (the message lists the known ones), and for settings that do
    not fit.

    >>> import jax, planahead as pa
    >>> policy, learner = make_algorithm("sac-zop", pa.make_task("cartpole"), jax.random.key(0), batch_size=64)
    >>> type(policy).__name__, policy.space.names, learner.critic, learner.batch_size
    ('PlannerPolicy', ('angle_reference',), 'parameters', 64)
    """
    if name not in PRESETS:
        raise ValueError(f"there is no algorithm '{name}'; the known ones are: {', '.join(algorithm_names())}")
    preset = PRESETS[name]
    planning = {
        "residual": residual,
        "warm_start": warm_start,
        "planner_iterations": planner_iterations,
        "planner_tau": planner_tau,
        "planner_arithmetic": planner_arithmetic,
    }
    networks = {"hidden_layers": hidden_layers, "hidden_units": hidden_units}
    # What is left at its default need not be known to an algorithm without a planner.
    changed = {setting: value for setting, value in planning.items() if value != _settings(SAC)[setting].default}
    check_settings(name, {**changed, **networks, "filter": filter, "filter_price": filter_price, **settings})
    if preset.critic is not None:
        settings["critic"] = preset.critic
    learner = preset.learner(hidden_layers=hidden_layers, hidden_units=hidden_units, **settings)
    environment, hidden = task.environment, (hidden_units,) * hidden_layers
    box = ActionBox(environment.action_low, environment.action_high)
    planner = _planner(
        task.problem,
        preset.planner_iterations if planner_iterations is None else planner_iterations,
        planner_tau,
        planner_arithmetic,
        real_time=preset.learner is PPO,
    )
    guard = None if filter == "none" else _guard(name, preset, task, box, filter, filter_price)
    scale, names = environment.observation_scale, task.learned_parameters
    if preset.learner is PPO:
        steering = None
        if preset.plans:
            steering = Steering(
                task.problem, task.planner_state, box, names=names, planner=planner, warm_start=warm_start
            )
        policy = GaussianPolicy(
            scale,
            box,
            steering=steering,
            guard=guard,
            noise=preset.noise,
            residual=residual,
            start=None if preset.plans else box.to_unit(box.clip(at_stage(task.problem, 0).control_guess())),
            hidden=hidden,
            key=key,
        )
    elif preset.plans:
        policy = PlannerPolicy(
            task.problem,
            task.planner_state,
            scale,
            box,
            names=names,
            planner=planner,
            noise=preset.noise,
            residual=residual,
            warm_start=warm_start,
            hidden=hidden,
            key=key,
        )
    else:
        policy = DirectPolicy(scale, box, hidden=hidden, key=key)
    if guard is not None and isinstance(policy, StochasticPolicy):
        policy = FilteredStochasticPolicy(policy, guard)
    return Algorithm(learner.check(policy), learner)


def _guard(
    name: str, preset: Preset, task: Task[Any, Any], box: ActionBox, awareness: Awareness, price: float
) -> Guard:
    """The task's safety filter. **Raises** `ValueError` where it has none, or what is asked for has no meaning."""
    if preset.critic != "action" and awareness in ("stored", "differentiated"):
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
    return Guard(SafetyFilter(problem), task.planner_state, box, awareness, price)


def _planner(problem: Problem, iterations: int, tau: float | None, arithmetic: Arithmetic, *, real_time: bool) -> SQP:
    """What solves a policy's plans; a single iteration is a full step where `real_time`."""
    if iterations > 1 or not real_time:
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


@dataclasses.dataclass(frozen=True)
class Setting:
    """What a setting may be."""

    kind: type
    default: Any
    optional: bool = False
    least: float = -math.inf
    positive: bool = False
    planner: bool = False
    words_known: tuple[str, ...] = ()

    def accepts(self, value: Any) -> bool:
        if value is None:
            return self.optional
        if self.words_known:
            return value in self.words_known
        if type(value) is not self.kind and not (self.kind is float and type(value) is int):
            return False
        return self.kind in (bool, str) or (
            math.isfinite(value) and value >= self.least and (value > 0 or not self.positive)
        )

    def words(self) -> str:
        if self.words_known:
            return " or ".join(f"'{word}'" for word in self.words_known)
        words = {bool: "true or false", int: "a whole number", float: "a finite number", str: "a word"}[self.kind]
        if self.positive:
            words += " above 0"
        return words if self.least == -math.inf else f"{words}, at least {self.least:g}"


@functools.cache
def _settings(learner: type[Learner[Any]]) -> Mapping[str, Setting]:
    """All settings of `make_algorithm` for a learner, from the two signatures."""
    known: dict[str, Setting] = {}
    hints = typing.get_type_hints(learner)
    for field in dataclasses.fields(learner):
        if field.name != "critic" and field.init:
            known[field.name] = _setting(hints[field.name], field.default)
    hints = typing.get_type_hints(make_algorithm)
    for parameter in inspect.signature(make_algorithm).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            planner = not parameter.name.startswith(("hidden", "filter"))
            known[parameter.name] = _setting(hints[parameter.name], parameter.default, planner)
    known["filter_price"] = dataclasses.replace(known["filter_price"], least=0.0)
    for name in ("planner_iterations", "hidden_layers", "hidden_units"):
        known[name] = dataclasses.replace(known[name], least=1.0)
    known["planner_tau"] = dataclasses.replace(known["planner_tau"], positive=True)
    for name in known.keys() & {"prior_weight", "value_expansion"}:
        known[name] = dataclasses.replace(known[name], planner=True)
    return known


def settings_of(name: str) -> dict[str, Setting]:
    """The settings that an algorithm knows."""
    preset = PRESETS[name]
    every = _settings(preset.learner)
    return {setting: about for setting, about in every.items() if preset.plans or not about.planner}


def _setting(hint: Any, default: Any, planner: bool = False) -> Setting:
    words = _words(hint)
    kinds = [kind for kind in (*typing.get_args(hint), hint) if isinstance(kind, type)]
    optional = type(None) in kinds
    return Setting(str if words else kinds[0], default, optional, planner=planner, words_known=words)


def _words(hint: Any) -> tuple[str, ...]:
    """Of a `Literal`; none of other types."""
    return typing.get_args(hint) if typing.get_origin(hint) is typing.Literal else ()


def check_settings(name: str, settings: Mapping[str, Any]) -> None:
    """Whether `make_algorithm(name, ..., **settings)` knows the settings, and each is of its type.

    **Raises:** `ValueError` that says what came, what was expected and what to do.

    >>> check_settings("sac-zop", {"warm_start": "no"})
    Traceback (most recent call last):
    ValueError: warm_start='no': true or false was expected, e.g. warm_start=False
    """
    preset = PRESETS[name]
    every, known = _settings(preset.learner), sorted(settings_of(name))
    for setting, value in settings.items():
        about = every.get(setting)
        if about is None:
            raise ValueError(f"algorithm '{name}' has no setting '{setting}'; the known ones are: {', '.join(known)}")
        if setting not in known:
            raise ValueError(
                f"algorithm '{name}' has no planner, so no setting '{setting}'; leave it out, or use {PLANNING[name]}"
            )
        if not about.accepts(value):
            example = {int: 1, float: 1e-3}[about.kind] if about.default is None else about.default
            raise ValueError(f"{setting}={value!r}: {about.words()} was expected, e.g. {setting}={example}")
