"""The named algorithms: each is a choice of switches, not a copy.

name      learner   critic judges   noise enters at   planner
sac       SAC       action          action            no
sac-zop   SAC       parameters      parameters        yes
sac-fop   SAC       action          parameters        yes
sac-foa   SAC       action          action            yes
td3       TD3       action          action            no
td3-zop   TD3       parameters      parameters        yes
td3-fop   TD3       action          parameters        yes
"""

import dataclasses
import functools
import inspect
import math
import typing
from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxtyping import PRNGKeyArray

from planahead.learning.off_policy import OffPolicy
from planahead.learning.sac import SAC
from planahead.learning.soft_losses import CriticPlace
from planahead.learning.td3 import TD3
from planahead.planning import SQP
from planahead.policies import HIDDEN, ActionBox, DirectPolicy, NoisePlace, PlannerPolicy, StochasticPolicy
from planahead.qp.interior_point import Arithmetic
from planahead.tasks import Task

CONTENT = 1e-2
"""The residual up to which a plan that ran out of iterations is used: a plan has not failed and has a derivative up to
here. The residual is relative, so an action is then wrong by less than about a hundredth of the terms that it
balances."""


@dataclasses.dataclass(frozen=True)
class Preset:
    """The switches of one algorithm."""

    critic: CriticPlace
    noise: NoisePlace
    plans: bool
    summary: str
    learner: type[OffPolicy[Any]] = SAC


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
}


class Algorithm(NamedTuple):
    """What a preset makes for a task."""

    policy: StochasticPolicy
    """Untrained."""
    learner: OffPolicy[Any]


def algorithm_names() -> tuple[str, ...]:
    """The names that `make_algorithm` knows, sorted.

    >>> algorithm_names()
    ('sac', 'sac-foa', 'sac-fop', 'sac-zop', 'td3', 'td3-fop', 'td3-zop')
    """
    return tuple(sorted(PRESETS))


def make_algorithm(
    name: str,
    task: Task[Any, Any],
    key: PRNGKeyArray,
    *,
    residual: bool = False,
    warm_start: bool = False,
    planner_iterations: int = 10,
    planner_tau: float | None = None,
    planner_arithmetic: Arithmetic = "float32",
    hidden_layers: int = len(HIDDEN),
    hidden_units: int = HIDDEN[0],
    **settings: Any,
) -> Algorithm:
    """An untrained policy for `task` and the learner that trains it.

    **Arguments:**

    - `name`: one of `algorithm_names()`.
    - `residual`, `warm_start`: of the `PlannerPolicy`.
    - `planner_iterations`: at most as many SQP iterations per plan, so that a step of many environments does not wait
      for the slowest lane. From random states of the cart-pole and a cold start, 4 % of the plans reach the limit of
      ten, 0.9 % fail (five: 30 % and 3 %), and 99 % of the rest begin with a control within 0.12 N of the converged
      one, of ±80.
    - `planner_tau`: smooths the plan across active-set changes, see `SQP`.
    - `planner_arithmetic`: what the native kernel solves in. Of 256 plans of the wind maze all are solved in either;
      "float32" takes two thirds of the time, and their first derivatives differ by a thousandth at most.
    - `hidden_layers`, `hidden_units`: of the networks of policy and critics.
    - `settings`: fields of the learner, `SAC` or `TD3`, e.g. `batch_size=256`.

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
    check_settings(name, {**changed, **networks, **settings})
    learner = preset.learner(critic=preset.critic, hidden_layers=hidden_layers, hidden_units=hidden_units, **settings)
    environment, hidden = task.environment, (hidden_units,) * hidden_layers
    box = ActionBox(environment.action_low, environment.action_high)
    if not preset.plans:
        policy = DirectPolicy(environment.observation_scale, box, hidden=hidden, key=key)
        return Algorithm(learner.check(policy), learner)
    policy = PlannerPolicy(
        task.problem,
        task.planner_state,
        environment.observation_scale,
        box,
        names=task.learned_parameters,
        planner=SQP(
            iterations=planner_iterations,
            tau=planner_tau,
            gradient_tolerance=CONTENT,
            arithmetic=planner_arithmetic,
        ),
        noise=preset.noise,
        residual=residual,
        warm_start=warm_start,
        hidden=hidden,
        key=key,
    )
    return Algorithm(learner.check(policy), learner)


@dataclasses.dataclass(frozen=True)
class _Setting:
    """What a setting may be."""

    kind: type
    default: Any
    least: float = -math.inf
    positive: bool = False
    planner: bool = False
    words_known: tuple[str, ...] = ()

    def accepts(self, value: Any) -> bool:
        if value is None:
            return self.default is None
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
def _settings(learner: type[OffPolicy[Any]]) -> Mapping[str, _Setting]:
    """All settings of `make_algorithm` for a learner, from the two signatures."""
    known: dict[str, _Setting] = {}
    hints = typing.get_type_hints(learner)
    for field in dataclasses.fields(learner):
        if field.name != "critic":
            words = _words(hints[field.name])
            known[field.name] = _Setting(str if words else hints[field.name], field.default, words_known=words)
    hints = typing.get_type_hints(make_algorithm)
    for parameter in inspect.signature(make_algorithm).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            hint = hints[parameter.name]
            words = _words(hint)
            kinds = [kind for kind in (*typing.get_args(hint), hint) if isinstance(kind, type)]
            planner = not parameter.name.startswith("hidden")
            known[parameter.name] = _Setting(
                str if words else kinds[0], parameter.default, words_known=words, planner=planner
            )
    for name in ("planner_iterations", "hidden_layers", "hidden_units"):
        known[name] = dataclasses.replace(known[name], least=1.0)
    known["planner_tau"] = dataclasses.replace(known["planner_tau"], positive=True)
    known["prior_weight"] = dataclasses.replace(known["prior_weight"], planner=True)
    return known


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
    every = _settings(preset.learner)
    known = sorted(setting for setting, about in every.items() if preset.plans or not about.planner)
    for setting, value in settings.items():
        about = every.get(setting)
        if about is None:
            raise ValueError(f"algorithm '{name}' has no setting '{setting}'; the known ones are: {', '.join(known)}")
        if setting not in known:
            raise ValueError(
                f"algorithm '{name}' has no planner, so no setting '{setting}'; leave it out, or use {name}-zop"
            )
        if not about.accepts(value):
            example = 1e-3 if about.default is None else about.default
            raise ValueError(f"{setting}={value!r}: {about.words()} was expected, e.g. {setting}={example}")
