"""Reference problems: nonlinear dynamics, a nonconvex constraint, a cost that is no sum of squares, a network inside.

Every problem stands twice: as a `pa.Problem`, and in CasADi symbols (`*_oracle`), written from the same formulas and
not from each other. Poles and pendulums: angle 0 is upright. Quaternions are w, x, y, z.
"""

import casadi as ca
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import planahead as pa
from tests.planning.ipopt import Limit, Transcription, casadi_rk4

GRAVITY = 9.81  # m/s²


def _cart_pole_ode(x, u, cart_mass, pole_mass, length):
    """d = M + m - m cos²θ; the accelerations of cart and pole."""
    sin, cos, rate = jnp.sin(x[1]), jnp.cos(x[1]), x[3]
    d = cart_mass + pole_mass - pole_mass * cos**2
    cart = (-pole_mass * length * sin * rate**2 + pole_mass * GRAVITY * cos * sin + u[0]) / d
    pole = (-pole_mass * length * cos * sin * rate**2 + u[0] * cos + (cart_mass + pole_mass) * GRAVITY * sin) / (
        length * d
    )
    return jnp.stack([x[2], rate, cart, pole])


def _cart_pole_oracle(x, u):
    """The same cart and pole with M = 1 kg, m = 0.1 kg, l = 0.8 m."""
    s, c, w, force = ca.sin(x[1]), ca.cos(x[1]), x[3], u[0]
    d = 1.1 - 0.1 * c * c
    return ca.vertcat(
        x[2],
        w,
        (force + 0.1 * s * (GRAVITY * c - 0.8 * w**2)) / d,
        (force * c + s * (1.1 * GRAVITY - 0.08 * c * w**2)) / (0.8 * d),
    )


class CartPoleBalance(pa.Problem):
    """Unstable: catch a leaning pole with |F| <= 15 N; the soft track limit |p| <= 0.45 m has to be broken."""

    horizon: int = pa.static(20)
    state_size: int = pa.static(4)  # position, angle, velocity, angular velocity
    control_size: int = pa.static(1)
    pole_mass: pa.Array = pa.parameter(0.1, low=0.05, high=0.2)  # kg
    length: pa.Array = pa.parameter(0.8, low=0.4, high=1.6)  # m
    reference: pa.Array = pa.parameter([0.0, 0.0, 0.0, 0.0], low=-6.3, high=6.3)
    track: pa.Array = pa.parameter(0.45, low=0.1, high=5.0)  # m

    def dynamics(self, x, u):
        return pa.rk4(lambda x, u: _cart_pole_ode(x, u, 1.0, self.pole_mass, self.length), x, u, 0.05)

    def stage_residual(self, x, u):
        return jnp.concatenate([jnp.sqrt(jnp.array([20.0, 20.0, 0.1, 0.1])) * (x - self.reference), jnp.sqrt(0.02) * u])

    def terminal_residual(self, x):
        return jnp.sqrt(jnp.array([200.0, 200.0, 1.0, 1.0])) * (x - self.reference)

    def control_bounds(self):
        return pa.Bounds(-15.0, 15.0)

    def state_bounds(self):
        beyond = jnp.array([jnp.inf, jnp.inf, jnp.inf])
        limit = jnp.concatenate([self.track[None], beyond])
        return pa.Bounds(-limit, limit, slack=pa.Slack(quadratic=1e3))


def cart_pole_balance_oracle():
    weight = ca.DM([20.0, 20.0, 0.1, 0.1])
    return Transcription(
        20,
        4,
        1,
        dynamics=lambda x, u, k: casadi_rk4(_cart_pole_oracle, x, u, 0.05),
        stage_cost=lambda x, u, k: 0.5 * (ca.dot(weight, x**2) + 0.02 * u[0] ** 2),
        terminal_cost=lambda x: 0.5 * ca.dot(ca.DM([200.0, 200.0, 1.0, 1.0]), x**2),
        control_lower=-15.0,
        control_upper=15.0,
        limits=tuple(
            Limit(lambda x, u, k: x[0], -0.45, 0.45, quadratic=1e3, stages=stages) for stages in ("inner", "terminal")
        ),
    )


class PendulumSwingUp(pa.Problem):
    """The published swing-up of a hanging pole within 1 s, |F| <= 80 N; its optimal cost is 2242.8281406."""

    horizon: int = pa.static(20)
    state_size: int = pa.static(4)
    control_size: int = pa.static(1)
    cart_mass: pa.Array = pa.parameter(1.0, low=0.5, high=2.0)
    angle_reference: pa.Array = pa.parameter(0.0, low=-6.3, high=6.3)
    weights: pa.Array = pa.parameter([1e3, 1e3, 1e-2, 1e-2], low=1e-3, high=1e4, scale="log")

    def dynamics(self, x, u):
        return pa.rk4(lambda x, u: _cart_pole_ode(x, u, self.cart_mass, 0.1, 0.8), x, u, 0.05)

    def _error(self, x):
        return x - self.angle_reference * jnp.array([0.0, 1.0, 0.0, 0.0])

    def stage_residual(self, x, u):
        return jnp.sqrt(0.05) * jnp.concatenate([jnp.sqrt(2 * self.weights) * self._error(x), jnp.sqrt(2e-2) * u])

    def terminal_residual(self, x):
        return jnp.sqrt(2 * self.weights) * self._error(x)

    def control_bounds(self):
        return pa.Bounds(-80.0, 80.0)


def pendulum_swing_up_oracle():
    weight = ca.DM([2e3, 2e3, 2e-2, 2e-2])
    return Transcription(
        20,
        4,
        1,
        dynamics=lambda x, u, k: casadi_rk4(_cart_pole_oracle, x, u, 0.05),
        stage_cost=lambda x, u, k: 0.025 * (ca.dot(weight, x**2) + 0.02 * u[0] ** 2),
        terminal_cost=lambda x: 0.5 * ca.dot(weight, x**2),
        control_lower=-80.0,
        control_upper=80.0,
    )


class Quadrotor(pa.Problem):
    """The published quadrotor: fly 1.4 m within 1 s with rotor thrusts in [0, 6] N; its optimal cost is 10.4719463."""

    horizon: int = pa.static(20)
    state_size: int = pa.static(13)  # position, attitude (w, x, y, z), velocity, body rates
    control_size: int = pa.static(4)  # rotor thrusts, N
    mass: pa.Array = pa.parameter(1.0, low=0.5, high=2.0)
    target: pa.Array = pa.parameter([0.0, 0.0, 1.0], low=-5.0, high=5.0)
    thrust_limit: pa.Array = pa.parameter(6.0, low=3.0, high=20.0)

    def _ode(self, x, u):
        (w, i, j, k), velocity, rates = x[3:7], x[7:10], x[10:13]
        arm = 0.17 / jnp.sqrt(2.0)
        mixer = jnp.array([[arm, -arm, -arm, arm], [-arm, -arm, arm, arm], [0.016, -0.016, 0.016, -0.016]])
        inertia = jnp.array([0.01, 0.01, 0.02])
        body_z = jnp.stack([2 * (i * k + w * j), 2 * (j * k - w * i), 1 - 2 * (i * i + j * j)])
        p, q, r = rates
        attitude_rate = 0.5 * jnp.stack(
            [-i * p - j * q - k * r, w * p + j * r - k * q, w * q + k * p - i * r, w * r + i * q - j * p]
        )
        acceleration = body_z * jnp.sum(u) / self.mass - jnp.array([0.0, 0.0, GRAVITY])
        angular = (mixer @ u - jnp.cross(rates, inertia * rates)) / inertia
        return jnp.concatenate([velocity, attitude_rate, acceleration, angular])

    def dynamics(self, x, u):
        return pa.rk4(self._ode, x, u, 0.05)

    def _error(self, x):
        return x - jnp.concatenate([self.target, jnp.array([1.0, 0.0, 0.0, 0.0]), jnp.zeros(6)])

    def stage_residual(self, x, u):
        weights = jnp.array([20.0] * 3 + [2.0] * 7 + [0.2] * 3)
        hover = self.mass * GRAVITY / 4
        return jnp.sqrt(0.05) * jnp.concatenate([jnp.sqrt(weights) * self._error(x), jnp.sqrt(0.05) * (u - hover)])

    def terminal_residual(self, x):
        return jnp.sqrt(10 * jnp.array([20.0] * 3 + [2.0] * 7 + [0.2] * 3)) * self._error(x)

    def control_bounds(self):
        return pa.Bounds(0.0, self.thrust_limit)


def quadrotor_oracle():
    weight = ca.DM([20.0] * 3 + [2.0] * 7 + [0.2] * 3)
    goal = ca.DM([0.0, 0.0, 1.0, 1.0] + [0.0] * 9)
    arm = 0.17 / np.sqrt(2.0)

    def ode(x, u):
        w, vector, rates = x[3], x[4:7], x[10:13]
        inertia = ca.DM([0.01, 0.01, 0.02])
        thrust = ca.vertcat(0, 0, ca.sum1(u))
        # Rotation by a quaternion: v + 2 w (q × v) + 2 q × (q × v).
        lift = thrust + 2 * w * ca.cross(vector, thrust) + 2 * ca.cross(vector, ca.cross(vector, thrust))
        torque = ca.vertcat(
            arm * (u[0] - u[1] - u[2] + u[3]), arm * (-u[0] - u[1] + u[2] + u[3]), 0.016 * (u[0] - u[1] + u[2] - u[3])
        )
        return ca.vertcat(
            x[7:10],
            -0.5 * ca.dot(vector, rates),
            0.5 * (w * rates + ca.cross(vector, rates)),
            lift - ca.vertcat(0, 0, GRAVITY),
            (torque - ca.cross(rates, inertia * rates)) / inertia,
        )

    return Transcription(
        20,
        13,
        4,
        dynamics=lambda x, u, k: casadi_rk4(ode, x, u, 0.05),
        stage_cost=lambda x, u, k: 0.025 * (ca.dot(weight, (x - goal) ** 2) + 0.05 * ca.sumsqr(u - GRAVITY / 4)),
        terminal_cost=lambda x: 5.0 * ca.dot(weight, (x - goal) ** 2),
        control_lower=0.0,
        control_upper=6.0,
        control_guess=GRAVITY / 4,
    )


class Obstacle(pa.Problem):
    """Nonconvex: drive a unicycle round a disc, r² - ‖p - c‖² <= 0, from beside its centre line; hard."""

    horizon: int = pa.static(20)
    state_size: int = pa.static(4)  # position x, y; heading; speed
    control_size: int = pa.static(2)  # acceleration, turn rate
    centre: pa.Array = pa.parameter([1.0, 0.0], low=-5.0, high=5.0)  # m
    radius: pa.Array = pa.parameter(0.5, low=0.1, high=2.0)  # m
    goal: pa.Array = pa.parameter([2.0, 0.0], low=-5.0, high=5.0)  # m

    def _ode(self, x, u):
        return jnp.stack([x[3] * jnp.cos(x[2]), x[3] * jnp.sin(x[2]), u[1], u[0]])

    def dynamics(self, x, u):
        return pa.rk4(self._ode, x, u, 0.1)

    def stage_residual(self, x, u):
        return jnp.concatenate([x[:2] - self.goal, 0.3 * u])

    def terminal_residual(self, x):
        return jnp.concatenate([3.0 * (x[:2] - self.goal), x[3:]])

    def control_bounds(self):
        return pa.Bounds([-2.0, -2.5], [2.0, 2.5])

    def constraints(self, x, u):
        return self._inside(x)

    def terminal_constraints(self, x):
        return self._inside(x)

    def _inside(self, x):
        return (self.radius**2 - jnp.sum((x[:2] - self.centre) ** 2))[None]


def obstacle_oracle(price: tuple[float, float] | None = None):
    goal, centre = ca.DM([2.0, 0.0]), ca.DM([1.0, 0.0])
    linear, quadratic = price or (None, None)
    return Transcription(
        20,
        4,
        2,
        dynamics=lambda x, u, k: casadi_rk4(
            lambda x, u: ca.vertcat(x[3] * ca.cos(x[2]), x[3] * ca.sin(x[2]), u[1], u[0]), x, u, 0.1
        ),
        stage_cost=lambda x, u, k: 0.5 * (ca.sumsqr(x[:2] - goal) + 0.09 * ca.sumsqr(u)),
        terminal_cost=lambda x: 0.5 * (9.0 * ca.sumsqr(x[:2] - goal) + x[3] ** 2),
        control_lower=[-2.0, -2.5],
        control_upper=[2.0, 2.5],
        limits=tuple(
            Limit(lambda x, u, k: ca.sumsqr(x[:2] - centre), 0.25, np.inf, linear, quadratic, stages)
            for stages in ("path", "terminal")
        ),
    )


class SoftObstacle(Obstacle):
    """The same disc, which may be entered at a price; the plan cuts it."""

    def constraint_slack(self):
        return pa.Slack(linear=0.5, quadratic=10.0)

    def terminal_constraint_slack(self):
        return pa.Slack(linear=0.5, quadratic=10.0)


class VanDerPol(pa.Problem):
    """No sum of squares: ℓ = log cosh(2 x₀) + ¼ x₁⁴ + ½ x₀ x₁ + exp(u) - u - 1 on the Van der Pol oscillator."""

    horizon: int = pa.static(25)
    state_size: int = pa.static(2)
    control_size: int = pa.static(1)
    damping: pa.Array = pa.parameter(1.0, low=0.1, high=3.0)
    steepness: pa.Array = pa.parameter(2.0, low=0.5, high=5.0)

    def dynamics(self, x, u):
        return pa.rk4(lambda x, u: jnp.stack([x[1], self.damping * (1 - x[0] ** 2) * x[1] - x[0] + u[0]]), x, u, 0.1)

    def stage_cost(self, x, u):
        return self._log_cosh(x[0]) + 0.25 * x[1] ** 4 + 0.5 * x[0] * x[1] + jnp.exp(u[0]) - u[0] - 1.0

    def terminal_cost(self, x):
        return 5.0 * self._log_cosh(x[0]) + x[1] ** 2

    def _log_cosh(self, position):
        return jnp.log(jnp.cosh(self.steepness * position))

    def control_bounds(self):
        return pa.Bounds(-1.5, 1.0)


def van_der_pol_oracle():
    return Transcription(
        25,
        2,
        1,
        dynamics=lambda x, u, k: casadi_rk4(
            lambda x, u: ca.vertcat(x[1], (1 - x[0] * x[0]) * x[1] - x[0] + u[0]), x, u, 0.1
        ),
        stage_cost=lambda x, u, k: (
            ca.log(ca.cosh(2 * x[0])) + x[1] ** 4 / 4 + x[0] * x[1] / 2 + ca.exp(u[0]) - u[0] - 1
        ),
        terminal_cost=lambda x: 5 * ca.log(ca.cosh(2 * x[0])) + x[1] ** 2,
        control_lower=-1.5,
        control_upper=1.0,
    )


class NetworkDynamics(pa.Problem):
    """A network inside the dynamics, v⁺ = v + 0.1 (u + MLP(p, v, u)), with force limits and a soft speed limit."""

    horizon: int = pa.static(15)
    state_size: int = pa.static(2)
    control_size: int = pa.static(1)
    network: eqx.nn.MLP = eqx.field(kw_only=True)
    target: pa.Array = pa.parameter(0.3, low=-2.0, high=2.0)

    def dynamics(self, x, u):
        correction = self.network(jnp.concatenate([x, u]))[0]
        return jnp.stack([x[0] + 0.1 * x[1], x[1] + 0.1 * (u[0] + correction)])

    def stage_residual(self, x, u):
        return jnp.stack([x[0] - self.target, 0.1 * x[1], 0.1 * u[0]])

    def terminal_residual(self, x):
        return jnp.stack([3.0 * (x[0] - self.target), x[1]])

    def control_bounds(self):
        return pa.Bounds(-3.0, 3.0)

    def state_bounds(self):
        return pa.Bounds([-jnp.inf, -0.8], [jnp.inf, 0.8], slack=pa.Slack(linear=0.05, quadratic=5.0))


def network_dynamics():
    """Weights are drawn in float32 whatever the precision, so that every test and the oracle hold the same numbers."""
    shape = eqx.nn.MLP(3, 1, 8, 2, activation=jnp.tanh, key=jax.random.key(0))
    weights = np.random.default_rng(0)

    def draw(leaf):
        return jnp.asarray(weights.normal(scale=0.5, size=leaf.shape).astype(np.float32), float)

    network = jax.tree.map(lambda leaf: draw(leaf) if eqx.is_array(leaf) else leaf, shape)
    return NetworkDynamics(network=network)


def network_dynamics_oracle():
    layers = network_dynamics().network.layers
    matrices = [(ca.DM(np.array(layer.weight, float)), ca.DM(np.array(layer.bias, float))) for layer in layers]

    def network(z):
        for weight, bias in matrices[:-1]:
            z = ca.tanh(weight @ z + bias)
        weight, bias = matrices[-1]
        return weight @ z + bias

    return Transcription(
        15,
        2,
        1,
        dynamics=lambda x, u, k: ca.vertcat(x[0] + 0.1 * x[1], x[1] + 0.1 * (u + network(ca.vertcat(x, u)))),
        stage_cost=lambda x, u, k: 0.5 * ((x[0] - 0.3) ** 2 + 0.01 * x[1] ** 2 + 0.01 * u[0] ** 2),
        terminal_cost=lambda x: 0.5 * (9 * (x[0] - 0.3) ** 2 + x[1] ** 2),
        control_lower=-3.0,
        control_upper=3.0,
        limits=tuple(
            Limit(lambda x, u, k: x[1], -0.8, 0.8, linear=0.05, quadratic=5.0, stages=stages)
            for stages in ("inner", "terminal")
        ),
    )
