"""The two published nonlinear problems, and the cart-pole whose cold starts defeat full steps.

Costs are Σ_k Δt ½(‖x - x_ref‖²_Q + ‖u - u_ref‖²_R) + ½‖x_N - x_ref‖²_QN over a horizon of 1 s in 20 steps, to be
minimised.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import planahead as pa

GRAVITY = 9.81  # m/s²
TIME_STEP = 0.05  # s


class Pendulum(pa.Problem):
    """Swing a pole up: x = (position, angle, velocity, angular velocity), u = force; its optimal cost is
    2242.8281406."""

    horizon: int = pa.static(20)
    state_size: int = pa.static(4)
    control_size: int = pa.static(1)
    cart_mass: pa.Array = pa.parameter(1.0, low=0.5, high=2.0)  # kg
    force_limit: pa.Array = pa.parameter(80.0, low=10.0, high=200.0)  # N

    def ode(self, x, u):
        """ẋ with m = 0.1 kg, l = 0.8 m; the angle is 0 upright."""
        m, l = 0.1, 0.8
        s, c = jnp.sin(x[1]), jnp.cos(x[1])
        d = self.cart_mass + m - m * c * c
        linear = -m * l * s * x[3] ** 2 + u[0]
        return jnp.stack(
            [
                x[2],
                x[3],
                (linear + m * GRAVITY * c * s) / d,
                (linear * c + (self.cart_mass + m) * GRAVITY * s) / (l * d),
            ]
        )

    def dynamics(self, x, u):
        return pa.rk4(self.ode, x, u, TIME_STEP)

    def stage_residual(self, x, u):
        return np.sqrt(TIME_STEP) * jnp.concatenate([np.sqrt([2e3, 2e3, 2e-2, 2e-2]) * x, np.sqrt(2e-2) * u])

    def terminal_residual(self, x):
        return jnp.sqrt(np.array([2e3, 2e3, 2e-2, 2e-2])) * x

    def control_bounds(self):
        return pa.Bounds(-self.force_limit, self.force_limit)


class CartPole(Pendulum):
    """The same near upright, on a track whose end is soft."""

    def state_bounds(self):
        limit = np.array([2.4, np.inf, np.inf, np.inf])
        return pa.Bounds(-limit, limit, slack=pa.Slack(linear=1e2, quadratic=1e2))


class Quadrotor(pa.Problem):
    """Fly 1.4 m: x = (position, attitude w x y z, velocity, body rates), u = rotor thrusts; its optimal cost is
    10.4719463."""

    horizon: int = pa.static(20)
    state_size: int = pa.static(13)
    control_size: int = pa.static(4)
    mass: pa.Array = pa.parameter(1.0, low=0.5, high=2.0)  # kg
    thrust_limit: pa.Array = pa.parameter(6.0, low=3.0, high=20.0)  # N

    def ode(self, x, u):
        """ẋ with J = diag(0.01, 0.01, 0.02) kg m² and arms of 0.17 m."""
        w, i, j, k = x[3:7]
        p, q, r = x[10:13]
        arm = 0.17 / np.sqrt(2.0)
        roll, pitch = arm * (u[0] - u[1] - u[2] + u[3]), arm * (-u[0] - u[1] + u[2] + u[3])
        yaw = 0.016 * (u[0] - u[1] + u[2] - u[3])
        thrust = (u[0] + u[1] + u[2] + u[3]) / self.mass
        attitude = [-i * p - j * q - k * r, w * p + j * r - k * q, w * q + k * p - i * r, w * r + i * q - j * p]
        axis = [2 * (i * k + w * j), 2 * (j * k - w * i), 1 - 2 * (i * i + j * j)]
        rates = [(roll - 0.01 * q * r) / 0.01, (pitch + 0.01 * p * r) / 0.01, yaw / 0.02]
        acceleration = [thrust * axis[0], thrust * axis[1], thrust * axis[2] - GRAVITY]
        return jnp.stack([*x[7:10], *(0.5 * part for part in attitude), *acceleration, *rates])

    def dynamics(self, x, u):
        return pa.rk4(self.ode, x, u, TIME_STEP)

    def _residual(self, x):
        goal = np.concatenate([[0.0, 0.0, 1.0, 1.0], np.zeros(9)])
        return np.sqrt([20.0] * 3 + [2.0] * 7 + [0.2] * 3) * (x - goal)

    def stage_residual(self, x, u):
        hover = self.mass * GRAVITY / 4
        return np.sqrt(TIME_STEP) * jnp.concatenate([self._residual(x), np.sqrt(0.05) * (u - hover)])

    def terminal_residual(self, x):
        return np.sqrt(10.0) * self._residual(x)

    def control_bounds(self):
        return pa.Bounds(0.0, self.thrust_limit)


@dataclasses.dataclass(frozen=True)
class Case:
    """A problem, where it starts, and what is known of it."""

    name: str
    build: Callable[[], pa.Problem]
    start: tuple[float, ...]
    spread: float
    """Of the starts of a batch, uniform around `start`, in every state."""
    cost: float

    def starts(self, count: int) -> jax.Array:
        """The starts of a batch; the first one is `start` itself."""
        random = np.random.default_rng(0)
        offsets = random.uniform(-self.spread, self.spread, (count, len(self.start)))
        offsets[0] = 0.0
        return jnp.asarray(np.asarray(self.start) + offsets)


CASES = (
    Case("pendulum", Pendulum, (0.0, float(np.pi), 0.0, 0.0), 0.1, 2242.8281406),
    Case("quadrotor", Quadrotor, (1.0, 0.0, 0.0, 1.0) + 9 * (0.0,), 0.1, 10.4719463),
)
