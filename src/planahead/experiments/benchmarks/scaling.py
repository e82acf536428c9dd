"""How the time of a batch of random problems grows with its size, its horizon and its states, beside one problem at a
time.

Problems have half as many controls as states and boxes on the controls of which some are active. All have matrices of
their own, so that nothing is shared.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import planahead as pa
from planahead.experiments.benchmarks import peers
from planahead.experiments.benchmarks.timing import Row, attempt, measure

BATCHES = (1, 2, 8, 32, 128, 512, 2048, 8192)
HORIZONS = (5, 10, 20, 40, 80, 160)
STATES = (2, 4, 8, 12, 16, 24, 32, 48)
MIDDLE = (128, 20, 8)
"""Batch, horizon and states while one of them varies."""
OURS = "planahead"
PEER = peers.PEERS[0]
PEER_PROBLEMS = 16
"""Of a batch, solved by the peer; its time is scaled to all of them."""


def run(repeats: int, with_peers: bool) -> list[Row]:
    """Rows along each of the three axes, in float64."""
    batch, horizon, states = MIDDLE
    cases = dict.fromkeys(
        itertools.chain(
            (("batch", b, horizon, states) for b in BATCHES),
            (("horizon", batch, n, states) for n in HORIZONS),
            (("states", batch, horizon, nx) for nx in STATES),
        )
    )
    with jax.enable_x64(True):
        rows = [row for case in cases for row in _rows(*case, repeats, with_peers)]
    for axis in ("batch", "horizon"):
        curve = along(rows, axis, OURS)
        last = max(i for i, row in enumerate(rows) if row.case == curve.cases[-1] and row.solver == OURS)
        note = f"{rows[last].note}; over the larger half {curve.growth(axis)}"
        rows[last] = dataclasses.replace(rows[last], note=note)
    return rows


class Curve(NamedTuple):
    """The rows of one solver along one axis."""

    cases: list[str]
    sizes: np.ndarray
    times: np.ndarray
    """ms, NaN where the solver did not run."""
    iterations: np.ndarray
    """Mean over the batch, NaN where the solver does not say."""

    def exponent(self, values: np.ndarray) -> float:
        """The slope of the values' logarithm over that of the sizes over the larger half, where constant costs no
        longer count: 1 is linear."""
        half = len(self.sizes) // 2
        return float(np.polyfit(np.log(self.sizes[half:]), np.log(values[half:]), 1)[0])

    def growth(self, axis: str) -> str:
        """In words."""
        total, each = self.exponent(self.times), self.exponent(self.times / self.iterations)
        return f"time grows as {axis}^{total:.2f}, an iteration as {axis}^{each:.2f}"


def along(rows: Sequence[Row], axis: str, solver: str) -> Curve:
    """What `solver` took where `axis` varies."""
    found = [row for row in rows if row.case.startswith(axis) and row.solver == solver]
    sizes = np.array([size(row.case) for row in found])
    times = np.array([np.nan if row.median is None else row.median for row in found])
    iterations = np.array([float(row.note.split()[0]) if "iterations" in row.note else np.nan for row in found])
    return Curve([row.case for row in found], sizes, times, iterations)


def size(case: str) -> int:
    """Of a case's own axis.

    >>> size("horizon 40 (batch 128, states 8)")
    40
    """
    return int(case.split()[1])


def _rows(axis: str, batch: int, horizon: int, states: int, repeats: int, with_peers: bool) -> list[Row]:
    controls = max(1, states // 2)
    sizes = {"batch": batch, "horizon": horizon, "states": states}
    others = ", ".join(f"{name} {number}" for name, number in sizes.items() if name != axis)
    case = f"{axis} {sizes[axis]} ({others})"
    random = np.random.default_rng(0)
    A = np.eye(states) + 0.2 / np.sqrt(states) * random.normal(size=(batch, states, states))
    B = random.normal(size=(batch, states, controls)) / np.sqrt(states)
    b = 0.1 * random.normal(size=(batch, states))
    x0 = random.normal(size=(batch, states))

    def solve(A, B, b, x0):
        def everywhere(matrix, stages=horizon):
            return jnp.broadcast_to(matrix, (stages, *matrix.shape))

        qp = pa.QP(
            A=everywhere(A),
            B=everywhere(B),
            c=everywhere(b),
            Q=everywhere(2 * jnp.eye(states), horizon + 1),
            R=everywhere(2 * jnp.eye(controls)),
            initial_state=x0,
            control_bounds=pa.StageBounds(-0.5, 0.5),
        )
        solution = pa.solve_qp(qp)
        return solution.controls, solution.status, solution.iterations

    call, data = jax.jit(jax.vmap(solve)), [jnp.asarray(part) for part in (A, B, b, x0)]
    timing = measure(lambda: jax.block_until_ready(call(*data)), repeats)
    ours, status, iterations = map(np.asarray, call(*data))
    failed = int((status != pa.Status.SOLVED).sum())
    note = f"{iterations.mean():.1f} iterations"
    rows = [Row(case, OURS, "solve", batch, timing.median, timing.p99, failed, note=note)]
    if not with_peers or axis != "states":
        return rows

    def run() -> Row:
        solvers = [PEER.prepare(A[i], B[i], b[i], 0.5, horizon) for i in range(PEER_PROBLEMS)]
        timing = measure(lambda: [solver(x0[i]) for i, solver in enumerate(solvers)], repeats)
        answers = [solver(x0[i]) for i, solver in enumerate(solvers)]
        scale = batch / PEER_PROBLEMS
        error = max(float(np.abs(answer.controls - ours[i]).max()) for i, answer in enumerate(answers))
        failed = sum(not answer.solved for answer in answers)
        note = f"{PEER_PROBLEMS} problems, scaled; error: distance from planahead"
        median, p99 = scale * timing.median, scale * timing.p99
        return Row(case, PEER.name, "solve", batch, median, p99, failed, None, error, note)

    return [*rows, attempt(case, PEER.name, "solve", batch, run)]
