"""The solvers that users would otherwise pick, each behind the same two steps: set up once, solve from an initial
state.

    minimise  Σ_k xᵀx + uᵀu + x_NᵀQ x_N    s.t.  x⁺ = A x + B u + b,  |u| <= u_max,  x_0 given

as one sparse quadratic program over (x_0, u_0, x_1, …, x_N), the order in which solvers find stages. Tolerances are
1e-8, the magnitude of planahead's, but for those that come with CasADi, which keep their own. Every call starts cold.
Installed by the extra `bench`. CasADi's plug-in for fatrop is left out: in 3.8.2 it
drops the objective and prints its matrices.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

TOLERANCE = 1e-8
ITERATIONS = 100_000
"""Of first-order methods, which need many."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """Controls [N, nu], and whether the solver says they solve the problem."""

    controls: np.ndarray
    solved: bool


Solve = Callable[[np.ndarray], Answer]


@dataclasses.dataclass(frozen=True)
class Peer:
    """A solver. `prepare(A, B, b, umax, horizon)` returns a function of the initial state; it raises where the solver
    is missing."""

    name: str
    prepare: Callable[[np.ndarray, np.ndarray, np.ndarray, float, int], Solve]


@dataclasses.dataclass(frozen=True)
class Sparse:
    """min ½ zᵀP z  s.t.  E z = e(x_0),  low <= z <= high, with the states free in the box."""

    P: Any
    E: Any
    offsets: np.ndarray
    low: np.ndarray
    high: np.ndarray
    horizon: int
    states: int
    controls: int

    def rhs(self, x0: np.ndarray) -> np.ndarray:
        e = self.offsets.copy()
        e[: self.states] = x0
        return e

    def answer(self, z: np.ndarray, solved: bool) -> Answer:
        stages = np.asarray(z)[: self.horizon * (self.states + self.controls)].reshape(self.horizon, -1)
        return Answer(stages[:, self.states :].copy(), solved)


def sparse(A: np.ndarray, B: np.ndarray, b: np.ndarray, umax: float, N: int) -> Sparse:
    """The problem with x before u in every stage."""
    import scipy.sparse as sp  # pyright: ignore[reportMissingImports]

    nx, nu = B.shape
    stage = np.concatenate([np.full(nx, 2.0), np.full(nu, 2.0)])
    P = sp.diags(np.concatenate([np.tile(stage, N), np.full(nx, 2.0)]), format="csc")
    rows = [sp.hstack([sp.eye(nx), sp.csc_matrix((nx, N * (nx + nu)))])]
    for k in range(N):
        before, after = k * (nx + nu), (N - k - 1) * (nx + nu)
        here = [-A, -B, np.eye(nx)]
        blank = [sp.csc_matrix((nx, before))] if before else []
        rows.append(sp.hstack([*blank, *map(sp.csc_matrix, here), sp.csc_matrix((nx, after))]))
    limit = np.concatenate([np.full(nx, np.inf), np.full(nu, umax)])
    high = np.concatenate([np.tile(limit, N), np.full(nx, np.inf)])
    E = sp.vstack(rows, format="csc")
    return Sparse(P, E, np.concatenate([np.zeros(nx), np.tile(b, N)]), -high, high, N, nx, nu)


def _boxed(qp: Sparse) -> Any:
    """The rows of the identity that pick what has bounds: the controls."""
    import scipy.sparse as sp  # pyright: ignore[reportMissingImports]

    bounded = np.flatnonzero(np.isfinite(qp.high))
    shape = bounded.size, qp.P.shape[0]
    return sp.csc_matrix((np.ones(bounded.size), (np.arange(bounded.size), bounded)), shape)


def piqp_with(backend: str):
    """PIQP with a sparse or a stage-structured factorisation."""

    def prepare(*problem: Any) -> Solve:
        import piqp  # pyright: ignore[reportMissingImports]

        qp = sparse(*problem)
        solver = piqp.SparseSolver()
        solver.settings.kkt_solver = getattr(piqp, backend)
        solver.settings.eps_abs = solver.settings.eps_rel = TOLERANCE
        n = qp.P.shape[0]
        solver.setup(qp.P, np.zeros(n), qp.E, qp.rhs(np.zeros(qp.states)), None, None, None, qp.low, qp.high)

        def solve(x0: np.ndarray) -> Answer:
            solver.update(b=qp.rhs(x0))
            status = solver.solve()
            return qp.answer(solver.result.x, status == piqp.PIQP_SOLVED)

        return solve

    return prepare


def osqp(*problem: Any) -> Solve:
    import osqp  # pyright: ignore[reportMissingImports]
    import scipy.sparse as sp  # pyright: ignore[reportMissingImports]

    qp = sparse(*problem)
    n = qp.P.shape[0]
    solver, bounded = osqp.OSQP(), np.isfinite(qp.high)
    e = qp.rhs(np.zeros(qp.states))
    solver.setup(
        P=qp.P,
        q=np.zeros(n),
        A=sp.vstack([qp.E, _boxed(qp)], format="csc"),
        l=np.concatenate([e, qp.low[bounded]]),
        u=np.concatenate([e, qp.high[bounded]]),
        eps_abs=TOLERANCE,
        eps_rel=TOLERANCE,
        max_iter=ITERATIONS,
        warm_starting=False,
        verbose=False,
    )

    def solve(x0: np.ndarray) -> Answer:
        e = qp.rhs(x0)
        solver.update(l=np.concatenate([e, qp.low[bounded]]), u=np.concatenate([e, qp.high[bounded]]))
        result = solver.solve()
        return qp.answer(result.x, result.info.status == "solved")

    return solve


def proxqp(*problem: Any) -> Solve:
    import proxsuite  # pyright: ignore[reportMissingImports]

    qp = sparse(*problem)
    n = qp.P.shape[0]
    bounded = np.isfinite(qp.high)
    solver = proxsuite.proxqp.sparse.QP(n, qp.E.shape[0], int(bounded.sum()))
    solver.settings.eps_abs, solver.settings.eps_rel = TOLERANCE, 0.0
    solver.settings.initial_guess = proxsuite.proxqp.NO_INITIAL_GUESS
    e = qp.rhs(np.zeros(qp.states))
    solver.init(qp.P, np.zeros(n), qp.E, e, _boxed(qp), qp.low[bounded], qp.high[bounded])

    def solve(x0: np.ndarray) -> Answer:
        solver.update(b=qp.rhs(x0))
        solver.solve()
        solved = solver.results.info.status == proxsuite.proxqp.PROXQP_SOLVED
        return qp.answer(solver.results.x, solved)

    return solve


def casadi_with(plugin: str, options: dict[str, Any]):
    """A solver that comes with CasADi. x_0 is fixed by its bounds, and rows read A x + B u - x⁺ = -b, so that stages
    are found."""

    def prepare(*problem: Any) -> Solve:
        import casadi as ca  # pyright: ignore[reportMissingImports]

        qp = sparse(*problem)
        P, E = ca.DM(qp.P), ca.DM(-qp.E[qp.states :])
        solver = ca.conic("solver", plugin, {"h": P.sparsity(), "a": E.sparsity()}, options)
        offsets = -qp.offsets[qp.states :]

        def solve(x0: np.ndarray) -> Answer:
            low, high = (np.concatenate([x0, bound[qp.states :]]) for bound in (qp.low, qp.high))
            result = solver(h=P, g=0, a=E, lba=offsets, uba=offsets, lbx=low, ubx=high)
            return qp.answer(np.asarray(result["x"]).ravel(), bool(solver.stats()["success"]))

        return solve

    return prepare


QUIET = {"print_time": False, "error_on_fail": False}
PEERS = (
    Peer("PIQP multistage", piqp_with("sparse_multistage")),
    Peer("PIQP sparse", piqp_with("sparse_ldlt")),
    Peer("OSQP", osqp),
    Peer("ProxQP sparse", proxqp),
    Peer("HPIPM (CasADi)", casadi_with("hpipm", {**QUIET, "inf": 1e8})),
    Peer("DAQP (CasADi)", casadi_with("daqp", QUIET)),
)
NOT_RUN = {
    "mpc.pytorch": "not run: mpc 0.0.6 needs NumPy 1, and jax 0.10 NumPy 2",
    "cvxpygen": "not run: it generates C around OSQP or ECOS for each problem, and OSQP is timed itself",
    "fatrop (CasADi)": "not run: the plug-in of CasADi 3.8 leaves out the objective",
}
"""Peers that a reader may miss, and why they are."""
