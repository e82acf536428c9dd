"""Cells, one after the other or several at once, each of which can be interrupted and gone on with.

A cell is finished where its row and its curve are in OUT. Any other is trained from its run's last checkpoint, or tuned
from its last generation, or from the start where there is none. While a process works at a cell it holds
OUT/runs/CELL.lock, so that several invocations may share OUT.
"""

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from rich.console import Console

from planahead.experiments.bench.definition import EXPERT, Ablation, Cell, World
from planahead.experiments.bench.flights import flight_path, write_flight
from planahead.experiments.bench.outcomes import episodes_path, write_episodes
from planahead.experiments.bench.report import curve_path, write_benchmark_report
from planahead.experiments.bench.results import (
    Result,
    add_result,
    curve_of_run,
    curve_row,
    read_curve,
    read_results,
    result_of_planner,
    result_of_run,
    result_of_tuning,
    told_settings,
    write_curve,
)
from planahead.experiments.bench.tuned_planner import tune_planner
from planahead.experiments.errors import UserError
from planahead.experiments.evaluated_run import Row, evaluate_policy, evaluate_run, write_evaluation
from planahead.experiments.evaluation import Evaluation, evaluate
from planahead.experiments.experiment import Stream, make_known_task, stream_key
from planahead.experiments.files import make_folder, write_json
from planahead.experiments.fixed_planner import FixedPlanner
from planahead.experiments.lock import InUse, locked
from planahead.experiments.report import write_report
from planahead.experiments.run_directory import Rows, RunDirectory
from planahead.experiments.training import prepare, train
from planahead.experiments.trajectory import Trajectory
from planahead.experiments.versions import commit
from planahead.learning import Expert
from planahead.policies import TunedPlanner

SECONDS_FOR_RESULTS = 120.0  # to wait for another process that writes table and pictures, which takes it seconds


class Finished(NamedTuple):
    """All that is kept of a cell."""

    result: Result
    curve: Rows
    evaluation: Evaluation
    """Of the policy that validated best."""
    flight: np.ndarray | None
    """One of its episodes, as `Trajectory` has it."""


def run_path(out: pathlib.Path, cell: Cell) -> pathlib.Path:
    return out / "runs" / cell.name


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of the cells that were asked for, by their names."""

    finished: tuple[str, ...]
    """Now or before."""
    taken: tuple[str, ...]
    """By other processes, which are at work at them."""
    failed: dict[str, str]
    """And why."""


def finished_result(out: pathlib.Path, cell: Cell) -> Result | None:
    """The row of a cell that is finished. Raises `UserError` where a cell of that name is another one."""
    result = read_results(out / "results.csv").get(cell.key)
    path = curve_path(out, cell.name)
    if result is None or not path.exists():
        return None
    if result.settings != told_settings(cell):
        raise UserError(
            f"«{cell.name}» in «{out / 'results.csv'}» was made with «{result.settings}», and «{told_settings(cell)}» "
            "is asked for. Remove its row and its curve, or choose another folder with --out."
        )
    steps = cell.conditions.steps if cell.entry.trained else 0
    if result.steps < steps or read_curve(path)[-1]["step"] < steps:
        return None
    if result.episodes != cell.conditions.episodes:
        raise UserError(
            f"«{cell.name}» in «{out / 'results.csv'}» was judged by {result.episodes} episodes, and "
            f"{cell.conditions.episodes} are asked for. Ask for as many, or choose another folder with --out."
        )
    return result


def run_cell(cell: Cell, out: pathlib.Path, console: Console) -> Result:
    """Train and evaluate a cell, and put it into the table; a finished one is only looked up.

    **Raises:** `InUse` where another process is at it, `KeyboardInterrupt` where the user stopped it.
    """
    make_folder(out / "runs")
    commit()  # kept for the row: the source may be changed while the cell runs
    with locked(out / "runs" / f"{cell.name}.lock", f"the cell «{cell.name}»"):
        result = finished_result(out, cell)
        if result is None:
            work = _tune_planner if cell.entry.tuned else _train_cell if cell.entry.trained else _judge_planner
            finished = work(cell, out, console)
            publish(out, finished, cell.ablations)
            result = finished.result
        return result


def _train_cell(cell: Cell, out: pathlib.Path, console: Console) -> Finished:
    path = run_path(out, cell)
    experiment, run = prepare(cell.settings, path, resume=RunDirectory(path).config_path.exists())
    if not train(experiment, run, console).finished:
        raise KeyboardInterrupt
    evaluated = evaluate_run(run, cell.conditions.episodes, experiment=experiment)
    write_evaluation(evaluated)
    write_report(evaluated)
    curve = curve_of_run(run)
    evaluation = evaluated.headline().evaluation
    return Finished(result_of_run(cell, evaluated, curve), curve, evaluation, evaluated.trajectory.flight)


def _judge_planner(cell: Cell, out: pathlib.Path, console: Console) -> Finished:
    del out
    console.print(f"evaluating the {cell.entry} on {cell.task} …", style="dim", highlight=False)
    world, start = World.parse(cell.task), time.perf_counter()
    task = make_known_task(world.task, "--tasks", **world.arguments)
    key = stream_key(0, Stream.EVALUATION)  # the starts of all evaluations, see `evaluate_run`
    policy = Expert(task) if cell.entry.algorithm == EXPERT else FixedPlanner(task)
    rows, trajectory = evaluate_policy(task, policy, str(cell.entry), key, cell.conditions.episodes)
    # Its curve is of validation episodes, as those beside it are.
    c, key = cell.conditions, stream_key(0, Stream.VALIDATION)
    curve = [curve_row(0.0, 0.0, evaluate(task, policy, key, c.validation_episodes, c.start_spread))]
    result = result_of_planner(cell, rows, time.perf_counter() - start, curve)
    return Finished(result, curve, rows[0].evaluation, trajectory.flight)


def _tune_planner(cell: Cell, out: pathlib.Path, console: Console) -> Finished:
    path = run_path(out, cell)
    tuned = tune_planner(cell, path / "tuning.json", console)
    make_folder(path)
    write_json(path / "parameters.json", tuned.parameters())
    key = stream_key(0, Stream.EVALUATION)

    def judged(planner: TunedPlanner) -> tuple[Sequence[Row], Trajectory]:
        return evaluate_policy(tuned.task, planner, str(cell.entry), key, cell.conditions.episodes)

    best, trajectory = judged(tuned.best)
    result = result_of_tuning(cell, best, judged(tuned.last)[0], tuned.best_step, tuned.curve)
    return Finished(result, tuned.curve, best[0].evaluation, trajectory.flight)


def run_cells(cells: Sequence[Cell], out: pathlib.Path, console: Console) -> Outcome:
    """Run the cells in this process, one after the other. One that fails does not keep the others from being run.

    **Raises:** `KeyboardInterrupt` where the user stopped it; the same call goes on where this one left off.
    """
    finished: list[str] = []
    taken: list[str] = []
    failed: dict[str, str] = {}
    for number, cell in enumerate(cells, start=1):
        if finished_result(out, cell) is not None:
            finished.append(cell.name)
            continue
        console.rule(f"{cell.name} ({number} of {len(cells)})", style="dim")
        try:
            run_cell(cell, out, console)
            finished.append(cell.name)
        except InUse:
            console.print("another process is at work at it", style="dim")
            taken.append(cell.name)
        except UserError as error:
            console.print(f"failed: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
            failed[cell.name] = str(error)
        except KeyboardInterrupt:
            console.print("stopped; the same command goes on where this one left off")
            raise
        jax.clear_caches()  # compiled programs of finished cells would only pile up
    return Outcome(tuple(finished), tuple(taken), failed)


def publish(out: pathlib.Path, finished: Finished, ablations: Sequence[Ablation] = ()) -> None:
    """Put a finished cell into table, curves, episodes and pictures, beside what other processes put there.

    The curve is written last: a cell that has one is finished.
    """
    result = finished.result
    with results_locked(out):
        add_result(out / "results.csv", result)
        write_episodes(episodes_path(out, result.name), finished.evaluation)
        if finished.flight is not None:
            write_flight(flight_path(out, result.name), finished.flight)
        write_curve(curve_path(out, result.name), finished.curve)
        write_benchmark_report(out, tasks=(result.task,), ablations=ablations)


def results_locked(out: pathlib.Path) -> contextlib.AbstractContextManager[None]:
    """Nobody else writes table and pictures meanwhile."""
    make_folder(out)
    return locked(out / "results.lock", f"the benchmark «{out}»", SECONDS_FOR_RESULTS)
