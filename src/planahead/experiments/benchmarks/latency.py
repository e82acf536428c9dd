"""One problem from a Python call to its control: what a control loop waits for. float64."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import planahead as pa
from planahead.experiments.benchmarks import peers
from planahead.experiments.benchmarks.nmpc import closed_loop
from planahead.experiments.benchmarks.nonlinear import CASES
from planahead.experiments.benchmarks.table1 import CLOSE, HORIZON, SETS, ProblemSet
from planahead.experiments.benchmarks.timing import Row, attempt, measure


def run(repeats: int, with_peers: bool) -> list[Row]:
    """A linear-quadratic problem of each published set, and one real-time iteration of each nonlinear problem."""
    with jax.enable_x64(True):
        rows = [closed_loop(case, case.build()) for case in CASES]
        for name in SETS:
            given = ProblemSet.load(name)
            rows.append(_ours(given, repeats))
            if with_peers:
                rows += [_theirs(given, peer, repeats) for peer in peers.PEERS]
    return rows


def _ours(given: ProblemSet, repeats: int) -> Row:
    data, states = given.data(), [jnp.asarray(x0) for x0 in given.x0]
    call = jax.jit(lambda x0: (lambda answer: (answer.controls[0], answer.status))(pa.solve_qp(given.qp(*data, x0))))

    def solve(x0: jax.Array) -> tuple[np.ndarray, bool]:
        control, status = call(x0)
        return np.asarray(control), int(status) == pa.Status.SOLVED

    return _over_states(given, "planahead", solve, states, repeats)


def _theirs(given: ProblemSet, peer: peers.Peer, repeats: int) -> Row:
    def run() -> Row:
        solver = peer.prepare(given.A, given.B, given.b, given.umax, HORIZON)

        def solve(x0: np.ndarray) -> tuple[np.ndarray, bool]:
            answer = solver(x0)
            return answer.controls[0], answer.solved

        return _over_states(given, peer.name, solve, list(given.x0), repeats)

    return attempt(given.name, peer.name, "solve, single", 1, run)


def _over_states(
    given: ProblemSet,
    solver: str,
    solve: Callable[[Any], tuple[np.ndarray, bool]],
    states: Sequence[Any],
    repeats: int,
) -> Row:
    """Every call timed alone, over all states; failures and wrong answers are counted over all of them too."""
    times: list[float] = []
    errors: list[float] = []
    failed = 0
    for x0, controls in zip(states, given.u, strict=True):
        times += measure(lambda x0=x0: solve(x0), max(1, repeats // 10)).milliseconds
        control, solved = solve(x0)
        errors.append(float(np.abs(control - controls[0]).max()))
        failed += not solved
    wrong = sum(not error <= CLOSE for error in errors)
    median, p99 = float(np.median(times)), float(np.percentile(times, 99))
    return Row(given.name, solver, "solve, single", 1, median, p99, failed, wrong, max(errors))
