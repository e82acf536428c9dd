"""The stage QP and its derivative, against conditions and differences that know nothing of the solver."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from planahead.qp import backend, native
from planahead.qp.types import QPGuess
from tests.qp.random_qps import WEAK, dense_residual, lane, random_qp, stack, with_state

pytestmark = pytest.mark.usefixtures("x64")


every_backend = pytest.mark.parametrize(
    "which",
    [
        pytest.param("native", marks=pytest.mark.skipif(not native.available(), reason=native.description())),
        "portable",
    ],
)


RICCATI = ("classic", "square-root")


def names(statuses) -> list[str]:
    return [pa.Status(int(status)).name for status in statuses]


@pytest.mark.parametrize("scale", [1.0, 1e3])
@pytest.mark.parametrize("free_initial_state", [False, True])
def test_answers_satisfy_the_optimality_conditions(scale, free_initial_state):
    qps = [random_qp(seed, scale=scale, free_initial_state=free_initial_state) for seed in range(24)]
    solutions = jax.vmap(pa.solve_qp)(stack(qps))
    assert names(solutions.status) == ["SOLVED"] * 24
    active = np.asarray(solutions.multipliers) > 1e-6 * scale
    assert active[..., :2].any() and active[..., 2:5].any() and active[..., 5:].any()
    for index, qp in enumerate(qps):
        assert dense_residual(qp, lane(solutions, index)) < WEAK * scale


def test_one_problem_is_a_batch_of_one():
    qp = random_qp(3)
    alone, together = pa.solve_qp(qp), lane(jax.vmap(pa.solve_qp)(stack([qp] * 5)), 2)
    np.testing.assert_allclose(alone.controls, together.controls, atol=1e-9)


def test_nested_batches_are_one_batch():
    qps = stack([random_qp(seed) for seed in range(6)])
    flat = jax.vmap(pa.solve_qp)(qps)
    nested = jax.vmap(jax.vmap(pa.solve_qp))(jax.tree.map(lambda leaf: leaf.reshape(2, 3, *leaf.shape[1:]), qps))
    np.testing.assert_array_equal(nested.controls.reshape(flat.controls.shape), flat.controls)


def combination(solution: pa.QPSolution):
    """A fixed random combination of all outputs."""
    random = np.random.default_rng(7)
    outputs = (solution.controls, solution.states[1:], solution.costates[1:], solution.multipliers, solution.cost)
    return sum(jnp.sum(output * random.normal(size=output.shape)) for output in outputs)


@pytest.mark.parametrize("tau", [None, 1e-3])
def test_every_derivative_is_that_of_the_solution(tau):
    """Central differences with h = 1e-5: multipliers are accurate to about 1e-11, so rounding and curvature are both
    near 1e-6."""
    qp, solver = random_qp(3), pa.InteriorPoint(tau=tau, tolerance=1e-11)
    objective = jax.jit(lambda qp: combination(pa.solve_qp(qp, solver=solver)))
    gradient = jax.jit(jax.grad(objective))(qp)
    random = np.random.default_rng(0)
    leaves, structure = jax.tree.flatten(qp)
    checked = 0
    for index, (leaf, slope) in enumerate(zip(leaves, jax.tree.leaves(gradient), strict=True)):
        finite = np.isfinite(leaf)
        direction = random.normal(size=leaf.shape)
        if direction.ndim == 3 and direction.shape[1] == direction.shape[2]:
            direction = direction + direction.transpose(0, 2, 1)
        direction = np.where(finite, direction, 0.0)

        def moved(step, index=index, leaf=leaf, direction=direction, finite=finite):
            changed = [*leaves]
            changed[index] = jnp.where(finite, leaf + step * direction, leaf)
            return float(objective(structure.unflatten(changed)))

        difference = (moved(1e-5) - moved(-1e-5)) / 2e-5
        assert float(jnp.sum(slope * direction)) == pytest.approx(difference, rel=1e-5, abs=1e-5), index
        checked += difference != 0
    assert checked >= 12


def test_bad_lanes_leave_their_neighbours_alone_bit_by_bit():
    good = [random_qp(seed) for seed in range(8)]
    bad = list(good)
    bad[1] = eqx.tree_at(lambda qp: qp.q, good[1], jnp.asarray(good[1].q).at[2, 0].set(jnp.nan))
    bad[4] = with_state(good[4], [0.0, 0.0, 1e6])  # the hard bound of the last state cannot be met
    bad[6] = eqx.tree_at(lambda qp: qp.control_bounds.lower, good[6], jnp.asarray(0.7))
    solve = jax.jit(jax.vmap(pa.solve_qp))
    healthy, mixed = solve(stack(good)), solve(stack(bad))
    assert names(mixed.status)[1] == "INVALID_INPUT" and names(mixed.status)[6] == "INVALID_INPUT"
    assert names(mixed.status)[4] == "INFEASIBLE"
    for index in (0, 2, 3, 5, 7):
        for left, right in zip(jax.tree.leaves(lane(healthy, index)), jax.tree.leaves(lane(mixed, index)), strict=True):
            np.testing.assert_array_equal(left, right)
    gradient = jax.grad(lambda qps: jnp.sum(jax.vmap(pa.solve_qp)(qps).controls))(stack(bad))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert (
        not mixed.gradient_valid[1]
        and np.all(np.asarray(gradient.A[1]) == 0)
        and np.any(np.asarray(gradient.A[0]) != 0)
    )


def test_iteration_limit_is_a_status():
    solution = pa.solve_qp(random_qp(0), solver=pa.InteriorPoint(iterations=2))
    assert names([solution.status]) == ["ITERATION_LIMIT"] and not solution.gradient_valid


def test_float32_reaches_its_own_tolerance():
    with jax.enable_x64(False):
        qps = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), stack([random_qp(seed) for seed in range(24)]))
        single = jax.vmap(pa.solve_qp)(qps)
    double = jax.vmap(pa.solve_qp)(stack([random_qp(seed) for seed in range(24)]))
    assert names(single.status) == ["SOLVED"] * 24
    assert np.abs(np.asarray(single.controls) - np.asarray(double.controls)).max() < 2e-3


def test_shapes_are_checked_in_words():
    qp = random_qp(0)
    with pytest.raises(
        ValueError, match=r"QP.A has shape \(6, 2, 2\); with B of shape \(6, 3, 2\) it must be \(6, 3, 3\)"
    ):
        pa.QP(A=qp.A[:, :2, :2], B=qp.B, Q=qp.Q, R=qp.R, initial_state=qp.initial_state)


def test_a_bad_lane_adds_nothing_to_what_is_shared():
    """Through the cost too, which depends on the data directly."""
    qp, states = random_qp(0), jnp.array([[0.1, 0.2, 0.3], [jnp.nan, 0.0, 0.0]])

    def costs(qp, states):
        return jnp.nansum(jax.vmap(lambda state: pa.solve_qp(with_state(qp, state)).cost)(states))

    mixed, alone = jax.grad(costs)(qp, states), jax.grad(costs)(qp, states[:1])
    for left, right in zip(jax.tree.leaves(mixed), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-12, atol=1e-12)


def test_derivatives_that_do_not_exist_raise():
    qp, state = random_qp(0), jnp.array([0.1, 0.2, 0.3])
    with pytest.raises(TypeError, match=r"QPSolution\.residual has no derivative"):
        jax.grad(lambda state: pa.solve_qp(with_state(qp, state)).residual)(state)
    with pytest.raises(TypeError, match=r"second derivatives .* are not available"):
        jax.hessian(lambda state: pa.solve_qp(with_state(qp, state)).cost)(state)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tau": -1.0}, r"InteriorPoint\(tau=-1.0\); a positive number was expected"),
        ({"tolerance": 0.0}, r"InteriorPoint\(tolerance=0.0\); a positive number"),
        ({"iterations": -1}, r"InteriorPoint\(iterations=-1\); a whole number, at least 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        pa.InteriorPoint(**settings)


def test_absent_bounds_are_no_arrays_of_an_earlier_import():
    """Two compiled programs with absent bounds, each called twice: arrays made at import would be lost on the second
    call (jax 0.10.2)."""
    data = random_qp(0)
    parts = {name: getattr(data, name) for name in ("A", "B", "Q", "R")}
    for scale in (1.0, 2.0):
        solve = jax.jit(
            jax.vmap(lambda state, scale=scale: pa.solve_qp(pa.QP(**parts, initial_state=scale * state)).controls)
        )
        np.testing.assert_array_equal(solve(jnp.ones((4, 3))), solve(jnp.ones((4, 3))))


@every_backend
@pytest.mark.parametrize(("states", "horizon"), [(2, 20), (8, 40)])
def test_saturated_controls_of_unstable_dynamics_are_found(which, states, horizon):
    """Costates grow to 1e4 there, and with them the multipliers of the control box, far above the cost's gradient."""
    random, lanes, controls = np.random.default_rng(0), 64, states // 2
    A = np.eye(states) + 0.2 / np.sqrt(states) * random.normal(size=(lanes, states, states))
    B = random.normal(size=(lanes, states, controls)) / np.sqrt(states)
    x0 = random.normal(size=(lanes, states))

    def solve(A, B, x0):
        def everywhere(matrix, stages=horizon):
            return jnp.broadcast_to(matrix, (stages, *matrix.shape))

        qp = pa.QP(
            A=everywhere(A),
            B=everywhere(B),
            Q=everywhere(jnp.eye(states), horizon + 1),
            R=everywhere(jnp.eye(controls)),
            initial_state=x0,
            control_bounds=pa.StageBounds(-0.5, 0.5),
        )
        return pa.solve_qp(qp, backend=which)

    solution = jax.jit(jax.vmap(solve))(A, B, x0)
    assert (np.asarray(solution.status) == pa.Status.SOLVED).all()
    assert np.abs(np.asarray(solution.costates)).max() > 100 and np.asarray(solution.iterations).max() < 40


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
