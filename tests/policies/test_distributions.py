"""The squashed Gaussian is a density, and the density of its own samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from planahead.policies import SquashedGaussian
from planahead.policies.distributions import LOG_STD_HIGH, LOG_STD_LOW, log_slope, unsquash

CASES = [(0.0, 0.0), (0.7, -1.0), (-2.0, 0.5), (0.1, -3.0)]


def one(mean: float, log_std: float) -> SquashedGaussian:
    return SquashedGaussian(jnp.array([mean]), jnp.array([log_std]))


@pytest.mark.parametrize(("mean", "log_std"), CASES)
def test_density_integrates_to_one(x64: None, mean: float, log_std: float):
    distribution = one(mean, log_std)
    density = jax.jit(jax.vmap(lambda z: jnp.exp(distribution.log_probability(z[None]))))
    # In y = atanh z the integrand is smooth: ∫ p(z) dz = ∫ p(tanh y) (1 - tanh² y) dy.
    y = np.linspace(mean - 12 * np.exp(log_std), mean + 12 * np.exp(log_std), 20_001)
    y = y[np.abs(y) < 7.0]  # unsquash holds |z| below 1 - 1e-6
    total = integrate.simpson(np.asarray(density(jnp.tanh(y))) * (1 - np.tanh(y) ** 2), x=y)
    inside = np.diff(stats.norm(mean, np.exp(log_std)).cdf([y[0], y[-1]]))[0]
    np.testing.assert_allclose(total, inside, rtol=1e-9)


@pytest.mark.parametrize(("mean", "log_std"), CASES)
def test_log_probability_is_the_change_of_variables(x64: None, mean: float, log_std: float):
    z = np.array([-0.99, -0.3, 0.0, 0.8])
    expected = stats.norm.logpdf(np.arctanh(z), mean, np.exp(log_std)) - np.log(1 - z**2)
    found = jax.vmap(one(mean, log_std).log_probability)(jnp.asarray(z)[:, None])
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_components_are_independent():
    distribution = SquashedGaussian(jnp.array([0.3, -0.5]), jnp.array([-1.0, 0.2]))
    value = jnp.array([0.1, 0.6])
    apart = sum(
        SquashedGaussian(distribution.mean[i : i + 1], distribution.log_std[i : i + 1]).log_probability(
            value[i : i + 1]
        )
        for i in range(2)
    )
    np.testing.assert_allclose(distribution.log_probability(value), apart, rtol=1e-6)


@pytest.mark.parametrize(("mean", "log_std"), CASES)
def test_samples_have_the_distribution_and_its_log_probability(mean: float, log_std: float):
    distribution = one(mean, log_std)
    samples = jax.vmap(distribution.sample)(jax.random.split(jax.random.key(0), 4_000))
    gaussian = stats.norm(mean, np.exp(log_std))
    assert stats.kstest(np.arctanh(np.clip(samples.value[:, 0], -1 + 1e-7, 1 - 1e-7)), gaussian.cdf).pvalue > 0.01
    inside = np.abs(np.asarray(samples.value[:, 0])) < 0.999
    found = jax.vmap(distribution.log_probability)(samples.value)
    np.testing.assert_allclose(found[inside], samples.log_probability[inside], rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("raw", [-50.0, LOG_STD_LOW - 1e-3, LOG_STD_HIGH + 1e-3, 50.0])
def test_noise_and_density_share_one_clamped_deviation(raw: float):
    """A network that asks for more (or less) noise than there is must not be told that it has the entropy of it."""
    distribution, held = one(0.2, raw), one(0.2, float(np.clip(raw, LOG_STD_LOW, LOG_STD_HIGH)))
    key, value = jax.random.key(1), jnp.array([0.4])
    assert distribution.sample(key).value == held.sample(key).value
    assert distribution.sample(key).log_probability == held.sample(key).log_probability
    assert distribution.log_probability(value) == held.log_probability(value)
    assert jax.grad(lambda raw: one(0.2, raw).sample(key).log_probability)(raw) == 0.0


@pytest.mark.parametrize("y", [-1e4, -20.0, -3.0, 0.0, 3.0, 20.0, 1e4])
def test_log_slope_is_finite_and_exact(y: float):
    """log(1 - tanh² y) = -2 log cosh y, and cosh y = eʸ/2 far out."""
    expected = -2 * (np.logaddexp(y, -y) - np.log(2))
    np.testing.assert_allclose(log_slope(jnp.array([y])), expected, rtol=1e-6, atol=1e-6)
    assert np.isfinite(jax.grad(lambda y: log_slope(y).sum())(jnp.array([y]))).all()


def test_saturated_samples_keep_finite_gradients():
    def loss(mean):
        sample = SquashedGaussian(mean, jnp.array([2.0])).at(jnp.array([3.0]))
        return sample.log_probability + sample.value.sum()

    value, gradient = jax.value_and_grad(loss)(jnp.array([30.0]))
    assert np.isfinite(value) and np.isfinite(gradient).all()


@pytest.mark.parametrize(("mean", "log_std"), CASES)
def test_gradients_by_central_differences(x64: None, mean: float, log_std: float):
    """Of a sample and of its log probability, by mean and log σ. Step ε^(1/3) balances rounding and truncation."""
    noise, h = jnp.array([0.8]), 6e-6

    def functions(theta):
        sample = SquashedGaussian(theta[:1], theta[1:]).at(noise)
        log_of_fixed = SquashedGaussian(theta[:1], theta[1:]).log_probability(jnp.array([0.3]))
        return jnp.stack([sample.value[0], sample.log_probability, log_of_fixed])

    theta = jnp.array([mean, log_std])
    steps = h * jnp.eye(2)
    differences = jnp.stack([(functions(theta + d) - functions(theta - d)) / (2 * h) for d in steps], axis=1)
    np.testing.assert_allclose(jax.jacobian(functions)(theta), differences, rtol=1e-7, atol=1e-8)


def test_mode_is_the_median():
    distribution = one(0.7, 0.5)
    values = jax.vmap(distribution.sample)(jax.random.split(jax.random.key(2), 10_001)).value
    np.testing.assert_allclose(np.median(values), distribution.mode()[0], atol=0.02)


def test_unsquash_is_total():
    z = jnp.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    assert np.isfinite(unsquash(z)).all()
    np.testing.assert_allclose(jnp.tanh(unsquash(z)), z, atol=2e-6)
    assert jax.grad(lambda z: unsquash(z).sum())(z)[0] == 0.0
