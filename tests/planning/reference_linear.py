"""Reference problems with linear dynamics, most of them a mass that is pushed; each has one thing that is hard.

Every problem stands twice: as a `pa.Problem`, and in CasADi symbols (`*_oracle`), written from the same formulas and
not from each other. `γ^k` weighs stage k; `s` is the violation of a soft bound.
"""

from typing import Any

import casadi as ca
import jax.numpy as jnp
import numpy as np

import planahead as pa
from tests.planning.ipopt import Limit, Transcription


class _Mass:
    """The mass on a line, for the oracles: position, velocity; an impulse over 0.1 s, exact for constant force."""

    @staticmethod
    def dynamics(x, u, k):
        return ca.vertcat(x[0] + 0.1 * x[1] + 0.005 * u[0], x[1] + 0.1 * u[0])

    @staticmethod
    def stage_cost(x, u, k):
        return 0.5 * (x[0] ** 2 + 0.09 * x[1] ** 2 + 0.01 * u[0] ** 2)

    @staticmethod
    def terminal_cost(x):
        return 0.5 * (4.0 * x[0] ** 2 + x[1] ** 2)


class BoundedControl(pa.Problem):
    """min Σ ½(p² + 0.09 v² + 0.01 u²) + ½(4 p_N² + v_N²), |u| <= 1: the force saturates both ways."""

    horizon: int = pa.static(20)
    state_size: int = pa.static(2)
    control_size: int = pa.static(1)
    mass: pa.Array = pa.parameter(1.0, low=0.5, high=2.0)  # kg
    target: pa.Array = pa.parameter(0.0, low=-2.0, high=2.0)  # m
    weights: pa.Array = pa.parameter([1.0, 0.3, 0.1], low=0.01, high=10.0, scale="log")
    force_limit: pa.Array = pa.parameter(1.0, low=0.1, high=10.0)  # N

    def dynamics(self, x, u):
        acceleration = u[0] / self.mass
        return jnp.stack([x[0] + 0.1 * x[1] + 0.005 * acceleration, x[1] + 0.1 * acceleration])

    def stage_residual(self, x, u):
        return self.weights * jnp.stack([x[0] - self.target, x[1], u[0]])

    def terminal_residual(self, x):
        return jnp.stack([2.0 * (x[0] - self.target), x[1]])

    def control_bounds(self):
        return pa.Bounds(-self.force_limit, self.force_limit)


def bounded_control_oracle():
    return Transcription(20, 2, 1, _Mass.dynamics, _Mass.stage_cost, _Mass.terminal_cost, -1.0, 1.0)


class HardStateBound(pa.Problem):
    """The same mass under the hard speed limit |v| <= 0.4, at which it travels for many stages."""

    horizon: int = pa.static(25)
    state_size: int = pa.static(2)
    control_size: int = pa.static(1)
    target: pa.Array = pa.parameter(0.0, low=-2.0, high=2.0)
    speed_limit: pa.Array = pa.parameter(0.4, low=0.1, high=2.0)  # m/s
    force_limit: pa.Array = pa.parameter(3.0, low=0.1, high=10.0)

    def dynamics(self, x, u):
        return jnp.stack([x[0] + 0.1 * x[1] + 0.005 * u[0], x[1] + 0.1 * u[0]])

    def stage_residual(self, x, u):
        return jnp.stack([x[0] - self.target, 0.3 * x[1], 0.1 * u[0]])

    def terminal_residual(self, x):
        return jnp.stack([2.0 * (x[0] - self.target), x[1]])

    def control_bounds(self):
        return pa.Bounds(-self.force_limit, self.force_limit)

    def state_bounds(self):
        return pa.Bounds(jnp.stack([-jnp.inf, -self.speed_limit]), jnp.stack([jnp.inf, self.speed_limit]))


def hard_state_bound_oracle():
    speed = [Limit(lambda x, u, k: x[1], -0.4, 0.4, stages=stages) for stages in ("inner", "terminal")]
    return Transcription(25, 2, 1, _Mass.dynamics, _Mass.stage_cost, _Mass.terminal_cost, -3.0, 3.0, tuple(speed))


class SoftStateBound(pa.Problem):
    """Two soft limits: v >= -0.5 is broken at a price, p >= 0.05 is kept exactly, because its linear price is steep."""

    horizon: int = pa.static(20)
    state_size: int = pa.static(2)
    control_size: int = pa.static(1)
    floor: pa.Array = pa.parameter([0.05, -0.5], low=-1.0, high=1.0)
    linear: pa.Array = pa.parameter([5.0, 0.02], low=1e-3, high=1e3, scale="log")
    quadratic: pa.Array = pa.parameter([1.0, 2.0], low=1e-3, high=1e3, scale="log")

    def dynamics(self, x, u):
        return jnp.stack([x[0] + 0.1 * x[1] + 0.005 * u[0], x[1] + 0.1 * u[0]])

    def stage_residual(self, x, u):
        return jnp.stack([x[0], 0.3 * x[1], 0.1 * u[0]])

    def terminal_residual(self, x):
        return jnp.stack([2.0 * x[0], x[1]])

    def control_bounds(self):
        return pa.Bounds(-2.0, 2.0)

    def state_bounds(self):
        return pa.Bounds(self.floor, jnp.inf, slack=pa.Slack(self.linear, self.quadratic))


def soft_state_bound_oracle():
    soft = [
        Limit(lambda x, u, k, entry=entry: x[entry], lower, np.inf, linear, quadratic, stages)
        for entry, lower, linear, quadratic in ((0, 0.05, 5.0, 1.0), (1, -0.5, 0.02, 2.0))
        for stages in ("inner", "terminal")
    ]
    return Transcription(20, 2, 1, _Mass.dynamics, _Mass.stage_cost, _Mass.terminal_cost, -2.0, 2.0, tuple(soft))


class NonlinearConstraint(pa.Problem):
    """A mass in the plane: thrust in a disc, ‖u‖² <= 1, and slow before the wall, v_x² <= 0.5 (1.2 - p_x); hard."""

    horizon: int = pa.static(15)
    state_size: int = pa.static(4)  # position x, y; velocity x, y
    control_size: int = pa.static(2)
    target: pa.Array = pa.parameter([1.0, 0.5], low=-2.0, high=2.0)
    thrust_limit: pa.Array = pa.parameter(1.0, low=0.2, high=5.0)
    wall: pa.Array = pa.parameter(1.2, low=0.5, high=5.0)
    braking: pa.Array = pa.parameter(0.5, low=0.1, high=5.0)

    def dynamics(self, x, u):
        return jnp.concatenate([x[:2] + 0.15 * x[2:] + 0.5 * 0.15**2 * u, x[2:] + 0.15 * u])

    def stage_residual(self, x, u):
        return jnp.concatenate([x[:2] - self.target, 0.1 * x[2:], 0.1 * u])

    def terminal_residual(self, x):
        return jnp.concatenate([3.0 * (x[:2] - self.target), x[2:]])

    def constraints(self, x, u):
        return jnp.stack([u @ u - self.thrust_limit**2, x[2] ** 2 - self.braking * (self.wall - x[0])])


def _plane(x, u, time_step):
    return ca.vertcat(x[0:2] + time_step * x[2:4] + 0.5 * time_step**2 * u, x[2:4] + time_step * u)


def nonlinear_constraint_oracle():
    target = ca.DM([1.0, 0.5])
    return Transcription(
        15,
        4,
        2,
        dynamics=lambda x, u, k: _plane(x, u, 0.15),
        stage_cost=lambda x, u, k: 0.5 * (ca.sumsqr(x[:2] - target) + 0.01 * ca.sumsqr(x[2:]) + 0.01 * ca.sumsqr(u)),
        terminal_cost=lambda x: 0.5 * (9.0 * ca.sumsqr(x[:2] - target) + ca.sumsqr(x[2:])),
        limits=(
            Limit(lambda x, u, k: ca.sumsqr(u), upper=1.0, stages="path"),
            Limit(lambda x, u, k: x[2] ** 2 + 0.5 * x[0], upper=0.6, stages="path"),
        ),
    )


class TerminalConstraint(pa.Problem):
    """Be nearly at rest in the end: a hard box |p_N| <= 0.06 and a hard ellipse 4 p_N² + v_N² <= 0.04; both active."""

    horizon: int = pa.static(12)
    state_size: int = pa.static(2)
    control_size: int = pa.static(1)
    arrival: pa.Array = pa.parameter(0.06, low=0.01, high=1.0)
    radius: pa.Array = pa.parameter(0.2, low=0.05, high=1.0)

    def dynamics(self, x, u):
        return jnp.stack([x[0] + 0.1 * x[1] + 0.005 * u[0], x[1] + 0.1 * u[0]])

    def stage_residual(self, x, u):
        return jnp.stack([0.1 * x[0], 0.1 * x[1], 0.3 * u[0]])

    def control_bounds(self):
        return pa.Bounds(-6.0, 6.0)

    def terminal_bounds(self):
        return pa.Bounds(jnp.stack([-self.arrival, -jnp.inf]), jnp.stack([self.arrival, jnp.inf]))

    def terminal_constraints(self, x):
        return (4.0 * x[0] ** 2 + x[1] ** 2 - self.radius**2)[None]


def terminal_constraint_oracle():
    return Transcription(
        12,
        2,
        1,
        _Mass.dynamics,
        stage_cost=lambda x, u, k: 0.5 * (0.01 * x[0] ** 2 + 0.01 * x[1] ** 2 + 0.09 * u[0] ** 2),
        control_lower=-6.0,
        control_upper=6.0,
        limits=(
            Limit(lambda x, u, k: x[0], -0.06, 0.06, stages="terminal"),
            Limit(lambda x, u, k: 4.0 * x[0] ** 2 + x[1] ** 2, upper=0.04, stages="terminal"),
        ),
    )


def moving_target() -> np.ndarray:
    """Where the discounted problem wants the mass to be, stage by stage."""
    return 0.5 * np.sin(0.4 * np.arange(19))


class DiscountedTracking(pa.Problem):
    """Follow a target, γ = 0.9; target and weight have a value per stage; soft p <= 0.15, its price discounted."""

    horizon: int = pa.static(18)
    state_size: int = pa.static(2)
    control_size: int = pa.static(1)
    discount: pa.Array | float = pa.parameter(0.9, low=0.1, high=1.0)
    target: Any = pa.parameter(0.0, low=-2.0, high=2.0)
    weight: Any = pa.parameter(1.0, low=0.1, high=10.0)

    def dynamics(self, x, u):
        return jnp.stack([x[0] + 0.1 * x[1] + 0.005 * u[0], x[1] + 0.1 * u[0]])

    def stage_residual(self, x, u):
        return jnp.stack([self.weight * (x[0] - self.target), 0.1 * x[1], 0.05 * u[0]])

    def terminal_residual(self, x):
        return (self.weight * (x[0] - self.target))[None]

    def control_bounds(self):
        return pa.Bounds(-4.0, 4.0)

    def state_bounds(self):
        return pa.Bounds(-jnp.inf, [0.15, jnp.inf], slack=pa.Slack(linear=0.1, quadratic=2.0))


def discounted_tracking():
    stages = jnp.arange(19.0)
    return DiscountedTracking(
        target=pa.PerStage(jnp.asarray(moving_target())), weight=pa.PerStage(1.0 + 0.1 * jnp.asarray(stages))
    )


def discounted_tracking_oracle():
    target = moving_target()
    return Transcription(
        18,
        2,
        1,
        _Mass.dynamics,
        stage_cost=lambda x, u, k: (
            0.5 * ((1 + 0.1 * k) ** 2 * (x[0] - target[k]) ** 2 + 0.01 * x[1] ** 2 + 0.0025 * u[0] ** 2)
        ),
        terminal_cost=lambda x: 0.5 * 2.8**2 * (x[0] - target[18]) ** 2,
        control_lower=-4.0,
        control_upper=4.0,
        limits=tuple(
            Limit(lambda x, u, k: x[0], upper=0.15, linear=0.1, quadratic=2.0, stages=stages)
            for stages in ("inner", "terminal")
        ),
        discount=0.9,
    )


def prices() -> np.ndarray:
    """What a unit of energy costs, stage by stage."""
    return 0.4 + 0.3 * np.sin(1.1 * np.arange(13)) - 0.01 * np.arange(13)


class Storage(pa.Problem):
    """Buy low, sell high: ℓ = price (charge - discharge) has no curvature; leaks and losses; hard contents.

    The leak keeps contents at a limit from following from the stage before, which would make multipliers ambiguous.
    """

    horizon: int = pa.static(12)
    state_size: int = pa.static(1)  # contents
    control_size: int = pa.static(2)  # charge, discharge
    price: Any = pa.parameter(0.3, low=0.0, high=1.0)
    efficiency: pa.Array = pa.parameter(0.95, low=0.5, high=1.0)
    capacity: pa.Array = pa.parameter(2.0, low=0.5, high=5.0)

    def dynamics(self, x, u):
        return 0.97 * x + self.efficiency * u[:1] - u[1:] / self.efficiency

    def stage_cost(self, x, u):
        return self.price * (u[0] - u[1])

    def terminal_cost(self, x):
        return -0.25 * x[0]

    def control_bounds(self):
        return pa.Bounds(0.0, [0.7, 0.9])

    def state_bounds(self):
        return pa.Bounds(0.2, self.capacity)


def storage():
    return Storage(price=pa.PerStage(jnp.asarray(prices())))


def storage_oracle():
    price = prices()
    return Transcription(
        12,
        1,
        2,
        dynamics=lambda x, u, k: 0.97 * x + 0.95 * u[0] - u[1] / 0.95,
        stage_cost=lambda x, u, k: price[k] * (u[0] - u[1]),
        terminal_cost=lambda x: -0.25 * x[0],
        control_lower=0.0,
        control_upper=[0.7, 0.9],
        limits=tuple(Limit(lambda x, u, k: x[0], 0.2, 2.0, stages=stages) for stages in ("inner", "terminal")),
    )
