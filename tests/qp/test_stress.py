"""No lane says solved and is not, whatever comes in; and an answer knows nothing of neighbours, order and company."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import planahead as pa
from planahead.qp import backend, native
from planahead.qp.types import QPGuess
from tests.qp import stress

pytestmark = pytest.mark.usefixtures("x64")
needs_native = pytest.mark.skipif(not native.available(), reason=native.description())


@needs_native
def test_thousands_of_random_problems_say_what_they_are():
    random = np.random.default_rng(1)
    for number, size in enumerate(stress.sizes(random, 3_000)):
        qp, kind = stress.batch(random, size, free_initial_state=number % 4 == 3)
        stress.judge(qp, kind, stress.solve(qp))


@needs_native
@pytest.mark.parametrize("far", [0.0, 1e-3, 10.0])
def test_warm_starts_say_what_they_are(far):
    """From the solution, from close by, and from anywhere; guesses of lanes without a solution are no numbers."""
    random = np.random.default_rng(4)
    qp, kind = stress.batch(random, stress.Size(nx=5, nu=2, ng=3, N=8, lanes=700))
    point = stress.solve(qp).point
    parts = [part * (1 + far * random.normal(size=part.shape)) for part in (point.z, point.pi, point.lam)]
    parts = [jnp.where(jnp.asarray(kind == 3), jnp.nan, part) for part in parts]
    stress.judge(qp, kind, stress.solve(qp, guess=QPGuess(*parts)))


@pytest.mark.long
def test_the_portable_solver_says_so_too():
    """Many lanes in float64: the maxima of XLA lose NaNs there, and the solver must not."""
    qp, kind = stress.batch(np.random.default_rng(5), stress.Size(nx=4, nu=2, ng=3, N=10, lanes=1500))
    stress.judge(qp, kind, stress.solve(qp, "portable"))


@needs_native
@pytest.mark.slow
def test_a_hundred_thousand():
    stress.main(100_000)


@needs_native
@pytest.mark.parametrize("lanes", [0, 1, 7, 8, 9, 1000])
def test_the_same_bits_in_any_batch_and_order(lanes):
    random = np.random.default_rng(2)
    qp, _ = stress.batch(random, stress.Size(nx=4, nu=2, ng=3, N=9, lanes=1000))
    whole = stress.solve(qp)
    order = random.permutation(1000)[:lanes]
    some = stress.solve(jax.tree.map(lambda leaf: leaf[..., order], qp))
    for one, all_ in zip(jax.tree.leaves(some), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(one, all_[..., order])


@needs_native
def test_shared_matrices_and_copies_of_them_give_the_same_answers():
    """Matrices that all lanes share are kept as numbers, others as vectors: two programs, one answer."""
    random = np.random.default_rng(3)
    for nx, nu in ((4, 1), (8, 4), (13, 4), (5, 3)):
        qp, kind = stress.batch(random, stress.Size(nx, nu, ng=2, N=6, lanes=1))
        while kind[0] != 0:
            qp, kind = stress.batch(random, stress.Size(nx, nu, ng=2, N=6, lanes=1))
        copied = jax.tree.map(lambda leaf: jnp.repeat(leaf, 5, -1), qp)
        shared = jax.tree.map(lambda leaf: leaf[..., 0], qp)
        active = jnp.ones(5, bool)
        everyone = backend.everywhere(shared)
        nobody = jax.tree.map(lambda _: False, everyone)
        settings = pa.InteriorPoint(backend="native")
        one = backend.solve(shared, nobody, settings, active)
        other = backend.solve(copied, everyone, settings, active)
        np.testing.assert_array_equal(one.status, other.status)
        np.testing.assert_array_equal(one.iterations, other.iterations)
        np.testing.assert_allclose(one.point.z, other.point.z, rtol=1e-9, atol=1e-9)
