"""What a benchmark says: for every task, algorithm and interface the interquartile mean over seeds, with its interval.

Numbers of one cell are means over its evaluation's episodes or its training's steps; what is told here is how they vary
from one training to the next.
"""

import csv
import dataclasses
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from planahead.experiments.bench.definition import Entry
from planahead.experiments.bench.results import Result, labelled
from planahead.experiments.evaluation import GOAL
from planahead.experiments.progress import clock, percent
from planahead.experiments.statistics import Estimate, interquartile_estimate


@dataclasses.dataclass(frozen=True)
class Measure:
    """A number of a cell that is summarised over seeds."""

    name: str
    """A field of `Result`."""
    heading: str
    show: Callable[[float], str]
    interval: bool = True
    """Whether the interval is shown; `summary.csv` has it anyway."""
    brief: bool = False
    """Whether a terminal, which has no room for all, shows it."""


def _steps(steps: float) -> str:
    return "never" if math.isinf(steps) else f"{steps / 1000:.0f}k"


MEASURES = (
    Measure("steps_to_goal", f"steps to {percent(GOAL)}", _steps, brief=True),
    Measure("success_best", "success, best", percent, brief=True),
    Measure("success_last", "success, last", percent, brief=True),
    Measure("success_area", "success, area", percent),
    Measure("return_best", "return, best", lambda value: f"{value:.2f}", brief=True),
    Measure("return_last", "return, last", lambda value: f"{value:.2f}", interval=False),
    Measure("return_area", "return, area", lambda value: f"{value:.2f}", interval=False),
    Measure("train_violations_per_step", "training violations, step", percent, brief=True),
    Measure("train_violations_per_episode", "training violations, episode", percent, brief=True),
    Measure("violations_per_step", "violations after it, step", percent, interval=False),
    Measure("violations_per_episode", "violations after it, episode", percent, interval=False),
    Measure("train_failed_solves", "training failed solves", percent, interval=False),
    Measure("seconds", "wall time", clock, interval=False, brief=True),
)


@dataclasses.dataclass(frozen=True)
class Summary:
    """A line of the summary."""

    task: str
    algorithm: str
    interface: str
    seeds: tuple[int, ...]
    steps: tuple[int, int]
    """Of the shortest and the longest training."""
    reached: int
    """How many seeds ever validated as `steps_to_goal` asks."""
    estimates: Mapping[str, Estimate]
    """By the names of `MEASURES`; those that the cells do not have are missing."""

    def flat(self) -> dict[str, Any]:
        """As `summary.csv` and `--json` have it."""
        row: dict[str, Any] = {
            "task": self.task,
            "algorithm": self.algorithm,
            "interface": self.interface,
            "seeds": len(self.seeds),
            "steps_shortest": self.steps[0],
            "steps_longest": self.steps[1],
            "seeds_at_goal": self.reached,
        }
        for measure in MEASURES:
            found = self.estimates.get(measure.name)
            ends = ("", found.value if found else None), ("_low", found.low if found else None), (
                "_high", found.high if found else None
            )  # fmt: skip
            row |= {f"{measure.name}{end}": value for end, value in ends}
        return row

    def cells(self) -> list[str]:
        """The line in words, one for each of `headings()`."""
        shortest, longest = (f"{steps // 1000}k" for steps in self.steps)
        found = [self.estimates.get(measure.name) for measure in MEASURES]
        return [
            labelled(self.algorithm, self.interface),
            str(len(self.seeds)),
            shortest if shortest == longest else f"{shortest}–{longest}",
            *("–" if e is None else self._shown(m, e) for m, e in zip(MEASURES, found, strict=True)),
        ]

    def _shown(self, measure: Measure, estimate: Estimate) -> str:
        if (
            measure.name == "steps_to_goal" and math.isinf(estimate.value) and self.reached > 0
        ):  # by too few for a mean of the middle half
            return f"{self.reached} of {len(self.seeds)} seeds"
        value = measure.show(estimate.value)
        if not measure.interval or math.isnan(estimate.low) or estimate.low == estimate.high:
            return value
        low, high = (measure.show(end).removesuffix(" %") for end in (estimate.low, estimate.high))
        return f"{value} [{low}, {high}]"


def headings() -> list[str]:
    return ["algorithm", "seeds", "steps", *(measure.heading for measure in MEASURES)]


def summarise(results: Sequence[Result]) -> list[Summary]:
    """A summary per task, algorithm and interface, sorted as `order` has it."""
    groups: dict[tuple[str, str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.task, result.algorithm, result.interface), []).append(result)
    return [_summary(key, groups[key]) for key in sorted(groups, key=order)]


def order(key: tuple[str, str, str]) -> tuple[Any, ...]:
    """Tasks by name; the planner as it comes first, then algorithms by name, each before its variants."""
    task, algorithm, interface = key
    base, *options = algorithm.split("+")
    return task, Entry(base).trained, base, len(options), algorithm, interface


def _summary(key: tuple[str, str, str], results: Sequence[Result]) -> Summary:
    estimates: dict[str, Estimate] = {}
    for measure in MEASURES:
        values = [getattr(result, measure.name) for result in results]
        if measure.name == "steps_to_goal":
            values = [math.inf if value is None else value for value in values]
        if all(value is not None for value in values):
            estimates[measure.name] = interquartile_estimate(np.array(values, dtype=np.float64))
    steps = [result.steps for result in results]
    reached = sum(result.steps_to_goal is not None for result in results)
    return Summary(*key, tuple(sorted(r.seed for r in results)), (min(steps), max(steps)), reached, estimates)


def summary_table(summaries: Sequence[Summary], title: str) -> Table:
    """The lines of one task, of the measures that a terminal has room for; intervals in a line of their own."""
    brief = {measure.heading for measure in MEASURES if measure.brief} | {"algorithm", "seeds", "steps"}
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for heading in headings():
        if heading in brief:
            justify = "left" if heading == "algorithm" else "right"
            lines = heading.replace("training ", "training\n").replace("steps to", "steps\nto").replace(", ", "\n")
            table.add_column(lines, justify=justify, no_wrap=True)
    for summary in summaries:
        row = zip(headings(), summary.cells(), strict=True)
        table.add_row(*(cell.replace(" [", "\n[") for heading, cell in row if heading in brief))
    return table


def summary_csv(summaries: Sequence[Summary]) -> str:
    """Every line as CSV, infinite steps as `inf`."""
    text = io.StringIO()
    rows = [summary.flat() for summary in summaries]
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()} for row in rows
    )
    return text.getvalue()


def summary_markdown(summaries: Sequence[Summary]) -> str:
    """Every line as a table in Markdown, a table per task."""
    parts = [
        "Interquartile means over seeds, in brackets their 95 % bootstrap intervals, whose ends are the smallest and "
        "the largest number where there are four seeds or fewer. best: the checkpoint that "
        "validated best; last: that of the last step; area: mean over the training's validations. Training violations "
        "count all steps and episodes of the training, warming up and exploration included.",
    ]
    for task in dict.fromkeys(summary.task for summary in summaries):
        lines = [headings(), ["---"] * len(headings()), *(s.cells() for s in summaries if s.task == task)]
        parts += [f"## {task}", "\n".join(f"| {' | '.join(line)} |" for line in lines)]
    return "\n\n".join(parts) + "\n"
