"""The stage QP and its derivative, against conditions and differences that know nothing of the solver."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from tests.qp.backends import every_backend, names
from tests.qp.random_qps import WEAK, dense_residual, lane, random_qp, stack, with_state

pytestmark = pytest.mark.usefixtures("x64")


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


@pytest.mark.long
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
