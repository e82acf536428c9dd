"""What the commands print: tables of evaluations."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from planahead.experiments.evaluated_run import HEADINGS, EvaluatedRun, Row, outcome_cells
from planahead.experiments.evaluation import GOAL


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


def outcome_table(rows: Sequence[Row]) -> Table | None:
    """What the successful episodes came to beside their return, a line per row; `None` for a task that says nothing."""
    names = list(rows[0].evaluation.outcomes)
    if not names:
        return None
    table = _table("episodes that succeeded: mean ± standard deviation")
    table.add_column("checkpoint")
    for name in ("starts", "episodes", *names):
        table.add_column(name, justify="right")
    for row in rows:
        cells, number = outcome_cells(row), str(int(row.evaluation.success.sum()))
        table.add_row(row.policy, row.starts, number, *cells.values())
    return table


def show_unreadable(console: Console, evaluated: EvaluatedRun) -> None:
    """Say which checkpoints were left out, and why."""
    for reason in evaluated.unreadable:
        console.print("left out:", Text(reason), style="red", highlight=False, soft_wrap=True)


def _table(title: str | None) -> Table:
    return Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
