"""Tables and pictures of a benchmark, from what is kept of its cells: nothing is trained, and no run is needed."""

import pathlib
from collections.abc import Sequence
from typing import Any

from planahead.experiments.bench.ablations import ablation_path, ablations_markdown, variants_of
from planahead.experiments.bench.definition import Ablation
from planahead.experiments.bench.figures import ablation_figure, benchmark_figure
from planahead.experiments.bench.flights import task_flights
from planahead.experiments.bench.outcomes import outcomes_markdown
from planahead.experiments.bench.results import Result, read_curve, read_results
from planahead.experiments.bench.summary import Summary, order, summarise, summary_csv, summary_markdown
from planahead.experiments.bench.wall_time import wall_time_markdown
from planahead.experiments.errors import UserError, known_names
from planahead.experiments.figures import save
from planahead.experiments.files import file_name, write_text
from planahead.experiments.run_directory import Rows


def picture_path(out: pathlib.Path, task: str) -> pathlib.Path:
    return out / f"learning-{file_name(task)}.png"


def curve_path(out: pathlib.Path, name: str) -> pathlib.Path:
    """Of the cell called `name`."""
    return out / "curves" / f"{name}.csv"


def finished_results(out: pathlib.Path) -> list[Result]:
    """The rows of the table in `out` that have a curve."""
    return [r for r in read_results(out / "results.csv").values() if curve_path(out, r.name).exists()]


def write_benchmark_report(
    out: pathlib.Path, tasks: Sequence[str] = (), ablations: Sequence[Ablation] = ()
) -> list[Summary]:
    """Write `summary.csv`, `summary.md`, `outcomes.md` where a task tells outcomes, `wall-time.md` where planners can
    be compared with none, and the pictures of the `tasks`, of all unless told; of `ablations`, `ablations.md` and their
    pictures instead.

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
    results = sorted(results, key=_place)
    tables = {"outcomes.md": outcomes_markdown(out, results), "wall-time.md": wall_time_markdown(results)}
    if ablations:
        tables["ablations.md"] = ablations_markdown(out, ablations, results, summaries)
    for name, table in tables.items():
        if table is not None:
            write_text(out / name, table)
    for ablation in ablations:
        variants = variants_of(ablation, results)
        if not tasks or any(result.task in tasks for cells in variants.values() for result in cells):
            curves = {label: [_curve(out, result) for result in cells] for label, cells in variants.items()}
            if curves:
                save(ablation_figure(ablation.name, curves), ablation_path(out, ablation))
    for task in () if ablations else tasks or known:
        _write_pictures(out, task, [result for result in results if result.task == task])
    return summaries


def _write_pictures(out: pathlib.Path, task: str, results: Sequence[Result]) -> None:
    curves: dict[tuple[str, str], list[Rows]] = {}
    for result in results:
        curves.setdefault((result.algorithm, result.interface), []).append(_curve(out, result))
    save(benchmark_figure(task, curves), picture_path(out, task))
    if (flights := task_flights(out, task, results)) is not None:
        save(flights, out / f"flight-{task}.png")


def _curve(out: pathlib.Path, result: Result) -> Rows:
    return read_curve(curve_path(out, result.name))


def _place(result: Result) -> tuple[Any, ...]:
    return order((result.task, result.algorithm, result.interface)), result.seed
