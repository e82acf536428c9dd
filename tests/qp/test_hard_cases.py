"""Small problems that a solver is easily wrong about, over both backends.

Saddles, fixed controls, odd scales and formats, rounding, and losses that are no numbers.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from planahead.qp import backend
from planahead.qp.types import QPGuess
from tests.qp.backends import RICCATI, every_backend, names
from tests.qp.random_qps import lane, random_qp, stack, with_state

pytestmark = pytest.mark.usefixtures("x64")


def integrator(scale=1.0, Q=1.0, R=1.0, lower=-0.5, upper=jnp.inf, state=2.0):
    """x⁺ = x + u over three intervals."""

    def stages(count, value):
        return jnp.full((count, 1, 1), float(value))

    return pa.QP(
        A=stages(3, 1),
        B=stages(3, 1),
        Q=stages(4, scale * Q),
        R=stages(3, scale * R),
        initial_state=jnp.array([state]),
        control_bounds=pa.StageBounds(lower, upper),
    )


@every_backend
@pytest.mark.parametrize("scale", [1e-12, 1e-8, 1e-3, 1e8])
def test_a_cost_may_be_multiplied_by_any_number(which, scale):
    solution = pa.solve_qp(integrator(scale), backend=which)
    assert names([solution.status]) == ["SOLVED"]
    np.testing.assert_allclose(solution.controls.ravel(), pa.solve_qp(integrator()).controls.ravel(), atol=2e-5)


@every_backend
@pytest.mark.parametrize("fixed", [0.0, 0.3])
def test_a_control_may_be_fixed_by_its_bounds(which, fixed):
    solution = pa.solve_qp(integrator(lower=fixed, upper=fixed), backend=which)
    assert names([solution.status]) == ["SOLVED"]
    np.testing.assert_allclose(solution.controls.ravel(), fixed, atol=1e-8)


@every_backend
def test_a_saddle_is_no_solution(which):
    solution = pa.solve_qp(integrator(Q=-1.0, R=-1.0, lower=-jnp.inf, state=0.0), backend=which)
    assert names([solution.status]) == ["STALLED"] and not solution.gradient_valid


@pytest.mark.long
@every_backend
def test_the_square_root_form_needs_a_convex_cost_and_says_so(which):
    """The classic form needs convexity along the dynamics only: x_{k+1} = u_k here, so a concave Q below R is one."""
    qp = eqx.tree_at(lambda qp: qp.A, integrator(Q=-0.5, R=1.0, lower=-jnp.inf), jnp.zeros((3, 1, 1)))
    forms = {form: pa.solve_qp(qp, solver=pa.InteriorPoint(riccati=form), backend=which) for form in RICCATI}
    assert names([forms["classic"].status]) == ["SOLVED"] and names([forms["square-root"].status]) == ["STALLED"]
    convex = {
        form: pa.solve_qp(integrator(), solver=pa.InteriorPoint(riccati=form), backend=which).controls
        for form in RICCATI
    }
    np.testing.assert_allclose(convex["classic"], convex["square-root"], atol=1e-8)


@every_backend
@pytest.mark.parametrize("terminal", [[[0.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [1.0, 1.0]], [[1.0, 1.0], [1.0, 0.0]]])
def test_a_saddle_is_no_solution_in_either_form(which, terminal):
    """x_1 = u_0: the cost is ½ uᵀ (Q_N + R) u, which is indefinite although no entry of its diagonal is negative."""
    zeros, eye = jnp.zeros((1, 2, 2)), jnp.eye(2)[None]
    qp = pa.QP(
        A=zeros, B=eye, Q=jnp.stack([jnp.zeros((2, 2)), jnp.array(terminal)]), R=0.01 * eye, initial_state=jnp.zeros(2)
    )
    for form in RICCATI:
        solution = pa.solve_qp(qp, solver=pa.InteriorPoint(riccati=form), backend=which)
        assert names([solution.status]) == ["STALLED"] and not solution.gradient_valid


@every_backend
def test_bounds_may_make_a_solution_of_what_has_none_without_them(which):
    """The initial state stays where it is, although the step without rows means nothing."""
    solution = pa.solve_qp(integrator(Q=0.1, R=-0.3, lower=-0.5, upper=0.4), backend=which)
    assert names([solution.status]) == ["SOLVED"] and solution.states[0, 0] == 2.0
    np.testing.assert_allclose(solution.controls.ravel(), -0.5, atol=1e-6)


@every_backend
def test_a_row_that_does_not_exist_has_no_price(which):
    limits = {"absent": (-jnp.inf, jnp.inf, 1.0, 1.0), "soft": (-3.0, 3.0, 1.0, 1.0)}
    rows = [pa.StageBounds(*(jnp.full((4, 1), number) for number in numbers)) for numbers in limits.values()]
    rows[0] = eqx.tree_at(lambda bounds: bounds.linear, rows[0], jnp.full((4, 1), jnp.nan))
    both = stack([eqx.tree_at(lambda qp: qp.state_bounds, integrator(), bounds) for bounds in rows])
    solution = jax.vmap(lambda qp: pa.solve_qp(qp, backend=which))(both)
    assert names(solution.status) == ["SOLVED"] * 2


@every_backend
def test_only_the_symmetric_part_of_a_cost_counts(which):
    plain = random_qp(3)
    skew = plain.Q + jnp.triu(jnp.ones_like(plain.Q), 1) - jnp.tril(jnp.ones_like(plain.Q), -1)
    found = pa.solve_qp(eqx.tree_at(lambda qp: qp.Q, plain, skew), backend=which)
    np.testing.assert_allclose(found.controls, pa.solve_qp(plain).controls, atol=1e-9)


def test_shapes_are_checked_after_surgery_too():
    with pytest.raises(ValueError, match=r"QP.initial_state has shape \(0,\); with B of shape .* it must be \(1,\)"):
        pa.solve_qp(with_state(integrator(), jnp.zeros(0)))


def test_a_float32_state_joins_float64_matrices():
    solution = pa.solve_qp(with_state(integrator(), jnp.array([2.0], jnp.float32)))
    assert names([solution.status]) == ["SOLVED"] and solution.controls.dtype == jnp.float64
    with pytest.raises(TypeError, match="QP has arrays of float16; float32 or float64 is expected"):
        pa.solve_qp(jax.tree.map(lambda leaf: leaf.astype(jnp.float16), integrator()))


@pytest.mark.long
@every_backend
def test_a_guess_saves_iterations_and_a_bad_one_is_left_alone(which):
    """At the solution itself half of them at least; one that is no number, or knows of no active row, changes
    nothing."""
    packed = jax.vmap(lambda qp: qp.pack())(stack([random_qp(seed) for seed in range(16)]))
    qp = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -1), packed)
    settings, active = pa.InteriorPoint(backend=which), jnp.ones(16, bool)

    @jax.jit
    def solve(guess=None):
        return backend.solve(qp, backend.everywhere(qp), settings, active, guess=guess)

    cold = solve()
    point = cold.point
    warm = solve(QPGuess(point.z, point.pi, point.lam))
    assert (np.asarray(cold.status) == 0).all() and (np.asarray(warm.status) == 0).all()
    assert warm.iterations.sum() <= 0.5 * cold.iterations.sum()
    np.testing.assert_allclose(warm.point.z, point.z, atol=1e-6)
    for bad in (QPGuess(jnp.nan * point.z, point.pi, point.lam), QPGuess(point.z, point.pi, 0 * point.lam)):
        for one, other in zip(jax.tree.leaves(solve(bad).point), jax.tree.leaves(point), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_solution_is_a_guess_for_its_neighbour():
    """Fewer iterations to the same answer, with the same derivative; sizes that do not fit are refused."""
    near = stack([random_qp(seed) for seed in range(8)])
    moved = with_state(near, 1.01 * jnp.asarray(near.initial_state))
    guess = jax.vmap(pa.solve_qp)(near)

    def total(qp, guess):
        solution = jax.vmap(lambda qp, guess: pa.solve_qp(qp, guess=guess), (0, None if guess is None else 0))(
            qp, guess
        )
        return solution.controls.sum(), solution

    (_, cold), cold_slope = jax.value_and_grad(total, has_aux=True)(moved, None)
    (_, warm), warm_slope = jax.value_and_grad(total, has_aux=True)(moved, guess)
    assert names(warm.status) == ["SOLVED"] * 8 and warm.iterations.sum() < 0.8 * cold.iterations.sum()
    np.testing.assert_allclose(warm.controls, cold.controls, atol=1e-6)
    np.testing.assert_allclose(warm_slope.initial_state, cold_slope.initial_state, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="the guess must come from a QP of the same sizes"):
        pa.solve_qp(random_qp(0, horizon=5), guess=lane(guess, 0))


def growing(seed: int, *, growth: float, horizon: int, dtype: Any = np.float64) -> pa.QP:
    """Unstable dynamics, few controls, and a cost that sees a single direction of the state."""
    random = np.random.default_rng(seed)
    seen = random.normal(size=(1, 4))
    data: dict[str, Any] = {
        "A": growth * random.normal(size=(horizon, 4, 4)) / 2,
        "B": random.normal(size=(horizon, 4, 2)),
        "Q": np.repeat((seen.T @ seen)[None], horizon + 1, 0),
        "R": np.repeat(1e-2 * np.eye(2)[None], horizon, 0),
        "initial_state": 0.1 * random.normal(size=4),
    }
    data = {name: jnp.asarray(value, dtype) for name, value in data.items()}
    return pa.QP(**data)


@pytest.mark.long
@every_backend
@pytest.mark.parametrize("form", RICCATI)
@pytest.mark.parametrize("dtype, growth, horizon", [(np.float64, 30.0, 30), (np.float32, 8.0, 12)])
def test_a_valid_gradient_is_one(which, form, dtype, growth, horizon):
    """Where rounding breaks the factorisation of the adjoint, `gradient_valid` says so; nothing is quietly zero."""
    qps = stack([growing(seed, growth=growth, horizon=horizon, dtype=dtype) for seed in range(48)])
    solver = pa.InteriorPoint(riccati=form, backend=which)

    def first(qp: pa.QP):
        solution = pa.solve_qp(qp, solver=solver)
        return solution.controls[0, 0], solution

    gradients, solutions = jax.vmap(jax.grad(first, has_aux=True))(qps)
    slope, valid = np.asarray(gradients.initial_state), np.asarray(solutions.gradient_valid)
    assert np.isfinite(slope).all() and (np.abs(slope[valid]).max(1) > 0).all() and (slope[~valid] == 0).all()
    assert valid.any() and (~valid).sum() >= (np.asarray(solutions.status) != pa.Status.SOLVED).sum()


@pytest.mark.long
@every_backend
def test_a_loss_that_is_no_number_has_no_gradient_that_is_one(which):
    """Of two lanes, the one whose cotangent is NaN: its neighbour does not notice."""
    qps = stack([random_qp(0), random_qp(1)])

    def loss(qps: pa.QP, factor):
        return jnp.sum(jax.vmap(lambda qp: pa.solve_qp(qp, backend=which))(qps).controls[:, 0, 0] * factor)

    broken = jax.grad(loss)(qps, jnp.array([jnp.nan, 1.0])).initial_state
    whole = jax.grad(loss)(qps, jnp.array([1.0, 1.0])).initial_state
    assert np.isnan(broken[0]).all() and np.abs(whole[1]).max() > 0
    np.testing.assert_array_equal(broken[1], whole[1])


@every_backend
@pytest.mark.parametrize("iterations", [2, 6, 12])
@pytest.mark.parametrize("far", [1e6, 1e9])
def test_what_is_far_is_not_infeasible(which, far, iterations):
    """x_{k+1} = x_k + u_k from 0, x_k >= far, |u_k| <= 2 far: feasible, though not found in so few iterations."""
    hard = pa.StageBounds(np.array([-np.inf, *[far] * 3])[:, None], np.inf)
    qp = eqx.tree_at(lambda qp: qp.state_bounds, integrator(lower=-2 * far, upper=2 * far, state=0.0), hard)
    few, enough = (
        pa.solve_qp(qp, solver=pa.InteriorPoint(iterations=limit), backend=which) for limit in (iterations, 60)
    )
    assert names([few.status])[0] != "INFEASIBLE" and names([enough.status]) == ["SOLVED"]


@pytest.mark.long
@every_backend
@pytest.mark.parametrize("form", RICCATI)
def test_float32_problems_are_solved_where_float64_is_enabled(which, form):
    qps = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), stack([random_qp(seed) for seed in range(12)]))
    solver = pa.InteriorPoint(riccati=form)
    slope, solutions = jax.vmap(
        jax.grad(lambda qp: (lambda s: (s.cost, s))(pa.solve_qp(qp, solver=solver, backend=which)), has_aux=True)
    )(qps)
    assert names(solutions.status) == ["SOLVED"] * 12
    assert solutions.controls.dtype == slope.q.dtype == jnp.float32


@pytest.mark.long
@every_backend
def test_semidefinite_costs_may_be_rounded(which):
    """Hessians of rank 1 are slightly indefinite when written down in float32, which is no reason to give up."""
    qps = stack([growing(seed, growth=1.5, horizon=12, dtype=np.float32) for seed in range(64)])
    solver = pa.InteriorPoint(riccati="square-root")
    status = jax.vmap(lambda qp: pa.solve_qp(qp, solver=solver, backend=which).status)(qps)
    assert names(status) == ["SOLVED"] * 64


@pytest.mark.long
@every_backend
def test_what_was_not_factorised_has_no_gain(which):
    saddle = jax.tree.map(lambda leaf: leaf[..., None], integrator(Q=-1.0, R=-1.0, lower=-jnp.inf, state=0.0).pack())
    settings = pa.InteriorPoint(backend=which)
    outcome = backend.solve(saddle, backend.everywhere(saddle), settings, jnp.ones(1, bool))
    assert names(outcome.status) == ["STALLED"] and (np.asarray(outcome.gain) == 0).all()


@pytest.mark.long
@every_backend
def test_a_closed_loop_is_a_scan(which):
    """Three steps of a scan, their derivative by the first state included, beside the same steps one by one."""
    qp = integrator(lower=-0.6, upper=0.6)

    def step(state, _):
        control = pa.solve_qp(with_state(qp, state), backend=which).controls[0]
        return state + control, control

    def scanned(state):
        return jax.lax.scan(step, state, None, length=3)[1].sum()

    def unrolled(state):
        controls = []
        for _ in range(3):
            state, control = step(state, None)
            controls.append(control)
        return jnp.sum(jnp.stack(controls))

    state = jnp.array([1.3])
    for one, other in zip(*(jax.value_and_grad(f)(state) for f in (scanned, unrolled)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-9)
    assert -1.3 < float(scanned(state)) < -1.1  # most of the way to zero
