r"""Tracking: stay with a lap's reference as time goes on.

    minimise  Σ_k ½ ‖W (e_p, e_R, e_v)_{k+1}‖² + ½ ‖W_u (u_k - u_ref,k)‖²,      e_R = 2 sign(w) vec(q_ref⁻¹ ⊗ q)

over half a second of the lap from its point nearest to the quadrotor, at the quadrotor's own pace at first, see
`catching_up`.
"""

from typing import Any, final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.planning import Guess
from planahead.problem import Bounds, PerStage, parameter, quaternion_difference, static
from planahead.tasks.environment import check_constants, constant
from planahead.tasks.flight.believed import Believed
from planahead.tasks.flight.lap import Lap
from planahead.tasks.flight.lap_problem import Aim, LapProblem, catching_up
from planahead.tasks.flight.quadrotor import COMMAND_HIGH, COMMAND_LOW, GRAVITY, MASS


@final
class TrackingProblem(LapProblem):
    """`TrackingProblem.of(vehicle)` has the size that the vehicle needs."""

    horizon: int = static(25)
    state_size: int = static(10)
    control_size: int = static(4)
    reference: Any = parameter((0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    """Position, attitude, velocity, of every stage."""
    command: Any = parameter((MASS * GRAVITY, 0.0, 0.0, 0.0))
    """Of every stage."""
    position_weight: Array = constant(30.0, positive=True)  # per m²
    attitude_weight: Array = constant(3.0, positive=True)  # per rad²
    velocity_weight: Array = constant(0.3, positive=True)  # per (m/s)²
    command_weight: Array = constant((0.002, 0.03, 0.03, 0.1), positive=True)  # per N² and (rad/s)²
    catch_up: Array = constant(15.0, positive=True)  # m/s², c

    def __check_init__(self):
        check_constants(self)

    @classmethod
    def of(cls, vehicle: Believed, **fields: Any) -> "TrackingProblem":
        return cls(vehicle=vehicle, state_size=vehicle.size, **fields)

    def dynamics(self, x: Float[Array, " nx"], u: Float[Array, " 4"]) -> Float[Array, " nx"]:
        return self.vehicle.fly(x, u)

    def stage_residual(self, x: Float[Array, " nx"], u: Float[Array, " 4"]) -> Float[Array, " 13"]:
        return jnp.concatenate([self.terminal_residual(x), jnp.sqrt(self.command_weight) * (u - self.command)])

    def terminal_residual(self, x: Float[Array, " nx"]) -> Float[Array, " 9"]:
        return jnp.concatenate(
            [
                jnp.sqrt(self.position_weight) * (x[:3] - self.reference[:3]),
                jnp.sqrt(self.attitude_weight) * quaternion_difference(x[3:7], self.reference[3:7]),
                jnp.sqrt(self.velocity_weight) * (x[7:10] - self.reference[7:]),
            ]
        )

    def control_bounds(self) -> Bounds:
        return Bounds(jnp.array(COMMAND_LOW), jnp.array(COMMAND_HIGH))

    def aimed(self, lap: Lap, time: Float[Array, ""], state: Float[Array, " nx"], known: Guess) -> Aim:
        del known
        times, paces = catching_up(lap, time, state[7:10], self.catch_up, self.horizon)
        sample = lap.at(times)
        reference = jnp.concatenate([sample.states[:, :7], paces[:, None] * sample.states[:, 7:]], axis=1)
        where = lambda problem: (problem.reference, problem.command)  # noqa: E731
        problem = eqx.tree_at(where, self, (PerStage(reference), PerStage(sample.commands)))
        states = jnp.concatenate([reference, self.vehicle.commanded(sample.commands)], axis=1)
        return Aim(problem, state, Guess(states, sample.commands[:-1]))
