"""What is written out by hand beside what JAX derives from the residuals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.qp import newton, sensitivity
from planahead.qp.newton import Residuals, Rows
from planahead.qp.types import LaneQP, Point
from tests.qp.random_qps import random_qp

pytestmark = pytest.mark.usefixtures("x64")


@pytest.mark.long
@pytest.mark.parametrize("ng", [0, 2])
@pytest.mark.parametrize("free_initial_state", [False, True])
def test_the_cotangents_of_the_data_are_the_transpose_of_the_residuals(ng, free_initial_state):
    qp = random_qp(4, ng=ng, free_initial_state=free_initial_state).pack()
    random = np.random.default_rng(0)

    def drawn(like):
        return jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape)), like)

    nx = qp.state_size
    point: Point = drawn(Point(qp.g, jnp.zeros((qp.g.shape[0], nx)), *[qp.bound] * 4))

    def residuals(qp: LaneQP) -> Residuals:
        lanes, at = jax.tree.map(lambda leaf: leaf[..., None], (qp, point))
        found = newton.residuals(lanes, Rows(lanes), at, jnp.zeros(1))
        return jax.tree.map(lambda leaf: leaf[..., 0], found)

    _, transposed = jax.vjp(residuals, qp)
    weights: Residuals = drawn(jax.eval_shape(residuals, qp))
    expected, found = transposed(weights)[0], sensitivity.data_cotangents(qp, point, weights)
    assert jax.tree.structure(expected) == jax.tree.structure(found)
    for wanted, got in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-12)
