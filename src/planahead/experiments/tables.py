"""What the commands print: tables of evaluations."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from planahead.experiments.bench import Cell
from planahead.experiments.evaluated_run import HEADINGS, EvaluatedRun, Row
from planahead.experiments.evaluation import GOAL
from planahead.experiments.progress import clock, percent

T = TypeVar("T")
BENCHMARK_HEADINGS = (
    "algorithm",
    "seed",
    f"steps\nto {percent(GOAL)}",
    f"time\nto {percent(GOAL)}",
    "time",
    "success\nbest",
    "\nlast",
    "single start\nbest / last",
    "return\nbest",
    "failed\nsolves",
    "violations\nstep / episode",
)


def evaluation_table(rows: Sequence[Row], title: str | None = None, first: str = "checkpoint") -> Table:
    """A line per row; `first` heads the column that tells the rows apart."""
    table = _table(title)
    for heading in (first, *HEADINGS[1:]):
        left = heading in (first, "starts", "success (95 %)", "mean return (95 %)")
        table.add_column(heading.replace(", ", "\n"), justify="left" if left else "right")
    for row in rows:
        rate, cells = row.evaluation.success_rate, row.cells()
        cells[3] = f"[{'green' if rate >= GOAL else 'yellow' if rate > 0 else 'red'}]{cells[3]}[/]"
        table.add_row(*cells)
    return table


def show_unreadable(console: Console, evaluated: EvaluatedRun) -> None:
    """Say which checkpoints were left out, and why."""
    for reason in evaluated.unreadable:
        console.print("left out:", Text(reason), style="red", highlight=False, soft_wrap=True)


def benchmark_table(cells: Sequence[Cell], title: str) -> Table:
    """A line per cell of a benchmark."""
    table = _table(title)
    for heading in BENCHMARK_HEADINGS:
        table.add_column(heading, justify="left" if heading == "algorithm" else "right")
    for cell in cells:
        table.add_row(
            cell.algorithm,
            str(cell.seed),
            _or_dash(cell.steps_to_goal, lambda steps: f"{steps:,}"),
            _or_dash(cell.seconds_to_goal, clock),
            clock(cell.seconds),
            f"{percent(cell.success_best)} at {cell.best_step // 1000}k",
            percent(cell.success_last),
            f"{_or_dash(cell.success_best_single, percent)} / {_or_dash(cell.success_last_single, percent)}",
            f"{cell.return_best:.2f}",
            percent(cell.failed_solves),
            f"{percent(cell.violations_per_step)} / {percent(cell.violations_per_episode)}",
        )
    return table


def _table(title: str | None) -> Table:
    return Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)


def _or_dash(value: T | None, show: Callable[[T], str]) -> str:
    return "–" if value is None else show(value)
