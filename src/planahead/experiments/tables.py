"""What the commands print: tables of evaluations."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from rich import box
from rich.table import Table

from planahead.experiments.bench import Cell
from planahead.experiments.evaluated_run import Row
from planahead.experiments.progress import clock, percent

T = TypeVar("T")

HEADINGS = (
    "",
    "starts",
    "episodes",
    "success",
    "95 %",
    "return",
    "95 %",
    "violations\nper step",
    "per\nepisode",
    "failed\nsolves",
)


def evaluation_table(rows: Sequence[Row], title: str | None = None, first: str = "checkpoint") -> Table:
    """A line per row; `first` heads the column that tells the rows apart."""
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for heading in (first, *HEADINGS[1:]):
        left = heading in (first, "starts")
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    for row in rows:
        rate = row.evaluation.success_rate
        cells = row.cells()
        cells[3] = f"[{'green' if rate >= 0.95 else 'yellow' if rate > 0 else 'red'}]{cells[3]}[/]"
        table.add_row(*cells)
    return table


def benchmark_table(cells: Sequence[Cell], title: str) -> Table:
    """A line per cell of a benchmark."""
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    headings = (
        "algorithm", "seed", "steps to\n95 %", "time to\n95 %", "time", "best\nat", "success\nbest", "success\nlast", "single start\nbest / last",
        "return\nbest", "return\nlast", "failed\nsolves", "violations\nper step", "per\nepisode",
    )  # fmt: skip
    for heading in headings:
        table.add_column(heading, justify="left" if heading == "algorithm" else "right", no_wrap=True)
    for cell in cells:
        table.add_row(
            cell.algorithm,
            str(cell.seed),
            _or_dash(cell.steps_to_goal, lambda steps: f"{steps:,}"),
            _or_dash(cell.seconds_to_goal, clock),
            clock(cell.seconds),
            f"{cell.best_step:,}",
            percent(cell.success_best),
            percent(cell.success_last),
            f"{_or_dash(cell.success_best_single, percent)} / {_or_dash(cell.success_last_single, percent)}",
            f"{cell.return_best:.2f}",
            f"{cell.return_last:.2f}",
            percent(cell.failed_solves),
            percent(cell.violations_per_step),
            percent(cell.violations_per_episode),
        )
    return table


def _or_dash(value: T | None, show: Callable[[T], str]) -> str:
    return "–" if value is None else show(value)
