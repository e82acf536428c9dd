"""Rows of a benchmark, data classes of numbers and words, as a CSV file and as a table of a page."""

import csv
import dataclasses
import io
from collections.abc import Sequence
from typing import Any

NOTHING = "–"
"""In a table, a number that there is none of."""


def csv_text(rows: Sequence[Any]) -> str:
    """All rows, of one kind; numbers with five digits, and an empty cell is a number that there is none of.

    >>> @dataclasses.dataclass(frozen=True)
    ... class Row:
    ...     policy: str
    ...     cost: float | None
    >>> print(csv_text([Row("planner", 1 / 3), Row("actor", None)]), end="")
    policy,cost
    planner,0.33333
    actor,
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in dataclasses.fields(rows[0])], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        cells = dataclasses.asdict(row)
        writer.writerow({name: f"{x:.5g}" if isinstance(x, float) else x for name, x in cells.items()})
    return text.getvalue()


def markdown(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table as a page has it.

    >>> print(markdown(("policy", "cost"), [("planner", "3.1")]), end="")
    | policy | cost |
    | --- | --- |
    | planner | 3.1 |
    """
    return "\n".join(f"| {' | '.join(line)} |" for line in [headings, ["---"] * len(headings), *lines]) + "\n"
