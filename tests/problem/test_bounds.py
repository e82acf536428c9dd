"""Bounds and prices: what they broadcast to, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: pa.Bounds([0.0, jnp.nan], 1.0), r"Bounds\(.*\): a bound is NaN; use -inf or inf"),
        (lambda: pa.Bounds([0.0, 2.0], 1.0), r"a lower bound is above its upper bound; swap or widen them"),
        (lambda: pa.Bounds("-1", 1.0), r"'-1' is text; numbers are expected of a bound and of its price"),
        (lambda: pa.Bounds(jnp.inf, jnp.inf), r"no number can be at least \+inf"),
        (
            lambda: pa.Bounds([0.0, 1.0], [2.0, 2.0, 2.0]),
            r"Bounds has lower of shape \(2,\) and upper of shape \(3,\); give both",
        ),
        (lambda: pa.Slack(linear=-1.0), r"Slack\(..., linear=-1.0\): a price must be a number that is not negative"),
        (lambda: pa.Slack(linear=jnp.nan), r"a price must be a number"),
        (lambda: pa.Slack(), r"has entries without any price, so the bound would do nothing"),
        (
            lambda: pa.Slack([1.0, 1.0], [1.0, 1.0, 1.0]),
            r"Slack has linear of shape \(2,\) and quadratic of shape \(3,\)",
        ),
        (
            lambda: pa.Bounds([0.0, 1.0], 2.0).rows(3, "Car.state_bounds"),
            r"Car.state_bounds: 'lower' has shape \(2,\); .* \(3,\)",
        ),
    ],
)
def test_bounds_that_cannot_be_kept_and_prices_that_cannot_be_paid_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_rows_broadcast_and_know_what_is_hard():
    rows = pa.Bounds([-1.0, -jnp.inf], 2.0, slack=pa.Slack(linear=[3.0, jnp.inf], quadratic=1.0)).rows(2, "bounds")
    np.testing.assert_array_equal(rows.lower, [-1.0, -np.inf])
    np.testing.assert_array_equal(rows.upper, [2.0, 2.0])
    np.testing.assert_array_equal(rows.linear, [3.0, np.inf])
    assert np.isinf(pa.Bounds(0.0, 1.0).rows(2, "bounds").linear).all()


def test_bounds_are_made_of_traced_numbers_also_inside_lists():
    @jax.jit
    def lower(limit):
        return pa.Bounds([-limit, -jnp.inf], [limit, limit]).rows(2, "bounds").lower

    np.testing.assert_array_equal(lower(2.0), [-2.0, -np.inf])
    assert float(jax.grad(lambda limit: lower(limit)[0])(2.0)) == -1.0
