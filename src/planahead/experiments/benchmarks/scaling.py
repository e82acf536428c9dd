"""How the time of a batch of random problems grows with its size, its horizon and its states, beside one problem at a
time.

Problems have half as many controls as states and boxes on the controls of which some are active. All have matrices of
their own, so that nothing is shared.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np

import planahead as pa
from planahead.experiments.benchmarks import peers
from planahead.experiments.benchmarks.timing import Row, attempt, measure

BATCHES = (1, 2, 8, 32, 128, 512, 2048, 8192)
HORIZONS = (5, 10, 20, 40, 80, 160)
STATES = (2, 4, 8, 12, 16, 24, 32)
MIDDLE = (128, 20, 8)
"""Batch, horizon and states while one of them varies."""
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
    notes = {axis: f"time grows as {axis}^{power:.2f} over the larger half" for axis, power in exponents(rows).items()}
    last = {axis: max(i for i, row in enumerate(rows) if row.case.startswith(axis)) for axis in notes}
    return [
        dataclasses.replace(row, note=notes[axis])
        if (axis := row.case.split()[0]) in notes and i == last[axis]
        else row
        for i, row in enumerate(rows)
    ]


def exponents(rows: list[Row]) -> dict[str, float]:
    """The slope of log time over log size along batch and horizon, over the larger half, where constant costs no longer
    count: 1 is linear."""
    found = {}
    for axis in ("batch", "horizon"):
        ours = [row for row in rows if row.case.startswith(axis) and row.median is not None]
        larger = ours[len(ours) // 2 :]
        sizes = [float(row.case.split()[1].rstrip(",")) for row in larger]
        times = [float(row.median or np.nan) for row in larger]
        found[axis] = float(np.polyfit(np.log(sizes), np.log(times), 1)[0])
    return found


def _rows(axis: str, batch: int, horizon: int, states: int, repeats: int, with_peers: bool) -> list[Row]:
    controls = max(1, states // 2)
    size = {"batch": batch, "horizon": horizon, "states": states}[axis]
    case = f"{axis} {size}, of batch {batch}, horizon {horizon}, states {states}"
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
        return solution.controls, solution.status

    call, data = jax.jit(jax.vmap(solve)), [jnp.asarray(part) for part in (A, B, b, x0)]
    timing = measure(lambda: jax.block_until_ready(call(*data)), repeats)
    ours, status = map(np.asarray, call(*data))
    failed = int((status != pa.Status.SOLVED).sum())
    rows = [Row(case, "planahead", "solve", batch, timing.median, timing.p99, failed)]
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
