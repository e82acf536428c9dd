"""The check of derivatives agrees where they are right, and says so where they are wrong or say nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa


class Drag(pa.Problem):
    """A mass with a drag of its speed, pushed no harder than its limit."""

    horizon: int = pa.static(4)
    state_size: int = pa.static(2)
    control_size: int = pa.static(1)
    drag: pa.Array = pa.parameter(0.5, low=0.0, high=2.0)
    limits: pa.Array = pa.parameter([1.5, np.inf])  # of force and of speed

    def dynamics(self, x, u):
        return jnp.stack([x[0] + 0.2 * x[1], x[1] + 0.2 * (u[0] - self.resistance(self.drag * x[1]))])

    def resistance(self, v):
        return jnp.tanh(v)

    def stage_residual(self, x, u):
        return jnp.stack([x[0], 0.1 * x[1], 0.1 * u[0]])

    def terminal_residual(self, x):
        return 3 * x

    def control_bounds(self):
        return pa.Bounds(-self.limits[:1], self.limits[:1])

    def state_bounds(self):
        return pa.Bounds(upper=jnp.stack([jnp.inf, self.limits[1]]))


@jax.custom_jvp
def misjudged(v):
    return jnp.tanh(v)


@misjudged.defjvp
def _(primals, tangents):
    (v,), (v_dot,) = primals, tangents
    return jnp.tanh(v), 1.3 * (1 - jnp.tanh(v) ** 2) * v_dot


class Misjudged(Drag):
    def resistance(self, v):
        return misjudged(v)


START = (1.0, 0.3)


@pytest.mark.long
@pytest.mark.parametrize("control", [None, (0.3,)])
def test_right_derivatives_agree(x64, control):
    action = None if control is None else jnp.array(control)
    check = pa.check_gradient(Drag(), jnp.array(START), action)
    leaves = {"problem.drag", "problem.limits", "state"} | ({"control"} if control else set())
    assert set(check.analytic) == leaves and all(check.analytic[name] != 0 for name in leaves)
    assert check.worst < 1e-5
    assert "relative error" in str(check) and "problem.drag" in str(check)


def test_wrong_derivatives_are_seen(x64):
    check = pa.check_gradient(Misjudged(), jnp.array(START))
    assert check.worst > 1e-3


def test_a_neighbour_that_is_not_solved_is_no_derivative(x64):
    class Walled(Drag):
        def control_bounds(self):
            return pa.Bounds(-1.5, 1.5)

        def state_bounds(self):
            return pa.Bounds(-1.1, 1.1)

        def resistance(self, v):
            return 0 * v

    with pytest.raises(ValueError, match=r"moved state by .*e\+01 along .*, and the problem there is not solved"):
        pa.check_gradient(Walled(), jnp.array([0.5, 0.0]), step=30.0)


def test_failed_solves_and_single_precision_are_refused(x64):
    with pytest.raises(ValueError, match=r"whose plan has a derivative\. A NaN or infinite number"):
        pa.check_gradient(Drag(), jnp.array([jnp.nan, 0.0]))
    with (
        jax.enable_x64(False),
        pytest.raises(ValueError, match=r"need float64; call it inside `with jax.enable_x64\(True\):`"),
    ):
        pa.check_gradient(Drag(), jnp.array(START))
