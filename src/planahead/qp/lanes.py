"""Linear algebra for many small matrices at once, the batch ("lanes") in the last axis.

A lane's matrix of a few rows is too small for a vector unit, but entry (i, j) of all lanes is one contiguous vector. So
every product is written out over its inner index, and the compiler turns each term into one vectorised loop over the
lanes. Lanes never mix. Shapes: matrices `[i, j, B]`, vectors `[i, B]`.
"""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint
from jaxtyping import Array, Bool, Float

T = TypeVar("T")


def matmul(A: Float[Array, "i j B"], X: Float[Array, "j k B"]) -> Float[Array, "i k B"]:
    """A X in every lane."""
    return sum(
        (A[:, j, None, :] * X[None, j, :, :] for j in range(X.shape[0])), start=_zeros(A, A.shape[0], X.shape[1])
    )


def matmul_transposed(A: Float[Array, "j i B"], X: Float[Array, "j k B"]) -> Float[Array, "i k B"]:
    """Aᵀ X in every lane."""
    return sum(
        (A[j, :, None, :] * X[j, None, :, :] for j in range(X.shape[0])), start=_zeros(A, A.shape[1], X.shape[1])
    )


def matvec(A: Float[Array, "i j B"], x: Float[Array, "j B"]) -> Float[Array, "i B"]:
    """A x in every lane."""
    return sum((A[:, j] * x[None, j] for j in range(x.shape[0])), start=_zeros(A, A.shape[0]))


def matvec_transposed(A: Float[Array, "j i B"], x: Float[Array, "j B"]) -> Float[Array, "i B"]:
    """Aᵀ x in every lane."""
    return sum((A[j] * x[j, None] for j in range(x.shape[0])), start=_zeros(A, A.shape[1]))


def inverse_cholesky(M: Float[Array, "n n B"]) -> tuple[Float[Array, "n n B"], Bool[Array, " B"]]:
    """W = L⁻¹ with M = L Lᵀ, so that M⁻¹ = Wᵀ W, and whether M was positive definite. Only the lower triangle of M is
    read.

    A lane with a pivot that is not positive gets the pivot 1 instead; its W is finite and means nothing.
    """
    n = M.shape[0]
    ones = jnp.ones_like(M[0, 0]) if n else jnp.ones(M.shape[2:], M.dtype)
    definite = jnp.ones_like(ones, bool)
    rows: list[list[Array]] = []
    inverse_pivots: list[Array] = []
    for i in range(n):
        row: list[Array] = []
        for j in range(i):
            entry = M[i, j] - sum(row[m] * rows[j][m] for m in range(j))
            row.append(entry * inverse_pivots[j])
        pivot = M[i, i] - sum(entry * entry for entry in row)
        positive = pivot > 0
        definite &= positive
        inverse_pivots.append(jax.lax.rsqrt(jnp.where(positive, pivot, 1.0)))
        rows.append(row)
    # Forward substitution on the identity, one column of W at a time.
    W = [[jnp.zeros_like(ones)] * n for _ in range(n)]
    for j in range(n):
        for i in range(j, n):
            right = ones if i == j else -sum(rows[i][m] * W[m][j] for m in range(j, i))
            W[i][j] = right * inverse_pivots[i]
    flat = [entry for row in W for entry in row]
    return jnp.stack(flat).reshape(M.shape), definite


def semidefinite_cholesky(
    P: Float[Array, "n n B"], terms: Float[Array, "n B"]
) -> tuple[Float[Array, "n n B"], Bool[Array, " B"]]:
    """Λ, lower triangular, with P = Λ Λᵀ, and whether P was positive semidefinite but for rounding, which is taken
    away. Only the lower triangle of P is read; `terms` are the magnitudes of what its diagonal was computed from.

    A pivot that is not above the noise, n ε of its terms, has a column of zeros. Ill-conditioned eliminations lose more
    than that: up to 10 √ε, P counts as semidefinite.
    """
    n = P.shape[0]
    zeros = jnp.zeros(P.shape[2:], P.dtype)
    epsilon = float(jnp.finfo(P.dtype).eps)
    lost, noise = 10 * epsilon**0.5, n * epsilon
    semidefinite = jnp.ones(P.shape[2:], bool)
    columns: list[list[Array]] = []
    for j in range(n):
        pivot = P[j, j] - sum((column[j] * column[j] for column in columns), zeros)
        positive = pivot > noise * terms[j]
        semidefinite &= pivot >= -lost * terms[j]
        inverse = jnp.where(positive, jax.lax.rsqrt(jnp.where(positive, pivot, 1.0)), 0.0)
        below = [P[i, j] - sum((column[i] * column[j] for column in columns), zeros) for i in range(j + 1, n)]
        for i, entry in enumerate(below, start=j + 1):
            semidefinite &= positive | (entry * entry <= lost**2 * terms[j] * terms[i])
        columns.append([zeros] * j + [pivot * inverse, *(entry * inverse for entry in below)])
    flat = [columns[j][i] for i in range(n) for j in range(n)]
    return jnp.stack(flat).reshape(P.shape), semidefinite


def along(values: Array, like: Array) -> Array:
    """`values [B]` with the rank of `like [..., B]`, so that it can be combined with it."""
    return jnp.reshape(values, (1,) * (like.ndim - 1) + values.shape)


def choose(lanes: Bool[Array, " B"], new: Any, old: Any) -> Any:
    """`new` in the given lanes, `old` in the others, leaf by leaf."""
    return jax.tree.map(lambda a, b: jnp.where(along(lanes, a), a, b), new, old)


def lanes_last(tree: T) -> T:
    """`tree` with its arrays in memory as their axes say, lanes last.

    XLA chooses the order in memory, and after a `vmap` it likes lanes first; every use in a kernel written for lanes
    last then jumps from lane to lane. For 128 quadrotors this took linearisation and residuals from 27 to 8.6 ms.
    """
    return jax.tree.map(lambda leaf: with_layout_constraint(leaf, Layout(tuple(range(leaf.ndim)))), tree)


def largest(values: Array) -> Float[Array, " B"]:
    """The largest magnitude of each lane; infinite where there is a NaN, which the maxima of XLA on the CPU may lose
    (jax 0.10.2 does with many lanes)."""
    magnitudes = jnp.where(jnp.isnan(values), jnp.inf, jnp.abs(values))
    return jnp.max(magnitudes, axis=tuple(range(values.ndim - 1)), initial=0.0)


def _zeros(like: Array, *shape: int) -> Array:
    return jnp.zeros((*shape, like.shape[-1]), like.dtype)
