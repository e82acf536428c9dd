r"""What a racing quadrotor plans with: a nominal quadrotor, and a quadratic cost that a policy writes.

    Σ_k ½ yᵀ Q_k y + p_kᵀ y,      y = (state at stage k + 1, control at stage k) in units of `STATE_SCALE` and
                                  `COMMAND_SCALE`, from the next gate's centre and from hovering

    cost        Q, separately for states and controls                              learned, of every stage
    diagonal    diag(q)                                                             28
    cholesky    D (I + L)(I + L)ᵀ D + ε² I,   D = diag(√q), L strictly lower        79
    full        as cholesky, with L + U instead of L, U strictly upper              130

The planner looks a few steps ahead, and all that lies beyond is in p, which the policy writes from what it sees.

Reference: A. Romero, Y. Song, D. Scaramuzza, "Actor-critic model predictive control", ICRA 2024, and its extended
version, arXiv 2306.09852, 2025. There weights and slopes span five decades on a linear scale, and the cost of the
first, given state is among them.
"""

from typing import Literal, final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from planahead.problem import Bounds, Problem, Slack, parameter, static
from planahead.tasks.environment import check_constants, constant
from planahead.tasks.flight.quadrotor import (
    COMMAND_HIGH,
    COMMAND_LOW,
    COMMAND_SCALE,
    GRAVITY,
    MASS,
    TIME_STEP,
    Nominal,
)
from planahead.tasks.task import check_choice

Cost = Literal["diagonal", "cholesky", "full"]

STATE_NAMES = (
    *(f"{axis} from the gate [m]" for axis in "xyz"),
    *(f"attitude {part} [1]" for part in "wxyz"),
    *(f"velocity {axis} [m/s]" for axis in "xyz"),
)
STATE_SCALE = (1.0,) * 3 + (1.0,) * 4 + (10.0,) * 3
_STATES, _CONTROLS = 45, 6
"""Pairs of states, and of controls."""
_ROOT = 0.1
"""ε: the root of the least weight; what couples never makes a direction weigh less."""


@final
class RaceProblem(Problem):
    """What the planner believes and wants.

    A weight of 1 belongs to an error of one unit of `STATE_SCALE` or `COMMAND_SCALE`. Without a policy the cost asks
    for hovering upright in the next gate.

    With `limits_speed` the plan keeps below `speed_limit`, softly: a start above it is no contradiction.
    """

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
    state_lower: Array = parameter((0.0,) * _STATES, low=-1.0, high=1.0)
    state_upper: Array = parameter((0.0,) * _STATES, low=-1.0, high=1.0)
    control_lower: Array = parameter((0.0,) * _CONTROLS, low=-1.0, high=1.0)
    control_upper: Array = parameter((0.0,) * _CONTROLS, low=-1.0, high=1.0)
    mass: Array = constant(MASS, positive=True)  # kg
    speed_limit: Array = constant(15.0, positive=True)  # m/s
    limit_price: Array = constant(1e3)  # for exceeding it, per its share of the square
    limit_weight: Array = constant(1e3)  # and per square of that

    def __check_init__(self):
        check_constants(self)
        check_choice(self, "cost", self.cost, Cost)

    def learned(self) -> dict[str, bool]:
        """Names of what a policy writes for this kind of cost, and whether each is about states."""
        parts = {"diagonal": (), "cholesky": ("lower",), "full": ("lower", "upper")}[self.cost]
        kinds = (("state", True), ("control", False))
        return {f"{kind}_{part}": is_state for kind, is_state in kinds for part in ("weight", "slope", *parts)}

    def dynamics(self, x: Float[Array, " 10"], u: Float[Array, " 4"]) -> Float[Array, " 10"]:
        return Nominal(mass=self.mass).fly(x, u, jnp.zeros(3), self.time_step)

    def stage_residual(self, x: Float[Array, " 10"], u: Float[Array, " 4"]) -> Float[Array, " residuals"]:
        y = (u - self.control_guess()) / jnp.array(COMMAND_SCALE)
        control = self._residual(y, self.control_weight, self.control_slope, self.control_lower, self.control_upper)
        return jnp.concatenate([self.terminal_residual(x), control])

    def terminal_residual(self, x: Float[Array, " 10"]) -> Float[Array, " residuals"]:
        y = x / jnp.array(STATE_SCALE)
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
        return jnp.array([GRAVITY, 0.0, 0.0, 0.0]) * self.mass

    def control_bounds(self) -> Bounds:
        return Bounds(jnp.array(COMMAND_LOW), jnp.array(COMMAND_HIGH))

    def constraints(self, x: Float[Array, " 10"], u: Float[Array, " 4"]) -> Float[Array, " rows"]:
        del u
        return self.terminal_constraints(x)

    def terminal_constraints(self, x: Float[Array, " 10"]) -> Float[Array, " rows"]:
        if not self.limits_speed:
            return jnp.zeros(0)
        return jnp.sum(x[7:] ** 2, keepdims=True) / self.speed_limit**2 - 1

    def constraint_slack(self) -> Slack | None:
        return Slack(linear=self.limit_price, quadratic=self.limit_weight) if self.limits_speed else None

    def terminal_constraint_slack(self) -> Slack | None:
        return self.constraint_slack()
