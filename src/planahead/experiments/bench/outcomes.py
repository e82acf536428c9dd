"""Every episode of every cell's evaluation, and what those that succeeded came to: lap times, speeds.

episodes/CELL.csv    a row per episode of the policy that validated best: return, length, success, violations,
                     failed solves, and whatever `Environment.outcome` tells
outcomes.md          of tasks that tell something: means over the successful episodes of a cell, and how they vary
                     over seeds
"""

import csv
import dataclasses
import io
import math
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from planahead.experiments.bench.results import DIGITS, Result
from planahead.experiments.errors import UserError
from planahead.experiments.evaluation import Evaluation
from planahead.experiments.files import make_folder, write_text
from planahead.experiments.progress import percent
from planahead.experiments.statistics import Estimate, interquartile_estimate, wilson_interval

COMMON = ("return", "length", "success", "violations", "failed_solves")


def episodes_path(out: pathlib.Path, name: str) -> pathlib.Path:
    """Of the cell called `name`."""
    return out / "episodes" / f"{name}.csv"


def write_episodes(path: pathlib.Path, evaluation: Evaluation) -> None:
    """A row per episode; empty for NaN."""
    make_folder(path.parent)
    e = evaluation
    columns = [e.returns, e.lengths, e.success, e.violations, e.failed, *e.outcomes.values()]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*COMMON, *e.outcomes))
    for row in zip(*columns, strict=True):
        writer.writerow("" if math.isnan(value) else f"{float(value):.{DIGITS}g}" for value in row)
    write_text(path, text.getvalue())


def read_episodes(path: pathlib.Path) -> dict[str, np.ndarray]:
    """The columns of the table at `path`; NaN where a cell is empty. Raises `UserError` where it is damaged."""
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    try:
        names = reader.fieldnames or ()
        return {name: np.array([math.nan if row[name] == "" else float(row[name]) for row in rows]) for name in names}
    except (TypeError, ValueError) as error:
        raise UserError(f"«{path}» is damaged: {error}; numbers were expected. Move it away.") from error


class Summary(NamedTuple):
    """What the successful episodes of some cells came to."""

    means: Estimate
    """Over seeds."""
    spread: float
    """Mean over seeds of the standard deviation between episodes."""
    seeds: int
    """How many have successful episodes; the others tell nothing."""


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """What the cells of one task, algorithm and interface came to."""

    seeds: int
    episodes: int
    successes: int
    outcomes: dict[str, Summary]
    """By name."""

    @classmethod
    def of(cls, cells: Sequence[dict[str, np.ndarray]]) -> "Outcomes":
        names = [name for name in cells[0] if name not in COMMON]
        found: dict[str, Summary] = {}
        for name in names:
            kept = [cell[name][(cell["success"] > 0) & np.isfinite(cell[name])] for cell in cells]
            kept = [values for values in kept if len(values)]
            if kept:
                means = interquartile_estimate(np.array([values.mean() for values in kept]))
                found[name] = Summary(means, float(np.mean([values.std() for values in kept])), len(kept))
        success = np.concatenate([cell["success"] for cell in cells])
        return cls(len(cells), len(success), int(success.sum()), found)

    def cells(self, names: Sequence[str]) -> list[str]:
        """The line in words."""
        interval = wilson_interval(self.successes, self.episodes)
        success = f"{percent(self.successes / self.episodes)} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
        return [str(self.seeds), str(self.episodes), success, *(self.shown(name) for name in names)]

    def shown(self, name: str) -> str:
        """One outcome in words."""
        if name not in self.outcomes:
            return "–"
        mean, spread, seeds = self.outcomes[name]
        over_seeds = "" if math.isnan(mean.low) else f" [{mean.low:.3f}, {mean.high:.3f}]"
        some = "" if seeds == self.seeds else f" ({seeds} of {self.seeds} seeds)"
        return f"{mean.value:.3f}{over_seeds} ± {spread:.3f}{some}"


def outcomes_markdown(out: pathlib.Path, results: Sequence[Result]) -> str | None:
    """A table per task that tells something of its episodes; `None` where none does."""
    parts: list[str] = []
    for task in dict.fromkeys(result.task for result in results):
        groups: dict[str, list[dict[str, np.ndarray]]] = {}
        for result in results:
            path = episodes_path(out, result.name)
            if result.task == task and path.exists():
                groups.setdefault(result.label, []).append(read_episodes(path))
        names = [name for cells in groups.values() for name in cells[0] if name not in COMMON]
        names = list(dict.fromkeys(names))
        if not names:
            continue
        lines = [["algorithm", "seeds", "episodes", "success", *names]]
        lines += [["---"] * len(lines[0])]
        lines += [[label, *Outcomes.of(cells).cells(names)] for label, cells in groups.items()]
        parts += [f"## {task}", "\n".join(f"| {' | '.join(line)} |" for line in lines)]
    if not parts:
        return None
    head = (
        "Deterministic episodes of the policies that validated best. Success over all episodes with its 95 % Wilson "
        "interval; the rest are interquartile means over seeds of what successful episodes came to, in brackets their "
        "95 % bootstrap intervals, ± the standard deviation between episodes of one policy, and how many seeds have "
        "successful episodes, unless all."
    )
    return "\n\n".join([head, *parts]) + "\n"
