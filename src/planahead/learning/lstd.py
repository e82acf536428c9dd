r"""Least-squares temporal differences: the linear value function whose error no instrument can see.

    find w:   E[ ζ (c + γ ψ'ᵀw - ψᵀw) ] = 0        =>        w = (E[ζ (ψ - γψ')ᵀ] + ε·1)⁻¹ E[ζ c]

    symbol  shape    meaning
    ψ, ψ'   [b, n]   features of a row, and of what follows with γ (1 - terminated) multiplied in
    ζ       [b, n]   instruments; ψ itself unless told
    c       [b]      what the features are to explain
    ε       []       ridge times the mean diagonal entry's magnitude, for features that the data do not tell apart

Reference: S. Bradtke, A. Barto, "Linear least-squares algorithms for temporal difference learning", Machine Learning 22
(1996).
"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def lstd(
    features: Float[Array, "b n"],
    next_features: Float[Array, "b n"],
    target: Float[Array, " b"],
    *,
    instruments: Float[Array, "b n"] | None = None,
    weights: Float[Array, " b"] | None = None,
    ridge: float = 1e-6,
) -> Float[Array, " n"]:
    """w. Rows of zero weight do not count.

    A state that earns 1 and stays is worth 1 / (1 - γ):

    >>> one = jnp.ones((3, 1))
    >>> round(float(lstd(one, 0.5 * one, jnp.ones(3), ridge=1e-12)[0]), 3)
    2.0
    """
    seen = features if instruments is None else instruments
    seen = seen if weights is None else weights[:, None] * seen
    matrix = seen.T @ (features - next_features)
    size = matrix.shape[0]
    scale = jnp.mean(jnp.abs(jnp.diagonal(matrix)))
    scale = jnp.where(scale > 0, scale, 1.0)  # features that are all zero explain nothing
    return jnp.linalg.solve(matrix + ridge * scale * jnp.eye(size, dtype=matrix.dtype), seen.T @ target)


def monomials(x: Float[Array, "b n"]) -> Float[Array, "b features"]:
    """1, xᵢ and xᵢxⱼ for i <= j: what a value function of a linear-quadratic problem is made of.

    >>> monomials(jnp.array([[2.0, 3.0]])).tolist()
    [[1.0, 2.0, 3.0, 4.0, 6.0, 9.0]]
    """
    row, column = jnp.triu_indices(x.shape[1])
    return jnp.concatenate([jnp.ones_like(x[:, :1]), x, x[:, row] * x[:, column]], axis=1)
