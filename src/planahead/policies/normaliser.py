r"""The running mean and variance of what a network sees, by Chan's formula for merging samples.

    n = n₀ + m,    δ = mean(new) - μ₀,    μ = μ₀ + δ m / n,    σ² = (n₀ σ₀² + m var(new) + δ² n₀ m / n) / n

Reference: T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating formulae and a pairwise algorithm for computing sample
variances", 1979.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

CLIP = 10.0
"""Standard deviations beyond which an observation says no more."""
_SMALLEST = 1e-6  # variance, of what never changes


class Normaliser(eqx.Module):
    """Statistics of everything seen so far; part of what a policy is, and saved with it.

    >>> seen = Normaliser.blank((1.0,)).updated(jnp.array([[1.0], [3.0]]))
    >>> seen(jnp.array([4.0])).tolist()
    [2.0]
    """

    mean: Float[Array, " n"]
    variance: Float[Array, " n"]
    count: Float[Array, ""]

    @classmethod
    def blank(cls, scale: Sequence[float]) -> "Normaliser":
        """Nothing seen yet: `x` comes out divided by `scale`."""
        return cls(jnp.zeros(len(scale)), jnp.asarray(scale, float) ** 2, jnp.zeros(()))

    def __call__(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """`x` in standard deviations from the mean, clipped."""
        scale = jnp.sqrt(jnp.maximum(self.variance, _SMALLEST))
        return jnp.clip((x - self.mean) / scale, -CLIP, CLIP)

    def updated(self, new: Float[Array, "m n"]) -> "Normaliser":
        """With the rows of `new` seen too, but for those that hold what is no finite number."""
        usable = jnp.all(jnp.isfinite(new), axis=1)[:, None]
        new = jnp.where(usable, new, 0.0)
        size = jnp.sum(usable, dtype=new.dtype)
        total = jnp.maximum(self.count + size, 1.0)
        mean = jnp.sum(new, axis=0) / jnp.maximum(size, 1.0)
        apart = jnp.where(size > 0, mean - self.mean, 0.0)
        spread = self.count * self.variance + jnp.sum(jnp.where(usable, (new - mean[None]) ** 2, 0.0), axis=0)
        variance = (spread + apart**2 * self.count * size / total) / total
        seen = Normaliser(self.mean + apart * size / total, variance, total)
        return jax.tree.map(lambda new, old: jnp.where(size > 0, new, old), seen, self)
