r"""What a planner that learns nothing believes of a quadrotor: the nominal one, or with `lags` what is between its
commands and their effects too.

    ω' = α,   α' = a (K (ω_c - ω) - α),   F' = a (F_c - F),   m v̇ = F z_B - m g - c v + m d,   x = (p, q, v, ω, α, F)

K is the gain of the rate loop, 1/a the lag of the rotors, c a drag, and d an acceleration that is believed to last. ω,
α and F are not observed: they are what the model says of the commands that were given. With `lags` a command also takes
effect a step late, which `LapPolicy` sees to: it plans from where the vehicle will be by then.
"""

from typing import final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.problem import static
from planahead.problem.integrators import rk4
from planahead.problem.rotation import body_z, normalised, product
from planahead.tasks.environment import check_constants, constant
from planahead.tasks.flight.quadrotor import GRAVITY, MASS, MOTOR_TIME, RATE_GAIN, TIME_STEP, Nominal


@final
class Believed(eqx.Module):
    """A model for planning.

    >>> Believed().size, Believed(lags=True).size
    (10, 17)
    """

    lags: bool = static(False)
    mass: Array = constant(MASS, positive=True)  # kg
    rate_gain: Array = constant(RATE_GAIN, positive=True)  # 1/s
    motor_time: Array = constant(MOTOR_TIME, positive=True)  # s
    drag: Array = constant(0.35)  # N s/m, with `lags`: the linear drag at racing speed
    disturbance: Array = constant((0.0, 0.0, 0.0))  # m/s², in the world

    def __check_init__(self):
        check_constants(self)

    @property
    def size(self) -> int:
        """Of its state, which begins with p, q, v."""
        return 17 if self.lags else 10

    def hovering(self) -> Float[Array, " inner"]:
        """What is not observed of the state, at rest; nothing without lags."""
        return jnp.concatenate([jnp.zeros(6), self.mass[None] * GRAVITY]) if self.lags else jnp.zeros(0)

    def commanded(self, commands: Float[Array, "moments 4"]) -> Float[Array, "moments inner"]:
        """What is not observed of the state while commands are obeyed; nothing without lags."""
        if not self.lags:
            return jnp.zeros((len(commands), 0))
        return jnp.concatenate([commands[:, 1:], jnp.zeros((len(commands), 3)), commands[:, :1]], axis=1)

    def fly(self, x: Float[Array, " nx"], u: Float[Array, " 4"]) -> Float[Array, " nx"]:
        """The state a step of 20 ms later."""
        if not self.lags:
            return Nominal(mass=self.mass).fly(x, u, self.mass * self.disturbance, TIME_STEP)
        x = rk4(self._ode, x, u, TIME_STEP)
        return jnp.concatenate([x[:3], normalised(x[3:7]), x[7:]])

    def _ode(self, x: Float[Array, " 17"], u: Float[Array, " 4"]) -> Float[Array, " 17"]:
        q, v, rates, turning, thrust = x[3:7], x[7:10], x[10:13], x[13:16], x[16:]
        spin = 0.5 * product(q, jnp.concatenate([jnp.zeros(1), rates]))
        force = thrust * body_z(q) - self.drag * v
        a = force / self.mass - jnp.array([0.0, 0.0, GRAVITY]) + self.disturbance
        turn = (self.rate_gain * (u[1:] - rates) - turning) / self.motor_time
        return jnp.concatenate([v, spin, a, turning, turn, (u[:1] - thrust) / self.motor_time])
