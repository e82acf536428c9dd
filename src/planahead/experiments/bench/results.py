"""What is kept of a finished cell: a row of the benchmark's table, and its learning curve.

    results.csv        fields of `Result`; an empty cell where there is nothing to say
    curves/CELL.csv    columns of `CURVE`; `train_…` are means over the training steps since the row before

Several processes may write `results.csv`, each under the benchmark's lock; a curve has one writer, the holder of its
cell.
"""

import csv
import dataclasses
import io
import math
import pathlib
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from planahead.experiments.bench.definition import Cell, name_of
from planahead.experiments.errors import UserError
from planahead.experiments.evaluated_run import EvaluatedRun, Row
from planahead.experiments.evaluation import GOAL, Evaluation
from planahead.experiments.files import make_folder, write_text
from planahead.experiments.report import first_step_at
from planahead.experiments.run_directory import Rows, RunDirectory
from planahead.experiments.versions import commit, package_versions, processor

VALIDATED = (
    "success_rate",
    "mean_return",
    "return_low",
    "return_high",
    "violations_per_step",
    "violations_per_episode",
    "failed_solves",
)
PER_EPISODE = ("return", "episode_length", "success_rate", "violations_per_episode")
"""Metrics of a chunk that are means over the episodes that ended in it."""
PER_STEP = (
    "violations_per_step",
    "failed_solves",
    "failed_updates",
    "entropy",
    "temperature",
    "critic_loss",
    "actor_loss",
    "smallest_singular_value",
    "vanishing_gradients",
)
"""Metrics of a chunk that are means over its steps, or over as many updates in every chunk."""
CURVE = (
    "step",
    "seconds",
    *VALIDATED,
    "train_episodes",
    *(f"train_{name}" for name in (*PER_EPISODE, *PER_STEP)),
)
DIGITS = 6  # significant ones in a curve: more would only make it longer


@dataclasses.dataclass(frozen=True)
class Result:
    """A line of the benchmark's table. Times in s, returns to be maximised; `None` where there is nothing to say."""

    task: str
    algorithm: str
    interface: str
    seed: int
    steps: int
    """Environment steps of the training."""
    steps_to_goal: int | None
    """Environment steps at the first validation with a success of `GOAL`; `None` where none had it."""
    seconds_to_goal: float | None
    """Wall time to that validation, compilation included."""
    seconds: float
    """Wall time of the whole training."""
    best_step: int
    success_best: float
    """Of the checkpoint that validated best, in the evaluation at the end."""
    success_last: float
    success_best_single: float | None
    """From the single start; `None` where the task has none."""
    success_last_single: float | None
    return_best: float
    return_last: float
    return_best_single: float | None
    success_area: float
    """Mean over the training of the validated success: the area under its curve, by the length of the curve."""
    return_area: float
    """The same of the validated return."""
    failed_solves: float
    """Share of the solves in the best policy's evaluation."""
    violations_per_step: float
    """Of the best policy, in the evaluation."""
    violations_per_episode: float
    train_episodes: float
    """That ended while training, with exploration and warming up."""
    train_violations_per_step: float | None
    """Share of all training steps."""
    train_violations_per_episode: float | None
    """Share of all training episodes."""
    train_failed_solves: float | None
    episodes: int
    """In the evaluation."""
    settings: str
    """Of the learner, the task and the validation, where they differ from the defaults."""
    commit: str | None
    planahead: str
    jax: str
    processor: str

    @property
    def key(self) -> tuple[str, str, str, int]:
        return self.task, self.algorithm, self.interface, self.seed

    @property
    def name(self) -> str:
        """As `Cell.name`."""
        return name_of(self.key)

    @property
    def label(self) -> str:
        """Algorithm and interface, as tables say it."""
        return labelled(self.algorithm, self.interface)


def labelled(algorithm: str, interface: str) -> str:
    """One name for both; that of an algorithm alone is with global parameters."""
    return algorithm if interface == "global" else f"{algorithm} ({interface})"


def result_of_run(cell: Cell, evaluated: EvaluatedRun, curve: Rows) -> Result:
    """What a finished run says."""
    if evaluated.unreadable or evaluated.best_step is None:
        raise UserError(" ".join(evaluated.unreadable))
    starts = evaluated.headline().starts
    judged = _judged(
        evaluated.require_row("best", starts),
        evaluated.require_row("last", starts),
        evaluated.row("best", "single"),
        evaluated.row("last", "single"),
    )
    return _result_of_curve(cell, curve, evaluated.best_step, judged)


def result_of_tuning(cell: Cell, best: Sequence[Row], last: Sequence[Row], best_step: int, curve: Rows) -> Result:
    """What the evaluations of two planners say: the one that validated best, and the last one."""
    (own_best, single_best), (own_last, single_last) = _by_starts(best), _by_starts(last)
    return _result_of_curve(cell, curve, best_step, _judged(own_best, own_last, single_best, single_last))


def _result_of_curve(cell: Cell, curve: Rows, best_step: int, judged: Mapping[str, Any]) -> Result:
    goal = first_step_at(curve, GOAL)
    return Result(
        **_identity(cell),
        steps=int(curve[-1]["step"]),
        steps_to_goal=goal,
        seconds_to_goal=None if goal is None else next(row["seconds"] for row in curve if row["step"] >= goal),
        seconds=curve[-1]["seconds"],
        best_step=best_step,
        **judged,
        success_area=area(curve, "success_rate"),
        return_area=area(curve, "mean_return"),
        **_trained(curve),
        settings=told_settings(cell),
        **_provenance(),
    )


def _by_starts(rows: Sequence[Row]) -> tuple[Evaluation, Evaluation | None]:
    """The evaluation from many starts, and from the single one where there is one."""
    found = {row.starts: row.evaluation for row in rows}
    single = found.pop("single", None)
    (evaluation,) = found.values()
    return evaluation, single


def result_of_planner(cell: Cell, rows: Sequence[Row], seconds: float, curve: Rows) -> Result:
    """What the evaluation of the planner as it comes says: it is its own best and last checkpoint."""
    evaluation, single = _by_starts(rows)
    return Result(
        **_identity(cell),
        steps=0,
        steps_to_goal=0 if evaluation.success_rate >= GOAL else None,
        seconds_to_goal=0.0 if evaluation.success_rate >= GOAL else None,
        seconds=seconds,
        best_step=0,
        **_judged(evaluation, evaluation, single, single),
        success_area=area(curve, "success_rate"),
        return_area=area(curve, "mean_return"),
        **_trained(curve),
        settings=told_settings(cell),
        **_provenance(),
    )


def curve_row(
    step: float, seconds: float, evaluation: Evaluation, training: Mapping[str, float] | None = None
) -> dict[str, float]:
    """A validation, and what is known of the training before it."""
    returns = evaluation.return_interval
    validated = {
        "success_rate": evaluation.success_rate,
        "mean_return": evaluation.mean_return,
        "return_low": returns.low,
        "return_high": returns.high,
        "violations_per_step": evaluation.violations_per_step,
        "violations_per_episode": evaluation.violations_per_episode,
        "failed_solves": evaluation.failed_solves,
    }
    unknown = {name: math.nan for name in CURVE}
    return unknown | {"step": step, "seconds": seconds} | validated | dict(training or {})


def curve_of_run(run: RunDirectory) -> list[dict[str, float]]:
    """A row per validation: what it found, when, and how the training since the last one went; NaN for what the
    algorithm does not measure.
    """
    metrics, timing = run.read("metrics"), run.read("timing")
    rows: list[dict[str, float]] = []
    before = 0.0
    for validation in run.read("validations"):
        step = validation["step"]
        seconds = [row["seconds"] for row in timing if row["step"] <= step]
        row = {"step": step, "seconds": seconds[-1] if seconds else 0.0}
        row |= {name: validation.get(name, math.nan) for name in VALIDATED}
        row |= _training([chunk for chunk in metrics if before < chunk["step"] <= step])
        rows.append(row)
        before = step
    return rows


def _training(chunks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over chunks of equal length; those per episode are weighed by the episodes that ended in a chunk."""

    def column(name: str) -> np.ndarray:
        return np.array([chunk.get(name, math.nan) for chunk in chunks], dtype=np.float64)

    episodes = np.nan_to_num(column("episodes"))
    return {
        "train_episodes": float(episodes.sum()),
        **{f"train_{name}": _mean(column(name), episodes) for name in PER_EPISODE},
        **{f"train_{name}": _mean(column(name), np.ones(len(chunks))) for name in PER_STEP},
    }


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
    """The weighed mean of what is known (nothing is, of updates while warming up); NaN where nothing is."""
    known = np.isfinite(values) & (weights > 0)
    return float(np.average(values[known], weights=weights[known])) if known.any() else math.nan


def area(curve: Rows, name: str) -> float:
    """(1/T) ∫ y dt over the curve by the trapezoidal rule, T its length in steps.

    >>> area([{"step": 0.0, "y": 0.0}, {"step": 10.0, "y": 1.0}, {"step": 30.0, "y": 1.0}], "y")
    0.8333...
    """
    steps, values = (np.array([row[column] for row in curve], dtype=np.float64) for column in ("step", name))
    if len(curve) < 2:
        return float(values[-1])
    return float(np.trapezoid(values, steps) / (steps[-1] - steps[0]))


def told_settings(cell: Cell) -> str:
    """The conditions of a cell beyond its name, as one text: rows that differ in it are not to be compared."""
    c = cell.conditions
    words = [f"validate_every={c.validate_every}", f"validation_episodes={c.validation_episodes}"]
    if c.start_spread is not None:
        words.append(f"start_spread={c.start_spread}")
    words += [*c.learner_options(), *(f"training:{option}" for option in c.training_options)]
    return " ".join(words) if cell.entry.trained else ""


def _identity(cell: Cell) -> dict[str, Any]:
    return {"task": cell.task, "algorithm": str(cell.entry), "interface": cell.interface, "seed": cell.seed}


def _judged(
    best: Evaluation, last: Evaluation, best_single: Evaluation | None, last_single: Evaluation | None
) -> dict[str, Any]:
    return {
        "success_best": best.success_rate,
        "success_last": last.success_rate,
        "success_best_single": None if best_single is None else best_single.success_rate,
        "success_last_single": None if last_single is None else last_single.success_rate,
        "return_best": best.mean_return,
        "return_last": last.mean_return,
        "return_best_single": None if best_single is None else best_single.mean_return,
        "failed_solves": best.failed_solves,
        "violations_per_step": best.violations_per_step,
        "violations_per_episode": best.violations_per_episode,
        "episodes": best.episodes,
    }


def _trained(curve: Rows) -> dict[str, Any]:
    """Totals over the training; the curve's rows are as long as they took, the last may be shorter."""
    steps = np.diff([row["step"] for row in curve], prepend=0.0)
    episodes = np.nan_to_num(np.array([row["train_episodes"] for row in curve]))

    weights = {"violations_per_step": steps, "violations_per_episode": episodes, "failed_solves": steps}
    means = {name: _mean(np.array([row[f"train_{name}"] for row in curve]), over) for name, over in weights.items()}
    return {
        "train_episodes": float(episodes.sum()),
        **{f"train_{name}": None if math.isnan(value) else value for name, value in means.items()},
    }


def _provenance() -> dict[str, Any]:
    packages = package_versions()
    return {
        "commit": commit(),
        "planahead": packages["planahead"],
        "jax": packages["jax"],
        "processor": processor(),
    }


def write_curve(path: pathlib.Path, curve: Rows) -> None:
    """Write a curve in a few significant digits; empty for NaN."""
    make_folder(path.parent)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CURVE)
    for row in curve:
        writer.writerow(
            "" if math.isnan(row[name]) else f"{row[name]:.{15 if name == 'step' else DIGITS}g}" for name in CURVE
        )
    write_text(path, text.getvalue())


def read_curve(path: pathlib.Path) -> list[dict[str, float]]:
    """The curve at `path`; NaN where a cell is empty. Raises `UserError` where it is no curve."""
    try:
        with open(path, newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != CURVE:
                raise UserError(f"«{path}» has the columns {reader.fieldnames}; {CURVE} were expected. Move it away.")
            rows = [{name: math.nan if cell == "" else float(cell) for name, cell in row.items()} for row in reader]
    except (TypeError, ValueError) as error:
        raise UserError(f"«{path}» is damaged: {error}; numbers were expected. Move it away.") from error
    if not rows:
        raise UserError(f"«{path}» has no rows; at least one was expected. Move it away.")
    return rows


def read_results(path: pathlib.Path) -> dict[tuple[str, str, str, int], Result]:
    """Every row of the table at `path` by its key; none where there is no table."""
    if not path.exists():
        return {}
    hints = typing.get_type_hints(Result)
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != list(hints):
            raise UserError(
                f"«{path}» has the columns {reader.fieldnames}; {list(hints)} were expected. Move it away, or choose "
                "another folder with --out."
            )
        try:
            rows = [Result(**{name: _read(hints[name], cell) for name, cell in row.items()}) for row in reader]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"«{path}» is damaged: {error}. Move it away.") from error
    return {row.key: row for row in rows}


def _read(kind: Any, cell: str) -> Any:
    """A cell as a field's type."""
    kinds = typing.get_args(kind) or (kind,)
    if cell == "" and type(None) in kinds:
        return None
    return kinds[0](cell)


def add_result(path: pathlib.Path, result: Result) -> dict[tuple[str, str, str, int], Result]:
    """Put a row into the table at `path`, in place of an older one of the same cell; all other rows stay. Returns every
    row.
    """
    rows = read_results(path)
    rows[result.key] = result
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in dataclasses.fields(Result)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(rows[key]) for key in sorted(rows))
    write_text(path, text.getvalue())
    return rows
