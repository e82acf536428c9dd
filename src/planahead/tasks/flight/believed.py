r"""What a planner that learns nothing believes of a quadrotor: the nominal one, or with `lags` what is between its
commands and their effects too.

    ω' = α,   α' = a (K (ω_c - ω) - α),   F' = a (F_c - F),   m v̇ = F z_B - R D(Rᵀ v) - m g + m (l z_B + d)
    D(w) = c₁ w + c₂ |w| w, entry by entry,                   x = (p, q, v, ω, α, F)

K is the gain of the rate loop, 1/a the lag of the rotors, D the drag; l along the thrust and d across it are
accelerations that are believed to last, l as the body turns and d in the world. ω, α and F are not observed: they are
what the model says of the commands that were given. With `lags` a command also takes effect a step late, which
`LapPolicy` sees to: it plans from where the vehicle will be by then.

The drag is what least squares find in a flight of the realistic quadrotor: 0.266 and 0.0144 N per m/s and per its
square ahead, likewise to the side, which leave 0.2 m/s² unexplained. Linear drag alone leaves errors of 4 m/s² at 17
m/s that turn with the flight, and an estimator that believes them to last makes them worse.
"""

from typing import final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.problem import static
from planahead.problem.integrators import rk4
from planahead.problem.rotation import body_z, matrix, normalised, product
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
    drag: Array = constant(0.27)  # N s/m, c₁, with `lags`
    quadratic_drag: Array = constant(0.014)  # N s²/m², c₂, likewise
    lift: Array = constant(0.0)  # m/s², l
    disturbance: Array = constant((0.0, 0.0, 0.0))  # m/s², d

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
            force = self.mass * (self.lift * body_z(x[3:7]) + self.disturbance)
            return Nominal(mass=self.mass).fly(x, u, force, TIME_STEP)
        x = rk4(self._ode, x, u, TIME_STEP)
        return jnp.concatenate([x[:3], normalised(x[3:7]), x[7:]])

    def _ode(self, x: Float[Array, " 17"], u: Float[Array, " 4"]) -> Float[Array, " 17"]:
        q, v, rates, turning, thrust = x[3:7], x[7:10], x[10:13], x[13:16], x[16:]
        spin = 0.5 * product(q, jnp.concatenate([jnp.zeros(1), rates]))
        R = matrix(q)
        air = R.T @ v
        dragged = (self.drag + self.quadratic_drag * jnp.abs(air)) * air
        a = (thrust / self.mass + self.lift) * R[:, 2] - R @ dragged / self.mass
        a += self.disturbance - jnp.array([0.0, 0.0, GRAVITY])
        turn = (self.rate_gain * (u[1:] - rates) - turning) / self.motor_time
        return jnp.concatenate([v, spin, a, turning, turn, (u[:1] - thrust) / self.motor_time])
