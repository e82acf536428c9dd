"""A solver benchmark's rows as a table, a CSV file and JSON."""

import csv
import dataclasses
import io
import pathlib
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table

from planahead.experiments.benchmarks.timing import Row, fastest
from planahead.experiments.files import write_text

FIELDS = [field.name for field in dataclasses.fields(Row)]


def write_csv(path: pathlib.Path, rows: Sequence[Row]) -> None:
    """All rows; an empty cell is a number that there is none of."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(row) for row in rows)
    write_text(path, buffer.getvalue())


def summaries(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as JSON objects."""
    return [dataclasses.asdict(row) for row in rows]


def table(rows: Sequence[Row], title: str) -> Table:
    """Of what ran, times in ms; the ratio is to the fastest row of the same case that does the same rightly."""
    shown = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for heading in ("case", "solver", "what"):
        shown.add_column(heading)
    for heading in ("problems", "median, ms", "p99, ms", "ratio", "failed", "wrong", "error"):
        shown.add_column(heading, justify="right")
    shown.add_column("note", overflow="fold")
    for row in rows:
        if row.median is None:
            continue
        best = fastest([other for other in rows if (other.case, other.what) == (row.case, row.what)])
        ratio = "" if best is None or not best.median else f"{row.median / best.median:.1f}"
        shown.add_row(
            row.case,
            row.solver,
            row.what,
            str(row.problems),
            *("–" if value is None else f"{value:.3g}" for value in (row.median, row.p99)),
            ratio,
            *("" if value is None else f"[red]{value}[/]" if value else "0" for value in (row.failed, row.wrong)),
            "" if row.error is None else f"{row.error:.0e}",
            row.note,
        )
    return shown


def absent(rows: Sequence[Row]) -> list[str]:
    """A line for every reason why solvers did not run."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.median is None and row.solver not in reasons.setdefault(row.note, []):
            reasons[row.note].append(row.solver)
    return [f"{', '.join(solvers)}: {reason}" for reason, solvers in reasons.items()]
