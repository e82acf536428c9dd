"""Rows of a benchmark, data classes of numbers and words, as a CSV file, and as a table of a page or of a terminal."""

import csv
import dataclasses
import io
import pathlib
from collections.abc import Sequence
from typing import Any, TypeVar

from rich import box
from rich.table import Table

T = TypeVar("T")

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


def read_csv(path: pathlib.Path, kind: type[T]) -> list[T]:
    """The rows of `csv_text`; none where there is no file."""
    if not path.exists():
        return []
    types = {field.name: str(field.type) for field in dataclasses.fields(kind)}  # pyright: ignore[reportArgumentType]

    def parsed(name: str, text: str) -> Any:
        if "str" in types[name]:
            return text
        if text == "":
            return None
        return int(text) if "int" in types[name] else float(text)

    with path.open(newline="") as file:
        return [kind(**{name: parsed(name, text) for name, text in row.items()}) for row in csv.DictReader(file)]


def markdown(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table as a page has it.

    >>> print(markdown(("policy", "cost"), [("planner", "3.1")]), end="")
    | policy | cost |
    | --- | --- |
    | planner | 3.1 |
    """
    return "\n".join(f"| {' | '.join(line)} |" for line in [headings, ["---"] * len(headings), *lines]) + "\n"


def table(headings: Sequence[str], lines: Sequence[Sequence[str]], words: int = 2) -> Table:
    """The same for a terminal: so many columns of words, then numbers."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, heading in enumerate(headings):
        shown.add_column(heading, justify="left" if index < words else "right")
    for line in lines:
        shown.add_row(*line)
    return shown
