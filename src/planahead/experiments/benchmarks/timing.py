"""Wall times of calls, and rows of a benchmark's table.

A row's time is the median of repeats after a warm-up; machines that are shared make means useless. Times are in ms.
"""

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from planahead.experiments.errors import UserError

WARM_UP = 3
EXTRA = "pip install '.[bench]'"
"""What installs the peers, in a clone."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """Wall times of one call."""

    milliseconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return float(np.median(self.milliseconds))

    @property
    def p99(self) -> float:
        return float(np.percentile(self.milliseconds, 99))


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of a solver benchmark."""

    case: str
    """What was solved."""
    solver: str
    what: str
    """solve, adjoint, …"""
    problems: int
    median: float | None
    """ms for all problems; `None` where the solver did not run."""
    p99: float | None
    failed: int | None = None
    """Problems that the solver itself did not call solved."""
    wrong: int | None = None
    """Problems whose answer is further from the reference than the benchmark allows."""
    error: float | None = None
    """The largest distance from the reference."""
    note: str = ""


def measure(call: Callable[[], Any], repeats: int, warm_up: int = WARM_UP) -> Timing:
    """Time `call`, which waits for its own result, `repeats` times."""
    for _ in range(warm_up):
        call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - start))
    return Timing(tuple(times))


def measure_in_turn(calls: Sequence[Callable[[], Any]], repeats: int) -> list[Timing]:
    """Time every call `repeats` times, one after the other each time: what else a machine does then meets them all."""
    for _ in range(WARM_UP):
        for call in calls:
            call()
    rounds = [[measure(call, 1, warm_up=0).milliseconds[0] for call in calls] for _ in range(repeats)]
    return [Timing(times) for times in zip(*rounds, strict=True)]


def milliseconds(call: Callable[[], Any], repeats: int = 5, warm_up: int = WARM_UP) -> float:
    """Median wall time of `call`, whose answer is waited for."""
    import jax

    return measure(lambda: jax.block_until_ready(call()), repeats, warm_up).median


def restrict_threads(threads: int | None) -> int:
    """Give this process `threads` processors, before JAX makes its pool of that size; by default one, or all where the
    system cannot restrict a process. Returns how many it has.

    **Raises:** `UserError` where the machine has fewer, and where JAX has been imported already.
    """
    if not hasattr(os, "sched_setaffinity"):
        if threads is not None:
            raise UserError("--threads: this system cannot restrict a process to some processors; leave it out.")
        return os.cpu_count() or 1
    threads = 1 if threads is None else threads
    processors = sorted(os.sched_getaffinity(0))
    if threads > len(processors):
        raise UserError(f"--threads {threads}: this process may use {len(processors)} processors.")
    if "jax" in sys.modules and threads != len(processors):
        raise UserError(f"--threads {threads}: JAX has its threads already; start a new process.")
    os.sched_setaffinity(0, processors[-threads:])
    return threads


def attempt(case: str, solver: str, what: str, problems: int, run: Callable[[], Row]) -> Row:
    """The row that `run` makes of a peer, or one that says in its note why there is none.

    A peer may be missing or break down in any way of its own; the others are to be timed all the same, and the table
    shows what happened.
    """
    try:
        return run()
    except ModuleNotFoundError as error:
        return Row(case, solver, what, problems, None, None, note=f"{error.name or error} is not installed: {EXTRA}")
    except Exception as error:
        return Row(case, solver, what, problems, None, None, note=" ".join(str(error).split())[:200])


def fastest(rows: Sequence[Row]) -> Row | None:
    """The fastest row that solved everything, and rightly as far as is known."""
    good = [row for row in rows if row.median is not None and row.failed == 0 and not row.wrong]
    return min(good, key=lambda row: row.median or 0.0, default=None)
