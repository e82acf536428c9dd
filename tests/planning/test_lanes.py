"""A batch in which some lanes fail: the others do not notice, statuses tell the truth, and gradients stay finite."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from tests.planning.study import quick_jit

pytestmark = pytest.mark.usefixtures("x64")


class Corridor(pa.Problem):
    """A pendulum-like cart that must stay within half a metre, with a horizon short enough to make that impossible from
    afar."""

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


@pytest.mark.long
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
    assert "6 lanes" in text and "1 x INFEASIBLE (lane 4)" in text and "1 x INVALID_INPUT (lane 1)" in text


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

    plan = jax.vmap(lambda lower: pa.solve(eqx.tree_at(lambda p: p.lower, Crossed(), lower), STATES[0]))(
        jnp.array([0.0, 0.7])
    )
    assert names(plan) == ["SOLVED", "INVALID_INPUT"]


# Derivatives of a batch in which lane 1 is not a number, lane 4 is infeasible and the last takes three iterations


def solved_cost(problem, state, planner):
    return pa.solve(problem, state, planner=planner).cost


def pinned_cost(problem, state, planner):
    return pa.solve(problem, state, jnp.array([0.1]), planner=planner).cost


def value(problem, state, planner):
    return pa.value(problem, state, planner=planner)


def action_value(problem, state, planner):
    return pa.action_value(problem, state, jnp.array([0.1]), planner=planner)


FAR = jnp.array([-0.4, 1.3])
MIXED = jnp.concatenate([BAD, FAR[None]])
HASTY = pa.SQP(iterations=2)
HASTY_FAILURES = {1: "INVALID_INPUT", 4: "ITERATION_LIMIT", 6: "ITERATION_LIMIT"}
PATIENT_FAILURES = {1: "INVALID_INPUT", 4: "INFEASIBLE"}


@pytest.mark.long
@pytest.mark.parametrize(
    ("cost", "planner", "failures"),
    [
        (solved_cost, HASTY, HASTY_FAILURES),
        (pinned_cost, pa.SQP(), PATIENT_FAILURES),
        (value, pa.SQP(), PATIENT_FAILURES),
        (action_value, HASTY, HASTY_FAILURES),
    ],
)
def test_costs_of_failed_lanes_add_nothing_to_a_gradient(cost, planner, failures):
    """With respect to a parameter that the lanes share and to their own states."""
    plan = jax.vmap(lambda state: pa.solve(Corridor(), state, planner=planner))(MIXED)
    assert names(plan) == [failures.get(index, "SOLVED") for index in range(7)]

    @quick_jit
    @jax.vmap
    def alone(state):
        return jax.grad(lambda target: cost(Corridor(target=target), state, planner))(jnp.asarray(0.3))

    def total(target, states):
        return jnp.nansum(jax.vmap(lambda state: cost(Corridor(target=target), state, planner))(states))

    shared, own = quick_jit(jax.grad(total, (0, 1)))(jnp.asarray(0.3), MIXED)
    each = np.asarray(alone(MIXED))
    assert np.all(each[list(failures)] == 0) and np.all(each[[0, 2, 3, 5]] != 0)
    assert float(shared) == pytest.approx(each.sum(), rel=1e-10)
    assert np.all(np.asarray(own)[list(failures)] == 0) and np.isfinite(own).all()


def test_second_derivatives_are_refused():
    """Those of `value` and `action_value` exist: `test_envelope.py`."""
    with pytest.raises(TypeError, match=r"second derivatives of a plan are not available .* use finite differences"):
        jax.hessian(lambda state: solved_cost(Corridor(), state, pa.SQP()))(STATES[0])


def test_second_derivatives_are_refused_under_jit_and_vmap():
    def slope(state):
        return jax.grad(lambda state: pa.solve(Corridor(), state).controls[0, 0])(state).sum()

    with pytest.raises(TypeError, match="second derivatives of a plan are not available"):
        jax.jit(jax.vmap(jax.grad(slope)))(STATES)


@pytest.mark.parametrize("field", ["residual", "violation"])
def test_what_says_how_a_solve_ended_has_no_derivative(field):
    def number(states):
        return getattr(jax.vmap(lambda state: pa.solve(Corridor(), state))(states), field).sum()

    with pytest.raises(TypeError, match=rf"Plan.{field} has no derivative .*jax.lax.stop_gradient"):
        jax.jit(jax.grad(number))(STATES)
    assert np.all(jax.grad(lambda states: jax.lax.stop_gradient(number(states)) + states.sum())(STATES) == 1)


def test_plans_along_a_scan_have_the_derivatives_of_plans_one_by_one():
    """A plan that is stacked by `scan`, unused fields and all, is differentiated like any other."""

    def follow(state, _):
        plan = pa.solve(Corridor(), state)
        return plan.states[1], plan

    def scanned(state):
        end, plans = jax.lax.scan(follow, state, None, length=2)
        return jnp.sum(end**2) + plans.cost.sum()

    def written_out(state):
        cost = 0.0
        for _ in range(2):
            state, plan = follow(state, None)
            cost += plan.cost
        return jnp.sum(state**2) + cost

    start = jnp.asarray(STATES[0], float)
    np.testing.assert_allclose(quick_jit(jax.grad(scanned))(start), quick_jit(jax.grad(written_out))(start), rtol=1e-8)


class Reordered(Corridor):
    """The order of the weighed states is an array of integers."""

    order: pa.Array = eqx.field(kw_only=True, default_factory=lambda: jnp.array([0, 1]))

    def stage_residual(self, x, u):
        return jnp.stack([x[self.order[0]] - self.target, 0.1 * x[self.order[1]], 0.3 * u[0]])


@pytest.mark.long
def test_arrays_of_integers_are_batched_and_have_no_derivative():
    orders = jnp.array([[0, 1], [1, 0]])

    def cost(order, state):
        return pa.solve(Reordered(order=order), state).cost

    slopes = quick_jit(jax.vmap(jax.grad(cost, 1)))(orders, STATES[:2])
    alone = quick_jit(jax.grad(cost, 1))
    for index in range(2):
        np.testing.assert_allclose(slopes[index], alone(orders[index], STATES[index]), rtol=1e-8)
    gradient = eqx.filter_grad(lambda problem: pa.solve(problem, STATES[0]).cost)(Reordered())
    assert gradient.order is None and gradient.target != 0


@pytest.mark.long
def test_controls_of_failed_lanes_keep_bounds_that_exclude_zero():
    class Pushed(Corridor):
        def control_bounds(self):
            return pa.Bounds(0.5, 0.7)

    controls = jax.jit(jax.vmap(lambda state: pa.solve(Pushed(), state).controls))(BAD)
    assert np.all((np.asarray(controls) >= 0.5) & (np.asarray(controls) <= 0.7))
    huge = pa.Guess(jnp.zeros((7, 2)), jnp.full((6, 1), 1e18))
    lost = pa.solve(Pushed(), STATES[0] * jnp.nan, guess=huge)
    assert np.all((np.asarray(lost.controls) >= 0.5) & (np.asarray(lost.controls) <= 0.7))
