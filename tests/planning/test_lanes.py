"""A batch in which some lanes fail: the others do not notice, statuses tell the truth, and gradients stay finite."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa

pytestmark = pytest.mark.usefixtures("x64")


class Corridor(pa.Problem):
    """A pendulum-like cart that must stay within half a metre, with a horizon short enough to make that impossible from afar."""

    horizon: int = pa.static(6)
    state_size: int = pa.static(2)
    control_size: int = pa.static(1)
    target: pa.Array = pa.parameter(0.3, low=-1.0, high=1.0)

    def dynamics(self, x, u):
        return jnp.stack([x[0] + 0.2 * x[1], x[1] + 0.2 * (u[0] + jnp.sin(x[0]))])

    def stage_residual(self, x, u):
        return jnp.stack([x[0] - self.target, 0.1 * x[1], 0.3 * u[0]])

    def control_bounds(self):
        return pa.Bounds(-1.0, 1.0)

    def state_bounds(self):
        return pa.Bounds([-0.5, -jnp.inf], [0.5, jnp.inf])


STATES = jnp.array([[0.1, 0.0], [0.2, 0.1], [-0.3, 0.2], [0.0, -0.2], [0.3, 0.1], [-0.1, 0.3]])
BAD = STATES.at[1].set(jnp.nan).at[4].set(jnp.array([0.45, 5.0]))


def plans(states, iterations=100):
    solve = jax.jit(jax.vmap(lambda state: pa.solve(Corridor(), state, planner=pa.SQP(iterations=iterations))))
    return solve(states)


def names(plan) -> list[str]:
    return [pa.Status(int(status)).name for status in plan.status]


def test_healthy_lanes_keep_every_bit():
    healthy, mixed = plans(STATES), plans(BAD)
    assert names(healthy) == ["SOLVED"] * 6
    assert names(mixed) == ["SOLVED", "INVALID_INPUT", "SOLVED", "SOLVED", "INFEASIBLE", "SOLVED"]
    for index in (0, 2, 3, 5):
        for left, right in zip(jax.tree.leaves(healthy), jax.tree.leaves(mixed), strict=True):
            np.testing.assert_array_equal(left[index], right[index])


def test_a_lane_at_the_iteration_limit_says_so():
    """From rest at the target one iteration is enough; far away it is not."""
    steady = jnp.array([[0.0, 0.0], [-0.4, 0.5]])
    few = jax.vmap(lambda state, target: pa.solve(Corridor(target=target), state, planner=pa.SQP(iterations=1)))
    plan = few(steady, jnp.array([0.0, 0.3]))
    assert names(plan) == ["SOLVED", "ITERATION_LIMIT"]
    assert not plan.gradient_valid[1] and plan.residual[1] > plan.residual[0]


def test_controls_are_finite_and_admissible_whatever_the_status():
    plan = plans(BAD, iterations=2)
    assert np.isfinite(plan.controls).all() and np.abs(np.asarray(plan.controls)).max() <= 1.0


def test_gradients_of_a_mixed_batch_are_finite_and_those_of_the_healthy_lanes():
    def total(target, states):
        solve = jax.vmap(lambda state: pa.solve(Corridor(target=target), state).controls.sum())
        return jnp.nansum(solve(states))

    slope = jax.jit(jax.grad(total))
    alone = sum(float(slope(jnp.asarray(0.3), STATES[index][None])) for index in (0, 2, 3, 5))
    assert float(slope(jnp.asarray(0.3), BAD)) == pytest.approx(alone, rel=1e-8)
    by_state = jax.grad(lambda states: plans(states).controls.sum())(BAD)
    assert np.isfinite(by_state).all() and np.all(np.asarray(by_state)[[1, 4]] == 0)


def test_values_of_failed_lanes_are_not_numbers():
    values = jax.vmap(lambda state: pa.value(Corridor(), state))(BAD)
    assert list(np.isnan(values)) == [False, True, False, False, True, False]


def test_explain_speaks_of_every_lane():
    text = plans(BAD).explain()
    assert "6 lanes" in text and "1 x INFEASIBLE (lanes 4)" in text and "1 x INVALID_INPUT (lanes 1)" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((jnp.zeros(3),), r"state has shape \(3,\); Corridor.state_size = 2 asks for shape \(2,\)"),
        ((jnp.zeros((4, 2)),), r"Use jax.vmap for a batch"),
        ((jnp.zeros(2), jnp.zeros(2)), r"control has shape \(2,\); Corridor.control_size = 1"),
    ],
)
def test_wrong_shapes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        pa.solve(Corridor(), *arguments)


def test_crossed_bounds_from_parameters_are_invalid_input():
    class Crossed(Corridor):
        lower: pa.Array = pa.parameter(0.0)

        def control_bounds(self):
            return pa.Bounds(self.lower, 0.5)

    plan = jax.vmap(lambda lower: pa.solve(eqx.tree_at(lambda p: p.lower, Crossed(), lower), STATES[0]))(jnp.array([0.0, 0.7]))
    assert names(plan) == ["SOLVED", "INVALID_INPUT"]
