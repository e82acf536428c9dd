"""Algorithms × seeds on one task, one after the other, every cell a run of its own that can be interrupted and gone on
with.

OUT/ALGORITHM-SEED/     an ordinary run, with its report
OUT/results.csv         a row per finished cell, added as soon as it is
OUT/learning.png        success over environment steps, all cells of the table
OUT/results.lock        while a process writes these two
"""

import csv
import dataclasses
import io
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
from rich.console import Console

from planahead.experiments import figures
from planahead.experiments.errors import UserError
from planahead.experiments.evaluated_run import EvaluatedRun, evaluate_run, write_evaluation
from planahead.experiments.evaluation import GOAL
from planahead.experiments.files import make_folder, write_text
from planahead.experiments.lock import locked
from planahead.experiments.report import first_step_at, write_report
from planahead.experiments.run_directory import RunDirectory
from planahead.experiments.settings import TrainSettings
from planahead.experiments.training import prepare, train

SECONDS_FOR_RESULTS = 120.0  # to wait for another process that writes table and picture, which takes it seconds


@dataclasses.dataclass(frozen=True)
class Cell:
    """A line of the benchmark's table. Times in s, returns to be maximised."""

    algorithm: str
    seed: int
    steps_to_goal: int | None
    """Environment steps at the first validation with a success of `GOAL`; `None` where none had it."""
    seconds_to_goal: float | None
    """Wall time to that validation, compilation included."""
    seconds: float
    """Wall time of the whole training."""
    best_step: int
    success_best: float
    success_last: float
    success_best_single: float | None
    """From the single start; `None` where the task has none."""
    success_last_single: float | None
    return_best: float
    return_last: float
    return_best_single: float | None
    failed_solves: float
    """Share of the solves in the best policy's evaluation."""
    violations_per_step: float
    violations_per_episode: float


def cell_of(evaluated: EvaluatedRun) -> Cell:
    """What a finished run says."""
    if evaluated.unreadable or evaluated.best_step is None:
        raise UserError(" ".join(evaluated.unreadable))
    validations, timing = evaluated.run.read("validations"), evaluated.run.read("timing")
    goal = first_step_at(validations, GOAL)
    at_goal = [row["seconds"] for row in timing if goal is not None and row["step"] >= goal]
    starts = evaluated.headline().starts
    best, last = evaluated.require_row("best", starts), evaluated.require_row("last", starts)
    best_single, last_single = evaluated.row("best", "single"), evaluated.row("last", "single")
    return Cell(
        algorithm=evaluated.settings.algorithm,
        seed=evaluated.settings.seed,
        steps_to_goal=goal,
        seconds_to_goal=at_goal[0] if at_goal else None,
        seconds=timing[-1]["seconds"],
        best_step=evaluated.best_step,
        success_best=best.success_rate,
        success_last=last.success_rate,
        success_best_single=None if best_single is None else best_single.success_rate,
        success_last_single=None if last_single is None else last_single.success_rate,
        return_best=best.mean_return,
        return_last=last.mean_return,
        return_best_single=None if best_single is None else best_single.mean_return,
        failed_solves=best.failed_solves,
        violations_per_step=best.violations_per_step,
        violations_per_episode=best.violations_per_episode,
    )


def bench(
    task: str,
    algorithms: Sequence[str],
    seeds: Sequence[int],
    steps: int,
    out: pathlib.Path,
    episodes: int,
    console: Console,
) -> list[Cell]:
    """Train and evaluate every cell; finished ones are only evaluated again.

    Several processes may share `out`, each with algorithms or seeds of its own.
    """
    make_folder(out)
    cells: list[Cell] = []
    for number, (algorithm, seed) in enumerate([(a, s) for s in seeds for a in algorithms], start=1):
        console.rule(f"{algorithm}, seed {seed} ({number} of {len(algorithms) * len(seeds)})", style="dim")
        path = out / f"{algorithm}-{seed}"
        settings = TrainSettings(algorithm, task, steps=steps, seed=seed)
        experiment, run = prepare(settings, path, resume=RunDirectory(path).config_path.exists())
        result = train(experiment, run, console)
        if not result.finished:
            console.print("stopped; the same command goes on where this one left off")
            raise KeyboardInterrupt
        evaluated = evaluate_run(run, episodes, experiment=experiment)
        if not _is_evaluated(run):  # what `planahead evaluate` wrote stays
            write_evaluation(evaluated)
        write_report(evaluated)
        cells.append(cell_of(evaluated))
        publish(out, cells[-1])
        jax.clear_caches()  # compiled programs of finished cells would only pile up
    return cells


def _is_evaluated(run: RunDirectory) -> bool:
    """Whether the run was evaluated after its last step."""
    kept, trained = run.evaluation_path, run.last_checkpoint
    return kept.exists() and kept.stat().st_mtime >= trained.stat().st_mtime


def publish(out: pathlib.Path, cell: Cell) -> None:
    """Put a finished cell into the table and the picture of the benchmark, beside what other processes put there."""
    with locked(out / "results.lock", f"the benchmark «{out}»", SECONDS_FOR_RESULTS):
        finished = add_row(out / "results.csv", cell)
        curves: dict[str, list[list[dict[str, float]]]] = {}
        for algorithm, seed in finished:
            rows = RunDirectory(out / f"{algorithm}-{seed}").read("validations")
            if rows:  # the folder of an older cell may have been moved away
                curves.setdefault(algorithm, []).append(rows)
        figures.save(figures.learning_curves(curves), out / "learning.png")


def add_row(path: pathlib.Path, cell: Cell) -> list[tuple[str, int]]:
    """Put the cell into the table at `path`, in place of an older line of the same algorithm and seed; all other lines
    stay. Returns algorithm and seed of every line.
    """
    names = [field.name for field in dataclasses.fields(Cell)]
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    if path.exists():
        with open(path, newline="") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != names:
                raise UserError(f"«{path}» has the columns {reader.fieldnames}; {names} were expected. Move it away.")
            try:
                rows = {(row["algorithm"], int(row["seed"])): row for row in reader}
            except (TypeError, ValueError) as error:
                raise UserError(f"«{path}» is damaged: {error}; a seed was expected. Move it away.") from error
    rows[cell.algorithm, cell.seed] = dataclasses.asdict(cell)
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows[key] for key in sorted(rows))
    write_text(path, text.getvalue())
    return sorted(rows)


def benchmark_task(name: str, others: Sequence[str] = ()) -> str:
    """The task of a benchmark, by the benchmark's name; `others` are benchmarks that train nothing."""
    if name not in BENCHMARKS:
        known = ", ".join(f"«{known}»" for known in (*BENCHMARKS, *others))
        raise UserError(f"there is no benchmark «{name}»; the known ones are {known}.")
    return BENCHMARKS[name]


BENCHMARKS: dict[str, str] = {"swing-up": "cartpole"}


def summaries(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(cell) for cell in cells]
