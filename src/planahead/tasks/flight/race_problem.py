r"""What a racing quadrotor plans with: a model of `race_models.py`, and a quadratic cost that a policy writes.

    Σ_k ½ yᵀ Q_k y + p_kᵀ y,      y = (state at stage k + 1, control at stage k) in units of the model, from the next
                                  gate's centre and from hovering

                                                                                 learned, of every stage
    cost        Q, separately for states and controls                              rates    rotors
    diagonal    diag(q)                                                              28        34
    cholesky    D (I + L)(I + L)ᵀ D + ε² I,   D = diag(√q), L strictly lower         79       118
    full        as cholesky, with L + U instead of L, U strictly upper              130       202

The planner looks a few steps ahead, and all that lies beyond is in p, which the policy writes from what it sees.

Reference: A. Romero, Y. Song, D. Scaramuzza, "Actor-critic model predictive control", ICRA 2024, and its extended
version, arXiv 2306.09852, 2025. There weights and slopes span five decades on a linear scale, and the cost of the
first, given state is among them.
"""

from typing import Any, Literal, final

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from planahead.problem import Bounds, Problem, Slack, parameter, static
from planahead.tasks.environment import check_constants, constant
from planahead.tasks.flight.quadrotor import MASS, TIME_STEP
from planahead.tasks.flight.race_models import RaceModel, RatesModel
from planahead.tasks.task import check_choice

Cost = Literal["diagonal", "cholesky", "full"]

_ROOT = 0.1
"""ε: the root of the least weight; what couples never makes a direction weigh less."""


def _pairs(size: int) -> int:
    return size * (size - 1) // 2


@final
class RaceProblem(Problem):
    """What the planner believes and wants; `RaceProblem.of(model)` has the sizes that the model needs.

    A weight of 1 belongs to an error of one unit of the model's scales. Without a policy the cost asks for hovering
    upright in the next gate.

    With `limits_speed` the plan keeps below `speed_limit`, softly: a start above it is no contradiction.
    """

    model: RaceModel = eqx.field(default_factory=RatesModel, kw_only=True)
    horizon: int = static(2)
    state_size: int = static(10)
    control_size: int = static(4)
    time_step: float = static(TIME_STEP)  # s
    cost: Cost = static("diagonal")
    limits_speed: bool = static(False)

    state_weight: Array = parameter((1.0,) * 10, low=_ROOT**2, high=1e2, scale="log")
    state_slope: Array = parameter((0.0,) * 3 + (-1.0,) + (0.0,) * 6, low=-10.0, high=10.0)
    control_weight: Array = parameter((1.0,) * 4, low=_ROOT**2, high=1e2, scale="log")
    control_slope: Array = parameter((0.0,) * 4, low=-10.0, high=10.0)
    state_lower: Array = parameter((0.0,) * _pairs(10), low=-1.0, high=1.0)
    state_upper: Array = parameter((0.0,) * _pairs(10), low=-1.0, high=1.0)
    control_lower: Array = parameter((0.0,) * _pairs(4), low=-1.0, high=1.0)
    control_upper: Array = parameter((0.0,) * _pairs(4), low=-1.0, high=1.0)
    mass: Array = constant(MASS, positive=True)  # kg
    speed_limit: Array = constant(15.0, positive=True)  # m/s
    limit_price: Array = constant(1e3)  # for exceeding it, per its share of the square
    limit_weight: Array = constant(1e3)  # and per square of that

    def __check_init__(self):
        check_constants(self)
        check_choice(self, "cost", self.cost, Cost)

    @classmethod
    def of(cls, model: RaceModel, **fields: Any) -> "RaceProblem":
        """The problem with the same wishes for any model.

        >>> from planahead.tasks.flight.race_models import RotorsModel
        >>> RaceProblem.of(RotorsModel()).state_weight.size
        13
        """
        size = len(model.state_names)
        upright: dict[str, Any] = {
            "state_weight": (1.0,) * size,
            "state_slope": (0.0,) * 3 + (-1.0,) + (0.0,) * (size - 4),
            "state_lower": (0.0,) * _pairs(size),
            "state_upper": (0.0,) * _pairs(size),
        }
        return cls(model=model, state_size=size, **(upright | fields))

    def learned(self) -> dict[str, bool]:
        """Names of what a policy writes for this kind of cost, and whether each is about states."""
        parts = {"diagonal": (), "cholesky": ("lower",), "full": ("lower", "upper")}[self.cost]
        kinds = (("state", True), ("control", False))
        return {f"{kind}_{part}": is_state for kind, is_state in kinds for part in ("weight", "slope", *parts)}

    def dynamics(self, x: Float[Array, " nx"], u: Float[Array, " 4"]) -> Float[Array, " nx"]:
        return self.model.fly(x, u, self.mass, self.time_step)

    def action(self, x: Float[Array, " nx"], u: Float[Array, " 4"]) -> Float[Array, " 4"]:
        return self.model.command(x, u, self.time_step)

    @property
    def plans_actions(self) -> bool:
        return isinstance(self.model, RatesModel)

    def stage_residual(self, x: Float[Array, " nx"], u: Float[Array, " 4"]) -> Float[Array, " residuals"]:
        y = (u - self.control_guess()) / jnp.array(self.model.control_scale)
        control = self._residual(y, self.control_weight, self.control_slope, self.control_lower, self.control_upper)
        return jnp.concatenate([self.terminal_residual(x), control])

    def terminal_residual(self, x: Float[Array, " nx"]) -> Float[Array, " residuals"]:
        y = x / jnp.array(self.model.state_scale)
        return self._residual(y, self.state_weight, self.state_slope, self.state_lower, self.state_upper)

    def _residual(
        self,
        y: Float[Array, " n"],
        weight: Float[Array, " n"],
        slope: Float[Array, " n"],
        lower: Float[Array, " pairs"],
        upper: Float[Array, " pairs"],
    ) -> Float[Array, " residuals"]:
        """r with ½ rᵀr = ½ yᵀ Q y + slopeᵀ y + a constant."""
        root = jnp.sqrt(weight)
        if self.cost == "diagonal":
            return root * y + slope / root
        below = np.tril_indices(len(weight), -1)
        coupling = jnp.eye(len(weight)).at[below].set(lower)
        if self.cost == "full":
            coupling = coupling.at[below[::-1]].set(upper)
        return jnp.concatenate([coupling.T @ (root * y), _ROOT * y + slope / _ROOT])

    def control_guess(self) -> Float[Array, " 4"]:
        """Hovering."""
        return self.model.hovering(self.mass)

    def control_bounds(self) -> Bounds:
        return self.model.limits()

    def constraints(self, x: Float[Array, " nx"], u: Float[Array, " 4"]) -> Float[Array, " rows"]:
        del u
        return self.terminal_constraints(x)

    def terminal_constraints(self, x: Float[Array, " nx"]) -> Float[Array, " rows"]:
        if not self.limits_speed:
            return jnp.zeros(0)
        return jnp.sum(x[7:10] ** 2, keepdims=True) / self.speed_limit**2 - 1

    def constraint_slack(self) -> Slack | None:
        return Slack(linear=self.limit_price, quadratic=self.limit_weight) if self.limits_speed else None

    def terminal_constraint_slack(self) -> Slack | None:
        return self.constraint_slack()
