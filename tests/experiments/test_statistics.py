"""Intervals against closed forms and against scipy."""

import numpy as np
import pytest
import scipy.stats

from planahead.experiments.statistics import (
    Interval,
    interquartile_estimate,
    interquartile_mean,
    mean_interval,
    wilson_interval,
)


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 100), (95, 100), (100, 100), (3, 7)])
def test_wilson_interval_is_scipys(k: int, n: int):
    expected = scipy.stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    found = wilson_interval(k, n)
    np.testing.assert_allclose([found.low, found.high], [expected.low, expected.high], atol=1e-12)


def test_ends_of_the_wilson_interval_are_where_the_score_test_is_indifferent():
    n, k = 40, 31
    for p in (wilson_interval(k, n).low, wilson_interval(k, n).high):
        z = (k / n - p) / np.sqrt(p * (1 - p) / n)
        assert abs(abs(z) - 1.96) < 1e-3


def test_no_trial_has_no_rate():
    with pytest.raises(ValueError, match="3 successes out of 2 trials"):
        wilson_interval(3, 2)


def test_bootstrap_interval_of_many_normal_values_is_the_normal_one():
    values = np.random.default_rng(1).normal(2.0, 3.0, 2000)
    half = 1.96 * values.std() / np.sqrt(values.size)
    found = mean_interval(values)
    np.testing.assert_allclose([found.low, found.high], [values.mean() - half, values.mean() + half], atol=0.05 * half)


def test_the_same_values_give_the_same_interval_and_nan_stays_visible():
    values = np.random.default_rng(1).normal(size=20)
    assert mean_interval(values) == mean_interval(values)
    assert np.isnan(mean_interval(np.array([1.0, np.nan])).low)
    assert mean_interval(np.array([4.0])) == Interval(4.0, 4.0)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 8, 11])
def test_interquartile_mean_is_scipys_trimmed_one(number: int):
    values = np.random.default_rng(number).normal(size=(3, number))
    np.testing.assert_allclose(interquartile_mean(values), scipy.stats.trim_mean(values, 0.25, axis=-1))


def test_interquartile_interval_is_scipys():
    values = np.random.default_rng(3).normal(size=9)
    expected = scipy.stats.bootstrap(
        (values,), lambda x, axis: scipy.stats.trim_mean(x, 0.25, axis=axis), method="percentile", n_resamples=20_000,
        rng=np.random.default_rng(4),
    ).confidence_interval  # fmt: skip
    found = interquartile_estimate(values)
    assert found.low < found.value < found.high
    np.testing.assert_allclose([found.low, found.high], [expected.low, expected.high], atol=0.05)


def test_interquartile_estimates_at_their_ends():
    one = interquartile_estimate(np.array([3.0]))
    assert one.value == 3.0 and np.isnan([one.low, one.high]).all()  # a single seed says nothing of others
    never = interquartile_estimate(np.array([1.0, 2.0, np.inf, np.inf, np.inf]))
    assert np.isinf(never.value) and never.low <= 2.0 and np.isinf(never.high)
    assert np.isnan(interquartile_estimate(np.array([1.0, np.nan])).value)
    with pytest.raises(ValueError, match="expected a vector with at least one entry"):
        interquartile_estimate(np.zeros(0))
