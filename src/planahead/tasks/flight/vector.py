"""Of vectors in space."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def length(v: Float[Array, " n"]) -> Float[Array, ""]:
    """|v|, with the derivative 0 where v is.

    >>> import jax
    >>> float(length(jnp.array([3.0, 4.0]))), jax.grad(length)(jnp.zeros(2)).tolist()
    (5.0, [0.0, 0.0])
    """
    square = jnp.sum(v * v)
    moves = square > 0
    return jnp.where(moves, jnp.sqrt(jnp.where(moves, square, 1.0)), 0.0)
