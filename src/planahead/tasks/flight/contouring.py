r"""Contouring control (MPCC): get ahead along a lap's path as fast as the vehicle can, near to it.

    x = (vehicle, s),   u = (F, ω_c, ṡ),   s⁺ = s + h ṡ

    e = p - r(s),   lag = tᵀ e,   contour = (I - t tᵀ) e,   r(s) ≈ r(s̄) + r'(s̄) (s - s̄),   t = r'(s̄) / |r'(s̄)|

    minimise  Σ_k ½ (q_c(s̄) ‖contour‖² + q_l lag² + ‖W_u ((F, ω_c) - u_lap(s̄))‖² + q_p (ṡ_max - ṡ)²)

s is the time of the lap whose place is meant, so ṡ = 1 is as fast as the lap, and s̄ comes from the previous plan. Near
to gates q_c is larger: between them the path is only a hint. So are the commands of the lap: without a weight on
thrust, plans for a vehicle with lags switch it between its limits from step to step.

Reference: A. Romero, S. Sun, P. Foehn, D. Scaramuzza, "Model predictive contouring control for time-optimal quadrotor
flight", T-RO 2022, which weighs how fast commands change instead.
"""

from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.planning import Guess
from planahead.problem import Bounds, PerStage, parameter, static
from planahead.tasks.environment import check_constants, constant
from planahead.tasks.flight.believed import Believed
from planahead.tasks.flight.lap import Lap
from planahead.tasks.flight.lap_problem import Aim, LapProblem, catching_up
from planahead.tasks.flight.quadrotor import COMMAND_HIGH, COMMAND_LOW, GRAVITY, TIME_STEP


@final
class ContouringProblem(LapProblem):
    """`ContouringProblem.of(vehicle)` has the size that the vehicle needs."""

    horizon: int = static(25)
    state_size: int = static(11)
    control_size: int = static(5)
    place: Any = parameter((0.0,) * 12)
    """r(s̄), r'(s̄), s̄, the contour's weight and u_lap(s̄), of every stage."""
    contour_weight: Array = constant(9.0, positive=True)  # per m², far from gates
    gate_weight: Array = constant(80.0, positive=True)  # per m², in addition, in gates
    gate_reach: Array = constant(1.6, positive=True)  # m, over which it fades
    lag_weight: Array = constant(370.0, positive=True)  # per m²
    thrust_weight: Array = constant(0.002, positive=True)  # per N²
    rate_weight: Array = constant(0.013, positive=True)  # per (rad/s)²
    progress_weight: Array = constant(1.4, positive=True)
    progress_limit: Array = constant(1.6, positive=True)
    """ṡ_max"""
    catch_up: Array = constant(15.0, positive=True)  # m/s², where no plan is known yet

    def __check_init__(self):
        check_constants(self)

    @classmethod
    def of(cls, vehicle: Believed, **fields: Any) -> "ContouringProblem":
        return cls(vehicle=vehicle, state_size=vehicle.size + 1, **fields)

    def dynamics(self, x: Float[Array, " nx"], u: Float[Array, " 5"]) -> Float[Array, " nx"]:
        return jnp.concatenate([self.vehicle.fly(x[:-1], u[:4]), x[-1:] + TIME_STEP * u[4:]])

    def stage_residual(self, x: Float[Array, " nx"], u: Float[Array, " 5"]) -> Float[Array, " 9"]:
        weights = jnp.stack([self.thrust_weight, *(self.rate_weight,) * 3])
        effort = jnp.sqrt(weights) * (u[:4] - self.place[8:])
        progress = jnp.sqrt(self.progress_weight) * (self.progress_limit - u[4:])
        return jnp.concatenate([self.terminal_residual(x), effort, progress])

    def terminal_residual(self, x: Float[Array, " nx"]) -> Float[Array, " 4"]:
        point, slope, at, weight = self.place[:3], self.place[3:6], self.place[6], self.place[7]
        along = slope / jnp.sqrt(jnp.sum(slope**2) + 1e-12)
        error = x[:3] - point - slope * (x[-1] - at)
        lag = jnp.dot(along, error)
        contour = error - lag * along
        return jnp.concatenate([jnp.sqrt(weight) * contour, jnp.sqrt(self.lag_weight) * lag[None]])

    def control_guess(self) -> Float[Array, " 5"]:
        return jnp.stack([self.vehicle.mass * GRAVITY, *jnp.zeros(3), 1.0])

    def control_bounds(self) -> Bounds:
        limit = self.progress_limit[None]
        return Bounds(
            jnp.concatenate([jnp.array(COMMAND_LOW), 0 * limit]), jnp.concatenate([jnp.array(COMMAND_HIGH), limit])
        )

    def aimed(self, lap: Lap, time: Float[Array, ""], state: Float[Array, " nx"], known: Guess) -> Aim:
        N = self.horizon
        cold, paces = catching_up(lap, time, state[7:10], self.catch_up, N)
        planned = known.states[:, -1] - known.states[0, -1]
        times = jnp.where(planned[-1] > 0, time + planned, cold)
        sample, (later, earlier) = lap.at(times), (lap.at(times + 5e-3).states, lap.at(times - 5e-3).states)
        slopes = (later[:, :3] - earlier[:, :3]) / 1e-2
        gates = lap.states[:: lap.segment_steps, :3]
        nearest = jnp.min(jnp.sum((sample.states[:, None, :3] - gates[None]) ** 2, axis=-1), axis=1)
        weight = self.contour_weight + self.gate_weight * jnp.exp(-nearest / (2 * self.gate_reach**2))
        place = jnp.concatenate(
            [sample.states[:, :3], slopes, times[:, None], weight[:, None], sample.commands], axis=1
        )
        problem = eqx.tree_at(lambda problem: problem.place, self, PerStage(place))
        reference = jnp.concatenate([sample.states[:, :7], paces[:, None] * sample.states[:, 7:]], axis=1)
        states = jnp.concatenate([reference, self.vehicle.commanded(sample.commands), times[:, None]], axis=1)
        controls = jnp.concatenate([sample.commands[:-1], paces[:-1, None]], axis=1)
        return Aim(problem, jnp.append(state, time), Guess(states, controls))
