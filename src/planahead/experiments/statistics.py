r"""How sure a mean over episodes is.

A success rate of k out of n has the Wilson score interval (E. B. Wilson 1927), the set of p for which k/n is not
further than z standard errors away,

    ( p̂ + z²/2n ± z √( p̂(1 − p̂)/n + z²/4n² ) ) / ( 1 + z²/n ),    p̂ = k/n,   z = 1.96 for 95 %,

which stays inside [0, 1] and does not collapse to a point when all episodes succeed. Returns are far from normal (most
episodes alike, a few lost), so the interval of their mean is a percentile bootstrap (B. Efron 1979) with a seed of its
own: the same episodes give the same interval.

Over seeds, of which there are few, an interquartile mean is told instead, with a bootstrap over the seeds.
"""

import dataclasses

import numpy as np

RESAMPLES = 10_000  # Monte-Carlo error of an end of the interval about 1 % of its width
NORMAL_QUANTILE = 1.959963984540054  # P(|z| > ·) = 5 %


@dataclasses.dataclass(frozen=True)
class Interval:
    """A 95 % interval."""

    low: float
    high: float


def wilson_interval(successes: int, trials: int) -> Interval:
    """95 % interval of a success rate.

    >>> wilson_interval(95, 100)
    Interval(low=0.8882..., high=0.9784...)
    >>> wilson_interval(100, 100).low < 1.0
    True
    """
    if trials <= 0 or not 0 <= successes <= trials:
        raise ValueError(
            f"{successes} successes out of {trials} trials; expected 0 <= successes <= trials and trials > 0"
        )
    z, rate = NORMAL_QUANTILE, successes / trials
    centre = rate + z**2 / (2 * trials)
    half = z * np.sqrt(rate * (1 - rate) / trials + z**2 / (4 * trials**2))
    scale = 1 + z**2 / trials
    # At 0 and at n the formula gives 0 and 1 exactly, up to rounding.
    low = 0.0 if successes == 0 else float((centre - half) / scale)
    high = 1.0 if successes == trials else float((centre + half) / scale)
    return Interval(low, high)


def mean_interval(values: np.ndarray) -> Interval:
    """95 % percentile-bootstrap interval of the mean of `values` [n]; NaN where a value is not finite.

    >>> mean_interval(np.full(10, 3.0))
    Interval(low=3.0, high=3.0)
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"values of shape {values.shape}; expected a vector with at least one entry")
    if not np.isfinite(values).all():
        return Interval(float("nan"), float("nan"))
    draws = np.random.default_rng(0).integers(values.size, size=(RESAMPLES, values.size))
    low, high = np.quantile(values[draws].mean(axis=1), [0.025, 0.975])
    return Interval(float(low), float(high))


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval; the ends are NaN where one sample says nothing about them."""

    value: float
    low: float
    high: float


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """The mean of what lies between the quartiles, over the last axis: of `n` values the ⌊n/4⌋ smallest and the ⌊n/4⌋
    largest are left out (R. Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical
    precipice"). One lost seed of five does not move it, and neither does one lucky seed.

    >>> float(interquartile_mean(np.array([0.0, 1.0, 2.0, 3.0, 1000.0])))
    2.0
    """
    values = np.sort(values, axis=-1)
    cut = values.shape[-1] // 4
    return np.asarray(values[..., cut : values.shape[-1] - cut].mean(axis=-1))


def interquartile_estimate(values: np.ndarray, resamples: int = RESAMPLES) -> Estimate:
    """Interquartile mean of `values` [n] over seeds and its percentile-bootstrap interval. Infinity, for what never
    came, is the largest value there is; NaN makes all NaN.

    >>> interquartile_estimate(np.array([1.0, 1.0, 1.0, np.inf, 1.0])).value
    1.0
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"values of shape {values.shape}; expected a vector with at least one entry")
    if np.isnan(values).any():
        return Estimate(*[float("nan")] * 3)
    value = float(interquartile_mean(values))
    if values.size == 1:
        return Estimate(value, float("nan"), float("nan"))
    draws = np.random.default_rng(0).integers(values.size, size=(resamples, values.size))
    # Ends that are samples themselves: between two that are infinite no point can be interpolated.
    low, high = np.quantile(interquartile_mean(values[draws]), [0.025, 0.975], method="inverted_cdf")
    return Estimate(value, float(low), float(high))
