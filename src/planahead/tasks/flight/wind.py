"""Forces of the wind on a flying body: everywhere and always, in gusts, or in one zone.

    f(p, t) = wind_force + gust_force sin(2π t / gust_period + phase) + zone_force [zone_low <= p <= zone_high]

in newtons, so that bodies with and without drag feel the same; positions in metres in the world. The phase is drawn
once per episode.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from planahead.tasks.environment import check_constants, constant


class Wind(eqx.Module):
    """No wind by default.

    >>> side = Wind(zone_force=jnp.array([0.0, -3.76, 0.0]), zone_high=jnp.array([3.0, 2.0, 5.0]))
    >>> side.force(jnp.array([1.0, 0.5, 1.0]), jnp.array(0.0), jnp.array(0.0)).tolist()[1] < -3.7
    True
    """

    wind_force: Array = constant((0.0, 0.0, 0.0))  # N
    gust_force: Array = constant((0.0, 0.0, 0.0))  # N, amplitude
    gust_period: Array = constant(1.0, positive=True)  # s
    zone_force: Array = constant((0.0, 0.0, 0.0))  # N
    zone_low: Array = constant((0.0, 0.0, 0.0))  # m
    zone_high: Array = constant((0.0, 0.0, 0.0))  # m

    def __check_init__(self):
        check_constants(self)

    def force(
        self, position: Float[Array, " 3"], time: Float[Array, ""], phase: Float[Array, ""]
    ) -> Float[Array, " 3"]:
        """At a place [m] and a time [s] of an episode whose gusts began with `phase` [rad]."""
        gust = self.gust_force * jnp.sin(2 * jnp.pi * time / self.gust_period + phase)
        inside = jnp.all((position >= self.zone_low) & (position <= self.zone_high))
        return self.wind_force + gust + jnp.where(inside, self.zone_force, 0.0)
