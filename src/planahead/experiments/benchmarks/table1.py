"""Table 1 of J. Frey et al., arXiv 2505.01353 (2025): two sets of 128 linear-quadratic problems with boxes.

    minimise  Σ_k xᵀx + uᵀu + x_NᵀQ x_N    s.t.  x⁺ = A x + B u + b,  |u| <= u_max,  x_0 given

The whole batch shares A, B and b; initial states differ. The adjoint is that of the sum of all first controls with
respect to A, B, b and the Hessian. Problem data and reference solutions: `table1.npz`, described beside it.
"""

import dataclasses
import importlib.resources
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

import planahead as pa
from planahead.experiments.benchmarks import peers
from planahead.experiments.benchmarks.timing import Row, attempt, measure

SETS = ("u1e4", "u1")
HORIZON = 20
CLOSE = 1e-4
"""An answer is wrong where a control is further than this from the reference, which is far beyond every peer's
tolerance."""

Data = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]


@dataclasses.dataclass(frozen=True)
class ProblemSet:
    """One of the two sets; arrays as in the file."""

    name: str
    A: np.ndarray
    B: np.ndarray
    b: np.ndarray
    umax: float
    x0: np.ndarray
    u: np.ndarray
    grad: np.ndarray

    @classmethod
    def load(cls, name: str) -> "ProblemSet":
        file = importlib.resources.files("planahead.experiments.benchmarks") / "table1.npz"
        with importlib.resources.as_file(file) as path, np.load(path) as data:
            given = {field: data[f"{name}_{field}"] for field in ("A", "B", "b", "x0", "u", "grad")}
            return cls(name, umax=float(data[f"{name}_umax"]), **given)

    def qp(self, A, B, b, Q, R, S, x0) -> pa.QP:
        """The problem from one initial state, every stage the same."""

        def everywhere(matrix, stages=HORIZON):
            return jnp.broadcast_to(matrix, (stages, *matrix.shape))

        return pa.QP(
            A=everywhere(A),
            B=everywhere(B),
            c=everywhere(b),
            Q=everywhere(Q, HORIZON + 1),
            R=everywhere(R),
            S=everywhere(S),
            initial_state=x0,
            control_bounds=pa.StageBounds(-self.umax, self.umax),
        )

    def data(self) -> Data:
        """A, B, b, Q, R, S."""
        A, B, b, Q, R, S = map(jnp.asarray, (self.A, self.B, self.b, 2 * np.eye(8), 2 * np.eye(4), np.zeros((4, 8))))
        return A, B, b, Q, R, S


def run(repeats: int, with_peers: bool) -> list[Row]:
    """Both sets: planahead's solve, its solve with adjoint, and the peers' solves."""
    rows: list[Row] = []
    for name in SETS:
        given = ProblemSet.load(name)
        rows += ours(given, repeats)
        if with_peers:
            rows += [theirs(given, peer, repeats) for peer in peers.PEERS]
            rows += [
                Row(name, peer, "solve", len(given.x0), None, None, note=why) for peer, why in peers.NOT_RUN.items()
            ]
    return rows


def ours(given: ProblemSet, repeats: int) -> list[Row]:
    """planahead's rows, in float64."""
    with jax.enable_x64(True):
        data, x0 = given.data(), jnp.asarray(given.x0)

        @jax.jit
        def nominal(x0):
            solution = jax.vmap(lambda x: pa.solve_qp(given.qp(*data, x)))(x0)
            return solution.controls, solution.status, solution.residual

        @jax.jit
        def with_adjoint(data: Data, x0):
            def first(data: Data):
                solution = jax.vmap(lambda x: pa.solve_qp(given.qp(*data, x)))(x0)
                return jnp.sum(solution.controls[:, 0]), (solution.controls, solution.status)

            return jax.value_and_grad(first, has_aux=True)(data)

        solved = measure(lambda: jax.block_until_ready(nominal(x0)), repeats)
        both = measure(lambda: jax.block_until_ready(with_adjoint(data, x0)), repeats)
        controls, status, residual = nominal(x0)
        gradient = with_adjoint(data, x0)[1]
        slope, reference = _flat(gradient), given.grad.sum(0)
        slope_error = float(np.abs(slope - reference).max() / np.abs(reference).max())
        note = f"largest KKT residual {float(residual.max()):.0e}"
    return [
        _row(given, "planahead", "solve", solved, np.asarray(controls), np.asarray(status) == pa.Status.SOLVED, note),
        Row(
            given.name,
            "planahead",
            "solve + adjoint",
            len(given.x0),
            both.median,
            both.p99,
            failed=int((np.asarray(status) != pa.Status.SOLVED).sum()),
            wrong=0 if slope_error <= 1e-6 else len(given.x0),
            error=slope_error,
            note="relative error of the gradient",
        ),
    ]


def theirs(given: ProblemSet, peer: "peers.Peer", repeats: int) -> Row:
    """A peer's row: a loop over all initial states, after setting up once."""

    def run() -> Row:
        solve = peer.prepare(given.A, given.B, given.b, given.umax, HORIZON)
        timing = measure(lambda: [solve(x0) for x0 in given.x0], repeats)
        answers = [solve(x0) for x0 in given.x0]
        controls = np.stack([answer.controls for answer in answers])
        return _row(given, peer.name, "solve", timing, controls, np.array([answer.solved for answer in answers]), "")

    return attempt(given.name, peer.name, "solve", len(given.x0), run)


def _row(given: ProblemSet, solver: str, what: str, timing, controls: np.ndarray, solved: np.ndarray, note: str) -> Row:
    errors = np.abs(controls - given.u).max((1, 2))
    return Row(
        given.name,
        solver,
        what,
        len(given.x0),
        timing.median,
        timing.p99,
        failed=int((~solved).sum()),
        wrong=int((~(errors <= CLOSE)).sum()),
        error=float(errors.max()),
        note=note,
    )


def _flat(gradient: Sequence[jax.Array]) -> np.ndarray:
    """In the order of the file: A, B, b, then the Hessian of (x, u), column by column. Theirs is that of xᵀH x with a
    symmetric H, entries and their mirror images moved together: G + Gᵀ of our ½ xᵀH x."""
    A, B, b, Q, R, S = (np.asarray(part) for part in gradient)
    H = np.block([[Q + Q.T, S.T], [S, R + R.T]])
    return np.concatenate([part.ravel(order="F") for part in (A, B, b, H)])
