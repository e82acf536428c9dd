r"""Where a cart-pole is safe for ever: with so little energy that a spring and a damper keep the cart on its track.

    F = -k p - d ṗ         spring and damper
    V = ½ (M + m) ṗ² + ½ m l² θ̇² - m l ṗ θ̇ cos θ + m g l (1 + cos θ) + ½ k p²,      V̇ = -d ṗ²

V is the energy of cart, pole and spring, counted from hanging at rest in the middle. It never grows, so from V <= c the
cart stays within |p| <= √(2c / k), and F within what that energy allows. c is 8 J, room for turning at 16 rad/s or for
rolling at 3.8 m/s, and k = 2c / p_max² with p_max 0.1 m short of the track's end: the argument is for forces that
follow continuously. Held for a time step each, they let V grow by up to 10⁻³ of itself in a step while the pole turns
fast, and lose more as soon as the pole has moved the cart. `tests/tasks/test_cart_pole_safety.py` follows the law from
thousands of states until they are at rest, for the body as it comes and for others; one whose cart has a tenth of its
mass would be damped too hard for a force that is held.

All constants are the world's: what the planner believes may be wrong, and a certificate may not.
"""

import math
from typing import final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.problem import Bounds, Problem, SafetyProblem, TerminalSet, rk4, static
from planahead.tasks.cart_pole import CartPole

ENERGY = 8.0  # J
RESERVE = 0.1  # m
DAMPING = 3.0  # N s/m
HORIZON = 10
"""Half a second: a force of 80 N stops the cart from 10 m/s in an eighth, the rest is for the pole."""


@final
class OnTrack(Problem):
    """The world's body, its forces and its track; nothing is wanted."""

    body: CartPole = eqx.field(kw_only=True)
    horizon: int = static(1)
    state_size: int = static(4)
    control_size: int = static(1)

    def dynamics(self, x: Float[Array, " 4"], u: Float[Array, " 1"]) -> Float[Array, " 4"]:
        return rk4(self.body.ode, x, u, self.body.time_step)

    def control_bounds(self) -> Bounds:
        return Bounds(jnp.asarray(self.body.action_low), jnp.asarray(self.body.action_high))

    def state_bounds(self) -> Bounds:
        limit = jnp.full(4, jnp.inf).at[0].set(self.body.position_limit)
        return Bounds(-limit, limit)


@final
class LittleEnergy(TerminalSet):
    """V <= c, in units of c."""

    body: CartPole

    @property
    def stiffness(self) -> Float[Array, ""]:
        """k in N/m."""
        return 2.0 * ENERGY / (self.body.position_limit - RESERVE) ** 2

    def energy(self, x: Float[Array, " 4"]) -> Float[Array, ""]:
        """V in J."""
        position, angle, velocity, rate = x
        M, m, l, g = self.body.cart_mass, self.body.pole_mass, self.body.pole_length, self.body.gravity
        cart = 0.5 * (M + m) * velocity**2 + 0.5 * self.stiffness * position**2
        pole = 0.5 * m * l**2 * rate**2 + m * g * l * (1.0 + jnp.cos(angle))
        return cart + pole - m * l * velocity * rate * jnp.cos(angle)

    def values(self, x: Float[Array, " 4"]) -> Float[Array, " 1"]:
        return self.energy(x)[None] / ENERGY - 1.0

    def control(self, x: Float[Array, " 4"]) -> Float[Array, " 1"]:
        return -self.stiffness * x[:1] - DAMPING * x[2:3]


def cart_pole_safety(body: CartPole, horizon: int = HORIZON) -> SafetyProblem:
    """Forces after which the cart can be kept on its track for ever."""
    turn = (math.inf, 2.0 * math.pi, math.inf, math.inf)
    return SafetyProblem(OnTrack(body=body), LittleEnergy(body), horizon=horizon, periods=turn)
