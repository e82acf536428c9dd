"""A mass on a rail of ±1 m, the smallest system that can be driven into a wall: too fast to stop."""

from typing import final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import planahead as pa


@final
class Slider(pa.Problem):
    """A double integrator with a force of ±1 N, 1 kg, ±2 m/s, in steps of 0.1 s."""

    horizon: int = pa.static(1)
    state_size: int = pa.static(2)
    control_size: int = pa.static(1)

    GAIN = np.array([[-6.0, -4.0]])
    LIMIT = np.array([1.0, 2.0])

    def dynamics(self, x: Float[Array, " 2"], u: Float[Array, " 1"]) -> Float[Array, " 2"]:
        return jnp.stack([x[0] + 0.1 * x[1] + 0.005 * u[0], x[1] + 0.1 * u[0]])

    def control_bounds(self) -> pa.Bounds:
        return pa.Bounds(-1.0, 1.0)

    def state_bounds(self) -> pa.Bounds:
        return pa.Bounds(-self.LIMIT, self.LIMIT)
