"""A planner with constant parameters: what is trained are the numbers of the problem itself.

    a(o) = u₀*(x(o), φ),     φ = box(y),    y ∈ [-1, 1]ⁿ the same in every state

The smallest of the architectures: no network, a dozen numbers with names and units, and after training still a planner
that can be read. Learners move y, so that a parameter's box is both its unit and what is admissible.
"""

from collections.abc import Callable, Sequence
from typing import Any, final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from planahead.planning import SQP
from planahead.policies.policy import Decision, Policy, Setting
from planahead.policies.steering import Remembered, Steering
from planahead.policies.stochastic import ActionBox
from planahead.problem import Problem
from planahead.problem.parameter_space import Scale


@final
class TunedPlanner(Policy):
    """Plan with one φ everywhere. Nothing is drawn: a learner that explores does so around the action.

    **Arguments:**

    - `problem`: what is planned; its parameters are what training starts from.
    - `planner_state`: the planner's initial state, computed from the observation.
    - `box`: the actions, of the environment.
    - `names`: which parameters are trained; all declared ones by default.
    - `scale`: of their box, see `ParameterSpace`.
    - `planner`: how it is solved.
    - `warm_start`: a solve starts from the previous plan of the episode, shifted by one step.

    **Raises:** what `Steering` does.

    >>> import jax.numpy as jnp, planahead as pa
    >>> task = pa.make_task("linear")
    >>> policy = TunedPlanner(task.problem, task.planner_state, pa.ActionBox((-1.0,), (1.0,)), names=("offset",))
    >>> policy.unit.tolist(), policy.problem().offset.tolist(), policy.parameters()
    ([0.0], 0.0, {'offset': 0.0})
    """

    unit: Float[Array, " parameters"]
    """y, the parameters in unit coordinates of their boxes."""
    steering: Steering

    def __init__(
        self,
        problem: Problem,
        planner_state: Callable[[Float[Array, " observation"]], Float[Array, " nx"]],
        box: ActionBox,
        *,
        names: Sequence[str] | None = None,
        scale: Scale = "declared",
        planner: SQP | None = None,
        warm_start: bool = False,
    ):
        self.steering = Steering(
            problem, planner_state, box, names=names, scale=scale, planner=planner, warm_start=warm_start
        )
        self.unit = self.steering.default_unit()

    def problem(self, unit: Float[Array, " parameters"] | None = None) -> Problem:
        """What is planned with the parameters `unit`, or the policy's own."""
        space = self.steering.space
        return space.insert(self.steering.problem, space.from_unit(self.unit if unit is None else unit))

    def parameters(self) -> dict[str, Any]:
        """φ by name: numbers and nested lists."""
        problem = self.problem()
        values = {name: getattr(problem, name) for name in self.steering.space.names}
        return {name: np.asarray(getattr(value, "listed", value)).tolist() for name, value in values.items()}

    def initial_memory(self) -> Remembered | None:
        return self.steering.initial_memory()

    def settings(self) -> dict[str, Setting]:
        return self.steering.settings()

    def decide(
        self, observation: Float[Array, " observation"], memory: Any = None, key: PRNGKeyArray | None = None
    ) -> Decision:
        del key
        return self.steering.decide(self.unit, jnp.asarray(observation), memory)
