"""The native evaluator beside JAX: every operation, every primitive that is understood, refusals, and batches."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from planahead.qp import native
from planahead.tape.arrays import UnsupportedError
from planahead.tape.evaluate import Argument, Segment, evaluate
from planahead.tape.graph import TooLargeError

pytestmark = [
    pytest.mark.skipif(not native.available(), reason="without the native kernel there is no evaluator"),
    pytest.mark.usefixtures("x64"),
]
ODD = np.array([0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 700.0, -700.0, 1e-300, np.inf, -np.inf, np.nan])


def pointwise(function, *arrays: jax.Array) -> jax.Array:
    """`function` of scalars at every entry of vectors, as one stage with a lane an entry."""
    lanes = arrays[0].shape[0]
    output = jax.ShapeDtypeStruct((1, lanes), arrays[0].dtype)
    segment = Segment(function, 1, [Argument(array, None, True) for array in arrays], [(0, 0)])
    return jax.jit(lambda: evaluate([segment], [output], lanes))()[0][0]


ONE = (
    jnp.negative, jnp.abs, jnp.sqrt, jnp.sign, jnp.floor, jnp.sin, jnp.cos, jnp.tan, jnp.exp, jnp.log, jnp.tanh,
    jnp.arcsin, jnp.arccos, jnp.arctan, jnp.sinh, jnp.cosh, jnp.expm1, jnp.log1p, lax.erf, lax.rsqrt,
    jax.nn.sigmoid, jnp.square, lambda x: jnp.isfinite(x).astype(float), lambda x: x**3, lambda x: x**-2,
)  # fmt: skip
TWO = (
    jnp.add, jnp.subtract, jnp.multiply, jnp.divide, jnp.maximum, jnp.minimum, jnp.power, jnp.arctan2,
    lambda x, y: jnp.where(x < y, x, y), lambda x, y: jnp.where(x <= y, 1.0, 2.0),
    lambda x, y: jnp.where(x == y, 1.0, 2.0), lambda x, y: jnp.where(x != y, x, 2.0),
    lambda x, y: jnp.where(x > y, 1.0, y), lambda x, y: jnp.where(x >= y, 1.0, y),
    lambda x, y: jnp.where((x > 0) & ~(y > 0) | (x < -1), 1.0, 2.0), jnp.hypot,
    lambda x, y: x.astype(bool) + 2.0 * (x.astype(bool) | (y > 0)), lambda x, y: 1.0 * jnp.logical_xor(x, y),
    lambda x, y: lax.cond((x > 0) & (y > 0), lambda: x, lambda: y),
)  # fmt: skip


@pytest.mark.parametrize("function", ONE)
def test_functions_of_one_number_at_odd_ones(function):
    x = jnp.asarray(ODD)
    np.testing.assert_allclose(pointwise(function, x), jax.vmap(function)(x), rtol=1e-13)


@pytest.mark.parametrize("function", TWO)
def test_functions_of_two_numbers_at_odd_ones(function):
    first, second = (jnp.asarray(grid.ravel()) for grid in np.meshgrid(ODD, ODD))
    np.testing.assert_allclose(pointwise(function, first, second), jax.vmap(function)(first, second), rtol=1e-13)


@pytest.mark.parametrize(("function", "exact"), [(jnp.sin, np.sin), (jnp.cos, np.cos)])
def test_sine_and_cosine_are_within_the_error_that_is_promised(function, exact):
    """2.5 units in the last place below 1e5, where the kernel computes them; the C library's beyond."""
    random, quarters = np.random.default_rng(0), np.arange(-63_600, 63_601) * (np.pi / 2)
    edge, rounded = np.nextafter(1e5, 0), np.finfo(np.longdouble).eps / np.finfo(float).eps  # the reference itself
    inside = np.concatenate([random.uniform(-1e5, 1e5, 100_000), quarters, quarters + np.pi / 4, [edge, -edge]])
    for x, units in ((inside, 2.5), (10 ** random.uniform(5, 300, 10_000), 1.0)):
        wanted = exact(x.astype(np.longdouble))
        error = np.abs(np.asarray(pointwise(function, jnp.asarray(x))) - wanted)
        assert np.max(error / np.spacing(np.abs(wanted).astype(float))) < units + rounded


def test_the_sine_of_minus_nothing_has_its_sign():
    assert np.signbit(pointwise(jnp.sin, jnp.array([-0.0, 0.0]))).tolist() == [True, False]


def looped(x):
    return lax.fori_loop(0, 5, lambda k, y: y + jnp.sin(y) * x[0] + k, x)


def scanned(x):
    final, steps = lax.scan(lambda carry, slice: (carry * slice, carry + slice), x[0], x, reverse=True)
    return jnp.append(steps, final)


def branched(x):
    return lax.cond(x[0] > 0.2, lambda x: 2 * x, lambda x: x - 1, x) + lax.switch(
        (x[1] > 0).astype(int), [jnp.sin, jnp.cos], x
    )


def indexed(x):
    return jnp.concatenate([x[jnp.array([2, 0])], x[::-1][:2], x.at[1].set(x[0])[:3], jnp.roll(x, 1), x[-1:]])


def products(x):
    A = jnp.outer(x, x) + jnp.eye(x.shape[0])
    batched = jnp.einsum("bij,bjk->bik", jnp.stack([A, 2 * A]), jnp.stack([A.T, A]))
    return jnp.concatenate([A @ x, (x @ A @ A).ravel(), batched.ravel(), jnp.trace(A)[None]])


def reduced(x):
    M = x[:, None] * jnp.arange(1.0, 4.0)[None]
    parts = (
        M.sum(0),
        M.max(1),
        M.min(0),
        M.prod(1),
        jnp.cumsum(x),
        jnp.cumsum(x[:0]),
        jnp.linalg.norm(x)[None],
        jax.nn.logsumexp(x)[None],
    )
    return jnp.concatenate(
        [*parts, jnp.any(x > 0)[None] * 1.0, jnp.all(x > 0)[None] * 1.0, jnp.zeros((0,)).sum()[None]]
    )


def shaped(x):
    padded = jnp.pad(x, (1, 2), constant_values=3.0)
    tiled = jnp.tile(x, 2)
    first, *_, last = x
    parts = (
        padded,
        tiled,
        jnp.atleast_1d(first * last),
        jnp.stack([x, -x], 1).T.ravel(),
        jnp.squeeze(x[None]),
        jnp.clip(x, -0.1, 0.3),
    )
    return jnp.concatenate([*parts, *jnp.split(x, 2), jnp.linspace(0.0, 1.0, 3)])


@pytest.mark.parametrize("function", [looped, scanned, branched, indexed, products, reduced, shaped])
def test_functions_of_arrays_with_their_derivatives(function):
    check(
        lambda x: (function(x), jax.jacfwd(function)(x), jax.hessian(lambda x: jnp.sum(function(x) ** 2))(x)), lanes=33
    )


@pytest.mark.parametrize("lanes", [1, 7, 32, 64])
def test_batches_of_many_sizes(lanes):
    check(lambda x: (jnp.sin(x) @ x, x[::-1], jnp.zeros(2)), lanes)


def check(all_of_it, lanes: int) -> None:
    """Against JAX, at three stages."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, lanes)))

    one = jax.eval_shape(all_of_it, x[0, :, 0])
    outputs = [jax.ShapeDtypeStruct((3, *part.shape, lanes), x.dtype) for part in one]
    segment = Segment(all_of_it, 3, [Argument(x, 0, True)], [(0, 0), (1, 0), (2, 0)])
    found = jax.jit(lambda: evaluate([segment], outputs, lanes))()
    over_lanes = jax.vmap(all_of_it, in_axes=-1, out_axes=-1)
    for ours, theirs in zip(found, jax.vmap(over_lanes)(x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-11)


def test_arrays_with_and_without_stages_and_lanes():
    """Four stages from the second of six, then one with another function, into the same output."""
    random = np.random.default_rng(0)
    lanes, both, stages, own, shared = (
        5,
        random.normal(size=(6, 2, 5)),
        random.normal(size=(6,)),
        random.normal(size=5),
        3.0,
    )
    both, stages, own, shared = (jnp.asarray(array) for array in (both, stages, own, shared))
    arguments = [
        Argument(both, 1, True),
        Argument(stages, 2, False),
        Argument(own, None, True),
        Argument(shared, None, False),
    ]
    segments = [
        Segment(lambda z, s, o, c: (z * s + o, c * s), 4, arguments, [(0, 0), (1, 0)]),
        Segment(lambda z: -z, 1, [Argument(both, 5, True)], [(0, 4)]),
    ]
    outputs = [jax.ShapeDtypeStruct((5, 2, lanes), both.dtype), jax.ShapeDtypeStruct((4, lanes), both.dtype)]
    first, second = jax.jit(lambda: evaluate(segments, outputs, lanes))()
    np.testing.assert_allclose(first[:4], both[1:5] * stages[2:, None, None] + own[None, None])
    np.testing.assert_array_equal(first[4], -both[5])
    np.testing.assert_allclose(second, jnp.broadcast_to(shared * stages[2:, None], (4, lanes)))


def test_a_lane_has_the_same_bits_in_every_company():
    def function(x):
        return jnp.sin(x) @ x * x

    def run(x):
        output = jax.ShapeDtypeStruct(x.shape, x.dtype)
        return evaluate([Segment(function, 2, [Argument(x, 0, True)], [(0, 0)])], [output], x.shape[-1])[0]

    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 70)))
    whole = run(x)
    for lanes in (slice(0, 1), slice(3, 36), slice(69, 70)):
        np.testing.assert_array_equal(run(x[..., lanes]), whole[..., lanes])
    bad = x.at[:, :, 4].set(jnp.nan)
    np.testing.assert_array_equal(jnp.delete(run(bad), 4, axis=-1), jnp.delete(whole, 4, axis=-1))


def test_float32_is_computed_in_float64():
    x = jnp.asarray(np.random.default_rng(0).normal(size=40), jnp.float32)
    exact = jax.vmap(lambda x: jnp.sin(x) ** 2 - x)(x.astype(jnp.float64))
    np.testing.assert_array_equal(pointwise(lambda x: jnp.sin(x) ** 2 - x, x), exact.astype(jnp.float32))


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (lambda x: lax.while_loop(lambda y: y < 3, lambda y: y + 1, x), "while"),
        (lambda x: jnp.linalg.eigvalsh(x * jnp.eye(2))[0], "eigh"),
        (lambda x: jnp.sort(jnp.stack([x, 1 - x]))[0], "sort"),
        (lambda x: jnp.arange(3.0)[x.astype(int)], "integer"),
        (lambda x: jax.random.normal(jax.random.key(0)) * x, "random|threefry|shift|key"),
        (lambda x: jnp.abs(jnp.exp(2j * x)), "complex"),
        (lambda x: jnp.abs(x + jnp.fft.fft(jnp.ones(4))[0]), "complex|fft"),
        (lambda x: x + lax.reduce_or(jnp.array([1, 2]), (0,)), "reduce_or of integers"),
        (lambda x: x + (jnp.array([200, 3], jnp.uint8) + jnp.uint8(100))[0], "uint8 beyond its range"),
        (lambda x: x + jnp.array([300, 3]).astype(jnp.uint8)[0], "uint8 beyond its range"),
        (lambda x: x + jnp.cumsum(jnp.array([100, 100], jnp.int8), dtype=jnp.int8)[1], "int8 beyond its range"),
    ],
)
def test_what_has_no_scalar_form_is_refused(function, what):
    with pytest.raises(UnsupportedError, match=what):
        pointwise(function, jnp.ones(3))


def test_functions_that_are_too_large_are_refused_before_they_are_taken_apart():
    def network(x):
        return jnp.sum(jnp.tanh(jnp.ones((1000, 1000)) @ jnp.full(1000, x)))

    with pytest.raises(TooLargeError, match="more than 400000 operations"):
        pointwise(network, jnp.ones(3))


def test_values_of_a_transformation_around_it_are_refused():
    def outer(y):
        return pointwise(lambda x: x * y, jnp.ones(3))

    with pytest.raises(UnsupportedError, match="closes over"):
        jax.jit(outer)(2.0)


@pytest.mark.parametrize("wrapped", [lambda function: function, jax.jit, jax.checkpoint])
def test_functions_that_differ_in_an_array_alone_have_tapes_of_their_own(wrapped):
    """The text of a jaxpr shows no arrays, and those of a function that is called inside are not among its own."""

    def scaled(factor):
        table = np.array([factor, 2.0])
        return wrapped(lambda x: jnp.sum(table * x))

    for factor in (1.0, 5.0):
        np.testing.assert_array_equal(pointwise(scaled(factor), jnp.ones(3)), factor + 2.0)


def test_other_formats_are_refused():
    with pytest.raises(UnsupportedError, match="arrays of float16"):
        pointwise(jnp.sin, jnp.ones(3, jnp.float16))


def test_mixed_formats_are_refused():
    x = jnp.ones(3)
    with pytest.raises(UnsupportedError, match="float32 beside float64"):
        segment = Segment(
            lambda x, y: x * y, 1, [Argument(x, None, True), Argument(jnp.float32(2), None, False)], [(0, 0)]
        )
        evaluate([segment], [jax.ShapeDtypeStruct((1, 3), x.dtype)], 3)


def test_no_lanes_at_all():
    assert pointwise(lambda x: 2 * x, jnp.zeros(0)).shape == (0,)
    assert math.isclose(float(pointwise(lambda x: 2 * x, jnp.ones(1))[0]), 2.0)
