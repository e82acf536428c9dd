"""The named algorithms: each is a choice of switches, not a copy.

name      critic judges   noise enters at   planner
sac       action          action            no
sac-zop   parameters      parameters        yes
sac-fop   action          parameters        yes
sac-foa   action          action            yes
"""

import dataclasses
import inspect
from typing import Any

from jaxtyping import PRNGKeyArray

from planahead.learning.sac import SAC
from planahead.learning.soft_losses import CriticPlace
from planahead.planning import SQP
from planahead.policies import ActionBox, DirectPolicy, NoisePlace, PlannerPolicy, StochasticPolicy
from planahead.tasks import Task

CONTENT = 1e-2
"""The residual up to which a plan that ran out of iterations is used: a plan has not failed and has a derivative up to here. The
residual is relative, so an action is then wrong by less than about a hundredth of the terms that it balances."""


@dataclasses.dataclass(frozen=True)
class Preset:
    """The switches of one algorithm."""

    critic: CriticPlace
    noise: NoisePlace
    plans: bool
    summary: str


PRESETS = {
    "sac": Preset("action", "action", False, "a network acts by itself"),
    "sac-zop": Preset(
        "parameters",
        "parameters",
        True,
        "a network steers a planner; zeroth order: no derivative of the plan is needed",
    ),
    "sac-fop": Preset("action", "parameters", True, "a network steers a planner; first order, exploring in the planner's parameters"),
    "sac-foa": Preset("action", "action", True, "a network steers a planner; first order, exploring in the action"),
}


def algorithm_names() -> tuple[str, ...]:
    """The names that `make_algorithm` knows, sorted.

    >>> algorithm_names()
    ('sac', 'sac-foa', 'sac-fop', 'sac-zop')
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
    hidden_layers: int = 2,
    hidden_units: int = 256,
    **settings: Any,
) -> tuple[StochasticPolicy, SAC]:
    """An untrained policy for `task` and the learner that trains it.

    **Arguments:**

    - `name`: one of `algorithm_names()`.
    - `residual`, `warm_start`: of the `PlannerPolicy`.
    - `planner_iterations`: at most as many SQP iterations per plan, so that a step of many environments does not wait for
      the slowest lane. From random states of the cart-pole and a cold start, 4 % of the plans reach the limit of ten, 0.9 %
      fail (five: 30 % and 3 %), and 99 % of the rest begin with a control within 0.12 N of the converged one, of ±80.
    - `planner_tau`: smooths the plan across active-set changes, see `SQP`.
    - `hidden_layers`, `hidden_units`: of the networks of policy and critics.
    - `settings`: fields of `SAC`, e.g. `batch_size=256`.

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
    known = [parameter for parameter in inspect.signature(SAC).parameters if parameter != "critic"]
    unknown = [setting for setting in settings if setting not in known]
    if unknown:
        planning = ("planner_iterations", "planner_tau", "residual", "warm_start") if preset.plans else ()
        raise ValueError(
            f"algorithm '{name}' has no setting {', '.join(map(repr, unknown))}; "
            f"the known ones are: {', '.join(sorted((*known, *planning)))}"
        )
    learner = SAC(critic=preset.critic, hidden_layers=hidden_layers, hidden_units=hidden_units, **settings)
    environment, hidden = task.environment, (hidden_units,) * hidden_layers
    box = ActionBox(environment.action_low, environment.action_high)
    if not preset.plans:
        if residual or warm_start or planner_tau is not None:
            raise ValueError(f"algorithm '{name}' has no planner; leave its settings out, or use sac-zop")
        return DirectPolicy(environment.observation_scale, box, hidden=hidden, key=key), learner
    if planner_iterations < 1:
        raise ValueError(f"planner_iterations={planner_iterations}; at least 1 was expected")
    policy = PlannerPolicy(
        task.problem,
        task.planner_state,
        environment.observation_scale,
        box,
        names=task.learned_parameters,
        planner=SQP(iterations=planner_iterations, tau=planner_tau, gradient_tolerance=CONTENT),
        noise=preset.noise,
        residual=residual,
        warm_start=warm_start,
        hidden=hidden,
        key=key,
    )
    return policy, learner
