"""What actors are worth to a planner, as lines of two tables: means over the actors of `actor_in_loop.py`."""

from collections.abc import Sequence

import numpy as np

from planahead.experiments.benchmarks.actor_in_loop import LoopRow, StartRow
from planahead.experiments.benchmarks.rows import NOTHING

LOOP_HEADINGS = ("horizon", "policy", "success", "return", "left the track", "cost", "failed", "iterations", "ms")
START_HEADINGS = ("horizon", "ends in", "guess", "at the best", "median excess", "iterations", "failed")


def loop_cells(rows: Sequence[LoopRow]) -> list[tuple[str, ...]]:
    """Lines of the table, under `LOOP_HEADINGS`."""
    lines = []
    for key in dict.fromkeys((row.horizon, row.policy) for row in rows):
        some = [row for row in rows if (row.horizon, row.policy) == key]
        lines.append(
            (
                str(key[0]),
                key[1],
                _percent([row.success for row in some]),
                _mean([row.mean_return for row in some], "{:.2f}"),
                _percent([row.violated for row in some]),
                _mean([row.cost for row in some], "{:.0f}"),
                _percent([row.failed for row in some]),
                _mean([row.iterations for row in some], "{:.1f}"),
                _mean([row.milliseconds for row in some], "{:.2f}"),
            )
        )
    return lines


def start_cells(rows: Sequence[StartRow]) -> list[tuple[str, ...]]:
    """Lines of the table, under `START_HEADINGS`."""
    lines = []
    for key in dict.fromkeys((row.horizon, row.ends, row.guess) for row in rows):
        some = [row for row in rows if (row.horizon, row.ends, row.guess) == key]
        lines.append(
            (
                str(key[0]),
                {"own": "own terminal cost", "value": "actor's value"}[key[1]],
                key[2],
                _percent([row.best for row in some]),
                _percent([row.excess for row in some]),
                _mean([row.iterations for row in some], "{:.1f}"),
                _percent([row.failed for row in some]),
            )
        )
    return lines


def _percent(shares: Sequence[float]) -> str:
    return f"{100 * float(np.mean(shares)):.1f} %"


def _mean(values: Sequence[float | None], form: str) -> str:
    there = [value for value in values if value is not None and np.isfinite(value)]
    return form.format(float(np.mean(there))) if there else NOTHING
