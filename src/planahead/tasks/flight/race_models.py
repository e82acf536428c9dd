r"""What a racing planner believes of its quadrotor, and how its plans become commands.

`RatesModel`, 10 states: the nominal quadrotor, planned in its own commands.

    x = (p, q, v),       u = (F, ω_c)

`RotorsModel`, 13 states: body rates are states, and the four rotor thrusts f are planned.

    x = (p, q, v, ω),    u = f,    ω⁺ = ω + h J⁻¹ (τ - ω × J ω),    (F, τ) = M f
    (p, q, v)⁺ as of the nominal quadrotor under the command (F, ω⁺)

That command is also what is done of the plan: all thrust, and the rates that are predicted for the end of the step. A
nominal quadrotor so commanded does what was planned, exactly, while ω⁺ is within the limits of commands. A realistic
one covers in a step about a third of the way to the rates it is told, by its rate loop of gain 20/s; the next plan
starts from the rates that it is observed to have.

Reference: A. Romero et al., "Actor-critic model predictive control", 2024, whose code is of the first model, 28 weights
and slopes a stage, with remains of the second, 34 a stage, which the talks count.
"""

import abc
from typing import Literal, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.problem import Bounds, static
from planahead.tasks.environment import check_constants, constant
from planahead.tasks.flight.quadrotor import (
    ALLOCATION,
    COMMAND_HIGH,
    COMMAND_LOW,
    COMMAND_SCALE,
    GRAVITY,
    INERTIA,
    RATE_LIMIT,
    ROTOR_THRUST,
    Nominal,
)

_STATE_NAMES = (
    *(f"{axis} from the gate [m]" for axis in "xyz"),
    *(f"attitude {part} [1]" for part in "wxyz"),
    *(f"velocity {axis} [m/s]" for axis in "xyz"),
)
_STATE_SCALE = (1.0,) * 3 + (1.0,) * 4 + (10.0,) * 3


class RaceModel(eqx.Module):
    """A model for planning; its state begins with position, attitude, velocity."""

    state_names: eqx.AbstractVar[tuple[str, ...]]
    state_scale: eqx.AbstractVar[tuple[float, ...]]
    """Of states and controls: what an error of one unit is in a cost."""
    control_scale: eqx.AbstractVar[tuple[float, ...]]

    def __check_init__(self):
        check_constants(self)

    @abc.abstractmethod
    def fly(
        self, x: Float[Array, " nx"], u: Float[Array, " 4"], mass: Float[Array, ""], time_step: float
    ) -> Float[Array, " nx"]:
        """The state after `time_step` [s], for a quadrotor of `mass` [kg]."""

    @abc.abstractmethod
    def command(self, x: Float[Array, " nx"], u: Float[Array, " 4"], time_step: float) -> Float[Array, " 4"]:
        """Collective thrust [N] and body rates [rad/s] that stand for the control u in state x."""

    @abc.abstractmethod
    def hovering(self, mass: Float[Array, ""]) -> Float[Array, " 4"]:
        """The control that holds a quadrotor which is upright and at rest."""

    @abc.abstractmethod
    def limits(self) -> Bounds:
        """Of controls."""


@final
class RatesModel(RaceModel):
    """Body rates are reached at once.

    >>> len(RatesModel().state_names)
    10
    """

    state_names: tuple[str, ...] = static(_STATE_NAMES)
    state_scale: tuple[float, ...] = static(_STATE_SCALE)
    control_scale: tuple[float, ...] = static(COMMAND_SCALE)

    def fly(
        self, x: Float[Array, " 10"], u: Float[Array, " 4"], mass: Float[Array, ""], time_step: float
    ) -> Float[Array, " 10"]:
        return Nominal(mass=mass).fly(x, u, jnp.zeros(3), time_step)

    def command(self, x: Float[Array, " 10"], u: Float[Array, " 4"], time_step: float) -> Float[Array, " 4"]:
        del x, time_step
        return u

    def hovering(self, mass: Float[Array, ""]) -> Float[Array, " 4"]:
        return jnp.array([GRAVITY, 0.0, 0.0, 0.0]) * mass

    def limits(self) -> Bounds:
        return Bounds(jnp.array(COMMAND_LOW), jnp.array(COMMAND_HIGH))


@final
class RotorsModel(RaceModel):
    """Rotors turn the body.

    >>> model, x = RotorsModel(), jnp.zeros(13).at[3].set(1.0)
    >>> rolls = model.command(x, jnp.array([1.0, 2.0, 1.0, 2.0]), 0.02)        # the rotors on the left push more
    >>> [round(float(entry), 2) for entry in rolls]
    [6.0, 1.6, 0.0, 0.0]
    """

    state_names: tuple[str, ...] = static(
        (*_STATE_NAMES, *(f"{turn} rate [rad/s]" for turn in ("roll", "pitch", "yaw")))
    )
    state_scale: tuple[float, ...] = static(_STATE_SCALE + RATE_LIMIT)
    control_scale: tuple[float, ...] = static((ROTOR_THRUST,) * 4)
    inertia: Array = constant(INERTIA, positive=True)  # kg m²

    def fly(
        self, x: Float[Array, " 13"], u: Float[Array, " 4"], mass: Float[Array, ""], time_step: float
    ) -> Float[Array, " 13"]:
        command = self.command(x, u, time_step)
        return jnp.concatenate([Nominal(mass=mass).fly(x[:10], command, jnp.zeros(3), time_step), command[1:]])

    def command(self, x: Float[Array, " 13"], u: Float[Array, " 4"], time_step: float) -> Float[Array, " 4"]:
        rates, J = x[10:], self.inertia
        produced = jnp.asarray(ALLOCATION, x.dtype) @ u
        turning = (produced[1:] - jnp.cross(rates, J * rates)) / J
        return jnp.concatenate([produced[:1], rates + time_step * turning])

    def hovering(self, mass: Float[Array, ""]) -> Float[Array, " 4"]:
        return jnp.full(4, 0.25 * GRAVITY) * mass

    def limits(self) -> Bounds:
        return Bounds(jnp.zeros(4), jnp.full(4, ROTOR_THRUST))


ModelName = Literal["rates", "rotors"]
MODELS: dict[str, type[RatesModel] | type[RotorsModel]] = {"rates": RatesModel, "rotors": RotorsModel}
