r"""Rotations as unit quaternions, w first: from the body's frame to the world's.

    product     p ⊗ q                                 first q, then p
    matrix      v ↦ R(q) v                            body to world
    turned      q ⊗ exp(½ h ω)                        exact for a body rate ω held for a time h

exp(½ h ω) = (cos θ, sin θ / θ · ½ h ω) with θ = ½ h |ω|. Both factors are smooth functions of θ², which is how they are
computed: the derivative at rest exists and is right.

Everything is for one rotation; `jax.vmap` gives batches. Nothing is normalised unless it says so.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def product(p: Float[Array, " 4"], q: Float[Array, " 4"]) -> Float[Array, " 4"]:
    """p ⊗ q.

    >>> product(jnp.array([0.0, 1.0, 0.0, 0.0]), jnp.array([0.0, 0.0, 1.0, 0.0])).tolist()     # i j = k
    [0.0, 0.0, 0.0, 1.0]
    """
    a, b, c, d = p
    w, x, y, z = q
    return jnp.stack(
        [
            a * w - b * x - c * y - d * z,
            a * x + b * w + c * z - d * y,
            a * y - b * z + c * w + d * x,
            a * z + b * y - c * x + d * w,
        ]
    )


def matrix(q: Float[Array, " 4"]) -> Float[Array, "3 3"]:
    """The rotation matrix of a unit quaternion; its columns are the body's axes in the world."""
    w, x, y, z = q
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return jnp.stack([jnp.stack(row) for row in rows])


def body_z(q: Float[Array, " 4"]) -> Float[Array, " 3"]:
    """The third column of `matrix(q)`: where a rotor's thrust points."""
    w, x, y, z = q
    return jnp.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)])


def turned(q: Float[Array, " 4"], rates: Float[Array, " 3"], time_step: float | Array) -> Float[Array, " 4"]:
    """The attitude after turning with body `rates` [rad/s] for `time_step` [s].

    >>> half_turn = turned(jnp.array([1.0, 0.0, 0.0, 0.0]), jnp.array([0.0, 0.0, jnp.pi]), 1.0)
    >>> [round(float(entry), 5) + 0.0 for entry in half_turn]
    [0.0, 0.0, 0.0, 1.0]
    """
    half = 0.5 * time_step * rates
    square = jnp.sum(half * half)
    small = square < 1e-4  # where three terms of the series are exact to eight digits
    angle = jnp.sqrt(jnp.where(small, 1.0, square))
    cos = jnp.where(small, 1 - square / 2 + square**2 / 24, jnp.cos(angle))
    sinc = jnp.where(small, 1 - square / 6 + square**2 / 120, jnp.sin(angle) / angle)
    return product(q, jnp.concatenate([cos[None], sinc * half]))


def normalised(q: Float[Array, " 4"]) -> Float[Array, " 4"]:
    """The unit quaternion in the direction of `q`, which must not be zero."""
    return q / jnp.sqrt(jnp.sum(q * q))


def from_yaw(yaw: float | Array) -> Float[Array, " 4"]:
    """A rotation about the world's vertical axis [rad]."""
    half = 0.5 * jnp.asarray(yaw)
    zero = jnp.zeros_like(half)
    return jnp.stack([jnp.cos(half), zero, zero, jnp.sin(half)])


def from_matrix(R: Float[Array, "3 3"]) -> Float[Array, " 4"]:
    """The unit quaternion of a rotation matrix, with w >= 0.

    4 q qᵀ is linear in R, and its column at the largest diagonal entry is a well-conditioned multiple of q. Where w = 0
    the sign jumps: q and -q are one rotation.
    """
    (a, b, c), (d, e, f), (g, h, i) = R
    columns = jnp.stack(
        [
            jnp.stack([1 + a + e + i, h - f, c - g, d - b]),
            jnp.stack([h - f, 1 + a - e - i, b + d, c + g]),
            jnp.stack([c - g, b + d, 1 - a + e - i, f + h]),
            jnp.stack([d - b, c + g, f + h, 1 - a - e + i]),
        ]
    )
    column = columns[jnp.argmax(jnp.diagonal(columns))]
    return normalised(jnp.where(column[0] < 0, -column, column))
