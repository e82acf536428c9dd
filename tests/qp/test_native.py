"""The native kernel beside the portable solver: the same iterates, and lanes that know nothing of each other."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from planahead.qp import backend, native
from planahead.qp.types import LaneQP, Point
from tests.qp import stress
from tests.qp.random_qps import random_qp, with_state

pytestmark = [
    pytest.mark.usefixtures("x64"),
    pytest.mark.skipif(not native.available(), reason=native.description()),
]


def batch(qps: list[pa.QP]) -> LaneQP:
    """Packed, lanes last."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves, -1), *[qp.pack() for qp in qps])


def solve(qps: LaneQP, which: Literal["native", "portable"], active=None, **settings):
    active = jnp.ones(qps.H.shape[-1], bool) if active is None else active
    return backend.solve(qps, backend.everywhere(qps), pa.InteriorPoint(backend=which, **settings), active)


def pick(tree, lanes):
    return jax.tree.map(lambda leaf: np.asarray(leaf)[..., lanes], tree)


def assert_equal(one, other):
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(left, right)


BACKENDS: tuple[Literal["native", "portable"], ...] = ("native", "portable")
SHAPES = [{"horizon": 1, "nx": 2, "nu": 1, "ng": 0}, {"horizon": 9, "nx": 7, "nu": 5, "ng": 6}]


@pytest.mark.long
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("riccati", ["classic", "square-root"])
@pytest.mark.parametrize("free_initial_state", [False, True])
def test_iterates_are_those_of_the_portable_solver(shape, free_initial_state, riccati):
    """Iterate by iterate: both stop after k iterations, at the same point, and end with the same iteration counts."""
    qps = batch([random_qp(seed, free_initial_state=free_initial_state, **shape) for seed in range(11)])
    for iterations in (1, 60):
        ours, theirs = (solve(qps, which, iterations=iterations, riccati=riccati) for which in BACKENDS)
        np.testing.assert_array_equal(ours.status, theirs.status)
        np.testing.assert_array_equal(ours.iterations, theirs.iterations)
        for left, right in zip(jax.tree.leaves(ours.point), jax.tree.leaves(theirs.point), strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(ours.gain, theirs.gain, rtol=1e-4, atol=1e-4)
    assert (ours.status == pa.Status.SOLVED).all()


@pytest.mark.long
def test_the_adjoint_is_that_of_the_portable_solver():
    qps = batch([random_qp(seed) for seed in range(11)])
    point = solve(qps, "native").point
    random = np.random.default_rng(0)
    cotangent: Point = jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape)), point)
    valid = jnp.arange(11) != 4
    ours, theirs = (backend.adjoint(which, qps, backend.everywhere(qps), point, cotangent, valid) for which in BACKENDS)
    for left, right in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-8, atol=1e-8 * np.abs(right).max())
        assert not np.any(np.asarray(left)[..., 4])
    definite = backend.definite("native", qps, backend.everywhere(qps), point, valid)
    np.testing.assert_array_equal(definite, valid)


def test_a_lanes_adjoint_does_not_depend_on_who_is_left_out():
    """Whether its group is written at once, as neighbours, or lane by lane."""
    qps = batch([random_qp(seed) for seed in range(20)])
    point = solve(qps, "native").point
    random = np.random.default_rng(0)
    cotangent: Point = jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape)), point)
    some = jnp.arange(20) % 3 != 0
    whole, parts = (
        backend.adjoint("native", qps, backend.everywhere(qps), point, cotangent, valid)
        for valid in (jnp.ones(20, bool), some)
    )
    for left, right in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_array_equal(np.where(some, left, 0.0), right)
    assert all(np.any(np.asarray(array), axis=tuple(range(array.ndim - 1))).all() for array in (whole.row, whole.price))


def test_definiteness_is_told():
    qps = batch([random_qp(seed) for seed in range(3)])
    qps = eqx.tree_at(lambda qp: qp.H, qps, qps.H.at[..., 1].multiply(-1.0))
    point = jax.tree.map(jnp.ones_like, solve(qps, "native").point)
    for which in BACKENDS:
        found = backend.definite(which, qps, backend.everywhere(qps), point, jnp.ones(3, bool))
        np.testing.assert_array_equal(found, [True, False, True])


@pytest.mark.parametrize("size", [1, 7, 8, 9, 200])
def test_answers_do_not_depend_on_neighbours_or_order(size):
    """Every lane, bit by bit, is what it is alone: whatever shares its vector, and wherever in the batch it stands."""
    seeds = np.random.default_rng(size).integers(0, 40, size)
    library = {seed: batch([random_qp(seed)]) for seed in set(seeds.tolist())}
    together = solve(
        jax.tree.map(lambda *leaves: jnp.concatenate(leaves, -1), *[library[seed] for seed in seeds]), "native"
    )
    alone = {seed: pick(solve(qp, "native"), 0) for seed, qp in library.items()}
    for lane, seed in enumerate(seeds):
        assert_equal(pick(together, lane), alone[seed])


def test_bad_lanes_are_told_apart_and_change_nothing():
    good = [random_qp(seed) for seed in range(20)]
    bad = list(good)
    bad[3] = eqx.tree_at(lambda qp: qp.q, good[3], jnp.asarray(good[3].q).at[2, 0].set(jnp.nan))
    bad[8] = with_state(good[8], [0.0, 0.0, 1e6])
    bad[11] = eqx.tree_at(lambda qp: qp.R, good[11], jnp.asarray(good[11].R).at[1, 0, 0].set(jnp.inf))
    healthy, mixed = solve(batch(good), "native"), solve(batch(bad), "native")
    expected = {3: pa.Status.INVALID_INPUT, 8: pa.Status.INFEASIBLE, 11: pa.Status.INVALID_INPUT}
    for lane in range(20):
        assert mixed.status[lane] == expected.get(lane, pa.Status.SOLVED)
        if lane not in expected:
            assert_equal(pick(healthy, lane), pick(mixed, lane))


def test_lanes_that_are_not_active_are_left_out():
    qps = batch([random_qp(seed) for seed in range(20)])
    active = jnp.arange(20) % 3 != 0
    everyone, some = solve(qps, "native"), solve(qps, "native", active)
    np.testing.assert_array_equal(some.status, np.where(active, everyone.status, pa.Status.INVALID_INPUT))
    for lane in np.flatnonzero(active):
        assert_equal(pick(everyone, lane), pick(some, lane))


@pytest.mark.parametrize(
    "dtype, settings",
    [
        (np.float64, {}),
        (np.float64, {"riccati": "square-root"}),
        (np.float32, {}),
        (np.float32, {"arithmetic": "float32", "riccati": "square-root"}),
    ],
    ids=str,
)
def test_what_all_lanes_share_is_passed_once_and_changes_no_bit(dtype, settings):
    qp = jax.tree.map(lambda leaf: leaf.astype(dtype), random_qp(5))
    states = jnp.asarray(np.random.default_rng(1).normal(size=(37, 3)), dtype)
    solver = pa.InteriorPoint(**settings)
    shared = jax.vmap(lambda state: pa.solve_qp(with_state(qp, state), solver=solver))(states)
    copied = jax.vmap(lambda qp: pa.solve_qp(qp, solver=solver))(
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *[with_state(qp, state) for state in states])
    )
    assert shared.controls.dtype == dtype
    assert np.mean(np.asarray(shared.status) == pa.Status.SOLVED) > 0.9
    for part in ("states", "controls", "costates", "multipliers", "status", "iterations", "residual"):
        np.testing.assert_array_equal(getattr(shared, part), getattr(copied, part))


def test_float32_is_computed_in_float64():
    qps = [random_qp(seed) for seed in range(5)]
    exact = solve(batch(qps), "native", tau=1e-6)
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), batch(qps))
    rounded = solve(single, "native", tau=1e-6, tolerance=1e-9)
    assert (rounded.status == pa.Status.SOLVED).all() and rounded.point.z.dtype == jnp.float32
    np.testing.assert_allclose(rounded.point.z, exact.point.z, atol=2e-5)


def test_float32_arithmetic_solves_to_float32s_precision():
    qps = [random_qp(seed) for seed in range(24)]
    exact = solve(batch(qps), "native")
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), batch(qps))
    rounded = solve(single, "native", arithmetic="float32")
    assert (rounded.status == pa.Status.SOLVED).all()
    np.testing.assert_allclose(rounded.point.z, exact.point.z, atol=2e-3)
    exactly = solve(single, "native")
    assert (np.asarray(exactly.point.z) != np.asarray(rounded.point.z)).any(), "it was computed in float64"


def test_float32_arithmetic_never_says_solved_where_it_is_not():
    random = np.random.default_rng(4)
    given_up = count = 0
    for size in stress.sizes(random, 1_000):
        qp, kind = stress.batch(random, size)
        qp = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), qp)
        outcome = solve(qp, "native", arithmetic="float32")
        solved = np.asarray(outcome.status) == pa.Status.SOLVED
        assert not solved[np.isin(kind, (3, 5))].any()
        # The conditions are met to the tolerance as far as float32 can tell: their terms are rounded.
        assert (stress.worst_residual(qp, outcome)[solved] <= 1e-3).all()
        ordinary = kind == 0
        given_up, count = given_up + (ordinary & ~solved).sum(), count + ordinary.sum()
    assert given_up <= 0.01 * count


def test_float32_arithmetic_does_not_look_at_the_neighbours():
    qps = [random_qp(seed) for seed in range(19)]
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), batch(qps))
    everyone = solve(single, "native", arithmetic="float32")
    for lane in range(19):
        alone = solve(
            jax.tree.map(lambda leaf, at=lane: leaf[..., at : at + 1], single), "native", arithmetic="float32"
        )
        assert_equal(pick(everyone, lane), pick(alone, 0))


def test_solve_qp_takes_the_backend_by_name():
    qp = random_qp(0)
    ours, theirs = (pa.solve_qp(qp, backend=which) for which in BACKENDS)
    np.testing.assert_allclose(ours.controls, theirs.controls, atol=1e-8)


def test_the_kernel_can_be_left_out(monkeypatch):
    monkeypatch.setenv(native.SWITCH, "0")
    library = native._Library()
    assert library.kernel is None and library.error == "PLANAHEAD_NATIVE=0 turns it off"
