"""The native QP kernel: C++ through XLA's foreign-function interface, one problem in each lane of a vector (`native/`
holds it).

The library speaks to XLA alone, so it is loaded by `ctypes` and one build serves every Python version. It computes in
float64 whatever comes in, unless `InteriorPoint(arithmetic="float32")` asks for less. Arrays carry lanes last, as in
the portable solver; what all lanes share is passed once. Where it cannot be loaded the portable solver serves, and
`description()` says why.
"""

import ctypes
import functools
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from planahead.qp.interior_point import InteriorPoint, Outcome, Riccati
from planahead.qp.newton import Residuals
from planahead.qp.types import LaneQP, Point, QPGuess

_NAME = "libplanahead_qp.so"
SWITCH = "PLANAHEAD_NATIVE"
"""An environment variable; 0 leaves the kernel out, so that the portable solver computes everything."""

INSTRUCTIONS = "PLANAHEAD_ISA"
"""An environment variable that chooses the kernel's instruction set: `avx512`, `avx2` or `generic`."""


class _Library:
    """The loaded library, or why there is none."""

    def __init__(self):
        import planahead

        self.kernel, self.error = None, None
        if os.environ.get(SWITCH) == "0":
            self.error = f"{SWITCH}=0 turns it off"
            return
        places = [pathlib.Path(folder) / "qp" / _NAME for folder in planahead.__path__]
        found = [place for place in places if place.exists()]
        if not found:
            self.error = "not built: no working C++ compiler was found when planahead was installed"
            return
        try:
            library = ctypes.CDLL(str(found[0]))
            for entry in ("solve_f32", "solve_f64", "adjoint_f32", "adjoint_f64", "evaluate_f32", "evaluate_f64"):
                handler = getattr(library, f"planahead_{entry}")
                jax.ffi.register_ffi_target(f"planahead_{entry}", jax.ffi.pycapsule(handler), platform="cpu")
            library.planahead_kernel.restype = ctypes.c_char_p
            self.kernel = library.planahead_kernel().decode()
            wanted = os.environ.get(INSTRUCTIONS, self.kernel)
            if wanted != self.kernel:
                self.error = f"{INSTRUCTIONS}={wanted} is not known or not supported by this processor"
        except (OSError, AttributeError) as error:
            self.error = f"{found[0]} cannot be loaded: {error}"


@functools.cache
def _library() -> _Library:
    return _Library()


def available() -> bool:
    """Whether the kernel can be used: it is built, loads, and JAX computes on the CPU."""
    return _library().error is None and jax.default_backend() == "cpu"


def description() -> str:
    """One line: which kernel is in use, or why there is none."""
    library = _library()
    if library.error is not None:
        return f"native kernel not in use ({library.error}); the portable solver serves"
    if jax.default_backend() != "cpu":
        return f"native kernel not in use (JAX computes on {jax.default_backend()}); the portable solver serves"
    return f"native kernel in use ({library.kernel})"


def solve(
    qp: LaneQP,
    in_lanes: Any,
    settings: InteriorPoint,
    active: Bool[Array, " B"],
    *,
    rows: bool = True,
    gain: bool = True,
    guess: QPGuess | None = None,
) -> Outcome:
    """Solve all lanes in which `active` holds; the others come back with status `INVALID_INPUT`.

    `in_lanes` says which arrays of `qp` carry lanes; those of `guess` all do. What only some callers need costs as much
    to write as the rest: without `rows`, `t` and `lam_s` of the point are zero; without `gain`, the gain is.
    """
    lanes, (arrays, shared, sizes) = active.shape[0], _problem(qp, in_lanes, active.shape[0], guess)
    N, nx, nu = qp.F.shape[0], qp.state_size, qp.control_size
    nodes, m, dtype = N + 1, qp.linear.shape[1], qp.g.dtype

    def output(*shape: int, wanted: bool = True, dtype: Any = dtype) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((*shape, lanes) if wanted else (0,), dtype)

    two_sided = (nodes, 2, m)
    outputs = (
        output(nodes, nu + nx),
        output(nodes, nx),
        output(*two_sided, wanted=rows),
        output(*two_sided),
        output(*two_sided),
        output(*two_sided, wanted=rows),
        output(dtype=np.int32),
        output(dtype=np.int32),
        output(),
        output(),
        output(N, nu, nx, wanted=gain),
    )
    z, pi, t, lam, s, lam_s, status, iterations, residual, tau, K = call("solve", dtype, outputs)(
        *arrays,
        active,
        **sizes,
        shared=np.int64(shared),
        tolerance=np.float64(settings.resolved_tolerance(dtype)),
        tau=np.float64(-1.0 if settings.tau is None else settings.tau),
        relative_tau=np.float64(settings.relative_tau(dtype)),
        iterations=np.int64(settings.iterations),
        single=settings.arithmetic == "float32",
        square_root=settings.riccati == "square-root",
    )
    if not rows:
        t, lam_s = jnp.zeros_like(lam), jnp.zeros_like(lam)
    if not gain:
        K = jnp.zeros((N, nu, nx, lanes), dtype)
    whole = jnp.result_type(int)
    return Outcome(Point(z, pi, t, lam, s, lam_s), status.astype(whole), iterations.astype(whole), residual, tau, K)


def definite(
    qp: LaneQP, in_lanes: Any, point: Point, valid: Bool[Array, " B"], riccati: Riccati = "classic"
) -> Bool[Array, " B"]:
    """The `valid` lanes whose reduced Hessian at `point` is positive definite."""
    nothing = jax.ShapeDtypeStruct((0,), qp.g.dtype)
    return _adjoint(qp, in_lanes, point, None, valid, (nothing,) * 5, riccati)[-1].astype(bool)


def adjoint(
    qp: LaneQP, in_lanes: Any, point: Point, cotangent: Point, valid: Bool[Array, " B"], riccati: Riccati = "classic"
) -> Residuals:
    """What `sensitivity.adjoint` returns; zero where not `valid`. All arrays of `point` and `cotangent` carry lanes."""
    sizes = (cotangent.z, cotangent.pi[1:], cotangent.pi[0], cotangent.lam, cotangent.s)
    outputs = tuple(jax.ShapeDtypeStruct(value.shape, value.dtype) for value in sizes)
    stationarity, dynamics, initial, row, price, _ = _adjoint(qp, in_lanes, point, cotangent, valid, outputs, riccati)
    zeros = jnp.zeros_like(row)
    return Residuals(stationarity, dynamics, initial, row, zeros, price, zeros)


def _adjoint(
    qp: LaneQP,
    in_lanes: Any,
    point: Point,
    cotangent: Point | None,
    valid: Array,
    outputs: tuple[jax.ShapeDtypeStruct, ...],
    riccati: Riccati,
) -> Any:
    lanes, (arrays, shared, sizes) = valid.shape[0], _problem(qp, in_lanes, valid.shape[0])
    points = (point.z, point.pi, point.t, point.lam, point.s, point.lam_s)
    seeds = (
        (*points[:2], point.lam, point.s)
        if cotangent is None
        else (cotangent.z, cotangent.pi, cotangent.lam, cotangent.s)
    )
    outputs = (*outputs, jax.ShapeDtypeStruct((lanes,), np.uint8))
    adjoint_call = call("adjoint", qp.g.dtype, outputs)
    form = {"shared": np.int64(shared), "square_root": riccati == "square-root"}
    return adjoint_call(*arrays, valid, *points, *seeds, **sizes, **form)


def _problem(
    qp: LaneQP, in_lanes: Any, lanes: int, guess: QPGuess | None = None
) -> tuple[tuple[Array, ...], int, dict[str, Any]]:
    """The arrays of problem and guess in the order of the entry points, the bits of those that are shared, and its
    sizes."""
    free = qp.initial_state is None
    initial = jnp.zeros(0, qp.g.dtype) if qp.initial_state is None else qp.initial_state
    nothing = jnp.zeros(0, qp.g.dtype)
    guessed = (nothing,) * 3 if guess is None else (guess.z, guess.pi, guess.lam)
    arrays = (qp.H, qp.g, qp.F, qp.c, qp.G, qp.bound, qp.linear, qp.quadratic, initial, *guessed)
    carry = (
        in_lanes.H, in_lanes.g, in_lanes.F, in_lanes.c, in_lanes.G, in_lanes.bound, in_lanes.linear, in_lanes.quadratic,
        False if free else in_lanes.initial_state, *(guess is not None,) * 3,
    )  # fmt: skip
    shared = sum(1 << index for index, carries in enumerate(carry) if not carries)
    sizes = {
        "lanes": np.int64(lanes),
        "horizon": np.int64(qp.F.shape[0]),
        "states": np.int64(qp.state_size),
        "controls": np.int64(qp.control_size),
        "rows": np.int64(qp.G.shape[1]),
        "free_initial_state": free,
    }
    return arrays, shared, sizes


def call(entry: str, dtype: Any, outputs: Any) -> Any:
    """The entry point `entry` for a number format, as a function of its arrays."""
    _library()
    return jax.ffi.ffi_call(f"planahead_{entry}_{'f64' if dtype == jnp.float64 else 'f32'}", outputs)
