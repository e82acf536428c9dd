"""A proposed active set saves the interior-point method where it is right, and changes no answer where it is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from planahead.qp.active_set import ActiveSet
from planahead.qp.interior_point import Backend
from tests.qp.backends import every_backend
from tests.qp.random_qps import lane, random_qp, stack

NUMBER = 6


@pytest.fixture
def qps(x64):
    return stack([random_qp(seed) for seed in range(NUMBER)])


def flipped(proposed: ActiveSet, lanes: list[int]) -> ActiveSet:
    """With the first held row of `lanes` let go, and where none is held the first upper control bound held."""
    held = np.array(proposed.held)
    for index in lanes:
        rows = np.argwhere(held[index])
        held[index][tuple(rows[0]) if len(rows) else (0, 1, 0)] ^= True
    return jax.vmap(ActiveSet)(jnp.asarray(held), proposed.violated & jnp.asarray(held))


def solved(qps: pa.QP, proposed: ActiveSet | None, which: Backend = "auto") -> pa.QPSolution:
    if proposed is None:
        return jax.vmap(lambda qp: pa.solve_qp(qp, backend=which))(qps)
    return jax.vmap(lambda qp, active: pa.solve_qp(qp, backend=which, active_set=active))(qps, proposed)


def same(one: pa.QPSolution, other: pa.QPSolution) -> None:
    for name in ("states", "controls", "cost", "costates", "multipliers"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-6, atol=1e-6)


@pytest.mark.long
@every_backend
def test_a_right_set_is_the_solution_and_a_wrong_row_costs_its_own_lane_iterations(which, qps):
    found = solved(qps, None, which)
    proposed = jax.vmap(ActiveSet.of)(qps, found)
    assert bool(proposed.violated.any()) and bool((proposed.held & ~proposed.violated).any())
    right, wrong = (solved(qps, active, which) for active in (proposed, flipped(proposed, [1, 3])))
    np.testing.assert_array_equal(right.iterations, 0)
    np.testing.assert_array_equal(wrong.iterations > 0, [False, True, False, True, False, False])
    for again in (right, wrong):
        np.testing.assert_array_equal(again.status, pa.Status.SOLVED)
        same(again, found)
    for index in (0, 2, 4, 5):
        for name in ("states", "controls", "multipliers"):
            np.testing.assert_array_equal(getattr(wrong, name)[index], getattr(right, name)[index])


def test_the_initial_state_may_be_free(x64):
    qps = stack([random_qp(seed, free_initial_state=True) for seed in range(NUMBER)])
    found = solved(qps, None)
    again = solved(qps, jax.vmap(ActiveSet.of)(qps, found))
    np.testing.assert_array_equal(again.iterations, 0)
    same(again, found)


def test_a_lane_that_is_no_number_is_called_so_whatever_was_proposed(qps):
    found = solved(qps, None)
    proposed = jax.vmap(ActiveSet.of)(qps, found)
    spoilt = jax.tree.map(lambda leaf: leaf.at[2].set(jnp.nan) if leaf is qps.q else leaf, qps)
    again = solved(spoilt, proposed)
    assert int(again.status[2]) == pa.Status.INVALID_INPUT and bool(jnp.isfinite(again.controls).all())
    np.testing.assert_allclose(again.controls[3], found.controls[3], rtol=1e-6, atol=1e-6)


def test_a_point_that_is_no_minimum_is_not_taken_for_one(x64):
    """With all rows let go a concave QP is stationary at zero, which is its maximum."""
    ones = jnp.ones((1, 1, 1))
    qp = pa.QP(
        A=ones, B=ones, Q=jnp.zeros((2, 1, 1)), R=-ones, initial_state=jnp.zeros(1),
        control_bounds=pa.StageBounds(-1.0, 1.0),
    )  # fmt: skip
    nothing = jnp.zeros((2, 2, 2), bool)
    found = pa.solve_qp(qp, active_set=ActiveSet(nothing, nothing))
    assert int(found.status) != pa.Status.SOLVED


@pytest.mark.long
def test_the_derivative_is_that_of_the_solution(qps):
    qp = lane(qps, 0)
    proposed = ActiveSet.of(qp, pa.solve_qp(qp))

    def first(state, active):
        moved = pa.QP(**{**vars(qp), "initial_state": state})
        return pa.solve_qp(moved, active_set=active).controls[0].sum()

    slopes = [jax.grad(first)(qp.initial_state, active) for active in (None, proposed)]
    assert np.abs(slopes[0]).max() > 1e-3
    np.testing.assert_allclose(slopes[1], slopes[0], rtol=1e-5, atol=1e-7)


def test_what_does_not_fit_is_refused(qps):
    qp = lane(qps, 0)
    proposed = ActiveSet.of(qp, pa.solve_qp(qp))
    with pytest.raises(ValueError, match=r"active set was proposed to InteriorPoint\(tau=0.001\), whose solutions are"):
        pa.solve_qp(qp, solver=pa.InteriorPoint(tau=1e-3), active_set=proposed)
    with pytest.raises(ValueError, match=r"held has shape \(6, 2, 7\), and this QP has rows \(7, 2, 7\)"):
        pa.solve_qp(qp, active_set=ActiveSet(proposed.held[1:], proposed.violated[1:]))
