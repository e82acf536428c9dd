"""Differences on circles and of rotations, smooth enough to be squared in a cost.

Angles:       a ⊖ b = a - b wrapped to [-π, π)
Quaternions:  (w, x, y, z), unit norm; q and -q are the same rotation. With the relative rotation e = p* ⊗ q,

    q ⊖ p = 2 · sign(e_w) · (e_x, e_y, e_z)

is the rotation vector from p to q to second order, in p's frame, zero exactly where the rotations agree, and
differentiable except half a turn away.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def angle_difference(a: Float[Array, "..."] | float, b: Float[Array, "..."] | float) -> Float[Array, "..."]:
    """`a - b` wrapped to [-π, π), in radians.

    >>> round(float(angle_difference(3.0, -3.0)), 4)
    -0.2832
    """
    return jnp.mod(jnp.asarray(a) - b + jnp.pi, 2 * jnp.pi) - jnp.pi


def quaternion_difference(q: Float[Array, " 4"], p: Float[Array, " 4"]) -> Float[Array, " 3"]:
    """The small rotation vector that takes `p` to `q`, in the frame of `p`, rad; both unit quaternions w, x, y, z.

    >>> import jax.numpy as jnp
    >>> half = 0.05
    >>> q = jnp.array([jnp.cos(half), jnp.sin(half), 0.0, 0.0])         # 0.1 rad about x
    >>> round(float(quaternion_difference(-q, jnp.array([1.0, 0.0, 0.0, 0.0]))[0]), 3)
    0.1
    """
    w, v = q[0], q[1:]
    w0, v0 = p[0], p[1:]
    real = w0 * w + jnp.dot(v0, v)
    imaginary = w0 * v - w * v0 - jnp.cross(v0, v)
    return 2 * jnp.where(real < 0, -1.0, 1.0) * imaginary
