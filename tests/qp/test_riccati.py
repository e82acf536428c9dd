"""The two forms of the Riccati recursion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from planahead.qp import riccati


def stages(growth: float, dtype) -> tuple[jax.Array, jax.Array]:
    """Hessians of rank one plus a little of the controls, and random dynamics that grow, of 64 lanes."""
    random, N, nx, nu = np.random.default_rng(0), 40, 4, 2
    F = growth * random.normal(size=(N, nx, nx + nu, 64)) / np.sqrt(nx)
    J = random.normal(size=(N + 1, nx + nu, 64))
    H = J[:, :, None] * J[:, None]
    H[:, :nu, :nu] += 1e-3 * np.eye(nu)[:, :, None]
    return jnp.asarray(H, dtype), jnp.asarray(F, dtype)


@pytest.mark.usefixtures("x64")
def test_both_forms_are_the_same_matrices():
    H, F = stages(0.8, jnp.float64)
    classic, root = (riccati.factorise(H, F, square_root=how) for how in (False, True))
    assert classic.definite.all() and root.definite.all()
    np.testing.assert_allclose(classic.P, root.P, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(classic.K, root.K, rtol=1e-6, atol=1e-8)


def test_the_square_root_form_outlives_rounding():
    H, F = stages(10.0, jnp.float32)
    classic, root = (riccati.factorise(H, F, square_root=how) for how in (False, True))
    assert classic.definite.mean() < 0.2 and root.definite.mean() > 0.8
