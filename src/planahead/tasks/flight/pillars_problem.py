r"""The way between pillars as a point mass would fly it: what is planned before a policy that flies a quadrotor.

    minimise    Σ_k ½ (w_p ‖p_k - goal‖² + w_v ‖v_k‖² + w_a ‖a_k‖²) + ½ (w_N ‖p_N - goal‖² + w_v ‖v_N‖²)
    subject to  p⁺ = p + T v + ½ T² a,   v⁺ = v + T a,   |a| <= limit,   |v| <= limit in each direction
                ρ - ‖(p_x, p_y) - centre‖ <= 0 for every pillar,     p in the room        (soft)

    symbol   shape   meaning
    p, v, a  [3]     position [m], velocity [m/s], acceleration [m/s²] in the world
    ρ        []      how far its centre keeps from a pillar's, m

It knows neither attitude nor rotors, drag, wind or mass: whoever follows it has to.
"""

from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.planning import Guess
from planahead.problem import Bounds, Problem, Slack, parameter, static
from planahead.tasks.environment import check_constants, constant
from planahead.tasks.flight.vector import length

ROOM_LOW, ROOM_HIGH = (-3.5, -2.0, -1.5), (3.5, 2.0, 1.5)  # m
PILLARS = 3
RADIUS = 0.5  # m, of a pillar and the quadrotor together


@final
class PillarsPlan(Problem):
    """A point mass between pillars; `between(centres, goal)` is the problem in a certain world.

    >>> import planahead as pa
    >>> problem, still = PillarsPlan(), jnp.array([-2.5, 0.1, 0.0, 0.0, 0.0, 0.0])
    >>> plan = pa.solve(problem, still, guess=problem.towards(still))
    >>> bool((jnp.hypot(plan.states[:, 0], plan.states[:, 1]) > 0.5).all()), bool(plan.states[-1, 0] > 1.0)
    (True, True)
    """

    horizon: int = static(20)
    state_size: int = static(6)
    control_size: int = static(3)
    time_step: float = static(0.1)  # s

    goal: Array = parameter((2.5, 0.0, 0.0), low=ROOM_LOW, high=ROOM_HIGH)  # m
    centres: Array = constant(((-1.3, -1.2), (0.0, 0.0), (1.3, 1.2)))  # m
    goal_weight: Array = constant(1.0, positive=True)  # 1/m²
    end_weight: Array = constant(5.0, positive=True)  # 1/m²
    speed_weight: Array = constant(0.3, positive=True)  # s²/m²
    acceleration_weight: Array = constant(0.03, positive=True)  # s⁴/m²
    clearance: Array = constant(0.15)  # m, beyond what touches
    speed_limit: Array = constant(2.5, positive=True)  # m/s in each direction
    acceleration_limit: Array = constant(6.0, positive=True)  # m/s² in each direction
    contact_weight: Array = constant(50.0, positive=True)  # 1/m

    def __check_init__(self):
        check_constants(self)

    def dynamics(self, x: Float[Array, " 6"], u: Float[Array, " 3"]) -> Float[Array, " 6"]:
        T = self.time_step
        return jnp.concatenate([x[:3] + T * (x[3:] + 0.5 * T * u), x[3:] + T * u])

    def stage_residual(self, x: Float[Array, " 6"], u: Float[Array, " 3"]) -> Float[Array, " 9"]:
        return jnp.concatenate([self._off(x, self.goal_weight), jnp.sqrt(self.acceleration_weight) * u])

    def terminal_residual(self, x: Float[Array, " 6"]) -> Float[Array, " 6"]:
        return self._off(x, self.end_weight)

    def control_bounds(self) -> Bounds:
        return Bounds(-self.acceleration_limit * jnp.ones(3), self.acceleration_limit * jnp.ones(3))

    def state_bounds(self) -> Bounds:
        fast = self.speed_limit * jnp.ones(3)
        low, high = jnp.asarray(ROOM_LOW) + 0.2, jnp.asarray(ROOM_HIGH) - 0.2
        slack = Slack(linear=self.contact_weight)
        return Bounds(jnp.concatenate([low, -fast]), jnp.concatenate([high, fast]), slack=slack)

    def constraints(self, x: Float[Array, " 6"], u: Float[Array, " 3"]) -> Float[Array, " pillars"]:
        del u
        return RADIUS + self.clearance - jax.vmap(length)(x[None, :2] - self.centres)

    def constraint_slack(self) -> Slack:
        return Slack(linear=self.contact_weight)

    def between(self, centres: Float[Array, "pillars 2"], goal: Float[Array, " 3"]) -> "PillarsPlan":
        """The same with other pillars and another goal."""
        return eqx.tree_at(lambda problem: (problem.centres, problem.goal), self, (centres, goal))

    def towards(self, state: Float[Array, " 6"]) -> Guess:
        """Where a plan begins: straight to the goal at the speed limit, through whatever is there."""
        way = self.goal - state[:3]
        times = self.time_step * jnp.arange(self.horizon + 1)
        shares = jnp.minimum(times * self.speed_limit / jnp.maximum(length(way), 1e-3), 1.0)
        positions = state[None, :3] + jnp.outer(shares, way)
        velocities = jnp.diff(positions, axis=0, append=positions[-1:]) / self.time_step
        return Guess(jnp.concatenate([positions, velocities], axis=1), jnp.zeros((self.horizon, 3)))

    def drawn_to(self, state: Float[Array, " 6"]) -> Guess:
        """A way to the goal that costs next to nothing: under saturated linear feedback, through whatever is there."""

        def follow(x: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
            wanted = jnp.clip(1.5 * (self.goal - x[:3]), -self.speed_limit, self.speed_limit)
            u = jnp.clip(4.0 * (wanted - x[3:]), -self.acceleration_limit, self.acceleration_limit)
            return self.dynamics(x, u), (x, u)

        last, (states, controls) = jax.lax.scan(follow, state, length=self.horizon)
        return Guess(jnp.concatenate([states, last[None]]), controls)

    def _off(self, x: Float[Array, " 6"], weight: Array) -> Float[Array, " 6"]:
        return jnp.concatenate([jnp.sqrt(weight) * (x[:3] - self.goal), jnp.sqrt(self.speed_weight) * x[3:]])
