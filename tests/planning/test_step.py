"""One Gauss-Newton step: its derivative is that of the step itself; single shooting finds the same plans."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from planahead.planning import SQP, solve
from planahead.qp import Status
from tests.planning.reference_nonlinear import CartPoleBalance, PendulumSwingUp, Quadrotor

CASES = {
    "pendulum": (PendulumSwingUp(), jnp.array([0.0, 3.0, 0.1, 0.0])),
    "cart-pole, soft track": (CartPoleBalance(), jnp.array([0.4, 0.3, 0.5, 0.0])),
    "quadrotor": (Quadrotor(), jnp.array([0.3, 0.1, 0.9, 1.0] + 9 * [0.05])),
}


def short(problem, horizon=2):
    return type(problem)(horizon=horizon)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "shooting"), [("pendulum", "single"), ("cart-pole, soft track", "multiple"), ("quadrotor", "multiple")]
)
def test_the_derivative_is_that_of_the_step(name, shooting, x64):
    """Against central differences of the very same step, far from a solution."""
    problem, state = CASES[name]
    problem = short(problem)
    planner = SQP.real_time(derivative="step", shooting=shooting, tau=1e-3)
    N, nu = problem.horizon, problem.control_size
    guess = pa.Guess(jnp.broadcast_to(state, (N + 1, state.size)), 0.5 + jnp.zeros((N, nu)))
    leaves, structure = jax.tree.flatten(problem)
    rng = np.random.default_rng(0)
    weights = jnp.asarray(rng.normal(size=(N, nu))), jnp.asarray(rng.normal(size=(N + 1, state.size)))
    directions = [jnp.asarray(rng.normal(size=leaf.shape)) * jnp.abs(leaf) for leaf in leaves]

    @jax.jit
    def outcome(share):
        moved = [leaf + share * direction for leaf, direction in zip(leaves, directions, strict=True)]
        plan = solve(jax.tree.unflatten(structure, moved), state, guess=guess, planner=planner)
        return jnp.sum(weights[0] * plan.controls) + jnp.sum(weights[1] * plan.states)

    h = 1e-5
    difference = (outcome(h) - outcome(-h)) / (2 * h)
    assert abs(difference) > 1e-3
    np.testing.assert_allclose(jax.jit(jax.grad(outcome))(0.0), difference, rtol=2e-4, atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("name", ["pendulum", "quadrotor"])
def test_a_step_says_how_far_it_is_from_a_solution(name, x64):
    """It is the first iteration of the planner with full steps, in every field."""
    problem, state = CASES[name]
    one = solve(problem, state, planner=SQP.real_time(derivative="step"))
    same = solve(problem, state, planner=SQP.real_time())
    np.testing.assert_allclose(one.controls, same.controls, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(one.states, same.states, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose([one.residual, one.violation], [same.residual, same.violation], rtol=1e-5, atol=1e-9)
    assert one.status == same.status == Status.ITERATION_LIMIT and one.gradient_valid


@pytest.mark.long
def test_a_step_from_a_solution_stays_there(x64):
    problem, state = CASES["cart-pole, soft track"]
    plan = solve(problem, state)
    again = solve(problem, state, guess=plan, planner=SQP.real_time(derivative="step", tolerance=1e-6))
    assert plan.status == again.status == Status.SOLVED
    np.testing.assert_allclose(again.controls, plan.controls, atol=1e-4)


class Corridor(pa.Problem):
    """A double integrator with every kind of row, per-stage targets, a scalar cost and a discount."""

    horizon: int = pa.static(5)
    state_size: int = pa.static(2)
    control_size: int = pa.static(1)
    discount: pa.Array = pa.parameter(0.95, low=0.5, high=1.0)  # pyright: ignore[reportIncompatibleVariableOverride]
    target: pa.Array = pa.parameter(1.0, low=-2.0, high=2.0)
    speed: pa.Array = pa.parameter(0.4, low=0.1, high=2.0)

    def dynamics(self, x, u):
        return jnp.stack([x[0] + 0.3 * x[1], x[1] + 0.3 * u[0]])

    def stage_residual(self, x, u):
        return jnp.stack([x[0] - self.target, 0.1 * u[0]])

    def stage_cost(self, x, u):
        return 0.05 * u[0] ** 4 + 0.1 * x[1]

    def terminal_cost(self, x):
        return 2.0 * (x[0] - self.target) ** 2

    def control_bounds(self):
        return pa.Bounds(-1.0, 1.0)

    def state_bounds(self):
        return pa.Bounds([-jnp.inf, -5.0], [0.5, jnp.inf], slack=pa.Slack([3.0, jnp.inf], [1.0, jnp.inf]))

    def constraints(self, x, u):
        return jnp.stack([x[1] - self.speed, u[0] + x[1] - 1.2])


@pytest.mark.long
def test_rows_of_every_kind_survive_single_shooting(x64):
    problem = pa.per_stage(Corridor(), "target")
    problem = eqx.tree_at(lambda p: p.target.values, problem, jnp.linspace(0.5, 1.5, 6))
    state = jnp.array([0.0, 0.3])
    multiple, single = (solve(problem, state, planner=SQP(shooting=form)) for form in ("multiple", "single"))
    assert multiple.status == single.status == Status.SOLVED
    np.testing.assert_allclose(single.controls, multiple.controls, atol=1e-5)
    np.testing.assert_allclose(single.cost, multiple.cost, rtol=1e-6)
    found, expected = single.multipliers, multiple.multipliers
    for field in ("costates", "control_bounds", "state_bounds", "constraints", "terminal_constraints"):
        np.testing.assert_allclose(getattr(found, field), getattr(expected, field), atol=2e-4, err_msg=field)
    assert np.max(expected.constraints) > 0.01 and np.max(expected.state_bounds) > 0.01


@pytest.mark.long
def test_rows_that_do_not_exist_cost_nothing(x64):
    """One bounded entry of four states, smoothed: the barrier must not see the other three."""
    problem = CartPoleBalance(horizon=2)
    state = jnp.array([0.44, 0.0, 0.3, 0.0])
    multiple, single = (solve(problem, state, planner=SQP(shooting=form, tau=1e-2)) for form in ("multiple", "single"))
    np.testing.assert_allclose(single.controls, multiple.controls, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(single.cost, multiple.cost, rtol=2e-3)  # but for smoothed violations
    np.testing.assert_allclose(single.multipliers.state_bounds, multiple.multipliers.state_bounds, atol=1e-3)
    assert (single.multipliers.state_bounds[:, :, 1:] == 0).all()


@pytest.mark.long
def test_value_of_single_shooting_is_the_same(x64):
    problem, state = Corridor(), jnp.array([0.0, 0.3])
    one, other = (
        jax.value_and_grad(pa.value, 1)(problem, state, planner=SQP(shooting=form)) for form in ("multiple", "single")
    )
    np.testing.assert_allclose(other[0], one[0], rtol=1e-6)
    np.testing.assert_allclose(other[1], one[1], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_single_shooting_has_the_same_derivatives(x64):
    def outcome(problem, state, form):
        plan = solve(problem, state, planner=SQP(shooting=form))
        return jnp.sum(jnp.sin(plan.controls)) + jnp.sum(plan.states[-1]) + plan.cost

    one, other = (
        jax.tree.leaves(jax.grad(outcome, (0, 1))(Corridor(), jnp.array([0.0, 0.3]), form))
        for form in ("multiple", "single")
    )
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4 * (1 + np.abs(a).max()))


@pytest.mark.slow
def test_lanes_of_a_batch_are_those_of_single_calls():
    problem, state = CASES["pendulum"]
    states = state[None] + 0.1 * jnp.outer(jnp.arange(5.0), jnp.array([1.0, -1.0, 0.0, 1.0]))
    states = states.at[3].set(jnp.nan)
    planner = SQP.real_time(derivative="step", shooting="single")

    def push(state):
        plan = solve(short(problem), state, planner=planner)
        return plan.controls[0, 0], plan

    slopes, plans = jax.jit(jax.vmap(jax.grad(push, has_aux=True)))(states)
    alone, _ = jax.jit(jax.grad(push, has_aux=True))(states[2])
    np.testing.assert_allclose(slopes[2], alone, rtol=1e-3, atol=1e-5)
    assert (slopes[3] == 0).all() and (slopes[2] != 0).any()
    assert plans.status[3] == Status.INVALID_INPUT and not plans.gradient_valid[3] and plans.gradient_valid[2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"derivative": "step"}, r"SQP\(derivative='step'\) is the derivative of one full Gauss-Newton step; use"),
        ({"derivative": "step", "iterations": 1}, r"SQP\(derivative='step'\) is the derivative of one full"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SQP(**settings)


def test_what_a_step_has_no_derivative_of_is_refused():
    problem, state = CASES["pendulum"]
    planner = SQP.real_time(derivative="step")
    for field in ("residual", "violation"):
        with pytest.raises(TypeError, match=f"Plan.{field} has no derivative"):
            jax.grad(lambda state, field=field: getattr(solve(problem, state, planner=planner), field))(state)
    for form in ("multiple", "single"):
        with pytest.raises(ValueError, match=r"Corridor.stage_cost is a scalar cost, and derivative='step' is for"):
            solve(Corridor(), jnp.zeros(2), planner=SQP.real_time(derivative="step", shooting=form))
    with pytest.raises(ValueError, match=r"a pinned control needs a stage of its own"):
        pa.action_value(problem, state, jnp.zeros(1), planner=SQP(shooting="single"))
    with pytest.raises(ValueError, match=r"a pinned control needs a stage of its own"):
        solve(problem, state, control=jnp.zeros(1), planner=SQP(shooting="single"))
