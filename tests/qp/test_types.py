"""What may be written in a `QP`: lists, integers, batches; and the messages for what may not."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

import planahead as pa
from tests.qp.random_qps import lane, random_qp, stack

ONES = [[[1]], [[1]], [[1]]]


def scalar(**changes) -> pa.QP:
    """Three intervals of x⁺ = x + u, written in lists of integers."""
    data: dict[str, Any] = {"A": ONES, "B": ONES, "Q": [*ONES, [[1]]], "R": ONES, "initial_state": [2]}
    return pa.QP(**(data | changes))


def test_lists_of_integers_are_numbers():
    qp = scalar(control_bounds=pa.StageBounds(-1, [[1], [1], [0]]))
    assert all(jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in jax.tree.leaves(qp))
    plan = pa.solve_qp(qp)
    assert plan.status == pa.Status.SOLVED and float(plan.controls[0, 0]) == pytest.approx(-1.0, abs=1e-3)
    slope = jax.grad(lambda state: pa.solve_qp(scalar(initial_state=state)).cost)(jnp.array([0.1]))
    assert float(slope[0]) > 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"B": [[1], [1]]}, r"QP.B has shape \(2, 1\); \(N, nx, nu\) is expected"),
        ({"q": [[1.0]] * 3}, r"QP.q has shape \(3, 1\); with B of shape \(3, 1, 1\) it must be \(4, 1\)"),
        (
            {"control_bounds": pa.StageBounds([-1, -1], 1)},
            r"QP.control_bounds.lower has shape \(2,\); a scalar, \(1,\) or \(3, 1\)",
        ),
        (
            {"state_bounds": pa.StageBounds(upper=jnp.ones((3, 1)))},
            r"QP.state_bounds.upper has shape \(3, 1\); .*\(4, 1\) is expected",
        ),
        (
            {"constraint_bounds": pa.StageBounds(upper=[1, 1])},
            r"QP.constraint_bounds.upper has shape \(2,\).* every row of C",
        ),
    ],
)
def test_the_array_of_the_wrong_shape_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        scalar(**changes)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"lower": jnp.nan}, r"StageBounds\(nan, inf\): a bound is NaN"),
        ({"lower": 1, "upper": [2, 0]}, r"StageBounds\(1.0, \[2. 0.\]\): a lower bound is above its upper bound"),
        ({"linear": -1.0}, r"StageBounds\(..., linear=-1.0\): a price must be a number that is not negative"),
        ({"linear": 0, "quadratic": 0}, r"has entries without any price"),
        ({"lower": [1, 2], "upper": [3, 3, 3]}, r"lower of shape \(2,\) and upper of shape \(3,\)"),
    ],
)
def test_known_numbers_that_are_no_bounds_are_refused(entries, message):
    with pytest.raises(ValueError, match=message):
        pa.StageBounds(**entries)


def test_trees_without_numbers_and_batches_pass():
    qps = stack([random_qp(seed) for seed in range(2)])
    assert lane(qps, 1).B.shape == (6, 3, 2)
    axes = jax.tree.map(lambda _: 0, qps)
    assert jax.eval_shape(jax.vmap(pa.solve_qp, in_axes=(axes,)), qps).cost.shape == (2,)
    crossed = jax.jit(lambda upper: pa.StageBounds(0.0, upper))(-1.0)
    assert float(crossed.upper) == -1.0
    jax.tree.map(lambda leaf: object(), qps)
