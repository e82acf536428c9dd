r"""What networks that guide a solver are worth: guesses, active sets, horizons and the decision to plan anew.

Three parts, each a table of its own: `guided_guesses`, `guided_qps`, `guided_loop`. A row is the mean over what it
says; times are medians of wall times on the machine at hand. Rows that are there already are not made again.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from planahead.experiments.benchmarks.guided_guesses import GUESS_HEADINGS, GuessRow, guess_cases, guess_cells, guesses
from planahead.experiments.benchmarks.guided_loop import LOOP_HEADINGS, LoopRow, loop_cells, loops
from planahead.experiments.benchmarks.guided_qps import LINEAR, SET_HEADINGS, ActiveSetRow, active_sets, set_cells
from planahead.experiments.benchmarks.rows import csv_text, read_csv
from planahead.experiments.files import write_text

PARTS = ("guesses", "active-sets", "loops")


@dataclasses.dataclass
class Found:
    """All rows so far."""

    guesses: list[GuessRow] = dataclasses.field(default_factory=list)
    active_sets: list[ActiveSetRow] = dataclasses.field(default_factory=list)
    loops: list[LoopRow] = dataclasses.field(default_factory=list)


def run(
    out: pathlib.Path,
    parts: Sequence[str],
    seed: int,
    rows: int,
    starts: int,
    worlds: int,
    episodes: int,
    report: Callable[[str], None] = lambda _: None,
) -> Found:
    """Every part, task by task. What is in the CSV files of `out` already is not run again."""
    found = Found()
    kinds: tuple[tuple[str, type[Any], list[Any]], ...] = (
        ("guesses", GuessRow, found.guesses),
        ("active-sets", ActiveSetRow, found.active_sets),
        ("loops", LoopRow, found.loops),
    )
    for part, kind, kept in kinds:
        path = out / f"{part}.csv"
        rows_there: list[Any] = read_csv(path, kind)
        kept.extend(rows_there)
        done = {row.case if isinstance(row, ActiveSetRow) else row.task for row in kept}
        work: dict[str, Callable[[], list[Any]]] = {}
        if part == "guesses":
            work = {
                name: lambda case=case: guesses(case, seed, rows, starts, report)
                for name, case in guess_cases().items()
            }
        elif part == "active-sets":
            work = {name: lambda name=name: active_sets(name, seed, rows, report) for name in LINEAR}
        else:
            work = {"obstacles": lambda: loops("obstacles", seed, worlds, episodes, report)}
        for name in [name for name in work if part in parts and name not in done]:
            kept.extend(work[name]())
            write_text(path, csv_text(kept))
    return found


def tables(found: Found) -> list[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
    """Headings and lines of every part that there is something of."""
    all_of = [
        (GUESS_HEADINGS, [guess_cells(row) for row in found.guesses]),
        (SET_HEADINGS, [set_cells(row) for row in found.active_sets]),
        (LOOP_HEADINGS, [loop_cells(row) for row in found.loops]),
    ]
    return [(headings, lines) for headings, lines in all_of if lines]
