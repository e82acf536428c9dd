"""Table and pictures of a benchmark, from its rows and curves alone: nothing is trained, and no run is needed."""

import pathlib
from collections.abc import Sequence
from typing import Any

from planahead.experiments.bench.figures import benchmark_figure
from planahead.experiments.bench.outcomes import outcomes_markdown
from planahead.experiments.bench.results import Result, read_curve, read_results
from planahead.experiments.bench.summary import Summary, order, summarise, summary_csv, summary_markdown
from planahead.experiments.errors import UserError, known_names
from planahead.experiments.figures import save
from planahead.experiments.files import write_text
from planahead.experiments.run_directory import Rows


def picture_path(out: pathlib.Path, task: str) -> pathlib.Path:
    return out / f"learning-{task}.png"


def curve_path(out: pathlib.Path, name: str) -> pathlib.Path:
    """Of the cell called `name`."""
    return out / "curves" / f"{name}.csv"


def finished_results(out: pathlib.Path) -> list[Result]:
    """The rows of the table in `out` that have a curve."""
    return [r for r in read_results(out / "results.csv").values() if curve_path(out, r.name).exists()]


def write_benchmark_report(out: pathlib.Path, tasks: Sequence[str] = ()) -> list[Summary]:
    """Write `summary.csv`, `summary.md`, `outcomes.md` where a task tells outcomes, and the pictures of the `tasks`, of
    all unless told.

    **Raises:** `UserError` where nothing is finished, or a table is damaged.
    """
    results = finished_results(out)
    if not results:
        raise UserError(f"«{out}» holds no finished cell, so there is nothing to report; run the benchmark first.")
    known = tuple(dict.fromkeys(result.task for result in results))
    absent = [task for task in tasks if task not in known]
    if absent:
        raise UserError(f"«{out}» has no finished cell of {known_names(absent)}; it has some of {known_names(known)}.")
    summaries = summarise(results)
    write_text(out / "summary.csv", summary_csv(summaries))
    write_text(out / "summary.md", summary_markdown(summaries))
    if (outcomes := outcomes_markdown(out, sorted(results, key=_place))) is not None:
        write_text(out / "outcomes.md", outcomes)
    for task in tasks or known:
        curves: dict[tuple[str, str], list[Rows]] = {}
        for result in sorted(results, key=_place):
            if result.task == task:
                curve = read_curve(curve_path(out, result.name))
                curves.setdefault((result.algorithm, result.interface), []).append(curve)
        save(benchmark_figure(task, curves), picture_path(out, task))
    return summaries


def _place(result: Result) -> tuple[Any, ...]:
    return order((result.task, result.algorithm, result.interface)), result.seed
