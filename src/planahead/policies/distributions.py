r"""A Gaussian squashed into the unit box, the distribution of every stochastic policy here.

    y = μ + σ ξ,   ξ ~ N(0, I),   z = tanh(y) ∈ (-1, 1)ⁿ

    log p(z) = Σᵢ [ -½ ((yᵢ - μᵢ) / σᵢ)² - log σᵢ - ½ log 2π - log(1 - tanh² yᵢ) ]

    log(1 - tanh² y) = 2 (log 2 - y - softplus(-2 y))          finite for every y, also where tanh y rounds to ±1

`μ`, `log σ`, `y`, `z` have shape `[n]`. The clamp of `log σ` happens once, when the distribution is made, so that the
noise and its density can never disagree. Reference: Haarnoja et al., "Soft Actor-Critic", 2018, appendix C."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

LOG_STD_LOW = -4.0  # σ = 0.018: a hundredth of the box, below which exploration has stopped
LOG_STD_HIGH = 2.0  # σ = 7.4: nearly all mass at the two ends of the box; more changes nothing but the gradients


class Sample(eqx.Module):
    """A point of the unit box and its log density."""

    value: Float[Array, " n"]
    log_probability: Float[Array, ""]


class SquashedGaussian(eqx.Module):
    """`tanh` of a Gaussian with independent components.

    >>> distribution = SquashedGaussian(jnp.zeros(1), jnp.array([3.0]))
    >>> float(distribution.log_std[0]), float(distribution.mode()[0])
    (2.0, 0.0)
    """

    mean: Float[Array, " n"]
    """Of the Gaussian, before squashing."""
    log_std: Float[Array, " n"]
    """Of the Gaussian, inside `[LOG_STD_LOW, LOG_STD_HIGH]`."""

    def __init__(self, mean: Float[Array, " n"], log_std: Float[Array, " n"]):
        self.mean = mean
        self.log_std = jnp.clip(log_std, LOG_STD_LOW, LOG_STD_HIGH)

    def sample(self, key: PRNGKeyArray) -> Sample:
        """Draw a point; gradients flow to the mean and the standard deviation (the reparameterisation trick)."""
        return self.at(jax.random.normal(key, self.mean.shape, self.mean.dtype))

    def at(self, noise: Float[Array, " n"]) -> Sample:
        """The point that the standard normal `noise` stands for."""
        y = self.mean + jnp.exp(self.log_std) * noise
        return Sample(jnp.tanh(y), self._density(y, noise))

    def mode(self) -> Float[Array, " n"]:
        """The image of the Gaussian's mode: the deterministic choice, and the median of every component."""
        return jnp.tanh(self.mean)

    def log_probability(self, value: Float[Array, " n"]) -> Float[Array, ""]:
        """Log density at a point of the unit box; points on its faces are read as the nearest one inside."""
        y = unsquash(value)
        return self._density(y, (y - self.mean) * jnp.exp(-self.log_std))

    def _density(self, y: Float[Array, " n"], noise: Float[Array, " n"]) -> Float[Array, ""]:
        gaussian = -0.5 * noise**2 - self.log_std - 0.5 * math.log(2 * math.pi)
        return jnp.sum(gaussian - log_slope(y))


def log_slope(y: Float[Array, " n"]) -> Float[Array, " n"]:
    """`log d tanh(y) / dy = log(1 - tanh² y)`, without cancellation."""
    return 2.0 * (math.log(2.0) - y - jax.nn.softplus(-2.0 * y))


def unsquash(value: Float[Array, " n"], margin: float = 1e-6) -> Float[Array, " n"]:
    """`atanh`, total: a value closer than `margin` to ±1 is moved to that distance first, where its gradient is 0."""
    return jnp.arctanh(jnp.clip(value, -1.0 + margin, 1.0 - margin))
