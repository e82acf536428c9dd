"""One problem from a Python call to its control: what a control loop waits for. float64."""

import jax
import jax.numpy as jnp
import numpy as np

import planahead as pa
from planahead.experiments.benchmarks import peers
from planahead.experiments.benchmarks.nmpc import closed_loop
from planahead.experiments.benchmarks.nonlinear import CASES
from planahead.experiments.benchmarks.table1 import HORIZON, SETS, ProblemSet
from planahead.experiments.benchmarks.timing import Row, Timing, attempt, measure


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
    call = jax.jit(lambda x0: pa.solve_qp(given.qp(*data, x0)).controls[0])
    timing = _over_states(lambda x0: np.asarray(call(x0)), states, repeats)
    return Row(given.name, "planahead", "solve, single", 1, timing.median, timing.p99)


def _theirs(given: ProblemSet, peer: peers.Peer, repeats: int) -> Row:
    def run() -> Row:
        solve = peer.prepare(given.A, given.B, given.b, given.umax, HORIZON)
        timing = _over_states(solve, list(given.x0), repeats)
        return Row(given.name, peer.name, "solve, single", 1, timing.median, timing.p99)

    return attempt(given.name, peer.name, "solve, single", 1, run)


def _over_states(call, states: list, repeats: int) -> Timing:
    """Every call timed alone, over all states."""
    times = [time for x0 in states for time in measure(lambda x0=x0: call(x0), max(1, repeats // 10)).milliseconds]
    return Timing(tuple(times))
