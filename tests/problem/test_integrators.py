"""Orders of the integration rules, and the exact rule against SciPy's matrix exponential."""

import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import scipy.linalg

import planahead as pa

pytestmark = pytest.mark.usefixtures("x64")


def pendulum(x, u):
    return jnp.stack([x[1], -jnp.sin(x[0]) + u[0]])


def errors(rule, steps=(0.2, 0.1)) -> list[float]:
    """Of one second in steps of the given lengths, against steps so small that their error does not count."""
    x, u = jnp.array([1.0, -0.3]), jnp.array([0.4])
    exact = pa.rk4(pendulum, x, u, 1.0, substeps=200)
    return [float(jnp.linalg.norm(rule(pendulum, x, u, 1.0, substeps=round(1 / step)) - exact)) for step in steps]


@pytest.mark.parametrize(("rule", "order"), [(pa.rk4, 4), (pa.euler, 1)])
def test_halving_the_step_divides_the_error_by_two_to_the_order(rule, order):
    coarse, fine = errors(rule)
    assert coarse / fine == pytest.approx(2**order, rel=0.15)


@pytest.mark.parametrize("rule", [pa.rk4, pa.euler])
def test_substeps_are_steps(rule):
    x, u = jnp.array([1.0, -0.3]), jnp.array([0.4])
    by_hand = rule(pendulum, rule(pendulum, rule(pendulum, x, u, 0.1), u, 0.1), u, 0.1)
    np.testing.assert_allclose(rule(pendulum, x, u, 0.3, substeps=3), by_hand, rtol=1e-14)
    with pytest.raises(ValueError, match="substeps is 0; at least 1 is needed"):
        rule(pendulum, x, u, 0.3, substeps=0)


def test_rk4_is_the_exponential_series_to_fourth_order():
    h = 0.3
    series = 1 + h + h**2 / 2 + h**3 / 6 + h**4 / 24
    assert float(pa.rk4(lambda x, u: x, jnp.ones(1), jnp.zeros(1), h)[0]) == pytest.approx(series, rel=1e-14)


def test_zero_order_hold_is_the_matrix_exponential():
    random = np.random.default_rng(0)
    A, B, h = random.normal(size=(4, 4)), random.normal(size=(4, 2)), 0.7
    expected = scipy.linalg.expm(h * np.block([[A, B], [np.zeros((2, 6))]]))
    Ad, Bd = pa.zero_order_hold(jnp.asarray(A), jnp.asarray(B), h)
    np.testing.assert_allclose(Ad, expected[:4, :4], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(Bd, expected[:4, 4:], rtol=1e-10, atol=1e-12)


def test_zero_order_hold_over_two_intervals_is_that_over_both():
    A, B = jnp.array([[0.0, 1.0], [-2.0, -0.1]]), jnp.array([[0.0], [1.0]])
    Ad, Bd = pa.zero_order_hold(A, B, 0.2)
    Ad2, Bd2 = pa.zero_order_hold(A, B, 0.4)
    np.testing.assert_allclose(Ad2, Ad @ Ad, rtol=1e-12)
    np.testing.assert_allclose(Bd2, Ad @ Bd + Bd, rtol=1e-12)


def test_zero_order_hold_names_matrices_that_do_not_fit():
    jaxtyping.config.update("jaxtyping_disable", True)  # as users have it
    try:
        with pytest.raises(
            ValueError, match=r"expects A \[nx, nx\] and B \[nx, nu\]; got shapes \(2, 2\) and \(3, 1\)"
        ):
            pa.zero_order_hold(jnp.eye(2), jnp.zeros((3, 1)), 0.1)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
