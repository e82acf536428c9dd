r"""Fly after a reference by feedback alone: what a policy that was trained to follow is compared with.

    a_d = (v_r(Δ) - v_r) / Δ + k_p (p_r - p) + k_v (v_r - v)                 wanted acceleration
    F = m z_Bᵀ (a_d + g e_z),      n = (a_d + g e_z) / ‖·‖                   thrust, and where it is to point
    ω_c = k_R Rᵀ (z_B × n),        ω_c,z = -k_ψ ψ                            body rates, and a heading that is held

    symbol   shape   meaning
    p_r, v_r [3]     the reference now, in Δ = 0.1 s at (Δ)
    z_B, ψ   [3], [] third column of R; heading

The cascade of T. Lee, M. Leok, N. H. McClamroch, "Geometric tracking control of a quadrotor UAV on SE(3)", CDC 2010,
without the loop of body rates, which the vehicle has. It knows the nominal mass, and neither wind nor drag; one that
`compensates` takes off the acceleration that the last step had beyond what its command should have given.
"""

from typing import Any, final

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from planahead.policies import Decision, Policy, Setting
from planahead.problem import static
from planahead.tasks.environment import check_constants, constant
from planahead.tasks.flight.pillars import AHEAD, referenced
from planahead.tasks.flight.quadrotor import COMMAND_HIGH, COMMAND_LOW, GRAVITY, MASS, TIME_STEP
from planahead.tasks.flight.vector import length


@final
class PlanFollower(Policy):
    """Of what `Pillars` observes.

    >>> import jax, planahead as pa
    >>> world = pa.make_task("pillars").environment
    >>> decision = PlanFollower().decide(world.observe(world.reset(jax.random.key(0))))
    >>> bool(decision.action[2] > 0)  # pitches ahead
    True
    """

    position_gain: Array = constant(6.0)  # 1/s², k_p
    velocity_gain: Array = constant(4.0)  # 1/s, k_v
    attitude_gain: Array = constant(10.0)  # 1/s, k_R
    heading_gain: Array = constant(2.0)  # 1/s, k_ψ
    mass: Array = constant(MASS, positive=True)  # kg, believed
    compensates: bool = static(False)
    """Take off what the last step accelerated beyond what its command should have."""

    def __check_init__(self):
        check_constants(self)

    def initial_memory(self) -> None:
        return None

    def settings(self) -> dict[str, Setting]:
        return {"gains": f"{self.position_gain} {self.velocity_gain} {self.attitude_gain} {self.heading_gain}"}

    def decide(self, observation: Float[Array, " 55"], memory: Any = None, key: PRNGKeyArray | None = None) -> Decision:
        del memory, key
        R, points = observation[:9].reshape(3, 3), referenced(observation)
        feedforward = (points[1, 1] - points[0, 1]) / (AHEAD[1] * TIME_STEP)
        wanted = feedforward + self.position_gain * points[0, 0] + self.velocity_gain * points[0, 1]
        wanted = wanted + jnp.array([0.0, 0.0, GRAVITY])
        up = R[:, 2]
        if self.compensates:
            believed = observation[18] / self.mass * up - jnp.array([0.0, 0.0, GRAVITY])
            wanted = wanted - (observation[15:18] - believed)
        rates = self.attitude_gain * R.T @ jnp.cross(up, wanted / jnp.maximum(length(wanted), 1e-3))
        heading = jnp.arctan2(R[1, 0], R[0, 0])
        command = jnp.stack([self.mass * jnp.dot(up, wanted), rates[0], rates[1], -self.heading_gain * heading])
        return Decision(jnp.clip(command, jnp.array(COMMAND_LOW), jnp.array(COMMAND_HIGH)), jnp.zeros(()))
