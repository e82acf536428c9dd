r"""A quadrotor that is commanded by collective thrust and body rates: an ideal one, and one with what flight adds.

    command u = (F, ω_c)      collective thrust [N], body rates [rad/s]: forward x, left y, up z

`Nominal`, 10 states: rates are reached at once.

    p⁺ = p + h v + ½ h² a,    v⁺ = v + h a,    q⁺ = q ⊗ exp(½ h ω_c),    a = R(q) (0, 0, F) / m - g + f / m

`Realistic`, 17 states and the command before: a rate loop asks for torques, rotors follow with a lag and saturate, air
drags, and a command takes effect late.

    τ   = Ĵ K (ω_c - ω) + ω × Ĵ ω                          the rate loop, with the inertia Ĵ it believes in
    n_c = √(clip(M⁻¹ (F, τ), 0, f_max) / f_max)            M: rotor thrusts to (F, τ)
    ṅ   = (n_c - n) / t_m,    thrusts f_i = f_max n_i²     n: rotor speeds as shares of the largest
    m v̇ = R (L(Rᵀ v) + (0, 0, Σ f_i) - D(Rᵀ v)) - m g + f   D(w) = d₁ w + d₂ |w| w, entry by entry
                                                          L(w) = (0, 0, l (w_x² + w_y²)), of air across the rotors
    J ω̇ = M_τ f - ω × J ω,     q̇ = ½ q ⊗ ω,     ṗ = v

    symbol   shape  meaning
    p, v, f  [3]    position [m], velocity [m/s], force of the wind [N], in the world
    q        [4]    attitude, w x y z, body to world
    ω        [3]    body rates [rad/s]
    n        [4]    rotor speeds

Parameters are those of the racing quadrotor of the Robotics and Perception Group, Zurich ("Kingfisher",
https://github.com/uzh-rpg/agile_flight), also of A. Romero et al., "Actor-critic model predictive control", 2024.
"""

import abc
import dataclasses
from typing import Literal, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from planahead.problem import static
from planahead.problem.integrators import rk4
from planahead.problem.rotation import body_z, matrix, normalised, product, turned
from planahead.tasks.environment import check_constants, constant

GRAVITY = 9.8066  # m/s²
MASS = 0.752  # kg
ROTOR_THRUST = 8.5  # N, at most
THRUST_LIMIT = 4 * ROTOR_THRUST  # N
RATE_LIMIT = (10.0, 10.0, 4.0)  # rad/s
TIME_STEP = 0.02  # s
COMMAND_NAMES = ("thrust [N]", "roll rate [rad/s]", "pitch rate [rad/s]", "yaw rate [rad/s]")
COMMAND_LOW = (0.0, *(-limit for limit in RATE_LIMIT))
COMMAND_HIGH = (THRUST_LIMIT, *RATE_LIMIT)
COMMAND_SCALE = COMMAND_HIGH
"""What planners divide commands by."""

# Of the rate loop and the airframe that `Realistic` flies.
INERTIA = (0.0025, 0.0021, 0.0043)  # kg m²
RATE_GAIN = (20.0, 20.0, 41.0)  # 1/s
MOTOR_TIME = 0.033  # s
ARM_X = np.array([0.075, -0.075, -0.075, 0.075])  # m, of the rotors
ARM_Y = np.array([-0.10, 0.10, -0.10, 0.10])  # m
SPIN = np.array([-1.0, -1.0, 1.0, 1.0])
TORQUE_PER_THRUST = 0.022  # m
THRUST_PER_SQUARE = 1.562522e-6  # N s²/rad², of a rotor's speed
LIFT = 0.015  # N s²/m²; published with the drags, and none of `Realistic` by default: planners were tuned without
ALLOCATION = np.stack([np.ones(4), ARM_Y, -ARM_X, TORQUE_PER_THRUST * SPIN])
"""M: rotor thrusts [N] to (F, τ) [N, N m]."""


class Quadrotor(eqx.Module):
    """A body that flies for one time step at a time. Its state begins with p, q, v."""

    mass: eqx.AbstractVar[Array]  # kg
    thrust_scale: eqx.AbstractVar[Array]
    """Thrust produced over thrust commanded."""
    rate_scale: eqx.AbstractVar[Array]
    """Body rates reached over body rates commanded, so that the limits of the rates change by as much."""
    state_size: eqx.AbstractVar[int]

    def __check_init__(self):
        check_constants(self)

    @abc.abstractmethod
    def at(
        self, position: Float[Array, " 3"], attitude: Float[Array, " 4"], velocity: Float[Array, " 3"]
    ) -> Float[Array, " nx"]:
        """The state of a quadrotor that does not turn and hovers, but for its velocity."""

    @abc.abstractmethod
    def fly(
        self,
        x: Float[Array, " nx"],
        command: Float[Array, " 4"],
        force: Float[Array, " 3"],
        time_step: float | Array = TIME_STEP,
    ) -> Float[Array, " nx"]:
        """The state after `time_step` [s] under a command, a force [N] of the wind acting."""

    @abc.abstractmethod
    def rates(self, x: Float[Array, " nx"], command: Float[Array, " 4"]) -> Float[Array, " 3"]:
        """Body rates [rad/s] in the state that a step under `command` led to: what a gyroscope measures."""

    def randomised(self, draw: Float[Array, " draws"], spread: "Randomisation") -> "Quadrotor":
        """Another quadrotor of the same kind: parameters scaled by 1 + spread · draw, draw ∈ [-1, 1]."""
        scale = {name: 1 + getattr(spread, f"{name}_spread") * draw[i] for i, name in enumerate(RANDOMISED)}
        chosen = {name: getattr(self, name) * value for name, value in scale.items() if hasattr(self, name)}
        return dataclasses.replace(self, **chosen)


RANDOMISED = ("mass", "thrust_scale", "rate_scale", "inertia", "drag")


class Randomisation(eqx.Module):
    """Domain randomisation: relative half widths of what is drawn anew, uniformly, for every episode."""

    mass_spread: Array = constant(0.0)
    thrust_scale_spread: Array = constant(0.0)
    rate_scale_spread: Array = constant(0.0)
    inertia_spread: Array = constant(0.0)
    """Of a body without inertia, as the nominal one, nothing."""
    drag_spread: Array = constant(0.0)

    def __check_init__(self):
        check_constants(self)
        for name in RANDOMISED:
            spread = getattr(self, f"{name}_spread")
            if not isinstance(spread, Tracer) and not np.all((np.asarray(spread) >= 0) & (np.asarray(spread) < 1)):
                raise ValueError(
                    f"Randomisation got {name}_spread={spread}; a share from 0 to below 1 was expected, so that what "
                    "is drawn stays positive."
                )


@final
class Nominal(Quadrotor):
    """Ten states: position, attitude, velocity.

    >>> quadrotor = Nominal()
    >>> still = quadrotor.at(jnp.zeros(3), jnp.array([1.0, 0.0, 0.0, 0.0]), jnp.zeros(3))
    >>> after = quadrotor.fly(still, jnp.array([34.0, 0.0, 0.0, 0.0]), jnp.zeros(3))
    >>> print(f"{after[9]:.2f} m/s upwards after {TIME_STEP} s of full thrust")
    0.71 m/s upwards after 0.02 s of full thrust
    """

    mass: Array = constant(MASS, positive=True)
    thrust_scale: Array = constant(1.0, positive=True)
    rate_scale: Array = constant(1.0, positive=True)
    state_size: int = static(10)

    def at(
        self, position: Float[Array, " 3"], attitude: Float[Array, " 4"], velocity: Float[Array, " 3"]
    ) -> Float[Array, " 10"]:
        return jnp.concatenate([position, attitude, velocity])

    def fly(
        self,
        x: Float[Array, " 10"],
        command: Float[Array, " 4"],
        force: Float[Array, " 3"],
        time_step: float | Array = TIME_STEP,
    ) -> Float[Array, " 10"]:
        p, q, v = x[:3], x[3:7], x[7:]
        thrust, rates = self.thrust_scale * command[0], self.rate_scale * command[1:]
        a = (thrust * body_z(q) + force) / self.mass - jnp.array([0.0, 0.0, GRAVITY])
        q = normalised(turned(q, rates, time_step))
        return jnp.concatenate([p + time_step * v + 0.5 * time_step**2 * a, q, v + time_step * a])

    def rates(self, x: Float[Array, " 10"], command: Float[Array, " 4"]) -> Float[Array, " 3"]:
        del x
        return self.rate_scale * command[1:]


@final
class Realistic(Quadrotor):
    """21 states: position, attitude, velocity, body rates, rotor speeds, and the command of the step before."""

    mass: Array = constant(MASS, positive=True)
    thrust_scale: Array = constant(1.0, positive=True)
    rate_scale: Array = constant(1.0, positive=True)
    inertia: Array = constant(INERTIA, positive=True)  # kg m²
    """Of the airframe; the rate loop goes on believing in the one it was tuned for."""
    motor_time: Array = constant(MOTOR_TIME, positive=True)  # s
    drag: Array = constant(1.0)
    """Scale of both drags."""
    linear_drag: Array = constant((0.26, 0.26, 0.30))  # N s/m
    quadratic_drag: Array = constant((0.015, 0.015, 0.015))  # N s²/m²
    lift: Array = constant(0.0)  # N s²/m², see `LIFT`
    delay: Array = constant(0.02)  # s
    """Between a command and its effect, from 0 to `TIME_STEP`."""
    state_size: int = static(21)
    substeps: int = static(4)

    def __check_init__(self):
        if not isinstance(self.delay, Tracer):
            delay = np.asarray(self.delay)  # compared by JAX it would be traced where a trace makes the quadrotor
            if np.any((delay < 0) | (delay > TIME_STEP)):
                raise ValueError(f"Realistic got delay={self.delay}; expected 0 to {TIME_STEP} s, one step.")

    def at(
        self, position: Float[Array, " 3"], attitude: Float[Array, " 4"], velocity: Float[Array, " 3"]
    ) -> Float[Array, " 21"]:
        weight = self.mass * GRAVITY
        speeds = jnp.broadcast_to(jnp.sqrt(weight / (self.thrust_scale * THRUST_LIMIT)), 4)
        hover = jnp.stack([weight / self.thrust_scale, *jnp.zeros(3)])
        return jnp.concatenate([position, attitude, velocity, jnp.zeros(3), speeds, hover])

    def fly(
        self,
        x: Float[Array, " 21"],
        command: Float[Array, " 4"],
        force: Float[Array, " 3"],
        time_step: float | Array = TIME_STEP,
    ) -> Float[Array, " 21"]:
        body, before = x[:17], x[17:]
        h = time_step / self.substeps

        def substep(body: Array, number: Array) -> tuple[Array, None]:
            late = jnp.clip((self.delay - number * h) / h, 0.0, 1.0)  # share of the substep before the delay is over
            held = command + late * (before - command)
            body = rk4(lambda body, u: self._ode(body, u, force), body, held, h)
            return jnp.concatenate([body[:3], normalised(body[3:7]), body[7:]]), None

        body, _ = jax.lax.scan(substep, body, jnp.arange(self.substeps))
        return jnp.concatenate([body, command])

    def rates(self, x: Float[Array, " 21"], command: Float[Array, " 4"]) -> Float[Array, " 3"]:
        del command
        return x[10:13]

    def _ode(self, body: Float[Array, " 17"], u: Float[Array, " 4"], force: Float[Array, " 3"]) -> Float[Array, " 17"]:
        q, v, rates, speeds = body[3:7], body[7:10], body[10:13], body[13:]
        J, believed = self.inertia, jnp.asarray(INERTIA, body.dtype)
        torque = believed * jnp.asarray(RATE_GAIN, body.dtype) * (self.rate_scale * u[1:] - rates)
        torque += jnp.cross(rates, believed * rates)
        wanted = jnp.asarray(np.linalg.inv(ALLOCATION), body.dtype) @ jnp.concatenate([u[:1], torque])
        target = jnp.sqrt(jnp.clip(wanted / ROTOR_THRUST, 1e-6, 1.0))
        thrusts = self.thrust_scale * ROTOR_THRUST * speeds**2
        produced = jnp.asarray(ALLOCATION, body.dtype) @ thrusts
        R = matrix(q)
        air = R.T @ v
        dragged = self.drag * (self.linear_drag + self.quadratic_drag * jnp.abs(air)) * air
        lift = self.lift * (air[0] ** 2 + air[1] ** 2)
        a = (R[:, 2] * (produced[0] + lift) - R @ dragged + force) / self.mass - jnp.array([0.0, 0.0, GRAVITY])
        turning = (produced[1:] - jnp.cross(rates, J * rates)) / J
        spin = 0.5 * product(q, jnp.concatenate([jnp.zeros(1), rates]))
        return jnp.concatenate([v, spin, a, turning, (target - speeds) / self.motor_time])


Plant = Literal["nominal", "realistic"]
PLANTS: dict[str, type[Nominal] | type[Realistic]] = {"nominal": Nominal, "realistic": Realistic}
