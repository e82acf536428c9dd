"""Algorithms × seeds on one task, one after the other, every cell a run of its own that can be interrupted and gone on
with.

OUT/ALGORITHM-SEED/     an ordinary run, with its report
OUT/results.csv         a row per finished cell, added as soon as it is
OUT/learning.png        success over environment steps, all cells
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
from planahead.experiments.evaluated_run import EvaluatedRun, evaluate_run
from planahead.experiments.files import make_folder, write_text
from planahead.experiments.report import first_step_at, write_report
from planahead.experiments.run_directory import RunDirectory
from planahead.experiments.settings import TrainSettings
from planahead.experiments.training import prepare, train

GOAL = 0.95  # validated success that counts as having learned the task


@dataclasses.dataclass(frozen=True)
class Cell:
    """A line of the benchmark's table. Times in s, returns to be maximised."""

    algorithm: str
    seed: int
    steps_to_goal: int | None
    """Environment steps at the first validation with 95 % success; `None` where none had it."""
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
    """Train and evaluate every cell; finished ones are only evaluated again."""
    make_folder(out)
    cells: list[Cell] = []
    curves: dict[str, list[list[dict[str, float]]]] = {}
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
        write_report(evaluated)
        cells.append(cell_of(evaluated))
        curves.setdefault(algorithm, []).append(run.read("validations"))
        add_rows(out / "results.csv", cells)
        figures.save(figures.learning_curves(curves), out / "learning.png")
        jax.clear_caches()  # compiled programs of finished cells would only pile up
    return cells


def add_rows(path: pathlib.Path, cells: Sequence[Cell]) -> None:
    """Put the cells into the table at `path`, in place of older lines of the same algorithm and seed; all other lines
    stay.
    """
    names = [field.name for field in dataclasses.fields(Cell)]
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    if path.exists():
        with open(path, newline="") as file:
            reader = csv.DictReader(file)
            if reader.fieldnames != names:
                raise UserError(f"«{path}» has the columns {reader.fieldnames}; {names} were expected. Move it away.")
            rows = {(row["algorithm"], row["seed"]): row for row in reader}
    rows.update({(cell.algorithm, str(cell.seed)): dataclasses.asdict(cell) for cell in cells})
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows[key] for key in sorted(rows, key=lambda key: (key[0], int(key[1]))))
    write_text(path, text.getvalue())


def benchmark_task(name: str) -> str:
    """The task of a benchmark, by the benchmark's name."""
    if name not in BENCHMARKS:
        raise UserError(
            f"there is no benchmark «{name}»; the known ones are {', '.join(f'«{b}»' for b in BENCHMARKS)}."
        )
    return BENCHMARKS[name]


BENCHMARKS: dict[str, str] = {"swing-up": "cartpole"}


def summaries(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(cell) for cell in cells]
